//! The hooks of CDI specs: what finishes a container's file system before its program starts.
//!
//! A runtime calls `mizzen-hook` for each container with GPUs, in the container's mount namespace
//! and before its root is changed, with the container's state on standard input. What the program
//! finds below that root was made by whoever made the image, so nothing of it is trusted: every
//! path is resolved inside the root (see [`root`]), no device is opened, whatever is read has a
//! limit, and the environment is ignored.

mod args;
mod compat;
mod elf;
mod failure;
mod ldcache;
mod links;
mod params;
pub mod program;
pub mod root;
mod state;

use std::io::{Read, Write};

pub use args::{HELP, Misuse};

use args::{Command, Hook};
use failure::Failure;
use root::Root;

/// Everything was done, or what could not be done was said.
const GOOD: u8 = 0;
/// The command line cannot be understood.
const MISUSE: u8 = 2;

/// Carries out what the command line (without the program's name) asks for, and returns the exit
/// code: 2 for a command line that cannot be understood, and else 0, for a container that lacks a
/// link is better than none.
///
/// The container's state is read from `input`; answers go to `out`, and what could not be done to
/// `notes`.
pub fn run(
    arguments: &[String],
    input: &mut dyn Read,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> u8 {
    // Whoever listens no more does not keep a container from starting.
    let mut say = |line: String| {
        let _ = writeln!(notes, "mizzen-hook: {line}");
    };
    match args::parse(arguments) {
        Err(misuse) => {
            say(misuse.to_string());
            MISUSE
        }
        Ok(Command::Say(text)) => {
            let _ = out.write_all(text.as_bytes());
            GOOD
        }
        Ok(Command::Hook { hook, state }) => {
            let name = hook.name();
            for failure in carry_out(&hook, state.as_deref(), input) {
                say(format!("{name}: {failure}"));
            }
            GOOD
        }
    }
}

/// Everything that could not be done.
fn carry_out(hook: &Hook, state: Option<&str>, input: &mut dyn Read) -> Vec<Failure> {
    let opened = state::container(state, input).and_then(|container| {
        let root = Root::open(&container.root)?;
        Ok((root, container.has_own_devices))
    });
    let (root, has_own_devices) = match opened {
        Ok(opened) => opened,
        Err(failure) => return vec![failure],
    };
    match hook {
        // The one hook that has anything to do there: `/dev/dri/by-path`.
        Hook::CreateSymlinks(links) if has_own_devices => {
            links::create(&root.with_devices(), links)
        }
        Hook::CreateSymlinks(links) => links::create(&root, links),
        Hook::UpdateLdcache(folders) => ldcache::update(&root, folders),
        Hook::EnableCudaCompat(wanted) => compat::enable(&root, wanted),
        Hook::DisableDeviceNodeModification(params) => {
            params::disable(&root, params).err().into_iter().collect()
        }
    }
}
