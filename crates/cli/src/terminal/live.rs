//! An area at the end of the terminal that is drawn over in place.
//!
//! No alternate screen: what was drawn last stays there when the program has ended, and the
//! scroll-back is untouched.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use super::{Line, Size, Terminal};

const TO_LINE_START: &str = "\r";
const CLEAR_TO_LINE_END: &str = "\x1b[K";
const CLEAR_TO_SCREEN_END: &str = "\x1b[J";
const HIDE_CURSOR: &str = "\x1b[?25l";
const SHOW_CURSOR: &str = "\x1b[?25h";
/// Asks the terminal to show what follows all at once; one that cannot ignores it.
const BEGIN_FRAME: &str = "\x1b[?2026h";
const END_FRAME: &str = "\x1b[?2026l";

/// Where the terminal does not tell.
const ASSUMED_SIZE: Size = Size {
    columns: 80,
    rows: 24,
};

/// The area. The cursor is shown again when it is dropped.
#[derive(Debug)]
pub(crate) struct LiveArea {
    /// The widths of the lines that are on the screen now.
    drawn: Vec<usize>,
    cursor_hidden: bool,
}

impl LiveArea {
    /// An area that begins where the cursor is.
    pub(crate) fn new() -> Self {
        Self {
            drawn: Vec::new(),
            cursor_hidden: false,
        }
    }

    /// Draws these lines over the last ones, as many as fit on the screen.
    pub(crate) fn draw(&mut self, terminal: &Terminal, mut lines: Vec<Line>) -> io::Result<()> {
        let size = terminal.size().unwrap_or(ASSUMED_SIZE);
        lines.truncate(size.rows.saturating_sub(1));
        self.write(terminal, size, lines)
    }

    /// Draws the last lines over the others: all of them, scrolling where the screen is too small.
    pub(crate) fn finish(mut self, terminal: &Terminal, lines: Vec<Line>) -> io::Result<()> {
        self.write(terminal, terminal.size().unwrap_or(ASSUMED_SIZE), lines)
    }

    fn write(&mut self, terminal: &Terminal, size: Size, lines: Vec<Line>) -> io::Result<()> {
        let clipped = lines.into_iter().map(|line| line.clipped(size.columns));
        let lines: Vec<_> = clipped.collect();
        let frame = self.frame(terminal, size, &lines);
        self.drawn = lines.iter().map(Line::width).collect();
        self.cursor_hidden = true;
        let mut out = io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }

    fn frame(&self, terminal: &Terminal, size: Size, lines: &[Line]) -> String {
        let mut frame = format!("{BEGIN_FRAME}{HIDE_CURSOR}{}", self.back_to_start(size));
        for line in lines {
            frame.push_str(&terminal.render(line));
            frame.push_str(CLEAR_TO_LINE_END);
            frame.push('\n');
        }
        frame.push_str(CLEAR_TO_SCREEN_END);
        frame.push_str(END_FRAME);
        frame
    }

    /// The way back to the area's first line. A terminal that was made narrower since has
    /// broken the lines that no longer fit into several.
    fn back_to_start(&self, size: Size) -> String {
        let rows_of = |width: &usize| width.div_ceil(size.columns).max(1);
        let up = self
            .drawn
            .iter()
            .map(rows_of)
            .sum::<usize>()
            .min(size.rows.saturating_sub(1));
        let mut way = TO_LINE_START.to_owned();
        if up > 0 {
            let _infallible = write!(way, "\x1b[{up}A");
        }
        way
    }
}

impl Drop for LiveArea {
    fn drop(&mut self) {
        if !self.cursor_hidden {
            return;
        }
        let mut out = io::stdout().lock();
        let _nobody_left_to_tell = out
            .write_all(SHOW_CURSOR.as_bytes())
            .and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> (Terminal, Size) {
        (
            Terminal {
                colours: false,
                interactive: true,
            },
            Size {
                columns: 20,
                rows: 10,
            },
        )
    }

    fn screen_with(drawn: Vec<usize>) -> LiveArea {
        LiveArea {
            drawn,
            cursor_hidden: false,
        }
    }

    #[test]
    fn a_second_frame_starts_where_the_first_did() {
        let (terminal, size) = screen();
        let area = screen_with(vec![20, 3]);
        let frame = area.frame(&terminal, size, &[Line::from("one")]);
        assert!(frame.contains("\r\x1b[2Aone\x1b[K\n\x1b[J"), "{frame:?}");
    }

    #[test]
    fn lines_that_a_narrower_terminal_broke_are_drawn_over_too() {
        let (_, size) = screen();
        let area = screen_with(vec![45, 3]);
        assert_eq!(area.back_to_start(size), "\r\x1b[4A");
    }
}
