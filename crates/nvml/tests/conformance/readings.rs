//! Memory, sensors, ECC, field values and processes.

use std::ptr;

use nvml_wrapper_sys::bindings::{
    nvmlFieldValue_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlProcessInfo_t, nvmlUtilization_t,
};

use crate::check::{Verdict, checks, ensure, expect, offered, succeed};
use crate::nvml::{Code, Guarded, Nvml, struct_version};

/// `NVML_FI_DEV_ECC_DBE_VOL_TOTAL`
const DOUBLE_BIT_TOTAL: u32 = 4;
/// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`
const RECOVERY_ACTION: u32 = 230;
/// No field has this number.
const NO_FIELD: u32 = 99_999;

checks! {
    "memory adds up, and both versions of the call tell the same total" => memory,
    "the versioned memory call refuses other versions and writes nothing" => memory_version,
    "the compute capability is one that exists" => compute_capability,
    "utilisation is a percentage" => utilisation,
    "temperature and power are those of a machine at work" => sensors,
    "ECC can be asked, and a kind that does not exist is refused" => ecc,
    "remapped rows are told from Ampere on, and pending and failed are yes or no" => remapped_rows,
    "each field value has an answer of its own" => field_values,
    "the recovery action is one that nvml.h names" => recovery_action,
    "processes can be counted first and listed then" => processes,
    "NULL for a reading is refused" => null,
}

fn memory(nvml: &Nvml) -> Verdict {
    for device in nvml.devices()? {
        let mut first = Guarded::<nvmlMemory_t>::zeroed();
        let code = nvml.nvmlDeviceGetMemoryInfo(device, first.pointer());
        offered("nvmlDeviceGetMemoryInfo", code)?;
        ensure!(
            first.intact(),
            "the first version writes past its structure"
        );
        let one = first.value;
        ensure!(one.total > 1 << 30, "only {} bytes", one.total);
        ensure!(one.used + one.free == one.total, "{one:?}");
        let mut second = Guarded::<nvmlMemory_v2_t>::zeroed();
        second.value.version = struct_version::<nvmlMemory_v2_t>(2);
        let code = nvml.nvmlDeviceGetMemoryInfo_v2(device, second.pointer());
        offered("nvmlDeviceGetMemoryInfo_v2", code)?;
        ensure!(
            second.intact(),
            "the second version writes past its structure"
        );
        let two = second.value;
        ensure!(two.total == one.total, "{} and {}", two.total, one.total);
        ensure!(two.used + two.free + two.reserved == two.total, "{two:?}");
    }
    Ok(())
}

fn memory_version(nvml: &Nvml) -> Verdict {
    let device = nvml.devices()?[0];
    let right = struct_version::<nvmlMemory_v2_t>(2);
    for version in [0, 2, 1 << 24, right ^ 1, right + (1 << 24)] {
        let mut memory = Guarded::<nvmlMemory_v2_t>::zeroed();
        memory.value.version = version;
        let code = nvml.nvmlDeviceGetMemoryInfo_v2(device, memory.pointer());
        let words = format!("version {version:#x}");
        if code == Code::FUNCTION_NOT_FOUND {
            return offered("nvmlDeviceGetMemoryInfo_v2", code);
        }
        expect(&words, code, &[Code::ARGUMENT_VERSION_MISMATCH])?;
        ensure!(memory.intact() && memory.value.total == 0, "{words}: wrote");
    }
    Ok(())
}

fn compute_capability(nvml: &Nvml) -> Verdict {
    for device in nvml.devices()? {
        let (mut major, mut minor) = (Guarded::new(0), Guarded::new(-1));
        let code =
            nvml.nvmlDeviceGetCudaComputeCapability(device, major.pointer(), minor.pointer());
        succeed("nvmlDeviceGetCudaComputeCapability", code)?;
        let (major, minor) = (major.value, minor.value);
        ensure!(
            (1..100).contains(&major) && (0..10).contains(&minor),
            "{major}.{minor}"
        );
    }
    Ok(())
}

fn utilisation(nvml: &Nvml) -> Verdict {
    for device in nvml.devices()? {
        let mut rates = Guarded::<nvmlUtilization_t>::zeroed();
        let code = nvml.nvmlDeviceGetUtilizationRates(device, rates.pointer());
        offered("nvmlDeviceGetUtilizationRates", code)?;
        ensure!(rates.intact(), "a stray write");
        ensure!(
            rates.value.gpu <= 100 && rates.value.memory <= 100,
            "{:?}",
            rates.value
        );
    }
    Ok(())
}

fn sensors(nvml: &Nvml) -> Verdict {
    for device in nvml.devices()? {
        let (mut celsius, mut milliwatts) = (Guarded::new(0), Guarded::new(0));
        let code = nvml.nvmlDeviceGetTemperature(device, 0, celsius.pointer());
        offered("nvmlDeviceGetTemperature", code)?;
        ensure!((1..150).contains(&celsius.value), "{} °C", celsius.value);
        let code = nvml.nvmlDeviceGetTemperature(device, 99, celsius.pointer());
        expect("an unknown sensor", code, &[Code::INVALID_ARGUMENT])?;
        let code = nvml.nvmlDeviceGetPowerUsage(device, milliwatts.pointer());
        offered("nvmlDeviceGetPowerUsage", code)?;
        ensure!(
            (1_000..3_000_000).contains(&milliwatts.value),
            "{} mW",
            milliwatts.value
        );
    }
    Ok(())
}

fn ecc(nvml: &Nvml) -> Verdict {
    let (corrected, uncorrected) = (0, 1);
    let (volatile, aggregate) = (0, 1);
    for device in nvml.devices()? {
        let (mut now, mut then) = (Guarded::new(9), Guarded::new(9));
        let code = nvml.nvmlDeviceGetEccMode(device, now.pointer(), then.pointer());
        offered("nvmlDeviceGetEccMode", code)?;
        ensure!(
            now.value <= 1 && then.value <= 1,
            "modes {} {}",
            now.value,
            then.value
        );
        let mut count = Guarded::new(u64::MAX);
        for (kind, counter) in [
            (corrected, volatile),
            (corrected, aggregate),
            (uncorrected, volatile),
            (uncorrected, aggregate),
        ] {
            let code = nvml.nvmlDeviceGetTotalEccErrors(device, kind, counter, count.pointer());
            offered("nvmlDeviceGetTotalEccErrors", code)?;
            ensure!(
                count.intact() && count.value != u64::MAX,
                "nothing was counted"
            );
        }
        let code = nvml.nvmlDeviceGetTotalEccErrors(device, 9, volatile, count.pointer());
        expect("an unknown kind", code, &[Code::INVALID_ARGUMENT])?;
    }
    Ok(())
}

fn remapped_rows(nvml: &Nvml) -> Verdict {
    const AMPERE: i32 = 8;
    let mut told = false;
    for device in nvml.devices()? {
        let (mut major, mut minor) = (0, 0);
        let code = nvml.nvmlDeviceGetCudaComputeCapability(device, &raw mut major, &raw mut minor);
        succeed("nvmlDeviceGetCudaComputeCapability", code)?;
        let mut rows = [0, 1, 2, 3].map(|_| Guarded::new(u32::MAX));
        let [corrected, uncorrected, pending, failure] = &mut rows;
        let code = nvml.nvmlDeviceGetRemappedRows(
            device,
            corrected.pointer(),
            uncorrected.pointer(),
            pending.pointer(),
            failure.pointer(),
        );
        ensure!(rows.iter().all(Guarded::intact), "a stray write");
        let absent = [Code::NOT_SUPPORTED, Code::FUNCTION_NOT_FOUND];
        if major < AMPERE {
            expect("remapped rows of a GPU before Ampere", code, &absent)?;
        }
        if absent.contains(&code) {
            continue;
        }
        succeed("nvmlDeviceGetRemappedRows", code)?;
        let [corrected, uncorrected, pending, failure] = rows.map(|count| count.value);
        ensure!(
            corrected < u32::MAX && uncorrected < u32::MAX && pending <= 1 && failure <= 1,
            "{corrected} {uncorrected} {pending} {failure}"
        );
        told = true;
    }
    if told {
        return Ok(());
    }
    offered("nvmlDeviceGetRemappedRows", Code::NOT_SUPPORTED)
}

fn field_values(nvml: &Nvml) -> Verdict {
    let device = nvml.devices()?[0];
    let mut values = Guarded::<[nvmlFieldValue_t; 3]>::zeroed();
    for (value, field) in values
        .value
        .iter_mut()
        .zip([NO_FIELD, DOUBLE_BIT_TOTAL, NO_FIELD])
    {
        value.fieldId = field;
        value.nvmlReturn = u32::MAX;
    }
    let code = nvml.nvmlDeviceGetFieldValues(device, 3, values.pointer().cast());
    succeed("nvmlDeviceGetFieldValues", code)?;
    ensure!(values.intact(), "a stray write");
    for position in [0, 2] {
        let value = values.value[position];
        ensure!(value.fieldId == NO_FIELD, "the question was overwritten");
        let refusal = Code(value.nvmlReturn);
        let allowed = [Code::NOT_SUPPORTED, Code::INVALID_ARGUMENT];
        expect("an unknown field", refusal, &allowed)?;
    }
    let answer = Code(values.value[1].nvmlReturn);
    expect(
        "a known field",
        answer,
        &[Code::SUCCESS, Code::NOT_SUPPORTED],
    )?;
    let code = nvml.nvmlDeviceGetFieldValues(device, 1, ptr::null_mut());
    expect("NULL", code, &[Code::INVALID_ARGUMENT])
}

fn recovery_action(nvml: &Nvml) -> Verdict {
    const UNSIGNED_INT: u32 = 1;
    const LAST_NAMED: u32 = 5;
    for device in nvml.devices()? {
        let mut value = Guarded::<nvmlFieldValue_t>::zeroed();
        value.value.fieldId = RECOVERY_ACTION;
        let code = nvml.nvmlDeviceGetFieldValues(device, 1, value.pointer());
        offered("nvmlDeviceGetFieldValues", code)?;
        offered("the recovery action", Code(value.value.nvmlReturn))?;
        let kind = value.value.valueType;
        ensure!(kind == UNSIGNED_INT, "its type is {kind}");
        let bytes = bytes_of(&value.value);
        let action = u32::from_ne_bytes(bytes);
        ensure!(action <= LAST_NAMED, "it is {action}");
    }
    Ok(())
}

/// The first word of a field's value.
fn bytes_of(value: &nvmlFieldValue_t) -> [u8; 4] {
    #![allow(unsafe_code, reason = "reads a union")]
    // SAFETY: every member is a plain number, and the union was zeroed before NVML wrote.
    unsafe { value.value.uiVal }.to_ne_bytes()
}

fn processes(nvml: &Nvml) -> Verdict {
    for device in nvml.devices()? {
        let mut count = Guarded::new(0);
        let ask = |count, infos| nvml.nvmlDeviceGetComputeRunningProcesses_v3(device, count, infos);
        let code = ask(count.pointer(), ptr::null_mut());
        if count.value == 0 {
            offered("nvmlDeviceGetComputeRunningProcesses_v3", code)?;
        } else {
            expect("the count", code, &[Code::INSUFFICIENT_SIZE])?;
        }
        // Room for a few more, which may have come meanwhile.
        let room = count.value as usize + 8;
        let mut infos = vec![filled(); room + 1];
        count.value = u32::try_from(room).unwrap();
        succeed("the list", ask(count.pointer(), infos.as_mut_ptr()))?;
        let listed = count.value as usize;
        ensure!(listed <= room, "{listed} processes in room for {room}");
        let written = infos.iter().take_while(|info| info.pid != u32::MAX).count();
        ensure!(
            written == listed,
            "{listed} were told and {written} written"
        );
        let code = ask(ptr::null_mut(), infos.as_mut_ptr());
        expect("NULL for the count", code, &[Code::INVALID_ARGUMENT])?;
    }
    Ok(())
}

fn filled() -> nvmlProcessInfo_t {
    nvmlProcessInfo_t {
        pid: u32::MAX,
        usedGpuMemory: 0,
        gpuInstanceId: 0,
        computeInstanceId: 0,
    }
}

fn null(nvml: &Nvml) -> Verdict {
    let device = nvml.devices()?[0];
    let null = ptr::null_mut;
    let answers = [
        (
            "memory",
            nvml.nvmlDeviceGetMemoryInfo(device, ptr::null_mut()),
        ),
        (
            "memory, second version",
            nvml.nvmlDeviceGetMemoryInfo_v2(device, ptr::null_mut()),
        ),
        (
            "utilisation",
            nvml.nvmlDeviceGetUtilizationRates(device, ptr::null_mut()),
        ),
        (
            "temperature",
            nvml.nvmlDeviceGetTemperature(device, 0, null()),
        ),
        ("power", nvml.nvmlDeviceGetPowerUsage(device, null())),
        (
            "ECC errors",
            nvml.nvmlDeviceGetTotalEccErrors(device, 1, 0, ptr::null_mut()),
        ),
        (
            "remapped rows",
            nvml.nvmlDeviceGetRemappedRows(device, null(), null(), null(), null()),
        ),
    ];
    for (what, code) in answers {
        // A GPU that does not offer a reading may say so first.
        let allowed = [
            Code::INVALID_ARGUMENT,
            Code::NOT_SUPPORTED,
            Code::FUNCTION_NOT_FOUND,
        ];
        expect(&format!("NULL for {what}"), code, &allowed)?;
    }
    Ok(())
}
