//! One suite of checks over an NVML library, simulated or real.
//!
//! `cargo test` runs it over the simulated library, once for each of a few nodes. With
//! `--library PATH`, or the variable `MIZZEN_CONFORMANCE_LIBRARY`, it runs over that library:
//!
//! ```sh
//! cargo test -p mizzen-nvml --test conformance -- --library /usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1
//! ```
//!
//! What a check holds the library to is what nvml.h documents, and what Mizzen itself relies
//! on. All checks read; none changes a GPU. What was seen on hardware is in docs/hardware.md.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test program of its own: it fails by panicking and prints its report"
)]

mod check;
mod events;
mod gpm;
mod identity;
mod lifecycle;
mod mig;
mod nvml;
mod readings;
mod simulated;
mod topology;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use check::{Check, Stop};
use nvml::Nvml;

fn main() -> ExitCode {
    let arguments = Arguments::parse(std::env::args().skip(1));
    if arguments.list {
        for check in checks() {
            println!("{}: test", check.name);
        }
        return ExitCode::SUCCESS;
    }
    let passed = match &arguments.library {
        Some(library) => run(library, &arguments.filters),
        None => simulated::run_each_node(&arguments.filters),
    };
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What was asked for on the command line, which is that of `cargo test` too.
#[derive(Default)]
struct Arguments {
    library: Option<PathBuf>,
    filters: Vec<String>,
    list: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "this is the suite's configuration"
        )]
        let library = std::env::var_os("MIZZEN_CONFORMANCE_LIBRARY");
        let mut arguments = Self {
            library: library.map(PathBuf::from),
            ..Self::default()
        };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--library" => arguments.library = words.next().map(PathBuf::from),
                "--list" => arguments.list = true,
                // The usual harness's own flags mean nothing here; those with a value take it.
                "--test-threads" | "--skip" | "--format" | "--color" | "-Z" => {
                    words.next();
                }
                flag if flag.starts_with('-') => {}
                filter => arguments.filters.push(filter.to_owned()),
            }
        }
        arguments
    }
}

fn checks() -> impl Iterator<Item = &'static Check> {
    [
        lifecycle::CHECKS,
        identity::CHECKS,
        readings::CHECKS,
        gpm::CHECKS,
        topology::CHECKS,
        mig::CHECKS,
        events::CHECKS,
    ]
    .into_iter()
    .flatten()
}

/// Runs the checks over one library, says what came of each, and whether all held.
fn run(library: &Path, filters: &[String]) -> bool {
    let nvml = match Nvml::load(library) {
        Ok(nvml) => nvml,
        Err(error) => {
            println!("{}: {error}", library.display());
            return false;
        }
    };
    let (mut held, mut skipped, mut failed) = (0, 0, 0);
    for check in checks() {
        if !filters.is_empty() && !filters.iter().any(|filter| check.name.contains(filter)) {
            continue;
        }
        let outcome = (check.run)(&nvml);
        nvml.reset();
        match outcome {
            Ok(()) => {
                held += 1;
                println!("ok       {}", check.name);
            }
            Err(Stop::Skip(why)) => {
                skipped += 1;
                println!("skipped  {} ({why})", check.name);
            }
            Err(Stop::Fail(why)) => {
                failed += 1;
                println!("FAILED   {}: {why}", check.name);
            }
        }
    }
    println!("conformance: {held} held, {skipped} skipped, {failed} failed");
    failed == 0
}
