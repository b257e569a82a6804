//! Specs of whole nodes.
