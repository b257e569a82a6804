//! The cluster's certificates: one authority, and a certificate for each server and client.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// The name of the one node. It is also a host name, by which the API server reaches the
/// kubelet, and this one resolves to loopback everywhere.
pub(crate) const NODE: &str = "localhost";

/// Who a client is to the API server: the common name is the user, the organisation its group.
struct Client {
    file: &'static str,
    user: String,
    group: Option<&'static str>,
}

/// The certificates of a cluster, as files of one directory.
#[derive(Debug, Clone)]
pub(crate) struct Pki {
    directory: PathBuf,
}

impl Pki {
    /// Where the certificates of a cluster are, made or not.
    pub(crate) fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The certificate of `name`.
    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.crt"))
    }

    /// The private key of `name`.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.key"))
    }

    /// The public key of `name`, for tokens that the API server signs.
    pub(crate) fn public_key(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.pub"))
    }

    /// Makes them all: `ca`, `front-proxy-ca`, `apiserver`, `kubelet-server`,
    /// `service-accounts` (a bare key pair), and a client certificate per component.
    pub(crate) fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.directory)?;
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o700))?;
        let ca = self.authority("ca")?;
        self.authority("front-proxy-ca")?;
        for name in ["apiserver", "kubelet-server"] {
            self.server(&ca, name)?;
        }
        for client in clients() {
            self.client(&ca, &client)?;
        }
        let tokens = KeyPair::generate()?;
        fs::write(self.key("service-accounts"), tokens.serialize_pem())?;
        fs::write(self.public_key("service-accounts"), tokens.public_key_pem())?;
        Ok(())
    }

    fn authority(&self, name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("mizzen-e2e-{name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        write(&self.certificate(name), &issuer.pem())?;
        write(&self.key(name), &issuer.key().serialize_pem())?;
        Ok(issuer)
    }

    fn server(&self, ca: &CertifiedIssuer<'_, KeyPair>, name: &str) -> Result<()> {
        let names = ["127.0.0.1", NODE, "kubernetes", "kubernetes.default.svc"];
        let mut params = CertificateParams::new(names.map(String::from))?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(ca, name, &params)
    }

    fn client(&self, ca: &CertifiedIssuer<'_, KeyPair>, client: &Client) -> Result<()> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, &client.user);
        if let Some(group) = client.group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(ca, client.file, &params)
    }

    fn sign(
        &self,
        ca: &CertifiedIssuer<'_, KeyPair>,
        name: &str,
        params: &CertificateParams,
    ) -> Result<()> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, ca)?;
        write(&self.certificate(name), &certificate.pem())?;
        write(&self.key(name), &key.serialize_pem())
    }
}

fn write(path: &Path, pem: &str) -> Result<()> {
    fs::write(path, pem)?;
    Ok(())
}

fn clients() -> [Client; 5] {
    let client = |file, user: &str, group| Client {
        file,
        user: user.into(),
        group,
    };
    [
        client("admin", "mizzen-e2e", Some("system:masters")),
        client("apiserver-kubelet", "apiserver", Some("system:masters")),
        client("controller-manager", "system:kube-controller-manager", None),
        client("scheduler", "system:kube-scheduler", None),
        client(
            "kubelet",
            &format!("system:node:{NODE}"),
            Some("system:nodes"),
        ),
    ]
}
