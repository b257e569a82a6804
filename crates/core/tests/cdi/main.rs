//! CDI specs of whole nodes: how they look, that they are valid, and that every device that is
//! handed out is in them.

mod differences;
mod node;
mod resolve;
mod specs;
