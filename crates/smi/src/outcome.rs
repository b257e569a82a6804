//! What is printed in the end, and the exit code: those of NVIDIA's manual.

use mizzen_nvml::direct::{Code, OpenError};

/// A mistake in the arguments.
const MISTAKE: u8 = 2;
/// No such GPU.
const NOT_FOUND: u8 = 6;
/// The library is not there.
const NO_LIBRARY: u8 = 12;
/// Everything else.
pub(crate) const OTHER: u8 = 255;

/// What is printed, and how it ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    pub(crate) code: u8,
}

impl Outcome {
    pub(crate) fn good(text: String) -> Self {
        Self { text, code: 0 }
    }
}

/// Why nothing is printed but this.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A mistake in the arguments, in these words.
    Arguments(String),
    /// No GPU, or none of those that were named.
    NoDevices,
    /// The same of the list of GPUs.
    NothingToList,
    Open(OpenError),
    /// NVML's answer to a question without which nothing can be said, in its own words.
    Nvml(Code, String),
}

impl Failure {
    pub(crate) fn in_list(self) -> Self {
        match self {
            Self::NoDevices => Self::NothingToList,
            other => other,
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

/// NVML's codes are the exit codes, as far as they fit.
pub(crate) fn exit_code(code: Code) -> u8 {
    u8::try_from(code.0).unwrap_or(OTHER)
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        let (text, code) = match failure {
            Failure::Arguments(text) => (text, MISTAKE),
            Failure::NoDevices => ("No devices were found\n".to_owned(), NOT_FOUND),
            Failure::NothingToList => ("No devices found.\n".to_owned(), NOT_FOUND),
            Failure::Nvml(code, words) => (format!("{words}\n"), exit_code(code)),
            Failure::Open(OpenError::Init(nvml, code)) => {
                (not_started(code, &nvml.words(code)), exit_code(code))
            }
            Failure::Open(OpenError::Library(_) | OpenError::NotNvml) => {
                (NO_LIBRARY_TEXT.to_owned(), NO_LIBRARY)
            }
        };
        Self { text, code }
    }
}

const NO_LIBRARY_TEXT: &str = "\
NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure that the NVIDIA \
Display Driver is properly installed and present in your system.
Please also try adding directory that contains libnvidia-ml.so to your system PATH.
";

fn not_started(code: Code, words: &str) -> String {
    if code == Code::DRIVER_NOT_LOADED {
        return "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make \
                sure that the latest NVIDIA driver is installed and running.\n\n"
            .to_owned();
    }
    format!("Failed to initialize NVML: {words}\n")
}
