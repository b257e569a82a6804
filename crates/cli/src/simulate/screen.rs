//! Where a run is shown: drawn in place, line by line, or as one document.

use std::io::{self, Write as _};

use crate::terminal::{LiveArea, Terminal};

use super::args::Output;
use super::picture::Picture;
use super::render::{self, Detail};

/// The place a run is shown in.
#[derive(Debug)]
pub(crate) enum Screen {
    /// Drawn over again and again.
    Live(Terminal, LiveArea),
    /// A line per entry of the timeline; so many are there already.
    Plain(Terminal, usize),
    /// Nothing until the end.
    Json,
}

impl Screen {
    /// What was asked for, or what suits standard output.
    pub(crate) fn new(asked: Option<Output>) -> Self {
        let terminal = Terminal::stdout();
        let suits = if terminal.is_interactive() {
            Output::Live
        } else {
            Output::Plain
        };
        match asked.unwrap_or(suits) {
            Output::Live => Self::Live(terminal, LiveArea::new()),
            Output::Plain => Self::Plain(terminal, 0),
            Output::Json => Self::Json,
        }
    }

    /// Shows how things are now.
    pub(crate) fn update(&mut self, picture: &Picture) -> io::Result<()> {
        match self {
            Self::Live(terminal, area) => {
                let rows = terminal.size().map_or(usize::MAX, |size| size.rows);
                area.draw(terminal, render::frame(picture, Detail::Rows(rows)))
            }
            Self::Plain(terminal, printed) => {
                let new = picture
                    .timeline
                    .iter()
                    .skip(*printed)
                    .map(render::timeline_line);
                terminal.print(new)?;
                *printed = picture.timeline.len();
                Ok(())
            }
            Self::Json => Ok(()),
        }
    }

    /// Shows the end, which stays.
    pub(crate) fn finish(mut self, picture: &Picture) -> io::Result<()> {
        if let Self::Plain(..) = self {
            self.update(picture)?;
        }
        match self {
            Self::Live(terminal, area) => {
                area.finish(&terminal, render::frame(picture, Detail::Terminal))
            }
            Self::Plain(terminal, _) => {
                terminal.print([crate::terminal::Line::default()])?;
                terminal.print(render::state(picture, Detail::Full))?;
                terminal.print(render::ending(picture))
            }
            Self::Json => {
                let mut out = io::stdout().lock();
                let mut picture = picture.clone();
                picture.timeline.sort_by_key(|entry| entry.at);
                serde_json::to_writer_pretty(&mut out, &picture)?;
                out.write_all(b"\n")?;
                out.flush()?;
                // Whoever looks at the exit code alone learns the reason too.
                if let Some(outcome) = picture.outcome.as_ref().filter(|it| it.exit_code != 0) {
                    eprintln!("mizzen simulate: {}", outcome.summary);
                }
                Ok(())
            }
        }
    }
}
