//! The metrics that Mizzen has besides the exporter's: names, types and help.
//!
//! Named by Prometheus' rules: base units, `_total` for what only goes up, `_info` for facts.

use super::text::{Family, MetricKind};

/// A family of series of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnMetric {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricKind,
    /// Its help.
    pub help: &'static str,
}

impl OwnMetric {
    pub(super) fn on<'a>(&self, page: &'a mut String) -> Family<'a> {
        Family::new(page, self.name, self.kind, self.help)
    }
}

/// Declares the families.
macro_rules! families {
    ($($constant:ident $name:literal $kind:ident $help:literal)+) => {
        $(pub(super) const $constant: OwnMetric = OwnMetric {
            name: $name,
            kind: MetricKind::$kind,
            help: $help,
        };)+

        /// All of them.
        pub const OWN_METRICS: &[OwnMetric] = &[$($constant),+];
    };
}

families! {
    METRIC_SUPPORTED "mizzen_metric_supported" Gauge "0 for each configured counter that the GPU does not give, with the reason; those it gives have no series here."
    GPU_METRICS "mizzen_gpu_metrics_supported" Gauge "How many of the configured counters the GPU gives."
    METRICS_CONFIGURED "mizzen_metrics_configured" Gauge "How many counters are configured."
    GPU_SAMPLED "mizzen_gpu_sampled" Gauge "Whether the last attempt to sample the GPU went well."
    GPU_SAMPLE_TIMESTAMP "mizzen_gpu_sample_timestamp_seconds" Gauge "When the last good sample of the GPU was taken."
    GPU_SAMPLE_AGE "mizzen_gpu_sample_age_seconds" Gauge "How old the last good sample of the GPU is."
    GPU_SAMPLE_ERRORS "mizzen_gpu_sample_errors_total" Counter "Attempts to sample the GPU that failed."
    GPU_INFO "mizzen_gpu_info" Gauge "What the GPU is."
    GPU_HEALTHY "mizzen_gpu_healthy" Gauge "Whether the GPU, or a MIG device of which a fault was reported, is healthy."
    GPU_UNHEALTHY_REASON "mizzen_gpu_unhealthy_reason" Gauge "1 for each reason why the GPU or MIG device is unhealthy."
    GPU_UNHEALTHY_SINCE "mizzen_gpu_unhealthy_since_timestamp_seconds" Gauge "Since when each reason holds."
    XID_ERRORS "mizzen_gpu_xid_errors_total" Counter "Xids that the GPU has reported, by number."
    XID_LAST "mizzen_gpu_xid_last_timestamp_seconds" Gauge "When the GPU reported the Xid last."
    XID_OF_NOBODY "mizzen_xid_errors_of_unknown_gpu_total" Counter "Xids of which the driver did not say whose they are, by number."
    THROTTLED "mizzen_gpu_clocks_throttled" Gauge "Whether the clocks are below their highest for this reason."
    ALLOCATED "mizzen_gpu_allocated" Gauge "How many devices of the GPU or MIG device the container holds: one, or so many replicas."
    ALLOCATED_SINCE "mizzen_gpu_allocated_since_timestamp_seconds" Gauge "Since when the container holds it."
    IDLE "mizzen_gpu_idle_seconds" Gauge "For how long the GPU or MIG device has been held and done nothing."
    POD_MEMORY "mizzen_pod_gpu_memory_used_bytes" Gauge "Framebuffer memory that the container's processes hold; without a pod, what is left of the memory used."
    POD_SM "mizzen_pod_gpu_sm_utilization_percent" Gauge "How busy the container's processes keep the SMs; without a pod, processes of nobody known."
    POD_MEMORY_UTIL "mizzen_pod_gpu_memory_utilization_percent" Gauge "How busy the container's processes keep the memory; without a pod, processes of nobody known."
    POD_PROCESSES "mizzen_pod_gpu_processes" Gauge "Processes of the container on the GPU or MIG device; without a pod, processes of nobody known."
    RESOURCE_DEVICES "mizzen_resource_devices" Gauge "Devices offered to the kubelet."
    RESOURCE_HEALTHY "mizzen_resource_healthy_devices" Gauge "Devices offered to the kubelet that are healthy."
    RESOURCE_ALLOCATED "mizzen_resource_allocated_devices" Gauge "Devices that containers hold."
    REGISTRATIONS "mizzen_plugin_registrations_total" Counter "Registrations with the kubelet."
    ALLOCATE_DURATION "mizzen_allocate_duration_seconds" Histogram "How long calls of Allocate took."
    ALLOCATE_FAILURES "mizzen_allocate_failures_total" Counter "Calls of Allocate that were refused."
    PODS_TOLD "mizzen_pods_timestamp_seconds" Gauge "When the kubelet last said which pods hold what."
    CONFIG_GENERATION "mizzen_config_generation" Gauge "How many configs have come into force since the start."
    CONFIG_TIMESTAMP "mizzen_config_timestamp_seconds" Gauge "When the config in force came into force."
    CONFIG_INFO "mizzen_config_info" Gauge "The config in force."
    BUILD_INFO "mizzen_build_info" Gauge "The program."
    DRIVER_RUNNING "mizzen_driver_running" Gauge "Whether the GPU driver answers."
    DRIVER_INFO "mizzen_driver_info" Gauge "The GPU driver."
    PROCESS_CPU "process_cpu_seconds_total" Counter "Total user and system CPU time spent in seconds."
    PROCESS_OPEN_FDS "process_open_fds" Gauge "Number of open file descriptors."
    PROCESS_MAX_FDS "process_max_fds" Gauge "Maximum number of open file descriptors."
    PROCESS_RESIDENT "process_resident_memory_bytes" Gauge "Resident memory size in bytes."
    PROCESS_VIRTUAL "process_virtual_memory_bytes" Gauge "Virtual memory size in bytes."
    PROCESS_THREADS "process_threads" Gauge "Number of OS threads in the process."
    PROCESS_START "process_start_time_seconds" Gauge "Start time of the process since unix epoch in seconds."
}
