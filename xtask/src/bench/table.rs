//! The figures as a Markdown table.

use std::fmt;

/// Whose figure a cell holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Mizzen,
    Floor,
    PeerNow,
}

impl Column {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Mizzen => "Mizzen",
            Self::Floor => "floor",
            Self::PeerNow => "peer, here",
        }
    }
}

/// One figure.
#[derive(Debug)]
pub(super) struct Row {
    name: &'static str,
    peer: &'static str,
    reach: &'static str,
    cells: [String; 3],
}

impl Row {
    pub(super) fn new(name: &'static str, peer: &'static str, reach: &'static str) -> Self {
        Self {
            name,
            peer,
            reach,
            cells: Default::default(),
        }
    }

    pub(super) fn set(&mut self, column: Column, value: String) {
        self.cells[column as usize] = value;
    }
}

/// All figures.
#[derive(Debug)]
pub(super) struct Table {
    rows: Vec<Row>,
    peer_measured: bool,
}

impl Table {
    pub(super) fn new(peer_measured: bool) -> Self {
        Self {
            rows: Vec::new(),
            peer_measured,
        }
    }

    pub(super) fn push(&mut self, row: Row) {
        self.rows.push(row);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let here = |text: &str| {
            if self.peer_measured {
                format!(" {text} |")
            } else {
                String::new()
            }
        };
        writeln!(
            f,
            "| | peer, as published |{} floor, here | reach | Mizzen, here |",
            here("peer, here")
        )?;
        writeln!(
            f,
            "|---|---|{}---|---|---|",
            if self.peer_measured { "---|" } else { "" }
        )?;
        for row in &self.rows {
            let [mizzen, floor, peer_now] = &row.cells;
            let (name, peer, reach) = (row.name, row.peer, row.reach);
            writeln!(
                f,
                "| {name} | {peer} |{} {floor} | {reach} | **{mizzen}** |",
                here(peer_now)
            )?;
        }
        Ok(())
    }
}
