//! The pods of a run: read from files, or those of `examples/`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mizzen_kubelet_sim::pod::{
    ContainerKind, ManifestError, Pod, RUN_FOR_ANNOTATION, RestartPolicy, parse_manifest,
};

/// The pods of `examples/`, which travel in the binary so that it works anywhere.
const EXAMPLES: [(&str, &str); 4] = [
    (
        "examples/one-gpu.yaml",
        include_str!("../../../../examples/one-gpu.yaml"),
    ),
    (
        "examples/training.yaml",
        include_str!("../../../../examples/training.yaml"),
    ),
    (
        "examples/init-then-serve.yaml",
        include_str!("../../../../examples/init-then-serve.yaml"),
    ),
    (
        "examples/too-many.yaml",
        include_str!("../../../../examples/too-many.yaml"),
    ),
];

/// Why there are no pods to run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodFileError {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// What is in it are no pods.
    #[error("{file}: {error}")]
    Manifest {
        /// The file.
        file: String,
        /// What is wrong.
        error: ManifestError,
    },
    /// Everything in it starts no pods.
    #[error("{0} has no pods in it")]
    NoPods(String),
}

/// A pod that was handed to the simulated cluster.
#[derive(Debug, Clone)]
pub(crate) struct Submitted {
    /// The file it came from.
    pub(crate) file: String,
    /// The pod.
    pub(crate) pod: Pod,
    /// What the API server said if it did not take it.
    pub(crate) refusal: Option<String>,
}

impl Submitted {
    /// Whether its request is no more than the node's capacity. Resources of which the node has
    /// never had any are too much, and are no device plugin's if they have no domain.
    pub(crate) fn fits(&self, capacity: &BTreeMap<String, u64>) -> bool {
        requests(&self.pod)
            .iter()
            .filter(|(name, _)| name.contains('/'))
            .all(|(name, asked)| *asked <= capacity.get(name).copied().unwrap_or(0))
    }
}

/// Reads the pods of the files, or of `examples/` if there are none. A pod that has an end and
/// does not say when gets `pod_time`.
pub(crate) fn read(files: &[PathBuf], pod_time: Duration) -> Result<Vec<Submitted>, PodFileError> {
    let mut pods = Vec::new();
    if files.is_empty() {
        for (file, text) in EXAMPLES {
            pods.extend(parse(file, text, pod_time)?);
        }
    }
    for path in files {
        pods.extend(parse(
            &path.display().to_string(),
            &text_of(path)?,
            pod_time,
        )?);
    }
    Ok(pods)
}

fn text_of(path: &Path) -> Result<String, PodFileError> {
    fs::read_to_string(path).map_err(|error| PodFileError::Read {
        path: path.to_owned(),
        error,
    })
}

fn parse(file: &str, text: &str, pod_time: Duration) -> Result<Vec<Submitted>, PodFileError> {
    let manifest = |error| PodFileError::Manifest {
        file: file.to_owned(),
        error,
    };
    let pods = parse_manifest(text).map_err(manifest)?;
    if pods.is_empty() {
        return Err(PodFileError::NoPods(file.to_owned()));
    }
    let submitted = pods.into_iter().map(|mut pod| {
        if pod.spec.restart_policy != RestartPolicy::Always {
            let time = format!("{}ms", pod_time.as_millis());
            pod.metadata
                .annotations
                .entry(RUN_FOR_ANNOTATION.to_owned())
                .or_insert(time);
        }
        Submitted {
            file: file.to_owned(),
            pod,
            refusal: None,
        }
    });
    Ok(submitted.collect())
}

/// What a pod takes of the node, as the scheduler counts: the sum of its containers and
/// sidecars, or what an init container and the sidecars before it take, if that is more.
fn requests(pod: &Pod) -> BTreeMap<String, u64> {
    let mut together: BTreeMap<String, u64> = BTreeMap::new();
    let mut most: BTreeMap<String, u64> = BTreeMap::new();
    for (kind, container) in pod.containers() {
        for (name, limit) in &container.resources.limits {
            let asked = u64::try_from(limit.value()).unwrap_or(0);
            let beside = together.entry(name.clone()).or_default();
            let now = *beside + asked;
            if kind != ContainerKind::Init {
                *beside = now;
            }
            let most = most.entry(name.clone()).or_default();
            *most = now.max(*most);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submitted(spec: &str) -> Submitted {
        let text = format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {spec}}}");
        parse("p.yaml", &text, Duration::from_secs(3))
            .unwrap()
            .remove(0)
    }

    fn gpus(name: &str, count: u32) -> String {
        format!("{{name: {name}, image: i, resources: {{limits: {{nvidia.com/gpu: {count}}}}}}}")
    }

    #[test]
    fn the_examples_are_read_from_the_binary_itself() {
        let pods = read(&[], Duration::from_secs(3)).unwrap();
        let names: Vec<_> = pods
            .iter()
            .map(|pod| pod.pod.metadata.name.as_str())
            .collect();
        assert_eq!(
            names,
            ["one-gpu", "training", "init-then-serve", "too-many"]
        );
    }

    #[test]
    fn a_pod_fits_if_the_node_ever_had_enough() {
        let spec = format!(
            "{{initContainers: [{}], containers: [{}, {}]}}",
            gpus("first", 3),
            gpus("a", 1),
            gpus("b", 1)
        );
        let pod = submitted(&spec);
        let node = |count| BTreeMap::from([("nvidia.com/gpu".to_owned(), count)]);
        assert!(pod.fits(&node(3)));
        assert!(!pod.fits(&node(2)), "the init container asks for three");
        assert!(!pod.fits(&BTreeMap::new()));
    }

    #[test]
    fn only_pods_that_end_are_given_a_time() {
        let ends = submitted(&format!(
            "{{restartPolicy: Never, containers: [{}]}}",
            gpus("a", 1)
        ));
        assert_eq!(ends.pod.run_for(), Ok(Some(Duration::from_secs(3))));
        let serves = submitted(&format!("{{containers: [{}]}}", gpus("a", 1)));
        assert_eq!(serves.pod.run_for(), Ok(None));
    }

    #[test]
    fn a_file_without_pods_is_a_mistake() {
        let text = "{apiVersion: v1, kind: Namespace, metadata: {name: ml}}";
        let error = parse("ns.yaml", text, Duration::ZERO).unwrap_err();
        assert_eq!(error.to_string(), "ns.yaml has no pods in it");
    }
}
