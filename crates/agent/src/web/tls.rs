//! The server's side of TLS, as a web config file wants it.

use std::path::Path;
use std::sync::Arc;

use mizzen_core::config::{ClientAuth, Pem, TlsConfig, TlsVersion};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CipherSuite, NamedGroup, RootCertStore, ServerConfig, SupportedProtocolVersion,
};

use crate::config_source::read_config_file;

/// What takes connections.
///
/// # Errors
/// Why it cannot be, for people.
pub(super) fn acceptor(wanted: &TlsConfig) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(provider(wanted));
    let (certificates, place) = certificates(&wanted.certificate, "cert")?;
    if certificates.is_empty() {
        return Err(format!("{place} holds no certificate in PEM"));
    }
    let (text, place) = pem(&wanted.key, "key")?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|error| format!("{place} holds no private key in PEM: {error}"))?;
    let clients = clients(&wanted.client_auth, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(wanted))
        .map_err(|error| format!("cipher_suites and versions do not go together: {error}"))?;
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(certificates, key)
        .map_err(|error| format!("certificate and key cannot be used: {error}"))?;
    config.ignore_client_order = wanted.server_chooses;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Prometheus does not resume sessions: memory for nothing.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Newest first.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn versions(wanted: &TlsConfig) -> &'static [&'static SupportedProtocolVersion] {
    match (wanted.least, wanted.most) {
        (TlsVersion::Tls13, _) => &VERSIONS[..1],
        (_, TlsVersion::Tls12) => &VERSIONS[1..],
        _ => &VERSIONS,
    }
}

/// The algorithms that are wanted, in the order that is wanted.
fn provider(wanted: &TlsConfig) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if !wanted.suites.is_empty() {
        let place = |suite: CipherSuite| {
            let mut names = wanted.suites.iter();
            names.position(|name| tls12_suite(name) == Some(suite))
        };
        // Nobody may choose those of TLS 1.3.
        let is_wanted = |suite: CipherSuite| place(suite).is_some();
        let suites = &mut provider.cipher_suites;
        suites.retain(|one| one.tls13().is_some() || is_wanted(one.suite()));
        suites.sort_by_key(|one| place(one.suite()));
    }
    if !wanted.curves.is_empty() {
        let place = |group: &&'static dyn SupportedKxGroup| {
            let mut names = wanted.curves.iter();
            names.position(|name| curve(name) == Some(group.name()))
        };
        provider.kx_groups.retain(|group| place(group).is_some());
        provider.kx_groups.sort_by_key(place);
    }
    provider
}

fn tls12_suite(name: &str) -> Option<CipherSuite> {
    Some(match name {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => {
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        }
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => {
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        }
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => {
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => {
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        }
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => {
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
        }
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => {
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
        _ => return None,
    })
}

fn curve(name: &str) -> Option<NamedGroup> {
    Some(match name {
        "X25519" => NamedGroup::X25519,
        "CurveP256" => NamedGroup::secp256r1,
        "CurveP384" => NamedGroup::secp384r1,
        _ => return None,
    })
}

fn clients(
    wanted: &ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let (authority, required) = match wanted {
        ClientAuth::None => return Ok(None),
        ClientAuth::IfGiven(authority) => (authority, false),
        ClientAuth::Required(authority) => (authority, true),
    };
    let (certificates, place) = certificates(authority, "client_ca")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| format!("{place} holds what is no authority: {error}"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let builder = if required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    let verifier = builder.build();
    Ok(Some(verifier.map_err(|error| format!("{place}: {error}"))?))
}

/// The certificates, and what holds them.
fn certificates(from: &Pem, key: &str) -> Result<(Vec<CertificateDer<'static>>, String), String> {
    let (text, place) = pem(from, key)?;
    let each = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>();
    let each = each.map_err(|error| format!("{place} is not PEM: {error}"))?;
    Ok((each, place))
}

/// The text, and what holds it.
fn pem(from: &Pem, key: &str) -> Result<(String, String), String> {
    match from {
        Pem::Text(text) => Ok((text.reveal().to_owned(), key.to_owned())),
        Pem::File(path) => Ok((read(path)?, format!("{key}_file {}", path.display()))),
    }
}

fn read(path: &Path) -> Result<String, String> {
    read_config_file(path).map_err(|why| why.replacen("the config file", "the file", 1))
}
