//! An OCI image archive: a tar of the image layout (oci-layout, index.json and blobs by
//! their SHA-256), which containerd, podman, skopeo, kind and k3s all import.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::rootfs::Rootfs;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What a container of the image runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a pod's `args` replace.
    pub cmd: Vec<String>,
    /// Environment variables, `NAME=value`.
    pub env: Vec<String>,
    /// `uid[:gid]`; empty = root.
    pub user: String,
    /// Annotations of the image, by name.
    pub labels: Vec<(String, String)>,
}

/// One blob and what a descriptor says of it.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        let digest = sha256(&bytes);
        Self { digest, bytes }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{}", self.digest),
            "size": self.bytes.len(),
        })
    }
}

/// Writes an image of the given layers (uncompressed tar streams, lowest first) to `output`
/// under the name `reference`, and returns the digest of its manifest (`sha256:…`). The file
/// appears whole or not at all.
pub fn write_archive(
    output: &Path,
    reference: &str,
    config: &ImageConfig,
    layers: &[Vec<u8>],
) -> Result<String> {
    let compressed = layers
        .iter()
        .map(|layer| gzip(layer).map(Blob::new))
        .collect::<Result<Vec<_>>>()?;
    let config = Blob::new(image_config(config, layers).to_string().into_bytes());
    let manifest = Blob::new(
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": compressed.iter().map(|layer| layer.descriptor(LAYER)).collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes(),
    );
    let digest = format!("sha256:{}", manifest.digest);
    let index = index(reference, &manifest);

    let mut archive = Rootfs::new();
    archive.file("/oci-layout", 0o644, r#"{"imageLayoutVersion":"1.0.0"}"#);
    archive.file("/index.json", 0o644, index.to_string());
    for blob in compressed.into_iter().chain([config, manifest]) {
        archive.file(format!("/blobs/sha256/{}", blob.digest), 0o644, blob.bytes);
    }
    write_whole(output, &archive.to_tar()?)?;
    Ok(digest)
}

/// The lower-case hexadecimal SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn image_config(config: &ImageConfig, layers: &[Vec<u8>]) -> Value {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", sha256(layer)))
        .collect();
    let labels: BTreeMap<&String, &String> = config.labels.iter().map(|(k, v)| (k, v)).collect();
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": config.entrypoint,
            "Cmd": config.cmd,
            "Env": config.env,
            "User": config.user,
            "Labels": labels,
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    })
}

/// Both names under which importers look for the image's own: OCI's, and containerd's.
fn index(reference: &str, manifest: &Blob) -> Value {
    let mut descriptor = manifest.descriptor(MANIFEST);
    descriptor["platform"] = json!({ "architecture": architecture(), "os": "linux" });
    descriptor["annotations"] = json!({
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference,
    });
    json!({ "schemaVersion": 2, "manifests": [descriptor] })
}

/// Go's name of this machine's architecture, which is what OCI uses.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    // No name and no time in the header: the same layer gives the same bytes.
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn write_whole(output: &Path, bytes: &[u8]) -> Result<()> {
    let directory = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.persist(output)
        .with_context(|| format!("write {}", output.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn archive_of(content: &str) -> (Vec<u8>, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.tar");
        let mut rootfs = Rootfs::new();
        rootfs.file("/hello", 0o644, content);
        let config = ImageConfig {
            entrypoint: vec!["/hello".into()],
            ..ImageConfig::default()
        };
        let layers = [rootfs.to_tar().unwrap()];
        let digest = write_archive(&path, "localhost/hello:1", &config, &layers).unwrap();
        (fs::read(path).unwrap(), digest)
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                (entry.path().unwrap().display().to_string(), bytes)
            })
            .collect()
    }

    #[test]
    fn the_same_files_give_the_same_archive() {
        assert_eq!(archive_of("a"), archive_of("a"));
        assert_ne!(archive_of("a").1, archive_of("b").1);
    }

    #[test]
    fn every_blob_is_named_by_its_own_digest_and_every_descriptor_leads_to_one() {
        let (archive, digest) = archive_of("a");
        let files = files(&archive);
        for (path, bytes) in &files {
            if let Some(name) = path.strip_prefix("blobs/sha256/").filter(|n| !n.is_empty()) {
                assert_eq!(name, sha256(bytes));
            }
        }
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let bytes = &files[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(descriptor["size"], bytes.len());
            bytes.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        assert_eq!(index["manifests"][0]["digest"], digest);
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        let mut layer = Vec::new();
        flate2::read::GzDecoder::new(blob(&manifest["layers"][0]).as_slice())
            .read_to_end(&mut layer)
            .unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", sha256(&layer))
        );
    }
}
