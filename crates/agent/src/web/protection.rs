//! Who may ask a server, and how: the web config file, which is read again when it has changed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{AUTHORIZATION, HeaderName, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use mizzen_core::config::{ClientAuth, Pem, RateLimit, WebConfig, WebConfigError};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::credentials::Credentials;
use super::{Answer, text, tls};
use crate::config_source::read_config_file;
use crate::mark::FileMark;

/// What guards a server. While its file cannot be used, nobody gets in.
#[derive(Debug)]
pub(crate) struct Protection {
    path: PathBuf,
    rules: AsyncMutex<Arc<Rules>>,
    credentials: Credentials,
    bucket: Mutex<Option<Bucket>>,
    /// What was said last of a file that cannot be used.
    complaint: Mutex<Option<String>>,
}

/// What the web config file and the files that it names said at one time.
pub(crate) struct Rules {
    config: WebConfig,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) headers: HeaderMap,
    /// The files as they were before they were read.
    marks: Vec<(PathBuf, Option<FileMark>)>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Protection {
    /// What a web config file asks for.
    ///
    /// # Errors
    /// Everything that is wrong with it, for people.
    pub(crate) async fn read(path: PathBuf) -> Result<Self, String> {
        let rules = read(path.clone()).await?;
        for remark in &rules.config.remarks {
            tracing::warn!(event = "web-config", "{}: {remark}", path.display());
        }
        Ok(Self {
            path,
            rules: AsyncMutex::new(Arc::new(rules)),
            credentials: Credentials::default(),
            bucket: Mutex::default(),
            complaint: Mutex::default(),
        })
    }

    /// Whether TLS is spoken, and whether users are asked for.
    pub(crate) async fn words(&self) -> &'static str {
        let rules = self.rules.lock().await;
        match (rules.tls.is_some(), rules.config.users.is_empty()) {
            (true, false) => "by TLS, to users who give their password",
            (true, true) => "by TLS",
            (false, false) => "to users who give their password",
            (false, true) => "to everybody",
        }
    }

    /// The rules for a connection that begins now; `None` if it must not.
    pub(super) async fn rules(&self) -> Option<Arc<Rules>> {
        let mut rules = self.rules.lock().await;
        if rules.are_of_now() {
            return Some(rules.clone());
        }
        match read(self.path.clone()).await {
            Ok(new) => {
                *rules = Arc::new(new);
                self.tell(None);
                Some(rules.clone())
            }
            Err(complaint) => {
                self.tell(Some(complaint));
                None
            }
        }
    }

    fn tell(&self, complaint: Option<String>) {
        let mut told = self
            .complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &complaint {
            Some(complaint) if told.as_ref() != Some(complaint) => tracing::error!(
                event = "web-config",
                "{complaint}\nnobody gets an answer until it can be used"
            ),
            None => tracing::info!(event = "web-config", "the web config file was read again"),
            Some(_) => {}
        }
        *told = complaint;
    }

    /// Why a client gets something else than the answer; `None` if it may have it.
    pub(super) async fn objection(&self, rules: &Rules, headers: &HeaderMap) -> Option<Answer> {
        if let Some(limit) = rules.config.rate_limit
            && !self.has_token(limit)
        {
            return Some(text(StatusCode::TOO_MANY_REQUESTS, "not so often\n"));
        }
        let users = &rules.config.users;
        let given = headers.get(AUTHORIZATION);
        if users.is_empty() || self.credentials.are_right(users, given).await {
            return None;
        }
        let mut refusal = text(StatusCode::UNAUTHORIZED, "who are you?\n");
        let scheme = HeaderValue::from_static("Basic");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        Some(refusal)
    }

    fn has_token(&self, limit: RateLimit) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let full = Bucket {
            tokens: f64::from(limit.burst.max(1)),
            at: now,
        };
        let bucket = bucket.get_or_insert(full);
        let gained = (now - bucket.at).as_secs_f64() / limit.interval.as_secs_f64();
        bucket.tokens = (bucket.tokens + gained).min(full.tokens);
        bucket.at = now;
        let has = bucket.tokens >= 1.0;
        if has {
            bucket.tokens -= 1.0;
        }
        has
    }
}

/// How many questions may come now.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rules {
    fn are_of_now(&self) -> bool {
        let is_same = |(path, mark): &(PathBuf, Option<FileMark>)| FileMark::of(path) == *mark;
        self.marks.iter().all(is_same)
    }

    fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let mut marks = vec![(path.to_owned(), FileMark::of(path))];
        let text = read_config_file(path)
            .map_err(|why| format!("the web config file cannot be used: {why}"))?;
        let dir = path.parent().unwrap_or(Path::new("/"));
        let config = WebConfig::parse(&text, dir).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(listed).collect();
            format!(
                "the web config file {name} cannot be used:{}",
                lines.concat()
            )
        })?;
        let mut tls = None;
        if let Some(wanted) = &config.tls {
            let authority = match &wanted.client_auth {
                ClientAuth::None => None,
                ClientAuth::IfGiven(pem) | ClientAuth::Required(pem) => Some(pem),
            };
            let pems = [&wanted.certificate, &wanted.key].into_iter();
            marks.extend(pems.chain(authority).filter_map(|pem| match pem {
                Pem::File(path) => Some((path.clone(), FileMark::of(path))),
                Pem::Text(_) => None,
            }));
            tls = Some(tls::acceptor(wanted).map_err(|why| {
                format!("the web config file {name} cannot be used: tls_server_config: {why}")
            })?);
        }
        let headers = config.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        });
        Ok(Self {
            tls,
            headers: headers.collect(),
            marks,
            config,
        })
    }
}

fn listed(error: &WebConfigError) -> String {
    format!("\n  {error}")
}

async fn read(path: PathBuf) -> Result<Rules, String> {
    let reading = spawn_blocking(move || Rules::read(&path)).await;
    reading.map_err(|error| error.to_string())?
}
