//! House rules and tools of the Mizzen workspace, as far as other crates use them too.

pub mod image;
