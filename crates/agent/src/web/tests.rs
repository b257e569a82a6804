//! The server over real connections on loopback.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;

/// A server that answers what was asked for; it ends with this.
struct Server {
    address: SocketAddr,
    _task: JoinSet<Result<(), TaskError>>,
}

async fn serving(protection: Option<Protection>) -> Server {
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |asked: &Parts| text(StatusCode::OK, format!("this is {}", asked.uri.path()));
    let stop = CancellationToken::new();
    let mut task = JoinSet::new();
    task.spawn(serve(listener, protection.map(Arc::new), answer, stop));
    Server {
        address,
        _task: task,
    }
}

async fn guarded(path: &Path) -> Server {
    serving(Some(Protection::read(path.to_owned()).await.unwrap())).await
}

/// What is answered to one question; nothing if the server hangs up.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, question: &str) -> String {
    let question = format!("{question}\r\nHost: here\r\n\r\n");
    let mut answer = Vec::new();
    if stream.write_all(question.as_bytes()).await.is_ok() {
        let _ = stream.read_to_end(&mut answer).await;
    }
    String::from_utf8(answer).unwrap()
}

async fn plain(server: &Server, question: &str) -> String {
    ask(TcpStream::connect(server.address).await.unwrap(), question).await
}

/// An authority, and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for this name, and its key, in PEM.
    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        (signed.pem(), key.serialize_pem())
    }

    /// Certificate and key of a server in `dir`.
    fn write_server(&self, dir: &Path) {
        let (certificate, key) = self.sign("here", ExtendedKeyUsagePurpose::ServerAuth);
        fs::write(dir.join("tls.crt"), certificate).unwrap();
        fs::write(dir.join("tls.key"), key).unwrap();
    }

    /// What a client says that trusts this authority and has this certificate.
    async fn encrypted(
        &self,
        server: &Server,
        certificate: Option<(String, String)>,
        question: &str,
    ) -> io::Result<String> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap();
        roots.add(root).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder
                    .with_client_auth_cert(vec![certificate], key)
                    .unwrap()
            }
        };
        let stream = TcpStream::connect(server.address).await?;
        let name = ServerName::try_from("here").unwrap();
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        Ok(ask(stream, question).await)
    }
}

#[tokio::test]
async fn gets_are_answered_heads_have_no_body_and_the_rest_is_refused() {
    let server = serving(None).await;
    let get = plain(&server, "GET /a HTTP/1.1").await;
    assert!(get.starts_with("HTTP/1.1 200 OK"), "{get}");
    assert!(get.ends_with("this is /a"), "{get}");
    let head = plain(&server, "HEAD /a HTTP/1.1").await;
    assert!(
        head.contains("content-length: 10") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let post = plain(&server, "POST /a HTTP/1.1").await;
    assert!(
        post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD"),
        "{post}"
    );
    let long = format!("GET /{} HTTP/1.1", "a".repeat(QUESTION));
    let long = plain(&server, &long).await;
    assert!(!long.contains("200 OK"), "{long}");
}

#[tokio::test]
async fn clients_that_say_nothing_keep_nobody_out() {
    let server = serving(None).await;
    let mut silent = Vec::new();
    for _ in 0..3 * MOST {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let answer = timeout(PATIENCE / 2, plain(&server, "GET / HTTP/1.1")).await;
    assert!(answer.unwrap().contains("200 OK"));
    // The first has been cut off for it.
    let mut byte = [0];
    let ended = timeout(PATIENCE / 2, silent[0].read(&mut byte))
        .await
        .unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[tokio::test]
async fn users_must_give_their_password() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.yml");
    let hash = bcrypt::hash("secret", 4).unwrap();
    let text = format!(
        "basic_auth_users: {{prometheus: {hash}}}\n\
         http_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    );
    fs::write(&path, text).unwrap();
    let server = guarded(&path).await;
    let refused = plain(&server, "GET /metrics HTTP/1.1").await;
    assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    assert!(refused.contains("www-authenticate: Basic"), "{refused}");
    assert!(refused.contains("x-frame-options: deny"), "{refused}");
    // prometheus:secret
    let right = "GET /metrics HTTP/1.1\r\nAuthorization: Basic cHJvbWV0aGV1czpzZWNyZXQ=";
    let answer = plain(&server, right).await;
    assert!(answer.ends_with("this is /metrics"), "{answer}");

    // A file that cannot be used any more lets nobody in, and one that is mended does.
    fs::write(&path, "basic_auth_user: {}\n").unwrap();
    assert_eq!(plain(&server, right).await, "");
    fs::write(&path, "rate_limit: {interval: 1h, burst: 2}\n").unwrap();
    for status in ["200", "200", "429"] {
        let answer = plain(&server, "GET / HTTP/1.1").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn tls_is_spoken_with_the_certificate_that_is_there_now() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.yml");
    fs::write(
        &path,
        "tls_server_config: {cert_file: tls.crt, key_file: tls.key}",
    )
    .unwrap();
    let (first, second) = (Authority::new(), Authority::new());
    first.write_server(dir.path());
    let server = guarded(&path).await;
    let question = "GET /metrics HTTP/1.1";
    let answer = first.encrypted(&server, None, question).await.unwrap();
    assert!(answer.ends_with("this is /metrics"), "{answer}");
    assert!(second.encrypted(&server, None, question).await.is_err());
    assert!(!plain(&server, question).await.contains("200"));

    second.write_server(dir.path());
    let answer = second.encrypted(&server, None, question).await.unwrap();
    assert!(answer.ends_with("this is /metrics"), "{answer}");
}

#[tokio::test]
async fn clients_show_a_certificate_where_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write_server(dir.path());
    fs::write(dir.path().join("ca.crt"), &authority.pem).unwrap();
    let path = dir.path().join("web.yml");
    let rules = "tls_server_config: {cert_file: tls.crt, key_file: tls.key, \
                 client_ca_file: ca.crt, client_auth_type: RequireAndVerifyClientCert, \
                 min_version: TLS12, max_version: TLS12, curve_preferences: [CurveP256], \
                 cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]}";
    fs::write(&path, rules).unwrap();
    let server = guarded(&path).await;
    let question = "GET /metrics HTTP/1.1";
    let own = authority.sign("me", ExtendedKeyUsagePurpose::ClientAuth);
    let answer = authority.encrypted(&server, Some(own), question).await;
    assert!(answer.unwrap().ends_with("this is /metrics"));
    let strange = Authority::new().sign("me", ExtendedKeyUsagePurpose::ClientAuth);
    for certificate in [None, Some(strange)] {
        let answer = authority.encrypted(&server, certificate, question).await;
        assert!(answer.is_err(), "{answer:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_said_before_anything_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("web.yml");
    let mistakes = async |text: &str| {
        fs::write(&path, text).unwrap();
        Protection::read(path.clone()).await.unwrap_err()
    };
    let place = mistakes("tls_server_config:\n  cert_fil: a\n").await;
    assert!(
        place.contains("web.yml") && place.contains("line 2 column 3"),
        "{place}"
    );
    let tls = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}";
    let missing = mistakes(tls).await;
    assert!(missing.contains("tls.crt cannot be read"), "{missing}");
    fs::write(dir.path().join("tls.crt"), "nothing").unwrap();
    let empty = mistakes(tls).await;
    assert!(empty.contains("tls.crt holds no certificate"), "{empty}");
    Authority::new().write_server(dir.path());
    let key = fs::read(dir.path().join("tls.key")).unwrap();
    Authority::new().write_server(dir.path());
    fs::write(dir.path().join("tls.key"), key).unwrap();
    let foreign = mistakes(tls).await;
    assert!(foreign.contains("certificate and key"), "{foreign}");
}
