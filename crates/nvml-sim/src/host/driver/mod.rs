//! The installed driver: its libraries, programs, firmware and configuration under their true
//! names. All are stand-ins but `libnvidia-ml.so.1`, which is the simulated library, and
//! `nvidia-smi`.

mod elf;
mod places;
mod table;

use mizzen_ldcache::Machine;

use crate::library;

use super::HostError;
use super::plan::Plan;
use places::{Around, Places};
use table::{Library, Name};

/// Where a distribution puts the driver's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverLayout {
    /// Debian and Ubuntu: libraries in `usr/lib/<architecture>-linux-gnu`.
    Debian,
    /// RHEL, Fedora and their kin: libraries in `usr/lib64`.
    Rhel,
    /// A container of NVIDIA's with the driver, mounted at `run/nvidia/driver`: a Debian inside,
    /// with device nodes of its own.
    DriverContainer,
    /// NixOS: packages below `nix/store`, and links to them in `run/opengl-driver`.
    NixOs,
}

impl DriverLayout {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Debian, Self::Rhel, Self::DriverContainer, Self::NixOs];

    /// Where the driver's root is, relative to the host's; empty if it is the host's.
    ///
    /// Below it lie `usr/bin` (NixOS: `run/current-system/sw/bin`), the library directory and
    /// `dev`.
    pub fn driver_root(self) -> &'static str {
        match self {
            Self::DriverContainer => "run/nvidia/driver",
            Self::Debian | Self::Rhel | Self::NixOs => "",
        }
    }

    /// The directory, relative to the driver's root, in which `libnvidia-ml.so.1` and the others
    /// are found: below the host's root on NixOS, where it has links.
    pub fn library_directory(self) -> &'static str {
        match (self, Machine::OURS) {
            (Self::Rhel, _) => "usr/lib64",
            (Self::NixOs, _) => "run/opengl-driver/lib",
            (Self::Debian | Self::DriverContainer, Machine::Aarch64) => "usr/lib/aarch64-linux-gnu",
            (Self::Debian | Self::DriverContainer, _) => "usr/lib/x86_64-linux-gnu",
        }
    }

    /// The link that tells, in a written tree, that it has this layout.
    pub(super) fn mark(self) -> String {
        let root = self.driver_root();
        let directory = self.library_directory();
        match self {
            Self::NixOs => "run/opengl-driver".to_owned(),
            Self::DriverContainer => format!("{root}/{directory}/{}", library::FILE_NAME),
            Self::Debian | Self::Rhel => format!("{directory}/{}", library::FILE_NAME),
        }
    }
}

/// The driver's files, in this version (`580.95.05`).
///
/// # Errors
/// This program carries neither library nor `nvidia-smi`.
pub(super) fn install(
    plan: &mut Plan,
    layout: DriverLayout,
    version: &str,
) -> Result<(), HostError> {
    if library::BYTES.is_empty() {
        return Err(HostError::NoDriver);
    }
    let branch = version.split('.').next().and_then(|text| text.parse().ok());
    let mut installer = Installer {
        plan,
        places: Places::of(layout, version),
        version,
        // One that is no number is as new as any.
        branch: branch.unwrap_or(u32::MAX - 1),
        known: Vec::new(),
    };
    installer.libraries();
    installer.programs();
    installer.data();
    installer.around();
    Ok(())
}

/// Whether an installation can have an entry of this kind here.
pub(super) fn has(path: &str, letter: char) -> bool {
    const TOPS: &[&str] = &["bin", "etc", "lib", "lib64", "nix", "run", "usr"];
    /// Entries that are not named after the driver.
    const NAMES: &[&str] = &[
        "bin",
        "lib",
        "lib64",
        "etc/ld.so.cache",
        "etc/ld.so.conf",
        "etc/ld.so.conf.d/aarch64-linux-gnu.conf",
        "etc/ld.so.conf.d/x86_64-linux-gnu.conf",
        "run/current-system",
        "run/opengl-driver",
    ];
    let root = DriverLayout::DriverContainer.driver_root();
    let inside = path
        .strip_prefix(root)
        .and_then(|rest| rest.strip_prefix('/'));
    let below = inside.unwrap_or(path);
    let (top, _) = below.split_once('/').unwrap_or((below, ""));
    if inside.is_some() && top == "dev" {
        return true;
    }
    let name = below.rsplit('/').next().unwrap_or(below);
    let words = ["nvidia", "libcuda", "libnvcuvid", "nvoptix", "gsp_"];
    let named = NAMES.contains(&below) || words.iter().any(|word| name.contains(word));
    // A directory goes only when it is empty.
    TOPS.contains(&top) && (letter == 'd' || named)
}

struct Installer<'a> {
    plan: &'a mut Plan,
    places: Places,
    version: &'a str,
    branch: u32,
    /// What the dynamic linker's cache knows: names in the library directory.
    known: Vec<String>,
}

impl Installer<'_> {
    fn has(&self, library: &Library) -> bool {
        let (first, end) = library.branches;
        let machine = !library.x86_only || Machine::OURS == Machine::X86_64;
        machine && (first..end).contains(&self.branch)
    }

    fn libraries(&mut self) {
        let directory = self.places.libraries.clone();
        self.library(&directory, &table::NVML, Some(library::BYTES));
        for library in table::LIBRARIES {
            if self.has(library) {
                self.library(&directory, library, None);
            }
        }
        let known = std::mem::take(&mut self.known);
        self.library(&format!("{directory}/vdpau"), &table::VDPAU, None);
        self.known = known;
        let xorg = self.places.xorg.clone();
        let module = elf::library("nvidia_drv.so", Machine::OURS);
        self.plan
            .program(&format!("{xorg}/drivers/nvidia_drv.so"), module);
        let server = format!("libglxserver_nvidia.so.{}", self.version);
        let module = elf::library(&server, Machine::OURS);
        let extension = format!("{xorg}/extensions/{server}");
        self.plan.program(&extension, module);
        self.plan.link(
            &format!("{xorg}/extensions/libglxserver_nvidia.so"),
            &extension,
        );
        self.plan.link(
            &format!("{directory}/gbm/nvidia-drm_gbm.so"),
            &format!("{directory}/libnvidia-allocator.so.1"),
        );
    }

    /// One library with its links: a stand-in, or one with these contents.
    fn library(&mut self, directory: &str, library: &Library, bytes: Option<&[u8]>) {
        let base = library.base;
        let numbered = |number: u32| format!("{base}.{number}");
        let versioned = format!("{base}.{}", self.version);
        let (file, soname, developers) = match library.name {
            Name::Linked(number) => (versioned, numbered(number), true),
            Name::Numbered(number) => (versioned, numbered(number), false),
            Name::Versioned => (versioned.clone(), versioned, false),
            Name::Fixed(number) => (numbered(number), numbered(number), false),
            Name::Own(version) => (format!("{base}.{version}"), numbered(1), false),
        };
        let at = |name: &str| format!("{directory}/{name}");
        let stand_in = || elf::library(&soname, Machine::OURS);
        let bytes = bytes.map_or_else(stand_in, <[u8]>::to_vec);
        self.plan.program(&at(&file), bytes);
        if soname != file {
            self.plan.link(&at(&soname), &at(&file));
        }
        if developers {
            self.plan.link(&at(base), &at(&soname));
            self.known.push(base.to_owned());
        }
        self.known.push(soname);
    }

    fn programs(&mut self) {
        let directory = self.places.programs.clone();
        let smi = format!("{directory}/nvidia-smi");
        self.plan.program(&smi, library::NVIDIA_SMI);
        for (name, since) in table::PROGRAMS {
            if self.branch >= *since {
                let text = format!(
                    "#!/bin/sh\necho '{name}: a stand-in of the simulated driver' >&2\nexit 1\n"
                );
                self.plan.program(&format!("{directory}/{name}"), text);
            }
        }
        for name in table::FIRMWARE {
            let path = format!("{}/nvidia/{}/{name}", self.places.firmware, self.version);
            self.plan.data(&path, "stand-in\n");
        }
    }

    fn data(&mut self) {
        let places = &self.places;
        let mut texts = Vec::new();
        for (directory, list) in [
            (&places.share, table::SHARED),
            (&places.vulkan, table::VULKAN),
            (&places.etc, table::OPENCL),
        ] {
            let present = list.iter().filter(|data| self.branch >= data.since);
            texts.extend(present.map(|data| (format!("{directory}/{}", data.path), data.text)));
        }
        for kind in ["rc", "key-documentation"] {
            let name = format!("nvidia-application-profiles-{}-{kind}", self.version);
            texts.push((format!("{}/nvidia/{name}", places.share), "{}\n"));
        }
        for (path, text) in texts {
            self.plan.data(&path, text);
        }
    }

    /// What makes a system of the driver's files.
    fn around(&mut self) {
        match &self.places.around {
            Around::Linker {
                root,
                merged,
                configuration,
                directory,
            } => {
                for name in *merged {
                    let (link, target) = (format!("{root}{name}"), format!("{root}usr/{name}"));
                    self.plan.link(&link, &target);
                }
                for (path, text) in configuration {
                    self.plan.data(path, text.as_str());
                }
                let library = |name: &String| mizzen_ldcache::Library {
                    name: name.clone(),
                    path: format!("{directory}/{name}"),
                    machine: Machine::OURS,
                };
                let libraries: Vec<_> = self.known.iter().map(library).collect();
                let cache = mizzen_ldcache::write(&libraries);
                self.plan.data(&format!("{root}etc/ld.so.cache"), cache);
            }
            Around::Store { farms, links } => places::link_packages(self.plan, farms, links),
        }
    }
}

#[cfg(test)]
mod tests;
