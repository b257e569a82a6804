//! Columns that are as wide as what is in them.

use super::{DIM, Line, PLAIN};

/// The space between two columns.
const GAP: usize = 2;

/// Rows under headings.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Line>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(headings: &[&'static str]) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; what it has more than there are headings is shown without a heading.
    pub(crate) fn row(&mut self, cells: Vec<Line>) {
        self.rows.push(cells);
    }

    /// The lines, each indented by `indent`; columns in which every cell is empty are left out.
    pub(crate) fn lines(self, indent: usize) -> Vec<Line> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let mut rows = vec![Vec::new(); self.rows.len() + 1];
        for column in 0..columns {
            let cells = || {
                self.rows
                    .iter()
                    .map(|row| row.get(column).cloned().unwrap_or_default())
            };
            let widest = cells().map(|cell| cell.width()).max().unwrap_or(0);
            if widest == 0 {
                continue;
            }
            let heading = self.headings.get(column).copied().unwrap_or_default();
            let width = widest.max(heading.chars().count());
            let column = std::iter::once(Line::of(DIM, heading)).chain(cells());
            for (row, cell) in rows.iter_mut().zip(column) {
                row.push(cell.padded(width + GAP));
            }
        }
        let indented = |cells: Vec<Line>| {
            cells
                .into_iter()
                .fold(Line::of(PLAIN, " ".repeat(indent)), Line::join)
                .trimmed()
        };
        rows.into_iter().map(indented).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut table = Table::new(&["GPU", "FAULT", "NAME"]);
        table.row(vec!["0".into(), "".into(), "NVIDIA L4".into()]);
        table.row(vec!["10".into(), "".into(), "Tesla T4".into()]);
        let lines: Vec<_> = table.lines(2).iter().map(Line::text).collect();
        assert_eq!(
            lines,
            ["  GPU  NAME", "  0    NVIDIA L4", "  10   Tesla T4"]
        );
    }
}
