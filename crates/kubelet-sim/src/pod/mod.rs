//! Pods: what is asked for, how it is read, which rules it must keep.

mod fields;
mod manifest;
mod spec;
mod validation;

pub use manifest::{ManifestError, parse_manifest};
pub use spec::{
    Container, ContainerKind, EnvVar, Metadata, Pod, PodSpec, RUN_FOR_ANNOTATION, Resources,
    RestartPolicy,
};
pub use validation::{Invalid, validate};
