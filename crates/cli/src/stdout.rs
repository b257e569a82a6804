//! What commands print.

use std::io::Write as _;

use anyhow::{Context as _, Result};

/// Writes a text to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

/// Writes a document for programs, over several lines.
pub(crate) fn print_json(document: &impl serde::Serialize) -> Result<()> {
    print(&(serde_json::to_string_pretty(document)? + "\n"))
}
