//! What the agent was told to do: settings as they were given ([`RawConfig`]) and as they are
//! meant ([`Config`]).
//!
//! Settings come from the command line, the environment and the config file, in this order of
//! precedence. Nothing here reads any of them: the caller hands the texts in.

mod document;
mod duration;
pub(crate) mod error;
pub mod file;
mod labels;
mod metrics;
mod mig;
mod naming;
mod raw;
mod rules;
mod sections;
mod select;
pub(crate) mod setting;
pub(crate) mod shape;
mod shares;
mod sharing;
mod source;
pub(crate) mod tree;
mod types;
pub(crate) mod validate;
mod web;

pub use duration::{InvalidDuration, format_duration, parse_duration};
pub use error::{ConfigError, ConfigWarning, Location, Origin, nearest};
pub use labels::{LABEL_SETTINGS, LabelsConfig};
pub use metrics::{METRICS_SETTINGS, MetricsConfig};
pub use mig::{MigManagerConfig, OwnPod};
pub use naming::{
    GpuFilter, GpuSelector, InvalidGpuSelector, NamePattern, NamingRule, ResourceNaming,
};
pub use raw::{RawConfig, RawValue};
pub use rules::{FaultAction, FaultRule, HealthRules, XidRule, XidSet};
pub use select::{ChosenBy, SelectError, Selection, select};
pub use setting::{Kind, SETTINGS, Setting, SettingInfo};
pub use shape::{Form, Key, Shape};
pub use sharing::{
    DeviceRef, InvalidDeviceRef, MOST_REPLICAS, ReplicaPlacement, SharedDevices, SharedResource,
    SharingConfig,
};
pub use source::{
    ConfigMapName, ConfigPlace, ConfigSource, FallbackStrategy, InvalidConfigMapName,
};
pub use types::{
    AllocationPolicy, Choice, Config, DeviceIdStrategy, DeviceListStrategies, DeviceListStrategy,
    DiscoveryStrategy, HOOK_PROGRAM, HealthTuning, ImexConfig, MigStrategy,
};
pub use web::{
    ClientAuth, Pem, RateLimit, Secret, TlsConfig, TlsVersion, WebConfig, WebConfigError,
};
