//! The JSON Schema of the config file, made from the shape that the agent checks the file by.
//! The agent takes a little more than the schema, keys in letters of another case and YAML 1.1's
//! spellings of `true` and `false`, and refuses a little more: what is wrong only together, and
//! texts whose form no regular expression says.

use mizzen_core::config::{Form, Key, Kind, Setting, Shape};
use serde_json::{Map, Value, json};

/// The schema's name, which leads nowhere.
const ID: &str = "urn:mizzen:config:v1";

/// The schema of the whole file.
pub(super) fn of_file() -> Value {
    let mut schema = of_shape(&Shape::of_file());
    for (key, value) in [
        ("$schema", "https://json-schema.org/draft/2020-12/schema"),
        ("$id", ID),
        ("title", "Mizzen's config file"),
        (
            "description",
            "The config file of mizzen agent (--config-file): the format of NVIDIA's \
             k8s-device-plugin, version v1, and Mizzen's additions. Explained in docs/config.md.",
        ),
    ] {
        schema.insert(key.to_owned(), value.into());
    }
    Value::Object(schema)
}

/// What of a key's setting holds where the key is not there; nothing for keys that are no
/// setting of their own.
pub(super) fn default_of(shape: &Shape, path: &str) -> Option<&'static str> {
    match shape {
        Shape::Setting(setting) if setting.info().key == Some(path) => Some(setting.info().default),
        _ => None,
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn of_shape(shape: &Shape) -> Map<String, Value> {
    of_shape_at(shape, "")
}

fn of_shape_at(shape: &Shape, path: &str) -> Map<String, Value> {
    object(match shape {
        Shape::Setting(setting) => return of_setting(*setting),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Integer { least, most } => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Shape::Word([word]) => json!({"const": word}),
        Shape::Word(words) => json!({"enum": words}),
        Shape::Form(form) => return of_form(form),
        Shape::OneOf(shapes) => {
            let each: Vec<_> = shapes
                .iter()
                .map(|shape| of_shape_at(shape, path))
                .collect();
            json!({"anyOf": each})
        }
        // A key whose value is left out, or commented out, says nothing: YAML's null.
        Shape::List(item) => {
            json!({"type": ["array", "null"], "items": of_shape_at(item, path)})
        }
        Shape::Map(keys) => return of_keys(keys, path),
    })
}

fn of_keys(keys: &[Key], path: &str) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in keys {
        let path = if path.is_empty() {
            key.name.to_owned()
        } else {
            format!("{path}.{}", key.name)
        };
        let mut schema = of_shape_at(&key.shape, &path);
        schema.insert("description".to_owned(), described(key, &path).into());
        properties.insert(key.name.to_owned(), schema.into());
    }
    let required: Vec<_> = keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    let kind = if required.is_empty() {
        json!(["object", "null"])
    } else {
        json!("object")
    };
    let mut schema = object(json!({
        "type": kind,
        "properties": properties,
        "additionalProperties": false,
    }));
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    schema
}

/// What a key does, what holds without it, and whether only Mizzen knows it.
fn described(key: &Key, path: &str) -> String {
    let default = default_of(&key.shape, path)
        .map_or_else(String::new, |default| format!(" Default: {default}."));
    let own = if key.own {
        " Mizzen's own: NVIDIA's device plugin passes it over."
    } else {
        ""
    };
    format!("{}.{default}{own}", key.help)
}

fn of_setting(setting: Setting) -> Map<String, Value> {
    let kind = setting.info().kind;
    object(match kind {
        Kind::Boolean => json!({"type": "boolean"}),
        Kind::Choice(words) => json!({"enum": words}),
        Kind::Text | Kind::Path => json!({"type": "string"}),
        // As the agent reads it: 0 needs no unit.
        Kind::Interval => {
            json!({"type": "string", "pattern": "^(infinite|0|([0-9]+(ms|s|m|h))+)$"})
        }
        Kind::Milliseconds => {
            let text = json!({"type": "string", "pattern": "^([0-9]+|([0-9]+(ms|s|m|h))+)$"});
            json!({"anyOf": [{"type": "integer", "minimum": 0}, text]})
        }
        Kind::Duration => json!({"type": "string", "pattern": "^(0|([0-9]+(ms|s|m|h))+)$"}),
        Kind::Address => json!({"type": "string", "pattern": "^(.*:[0-9]{1,5})?$"}),
        Kind::List([]) => {
            let item = json!({"type": ["string", "integer"]});
            json!({"anyOf": [item.clone(), {"type": ["array", "null"], "items": item}]})
        }
        Kind::List(words) => {
            let item = json!({"enum": with_numbers(words)});
            json!({"anyOf": [item.clone(), {"type": ["array", "null"], "items": item}]})
        }
    })
}

/// The words, and those that are numbers as numbers too, as YAML writes them.
fn with_numbers(words: &[&str]) -> Vec<Value> {
    let numbers = words.iter().filter_map(|word| word.parse::<u64>().ok());
    let words = words.iter().map(|word| Value::from(*word));
    words.chain(numbers.map(Value::from)).collect()
}

/// A text of a form, or a number where digits alone have the form.
fn of_form(form: &Form) -> Map<String, Value> {
    let takes = |text: &str| (form.check)(text).is_ok();
    let mut schema = object(json!({"type": "string"}));
    if takes("1") {
        schema.insert("type".to_owned(), json!(["string", "integer"]));
        schema.insert("minimum".to_owned(), u32::from(!takes("0")).into());
    }
    if let Some(pattern) = form.pattern {
        schema.insert("pattern".to_owned(), pattern.into());
    }
    schema
}
