"""Reads, and as root partitions, a GPU with NVIDIA's own Python bindings; prints JSON."""

import json
import os

import pynvml as nvml


def text(value):
    return value.decode() if isinstance(value, bytes) else value


def profiles(device):
    """The GPU instance profiles: id, how many fit, how many still fit, where they may begin."""
    found = []
    for number in range(nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
        try:
            info = nvml.nvmlDeviceGetGpuInstanceProfileInfo(device, number, version=2)
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_InvalidArgument):
            # The bindings know of profiles that this version of the API does not.
            continue
        count = nvml.c_uint()
        nvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, info.id, None, nvml.byref(count))
        places = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
        nvml.nvmlDeviceGetGpuInstancePossiblePlacements(
            device, info.id, places, nvml.byref(count)
        )
        left = nvml.nvmlDeviceGetGpuInstanceRemainingCapacity(device, info.id)
        starts = [place.start for place in places]
        found.append([text(info.name), info.id, info.instanceCount, left, starts])
    return sorted(found, key=lambda profile: profile[0])


def devices(device):
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(device)):
        try:
            mig = nvml.nvmlDeviceGetMigDeviceHandleByIndex(device, index)
        except nvml.NVMLError_NotFound:
            break
        uuid = text(nvml.nvmlDeviceGetUUID(mig))
        again = nvml.nvmlDeviceGetHandleByUUID(uuid)
        parent = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(again)
        attributes = nvml.nvmlDeviceGetAttributes_v2(mig)
        found.append(
            {
                "uuid": uuid,
                "name": text(nvml.nvmlDeviceGetName(mig)),
                "gpu": nvml.nvmlDeviceGetIndex(parent),
                "ids": [
                    nvml.nvmlDeviceGetGpuInstanceId(mig),
                    nvml.nvmlDeviceGetComputeInstanceId(mig),
                ],
                "memory_mib": attributes.memorySizeMB,
                "memory_total": nvml.nvmlDeviceGetMemoryInfo(mig).total,
            }
        )
    return found


def partition(device):
    """Two compute instances in half of the GPU; what may not be is refused."""
    half = nvml.nvmlDeviceCreateGpuInstance(device, 9)
    first = nvml.nvmlGpuInstanceCreateComputeInstance(half, 1)
    second = nvml.nvmlGpuInstanceCreateComputeInstance(half, 0)
    seen = [found["name"] for found in devices(device)]
    refused = []
    for call in (
        lambda: nvml.nvmlGpuInstanceCreateComputeInstance(half, 0),
        lambda: nvml.nvmlGpuInstanceDestroy(half),
        lambda: nvml.nvmlDeviceSetMigMode(device, nvml.NVML_DEVICE_MIG_DISABLE),
    ):
        try:
            call()
        except nvml.NVMLError as error:
            refused.append(error.value)
    for instance in (first, second):
        nvml.nvmlComputeInstanceDestroy(instance)
    nvml.nvmlGpuInstanceDestroy(half)
    return {"seen": seen, "refused": refused, "left": len(devices(device))}


def main():
    nvml.nvmlInit()
    device = nvml.nvmlDeviceGetHandleByIndex(1)
    print(
        json.dumps(
            {
                "mode": nvml.nvmlDeviceGetMigMode(device),
                "profiles": profiles(device),
                "devices": devices(device),
                "partitioned": partition(device) if os.geteuid() == 0 else None,
            }
        )
    )
    nvml.nvmlShutdown()


if __name__ == "__main__":
    main()
