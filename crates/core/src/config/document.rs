//! What a config file may say: every key with its help.

use super::duration::parse_duration;
use super::rules::FaultAction;
use super::sections;
use super::setting::{SETTINGS, Setting};
use super::shape::{Form, Key, Shape};
use super::sharing::{DEVICE_REF, DeviceRef, MOST_REPLICAS, ReplicaPlacement};
use super::types::{AllocationPolicy, words};
use crate::resource::ResourceName;

/// The shape of the whole file.
pub(super) fn shape() -> Shape {
    let mut keys = vec![
        key("version", "Version of the format", Shape::Word(&["v1"])),
        key(
            "flags",
            "What can be given as flags and in the environment too, which outrank the file",
            Shape::Map(vec![
                key(
                    "useNodeFeatureAPI",
                    "Read by NVIDIA's feature discovery",
                    Shape::Boolean,
                ),
                key("gfd", "Flags of mizzen labels", Shape::Map(Vec::new())),
            ]),
        ),
        key(
            "resources",
            "Names of resources by GPU model and MIG profile; the first pattern that matches counts",
            Shape::Map(vec![
                key(
                    "gpus",
                    "For whole GPUs, by product name; nvidia.com/gpu where no pattern matches",
                    naming(),
                ),
                key("mig", "For MIG devices, by profile", naming()),
            ]),
        ),
        key(
            "sharing",
            "Which GPUs are offered to several containers at once",
            Shape::Map(vec![
                key(
                    "timeSlicing",
                    "By time-slicing: no isolation of memory or faults",
                    shared(),
                ),
                key("mps", "By MPS, which outranks timeSlicing", shared()),
            ]),
        ),
    ];
    keys.push(own("health", "What faults mean for a GPU", health()));
    for row in SETTINGS {
        if let Some(path) = row.key {
            insert(&mut keys, path, row.setting);
        }
    }
    Shape::Map(keys)
}

/// Puts a setting's key among the others, below mappings that are made where they are missing.
fn insert(keys: &mut Vec<Key>, path: &'static str, setting: Setting) {
    let info = setting.info();
    let Some((head, rest)) = path.split_once('.') else {
        keys.push(Key {
            own: info.env.iter().all(|name| name.starts_with("MIZZEN_")),
            ..key(path, info.help, Shape::Setting(setting))
        });
        return;
    };
    if !keys.iter().any(|key| key.name == head) {
        let help = match head {
            "plugin" => "Flags of the device plugin",
            "imex" => "IMEX channels, which GPUs of several nodes share memory by",
            "gpus" => "Which GPUs are offered at all",
            "metrics" => "Metrics of the GPUs, where they are served",
            _ => "",
        };
        let new = key(head, help, Shape::Map(Vec::new()));
        keys.push(Key {
            own: matches!(head, "gpus" | "metrics"),
            ..new
        });
    }
    for key in keys.iter_mut().filter(|key| key.name == head) {
        if let Shape::Map(below) = &mut key.shape {
            insert(below, rest, setting);
        }
    }
}

fn key(name: &'static str, help: &'static str, shape: Shape) -> Key {
    Key {
        name,
        help,
        shape,
        required: false,
        own: false,
    }
}

fn own(name: &'static str, help: &'static str, shape: Shape) -> Key {
    Key {
        own: true,
        ..key(name, help, shape)
    }
}

fn required(name: &'static str, help: &'static str, shape: Shape) -> Key {
    Key {
        required: true,
        ..key(name, help, shape)
    }
}

fn list(item: Shape) -> Shape {
    Shape::List(Box::new(item))
}

const RESOURCE_NAME: Form = Form {
    expected: "the name of a resource, with or without nvidia.com/ before it",
    pattern: Some(
        r"^(nvidia\.com/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
    check: |text| {
        let name = text.parse::<ResourceName>();
        name.map(drop).map_err(|error| error.to_string())
    },
};

const PATTERN: Form = Form {
    expected: "a pattern in which * stands for any text",
    pattern: Some("^.+$"),
    check: |text| match text {
        "" => Err("an empty pattern matches nothing; * matches everything".to_owned()),
        _ => Ok(()),
    },
};

const DEVICE: Form = Form {
    expected: DEVICE_REF,
    pattern: Some("^([0-9]+(:[0-9]+)?|(GPU|MIG)-.+)$"),
    check: |text| {
        let device = text.parse::<DeviceRef>();
        device.map(drop).map_err(|error| error.to_string())
    },
};

const DURATION: Form = Form {
    expected: "numbers with units (ms, s, m, h), such as 10m",
    pattern: Some("^([0-9]+(ms|s|m|h))+$"),
    check: |text| match parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(()),
        Ok(_) => Err("a time of 0 holds nothing".to_owned()),
        Err(error) => Err(format!("{text:?} is not a time: {error}")),
    },
};

const HOLD_DOWN: Form = Form {
    check: |text| match parse_duration(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{text:?} is not a time: {error}")),
    },
    ..DURATION
};

const XIDS_EXPECTED: &str = "an Xid (79), a range (60-65), all or application";

const XIDS: Form = Form {
    expected: XIDS_EXPECTED,
    pattern: Some("^([0-9]+(-[0-9]+)?|all|application)$"),
    check: |text| {
        let valid = sections::parse_xids(text).is_some();
        valid
            .then_some(())
            .ok_or_else(|| format!("{text:?} names no Xids: expected {XIDS_EXPECTED}"))
    },
};

fn naming() -> Shape {
    list(Shape::Map(vec![
        required(
            "pattern",
            "Which models or profiles, * standing for any text",
            Shape::Form(PATTERN),
        ),
        required(
            "name",
            "The resource they are offered as",
            Shape::Form(RESOURCE_NAME),
        ),
    ]))
}

fn shared() -> Shape {
    Shape::Map(vec![
        key(
            "renameByDefault",
            "Offer shared devices as <name>.shared",
            Shape::Boolean,
        ),
        key(
            "failRequestsGreaterThanOne",
            "Refuse containers that ask for more than one replica: it gives them no larger share",
            Shape::Boolean,
        ),
        key(
            "resources",
            "Which devices are shared; the first entry that holds for a device counts",
            list(shared_resource()),
        ),
    ])
}

fn shared_resource() -> Shape {
    let devices = Shape::OneOf(vec![
        Shape::Word(&["all"]),
        Shape::Integer {
            least: 1,
            most: u32::MAX,
        },
        list(Shape::Form(DEVICE)),
    ]);
    Shape::Map(vec![
        required(
            "name",
            "The resource whose devices are shared",
            Shape::Form(RESOURCE_NAME),
        ),
        key(
            "rename",
            "The resource that the replicas are offered as",
            Shape::Form(RESOURCE_NAME),
        ),
        key(
            "devices",
            "Which of its devices: all, so many, or these",
            devices,
        ),
        required(
            "replicas",
            "How often each device is offered",
            Shape::Integer {
                least: 1,
                most: MOST_REPLICAS,
            },
        ),
        own(
            "failRequestsGreaterThanOne",
            "The same as one level up, for these devices alone",
            Shape::Boolean,
        ),
        own(
            "replicaPlacement",
            "Where the replicas that one container gets may lie",
            Shape::Word(const { &words::<ReplicaPlacement, 3>() }),
        ),
        own(
            "allocationPolicy",
            "Which replicas go first, where it is not as flags.plugin.sharedDevicesAllocationPolicy says",
            Shape::Word(const { &words::<AllocationPolicy, 6>() }),
        ),
    ])
}

fn action() -> Shape {
    Shape::Word(const { &words::<FaultAction, 3>() })
}

/// When how much is done about a kind of fault: what, and the keys that limit it.
fn fault_rule() -> Vec<Key> {
    vec![
        required("action", "What is done", action()),
        key(
            "count",
            "How many it takes",
            Shape::Integer {
                least: 1,
                most: 1_000_000,
            },
        ),
        key(
            "within",
            "Within which time they must come",
            Shape::Form(DURATION),
        ),
        key(
            "holdDown",
            "How long the GPU must be well afterwards to be healthy again",
            Shape::Form(HOLD_DOWN),
        ),
    ]
}

fn health() -> Shape {
    let rule = || Shape::OneOf(vec![action(), Shape::Map(fault_rule())]);
    let mut xid = vec![required(
        "xids",
        "For which Xids",
        Shape::OneOf(vec![Shape::Form(XIDS), list(Shape::Form(XIDS))]),
    )];
    xid.extend(fault_rule());
    let actions = sections::RECOVERY_ACTIONS
        .iter()
        .map(|(name, _)| key(name, "What the driver asks for", action()))
        .collect();
    Shape::Map(vec![
        key(
            "xids",
            "Rules for Xids; the first that names one counts, and the reference's defaults where none does",
            list(Shape::Map(xid)),
        ),
        key(
            "ecc",
            "Memory errors",
            Shape::Map(vec![
                key("doubleBit", "Uncorrectable ones", rule()),
                key("singleBit", "Corrected ones", rule()),
            ]),
        ),
        key(
            "rowRemap",
            "Remapping of faulty memory rows",
            Shape::Map(vec![
                key("failure", "It failed", rule()),
                key("pending", "It waits for a reset of the GPU", rule()),
            ]),
        ),
        key(
            "recoveryActions",
            "What the driver asks to be done to the GPU",
            Shape::Map(actions),
        ),
    ])
}
