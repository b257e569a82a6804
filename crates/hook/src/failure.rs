//! What could not be done, in words.

use std::fmt;
use std::io;

/// What could not be done, and why.
#[derive(Debug)]
pub struct Failure {
    what: String,
    why: String,
}

impl Failure {
    /// `what` names what was tried and on what: `/etc/ld.so.cache cannot be written`.
    pub(crate) fn new(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self {
            what: what.into(),
            why: why.to_string(),
        }
    }

    /// For `map_err`: a file, and what cannot be done with it.
    pub(crate) fn of<'a>(path: &'a str, cannot: &'a str) -> impl Fn(io::Error) -> Self + 'a {
        move |error| Self::new(format!("{path} cannot be {cannot}"), error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}
