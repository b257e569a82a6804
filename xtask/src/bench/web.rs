//! The agent's page, asked for as Prometheus does.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// As long as Prometheus waits, if nobody says how long.
const PATIENCE: Duration = Duration::from_secs(10);
const USER: &str = "prometheus";
const PASSWORD: &str = "a password";
/// What `htpasswd -nBC 10` makes.
const BCRYPT_COST: u32 = 10;

/// An address of this machine that nobody listens on now.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A certificate for this machine's loopback address, and its key, in PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    key: String,
}

impl Identity {
    pub(super) fn new() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
        Ok(Self {
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        })
    }

    /// How a server shows it.
    pub(super) fn server(&self) -> Result<ServerConfig> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())?;
        Ok(ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?)
    }

    /// A client that trusts it. Each connection is a handshake in full, as Prometheus makes them.
    fn client(&self) -> Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes())?)?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// TLS and a password in front of a page.
pub(super) struct Guard {
    connector: TlsConnector,
    authorization: String,
}

impl Guard {
    /// Writes a web config file into `dir`, and says where it is.
    pub(super) fn write(dir: &Path) -> Result<(Self, PathBuf)> {
        fs::create_dir_all(dir)?;
        let identity = Identity::new()?;
        fs::write(dir.join("tls.crt"), &identity.certificate)?;
        fs::write(dir.join("tls.key"), &identity.key)?;
        let hash = bcrypt::hash(PASSWORD, BCRYPT_COST)?;
        let file = dir.join("web.yaml");
        let text = format!(
            "tls_server_config: {{cert_file: tls.crt, key_file: tls.key}}\n\
             basic_auth_users: {{{USER}: \"{hash}\"}}\n"
        );
        fs::write(&file, text)?;
        let guard = Self {
            connector: TlsConnector::from(Arc::new(identity.client()?)),
            authorization: BASE64.encode(format!("{USER}:{PASSWORD}")),
        };
        Ok((guard, file))
    }
}

/// Who scrapes.
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) guard: Option<Guard>,
}

impl Client {
    /// A page, and how long it took from before the connection to its last byte.
    ///
    /// # Errors
    /// There is none within a scrape's time, or not all of it.
    pub(super) async fn scrape(&self) -> Result<(Duration, Page)> {
        let start = Instant::now();
        let answer = timeout(PATIENCE, self.answer()).await;
        let answer = answer.context("the page does not come")??;
        let taken = start.elapsed();
        Ok((taken, Page::read(&answer)?))
    }

    async fn answer(&self) -> Result<String> {
        let stream = TcpStream::connect(self.address).await?;
        let question = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nAccept: text/plain;version=0.0.4\r\n",
            self.address
        );
        let Some(guard) = &self.guard else {
            return ask(stream, question).await;
        };
        let question = format!("{question}Authorization: Basic {}\r\n", guard.authorization);
        let name = ServerName::IpAddress(IpAddr::from([127, 0, 0, 1]).into());
        let stream = guard.connector.connect(name, stream).await?;
        ask(stream, question).await
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, question: String) -> Result<String> {
    stream.write_all((question + "\r\n").as_bytes()).await?;
    stream.flush().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// A page of metrics.
#[derive(Debug)]
pub(super) struct Page(String);

impl Page {
    fn read(answer: &str) -> Result<Self> {
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "not a page: {head}");
        let mut lines = head.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("a page without a length")?.parse()?;
        ensure!(
            body.len() == length,
            "{} bytes of {length} came",
            body.len()
        );
        Ok(Self(body.to_owned()))
    }

    /// Its length.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// How many series it has.
    pub(super) fn count(&self) -> usize {
        self.0.lines().filter(|line| !line.starts_with('#')).count()
    }

    /// The series of a metric: labels and value.
    pub(super) fn series<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let lines = self.0.lines();
        lines.filter_map(move |line| {
            let rest = line.strip_prefix(metric)?.strip_prefix('{')?;
            let (labels, value) = rest.rsplit_once("} ")?;
            Some((labels, value.parse().ok()?))
        })
    }

    /// That a metric has so many series whose labels have this in them.
    ///
    /// # Errors
    /// It has more or fewer.
    pub(super) fn has(&self, metric: &str, label: &str, wanted: usize) -> Result<()> {
        let series = self.series(metric);
        let found = series.filter(|(labels, _)| labels.contains(label)).count();
        ensure!(
            found == wanted,
            "{found} series of {metric} with {label:?} where {wanted} should be"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(body: &str) -> Page {
        let length = body.len();
        Page::read(&format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
        .unwrap()
    }

    #[test]
    fn series_are_told_by_their_whole_name_and_their_labels() {
        let page =
            page("# TYPE up gauge\nup{gpu=\"0\"} 1\nup{gpu=\"1\"} 0\nup_time{gpu=\"0\"} 5\n");
        let series: Vec<_> = page.series("up").collect();
        assert_eq!(series, [("gpu=\"0\"", 1.0), ("gpu=\"1\"", 0.0)]);
        assert_eq!(page.count(), 3);
        page.has("up", "gpu=\"1\"", 1).unwrap();
        page.has("up", "", 3).unwrap_err();
    }

    #[test]
    fn what_is_not_all_of_a_page_is_none() {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nup 1\n",
            "HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n",
        ] {
            Page::read(answer).unwrap_err();
        }
    }
}
