//! Handles of MIG devices, GPU instances and compute instances. As all handles they are numbers:
//! one that was made up, or whose instance is gone, is refused and never followed.

use nvml_wrapper_sys::bindings::{nvmlComputeInstance_t, nvmlDevice_t, nvmlGpuInstance_t};

use crate::engine::{Device, Failure, MigDevice, Session};
use crate::exports::global::{decode, encode, session, with_device};
use crate::mig::{ComputeInstance, GpuInstance, Partition};

/// Kinds of handles, in the highest bits. Below them is the serial number of the instance, which
/// tells it from a later one at the same place.
const MIG_DEVICE: u64 = 0x4D61;
const GPU_INSTANCE: u64 = 0x4D62;
const COMPUTE_INSTANCE: u64 = 0x4D63;

/// What such a handle stands for.
#[derive(Debug, Clone, Copy)]
struct Part {
    gpu: u32,
    gpu_instance: u32,
    compute_instance: u32,
    serial: u64,
}

impl Part {
    /// 64 GPUs with 15 places of GPU instances with 8 of compute instances: 13 bits.
    fn handle(self, kind: u64, epoch: u32) -> usize {
        let number = self.gpu << 7 | self.gpu_instance << 3 | self.compute_instance;
        encode(kind << 16 | self.serial & 0xffff, epoch, number)
    }

    fn of(handle: usize, kind: u64, epoch: u32) -> Result<Self, Failure> {
        let serial = handle as u64 >> 32 & 0xffff;
        let number = decode(kind << 16 | serial, epoch, handle)?;
        Ok(Self {
            gpu: number >> 7,
            gpu_instance: number >> 3 & 0xf,
            compute_instance: number & 0x7,
            serial,
        })
    }

    fn of_gpu_instance(gpu: usize, instance: &GpuInstance) -> Self {
        Self {
            gpu: u32::try_from(gpu).unwrap_or(u32::MAX),
            gpu_instance: instance.id,
            compute_instance: 0,
            serial: u64::from(instance.serial),
        }
    }

    fn of_compute_instance(gpu: usize, instance: &ComputeInstance) -> Self {
        Self {
            gpu: u32::try_from(gpu).unwrap_or(u32::MAX),
            gpu_instance: instance.gpu_instance,
            compute_instance: instance.id,
            serial: u64::from(instance.serial),
        }
    }

    fn has_serial(self, serial: u32) -> bool {
        u64::from(serial) & 0xffff == self.serial
    }

    fn device(self, session: &Session) -> Result<Device<'_>, Failure> {
        session.device(self.gpu as usize)
    }

    fn gpu_instance(self, partition: &Partition) -> Result<GpuInstance, Failure> {
        let found = partition.gpu_instance(self.gpu_instance).ok();
        let found = found.filter(|found| self.has_serial(found.serial));
        found.copied().ok_or(Failure::InvalidArgument)
    }

    fn compute_instance(self, partition: &Partition) -> Result<ComputeInstance, Failure> {
        let mut inside = partition.inside(self.gpu_instance);
        let found =
            inside.find(|found| found.id == self.compute_instance && self.has_serial(found.serial));
        found.copied().ok_or(Failure::InvalidArgument)
    }
}

/// The partition of a GPU that a handle says is partitioned.
fn partition(device: &Device<'_>) -> Result<Partition, Failure> {
    device.partition().map_err(|_| Failure::InvalidArgument)
}

/// What a device handle stands for.
pub(in crate::exports) enum Either<'a> {
    Gpu(&'a Device<'a>),
    Mig(&'a Device<'a>, MigDevice),
}

/// Asks a GPU or a MIG device.
pub(in crate::exports) fn with_either<T>(
    handle: nvmlDevice_t,
    ask: impl FnOnce(&Either<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (session, epoch) = session()?;
    let Ok(part) = Part::of(handle.addr(), MIG_DEVICE, epoch) else {
        return with_device(handle, |device| ask(&Either::Gpu(device)));
    };
    let device = part.device(&session)?;
    let partition = partition(&device)?;
    let instance = part.compute_instance(&partition)?;
    let found = device.mig_device(&partition, &instance)?;
    ask(&Either::Mig(&device, found))
}

/// Asks a GPU instance.
pub(super) fn with_gpu_instance<T>(
    handle: nvmlGpuInstance_t,
    ask: impl FnOnce(&Device<'_>, &Partition, &GpuInstance) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (session, epoch) = session()?;
    let part = Part::of(handle.addr(), GPU_INSTANCE, epoch)?;
    let device = part.device(&session)?;
    let partition = partition(&device)?;
    ask(&device, &partition, &part.gpu_instance(&partition)?)
}

/// Asks a compute instance.
pub(super) fn with_compute_instance<T>(
    handle: nvmlComputeInstance_t,
    ask: impl FnOnce(&Device<'_>, &Partition, &ComputeInstance) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (session, epoch) = session()?;
    let part = Part::of(handle.addr(), COMPUTE_INSTANCE, epoch)?;
    let device = part.device(&session)?;
    let partition = partition(&device)?;
    ask(&device, &partition, &part.compute_instance(&partition)?)
}

/// The handle of a MIG device.
pub(in crate::exports) fn mig_handle(epoch: u32, gpu: usize, device: &MigDevice) -> nvmlDevice_t {
    let part = Part::of_compute_instance(gpu, &device.compute_instance);
    std::ptr::without_provenance_mut(part.handle(MIG_DEVICE, epoch))
}

/// The handle of a GPU instance.
pub(super) fn gpu_instance_handle(
    device: &Device<'_>,
    instance: &GpuInstance,
) -> Result<nvmlGpuInstance_t, Failure> {
    let part = Part::of_gpu_instance(device.index(), instance);
    Ok(std::ptr::without_provenance_mut(
        part.handle(GPU_INSTANCE, session()?.1),
    ))
}

/// The handle of a compute instance.
pub(super) fn compute_instance_handle(
    device: &Device<'_>,
    instance: &ComputeInstance,
) -> Result<nvmlComputeInstance_t, Failure> {
    let part = Part::of_compute_instance(device.index(), instance);
    Ok(std::ptr::without_provenance_mut(
        part.handle(COMPUTE_INSTANCE, session()?.1),
    ))
}
