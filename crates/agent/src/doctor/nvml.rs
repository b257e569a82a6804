//! What the driver's library answers.

use std::time::Duration;

use mizzen_core::config::Config;
use mizzen_core::doctor::{Looked, NvmlFacts};
use mizzen_core::driver::{DriverError, GpuDriver as _, Questions};

use super::within;
use crate::agent::nvml_builder;

/// How long NVML may take to start. The agent is more patient, and nobody waits for it.
const INIT_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take altogether, should the calls' own deadlines not hold.
const LIMIT: Duration = Duration::from_secs(40);

pub(super) fn facts(config: &Config) -> Looked<Result<NvmlFacts, DriverError>> {
    let loader = nvml_builder(config)
        .init_deadline(INIT_LIMIT)
        // A GPU that is asked first may have to be woken.
        .first_deadline(2 * config.health.nvml_call_timeout)
        .build();
    within(LIMIT, move || {
        let session = loader.session()?;
        let inventory = session.snapshot()?;
        let uuids: Vec<_> = inventory.gpus.iter().map(|gpu| gpu.uuid.clone()).collect();
        let conditions = session.check_all(&uuids, Questions::default());
        let library = session.library().map(|path| path.display().to_string());
        Ok(NvmlFacts {
            library,
            inventory,
            conditions,
        })
    })
}
