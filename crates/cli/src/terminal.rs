//! Text with styles, tables of it, and a terminal to draw it on.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};

mod live;
pub(crate) mod svg;
mod table;
mod wrap;

pub(crate) use live::LiveArea;
pub(crate) use table::Table;
pub(crate) use wrap::wrapped;

/// Secondary text.
pub(crate) const DIM: Style = Style::new().dimmed();
/// Headings and names.
pub(crate) const BOLD: Style = Style::new().bold();
/// As it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Needs attention.
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();
/// Broken.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
/// At work.
pub(crate) const BUSY: Style = AnsiColor::Cyan.on_default();
/// No style.
pub(crate) const PLAIN: Style = Style::new();

/// One line of styled text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Line {
    spans: Vec<(Style, String)>,
}

impl Line {
    /// A line of one style.
    pub(crate) fn of(style: Style, text: impl Into<String>) -> Self {
        Self::default().and(style, text)
    }

    /// The line with more text at its end.
    pub(crate) fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        self.spans.push((style, text.into()));
        self
    }

    /// The line with another line at its end.
    pub(crate) fn join(mut self, other: Self) -> Self {
        self.spans.extend(other.spans);
        self
    }

    /// The number of columns it takes. What is shown has one column per character.
    pub(crate) fn width(&self) -> usize {
        self.spans
            .iter()
            .map(|(_, text)| text.chars().count())
            .sum()
    }

    /// The line cut to `width` columns, with an ellipsis where something is missing.
    pub(crate) fn clipped(self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut left = width.saturating_sub(1);
        let mut clipped = Self::default();
        for (style, text) in self.spans {
            let kept: String = text.chars().take(left).collect();
            left -= kept.chars().count();
            clipped = clipped.and(style, kept);
        }
        clipped.and(DIM, if width == 0 { "" } else { "…" })
    }

    /// The text alone.
    pub(crate) fn text(&self) -> String {
        self.spans.iter().map(|(_, text)| text.as_str()).collect()
    }

    /// The text with the escape sequences of its styles.
    pub(crate) fn ansi(&self) -> String {
        self.spans
            .iter()
            .map(|(style, text)| {
                if *style == PLAIN || text.is_empty() {
                    text.clone()
                } else {
                    format!("{style}{text}{style:#}")
                }
            })
            .collect()
    }

    /// The line without the spaces at its end.
    fn trimmed(mut self) -> Self {
        while let Some((_, text)) = self.spans.last_mut() {
            text.truncate(text.trim_end().len());
            if !text.is_empty() {
                break;
            }
            self.spans.pop();
        }
        self
    }

    fn padded(self, width: usize) -> Self {
        let gap = width.saturating_sub(self.width());
        self.and(PLAIN, " ".repeat(gap))
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::of(PLAIN, text)
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Self::of(PLAIN, text)
    }
}

/// Columns and rows of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Characters in a line.
    pub(crate) columns: usize,
    /// Lines on the screen.
    pub(crate) rows: usize,
}

/// Where output goes and what may be used there.
#[derive(Debug)]
pub(crate) struct Terminal {
    colours: bool,
    interactive: bool,
}

impl Terminal {
    /// Standard output: interactive if it is a terminal, coloured if it is one and neither
    /// `NO_COLOR` nor a terminal without colours speaks against it.
    pub(crate) fn stdout() -> Self {
        let interactive = io::stdout().is_terminal();
        Self {
            interactive,
            colours: interactive
                && !anstyle_query::no_color()
                && anstyle_query::term_supports_color(),
        }
    }

    /// Whether lines can be drawn over.
    pub(crate) fn is_interactive(&self) -> bool {
        self.interactive && anstyle_query::term_supports_ansi_color()
    }

    /// The present size; `None` where there is no terminal.
    pub(crate) fn size(&self) -> Option<Size> {
        if !self.interactive {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some(Size {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        })
    }

    /// A line as it is written here.
    pub(crate) fn render(&self, line: &Line) -> String {
        if self.colours {
            line.ansi()
        } else {
            line.text().trim_end().to_owned()
        }
    }

    /// Writes lines, clipped to the terminal's width where there is one.
    pub(crate) fn print(&self, lines: impl IntoIterator<Item = Line>) -> io::Result<()> {
        let columns = self.size().map_or(usize::MAX, |size| size.columns);
        let mut text = String::new();
        for line in lines {
            text.push_str(&self.render(&line.clipped(columns)));
            text.push('\n');
        }
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_wide_is_cut_and_says_so() {
        let line = Line::of(BOLD, "NVIDIA ").and(GOOD, "H100");
        assert_eq!(line.clone().clipped(11).text(), "NVIDIA H100");
        assert_eq!(line.clone().clipped(10).text(), "NVIDIA H1…");
        assert_eq!(line.clone().clipped(3).text(), "NV…");
        assert_eq!(line.clone().clipped(0).text(), "");
        assert!(line.clipped(5).width() <= 5);
    }

    #[test]
    fn styles_are_closed_where_they_end_and_plain_text_has_none() {
        let line = Line::of(GOOD, "ok").and(PLAIN, " then");
        assert_eq!(line.ansi(), "\u{1b}[32mok\u{1b}[0m then");
    }
}
