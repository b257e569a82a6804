//! Types and decisions of the Mizzen GPU stack: no I/O, no clock, no async.
