"""Reads the node with nvitop's API and prints what it tells, as JSON."""

import json

from nvitop import Device


def read(device):
    return {
        "index": device.index,
        "name": device.name(),
        "uuid": device.uuid(),
        "pci": device.bus_id(),
        "memory_total": device.memory_total(),
        "memory_used": device.memory_used(),
        "compute_capability": device.cuda_compute_capability(),
        "gpu_utilisation": device.gpu_utilization(),
        "memory_utilisation": device.memory_utilization(),
        "power_milliwatts": device.power_usage(),
        "celsius": device.temperature(),
        "processes": sorted(
            [pid, process.gpu_memory()] for pid, process in device.processes().items()
        ),
    }


def main():
    print(
        json.dumps(
            {
                "driver": Device.driver_version(),
                "gpus": [read(device) for device in Device.all()],
            }
        )
    )


if __name__ == "__main__":
    main()
