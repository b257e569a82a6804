"""Reads the node with NVIDIA's own Python bindings and prints what they tell, as JSON."""

import json
import time

import pynvml as nvml


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def active_links(device):
    """The kind and the place of the other end of each active NVLink."""
    ends = []
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            if nvml.nvmlDeviceGetNvLinkState(device, link) != nvml.NVML_FEATURE_ENABLED:
                continue
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument):
            break
        kind = nvml.nvmlDeviceGetNvLinkRemoteDeviceType(device, link)
        place = nvml.nvmlDeviceGetNvLinkRemotePciInfo(device, link)
        ends.append([kind, text(place.busId)])
    return ends


def busy_by_gpm(device):
    """How busy the GPU is between two samples, in percent; None before Hopper."""
    if not nvml.nvmlGpmQueryDeviceSupport(device).isSupportedDevice:
        return None
    metrics = nvml.c_nvmlGpmMetricsGet_t()
    metrics.version = nvml.NVML_GPM_METRICS_GET_VERSION
    metrics.numMetrics = 1
    metrics.metrics[0].metricId = nvml.NVML_GPM_METRIC_GRAPHICS_UTIL
    metrics.sample1 = nvml.nvmlGpmSampleGet(device, nvml.nvmlGpmSampleAlloc())
    time.sleep(0.1)
    metrics.sample2 = nvml.nvmlGpmSampleGet(device, nvml.nvmlGpmSampleAlloc())
    nvml.nvmlGpmMetricsGet(metrics)
    nvml.nvmlGpmSampleFree(metrics.sample1)
    nvml.nvmlGpmSampleFree(metrics.sample2)
    assert metrics.metrics[0].nvmlReturn == nvml.NVML_SUCCESS
    return round(metrics.metrics[0].value)


def read(device):
    memory = nvml.nvmlDeviceGetMemoryInfo(device, version=nvml.nvmlMemory_v2)
    rates = nvml.nvmlDeviceGetUtilizationRates(device)
    uuid = text(nvml.nvmlDeviceGetUUID(device))
    pci = text(nvml.nvmlDeviceGetPciInfo(device).busId)
    index = nvml.nvmlDeviceGetIndex(device)
    by_uuid = nvml.nvmlDeviceGetHandleByUUID(uuid)
    by_pci = nvml.nvmlDeviceGetHandleByPciBusId(pci)
    return {
        "index": index,
        "name": text(nvml.nvmlDeviceGetName(device)),
        "uuid": uuid,
        "pci": pci,
        "minor": nvml.nvmlDeviceGetMinorNumber(device),
        "found_again": [nvml.nvmlDeviceGetIndex(by_uuid), nvml.nvmlDeviceGetIndex(by_pci)],
        "memory_total": memory.total,
        "memory_used": memory.used,
        "compute_capability": nvml.nvmlDeviceGetCudaComputeCapability(device),
        "gpu_utilisation": rates.gpu,
        "memory_utilisation": rates.memory,
        "gpm_utilisation": busy_by_gpm(device),
        "power_milliwatts": nvml.nvmlDeviceGetPowerUsage(device),
        "celsius": nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
        "processes": sorted(
            [process.pid, process.usedGpuMemory]
            for process in nvml.nvmlDeviceGetComputeRunningProcesses(device)
        ),
        "links": active_links(device),
    }


def main():
    nvml.nvmlInit()
    devices = [
        nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())
    ]
    ancestors = [
        [
            None if a is b else nvml.nvmlDeviceGetTopologyCommonAncestor(a, b)
            for b in devices
        ]
        for a in devices
    ]
    print(
        json.dumps(
            {
                "driver": text(nvml.nvmlSystemGetDriverVersion()),
                "cuda": nvml.nvmlSystemGetCudaDriverVersion(),
                "gpus": [read(device) for device in devices],
                "ancestors": ancestors,
            }
        )
    )
    nvml.nvmlShutdown()


if __name__ == "__main__":
    main()
