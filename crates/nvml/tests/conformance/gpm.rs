//! GPM: samples and the metrics between them, from Hopper on.

use std::ptr;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t,
};

use crate::check::{Stop, Verdict, checks, ensure, expect, offered, succeed};
use crate::nvml::{Code, Guarded, Nvml};

/// `NVML_GPM_SUPPORT_VERSION`, `NVML_GPM_METRICS_GET_VERSION`
const VERSION: u32 = 1;
/// Metrics in percent: `NVML_GPM_METRIC_GRAPHICS_UTIL`, `..._SM_UTIL`, `..._SM_OCCUPANCY`,
/// `..._ANY_TENSOR_UTIL`, `..._DRAM_BW_UTIL`
const PERCENTAGES: [u32; 5] = [1, 2, 3, 5, 10];
/// Longer than two samples must lie apart.
const APART: Duration = Duration::from_millis(120);

checks! {
    "GPM is offered or not, and another version of the question is refused" => support,
    "GPM metrics of what was between two samples are percentages" => metrics,
    "GPM metrics of another version are refused" => metrics_version,
}

fn ask(nvml: &Nvml, device: nvmlDevice_t, version: u32) -> (Code, Guarded<nvmlGpmSupport_t>) {
    let mut support = Guarded::<nvmlGpmSupport_t>::zeroed();
    support.value.version = version;
    let code = nvml.nvmlGpmQueryDeviceSupport(device, support.pointer());
    (code, support)
}

fn support(nvml: &Nvml) -> Verdict {
    for device in nvml.devices()? {
        let (code, support) = ask(nvml, device, VERSION);
        offered("nvmlGpmQueryDeviceSupport", code)?;
        let answer = support.value.isSupportedDevice;
        ensure!(support.intact() && answer <= 1, "it answers {answer}");
        let (code, support) = ask(nvml, device, VERSION + 99);
        let refusals = [Code::ARGUMENT_VERSION_MISMATCH, Code::INVALID_ARGUMENT];
        expect("version 100", code, &refusals)?;
        ensure!(support.intact(), "a stray write");
    }
    Ok(())
}

/// Two samples, freed when they are dropped.
struct Pair<'a>(&'a Nvml, [nvmlGpmSample_t; 2]);

impl Drop for Pair<'_> {
    fn drop(&mut self) {
        for sample in self.1.into_iter().filter(|sample| !sample.is_null()) {
            self.0.nvmlGpmSampleFree(sample);
        }
    }
}

/// Two samples of the first GPU that offers them.
fn samples(nvml: &Nvml) -> Result<Pair<'_>, Stop> {
    let mut devices = nvml.devices()?.into_iter();
    let offers = |device: &nvmlDevice_t| {
        let (code, support) = ask(nvml, *device, VERSION);
        code == Code::SUCCESS && support.value.isSupportedDevice == 1
    };
    let device = devices.find(offers);
    let device = device.ok_or_else(|| Stop::Skip("no GPU has GPM".to_owned()))?;
    let mut pair = Pair(nvml, [ptr::null_mut(); 2]);
    for sample in &mut pair.1 {
        succeed("nvmlGpmSampleAlloc", nvml.nvmlGpmSampleAlloc(sample))?;
        offered("nvmlGpmSampleGet", nvml.nvmlGpmSampleGet(device, *sample))?;
        let before = Instant::now();
        while before.elapsed() < APART {
            std::thread::yield_now();
        }
    }
    Ok(pair)
}

fn question(pair: &Pair<'_>, version: u32) -> Guarded<nvmlGpmMetricsGet_t> {
    let mut get = Guarded::<nvmlGpmMetricsGet_t>::zeroed();
    get.value.version = version;
    get.value.numMetrics = 5;
    [get.value.sample1, get.value.sample2] = pair.1;
    for (metric, id) in get.value.metrics.iter_mut().zip(PERCENTAGES) {
        metric.metricId = id;
        metric.nvmlReturn = u32::MAX;
    }
    get
}

fn metrics(nvml: &Nvml) -> Verdict {
    let pair = samples(nvml)?;
    let mut get = question(&pair, VERSION);
    succeed("nvmlGpmMetricsGet", nvml.nvmlGpmMetricsGet(get.pointer()))?;
    ensure!(get.intact(), "a stray write");
    for (metric, id) in get.value.metrics.iter().zip(PERCENTAGES) {
        succeed(&format!("metric {id}"), Code(metric.nvmlReturn))?;
        let value = metric.value;
        ensure!((0.0..=100.0).contains(&value), "metric {id} is {value}");
    }
    let beyond = &get.value.metrics[PERCENTAGES.len()];
    ensure!(beyond.nvmlReturn == 0, "a metric that was not asked");
    Ok(())
}

fn metrics_version(nvml: &Nvml) -> Verdict {
    let pair = samples(nvml)?;
    let mut get = question(&pair, VERSION + 99);
    let code = nvml.nvmlGpmMetricsGet(get.pointer());
    let refusals = [Code::ARGUMENT_VERSION_MISMATCH, Code::INVALID_ARGUMENT];
    expect("version 100", code, &refusals)?;
    let written = get.value.metrics[0].nvmlReturn != u32::MAX;
    ensure!(get.intact() && !written, "it wrote");
    Ok(())
}
