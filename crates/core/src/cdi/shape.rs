//! The shape of a spec file, for mistakes that know their place.

use crate::config::{Form, Key, Shape};

use super::name::CdiKind;
use super::version::CdiVersion;

/// The shape of the whole file.
pub(super) fn of_file() -> Shape {
    Shape::Map(vec![
        required("cdiVersion", "the version of the format", form(VERSION)),
        required("kind", "the kind of the devices, vendor/class", form(KIND)),
        optional(
            "annotations",
            "remarks for programs",
            Shape::Map(Vec::new()),
        ),
        required("devices", "the devices", list(of_device())),
        optional(
            "containerEdits",
            "what every container with any of the devices gets",
            of_edits(),
        ),
    ])
}

const VERSION: Form = Form {
    expected: "a version of the CDI format such as 0.5.0",
    pattern: None,
    check: |text| match text.parse::<CdiVersion>() {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    },
};

const KIND: Form = Form {
    expected: "a kind such as nvidia.com/gpu",
    pattern: None,
    check: |text| match text.parse::<CdiKind>() {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    },
};

const TEXT: Form = Form {
    expected: "a text",
    pattern: None,
    check: |_| Ok(()),
};

/// Something that begins with a slash, for what runtimes do not look for anywhere.
const PATH: Form = Form {
    expected: "an absolute path",
    pattern: None,
    check: |text| {
        let absolute = text.starts_with('/');
        absolute.then_some(()).ok_or_else(String::new)
    },
};

fn form(form: Form) -> Shape {
    Shape::Form(form)
}

fn list(item: Shape) -> Shape {
    Shape::List(Box::new(item))
}

fn number() -> Shape {
    Shape::Integer {
        least: 0,
        most: u32::MAX,
    }
}

fn key(name: &'static str, help: &'static str, shape: Shape, required: bool) -> Key {
    Key {
        name,
        help,
        shape,
        required,
        own: false,
    }
}

fn required(name: &'static str, help: &'static str, shape: Shape) -> Key {
    key(name, help, shape, true)
}

fn optional(name: &'static str, help: &'static str, shape: Shape) -> Key {
    key(name, help, shape, false)
}

fn of_device() -> Shape {
    Shape::Map(vec![
        required("name", "the name of the device", form(TEXT)),
        optional(
            "annotations",
            "remarks for programs",
            Shape::Map(Vec::new()),
        ),
        required(
            "containerEdits",
            "what a container gets with the device",
            of_edits(),
        ),
    ])
}

fn of_edits() -> Shape {
    Shape::Map(vec![
        optional("env", "environment variables", list(form(TEXT))),
        optional("deviceNodes", "device nodes", list(of_node())),
        optional("netDevices", "network interfaces", list(of_net_device())),
        optional("hooks", "programs of the host", list(of_hook())),
        optional("mounts", "files of the host", list(of_mount())),
        optional("intelRdt", "shares of caches and bandwidth", of_rdt()),
        optional("additionalGids", "groups of the process", list(number())),
    ])
}

fn of_node() -> Shape {
    Shape::Map(vec![
        required("path", "the path in the container", form(PATH)),
        optional("hostPath", "the path on the host", form(PATH)),
        optional(
            "type",
            "the type of the node",
            Shape::Word(&["c", "b", "u", "p"]),
        ),
        optional("major", "the major number", number()),
        optional("minor", "the minor number", number()),
        optional("fileMode", "the permission bits", number()),
        optional("permissions", "what may be done with it", form(TEXT)),
        optional("uid", "the owner", number()),
        optional("gid", "the group", number()),
    ])
}

fn of_net_device() -> Shape {
    Shape::Map(vec![
        required("hostInterfaceName", "the name on the host", form(TEXT)),
        required("name", "the name in the container", form(TEXT)),
    ])
}

/// The stages at which a hook may run.
pub(super) const HOOK_NAMES: &[&str] = &[
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

fn of_hook() -> Shape {
    Shape::Map(vec![
        required("hookName", "when it runs", Shape::Word(HOOK_NAMES)),
        required("path", "the program", form(PATH)),
        optional("args", "its arguments", list(form(TEXT))),
        optional("env", "its environment", list(form(TEXT))),
        optional("timeout", "the seconds that it may take", number()),
    ])
}

fn of_mount() -> Shape {
    Shape::Map(vec![
        required("hostPath", "the path on the host", form(TEXT)),
        required("containerPath", "the path in the container", form(PATH)),
        optional("options", "options of the mount", list(form(TEXT))),
        optional("type", "the type of the file system", form(TEXT)),
    ])
}

fn of_rdt() -> Shape {
    Shape::Map(vec![
        optional("closID", "the class of service", form(TEXT)),
        optional("l3CacheSchema", "the schema of the L3 cache", form(TEXT)),
        optional("memBwSchema", "the schema of the bandwidth", form(TEXT)),
        optional("schemata", "schemas", list(form(TEXT))),
        optional("enableMonitoring", "whether it is measured", Shape::Boolean),
    ])
}
