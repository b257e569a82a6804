//! The command line, as `nvidia-cdi-hook` and `nvidia-ctk hook` take it.

use std::fmt;

/// What `--help` says.
pub const HELP: &str = "\
The hooks of CDI specs: finishes a container's file system before its program starts.

Usage: mizzen-hook [hook] HOOK [OPTIONS]

Hooks:
  create-symlinks                   make symbolic links
      --link TARGET::LINK           a link and what it holds; more than once for several
  update-ldcache                    let the container's dynamic linker find libraries
      --folder DIR                  a directory of libraries; more than once for several
  enable-cuda-compat                prefer the image's CUDA compatibility libraries where they are
                                    newer than the host's driver
      --host-driver-version V       the version of the host's driver
      --host-cuda-version V         the version of CUDA that it supports
      --cuda-compat-container-root DIR
                                    where they are. Default: /usr/local/cuda/compat
  disable-device-node-modification  keep the driver's library from making device nodes
      --params FILE                 the driver's parameters. Default: /proc/driver/nvidia/params

Options:
      --container-spec FILE         the container's OCI state; `-`, and without it: standard input
      --help                        this text
      --version                     the version

Runtimes call it with the container's state on standard input, in the container's mount namespace
and before its root is changed. Nothing outside of the container's root is changed whatever is in
it, and the environment is ignored.

Exit codes:
  0    done; or not, and standard error says what: a container that lacks a link still starts
  2    the command line cannot be understood, so nothing was done
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A text.
    Say(String),
    /// A hook, and the file with the container's state, if it is in one.
    Hook { hook: Hook, state: Option<String> },
}

/// A hook and what it is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    CreateSymlinks(Vec<Link>),
    UpdateLdcache(Vec<String>),
    EnableCudaCompat(Compat),
    /// With the path of the driver's parameters.
    DisableDeviceNodeModification(String),
}

impl Hook {
    /// The word for it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::CreateSymlinks(_) => CREATE_SYMLINKS,
            Self::UpdateLdcache(_) => UPDATE_LDCACHE,
            Self::EnableCudaCompat(_) => ENABLE_CUDA_COMPAT,
            Self::DisableDeviceNodeModification(_) => DISABLE_DEVICE_NODE_MODIFICATION,
        }
    }
}

const CREATE_SYMLINKS: &str = "create-symlinks";
const UPDATE_LDCACHE: &str = "update-ldcache";
const ENABLE_CUDA_COMPAT: &str = "enable-cuda-compat";
const DISABLE_DEVICE_NODE_MODIFICATION: &str = "disable-device-node-modification";

/// A link that shall be in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// What it holds.
    pub(crate) target: String,
    /// Where it is, from the container's root.
    pub(crate) path: String,
}

/// What the host's driver can do, and where the image may have something newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compat {
    pub(crate) driver: String,
    pub(crate) cuda: String,
    pub(crate) folder: String,
}

/// Why a command line cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Misuse(String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; see mizzen-hook --help", self.0)
    }
}

/// Understands a command line, given without the program's name.
pub(crate) fn parse(arguments: &[String]) -> Result<Command, Misuse> {
    let mut words = arguments.iter().map(String::as_str).peekable();
    // As the toolkit's main program is called.
    words.next_if_eq(&"hook");
    let Some(name) = words.next() else {
        return Err(Misuse("no hook is named".to_owned()));
    };
    match name {
        "--help" | "-h" | "help" => return Ok(Command::Say(HELP.to_owned())),
        "--version" | "-V" => {
            let version = env!("CARGO_PKG_VERSION");
            return Ok(Command::Say(format!("mizzen-hook {version}\n")));
        }
        _ => {}
    }
    let flags = flags_of(name).ok_or_else(|| Misuse(format!("there is no hook {name:?}")))?;
    let mut given = Given::default();
    while let Some(word) = words.next() {
        if matches!(word, "--help" | "-h") {
            return Ok(Command::Say(HELP.to_owned()));
        }
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (word, None),
        };
        let known = flag == "--container-spec" || flags.contains(&flag);
        if !known {
            return Err(Misuse(format!("{name} does not take {word:?}")));
        }
        let value = value.or_else(|| words.next());
        let value = value.ok_or_else(|| Misuse(format!("{flag} wants a value")))?;
        given.values.push((flag.to_owned(), value.to_owned()));
    }
    let hook = hook(name, &mut given)?;
    let state = given.last("--container-spec");
    Ok(Command::Hook { hook, state })
}

/// The flags of a hook; `None` if there is no such hook.
fn flags_of(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        CREATE_SYMLINKS => &["--link"],
        // What to run is for those who run something.
        UPDATE_LDCACHE => &["--folder", "--ldconfig-path"],
        ENABLE_CUDA_COMPAT => &[
            "--host-driver-version",
            "--host-cuda-version",
            "--cuda-compat-container-root",
        ],
        DISABLE_DEVICE_NODE_MODIFICATION => &["--params"],
        _ => return None,
    })
}

fn hook(name: &str, given: &mut Given) -> Result<Hook, Misuse> {
    Ok(match name {
        CREATE_SYMLINKS => {
            let links = given.all("--link");
            Hook::CreateSymlinks(links.map(link).collect::<Result<_, _>>()?)
        }
        UPDATE_LDCACHE => {
            let folders = given.all("--folder").map(|folder| match folder {
                absolute if absolute.starts_with('/') => Ok(absolute.to_owned()),
                other => Err(Misuse(format!("--folder {other:?} is no absolute path"))),
            });
            Hook::UpdateLdcache(folders.collect::<Result<_, _>>()?)
        }
        ENABLE_CUDA_COMPAT => Hook::EnableCudaCompat(Compat {
            driver: given.last("--host-driver-version").unwrap_or_default(),
            cuda: given.last("--host-cuda-version").unwrap_or_default(),
            folder: given
                .last("--cuda-compat-container-root")
                .unwrap_or_else(|| "/usr/local/cuda/compat".to_owned()),
        }),
        _ => Hook::DisableDeviceNodeModification(
            given
                .last("--params")
                .unwrap_or_else(|| "/proc/driver/nvidia/params".to_owned()),
        ),
    })
}

fn link(text: &str) -> Result<Link, Misuse> {
    let wrong = || Misuse(format!("--link {text:?} is not TARGET::LINK"));
    let (target, path) = text.split_once("::").ok_or_else(wrong)?;
    let name = path.rsplit('/').next().unwrap_or_default();
    if target.is_empty() || path.contains("::") || matches!(name, "" | "." | "..") {
        return Err(wrong());
    }
    Ok(Link {
        target: target.to_owned(),
        path: path.to_owned(),
    })
}

/// What was given, in its order.
#[derive(Default)]
struct Given {
    values: Vec<(String, String)>,
}

impl Given {
    /// Every value of a flag.
    fn all<'a>(&'a self, flag: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.values.iter();
        values
            .filter(move |(known, _)| known == flag)
            .map(|(_, value)| value.as_str())
    }

    /// The value of a flag that counts once.
    fn last(&self, flag: &str) -> Option<String> {
        self.all(flag).last().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, Misuse> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    }

    #[test]
    fn hooks_are_called_as_the_toolkit_calls_them() {
        let link = |target: &str, path: &str| Link {
            target: target.to_owned(),
            path: path.to_owned(),
        };
        let links = Hook::CreateSymlinks(vec![link("a.so.1", "/lib/a.so"), link("../b", "c/d")]);
        let words = "create-symlinks --link a.so.1::/lib/a.so --link=../b::c/d";
        let expected = Ok(Command::Hook {
            hook: links,
            state: None,
        });
        assert_eq!(parsed(words), expected);
        assert_eq!(parsed(&format!("hook {words}")), expected);
        assert_eq!(
            parsed("update-ldcache --folder /a --container-spec=- --folder=/b"),
            Ok(Command::Hook {
                hook: Hook::UpdateLdcache(vec!["/a".to_owned(), "/b".to_owned()]),
                state: Some("-".to_owned()),
            })
        );
        assert_eq!(
            parsed("enable-cuda-compat --host-driver-version=550.54.15"),
            Ok(Command::Hook {
                hook: Hook::EnableCudaCompat(Compat {
                    driver: "550.54.15".to_owned(),
                    cuda: String::new(),
                    folder: "/usr/local/cuda/compat".to_owned(),
                }),
                state: None,
            })
        );
    }

    #[test]
    fn what_cannot_be_understood_is_said_and_not_guessed() {
        for (line, words) in [
            ("", "no hook is named"),
            ("hook", "no hook is named"),
            ("chmod --path /dev", "there is no hook \"chmod\""),
            (
                "create-symlinks --folder /a",
                "create-symlinks does not take",
            ),
            ("create-symlinks --link", "--link wants a value"),
            ("create-symlinks --link a", "is not TARGET::LINK"),
            ("create-symlinks --link a::b::c", "is not TARGET::LINK"),
            ("create-symlinks --link a::", "is not TARGET::LINK"),
            ("create-symlinks --link a::/lib/..", "is not TARGET::LINK"),
            ("update-ldcache --folder lib", "is no absolute path"),
        ] {
            let told = parsed(line).unwrap_err().to_string();
            assert!(told.contains(words), "{line}: {told}");
        }
    }

    #[test]
    fn help_names_every_hook_and_every_flag() {
        for name in [
            CREATE_SYMLINKS,
            UPDATE_LDCACHE,
            ENABLE_CUDA_COMPAT,
            DISABLE_DEVICE_NODE_MODIFICATION,
        ] {
            assert!(HELP.contains(name));
            let flags = flags_of(name).unwrap().iter();
            for flag in flags.filter(|flag| **flag != "--ldconfig-path") {
                assert!(HELP.contains(flag), "{flag}");
            }
            assert_eq!(
                parsed(&format!("{name} --help")),
                Ok(Command::Say(HELP.to_owned()))
            );
        }
    }
}
