//! Whole host trees, one for each way to install a driver.

mod owners;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use mizzen_core::cdi::{CdiSpec, DriverFiles, SpecOptions, Wanted, cdi_specs, problems};
use mizzen_core::config::Config;
use mizzen_testkit::{HostTree, gpus};

use super::*;

const VERSION: &str = "550.54.15";

/// A host on which a driver can be installed.
struct Host {
    tree: HostTree,
}

impl Host {
    fn new() -> Self {
        let tree = HostTree::new();
        for node in ["nvidiactl", "nvidia0", "nvidia-uvm", "nvidia-modeset"] {
            tree.file(&format!("dev/{node}"), "");
        }
        Self { tree }
    }

    fn path(&self) -> &Path {
        self.tree.path()
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
        self
    }

    fn program(&self, path: &str) -> &Self {
        self.tree.file(path, "#!/bin/sh\n");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path().join(path), mode).unwrap();
        self
    }

    /// The libraries of a driver, with the links that its installer makes.
    fn libraries(&self, directory: &str) -> &Self {
        for (base, soname) in [
            ("libcuda", "1"),
            ("libnvidia-ml", "1"),
            ("libEGL_nvidia", "0"),
        ] {
            let file = format!("{base}.so.{VERSION}");
            self.tree.file(&format!("{directory}/{file}"), base);
            self.link(&format!("{directory}/{base}.so.{soname}"), &file);
        }
        self.link(&format!("{directory}/libcuda.so"), "libcuda.so.1");
        self.tree.file(&format!("{directory}/libc.so.6"), "");
        self.tree
            .file(&format!("{directory}/libcuda_other.so.1.2"), "");
        self.tree.file(
            &format!("{directory}/vdpau/libvdpau_nvidia.so.{VERSION}"),
            "",
        );
        self.tree
            .file(&format!("{directory}/libnvidia-egl-gbm.so.1.1.1"), "");
        self
    }

    fn config(&self) -> Config {
        Config {
            host_root: self.path().to_owned(),
            driver_root_ctr_path: self.path().join("no-driver-root"),
            ..Config::default()
        }
    }

    fn discover(&self) -> DriverFiles {
        discover(&Places::of_config(&self.config()), &Asked::default())
    }
}

/// The paths in a container of the libraries.
fn libraries(files: &DriverFiles) -> Vec<&str> {
    let each = files.libraries.iter();
    each.map(|library| library.file.container.as_str())
        .collect()
}

/// The links of the library of this name.
fn links(files: &DriverFiles, name: &str) -> Vec<String> {
    let mut libraries = files.libraries.iter();
    let library = libraries
        .find(|library| library.file.container.ends_with(name))
        .unwrap();
    let each = library.links.iter();
    each.map(|link| format!("{}::{}", link.target, link.path))
        .collect()
}

fn in_directory(directory: &str) -> Vec<String> {
    [
        format!("libEGL_nvidia.so.{VERSION}"),
        format!("libcuda.so.{VERSION}"),
        "libnvidia-egl-gbm.so.1.1.1".to_owned(),
        format!("libnvidia-ml.so.{VERSION}"),
        format!("vdpau/libvdpau_nvidia.so.{VERSION}"),
    ]
    .map(|name| format!("/{directory}/{name}"))
    .to_vec()
}

#[test]
fn libraries_are_found_in_the_directories_of_every_distribution() {
    for directory in [
        "usr/lib/x86_64-linux-gnu",
        "usr/lib/aarch64-linux-gnu",
        "usr/lib64",
        "usr/lib",
        "usr/local/glibc/usr/lib",
        "x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia",
        "x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
        "home/kubernetes/bin/nvidia/lib64",
        "opt/nvidia/lib64",
    ] {
        let host = Host::new();
        host.libraries(directory);
        let files = host.discover();
        assert_eq!(files.version.as_deref(), Some(VERSION), "{directory}");
        assert_eq!(libraries(&files), in_directory(directory));
        let file = &files.libraries[1].file;
        assert_eq!(file.host, file.container, "the driver's root is the host's");
        let expected = [
            format!("libcuda.so.1::/{directory}/libcuda.so"),
            format!("libcuda.so.{VERSION}::/{directory}/libcuda.so.1"),
        ];
        assert_eq!(links(&files, &format!("libcuda.so.{VERSION}")), expected);
    }
}

#[test]
fn debians_alternatives_are_followed_to_the_files() {
    let host = Host::new();
    let real = "usr/lib/x86_64-linux-gnu/nvidia/current";
    host.libraries(real)
        .link(
            "usr/lib/x86_64-linux-gnu/libcuda.so.1",
            "/etc/alternatives/glx--libcuda.so.1",
        )
        .link(
            "etc/alternatives/glx--libcuda.so.1",
            "/usr/lib/nvidia/current/libcuda.so.1",
        )
        .link("usr/lib/nvidia", "x86_64-linux-gnu/nvidia")
        .link("lib", "usr/lib")
        .link("usr/bin/nvidia-smi", "/etc/alternatives/nvidia-smi")
        .link(
            "etc/alternatives/nvidia-smi",
            "/usr/lib/nvidia/current/nvidia-smi",
        )
        .program(&format!("{real}/nvidia-smi"));
    let files = host.discover();
    assert_eq!(libraries(&files), in_directory(real));
    let smi = &files.files[0];
    assert_eq!(smi.container, "/usr/bin/nvidia-smi");
    assert_eq!(smi.host, format!("/{real}/nvidia-smi"));
}

#[test]
fn the_files_of_a_drivers_container_keep_their_paths_without_its_root() {
    let host = Host::new();
    let root = "run/nvidia/driver";
    host.libraries(&format!("{root}/usr/lib/x86_64-linux-gnu"))
        .program(&format!("{root}/usr/bin/nvidia-smi"));
    let firmware = format!("lib/firmware/nvidia/{VERSION}/gsp_ga10x.bin");
    host.tree
        .file(&format!("{root}/{firmware}"), "")
        .file(&format!("{root}/run/nvidia-persistenced/socket"), "")
        .file(
            "sys/module/firmware_class/parameters/path",
            "/run/nvidia/driver/lib/firmware\n",
        )
        .file(&format!("{root}/etc/OpenCL/vendors/nvidia.icd"), "");
    let files = host.discover();
    assert_eq!(libraries(&files), in_directory("usr/lib/x86_64-linux-gnu"));
    let all = files.libraries.iter().map(|library| &library.file);
    let all: Vec<_> = all.chain(&files.files).chain(&files.sockets).collect();
    assert_eq!(all.len(), 5 + 3 + 1);
    for file in all {
        assert_eq!(file.host, format!("/{root}{}", file.container));
    }
    assert_eq!(files.files[1].container, format!("/{firmware}"));
    assert_eq!(
        files.nodes["/dev/nvidia0"].host, "/dev/nvidia0",
        "the host's own nodes"
    );
}

#[test]
fn nixos_has_everything_in_its_store() {
    let host = Host::new();
    let store = "nix/store/abc-nvidia-x11";
    host.libraries(&format!("{store}/lib"))
        .program(&format!("{store}/bin/nvidia-smi"))
        .link(
            "run/current-system/sw/bin/nvidia-smi",
            &format!("/{store}/bin/nvidia-smi"),
        )
        .link("run/opengl-driver", "/nix/store/def-graphics-drivers");
    for name in [
        "libcuda.so.1",
        "libnvidia-ml.so.1",
        &format!("libcuda.so.{VERSION}"),
    ] {
        let target = format!("/{store}/lib/{name}");
        host.link(
            &format!("nix/store/def-graphics-drivers/lib/{name}"),
            &target,
        );
    }
    let files = host.discover();
    assert_eq!(libraries(&files), in_directory(&format!("{store}/lib")));
    let smi = &files.files[0];
    assert_eq!(smi.container, "/usr/bin/nvidia-smi");
    assert_eq!(smi.host, format!("/{store}/bin/nvidia-smi"));
}

#[test]
fn a_root_of_another_name_is_where_the_settings_say() {
    let host = Host::new();
    host.libraries("mounted/usr/lib64");
    host.tree.file("mounted/dev/nvidiactl", "");
    let config = Config {
        driver_root: "/opt/driver".into(),
        dev_root: "/opt/driver".into(),
        driver_root_ctr_path: host.path().join("mounted"),
        ..host.config()
    };
    let places = Places::of_config(&config);
    assert_eq!(places.driver_root(), Path::new("/opt/driver"));
    let files = discover(&places, &Asked::default());
    let cuda = &files.libraries[1].file;
    assert_eq!(
        cuda.host,
        format!("/opt/driver/usr/lib64/libcuda.so.{VERSION}")
    );
    assert_eq!(cuda.container, format!("/usr/lib64/libcuda.so.{VERSION}"));
    assert_eq!(
        files.nodes["/dev/nvidiactl"].host,
        "/opt/driver/dev/nvidiactl"
    );
}

#[test]
fn libraries_of_other_versions_and_other_machines_are_left_out() {
    let host = Host::new();
    host.libraries("usr/lib64").libraries("usr/lib");
    // An ELF header of a 32-bit x86 library.
    let mut header = b"\x7fELF\x01\x01\x01".to_vec();
    header.resize(18, 0);
    header.extend([3, 0, 1, 0]);
    for name in ["libEGL_nvidia", "libcuda", "libnvidia-ml"] {
        let path = host.path().join(format!("usr/lib/{name}.so.{VERSION}"));
        fs::write(path, &header).unwrap();
    }
    host.tree.file("usr/lib64/libcuda.so.535.1.2", "");
    let places = Places::of_config(&host.config());
    let asked = Asked {
        version: Some(VERSION),
        ..Asked::default()
    };
    let files = discover(&places, &asked);
    let mut expected = in_directory("usr/lib64");
    expected.push(format!("/usr/lib/vdpau/libvdpau_nvidia.so.{VERSION}"));
    expected.sort();
    assert_eq!(libraries(&files), expected);
}

#[test]
fn without_a_library_the_kernel_tells_the_version() {
    let host = Host::new();
    host.tree.file(
        "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.15  Release Build\n",
    );
    assert_eq!(host.discover().version.as_deref(), Some(VERSION));
}

#[test]
fn settings_are_put_where_programs_look_for_them() {
    let host = Host::new();
    host.libraries("usr/lib64");
    for file in [
        "usr/share/glvnd/egl_vendor.d/10_nvidia.json",
        "etc/vulkan/icd.d/nvidia_icd.json",
        "usr/share/vulkan/implicit_layer.d/nvidia_layers.json",
        "usr/lib64/xorg/modules/drivers/nvidia_drv.so",
        "etc/cufile.json",
        "run/udev/data/x",
    ] {
        host.tree.file(file, "");
    }
    let files = host.discover();
    let container: Vec<&str> = files
        .files
        .iter()
        .map(|file| file.container.as_str())
        .collect();
    assert_eq!(
        container,
        [
            "/usr/share/glvnd/egl_vendor.d/10_nvidia.json",
            "/etc/vulkan/icd.d/nvidia_icd.json",
            "/etc/vulkan/implicit_layer.d/nvidia_layers.json",
        ]
    );
    let module = "/usr/lib64/xorg/modules/drivers/nvidia_drv.so";
    assert_eq!(libraries(&files).last(), Some(&module));
    let spec = &specs_of(&gpus(1), &files)[0];
    let hooks: Vec<String> = spec
        .container_edits
        .hooks
        .iter()
        .map(|hook| hook.args.join(" "))
        .collect();
    assert!(
        hooks[2].ends_with("--folder /usr/lib64 --folder /usr/lib64/vdpau"),
        "{hooks:#?}"
    );
    let storage: Vec<&str> = files
        .storage
        .iter()
        .map(|file| file.container.as_str())
        .collect();
    assert_eq!(storage, ["/run/udev", "/etc/cufile.json"]);
}

#[test]
fn graphics_nodes_belong_to_the_gpu_of_their_place_on_the_bus() {
    let host = Host::new();
    let gpus = gpus(1);
    let pci = gpus[0].pci;
    for node in ["dev/dri/card1", "dev/dri/renderD128", "dev/dri/card0"] {
        host.tree.file(node, "");
    }
    for name in ["card1", "renderD128", "controlD64"] {
        host.tree.file(
            &format!("sys/bus/pci/devices/{pci}/drm/{name}/dev"),
            "226:1\n",
        );
    }
    host.link(&format!("dev/dri/by-path/pci-{pci}-card"), "../card1")
        .link(
            &format!("dev/dri/by-path/pci-{pci}-render"),
            "../renderD129",
        );
    let places = Places::of_config(&host.config());
    let asked = Asked {
        gpus: &gpus,
        ..Asked::default()
    };
    let dri = &discover(&places, &asked).dri[&pci];
    assert_eq!(dri.nodes, ["/dev/dri/card1", "/dev/dri/renderD128"]);
    let links: Vec<String> = dri.links.iter().map(|link| link.target.clone()).collect();
    assert_eq!(
        links,
        ["../card1"],
        "a link to another GPU's node is not taken"
    );
}

#[test]
fn nodes_tell_their_numbers_where_they_are_devices() {
    let host = Host::new();
    host.tree
        .file("dev/nvidia-caps/nvidia-cap3", "")
        .file("dev/infiniband/uverbs0", "")
        .file("dev/nvidia-caps-imex-channels/channel0", "");
    let places = Places::of_config(&host.config());
    let channels = |imex_channels: bool| {
        let asked = Asked {
            imex_channels,
            ..Asked::default()
        };
        let files = discover(&places, &asked);
        assert!(files.nodes.contains_key("/dev/nvidia-caps/nvidia-cap3"));
        assert!(files.nodes.contains_key("/dev/infiniband/uverbs0"));
        assert_eq!(files.nodes["/dev/nvidia0"].numbers, None, "an empty file");
        files
            .nodes
            .contains_key("/dev/nvidia-caps-imex-channels/channel0")
    };
    assert!(channels(true) && !channels(false));
    let own = tree::Tree::new("/", "/");
    let (_, null) = nodes::node(&own, Path::new("dev/null")).unwrap();
    let numbers = null.numbers.unwrap();
    assert_eq!((numbers.major, numbers.minor), (1, 3));
}

#[test]
fn windows_has_one_device_and_its_own_store() {
    let host = Host::new();
    fs::remove_file(host.path().join("dev/nvidiactl")).unwrap();
    let store = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_1";
    for file in [
        "dev/dxg",
        "usr/lib/wsl/lib/libdxcore.so",
        "usr/lib/wsl/drivers/intel.inf_amd64_1/libother.so",
        &format!("{store}/libcuda.so.1.1"),
        &format!("{store}/nvidia-smi"),
        &format!("{store}/nvcubins.bin"),
    ] {
        host.tree.file(file, "");
    }
    let files = host.discover();
    assert_eq!(files.platform, Platform::Wsl);
    let cuda = format!("/{store}/libcuda.so.1.1");
    assert_eq!(
        libraries(&files),
        ["/usr/lib/wsl/lib/libdxcore.so", cuda.as_str()]
    );
    let specs = specs(&files);
    let [spec] = &specs[..] else {
        panic!("{specs:?}");
    };
    assert_eq!(problems(spec), []);
    let names: Vec<&str> = spec
        .devices
        .iter()
        .map(|device| device.name.as_str())
        .collect();
    assert_eq!(names, ["all"]);
    assert_eq!(
        spec.devices[0].container_edits.device_nodes[0].path,
        "/dev/dxg"
    );
}

#[test]
fn tegra_follows_its_lists() {
    let host = Host::new();
    host.tree
        .file("etc/nv_tegra_release", "# R36\n")
        .file("dev/nvhost-ctrl", "")
        .file("usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1.1", "")
        .file(
            "etc/nvidia-container-runtime/host-files-for-container.d/drivers.csv",
            "dev, /dev/nvhost-ctrl\nlib, /usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1.1\n\
             sym, /usr/lib/aarch64-linux-gnu/libcuda.so\ndev, /dev/not-there\n# a remark\n",
        );
    host.link(
        "usr/lib/aarch64-linux-gnu/libcuda.so",
        "tegra/libcuda.so.1.1",
    );
    let files = host.discover();
    assert_eq!(files.platform, Platform::Tegra);
    let specs = specs(&files);
    assert_eq!(problems(&specs[0]), []);
    let devices = specs[0].devices.iter();
    let names: Vec<&str> = devices.map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["0", "all"]);
    let nodes = &specs[0].devices[0].container_edits.device_nodes;
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0].path, "/dev/nvhost-ctrl");
    let hooks = &specs[0].container_edits.hooks;
    let link = "tegra/libcuda.so.1.1::/usr/lib/aarch64-linux-gnu/libcuda.so";
    assert!(hooks[0].args.iter().any(|arg| arg == link), "{hooks:?}");
}

fn specs(files: &DriverFiles) -> Vec<CdiSpec> {
    specs_of(&[], files)
}

fn specs_of(gpus: &[Gpu], files: &DriverFiles) -> Vec<CdiSpec> {
    let config = Config::default();
    let wanted = Wanted::of_plugin(&config);
    cdi_specs(gpus, files, &wanted, &SpecOptions::of_config(&config))
}

/// The specs of a host with one GPU.
fn specs_of_one_gpu() -> Vec<CdiSpec> {
    let host = Host::new();
    host.libraries("usr/lib64");
    specs_of(&gpus(1), &host.discover())
}

fn names(paths: &[PathBuf]) -> Vec<&str> {
    let names = paths.iter().filter_map(|path| path.file_name()?.to_str());
    names.collect()
}

const OURS: &str = "k8s.device-plugin.nvidia.com-gpu.json";

#[test]
fn specs_are_written_once_and_read_back_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("made/as/needed");
    let store = SpecStore::new(&place);
    let specs = specs_of_one_gpu();
    let outcome = store.keep(&specs).unwrap();
    assert_eq!(names(&outcome.written), [OURS]);
    assert_eq!(read_spec(&place.join(OURS)), Ok(specs[0].clone()));
    let mode = fs::metadata(place.join(OURS)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    let again = store.keep(&specs).unwrap();
    assert!(!again.changed(), "{again:?}");
    assert_eq!(names(&again.unchanged), [OURS]);
    assert!(read_catalog(&[place]).resolves("k8s.device-plugin.nvidia.com/gpu=0"));
}

#[test]
fn what_is_gone_is_removed_and_what_is_not_ours_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let store = SpecStore::new(directory.path());
    let mut specs = specs_of_one_gpu();
    let by_hand = CdiSpec {
        kind: "nvidia.com/gpu".to_owned(),
        ..specs[0].clone()
    };
    let foreign = directory.path().join("nvidia.com-gpu.json");
    fs::write(&foreign, "{}").unwrap();
    specs.push(by_hand.clone());
    let outcome = store.keep(&specs).unwrap();
    assert_eq!(outcome.foreign, std::slice::from_ref(&foreign));
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "{}");

    fs::remove_file(&foreign).unwrap();
    assert_eq!(
        names(&store.keep(&specs).unwrap().written),
        ["nvidia.com-gpu.json"]
    );
    let outcome = store.keep(&specs[..1]).unwrap();
    assert_eq!(outcome.removed, std::slice::from_ref(&foreign));
    fs::write(&foreign, "{}").unwrap();
    let outcome = store.keep(&[]).unwrap();
    assert_eq!(names(&outcome.removed), [OURS]);
    assert!(foreign.exists());
    let left = fs::read_dir(directory.path()).unwrap();
    assert_eq!(left.count(), 1, "nothing of ours is left");
}

#[test]
fn a_preview_tells_what_would_change() {
    let directory = tempfile::tempdir().unwrap();
    let store = SpecStore::new(directory.path());
    let specs = specs_of_one_gpu();
    let preview = store.preview(&specs);
    assert_eq!(preview[0].before, None);
    assert_eq!(preview[0].after.as_ref(), Some(&specs[0]));
    store.keep(&specs).unwrap();
    let preview = store.preview(&[]);
    assert_eq!(preview[0].before.as_ref(), Some(&specs[0]));
    assert_eq!(preview[0].after, None);
}

#[test]
fn broken_files_and_files_of_other_kinds_do_not_hide_the_rest() {
    let (low, high) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let yaml = "cdiVersion: 0.5.0\nkind: v.com/c\ndevices:\n- {name: \"0\", containerEdits: {env: [A=1]}}\n";
    fs::write(low.path().join("a.yaml"), yaml).unwrap();
    fs::write(low.path().join("notes.txt"), "x").unwrap();
    fs::write(high.path().join("broken.json"), "{").unwrap();
    let directories = [
        low.path().to_owned(),
        high.path().join("."),
        "/no/such/place".into(),
    ];
    let catalog = read_catalog(&directories);
    assert_eq!(catalog.files().len(), 2);
    assert!(catalog.resolves("v.com/c=0"));
    let broken = catalog.files()[1].spec.as_ref().unwrap_err();
    assert!(broken.contains("not YAML"), "{broken}");
}
