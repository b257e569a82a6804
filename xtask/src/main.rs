//! House rules and tools of the Mizzen workspace.

fn main() {}
