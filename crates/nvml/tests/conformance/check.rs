//! What a check is, and how it stops.

use crate::nvml::Code;

/// One thing that an NVML library must do.
pub(crate) struct Check {
    /// What holds, as a sentence.
    pub(crate) name: &'static str,
    /// Finds out. The library is not initialised before, and whatever the check leaves
    /// initialised is shut down after.
    pub(crate) run: fn(&crate::nvml::Nvml) -> Verdict,
}

/// Why a check ended early.
pub(crate) enum Stop {
    /// What must hold does not.
    Fail(String),
    /// This driver or GPU does not offer what the check is about.
    Skip(String),
}

/// How a check ended.
pub(crate) type Verdict = Result<(), Stop>;

/// Fails the check unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err($crate::check::Stop::Fail(format!($($words)+)));
        }
    };
}
pub(crate) use ensure;

/// Lists a module's checks under their sentences.
macro_rules! checks {
    ($($name:literal => $run:expr,)+) => {
        pub(crate) const CHECKS: &[$crate::check::Check] = &[
            $($crate::check::Check { name: $name, run: $run },)+
        ];
    };
}
pub(crate) use checks;

/// Fails unless the call answered one of these codes.
pub(crate) fn expect(what: &str, code: Code, allowed: &[Code]) -> Verdict {
    if allowed.contains(&code) {
        return Ok(());
    }
    let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
    Err(Stop::Fail(format!(
        "{what} answered {code}, not {}",
        allowed.join(" or ")
    )))
}

/// Fails unless the call succeeded.
pub(crate) fn succeed(what: &str, code: Code) -> Verdict {
    expect(what, code, &[Code::SUCCESS])
}

/// Skips the check when the library does not offer the call; fails on any other refusal.
pub(crate) fn offered(what: &str, code: Code) -> Verdict {
    match code {
        Code::NOT_SUPPORTED | Code::FUNCTION_NOT_FOUND => {
            Err(Stop::Skip(format!("{what} answered {code}")))
        }
        code => succeed(what, code),
    }
}
