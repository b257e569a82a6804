//! Which files a dynamically linked program needs at run time, read from its ELF headers as
//! the dynamic loader does: the interpreter, and the closure over `DT_NEEDED`.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use goblin::elf::Elf;

/// One file of a program's run time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed {
    /// Where the loader in the image will look for it.
    pub wanted: PathBuf,
    /// The file on this machine that holds it (symbolic links followed).
    pub found: PathBuf,
}

/// What one ELF file says about its run time.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Links {
    interpreter: Option<PathBuf>,
    libraries: Vec<String>,
    run_paths: Vec<PathBuf>,
}

/// Everything that the program in `bytes` needs, plus the libraries named in `also` (that
/// something loaded later will ask for) with what those need. Sorted, without duplicates.
///
/// # Errors
/// When the bytes are not ELF, or a library is not on this machine: the message names it and
/// the directories that were searched.
pub fn closure(bytes: &[u8], also: &[&str]) -> Result<Vec<Needed>> {
    let links = parse(bytes)?;
    let mut needed = BTreeSet::new();
    let directories = loader_directories();
    if let Some(interpreter) = &links.interpreter {
        needed.insert(Needed {
            wanted: interpreter.clone(),
            found: fs::canonicalize(interpreter)
                .with_context(|| format!("the ELF interpreter {}", interpreter.display()))?,
        });
    }
    // The interpreter is also named in DT_NEEDED by its file name: it is in already.
    let mut seen: BTreeSet<String> = links
        .interpreter
        .iter()
        .filter_map(|path| file_name(path))
        .collect();
    let mut queue: VecDeque<(String, Vec<PathBuf>)> = VecDeque::new();
    let also = also.iter().map(ToString::to_string);
    for name in links.libraries.into_iter().chain(also) {
        queue.push_back((name, links.run_paths.clone()));
    }
    while let Some((name, run_paths)) = queue.pop_front() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let at = find(&name, &run_paths, &directories)?;
        let found = fs::canonicalize(&at)?;
        let below = parse(&fs::read(&found)?).with_context(|| found.display().to_string())?;
        for library in below.libraries {
            queue.push_back((library, below.run_paths.clone()));
        }
        needed.insert(Needed { wanted: at, found });
    }
    Ok(needed.into_iter().collect())
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

fn parse(bytes: &[u8]) -> Result<Links> {
    let elf = Elf::parse(bytes).context("not an ELF file")?;
    // DT_RUNPATH, where there is one, replaces DT_RPATH (ld.so(8)).
    let run_paths = if elf.runpaths.is_empty() {
        &elf.rpaths
    } else {
        &elf.runpaths
    };
    Ok(Links {
        interpreter: elf.interpreter.map(PathBuf::from),
        libraries: elf.libraries.iter().map(ToString::to_string).collect(),
        run_paths: run_paths
            .iter()
            .flat_map(|paths| paths.split(':'))
            .filter(|path| path.starts_with('/'))
            .map(PathBuf::from)
            .collect(),
    })
}

fn find(name: &str, run_paths: &[PathBuf], directories: &[PathBuf]) -> Result<PathBuf> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let searched: Vec<&Path> = run_paths
        .iter()
        .chain(directories)
        .map(PathBuf::as_path)
        .collect();
    match searched
        .iter()
        .map(|dir| dir.join(name))
        .find(|at| at.is_file())
    {
        Some(at) => Ok(at),
        None => bail!("{name} was not found in {searched:?}"),
    }
}

/// The directories that glibc's loader searches without any configuration: the multiarch
/// ones of Debian and its kin, then the plain ones. Configured ones (ld.so.conf) are left
/// out on purpose: the image has no ld.so.cache, so its loader would not look there.
fn loader_directories() -> Vec<PathBuf> {
    let architecture = std::env::consts::ARCH;
    let multiarch = format!("{architecture}-linux-gnu");
    ["/lib", "/usr/lib"]
        .iter()
        .map(|base| Path::new(base).join(&multiarch))
        .chain(["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(PathBuf::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(needed: &[Needed]) -> BTreeSet<String> {
        let names = needed.iter().filter_map(|file| file_name(&file.wanted));
        names.collect()
    }

    fn this_test() -> Vec<u8> {
        fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_rust_program_needs_its_interpreter_libc_and_the_unwinder() {
        let needed = closure(&this_test(), &[]).unwrap();
        let names = names(&needed);
        assert!(names.contains("libc.so.6"), "{names:?}");
        assert!(names.contains("libgcc_s.so.1"), "{names:?}");
        let interpreters: Vec<_> = names.iter().filter(|n| n.starts_with("ld-linux")).collect();
        assert_eq!(interpreters.len(), 1, "{names:?}");
    }

    #[test]
    fn libraries_that_are_loaded_later_bring_theirs_along() {
        let needed = closure(&this_test(), &["libm.so.6"]).unwrap();
        assert!(names(&needed).contains("libm.so.6"));
    }

    #[test]
    fn a_library_that_is_nowhere_is_named_with_the_places_searched() {
        let error = closure(&this_test(), &["libno-such-thing.so.9"]).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("libno-such-thing.so.9"), "{message}");
        assert!(message.contains("/usr/lib"), "{message}");
    }

    #[test]
    fn what_is_not_elf_is_refused() {
        assert!(closure(b"#!/bin/sh\n", &[]).is_err());
    }
}
