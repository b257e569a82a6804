//! What a GPU is measured by, and the page that tells it.
//!
//! Names, types and help are those of dcgm-exporter, so that dashboards and alert rules written
//! for it go on working; what it does not have is named `mizzen_*`. [`render`] makes the page of
//! plain data: the node's state, what was sampled ([`History`]), who holds what ([`Holders`]) and
//! what is to be said of the agent ([`AgentFacts`]).

mod agent;
mod counters;
mod exporter;
mod facts;
mod field;
mod gpus;
mod history;
mod holders;
mod own;
mod page;
mod pods;
mod text;
mod throttle;
mod units;

pub use counters::{
    Counter, CounterMistake, Counters, DEFAULT_FIELDS, ExporterCounter, LabelSource, Source,
};
pub use facts::{AgentFacts, ConfigFacts, Latencies, ProcessFacts};
pub use field::{Field, FieldKind, Fields, TextField, UnknownField};
pub use history::{GpuHistory, History};
pub use holders::{Container, ContainerKey, Holders, Holding, Tenancy};
pub use own::{OWN_METRICS, OwnMetric};
pub use page::{HostnameLabel, PageInput, PageOptions, render, render_into};
pub use text::{CONTENT_TYPE, MetricKind};
pub use throttle::ClockEvent;

use crate::sample::Missing;
