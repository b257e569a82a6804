//! The node process: discovery, device-plugin servers, health.
//!
//! One thread runs everything that answers the kubelet; the driver has threads of its own.
//! [`Agent::run`] wires the parts: the driver's thread sends news to the state task, which owns
//! the one picture of the node and publishes it; device plugins, probes and the record on disk
//! follow from that picture. Settings that may change come from the config source's task.

mod agent;
mod backoff;
pub mod cdi;
mod clock;
mod cluster;
mod config_source;
mod dirwatch;
pub mod doctor;
mod driver;
mod durable;
mod features;
mod ground;
mod keeper;
pub mod labels;
mod log;
mod machine;
mod mark;
mod metrics;
mod mig;
mod node_health;
mod plugin;
mod pod_resources;
mod privileges;
mod probes;
mod readiness;
mod record;
pub mod runtime;
mod supervisor;
mod tally;
mod web;

pub use agent::{Agent, LoaderFactory, Order, nvml_loader, run_process};
pub use cluster::ClientFactory;
pub use config_source::{CONFIG_LIMIT, ConfigText, Interpreter, last_good_text, read_config_file};
pub use durable::is_device;
pub use metrics::{NoPage, OnePage, one_page, serve_alone};
