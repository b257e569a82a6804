//! Lines of the state, as structured log events.

use mizzen_core::state::{Line, Severity};

/// Logs `line` with every part as a field of its own.
pub(crate) fn log(line: &Line) {
    // The level of a tracing event is fixed where it is written, hence one macro for each.
    macro_rules! write {
        ($level:ident) => {
            match &line.gpu {
                Some(gpu) => tracing::$level!(
                    event = line.event,
                    gpu = gpu.index,
                    uuid = %gpu.uuid,
                    pci = %gpu.pci,
                    mig = line.mig.as_ref().map(tracing::field::display),
                    meaning = line.meaning,
                    todo = line.advice,
                    "{}", line.message
                ),
                None => tracing::$level!(
                    event = line.event,
                    meaning = line.meaning,
                    todo = line.advice,
                    "{}", line.message
                ),
            }
        };
    }
    match line.severity {
        Severity::Info => write!(info),
        Severity::Warning => write!(warn),
        Severity::Error => write!(error),
    }
}
