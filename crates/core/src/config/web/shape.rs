//! What may stand where in a web config file.

use std::time::Duration;

use crate::config::duration::parse_duration;
use crate::config::shape::{Form, Key, Shape};

/// Headers that may be added to answers.
pub(super) const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];

/// Suites of TLS 1.2 that can be had, by the names of Go. Those of TLS 1.3 cannot be chosen.
pub(super) const SUITES: [&str; 6] = [
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// Curves that can be had, by the names of Go.
pub(super) const CURVES: [&str; 3] = ["X25519", "CurveP256", "CurveP384"];

/// What stands for a password.
pub(super) const HASH: &str =
    "a bcrypt hash such as `htpasswd -nBC 10 \"\"` prints it, in quotes, with a cost of 18 at most";

/// More than that takes many seconds for each new client.
const HIGHEST_COST: u32 = 18;

/// Whether a text is a bcrypt hash that can be compared with in a moment.
pub(super) fn is_hash(text: &str) -> bool {
    let parts: Vec<&str> = text.split('$').collect();
    let ["", "2" | "2a" | "2b" | "2x" | "2y", cost, rest] = parts[..] else {
        return false;
    };
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/');
    let digits = cost.len() == 2 && cost.bytes().all(|byte| byte.is_ascii_digit());
    let cost = cost.parse().ok().filter(|_| digits);
    cost.is_some_and(|cost| (4..=HIGHEST_COST).contains(&cost))
        && rest.len() == 53
        && rest.bytes().all(is_letter)
}

/// A span of time, or `0`.
pub(super) fn interval(text: &str) -> Option<Duration> {
    match text {
        "0" => Some(Duration::ZERO),
        text => parse_duration(text).ok(),
    }
}

fn key(name: &'static str, shape: Shape) -> Key {
    Key {
        name,
        help: "",
        shape,
        required: false,
        own: false,
    }
}

fn form(expected: &'static str, check: fn(&str) -> Result<(), String>) -> Shape {
    Shape::Form(Form {
        expected,
        pattern: None,
        check,
    })
}

/// Whatever it is: nothing of it is ever shown.
fn text(expected: &'static str) -> Shape {
    form(expected, |_| Ok(()))
}

/// Nothing, for what would leave a door open that somebody believes to be shut.
fn refused() -> Shape {
    form("nothing", |_| {
        Err(
            "it is not supported here; use client_auth_type RequireAndVerifyClientCert with an \
             authority of its own"
                .to_owned(),
        )
    })
}

fn header(name: &'static str) -> Key {
    let shape = match name {
        "X-Frame-Options" => Shape::Word(&["deny", "sameorigin"]),
        "X-Content-Type-Options" => Shape::Word(&["nosniff"]),
        _ => form("the value of a header", |text| {
            let is_sane = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
            if text.bytes().all(is_sane) {
                Ok(())
            } else {
                Err("a header has letters of ASCII alone".to_owned())
            }
        }),
    };
    key(name, shape)
}

/// The shape of the file without its users.
pub(super) fn of_file() -> Shape {
    let http = vec![
        key("http2", Shape::Boolean),
        key("headers", Shape::Map(HEADERS.map(header).into())),
    ];
    let rate = vec![
        key(
            "interval",
            form("a span of time, such as 1s, or 0", |text| {
                interval(text).map(drop).ok_or_else(String::new)
            }),
        ),
        key(
            "burst",
            Shape::Integer {
                least: 0,
                most: u32::MAX,
            },
        ),
    ];
    Shape::Map(vec![
        key("tls_server_config", Shape::Map(tls())),
        key("http_server_config", Shape::Map(http)),
        key("rate_limit", Shape::Map(rate)),
        // Read before; here for the list of the keys that there are.
        key(super::USERS, Shape::Map(Vec::new())),
    ])
}

fn tls() -> Vec<Key> {
    let list = |item| Shape::List(Box::new(item));
    vec![
        key("cert_file", text("a path")),
        key("key_file", text("a path")),
        key("cert", text("a certificate in PEM")),
        key("key", text("a key in PEM")),
        key("client_ca_file", text("a path")),
        key("client_ca", text("certificates in PEM")),
        key(
            "client_auth_type",
            form("a policy for certificates of clients", client_auth_type),
        ),
        key("client_allowed_sans", list(refused())),
        key(
            "min_version",
            Shape::Word(&["TLS13", "TLS12", "TLS11", "TLS10"]),
        ),
        key(
            "max_version",
            form("TLS13 or TLS12", |text| match text {
                "TLS13" | "TLS12" => Ok(()),
                "TLS11" | "TLS10" => Err("nothing older than TLS 1.2 is spoken".to_owned()),
                _ => Err(String::new()),
            }),
        ),
        key("cipher_suites", list(text("a suite"))),
        key("curve_preferences", list(text("a curve"))),
        key("prefer_server_cipher_suites", Shape::Boolean),
    ]
}

fn client_auth_type(word: &str) -> Result<(), String> {
    match word {
        ""
        | "NoClientCert"
        | "RequestClientCert"
        | "VerifyClientCertIfGiven"
        | "RequireAndVerifyClientCert" => Ok(()),
        "RequireAnyClientCert" | "RequireClientCert" => Err(format!(
            "{word} lets everybody in who makes a certificate; use RequireAndVerifyClientCert"
        )),
        _ => Err(format!(
            "{word:?} is not valid: expected one of NoClientCert, VerifyClientCertIfGiven, \
             RequireAndVerifyClientCert"
        )),
    }
}
