//! Each hook on an ordinary container.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use mizzen_nvml_sim::library;

use crate::support::{Bundle, call, in_namespace, program};

#[test]
fn links_are_made_with_the_directories_above_them() {
    let bundle = Bundle::new();
    let arguments = [
        "create-symlinks",
        "--link",
        "libcuda.so.1::/usr/lib/libcuda.so",
        "--link=../card0::/dev/dri/by-path/pci-0000:01:00.0-card",
    ];
    bundle.carry_out(&arguments);
    bundle.carry_out(&arguments);
    let held = |path| fs::read_link(bundle.at(path)).unwrap();
    assert_eq!(held("usr/lib/libcuda.so"), Path::new("libcuda.so.1"));
    let card = held("dev/dri/by-path/pci-0000:01:00.0-card");
    assert_eq!(card, Path::new("../card0"));
}

#[test]
fn a_link_that_cannot_be_made_is_told_and_the_others_are_made() {
    let bundle = Bundle::new();
    bundle.write("lib/libcuda.so/x", "");
    let output = bundle.run(&[
        "hook",
        "create-symlinks",
        "--link",
        "a::/lib/libcuda.so",
        "--link",
        "a::/b",
    ]);
    assert_eq!(output.status.code(), Some(0));
    let told = String::from_utf8(output.stderr).unwrap();
    let expected = "mizzen-hook: create-symlinks: the link /lib/libcuda.so to a cannot be made: ";
    assert!(told.starts_with(expected), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(bundle.at("b").is_symlink());
}

#[test]
fn a_command_line_that_makes_no_sense_fails_and_anything_else_does_not() {
    let bundle = Bundle::new();
    for arguments in [
        &["create-symlinks", "--link", "a"][..],
        &["no-such-hook"],
        &[],
    ] {
        assert_eq!(
            bundle.run(arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    for state in [
        "",
        "{}",
        "no JSON",
        r#"{"bundle": "/nowhere"}"#,
        r#"{"root": "/"}"#,
    ] {
        let output = call(&["create-symlinks", "--link", "a::/b"], state);
        assert_eq!(output.status.code(), Some(0), "{state}");
        assert!(!output.stderr.is_empty(), "{state}");
    }
    assert!(!Path::new("/b").is_symlink());
}

#[test]
fn the_state_may_be_in_a_file_and_name_the_root_itself() {
    let bundle = Bundle::new();
    let state = bundle.path("state.json");
    let spec = format!("--container-spec={}", state.display());
    assert!(
        call(&["create-symlinks", "--link", "a::/one", &spec], "")
            .stderr
            .is_empty()
    );
    let state = format!(r#"{{"bundle": "/nowhere", "root": {:?}}}"#, bundle.root());
    assert!(
        call(&["create-symlinks", "--link", "a::/two"], &state)
            .stderr
            .is_empty()
    );
    assert!(bundle.at("one").is_symlink() && bundle.at("two").is_symlink());
}

#[test]
fn newer_libraries_of_the_image_are_preferred_to_the_drivers() {
    let configured = |version: &str, host: &str| {
        let bundle = Bundle::new();
        bundle.write(
            &format!("usr/local/cuda-12.6/compat/libcuda.so.{version}"),
            "",
        );
        symlink("cuda-12.6", bundle.at("usr/local/cuda")).unwrap();
        let host = format!("--host-driver-version={host}");
        bundle.carry_out(&["enable-cuda-compat", &host]);
        fs::read_to_string(bundle.at("etc/ld.so.conf.d/00-compat-mizzen.conf")).ok()
    };
    let expected = Some("# Written by mizzen-hook.\n/usr/local/cuda/compat\n".to_owned());
    assert_eq!(configured("560.28.03", "550.54.15"), expected);
    assert_eq!(configured("550.90.07", "550.54.15"), None);
    let none = Bundle::new();
    none.carry_out(&["enable-cuda-compat", "--host-driver-version=550.54.15"]);
    assert!(!none.at("etc").exists());
}

#[test]
fn the_list_of_musl_is_extended() {
    let bundle = Bundle::new();
    let linker = if cfg!(target_arch = "aarch64") {
        "aarch64"
    } else {
        "x86_64"
    };
    bundle.write(&format!("lib/ld-musl-{linker}.so.1"), "");
    bundle.write("usr/lib64/libcuda.so.1", "");
    bundle.carry_out(&["update-ldcache", "--folder", "/usr/lib64"]);
    bundle.carry_out(&["update-ldcache", "--folder", "/usr/lib64"]);
    let list = bundle.read(&format!("etc/ld-musl-{linker}.path"));
    assert_eq!(list, "/lib\n/usr/local/lib\n/usr/lib\n/usr/lib64\n");
    assert!(!bundle.at("etc/ld.so.cache").exists());
}

#[test]
fn a_container_whose_files_cannot_be_written_is_started_all_the_same() {
    let bundle = Bundle::new();
    bundle.write("opt/driver/libcuda.so.1", "");
    bundle.write("etc/ld.so.conf", "");
    let script = "mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"
        \"$2\" update-ldcache --folder /opt/driver < \"$3\"
        \"$2\" create-symlinks --link a::/b < \"$3\"";
    let state = bundle.path("state.json");
    let Some(output) = in_namespace(script, &[&bundle.root(), program(), &state]) else {
        return;
    };
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("Read-only file system"), "{told}");
    assert!(!bundle.at("etc/ld.so.cache").exists());
}

#[test]
fn folders_of_an_earlier_run_stay_configured() {
    let bundle = Bundle::new();
    bundle.write("opt/a/libcuda.so.1", "");
    bundle.write("opt/b/libcuda.so.1", "");
    bundle.write("opt/c/libcuda.so.1", "");
    let update = |folder| bundle.carry_out(&["update-ldcache", "--folder", folder]);
    let ours = "etc/ld.so.conf.d/00-mizzen.conf";
    update("/opt/a");
    update("/opt/b");
    update("/opt/a");
    assert_eq!(bundle.read(ours), "/opt/b\n/opt/a\n");
    // Of a file that an image has there, only the directories stay, and not every one.
    let many: Vec<String> = (0..2_000).map(|number| format!("/x{number}")).collect();
    bundle.write(
        ours,
        format!("# note\ninclude /*\n/opt/a\n/opt/a\n{}\n", many.join("\n")),
    );
    update("/opt/c");
    let text = bundle.read(ours);
    assert!(text.starts_with("/opt/c\n/opt/a\n/x0\n"), "{text}");
    assert!(text.lines().count() <= 64, "{text}");
}

/// What a runtime's configuration says of the devices that it makes itself.
const DEVICES: &str = r#"[
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
]"#;

#[test]
fn what_a_pod_mounted_is_not_written_to_but_the_runtimes_devices_are() {
    let bundle = Bundle::new();
    bundle.configure_mounts(DEVICES);
    bundle.write("lib/libcuda.so.1", "");
    fs::create_dir_all(bundle.path("volume/lib")).unwrap();
    fs::write(
        bundle.path("volume/lib/libnvidia-ml.so.550.1"),
        library::BYTES,
    )
    .unwrap();
    for place in ["data", "dev"] {
        fs::create_dir(bundle.at(place)).unwrap();
    }
    symlink("/data/lib", bundle.at("away")).unwrap();
    // As a driver's library is given to a container: one file, in a directory of the image.
    let script = "cd \"$1\"; mount --bind \"$2\" data; mount -t tmpfs tmpfs dev
        mount --bind \"$2/lib/libnvidia-ml.so.550.1\" lib/libcuda.so.1
        program=\"$3\"; state=\"$4\"; hook() { \"$program\" \"$@\" < \"$state\"; }
        hook create-symlinks --link a::/lib/libcuda.so --link a::/dev/dri/card
        hook update-ldcache --folder /data/lib --folder /lib
        hook create-symlinks --link a::/data/x --link a::/data/new/x --link a::/away/x
        readlink lib/libcuda.so dev/dri/card; ls etc; find data -mindepth 1 | sort
        umount dev; mount --bind \"$2\" dev
        hook create-symlinks --link a::/dev/x
        umount dev; mount --bind /dev dev
        hook create-symlinks --link a::/dev/mizzen-test/x; ls dev | grep mizzen && rm -r dev/mizzen-test || true
        umount dev; rmdir dev; ln -s data dev
        hook create-symlinks --link a::/dev/x; find data -mindepth 1 | sort";
    let volume = bundle.path("volume");
    let state = bundle.path("state.json");
    let arguments: [&Path; 4] = [&bundle.root(), &volume, program(), &state];
    let Some(output) = in_namespace(script, &arguments) else {
        return;
    };
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let held = "data/lib\ndata/lib/libnvidia-ml.so.550.1\n";
    let expected = format!("a\na\nld.so.cache\nld.so.conf\nld.so.conf.d\n{held}{held}");
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        expected,
        "{told}"
    );
    let refused = told.matches("it would be in what is mounted there").count();
    assert_eq!((refused, told.lines().count()), (6, 6), "{told}");
}

/// What is left of a tmpfs of the host's after the hooks have run in a container whose `/dev` the
/// script mounts from it: `host` is the tmpfs, `root` the container's root, whose `/etc` is `/dev`.
fn volume_at_devices(mounts: &str, mount: &str) -> Option<(String, String)> {
    let bundle = Bundle::new();
    bundle.configure_mounts(mounts);
    bundle.write("opt/driver/libnvidia-ml.so.550.1", library::BYTES);
    bundle.write("usr/local/cuda/compat/libcuda.so.560.28.03", "");
    fs::create_dir(bundle.at("dev")).unwrap();
    fs::create_dir(bundle.path("host")).unwrap();
    symlink("dev", bundle.at("etc")).unwrap();
    let script = format!(
        "root=\"$1\"; host=\"$2\"; program=\"$3\"; state=\"$4\"
        hook() {{ \"$program\" \"$@\" < \"$state\"; }}
        mount -t tmpfs tmpfs \"$host\"; mkdir -p \"$host/sub\"
        for dir in \"$host\" \"$host/sub\"; do echo host > \"$dir/ld.so.cache\"; done
        mount --bind \"$root\" \"$root\"
        {mount}
        hook enable-cuda-compat --host-driver-version=550.54.15
        hook update-ldcache --folder /opt/driver
        hook create-symlinks --link a::/dev/x --link a::/dev/new/x --link a::/etc/ld.so.cache
        cd \"$host\"; find . -mindepth 1 | sort; cat ld.so.cache sub/ld.so.cache"
    );
    let state = bundle.path("state.json");
    let host = bundle.path("host");
    let output = in_namespace(&script, &[&bundle.root(), &host, program(), &state])?;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    Some((String::from_utf8(output.stdout).unwrap(), told))
}

#[test]
fn a_tmpfs_of_the_hosts_that_a_pod_mounted_at_its_devices_is_not_written_to() {
    let bound = |options: &str| {
        format!(
            r#"[{{"destination": "/dev/", "type": "bind", "source": "/x", "options": {options}}}]"#
        )
    };
    let twice = DEVICES.replace("/proc", "/dev/.").replace("proc", "bind");
    let typed = DEVICES.replace(r#""nosuid""#, r#""rbind""#);
    for (mounts, mount) in [
        // As the configuration says, of a directory of the tmpfs and of all of it.
        (bound("[]"), "mount --bind \"$host/sub\" \"$root/dev\""),
        (
            bound(r#"["rbind"]"#),
            "mount --rbind \"$host\" \"$root/dev\"",
        ),
        (twice, "mount --bind \"$host\" \"$root/dev\""),
        (typed, "mount --bind \"$host\" \"$root/dev\""),
        ("[]".to_owned(), "mount --bind \"$host\" \"$root/dev\""),
        // Over the runtime's, where a link of the image's has led the runtime.
        (
            DEVICES.to_owned(),
            "mount -t tmpfs tmpfs \"$root/dev\"; mount --bind \"$host/sub\" \"$root/dev\"",
        ),
        (
            DEVICES.to_owned(),
            "mount -t tmpfs tmpfs \"$root/dev\"; mount --bind \"$host\" \"$root/dev\"",
        ),
    ] {
        let Some((left, told)) = volume_at_devices(&mounts, mount) else {
            return;
        };
        let expected = "./ld.so.cache\n./sub\n./sub/ld.so.cache\nhost\nhost\n";
        assert_eq!(left, expected, "{mounts} {mount}: {told}");
        assert!(
            told.contains("it would be in what is mounted there"),
            "{told}"
        );
    }
}

#[test]
fn only_links_are_made_among_the_runtimes_devices() {
    let mount = "mount -t tmpfs tmpfs \"$root/dev\"; trap 'find \"$root/dev\" -mindepth 1 -printf \"%P\\n\" | sort' EXIT";
    let Some((left, told)) = volume_at_devices(DEVICES, mount) else {
        return;
    };
    assert!(
        left.ends_with("host\nhost\nld.so.cache\nnew\nnew/x\nx\n"),
        "{left} {told}"
    );
    assert!(
        told.contains("enable-cuda-compat: ") && told.contains("update-ldcache: "),
        "{told}"
    );
    assert!(!told.contains("create-symlinks: "), "{told}");
}

#[test]
fn the_drivers_parameters_forbid_device_nodes_and_cannot_be_changed() {
    let bundle = Bundle::new();
    // The same path on the host and in the container.
    let params = bundle.path("params");
    let inside = bundle.at(params.to_str().unwrap());
    let text = "Mobile: 4294967295\nModifyDeviceFiles: 1\nDeviceFileMode: 438\n";
    fs::write(&params, text).unwrap();
    fs::create_dir_all(inside.parent().unwrap()).unwrap();
    fs::write(&inside, text).unwrap();
    fs::write(inside.with_file_name("version"), "550").unwrap();
    let script = "\"$1\" disable-device-node-modification --params \"$2\" < \"$4\"
        cat \"$3\"; ls \"$(dirname \"$3\")\"; ! echo x 2> /dev/null > \"$3\"";
    let state = bundle.path("state.json");
    let Some(output) = in_namespace(script, &[program(), &params, &inside, &state]) else {
        return;
    };
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.is_empty(), "{told}");
    let expected = text.replace("Files: 1", "Files: 0") + "params\nversion\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert_eq!(
        fs::read_to_string(&inside).unwrap(),
        text,
        "elsewhere it is as it was"
    );
}

#[test]
fn parameters_that_lead_out_of_the_container_are_not_mounted_over() {
    let bundle = Bundle::new();
    let params = bundle.path("params");
    let text = "ModifyDeviceFiles: 1\n";
    fs::write(&params, text).unwrap();
    let inside = bundle.at(params.to_str().unwrap());
    fs::create_dir_all(inside.parent().unwrap()).unwrap();
    for target in [
        params.as_path(),
        Path::new("/proc/self/fd/0"),
        Path::new("../../../../../x"),
    ] {
        symlink(target, &inside).unwrap();
        let script = "\"$1\" disable-device-node-modification --params \"$2\" < \"$3\"
            cat \"$2\"; ! grep /params /proc/self/mountinfo";
        let state = bundle.path("state.json");
        let Some(output) = in_namespace(script, &[program(), &params, &state]) else {
            return;
        };
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{told}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        fs::remove_file(&inside).unwrap();
    }
}
