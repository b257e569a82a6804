//! What the machine tells of itself without the driver.

use crate::gpu::PciBusId;

/// What the machine tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// What its maker calls it (`/sys/class/dmi/id/product_name`), without spaces around.
    pub machine: Option<String>,
    /// NVIDIA's display controllers on the PCI bus.
    pub display: Vec<DisplayController>,
    /// Whether it is a guest that has a part of a GPU.
    pub vgpu: Vgpu,
}

/// A PCI function of class 0x03.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DisplayController {
    /// Where it is.
    pub place: PciBusId,
    /// Base class and subclass: 0x0300 draws, 0x0302 computes.
    pub class: u16,
}

/// Whether GPUs are parts of ones that a hypervisor has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Vgpu {
    /// This process may not read enough of the bus to know.
    #[default]
    Unknown,
    /// None is.
    Absent,
    /// One is.
    Present(Option<VgpuHost>),
}

/// The driver of the hypervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VgpuHost {
    /// Its version, for example `550.54.16`.
    pub driver_version: String,
    /// Its branch, for example `r550_40`.
    pub driver_branch: String,
}

impl Vgpu {
    /// What the functions of a bus say together: one that cannot be read makes all unknown, as
    /// it may be one.
    pub fn of_all(functions: impl IntoIterator<Item = Self>) -> Self {
        let join = |known: Self, one: Self| match (known, one) {
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (known, Self::Absent) => known,
            (_, present) => present,
        };
        functions.into_iter().fold(Self::Absent, join)
    }

    /// What the configuration space of an NVIDIA function says: a vGPU has a vendor-specific
    /// capability that begins with `VF` and holds records, of which record 0 is the driver of the
    /// host, ten bytes of version and ten of branch.
    pub fn of_config_space(config: &[u8]) -> Self {
        const WHOLE: usize = 256;
        if config.len() < WHOLE {
            return Self::Unknown;
        }
        match vendor_capability(config) {
            Some(capability) if capability.get(3..5) == Some(b"VF") => {
                Self::Present(host_driver(capability))
            }
            _ => Self::Absent,
        }
    }
}

/// The first vendor-specific capability.
fn vendor_capability(config: &[u8]) -> Option<&[u8]> {
    const STATUS: usize = 0x06;
    const HAS_CAPABILITIES: u8 = 0x10;
    const FIRST: usize = 0x34;
    const VENDOR_SPECIFIC: u8 = 0x09;
    const BROKEN: u8 = 0xff;
    if config.get(STATUS)? & HAS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = usize::from(*config.get(FIRST)?);
    // A chain that is longer goes in a circle.
    for _ in 0..config.len() {
        if at == 0 {
            return None;
        }
        match config.get(at..at + 3)? {
            [BROKEN, ..] => return None,
            [VENDOR_SPECIFIC, _, length] => return config.get(at..at + usize::from(*length)),
            [_, next, _] => at = usize::from(*next),
            _ => return None,
        }
    }
    None
}

/// Record 0 of a vGPU's capability.
fn host_driver(capability: &[u8]) -> Option<VgpuHost> {
    const RECORDS: usize = 5;
    const TEXT: usize = 10;
    let mut at = RECORDS;
    loop {
        match *capability.get(at..at + 2)? {
            [0, _] => break,
            // A record of no length has no next one.
            [_, 0] => return None,
            [_, length] => at += usize::from(length),
            _ => return None,
        }
    }
    let texts = capability.get(at + 2..at + 2 + 2 * TEXT)?;
    let (version, branch) = texts.split_at(TEXT);
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.trim_matches('\0').to_owned()
    };
    Some(VgpuHost {
        driver_version: text(version),
        driver_branch: text(branch),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration space of a function with these capabilities, one after the other.
    fn config(capabilities: &[&[u8]]) -> Vec<u8> {
        let mut config = vec![0; 256];
        if capabilities.is_empty() {
            return config;
        }
        config[0x06] = 0x10;
        config[0x34] = 0x40;
        let mut at = 0x40;
        for (number, capability) in capabilities.iter().enumerate() {
            config[at..at + capability.len()].copy_from_slice(capability);
            let next = at + capability.len();
            let last = number + 1 == capabilities.len();
            config[at + 1] = if last { 0 } else { u8::try_from(next).unwrap() };
            at = next;
        }
        config
    }

    fn vgpu(records: &[u8]) -> Vec<u8> {
        let length = u8::try_from(records.len() + 5).unwrap();
        [&[0x09, 0, length, b'V', b'F'], records].concat()
    }

    const HOST: &[u8] = b"\x00\x16550.54.16\0r550_40\0\0\0";
    const MSI: &[u8] = &[0x05, 0, 0, 0];

    #[test]
    fn a_vgpu_tells_the_driver_of_its_host() {
        let other = [7, 4, 1, 2];
        for records in [HOST.to_vec(), [&other, HOST].concat()] {
            let told = Vgpu::of_config_space(&config(&[MSI, &vgpu(&records)]));
            let Vgpu::Present(Some(host)) = told else {
                panic!("{told:?}")
            };
            assert_eq!(host.driver_version, "550.54.16");
            assert_eq!(host.driver_branch, "r550_40");
        }
    }

    #[test]
    fn a_vgpu_without_that_record_is_one_all_the_same() {
        for records in [&b""[..], &[7, 0], &[7, 2], &HOST[..12]] {
            let told = Vgpu::of_config_space(&config(&[&vgpu(records)]));
            assert_eq!(told, Vgpu::Present(None), "{records:?}");
        }
    }

    #[test]
    fn a_whole_gpu_is_no_vgpu() {
        let whole: [&[&[u8]]; 3] = [&[], &[MSI], &[MSI, &[0x09, 0, 0x14, 1, 0, 0]]];
        for capabilities in whole {
            let told = Vgpu::of_config_space(&config(capabilities));
            assert_eq!(told, Vgpu::Absent);
        }
    }

    #[test]
    fn chains_that_go_in_circles_or_out_of_the_space_end() {
        let mut circle = config(&[MSI]);
        circle[0x41] = 0x40;
        assert_eq!(Vgpu::of_config_space(&circle), Vgpu::Absent);
        let mut outside = config(&[MSI]);
        outside[0x41] = 0xfe;
        assert_eq!(Vgpu::of_config_space(&outside), Vgpu::Absent);
    }

    #[test]
    fn what_may_not_be_read_in_full_is_unknown_and_so_is_the_whole_bus_then() {
        let short = Vgpu::of_config_space(&[0; 64]);
        assert_eq!(short, Vgpu::Unknown);
        let present = Vgpu::Present(None);
        assert_eq!(Vgpu::of_all([present.clone(), short]), Vgpu::Unknown);
        assert_eq!(Vgpu::of_all([present.clone(), Vgpu::Absent]), present);
        assert_eq!(Vgpu::of_all([]), Vgpu::Absent);
    }
}
