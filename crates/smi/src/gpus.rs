//! The GPUs that are asked about.

use mizzen_nvml::direct::{Code, Device, Nvml};

use crate::outcome::{Failure, exit_code};

/// A GPU that answers.
#[derive(Debug)]
pub(crate) struct Gpu<'a> {
    pub(crate) index: u32,
    pub(crate) device: Device<'a>,
}

/// Those that are meant.
#[derive(Debug)]
pub(crate) struct Gpus<'a> {
    pub(crate) found: Vec<Gpu<'a>>,
    /// Those that give no handle: index, code, NVML's words.
    broken: Vec<(u32, Code, String)>,
}

impl<'a> Gpus<'a> {
    /// The GPUs with these indices, UUIDs or places on the bus; all if none is named.
    pub(crate) fn find(nvml: &'a Nvml, wanted: &[String]) -> Result<Self, Failure> {
        let fail = |code| Failure::Nvml(code, nvml.words(code));
        let mut gpus = Self {
            found: Vec::new(),
            broken: Vec::new(),
        };
        for index in 0..nvml.count().map_err(fail)? {
            match nvml.device(index) {
                Ok(device) => {
                    let gpu = Gpu { index, device };
                    if wanted.is_empty() || wanted.iter().any(|name| gpu.is(name)) {
                        gpus.found.push(gpu);
                    }
                }
                // Of another container, by the device cgroup's word.
                Err(Code::NO_PERMISSION) => {}
                Err(code) => {
                    if wanted.is_empty() || wanted.contains(&index.to_string()) {
                        gpus.broken.push((index, code, nvml.words(code)));
                    }
                }
            }
        }
        if gpus.found.is_empty() && gpus.broken.is_empty() {
            return Err(Failure::NoDevices);
        }
        Ok(gpus)
    }

    /// A line for each GPU that gives no handle.
    pub(crate) fn complaints(&self) -> String {
        let lines = self.broken.iter().map(|(index, _, words)| {
            format!("Unable to determine the device handle for GPU{index}: {words}\n")
        });
        lines.collect()
    }

    /// The exit code: that of the first GPU that gives no handle.
    pub(crate) fn exit_code(&self) -> u8 {
        let first = self.broken.first();
        first.map_or(0, |(_, code, _)| exit_code(*code))
    }
}

impl Gpu<'_> {
    /// Whether it is called so.
    fn is(&self, name: &str) -> bool {
        if name.parse() == Ok(self.index) {
            return true;
        }
        let uuid = self.device.uuid();
        let pci = self.device.pci();
        uuid.is_ok_and(|uuid| uuid.eq_ignore_ascii_case(name))
            || pci.is_ok_and(|pci| same_place(&pci.bus_id, name))
    }
}

/// Whether two places on the bus are the same; domains may be written short or left away.
fn same_place(a: &str, b: &str) -> bool {
    let parts = |text: &str| {
        let mut numbers = text
            .rsplit([':', '.'])
            .map(|part| u32::from_str_radix(part, 16));
        let function = numbers.next()?.ok()?;
        let device = numbers.next()?.ok()?;
        let bus = numbers.next()?.ok()?;
        let domain = numbers.next().unwrap_or(Ok(0)).ok()?;
        Some((domain, bus, device, function))
    };
    parts(a).is_some_and(|a| parts(b) == Some(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_on_the_bus_may_be_written_short() {
        for name in ["00000000:1B:00.0", "0000:1b:00.0", "1b:00.0", "0:1B:0.0"] {
            assert!(same_place("00000000:1B:00.0", name), "{name}");
        }
        for name in ["1b", "GPU-1", "0001:1b:00.0", "1c:00.0", ""] {
            assert!(!same_place("00000000:1B:00.0", name), "{name}");
        }
    }
}
