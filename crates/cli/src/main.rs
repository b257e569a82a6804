//! A GPU stack for Kubernetes in one small program.

fn main() {}
