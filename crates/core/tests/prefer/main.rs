//! The aligned choice, against an exhaustive oracle and on the machines people have.

mod machines;
mod oracle;
mod properties;
mod topologies;
