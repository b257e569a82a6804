//! Mizzen on a real Kubernetes.

fn main() {}
