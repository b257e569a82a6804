//! GPM: samples and the metrics between two of them.

use std::ffi::c_uint;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpmMetric_t, nvmlGpmMetric_t__bindgen_ty_1, nvmlGpmMetricsGet_t,
    nvmlGpmSample_t, nvmlGpmSupport_t, nvmlReturn_t,
};

use super::global::{decode, encode, session, with_device};
use super::pointer::{put, required};
use super::{SUCCESS, answer};
use crate::engine::{Failure, GpmSample, METRICS};

/// `NVML_GPM_SUPPORT_VERSION` and `NVML_GPM_METRICS_GET_VERSION`: unlike elsewhere the bare
/// number, without the size.
const VERSION: c_uint = 1;
/// Samples that a process can have allocated.
const MOST: usize = 4096;
/// The kind of handle.
const SAMPLE: u64 = 0x4D5A_0003;
/// Samples belong to the process: they outlive a session, as memory does.
const NO_EPOCH: u32 = 0;

/// A place of the table: free, allocated, or with a sample in it.
#[derive(Clone, Copy)]
enum Place {
    Free,
    Empty,
    Taken(GpmSample),
}

/// The samples that are allocated. The lowest free place is given away first.
static SAMPLES: Mutex<Vec<Place>> = Mutex::new(Vec::new());

fn samples() -> MutexGuard<'static, Vec<Place>> {
    SAMPLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a sample is in the table, which must have it.
fn place(table: &mut [Place], handle: nvmlGpmSample_t) -> Result<&mut Place, Failure> {
    let number = decode(SAMPLE, NO_EPOCH, handle.addr())? as usize;
    match table.get_mut(number) {
        None | Some(Place::Free) => Err(Failure::InvalidArgument),
        Some(place) => Ok(place),
    }
}

fn taken(handle: nvmlGpmSample_t) -> Result<GpmSample, Failure> {
    match place(&mut samples(), handle)? {
        Place::Taken(sample) => Ok(*sample),
        Place::Free | Place::Empty => Err(Failure::InvalidArgument),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmSampleAlloc(sample: *mut nvmlGpmSample_t) -> nvmlReturn_t {
    answer(|| {
        session()?;
        let sample = required(sample)?;
        let mut table = samples();
        let free = |place: &Place| matches!(place, Place::Free);
        let number = table.iter().position(free).unwrap_or(table.len());
        if number == MOST {
            return Err(Failure::Memory);
        }
        if number == table.len() {
            table.push(Place::Free);
        }
        table[number] = Place::Empty;
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let handle = std::ptr::without_provenance_mut(encode(SAMPLE, NO_EPOCH, number));
        // SAFETY: nvml.h: a pointer that is not null points to a writable handle.
        unsafe { put(sample, handle) };
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) -> nvmlReturn_t {
    answer(|| {
        session()?;
        *place(&mut samples(), sample)? = Place::Free;
        Ok(())
    })
}

/// Asks the GPU before the table is looked at: a GPU that hangs must not keep it from others.
fn take(
    device: nvmlDevice_t,
    gpu_instance: Option<u32>,
    sample: nvmlGpmSample_t,
) -> Result<(), Failure> {
    let taken = with_device(device, |device| device.gpm_sample(gpu_instance))?;
    *place(&mut samples(), sample)? = Place::Taken(taken);
    Ok(())
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmSampleGet(
    device: nvmlDevice_t,
    sample: nvmlGpmSample_t,
) -> nvmlReturn_t {
    answer(|| take(device, None, sample))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmMigSampleGet(
    device: nvmlDevice_t,
    gpu_instance: c_uint,
    sample: nvmlGpmSample_t,
) -> nvmlReturn_t {
    answer(|| take(device, Some(gpu_instance), sample))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmQueryDeviceSupport(
    device: nvmlDevice_t,
    support: *mut nvmlGpmSupport_t,
) -> nvmlReturn_t {
    answer(|| {
        with_device(device, |device| {
            let support = required(support)?;
            // SAFETY: nvml.h: a pointer that is not null points to a value that begins with its
            // version.
            check_version(unsafe { support.cast::<c_uint>().read_unaligned() })?;
            let value = nvmlGpmSupport_t {
                version: VERSION,
                isSupportedDevice: c_uint::from(device.model().has_gpm()),
            };
            // SAFETY: The version says that the value is of this type.
            unsafe { put(support, value) };
            Ok(())
        })
    })
}

fn check_version(version: c_uint) -> Result<(), Failure> {
    if version == VERSION {
        Ok(())
    } else {
        Err(Failure::ArgumentVersionMismatch)
    }
}

/// The list of metrics is as long as the caller says: it has grown with NVML, under one version.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmMetricsGet(metrics: *mut nvmlGpmMetricsGet_t) -> nvmlReturn_t {
    answer(|| {
        session()?;
        let metrics = required(metrics)?.as_ptr();
        // SAFETY: nvml.h: a pointer that is not null points to a value that begins with its
        // version.
        check_version(unsafe { metrics.cast::<c_uint>().read_unaligned() })?;
        // SAFETY: The version says that the value begins so; only places are computed.
        let (count, first, second, list) = unsafe {
            (
                (&raw const (*metrics).numMetrics).read_unaligned(),
                (&raw const (*metrics).sample1).read_unaligned(),
                (&raw const (*metrics).sample2).read_unaligned(),
                (&raw mut (*metrics).metrics).cast::<nvmlGpmMetric_t>(),
            )
        };
        if count == 0 || count >= METRICS {
            return Err(Failure::InvalidArgument);
        }
        let (first, second) = (taken(first)?, taken(second)?);
        for position in 0..count as usize {
            // SAFETY: nvml.h: the list has as many metrics as the caller says.
            unsafe { fill(required(list.add(position))?, &first, &second) };
        }
        Ok(())
    })
}

/// Answers one metric. Names and units are not told, as nvml.h allows.
///
/// # Safety
/// The pointer is to a metric with its id.
unsafe fn fill(metric: NonNull<nvmlGpmMetric_t>, first: &GpmSample, second: &GpmSample) {
    // SAFETY: The caller's promise.
    let id = unsafe { (&raw const (*metric.as_ptr()).metricId).read_unaligned() };
    let (code, value) = match first.metric(second, id) {
        Ok(value) => (SUCCESS, value),
        Err(failure) => (failure as nvmlReturn_t, 0.0),
    };
    let null = std::ptr::null_mut();
    let answer = nvmlGpmMetric_t {
        metricId: id,
        nvmlReturn: code,
        value,
        metricInfo: nvmlGpmMetric_t__bindgen_ty_1 {
            shortName: null,
            longName: null,
            unit: null,
        },
    };
    // SAFETY: The caller's promise.
    unsafe { put(metric, answer) };
}
