//! Each hook on an ordinary container.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

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
    let expected = Some("/usr/local/cuda/compat\n".to_owned());
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
