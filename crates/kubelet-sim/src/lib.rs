//! An embedded kubelet.
mod arbitrary;
mod names;
pub mod pod;
mod quantity;
mod schedule;
