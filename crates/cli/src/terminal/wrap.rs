//! Text that is broken at the terminal's width.

use super::{Line, PLAIN};

/// Words broken at the terminal's width, so that none is lost.
pub(crate) fn wrapped(mark: Line, text: &str, columns: usize) -> Vec<Line> {
    let indent = mark.width();
    let width = columns.saturating_sub(indent).max(20);
    let mut rows: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let row = rows.last().map_or(0, |row| row.chars().count());
        if row > 0 && row + 1 + word.chars().count() > width {
            rows.push(String::new());
        }
        if let Some(row) = rows.last_mut() {
            if !row.is_empty() {
                row.push(' ');
            }
            row.push_str(word);
        }
    }
    let first = std::iter::once(mark);
    let marks = first.chain(std::iter::repeat(Line::from(" ".repeat(indent))));
    let rows = rows.into_iter().zip(marks);
    rows.map(|(row, mark)| mark.and(PLAIN, row)).collect()
}
