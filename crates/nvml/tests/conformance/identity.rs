//! Counting GPUs, handles, and what identifies a GPU.

use std::ffi::CString;
use std::ptr;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlPciInfo_t, nvmlUUID_v1_t};

use crate::check::{Stop, Verdict, checks, ensure, expect, offered, succeed};
use crate::lifecycle::texts_respect_their_length;
use crate::nvml::{Code, Guarded, Nvml, Text, struct_version, text_of};

checks! {
    "the count takes no NULL, and the older count is never higher" => count,
    "an index outside the count, and NULL for the handle, are refused" => bad_index,
    "a GPU has the same handle by index, by UUID and by PCI bus id" => round_trips,
    "the older call by index knows the same GPUs" => older_handle,
    "an unknown UUID is not found, and NULL is refused" => unknown_uuid,
    "the versioned call by UUID checks its version and its type" => versioned_uuid,
    "a PCI bus id is taken in each documented form" => pci_forms,
    "an unknown PCI bus id is not found, and nonsense is refused" => unknown_pci,
    "UUIDs, minors and places on the bus are one GPU's alone" => distinct,
    "the place on the bus is told alike in text and in numbers" => pci_info,
    "names and UUIDs never overflow a short buffer" => short_buffers,
    "a NULL handle and NULL for an answer are refused" => null,
}

fn count(nvml: &Nvml) -> Verdict {
    nvml.start()?;
    let (mut all, mut open) = (Guarded::new(0), Guarded::new(0));
    succeed(
        "nvmlDeviceGetCount_v2",
        nvml.nvmlDeviceGetCount_v2(all.pointer()),
    )?;
    succeed(
        "nvmlDeviceGetCount",
        nvml.nvmlDeviceGetCount(open.pointer()),
    )?;
    ensure!(open.value <= all.value, "{} and {}", open.value, all.value);
    ensure!(all.intact() && open.intact(), "a stray write");
    let code = nvml.nvmlDeviceGetCount_v2(ptr::null_mut());
    expect("NULL", code, &[Code::INVALID_ARGUMENT])
}

fn bad_index(nvml: &Nvml) -> Verdict {
    nvml.start()?;
    let mut count = 0;
    succeed(
        "nvmlDeviceGetCount_v2",
        nvml.nvmlDeviceGetCount_v2(&raw mut count),
    )?;
    let mut device = ptr::null_mut();
    for index in [count, count + 1, u32::MAX] {
        let code = nvml.nvmlDeviceGetHandleByIndex_v2(index, &raw mut device);
        expect(&format!("index {index}"), code, &[Code::INVALID_ARGUMENT])?;
    }
    let code = nvml.nvmlDeviceGetHandleByIndex_v2(0, ptr::null_mut());
    expect("NULL", code, &[Code::INVALID_ARGUMENT])
}

fn uuid(nvml: &Nvml, device: nvmlDevice_t) -> Result<CString, Stop> {
    let mut text = Text::new(96);
    let code = nvml.nvmlDeviceGetUUID(device, text.pointer(), text.length());
    succeed("nvmlDeviceGetUUID", code)?;
    Ok(CString::new(text.read().unwrap_or_default()).unwrap())
}

fn pci(nvml: &Nvml, device: nvmlDevice_t) -> Result<nvmlPciInfo_t, Stop> {
    let mut info = Guarded::<nvmlPciInfo_t>::zeroed();
    let code = nvml.nvmlDeviceGetPciInfo_v3(device, info.pointer());
    succeed("nvmlDeviceGetPciInfo_v3", code)?;
    ensure!(
        info.intact(),
        "nvmlDeviceGetPciInfo_v3 writes past its structure"
    );
    Ok(info.value)
}

fn round_trips(nvml: &Nvml) -> Verdict {
    for device in nvml.devices()? {
        let mut index = 0;
        succeed(
            "nvmlDeviceGetIndex",
            nvml.nvmlDeviceGetIndex(device, &raw mut index),
        )?;
        let mut again: [nvmlDevice_t; 3] = [ptr::null_mut(); 3];
        succeed(
            "by index",
            nvml.nvmlDeviceGetHandleByIndex_v2(index, &raw mut again[0]),
        )?;
        let uuid = uuid(nvml, device)?;
        succeed(
            "by UUID",
            nvml.nvmlDeviceGetHandleByUUID(uuid.as_ptr(), &raw mut again[1]),
        )?;
        let place = CString::new(text_of(&pci(nvml, device)?.busId)).unwrap();
        let code = nvml.nvmlDeviceGetHandleByPciBusId_v2(place.as_ptr(), &raw mut again[2]);
        succeed("by PCI bus id", code)?;
        ensure!(again == [device; 3], "{uuid:?} has several handles");
    }
    Ok(())
}

fn older_handle(nvml: &Nvml) -> Verdict {
    let devices = nvml.devices()?;
    let mut count = 0;
    succeed(
        "nvmlDeviceGetCount",
        nvml.nvmlDeviceGetCount(&raw mut count),
    )?;
    for index in 0..count {
        let mut device = ptr::null_mut();
        let code = nvml.nvmlDeviceGetHandleByIndex(index, &raw mut device);
        succeed("nvmlDeviceGetHandleByIndex", code)?;
        ensure!(devices.contains(&device), "index {index} is another GPU");
    }
    Ok(())
}

fn unknown_uuid(nvml: &Nvml) -> Verdict {
    nvml.start()?;
    let mut device = ptr::null_mut();
    let unknown = c"GPU-00000000-0000-0000-0000-000000000000";
    let code = nvml.nvmlDeviceGetHandleByUUID(unknown.as_ptr(), &raw mut device);
    expect("an unknown UUID", code, &[Code::NOT_FOUND])?;
    let code = nvml.nvmlDeviceGetHandleByUUID(c"nonsense".as_ptr(), &raw mut device);
    expect("nonsense", code, &[Code::NOT_FOUND, Code::INVALID_ARGUMENT])?;
    let code = nvml.nvmlDeviceGetHandleByUUID(ptr::null(), &raw mut device);
    expect("NULL", code, &[Code::INVALID_ARGUMENT])?;
    let code = nvml.nvmlDeviceGetHandleByUUID(unknown.as_ptr(), ptr::null_mut());
    expect("NULL for the handle", code, &[Code::INVALID_ARGUMENT])
}

fn versioned_uuid(nvml: &Nvml) -> Verdict {
    const ASCII: u32 = 1;
    let devices = nvml.devices()?;
    let text = uuid(nvml, devices[0])?;
    let mut request = Guarded::<nvmlUUID_v1_t>::zeroed();
    let mut found = ptr::null_mut();
    request.value.version = struct_version::<nvmlUUID_v1_t>(1);
    request.value.type_ = ASCII;
    let bytes = text.as_bytes_with_nul();
    let mut value = [0; 41];
    for (to, from) in value.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    request.value.value.str_ = value;
    let code = nvml.nvmlDeviceGetHandleByUUIDV(request.pointer(), &raw mut found);
    offered("nvmlDeviceGetHandleByUUIDV", code)?;
    ensure!(found == devices[0], "another GPU");
    request.value.type_ = 7;
    let code = nvml.nvmlDeviceGetHandleByUUIDV(request.pointer(), &raw mut found);
    expect("an unknown type", code, &[Code::INVALID_ARGUMENT])?;
    request.value.version = struct_version::<nvmlUUID_v1_t>(9);
    let code = nvml.nvmlDeviceGetHandleByUUIDV(request.pointer(), &raw mut found);
    expect(
        "an unknown version",
        code,
        &[Code::ARGUMENT_VERSION_MISMATCH],
    )
}

fn pci_forms(nvml: &Nvml) -> Verdict {
    for device in nvml.devices()? {
        let info = pci(nvml, device)?;
        let (domain, bus, slot) = (info.domain, info.bus, info.device);
        let mut forms = vec![
            format!("{domain:08X}:{bus:02X}:{slot:02X}.0"),
            format!("{domain:04x}:{bus:02x}:{slot:02x}.0"),
            format!("{domain:x}:{bus:x}:{slot:x}"),
        ];
        if domain == 0 {
            forms.push(format!("{bus:02x}:{slot:02x}.0"));
        }
        for form in forms {
            let mut found = ptr::null_mut();
            let text = CString::new(form.clone()).unwrap();
            let code = nvml.nvmlDeviceGetHandleByPciBusId_v2(text.as_ptr(), &raw mut found);
            succeed(&form, code)?;
            ensure!(found == device, "{form} is another GPU");
        }
    }
    Ok(())
}

fn unknown_pci(nvml: &Nvml) -> Verdict {
    nvml.start()?;
    let mut device = ptr::null_mut();
    let code = nvml.nvmlDeviceGetHandleByPciBusId_v2(c"ffff:fe:1f.0".as_ptr(), &raw mut device);
    expect("an empty place", code, &[Code::NOT_FOUND])?;
    let code = nvml.nvmlDeviceGetHandleByPciBusId_v2(c"nonsense".as_ptr(), &raw mut device);
    expect("nonsense", code, &[Code::INVALID_ARGUMENT, Code::NOT_FOUND])?;
    let code = nvml.nvmlDeviceGetHandleByPciBusId_v2(ptr::null(), &raw mut device);
    expect("NULL", code, &[Code::INVALID_ARGUMENT])
}

fn distinct(nvml: &Nvml) -> Verdict {
    let devices = nvml.devices()?;
    let (mut uuids, mut minors, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for &device in &devices {
        let mut minor = 0;
        offered(
            "nvmlDeviceGetMinorNumber",
            nvml.nvmlDeviceGetMinorNumber(device, &raw mut minor),
        )?;
        minors.push(minor);
        let uuid = uuid(nvml, device)?.into_string().unwrap_or_default();
        ensure!(
            uuid.len() == 40 && uuid.starts_with("GPU-"),
            "{uuid:?} is not a GPU's UUID"
        );
        uuids.push(uuid);
        places.push(text_of(&pci(nvml, device)?.busId));
    }
    let in_order = places.is_sorted();
    for list in [&mut uuids, &mut places] {
        list.sort();
        list.dedup();
        ensure!(list.len() == devices.len(), "only {list:?}");
    }
    minors.sort_unstable();
    minors.dedup();
    ensure!(minors.len() == devices.len(), "minors {minors:?}");
    ensure!(in_order, "the indices do not follow the bus");
    Ok(())
}

fn pci_info(nvml: &Nvml) -> Verdict {
    const NVIDIA: u32 = 0x10de;
    for device in nvml.devices()? {
        let info = pci(nvml, device)?;
        let long = format!("{:08X}:{:02X}:{:02X}.0", info.domain, info.bus, info.device);
        ensure!(
            text_of(&info.busId) == long,
            "{} is not {long}",
            text_of(&info.busId)
        );
        let legacy = text_of(&info.busIdLegacy);
        ensure!(
            long.ends_with(&legacy) && legacy.len() == 12,
            "the short form is {legacy}"
        );
        let vendor = info.pciDeviceId & 0xffff;
        ensure!(vendor == NVIDIA, "the vendor is {vendor:#x}");
    }
    Ok(())
}

fn short_buffers(nvml: &Nvml) -> Verdict {
    let device = nvml.devices()?[0];
    texts_respect_their_length("nvmlDeviceGetName", |text, length| {
        nvml.nvmlDeviceGetName(device, text, length)
    })?;
    texts_respect_their_length("nvmlDeviceGetUUID", |text, length| {
        nvml.nvmlDeviceGetUUID(device, text, length)
    })
}

fn null(nvml: &Nvml) -> Verdict {
    let device = nvml.devices()?[0];
    let nobody: nvmlDevice_t = ptr::null_mut();
    let mut number = 0;
    let mut text = Text::new(96);
    let mut info = Guarded::<nvmlPciInfo_t>::zeroed();
    let answers = [
        (
            "the index of NULL",
            nvml.nvmlDeviceGetIndex(nobody, &raw mut number),
        ),
        (
            "the name of NULL",
            nvml.nvmlDeviceGetName(nobody, text.pointer(), text.length()),
        ),
        (
            "the UUID of NULL",
            nvml.nvmlDeviceGetUUID(nobody, text.pointer(), text.length()),
        ),
        (
            "the place of NULL",
            nvml.nvmlDeviceGetPciInfo_v3(nobody, info.pointer()),
        ),
        (
            "NULL for the index",
            nvml.nvmlDeviceGetIndex(device, ptr::null_mut()),
        ),
        (
            "NULL for the minor",
            nvml.nvmlDeviceGetMinorNumber(device, ptr::null_mut()),
        ),
        (
            "NULL for the place",
            nvml.nvmlDeviceGetPciInfo_v3(device, ptr::null_mut()),
        ),
    ];
    for (call, code) in answers {
        expect(call, code, &[Code::INVALID_ARGUMENT])?;
    }
    Ok(())
}
