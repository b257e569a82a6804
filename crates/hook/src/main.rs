//! `mizzen-hook`, the program that CDI specs name.

use std::io;
use std::panic::catch_unwind;
use std::process::ExitCode;

fn main() -> ExitCode {
    // A mistake of ours shall not keep a container from starting either; its message is told.
    catch_unwind(run).unwrap_or(ExitCode::SUCCESS)
}

fn run() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    let code = mizzen_hook::run(
        &arguments,
        &mut io::stdin(),
        &mut io::stdout(),
        &mut io::stderr(),
    );
    ExitCode::from(code)
}
