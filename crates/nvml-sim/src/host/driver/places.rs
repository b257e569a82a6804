//! Where each distribution puts the driver's files.

use mizzen_ldcache::Machine;

use super::super::plan::{Content, Plan};
use super::DriverLayout;
use crate::identity::{fnv1a, mix};

/// The places of one installation, relative to the directory that the host is written to.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) libraries: String,
    /// The directory of the X server's `drivers` and `extensions`.
    pub(super) xorg: String,
    pub(super) programs: String,
    pub(super) firmware: String,
    pub(super) share: String,
    pub(super) etc: String,
    /// The directory of Vulkan's lists.
    pub(super) vulkan: String,
    pub(super) around: Around,
}

/// What the system has that the driver is installed in.
#[derive(Debug)]
pub(super) enum Around {
    /// One with a cache of the dynamic linker.
    Linker {
        /// The driver's root with a slash at its end; empty if it is the host's.
        root: &'static str,
        /// Top directories that are links to what is in `usr`.
        merged: &'static [&'static str],
        /// Files that say where the linker looks, and their texts.
        configuration: Vec<(String, String)>,
        /// The library directory as the cache names it: by the link, which the linker's
        /// configuration has first.
        directory: String,
    },
    /// A NixOS, where everything is found through links.
    Store {
        /// The packages whose files are linked, and where to.
        farms: Vec<(String, String)>,
        /// Links to packages.
        links: Vec<(&'static str, String)>,
    },
}

impl Places {
    pub(super) fn of(layout: DriverLayout, version: &str) -> Self {
        match layout {
            DriverLayout::Debian => Self::debian(""),
            DriverLayout::DriverContainer => Self::debian("run/nvidia/driver/"),
            DriverLayout::Rhel => Self::rhel(),
            DriverLayout::NixOs => Self::nixos(version),
        }
    }

    /// A Debian whose root is `root`.
    fn debian(root: &'static str) -> Self {
        let triple = match Machine::OURS {
            Machine::Aarch64 => "aarch64-linux-gnu",
            Machine::X86_64 | Machine::Other => "x86_64-linux-gnu",
        };
        let file = |path: &str, text: String| (format!("{root}etc/{path}"), text);
        let configuration = vec![
            file(
                "ld.so.conf",
                "include /etc/ld.so.conf.d/*.conf\n".to_owned(),
            ),
            file(
                &format!("ld.so.conf.d/{triple}.conf"),
                format!("/usr/local/lib/{triple}\n/lib/{triple}\n/usr/lib/{triple}\n"),
            ),
        ];
        let libraries = format!("usr/lib/{triple}");
        let mut places = Self::usual(root, &libraries, "usr/lib/xorg/modules");
        places.vulkan = format!("{root}etc/vulkan");
        places.around = Around::Linker {
            root,
            merged: &["bin", "lib"],
            configuration,
            directory: format!("/lib/{triple}"),
        };
        places
    }

    fn rhel() -> Self {
        let mut places = Self::usual("", "usr/lib64", "usr/lib64/xorg/modules");
        places.around = Around::Linker {
            root: "",
            merged: &["bin", "lib", "lib64"],
            configuration: vec![(
                "etc/ld.so.conf".to_owned(),
                "include ld.so.conf.d/*.conf\n".to_owned(),
            )],
            directory: "/lib64".to_owned(),
        };
        places
    }

    /// What is everywhere but on NixOS.
    fn usual(root: &'static str, libraries: &str, xorg: &str) -> Self {
        let below = |path: &str| format!("{root}{path}");
        Self {
            libraries: below(libraries),
            xorg: below(xorg),
            programs: below("usr/bin"),
            firmware: below("usr/lib/firmware"),
            share: below("usr/share"),
            etc: below("etc"),
            vulkan: below("usr/share/vulkan"),
            around: Around::Linker {
                root,
                merged: &[],
                configuration: Vec::new(),
                directory: String::new(),
            },
        }
    }

    /// The outputs of the package, as nixpkgs splits them, and the environments that gather them.
    fn nixos(version: &str) -> Self {
        let package = |output: &str| store_path(&format!("nvidia-x11-{version}{output}"));
        let (main, programs, firmware) = (package(""), package("-bin"), package("-firmware"));
        let drivers = store_path(&format!("graphics-drivers-{version}"));
        let system = store_path(&format!("nixos-system-{version}"));
        Self {
            libraries: format!("{main}/lib"),
            xorg: format!("{main}/lib/xorg/modules"),
            programs: format!("{programs}/bin"),
            firmware: format!("{firmware}/lib/firmware"),
            share: format!("{main}/share"),
            etc: format!("{main}/etc"),
            vulkan: format!("{main}/share/vulkan"),
            around: Around::Store {
                farms: vec![
                    (main, drivers.clone()),
                    (programs, format!("{system}/sw")),
                    (
                        format!("{firmware}/lib/firmware"),
                        format!("{system}/firmware"),
                    ),
                ],
                links: vec![
                    ("run/opengl-driver", drivers),
                    ("run/current-system", system),
                ],
            },
        }
    }
}

/// Links every file of each package to the same place in its environment, and the environments
/// to where programs look. Links of a store are absolute.
pub(super) fn link_packages(
    plan: &mut Plan,
    farms: &[(String, String)],
    links: &[(&'static str, String)],
) {
    for (package, environment) in farms {
        let files: Vec<String> = plan
            .entries()
            .iter()
            .filter(|entry| entry.content != Content::Directory)
            .filter_map(|entry| entry.path.strip_prefix(package)?.strip_prefix('/'))
            .map(str::to_owned)
            .collect();
        for file in files {
            let link = format!("{environment}/{file}");
            plan.absolute_link(&link, &format!("/{package}/{file}"));
        }
    }
    for (link, target) in links {
        plan.absolute_link(link, &format!("/{target}"));
    }
}

/// `nix/store/<32 characters of Nix's base 32>-<name>`, a function of the name.
fn store_path(name: &str) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";
    let mut hash = fnv1a(name.as_bytes());
    let digits = (0..32).map(|_| {
        hash = mix(hash);
        char::from(DIGITS[(hash >> 59) as usize])
    });
    let digits: String = digits.collect();
    format!("nix/store/{digits}-{name}")
}
