//! Looking at the node's runtime: its files, its own word, and the version of its program.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow, ensure};
use mizzen_agent::runtime::{FoundRuntime, Wish, ask, find};
use mizzen_core::runtime::{CriAnswer, KNOWN_PLACES, RuntimeKind, RuntimeVersion};
use mizzen_nvml::HostRoot;

use super::args::WhichArgs;

/// A runtime and how its version is known.
pub(super) struct Looked {
    pub(super) found: FoundRuntime,
    /// How the version is known, in words; `None` if it is not.
    pub(super) version_from: Option<String>,
    /// Why the running process was not asked, or what it said instead of an answer.
    pub(super) silence: Option<String>,
}

/// Looks at the runtime that is meant; `None` if there is none.
///
/// # Errors
/// If a socket that was named does not answer, or a config that was named is not there or nobody's.
pub(super) fn look(args: &WhichArgs) -> Result<Option<Looked>> {
    let told = told_kind(args)?;
    let wish = Wish {
        kind: args.runtime.map(Into::into).or(told),
        config: args.config.clone(),
        socket: args.socket.clone(),
    };
    let host = HostRoot::new(&args.host_root);
    if let Some(config) = &args.config {
        check_config(&host, config, wish.kind.is_some())?;
    }
    let Some(mut found) = find(&host, &wish) else {
        return Ok(None);
    };
    if let (Some(kind), Some(socket)) = (told, &args.socket) {
        found.why = format!("{} says that it is {kind}", socket.display());
    }
    let mut version_from = None;
    let mut silence = None;
    match asked(found.socket.as_deref()) {
        Some(Ok(answer)) => {
            if answer.version().is_some() {
                version_from = Some("its own word".to_owned());
            }
            found.take(answer);
        }
        Some(Err(error)) if args.socket.is_some() => return Err(error),
        Some(Err(error)) => silence = Some(format!("{error:#}")),
        None => silence = Some("its socket is not there".to_owned()),
    }
    if let Some(version) = args.runtime_version {
        found.version = Some(version);
        version_from = Some("--runtime-version".to_owned());
    } else if found.version.is_none()
        && args.host_root == Path::new("/")
        && let Some((version, program)) = of_program(&found)
    {
        found.version = Some(version);
        version_from = Some(format!("{program} --version"));
    }
    Ok(Some(Looked {
        found,
        version_from,
        silence,
    }))
}

/// Which runtime answers at the socket that was named, where nothing else says so.
fn told_kind(args: &WhichArgs) -> Result<Option<RuntimeKind>> {
    let Some(socket) = args.socket.as_deref().filter(|_| args.runtime.is_none()) else {
        return Ok(None);
    };
    let answer = ask_now(socket).map_err(|error| {
        anyhow!(
            "{error}; give the socket that the kubelet uses, or --runtime and no --socket to go \
             by files alone"
        )
    })?;
    let kind = answer.kind().with_context(|| {
        format!(
            "the runtime at {} calls itself {:?}, which is none of containerd, cri-o and docker: \
             name with --runtime which of them it is like",
            socket.display(),
            answer.name
        )
    })?;
    Ok(Some(kind))
}

/// Checks that the named config is there, and that it is known whose it is.
fn check_config(host: &HostRoot, config: &str, has_kind: bool) -> Result<()> {
    ensure!(
        config.starts_with('/'),
        "--config {config}: name it by its path on the host, from / on"
    );
    let is_there = host.resolve(config).is_ok_and(|path| path.exists());
    ensure!(
        is_there,
        "--config {config}: there is no such file below {}",
        host.as_path().display()
    );
    let is_known = KNOWN_PLACES.iter().any(|place| place.config == config);
    ensure!(
        has_kind || is_known,
        "--config {config}: say with --runtime whose it is"
    );
    Ok(())
}

/// What the runtime at a socket says of itself.
pub(super) fn asked(socket: Option<&Path>) -> Option<Result<CriAnswer>> {
    socket.map(ask_now)
}

fn ask_now(socket: &Path) -> Result<CriAnswer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("no runtime for a question")?;
    // Its words are those of its causes, too.
    let answer = runtime.block_on(ask(socket));
    answer.map_err(|error| anyhow!("{} does not answer: {error}", socket.display()))
}

/// What the first program that is there says of its version.
fn of_program(found: &FoundRuntime) -> Option<(RuntimeVersion, &'static str)> {
    found.place.programs.iter().find_map(|program| {
        let output = Command::new(program).arg("--version").output().ok()?;
        let version = RuntimeVersion::find(&String::from_utf8_lossy(&output.stdout))?;
        Some((version, *program))
    })
}
