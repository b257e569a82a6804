//! How GPUs reach each other.

use std::ptr;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlPciInfo_t};

use crate::check::{Stop, Verdict, checks, ensure, expect, offered, succeed};
use crate::nvml::{Code, Guarded, Nvml, text_of};

/// More links than any GPU has; `NVML_NVLINK_MAX_LINKS` is 36.
const TOO_MANY_LINKS: u32 = 64;
/// The levels of `nvmlGpuTopologyLevel_t`, from near to far.
const LEVELS: [u32; 6] = [0, 10, 20, 30, 40, 50];

checks! {
    "two GPUs have the same common ancestor from either side" => common_ancestor,
    "the GPUs nearest at a level are those whose ancestor is at that level" => nearest,
    "a link beyond the last one is refused" => link_range,
    "every active link has another end, and direct links are told by both ends" => link_ends,
    "NULL in questions about topology is refused" => null,
}

fn ancestor(nvml: &Nvml, a: nvmlDevice_t, b: nvmlDevice_t) -> Result<u32, Stop> {
    let mut level = Guarded::new(u32::MAX);
    let code = nvml.nvmlDeviceGetTopologyCommonAncestor(a, b, level.pointer());
    offered("nvmlDeviceGetTopologyCommonAncestor", code)?;
    ensure!(level.intact(), "a stray write");
    ensure!(
        LEVELS.contains(&level.value),
        "there is no level {}",
        level.value
    );
    Ok(level.value)
}

fn common_ancestor(nvml: &Nvml) -> Verdict {
    let devices = nvml.devices()?;
    for (position, &a) in devices.iter().enumerate() {
        for &b in &devices[position + 1..] {
            let (there, back) = (ancestor(nvml, a, b)?, ancestor(nvml, b, a)?);
            ensure!(there == back, "{there} one way and {back} the other");
        }
    }
    Ok(())
}

fn nearest(nvml: &Nvml) -> Verdict {
    let devices = nvml.devices()?;
    let a = devices[0];
    for level in LEVELS {
        let mut expected = 0;
        for &b in &devices[1..] {
            expected += u32::from(ancestor(nvml, a, b)? == level);
        }
        let mut count = 0;
        let code = nvml.nvmlDeviceGetTopologyNearestGpus(a, level, &raw mut count, ptr::null_mut());
        offered("nvmlDeviceGetTopologyNearestGpus", code)?;
        ensure!(
            count == expected,
            "{count} at level {level}, not {expected}"
        );
        let mut found = vec![ptr::null_mut(); count as usize + 1];
        if count > 0 {
            let code =
                nvml.nvmlDeviceGetTopologyNearestGpus(a, level, &raw mut count, found.as_mut_ptr());
            succeed("nvmlDeviceGetTopologyNearestGpus", code)?;
        }
        let (found, beyond) = found.split_at(count as usize);
        ensure!(
            found.iter().all(|gpu| devices.contains(gpu)),
            "an unknown GPU"
        );
        ensure!(beyond.iter().all(|gpu| gpu.is_null()), "a stray write");
    }
    Ok(())
}

fn link_range(nvml: &Nvml) -> Verdict {
    let mut asked = false;
    for device in nvml.devices()? {
        let mut state = Guarded::new(u32::MAX);
        let first = nvml.nvmlDeviceGetNvLinkState(device, 0, state.pointer());
        if first == Code::NOT_SUPPORTED {
            continue; // without NVLinks, beside others that have them
        }
        asked = true;
        offered("nvmlDeviceGetNvLinkState", first)?;
        ensure!(
            state.value <= 1,
            "the first link's state is {}",
            state.value
        );
        for link in [TOO_MANY_LINKS, u32::MAX] {
            let code = nvml.nvmlDeviceGetNvLinkState(device, link, state.pointer());
            expect(&format!("link {link}"), code, &[Code::INVALID_ARGUMENT])?;
        }
    }
    nvlinks(asked)
}

/// Skips the check when no GPU of the node has NVLinks.
fn nvlinks(any: bool) -> Verdict {
    if any {
        return Ok(());
    }
    Err(Stop::Skip("no GPU has NVLinks".to_owned()))
}

/// The other ends of a GPU's active links: their kinds and places.
fn ends(nvml: &Nvml, device: nvmlDevice_t) -> Result<Vec<(u32, String)>, Stop> {
    let mut ends = Vec::new();
    for link in 0..TOO_MANY_LINKS {
        let mut state = 0;
        match nvml.nvmlDeviceGetNvLinkState(device, link, &raw mut state) {
            Code::SUCCESS if state == 1 => {}
            Code::SUCCESS => continue,
            Code::INVALID_ARGUMENT | Code::NOT_SUPPORTED => break,
            code => offered("nvmlDeviceGetNvLinkState", code)?,
        }
        let mut kind = Guarded::new(u32::MAX);
        let code = nvml.nvmlDeviceGetNvLinkRemoteDeviceType(device, link, kind.pointer());
        offered("nvmlDeviceGetNvLinkRemoteDeviceType", code)?;
        ensure!(matches!(kind.value, 0..=2 | 255), "the kind {}", kind.value);
        let mut info = Guarded::<nvmlPciInfo_t>::zeroed();
        let code = nvml.nvmlDeviceGetNvLinkRemotePciInfo_v2(device, link, info.pointer());
        offered("nvmlDeviceGetNvLinkRemotePciInfo_v2", code)?;
        ensure!(info.intact(), "a stray write");
        ends.push((kind.value, text_of(&info.value.busId).to_uppercase()));
    }
    Ok(ends)
}

fn link_ends(nvml: &Nvml) -> Verdict {
    const GPU: u32 = 0;
    let devices = nvml.devices()?;
    let mut gpus = Vec::new();
    for &device in &devices {
        let mut info = Guarded::<nvmlPciInfo_t>::zeroed();
        succeed(
            "nvmlDeviceGetPciInfo_v3",
            nvml.nvmlDeviceGetPciInfo_v3(device, info.pointer()),
        )?;
        gpus.push((text_of(&info.value.busId), ends(nvml, device)?));
    }
    let count = |ends: &[(u32, String)], place: &str| {
        let direct = ends
            .iter()
            .filter(|(kind, end)| *kind == GPU && end == place);
        direct.count()
    };
    for (a, ends_of_a) in &gpus {
        for (b, ends_of_b) in &gpus {
            let (there, back) = (count(ends_of_a, b), count(ends_of_b, a));
            ensure!(
                there == back,
                "{a} has {there} links to {b}, which has {back} back"
            );
        }
    }
    nvlinks(gpus.iter().any(|(_, ends)| !ends.is_empty()))
}

fn null(nvml: &Nvml) -> Verdict {
    let device = nvml.devices()?[0];
    let nobody: nvmlDevice_t = ptr::null_mut();
    let mut level = 0;
    let answers = [
        nvml.nvmlDeviceGetTopologyCommonAncestor(nobody, device, &raw mut level),
        nvml.nvmlDeviceGetTopologyCommonAncestor(device, nobody, &raw mut level),
        nvml.nvmlDeviceGetTopologyCommonAncestor(device, device, ptr::null_mut()),
        nvml.nvmlDeviceGetTopologyNearestGpus(device, 10, ptr::null_mut(), ptr::null_mut()),
        nvml.nvmlDeviceGetNvLinkState(nobody, 0, &raw mut level),
    ];
    for (position, code) in answers.into_iter().enumerate() {
        let allowed = [Code::INVALID_ARGUMENT, Code::NOT_SUPPORTED];
        expect(&format!("question {position}"), code, &allowed)?;
    }
    Ok(())
}
