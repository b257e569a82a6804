//! `mizzen config`: files are checked, choices explained, and what is written about both is true.

mod check;
mod choice;
mod documents;
mod schema;
