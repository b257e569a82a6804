//! Initialising, shutting down, error texts, and what the library says of itself.

use std::ffi::{c_char, c_uint};
use std::ptr;

use crate::check::{Verdict, checks, ensure, expect, offered, succeed};
use crate::nvml::{Code, Guarded, Nvml, Text};

checks! {
    "before it is initialised, every question answers UNINITIALIZED" => uninitialised,
    "each initialisation needs its own shutdown" => counted,
    "the older and the flagged initialisation work too" => other_initialisations,
    "a session can be opened and closed many times" => many_times,
    "every error code has a text of its own, and unknown codes have one" => error_texts,
    "the versions are numbers with dots, and NVML's ends with the driver's" => versions,
    "a version never overflows a short buffer" => short_buffers,
    "CUDA's version is told alike by both calls" => cuda_version,
    "a process's name can be asked, and an unknown process is not found" => process_name,
}

fn uninitialised(nvml: &Nvml) -> Verdict {
    let mut number = 0;
    let mut device = ptr::null_mut();
    let mut set = ptr::null_mut();
    let mut text = Text::new(96);
    let uuid = c"GPU-00000000-0000-0000-0000-000000000000";
    let answers = [
        (
            "nvmlDeviceGetCount_v2",
            nvml.nvmlDeviceGetCount_v2(&raw mut number),
        ),
        (
            "nvmlDeviceGetHandleByIndex_v2",
            nvml.nvmlDeviceGetHandleByIndex_v2(0, &raw mut device),
        ),
        (
            "nvmlDeviceGetHandleByUUID",
            nvml.nvmlDeviceGetHandleByUUID(uuid.as_ptr(), &raw mut device),
        ),
        (
            "nvmlDeviceGetName",
            nvml.nvmlDeviceGetName(device, text.pointer(), text.length()),
        ),
        (
            "nvmlSystemGetDriverVersion",
            nvml.nvmlSystemGetDriverVersion(text.pointer(), text.length()),
        ),
        ("nvmlEventSetCreate", nvml.nvmlEventSetCreate(&raw mut set)),
    ];
    for (call, code) in answers {
        expect(call, code, &[Code::UNINITIALIZED])?;
    }
    Ok(())
}

fn counted(nvml: &Nvml) -> Verdict {
    let mut count = 0;
    nvml.start()?;
    nvml.start()?;
    succeed("nvmlShutdown", nvml.nvmlShutdown())?;
    succeed(
        "a question after one of two shutdowns",
        nvml.nvmlDeviceGetCount_v2(&raw mut count),
    )?;
    succeed("nvmlShutdown", nvml.nvmlShutdown())?;
    let code = nvml.nvmlDeviceGetCount_v2(&raw mut count);
    expect("a question after both", code, &[Code::UNINITIALIZED])?;
    // nvml.h promises no error for one shutdown too many, and lists one.
    let allowed = [Code::SUCCESS, Code::UNINITIALIZED];
    expect("one shutdown too many", nvml.nvmlShutdown(), &allowed)
}

fn other_initialisations(nvml: &Nvml) -> Verdict {
    let mut count = 0;
    succeed("nvmlInit", nvml.nvmlInit())?;
    succeed("nvmlShutdown", nvml.nvmlShutdown())?;
    succeed("nvmlInitWithFlags", nvml.nvmlInitWithFlags(0))?;
    succeed(
        "nvmlDeviceGetCount_v2",
        nvml.nvmlDeviceGetCount_v2(&raw mut count),
    )
}

fn many_times(nvml: &Nvml) -> Verdict {
    for _ in 0..20 {
        nvml.devices()?;
        succeed("nvmlShutdown", nvml.nvmlShutdown())?;
    }
    Ok(())
}

fn error_texts(nvml: &Nvml) -> Verdict {
    let mut texts = Vec::new();
    for &code in Code::ALL {
        let text = nvml.error_string(code).unwrap_or_default();
        ensure!(!text.is_empty(), "{code} has no text");
        ensure!(
            !texts.contains(&text),
            "{code} has another's text, {text:?}"
        );
        texts.push(text);
    }
    let unknown = nvml.error_string(Code(12345));
    ensure!(unknown.is_some(), "an unknown code answers NULL");
    Ok(())
}

/// A version of digits in groups.
fn is_version(text: &str) -> bool {
    let digits = |group: &str| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit());
    text.contains('.') && text.split('.').all(digits)
}

fn versions(nvml: &Nvml) -> Verdict {
    nvml.start()?;
    let (mut driver, mut own) = (Text::new(80), Text::new(80));
    succeed(
        "nvmlSystemGetDriverVersion",
        nvml.nvmlSystemGetDriverVersion(driver.pointer(), driver.length()),
    )?;
    succeed(
        "nvmlSystemGetNVMLVersion",
        nvml.nvmlSystemGetNVMLVersion(own.pointer(), own.length()),
    )?;
    let (driver, own) = (
        driver.read().unwrap_or_default(),
        own.read().unwrap_or_default(),
    );
    ensure!(is_version(&driver), "the driver's version is {driver:?}");
    ensure!(
        is_version(&own) && own.ends_with(&driver),
        "NVML's version is {own:?}, the driver's {driver:?}"
    );
    Ok(())
}

fn short_buffers(nvml: &Nvml) -> Verdict {
    nvml.start()?;
    texts_respect_their_length("nvmlSystemGetDriverVersion", |text, length| {
        nvml.nvmlSystemGetDriverVersion(text, length)
    })?;
    texts_respect_their_length("nvmlSystemGetNVMLVersion", |text, length| {
        nvml.nvmlSystemGetNVMLVersion(text, length)
    })
}

/// A call that fills a text takes exactly what it needs, refuses less, and refuses NULL.
pub(crate) fn texts_respect_their_length(
    call: &str,
    fill: impl Fn(*mut c_char, c_uint) -> Code,
) -> Verdict {
    let mut text = Text::new(96);
    offered(call, fill(text.pointer(), text.length()))?;
    let whole = text.read().unwrap_or_default();
    let mut exact = Text::new(whole.len() + 1);
    succeed(call, fill(exact.pointer(), exact.length()))?;
    ensure!(
        exact.read().as_ref() == Some(&whole),
        "{call} tells another text"
    );
    ensure!(exact.intact(), "{call} writes past an exact buffer");
    for length in [0, 1, whole.len()] {
        let mut short = Text::new(length);
        let code = fill(short.pointer(), short.length());
        let allowed = [Code::INSUFFICIENT_SIZE, Code::INVALID_ARGUMENT];
        let allowed = if length == 0 {
            &allowed[..]
        } else {
            &allowed[..1]
        };
        expect(&format!("{call} with {length} bytes"), code, allowed)?;
        ensure!(short.intact(), "{call} writes past {length} bytes");
    }
    let code = fill(ptr::null_mut(), 96);
    expect(
        &format!("{call} with NULL"),
        code,
        &[Code::INVALID_ARGUMENT],
    )
}

fn cuda_version(nvml: &Nvml) -> Verdict {
    nvml.start()?;
    let (mut newer, mut older) = (Guarded::new(0), Guarded::new(0));
    succeed(
        "nvmlSystemGetCudaDriverVersion",
        nvml.nvmlSystemGetCudaDriverVersion(older.pointer()),
    )?;
    ensure!(older.value >= 1000, "CUDA's version is {}", older.value);
    let code = nvml.nvmlSystemGetCudaDriverVersion(ptr::null_mut());
    expect("NULL", code, &[Code::INVALID_ARGUMENT])?;
    // The newer call asks libcuda, which may be absent.
    offered(
        "nvmlSystemGetCudaDriverVersion_v2",
        nvml.nvmlSystemGetCudaDriverVersion_v2(newer.pointer()),
    )?;
    ensure!(
        newer.value == older.value,
        "{} and {}",
        newer.value,
        older.value
    );
    ensure!(newer.intact() && older.intact(), "a stray write");
    Ok(())
}

fn process_name(nvml: &Nvml) -> Verdict {
    nvml.start()?;
    let mut text = Text::new(256);
    let own = std::process::id();
    succeed(
        "the name of this process",
        nvml.nvmlSystemGetProcessName(own, text.pointer(), text.length()),
    )?;
    let name = text.read().unwrap_or_default();
    ensure!(
        name.contains("conformance"),
        "this process is called {name:?}"
    );
    // Names are cut, not refused.
    let mut short = Text::new(4);
    let code = nvml.nvmlSystemGetProcessName(own, short.pointer(), short.length());
    expect(
        "a short buffer",
        code,
        &[Code::SUCCESS, Code::INSUFFICIENT_SIZE],
    )?;
    ensure!(short.intact(), "a name writes past its buffer");
    let code = nvml.nvmlSystemGetProcessName(own, ptr::null_mut(), 16);
    expect("NULL", code, &[Code::INVALID_ARGUMENT])?;
    let nobody = 0x7fff_fffe;
    let code = nvml.nvmlSystemGetProcessName(nobody, text.pointer(), text.length());
    expect("an unknown process", code, &[Code::NOT_FOUND])
}
