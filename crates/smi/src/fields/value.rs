//! The forms in which values are written.

use mizzen_nvml::direct::{Answer, EccCounter, EccMemory, EccSpan};

pub(super) use mizzen_nvml::direct::Code;

use crate::csv::Row;

pub(super) fn number(value: Answer<u32>) -> Answer<String> {
    Ok(value?.to_string())
}

/// Of 0 and 1.
pub(super) fn enabled(mode: Answer<u32>) -> Answer<String> {
    let word = if mode? == 0 { "Disabled" } else { "Enabled" };
    Ok(word.to_owned())
}

/// Of bytes.
pub(super) fn mib(bytes: u64) -> String {
    (bytes >> 20).to_string()
}

/// Of milliwatts: `69.12`.
pub(super) fn watts(milliwatts: Answer<u32>) -> Answer<String> {
    let hundredths = (milliwatts? + 5) / 10;
    Ok(format!("{}.{:02}", hundredths / 100, hundredths % 100))
}

pub(super) fn performance(state: Answer<u32>) -> Answer<String> {
    match state? {
        state @ 0..=15 => Ok(format!("P{state}")),
        _ => Err(Code::NOT_SUPPORTED),
    }
}

pub(super) fn compute_mode(mode: Answer<u32>) -> Answer<String> {
    let word = match mode? {
        0 => "Default",
        1 => "Exclusive_Thread",
        2 => "Prohibited",
        3 => "Exclusive_Process",
        _ => return Err(Code::UNKNOWN),
    };
    Ok(word.to_owned())
}

pub(super) fn compute_capability(capability: Answer<(i32, i32)>) -> Answer<String> {
    let (major, minor) = capability?;
    Ok(format!("{major}.{minor}"))
}

/// Whether this bit is among the reasons why the clocks are not higher.
pub(super) fn reason(row: &Row<'_>, bit: u32) -> Answer<String> {
    let active = row.device.clock_event_reasons()? >> bit & 1 == 1;
    let word = if active { "Active" } else { "Not Active" };
    Ok(word.to_owned())
}

/// Memory errors, in one place or all of them.
pub(super) fn errors(
    row: &Row<'_>,
    counter: EccCounter,
    span: EccSpan,
    memory: Option<EccMemory>,
) -> Answer<String> {
    let count = match memory {
        Some(memory) => row.device.ecc_count(counter, span, memory),
        None => row.device.ecc_total(counter, span),
    };
    Ok(count?.to_string())
}
