//! NVIDIA's catalogue of Xid errors, in short.
//!
//! Numbers, mnemonics, causes and actions are facts of NVIDIA's public documentation
//! (<https://docs.nvidia.com/deploy/xid-errors/>); the words are ours.

/// Where the cause of an Xid mostly lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XidCause {
    /// The program that used the GPU.
    Application,
    /// NVIDIA's driver or firmware.
    Driver,
    /// The GPU or its memory.
    Hardware,
    /// The link to another GPU or a switch.
    Link,
    /// The machine around the GPU: bus, power, cooling.
    Machine,
    /// Nothing is wrong: the Xid tells of an event.
    Event,
}

/// What to do first about an Xid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XidAction {
    /// Nothing.
    Nothing,
    /// Start the application again; look at the application where it comes back.
    RestartApplication,
    /// Reset the GPU.
    ResetGpu,
    /// Reboot the machine.
    RebootNode,
    /// Look at the driver: update it or report the fault.
    CheckDriver,
    /// Look at the links: cables, switches, fabric manager.
    CheckLinks,
    /// Look at the machine: seating, power, cooling.
    CheckMachine,
    /// Do what the Xid's recovery action says, which the driver reports with it.
    FollowRecoveryAction,
    /// Run the field diagnostics, and ask the machine's maker.
    ContactSupport,
}

impl XidAction {
    /// The advice in a sentence's end, for a log line.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Nothing => "nothing needs to be done",
            Self::RestartApplication => {
                "restart the application; if it comes back, debug the application"
            }
            Self::ResetGpu => "drain the GPU and reset it (nvidia-smi --gpu-reset)",
            Self::RebootNode => "drain the node and reboot it",
            Self::CheckDriver => "update the driver; if it comes back, report it to NVIDIA",
            Self::CheckLinks => "check NVLink, its cables and switches, and the fabric manager",
            Self::CheckMachine => "check the GPU's seating, power and cooling",
            Self::FollowRecoveryAction => {
                "do what the driver's recovery action says (nvidia-smi -q, GPU Recovery Action)"
            }
            Self::ContactSupport => {
                "run the field diagnostics and contact the machine's maker if it comes back"
            }
        }
    }
}

/// What is known of one Xid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XidInfo {
    /// Its number.
    pub number: u16,
    /// Its name in a few words.
    pub title: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Where its cause mostly lies.
    pub cause: XidCause,
    /// What to do first.
    pub action: XidAction,
}

/// All Xids that NVIDIA documents as in use, by number.
pub const CATALOG: &[XidInfo] = &[XidInfo {
    number: 79,
    title: "GPU has fallen off the bus",
    meaning: "the driver can no longer reach the GPU over PCIe",
    cause: XidCause::Machine,
    action: XidAction::RebootNode,
}];
