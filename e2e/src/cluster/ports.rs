//! The cluster's TCP ports: free ones, chosen when it starts and kept until it ends.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One port on 127.0.0.1 for each listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    pub(crate) etcd_client: u16,
    pub(crate) etcd_peer: u16,
    pub(crate) api_server: u16,
    pub(crate) scheduler: u16,
    pub(crate) controller_manager: u16,
    pub(crate) kubelet: u16,
    pub(crate) kubelet_health: u16,
}

impl Ports {
    /// Ports that nobody listens on now. All are held until all are chosen, so that they
    /// differ.
    pub(crate) fn choose() -> Result<Self> {
        let listeners = (0..7)
            .map(|_| TcpListener::bind(("127.0.0.1", 0)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut ports = listeners.iter().map(|l| Ok(l.local_addr()?.port()));
        let mut next = || ports.next().context("seven were bound")?;
        let next: &mut dyn FnMut() -> Result<u16> = &mut next;
        Ok(Self {
            etcd_client: next()?,
            etcd_peer: next()?,
            api_server: next()?,
            scheduler: next()?,
            controller_manager: next()?,
            kubelet: next()?,
            kubelet_health: next()?,
        })
    }

    /// The ports of a running cluster.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Keeps them for later runs of the suite's commands.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_vec(self)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_ports_differ_and_survive_a_file() {
        let ports = Ports::choose().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        ports.write(file.path()).unwrap();
        assert_eq!(Ports::read(file.path()).unwrap(), ports);
        let all = serde_json::to_value(&ports).unwrap();
        let distinct: std::collections::BTreeSet<u64> = all
            .as_object()
            .unwrap()
            .values()
            .filter_map(serde_json::Value::as_u64)
            .collect();
        assert_eq!(distinct.len(), 7);
    }
}
