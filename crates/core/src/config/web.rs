//! The web config file of Prometheus' exporters: TLS, basic authentication, headers and a limit of
//! the rate of questions.
//!
//! Format: `docs/web-configuration.md` of `prometheus/exporter-toolkit`. It is read as strictly as
//! there, case of letters included: a server whose protection was misunderstood must stay closed.

mod shape;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{ConfigError, Location};
use super::shape::{Findings, check};
use super::tree::{self, Node, Value};

/// What a web config file says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WebConfig {
    /// How to speak TLS; without it the server speaks plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Headers of every answer.
    pub headers: Vec<(&'static str, String)>,
    /// Who may ask: names and bcrypt hashes of passwords. Everybody, where there is nobody.
    pub users: BTreeMap<String, Secret>,
    /// How often somebody may ask.
    pub rate_limit: Option<RateLimit>,
    /// What is valid and does not do here what somebody may expect.
    pub remarks: Vec<String>,
}

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Secret(String);

impl Secret {
    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// PEM, or the file it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// A file; what is relative begins at the directory of the web config file.
    File(PathBuf),
    /// The text itself.
    Text(Secret),
}

/// How a server speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// Its certificate and those above it.
    pub certificate: Pem,
    /// The certificate's private key.
    pub key: Pem,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// The oldest version that is spoken.
    pub least: TlsVersion,
    /// The newest version that is spoken.
    pub most: TlsVersion,
    /// The suites of TLS 1.2, in the order of preference; all where there is none.
    pub suites: Vec<String>,
    /// The curves of the key exchange, in the order of preference; all where there is none.
    pub curves: Vec<String>,
    /// Whether the server's order of suites counts, and not the client's.
    pub server_chooses: bool,
}

/// What a server asks of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    None,
    /// A certificate of this authority, if they have one.
    IfGiven(Pem),
    /// A certificate of this authority.
    Required(Pem),
}

/// A version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// How often questions may come: a bucket of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// After how long another one may come.
    pub interval: Duration,
    /// How many may come at once.
    pub burst: u32,
}

/// What is wrong with a web config file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", place(.location.as_ref()))]
pub struct WebConfigError {
    /// Where.
    pub location: Option<Location>,
    /// What, and what would be right.
    pub message: String,
}

fn place(location: Option<&Location>) -> String {
    location.map_or_else(String::new, |at| {
        format!("line {} column {}: ", at.line, at.column)
    })
}

impl WebConfig {
    /// Reads the text of a file that is in the directory `dir`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, dir: &Path) -> Result<Self, Vec<WebConfigError>> {
        let mut document = tree::read(text);
        let mut reader = Reader {
            dir,
            errors: document.errors.drain(..).map(known).collect(),
            config: Self::default(),
        };
        if let Some(location) = document.second {
            reader.refuse(
                location,
                "there is a second document, which nobody would read",
            );
        }
        reader.users(&mut document.root);
        let mut findings = Findings::default();
        check(&mut document.root, &shape::of_file(), "", &mut findings);
        reader.errors.extend(findings.errors.into_iter().map(known));
        for (key, location) in findings.miscased {
            reader.refuse(location, &format!("the key is written {key}"));
        }
        reader.read(&document.root);
        if reader.errors.is_empty() {
            Ok(reader.config)
        } else {
            Err(reader.errors)
        }
    }
}

fn known(error: ConfigError) -> WebConfigError {
    let location = error.location();
    match error {
        ConfigError::File { message, .. } => WebConfigError { location, message },
        other => WebConfigError {
            location,
            message: other.to_string(),
        },
    }
}

/// The key of the users, which are no fixed set of keys.
const USERS: &str = "basic_auth_users";

struct Reader<'a> {
    dir: &'a Path,
    errors: Vec<WebConfigError>,
    config: WebConfig,
}

impl Reader<'_> {
    fn refuse(&mut self, location: Location, message: &str) {
        self.errors.push(WebConfigError {
            location: Some(location),
            message: message.to_owned(),
        });
    }

    fn remark(&mut self, text: impl Into<String>) {
        self.config.remarks.push(text.into());
    }

    /// Takes the users out of the tree.
    fn users(&mut self, root: &mut Node) {
        let Value::Map(entries) = &mut root.value else {
            return;
        };
        let Some(at) = entries.iter().position(|entry| entry.key == USERS) else {
            return;
        };
        let node = entries.remove(at).node;
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            let message = format!("{USERS}: expected names and hashes, not {}", node.kind());
            self.refuse(node.location, &message);
        }
        for entry in node.entries() {
            if let Some(hash) = entry.node.text().filter(|text| shape::is_hash(text)) {
                let hash = Secret(hash.to_owned());
                self.config.users.insert(entry.key.clone(), hash);
            } else {
                let name = &entry.key;
                let message = format!("{USERS}.{name}: expected {}", shape::HASH);
                self.refuse(entry.node.location, &message);
            }
        }
    }

    fn read(&mut self, root: &Node) {
        if let Some(node) = root.get("tls_server_config") {
            self.config.tls = self.tls(node);
        }
        if let Some(node) = root.get("http_server_config") {
            let headers = node.get("headers");
            for name in shape::HEADERS {
                let value = headers.and_then(|headers| headers.get(name)?.text());
                if let Some(value) = value.filter(|value| !value.is_empty()) {
                    self.config.headers.push((name, value.to_owned()));
                }
            }
        }
        if let Some(node) = root.get("rate_limit") {
            self.config.rate_limit = rate_limit(node);
        }
    }

    fn tls(&mut self, node: &Node) -> Option<TlsConfig> {
        let certificate = self.pem(node, "cert", "cert_file");
        let key = self.pem(node, "key", "key_file");
        let client_ca = self.pem(node, "client_ca", "client_ca_file");
        let auth = node.get("client_auth_type");
        if certificate.is_none() && key.is_none() && client_ca.is_none() && auth.is_none() {
            // As in the toolkit: versions and suites alone turn nothing on.
            return None;
        }
        for (found, names) in [
            (&certificate, "cert_file or cert"),
            (&key, "key_file or key"),
        ] {
            if found.is_none() {
                let message = format!("tls_server_config: {names} is missing");
                self.refuse(node.location, &message);
            }
        }
        let client_auth = self.client_auth(node, client_ca);
        let (least, most) = self.versions(node);
        let suites = self.words(node, "cipher_suites", &shape::SUITES);
        let curves = self.words(node, "curve_preferences", &shape::CURVES);
        let chooses = node.get("prefer_server_cipher_suites").and_then(Node::text);
        Some(TlsConfig {
            certificate: certificate?,
            key: key?,
            client_auth,
            least,
            most,
            suites,
            curves,
            server_chooses: chooses.is_none_or(|text| text == "true"),
        })
    }

    /// What two keys say of one thing.
    fn pem(&mut self, node: &Node, text: &str, file: &str) -> Option<Pem> {
        let of = |key: &str| {
            let found = node.get(key)?.text()?;
            (!found.is_empty()).then(|| found.to_owned())
        };
        let (inline, path) = (of(text), of(file));
        if inline.is_some() && path.is_some() {
            let message = format!("tls_server_config: {text} and {file} are given both");
            self.refuse(node.location, &message);
        }
        match path {
            Some(path) => Some(Pem::File(self.dir.join(path))),
            None => inline.map(|text| Pem::Text(Secret(text))),
        }
    }

    fn client_auth(&mut self, node: &Node, authority: Option<Pem>) -> ClientAuth {
        let word = node.get("client_auth_type").and_then(Node::text);
        let required = match word {
            None | Some("" | "NoClientCert") => {
                if authority.is_some() {
                    self.refuse(
                        node.location,
                        "tls_server_config: client_ca_file does nothing without a client_auth_type",
                    );
                }
                return ClientAuth::None;
            }
            Some("RequestClientCert") => {
                self.remark(
                    "client_auth_type RequestClientCert asks for certificates that nobody checks: \
                     none is asked for",
                );
                return ClientAuth::None;
            }
            word => word == Some("RequireAndVerifyClientCert"),
        };
        match authority {
            Some(pem) if required => ClientAuth::Required(pem),
            Some(pem) => ClientAuth::IfGiven(pem),
            None => {
                self.refuse(
                    node.location,
                    "tls_server_config: certificates of clients cannot be checked without \
                     client_ca_file or client_ca",
                );
                ClientAuth::None
            }
        }
    }

    fn versions(&mut self, node: &Node) -> (TlsVersion, TlsVersion) {
        let word = |key: &str| node.get(key).and_then(Node::text);
        let least = match word("min_version") {
            Some("TLS13") => TlsVersion::Tls13,
            Some("TLS10" | "TLS11") => {
                self.remark("min_version: nothing older than TLS 1.2 is spoken");
                TlsVersion::Tls12
            }
            _ => TlsVersion::Tls12,
        };
        let most = match word("max_version") {
            Some("TLS12") => TlsVersion::Tls12,
            _ => TlsVersion::Tls13,
        };
        if least > most {
            self.refuse(
                node.location,
                "tls_server_config: min_version is newer than max_version",
            );
        }
        (least, most)
    }

    /// The words of a list that are known here; those that others know are remarked on.
    fn words(&mut self, node: &Node, key: &str, known: &[&str]) -> Vec<String> {
        let Some(list) = node.get(key) else {
            return Vec::new();
        };
        let texts: Vec<&str> = list.items().iter().filter_map(Node::text).collect();
        let (ours, others): (Vec<&str>, Vec<&str>) =
            texts.iter().partition(|text| known.contains(text));
        if ours.is_empty() && !others.is_empty() {
            let message = format!(
                "{key}: none of these is known; known are {}",
                known.join(", ")
            );
            self.refuse(list.location, &message);
        } else if !others.is_empty() {
            self.remark(format!("{key}: {} cannot be had here", others.join(", ")));
        }
        ours.into_iter().map(str::to_owned).collect()
    }
}

fn rate_limit(node: &Node) -> Option<RateLimit> {
    let text = |key: &str| node.get(key).and_then(Node::text);
    let interval = text("interval").and_then(shape::interval)?;
    let burst = text("burst").and_then(|text| text.parse().ok());
    (!interval.is_zero()).then(|| RateLimit {
        interval,
        burst: burst.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests;
