//! The page beside dcgm-exporter's own: names, types, help and the order of labels.

use mizzen_core::metrics::Counters;

use crate::format::{self, Family, Series};
use crate::goldens;

/// What the exporter serves with its own file of counters: name, type and help.
const DEFAULT: &str = "\
DCGM_FI_DEV_SM_CLOCK|gauge|SM clock frequency (in MHz).
DCGM_FI_DEV_MEM_CLOCK|gauge|Memory clock frequency (in MHz).
DCGM_FI_DEV_MEMORY_TEMP|gauge|Memory temperature (in C).
DCGM_FI_DEV_GPU_TEMP|gauge|GPU temperature (in C).
DCGM_FI_DEV_POWER_USAGE|gauge|Power draw (in W).
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION|counter|Total energy consumption since boot (in mJ).
DCGM_FI_DEV_PCIE_REPLAY_COUNTER|counter|Total number of PCIe retries.
DCGM_FI_DEV_GPU_UTIL|gauge|GPU utilization (in %).
DCGM_FI_DEV_MEM_COPY_UTIL|gauge|Memory utilization (in %).
DCGM_FI_DEV_ENC_UTIL|gauge|Encoder utilization (in %).
DCGM_FI_DEV_DEC_UTIL|gauge|Decoder utilization (in %).
DCGM_FI_DEV_XID_ERRORS|gauge|Value of the last XID error encountered.
DCGM_FI_DEV_FB_FREE|gauge|Framebuffer memory free (in MiB).
DCGM_FI_DEV_FB_USED|gauge|Framebuffer memory used (in MiB).
DCGM_FI_DEV_FB_RESERVED|gauge|Framebuffer memory reserved (in MiB).
DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL|counter|Total number of NVLink bandwidth counters for all lanes.
DCGM_FI_DEV_VGPU_LICENSE_STATUS|gauge|vGPU License status
DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS|counter|Number of remapped rows for uncorrectable errors
DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS|counter|Number of remapped rows for correctable errors
DCGM_FI_DEV_ROW_REMAP_FAILURE|gauge|Whether remapping of rows has failed
DCGM_FI_PROF_GR_ENGINE_ACTIVE|gauge|Ratio of time the graphics engine is active.
DCGM_FI_PROF_PIPE_TENSOR_ACTIVE|gauge|Ratio of cycles the tensor (HMMA) pipe is active.
DCGM_FI_PROF_DRAM_ACTIVE|gauge|Ratio of cycles the device memory interface is active sending or receiving data.
DCGM_FI_PROF_PCIE_TX_BYTES|gauge|The rate of data transmitted over the PCIe bus - including both protocol headers and data payloads - in bytes per second.
DCGM_FI_PROF_PCIE_RX_BYTES|gauge|The rate of data received over the PCIe bus - including both protocol headers and data payloads - in bytes per second.
";

fn families(page: &str) -> Vec<Family> {
    format::read(page).unwrap()
}

#[test]
fn by_default_the_page_has_the_exporters_families_in_its_order() {
    let defaults = Counters::default();
    let counters = defaults.counters().iter();
    let ours: Vec<String> = counters
        .map(|it| format!("{}|{}|{}", it.name, it.kind.word(), it.help))
        .collect();
    assert_eq!(ours, DEFAULT.lines().collect::<Vec<_>>());
    // A GPU that gives all but the one that no GPU gives has them so on its page.
    let page = goldens::mixed().page();
    let served: Vec<String> = families(&page)
        .iter()
        .filter(|family| family.name.starts_with("DCGM"))
        .map(|it| format!("{}|{}|{}", it.name, it.kind, it.help))
        .collect();
    let expected: Vec<&str> = DEFAULT
        .lines()
        .filter(|line| !line.contains("VGPU_LICENSE"))
        .collect();
    assert_eq!(served, expected);
}

#[test]
fn a_file_of_the_defaults_is_the_default() {
    let line = |line: &str| {
        let columns: Vec<&str> = line.split('|').collect();
        format!("{},  {}, {}\n", columns[0], columns[1], columns[2])
    };
    let mut file: String = DEFAULT.lines().map(line).collect();
    file.push_str("DCGM_FI_DRIVER_VERSION,        label, Driver Version\n");
    assert_eq!(Counters::parse(&file).unwrap(), Counters::default());
}

/// The labels that the exporter's template writes first, then those of the counters file, then
/// those of the pod, each group by name.
fn in_the_exporters_order(series: &Series) -> bool {
    let names = series.label_names();
    let is_attribute = |name: &&&str| {
        let pod = ["container", "namespace", "pod", "pod_uid"];
        let old = ["container_name", "pod_name", "pod_namespace"];
        pod.contains(*name) || old.contains(*name) || name.starts_with("err_")
    };
    let device = [
        "gpu",
        "UUID",
        "pci_bus_id",
        "device",
        "modelName",
        "GPU_I_PROFILE",
        "GPU_I_ID",
        "Hostname",
    ];
    let told = |name: &&str| match *name {
        "uuid" => "UUID",
        "hostname" => "Hostname",
        _ => device
            .iter()
            .find(|known| *known == name)
            .copied()
            .unwrap_or_default(),
    };
    let places: Vec<&str> = names
        .iter()
        .map(told)
        .take_while(|it| !it.is_empty())
        .collect();
    let is_mig = places.contains(&"GPU_I_ID");
    let expected = device
        .iter()
        .filter(|name| is_mig || !name.starts_with("GPU_I"));
    let rest = &names[places.len()..];
    let split = rest.iter().position(|name| is_attribute(&name));
    let (labels, attributes) = rest.split_at(split.unwrap_or(rest.len()));
    places.iter().eq(expected)
        && labels.is_sorted()
        && attributes.is_sorted()
        && attributes.iter().all(|name| is_attribute(&name))
}

#[test]
fn labels_stand_in_the_exporters_order() {
    let mut seen = 0;
    for (name, node) in goldens::all() {
        for family in families(&node.page()) {
            let is_device = family.name.to_lowercase().starts_with("dcgm_");
            for series in family.series.iter().filter(|_| is_device) {
                assert!(in_the_exporters_order(series), "{name}: {series:?}");
                seen += 1;
            }
        }
    }
    assert!(seen > 150, "{seen} series were looked at");
}

#[test]
fn a_series_reads_as_the_exporter_writes_it() {
    let page = goldens::mixed().page();
    for line in [
        "DCGM_FI_DEV_POWER_USAGE{gpu=\"1\",UUID=\"GPU-4d697a7a-656e-4000-8000-000000000001\",\
         pci_bus_id=\"00000000:0F:00.0\",device=\"nvidia1\",modelName=\"NVIDIA H100 80GB HBM3\",\
         Hostname=\"node-1\",DCGM_FI_DRIVER_VERSION=\"580.65.06\",container=\"main\",\
         namespace=\"research\",pod=\"trainer\"} 252.500000\n",
        "DCGM_FI_DEV_FB_USED{gpu=\"0\",UUID=\"GPU-4d697a7a-656e-4000-8000-000000000000\",\
         pci_bus_id=\"00000000:07:00.0\",device=\"nvidia0\",modelName=\"NVIDIA H100 80GB HBM3\",\
         GPU_I_PROFILE=\"1g.10gb\",GPU_I_ID=\"9\",Hostname=\"node-1\",\
         DCGM_FI_DRIVER_VERSION=\"580.65.06\"} 20900\n",
    ] {
        assert!(page.contains(line), "{line}");
    }
}
