//! The program as a runtime calls it, on roots of every kind.

mod glibc;
mod hostile;
mod plain;
mod support;
