//! Partitions of GPUs. Nothing is changed, so these checks see what the GPUs are cut into now.

use std::collections::BTreeSet;
use std::ptr;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlDeviceAttributes_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t,
    nvmlGpuInstanceProfileInfo_t,
};

use crate::check::{Stop, Verdict, checks, ensure, expect, offered, succeed};
use crate::nvml::{Code, Guarded, Nvml, Text};

/// `NVML_GPU_INSTANCE_PROFILE_COUNT` of NVML 13.
const PROFILES: u32 = 17;
/// More placements and instances than any profile has.
const ROOM: usize = 64;

checks! {
    "MIG mode is on or off, where it is offered" => mode,
    "the MIG devices lie below the most that there can be" => indices,
    "a MIG device tells its GPU, its instances, its size and a UUID that finds it" => devices,
    "a GPU is no MIG device" => no_mig_device,
    "the profiles of GPU instances have ids of their own and placements on the GPU" => profiles,
    "the GPU instances that there are lie where their profile may" => instances,
    "NULL in questions about MIG is refused" => null,
}

/// The GPUs that offer MIG, and whether it is on; skips the check without any.
fn capable(nvml: &Nvml) -> Result<Vec<(nvmlDevice_t, bool)>, Stop> {
    let mut capable = Vec::new();
    for device in nvml.devices()? {
        let (mut current, mut pending) = (Guarded::new(9), Guarded::new(9));
        let code = nvml.nvmlDeviceGetMigMode(device, current.pointer(), pending.pointer());
        match offered("nvmlDeviceGetMigMode", code) {
            Ok(()) => {}
            Err(Stop::Skip(_)) => continue,
            Err(failed) => return Err(failed),
        }
        ensure!(current.intact() && pending.intact(), "a stray write");
        ensure!(current.value <= 1, "the mode is {}", current.value);
        ensure!(pending.value <= 1, "the pending mode is {}", pending.value);
        capable.push((device, current.value == 1));
    }
    if capable.is_empty() {
        return Err(Stop::Skip("no GPU offers MIG".to_owned()));
    }
    Ok(capable)
}

/// The GPUs with MIG on; skips the check without any.
fn partitioned(nvml: &Nvml) -> Result<Vec<nvmlDevice_t>, Stop> {
    let on: Vec<_> = capable(nvml)?.into_iter().filter(|(_, on)| *on).collect();
    if on.is_empty() {
        return Err(Stop::Skip("no GPU has MIG on".to_owned()));
    }
    Ok(on.into_iter().map(|(device, _)| device).collect())
}

fn most(nvml: &Nvml, device: nvmlDevice_t) -> Result<u32, Stop> {
    let mut count = Guarded::new(u32::MAX);
    let code = nvml.nvmlDeviceGetMaxMigDeviceCount(device, count.pointer());
    succeed("nvmlDeviceGetMaxMigDeviceCount", code)?;
    ensure!(count.value <= 64, "{} MIG devices", count.value);
    Ok(count.value)
}

/// The MIG devices of all GPUs, each with its GPU; skips the check without any.
fn all(nvml: &Nvml) -> Result<Vec<(nvmlDevice_t, nvmlDevice_t)>, Stop> {
    let mut found = Vec::new();
    for gpu in partitioned(nvml)? {
        for index in 0..most(nvml, gpu)? {
            let mut device = Guarded::new(ptr::null_mut());
            let code = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index, device.pointer());
            let allowed = [Code::SUCCESS, Code::NOT_FOUND];
            expect("nvmlDeviceGetMigDeviceHandleByIndex", code, &allowed)?;
            if code == Code::SUCCESS {
                ensure!(!device.value.is_null(), "the handle is NULL");
                found.push((gpu, device.value));
            }
        }
    }
    if found.is_empty() {
        return Err(Stop::Skip("there is no MIG device".to_owned()));
    }
    Ok(found)
}

fn mode(nvml: &Nvml) -> Verdict {
    capable(nvml).map(|_| ())
}

fn indices(nvml: &Nvml) -> Verdict {
    for (gpu, _) in capable(nvml)? {
        let most = most(nvml, gpu)?;
        let mut device = Guarded::new(ptr::null_mut());
        let code = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, most, device.pointer());
        let refusals = [Code::INVALID_ARGUMENT, Code::NOT_FOUND, Code::NOT_SUPPORTED];
        expect("the index behind the last", code, &refusals)?;
    }
    Ok(())
}

fn devices(nvml: &Nvml) -> Verdict {
    let (mut uuids, mut instances) = (BTreeSet::new(), BTreeSet::new());
    for (gpu, mig) in all(nvml)? {
        let mut parent = Guarded::new(ptr::null_mut());
        let code = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(mig, parent.pointer());
        succeed("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", code)?;
        ensure!(parent.value == gpu, "another GPU than it was found on");

        let (mut instance, mut compute) = (Guarded::new(99), Guarded::new(99));
        let code = nvml.nvmlDeviceGetGpuInstanceId(mig, instance.pointer());
        succeed("nvmlDeviceGetGpuInstanceId", code)?;
        let code = nvml.nvmlDeviceGetComputeInstanceId(mig, compute.pointer());
        succeed("nvmlDeviceGetComputeInstanceId", code)?;
        let ids = (gpu, instance.value, compute.value);
        ensure!(
            instances.insert(ids),
            "two MIG devices of the instances {ids:?}"
        );

        let mut uuid = Text::new(96);
        let code = nvml.nvmlDeviceGetUUID(mig, uuid.pointer(), uuid.length());
        succeed("nvmlDeviceGetUUID", code)?;
        let text = uuid.read().unwrap_or_default();
        ensure!(text.starts_with("MIG-"), "its UUID is {text:?}");
        let mut found = Guarded::new(ptr::null_mut());
        let code = nvml.nvmlDeviceGetHandleByUUID(uuid.pointer(), found.pointer());
        succeed("nvmlDeviceGetHandleByUUID", code)?;
        ensure!(found.value == mig, "{text} finds another device");
        ensure!(uuids.insert(text.clone()), "two MIG devices are {text}");

        let mut size = Guarded::<nvmlDeviceAttributes_t>::zeroed();
        let code = nvml.nvmlDeviceGetAttributes_v2(mig, size.pointer());
        offered("nvmlDeviceGetAttributes_v2", code)?;
        ensure!(size.intact(), "a stray write");
        let size = size.value;
        ensure!(size.memorySizeMB > 0, "no memory");
        ensure!(size.multiprocessorCount > 0, "no multiprocessors");
        let (part, whole) = (size.computeInstanceSliceCount, size.gpuInstanceSliceCount);
        ensure!((1..=whole).contains(&part), "{part} of {whole} slices");
    }
    Ok(())
}

fn no_mig_device(nvml: &Nvml) -> Verdict {
    let refusals = [
        Code::NOT_SUPPORTED,
        Code::INVALID_ARGUMENT,
        Code::FUNCTION_NOT_FOUND,
    ];
    for device in nvml.devices()? {
        let mut id = Guarded::new(0);
        let code = nvml.nvmlDeviceGetGpuInstanceId(device, id.pointer());
        expect("its GPU instance", code, &refusals)?;
        let code = nvml.nvmlDeviceGetComputeInstanceId(device, id.pointer());
        expect("its compute instance", code, &refusals)?;
    }
    Ok(())
}

/// The profiles of GPU instances that a GPU offers.
fn offers(nvml: &Nvml, gpu: nvmlDevice_t) -> Result<Vec<nvmlGpuInstanceProfileInfo_t>, Stop> {
    let mut offers = Vec::new();
    for number in 0..PROFILES {
        let mut info = Guarded::<nvmlGpuInstanceProfileInfo_t>::zeroed();
        let code = nvml.nvmlDeviceGetGpuInstanceProfileInfo(gpu, number, info.pointer());
        let allowed = [Code::SUCCESS, Code::NOT_SUPPORTED, Code::INVALID_ARGUMENT];
        expect("nvmlDeviceGetGpuInstanceProfileInfo", code, &allowed)?;
        ensure!(info.intact(), "a stray write");
        if code == Code::SUCCESS {
            offers.push(info.value);
        }
    }
    Ok(offers)
}

fn placements(
    nvml: &Nvml,
    gpu: nvmlDevice_t,
    profile: u32,
) -> Result<Vec<nvmlGpuInstancePlacement_t>, Stop> {
    let call = "nvmlDeviceGetGpuInstancePossiblePlacements_v2";
    let ask = |places, count| {
        nvml.nvmlDeviceGetGpuInstancePossiblePlacements_v2(gpu, profile, places, count)
    };
    let mut count = Guarded::new(0);
    offered(call, ask(ptr::null_mut(), count.pointer()))?;
    let known = count.value as usize;
    ensure!((1..=ROOM).contains(&known), "{known} placements");
    let nowhere = nvmlGpuInstancePlacement_t { start: 0, size: 0 };
    let mut places = Guarded::new([nowhere; ROOM]);
    succeed(call, ask(places.pointer().cast(), count.pointer()))?;
    ensure!(count.value as usize == known, "it told {known} before");
    ensure!(places.intact(), "a stray write");
    Ok(places.value[..known].to_vec())
}

fn profiles(nvml: &Nvml) -> Verdict {
    for gpu in partitioned(nvml)? {
        let offers = offers(nvml, gpu)?;
        ensure!(!offers.is_empty(), "MIG is on, and there is no profile");
        let ids: BTreeSet<u32> = offers.iter().map(|info| info.id).collect();
        ensure!(ids.len() == offers.len(), "profiles share ids: {ids:?}");
        for info in offers {
            ensure!(info.sliceCount > 0, "profile {} has no slice", info.id);
            ensure!(info.memorySizeMB > 0, "profile {} has no memory", info.id);
            let places = placements(nvml, gpu, info.id)?;
            let sizes: BTreeSet<u32> = places.iter().map(|place| place.size).collect();
            ensure!(
                sizes.len() == 1 && !sizes.contains(&0),
                "profile {} has the sizes {sizes:?}",
                info.id
            );
        }
    }
    Ok(())
}

fn instances(nvml: &Nvml) -> Verdict {
    for gpu in partitioned(nvml)? {
        for profile in offers(nvml, gpu)? {
            let mut count = Guarded::new(0);
            let mut found = Guarded::new([ptr::null_mut(); ROOM]);
            let array = found.pointer().cast();
            let code = nvml.nvmlDeviceGetGpuInstances(gpu, profile.id, array, count.pointer());
            if code == Code::NO_PERMISSION {
                return Err(Stop::Skip("GPU instances are root's to see".to_owned()));
            }
            succeed("nvmlDeviceGetGpuInstances", code)?;
            ensure!(found.intact(), "a stray write");
            let count = count.value;
            ensure!(count <= profile.instanceCount, "{count} instances");
            let places = placements(nvml, gpu, profile.id)?;
            for &instance in &found.value[..count as usize] {
                let mut info = Guarded::<nvmlGpuInstanceInfo_t>::zeroed();
                let code = nvml.nvmlGpuInstanceGetInfo(instance, info.pointer());
                succeed("nvmlGpuInstanceGetInfo", code)?;
                let info = info.value;
                ensure!(
                    info.profileId == profile.id,
                    "of profile {}",
                    info.profileId
                );
                let (start, size) = (info.placement.start, info.placement.size);
                let allowed =
                    |place: &nvmlGpuInstancePlacement_t| (place.start, place.size) == (start, size);
                ensure!(
                    places.iter().any(allowed),
                    "{start}:{size} is no place for it"
                );
            }
        }
    }
    Ok(())
}

fn null(nvml: &Nvml) -> Verdict {
    let (gpu, _) = capable(nvml)?[0];
    let refused = [Code::INVALID_ARGUMENT];
    let mut number = Guarded::new(0);
    let code = nvml.nvmlDeviceGetMigMode(gpu, ptr::null_mut(), number.pointer());
    expect("NULL for the mode", code, &refused)?;
    let code = nvml.nvmlDeviceGetMaxMigDeviceCount(gpu, ptr::null_mut());
    expect("NULL for the most", code, &refused)?;
    let code = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, 0, ptr::null_mut());
    expect("NULL for the MIG device", code, &refused)?;
    let code = nvml.nvmlDeviceGetMigMode(ptr::null_mut(), number.pointer(), number.pointer());
    expect("NULL for the GPU", code, &refused)
}
