//! `--query-gpu`: what can be asked of a GPU, in the names, units and forms of NVIDIA's.

mod board;
mod ecc;
mod mig;
mod power;
mod reasons;
mod state;
mod value;
mod work;

use crate::csv::Column;

/// Every column, in the order of the help.
pub(crate) fn columns() -> impl Iterator<Item = &'static Column> + Clone {
    [
        board::COLUMNS,
        state::COLUMNS,
        reasons::COLUMNS,
        work::COLUMNS,
    ]
    .into_iter()
    .chain(ecc::COLUMNS)
    .chain([power::COLUMNS, mig::COLUMNS])
    .flatten()
}
