/*
 * A user's NVML program that is linked with the driver's library, as C programs are: the dynamic
 * linker has to find libnvidia-ml.so.1 before main runs. It prints the UUID of each GPU that it
 * sees, one a line, each followed by those of its MIG devices.
 */

#include <stdio.h>

/* From nvml.h, as far as it is used here. */
typedef void *nvmlDevice_t;
enum { NVML_SUCCESS = 0, UUID_BYTES = 96 };
int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetCount_v2(unsigned int *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device);
int nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length);
int nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned int *count);
int nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned int index,
                                        nvmlDevice_t *mig);

static int print_uuid(nvmlDevice_t device)
{
    char uuid[UUID_BYTES];
    int code = nvmlDeviceGetUUID(device, uuid, sizeof uuid);
    if (code == NVML_SUCCESS)
        puts(uuid);
    return code;
}

static int print_gpu(unsigned int index)
{
    nvmlDevice_t gpu, mig;
    unsigned int most = 0;
    int code = nvmlDeviceGetHandleByIndex_v2(index, &gpu);
    if (code == NVML_SUCCESS)
        code = print_uuid(gpu);
    if (code != NVML_SUCCESS || nvmlDeviceGetMaxMigDeviceCount(gpu, &most) != NVML_SUCCESS)
        return code;
    for (unsigned int at = 0; at < most && code == NVML_SUCCESS; at++)
        if (nvmlDeviceGetMigDeviceHandleByIndex(gpu, at, &mig) == NVML_SUCCESS)
            code = print_uuid(mig);
    return code;
}

int main(void)
{
    unsigned int count = 0;
    int code = nvmlInit_v2();
    if (code == NVML_SUCCESS)
        code = nvmlDeviceGetCount_v2(&count);
    for (unsigned int index = 0; index < count && code == NVML_SUCCESS; index++)
        code = print_gpu(index);
    if (code != NVML_SUCCESS)
        printf("error: NVML answers %d\n", code);
    nvmlShutdown();
    return code != NVML_SUCCESS;
}
