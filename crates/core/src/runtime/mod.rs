//! Container runtimes: whether one resolves CDI names, which spec directories it reads, which
//! settings let a pod take GPUs that it did not ask for, and the smallest edit that turns CDI on.
//!
//! Text goes in and data comes out; the files are read and written elsewhere.

mod answer;
mod auto;
mod containerd;
mod crio;
mod docker;
mod edit;
mod json;
mod marks;
mod places;
mod privacy;
mod report;
mod toml;
mod undo;
mod version;

pub use answer::CriAnswer;
pub use auto::{AutoChoice, AutoInputs, choose};
pub use containerd::{import_patterns, read_containerd};
pub use crio::read_crio;
pub use docker::{has_live_restore, read_docker};
pub use edit::{
    ABSENT, Change, Turn, awaits_restart, edited, files_of_edit, lost_drop_ins, turn_on,
};
pub use places::{ContainerdFlavour, KNOWN_PLACES, KnownPlace, kubelet_endpoint};
pub use privacy::{
    PrivacyRisk, RiskLevel, TOOLKIT_CONFIG, ToolkitConfig, config_beside, privacy_risks,
    read_toolkit,
};
pub use report::{
    CdiState, CdiSupport, DefinedRuntime, Place, Remark, RuntimeKind, RuntimeReport, SourceFile,
    SpecDirectories,
};
pub use undo::{Undone, undo};
pub use version::RuntimeVersion;
