//! What the catalogue tells of an Xid.

/// Where the cause of an Xid mostly lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XidCause {
    /// The program that used the GPU.
    Application,
    /// NVIDIA's driver or firmware.
    Driver,
    /// The GPU or its memory.
    Hardware,
    /// The link to another GPU, a switch or the CPU.
    Link,
    /// The machine around the GPU: bus, power, cooling.
    Machine,
    /// Nothing: the Xid tells of an event.
    Event,
}

impl XidCause {
    /// The cause in a word, for a log line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Driver => "driver",
            Self::Hardware => "hardware",
            Self::Link => "link",
            Self::Machine => "machine",
            Self::Event => "event",
        }
    }
}

/// What to do first about an Xid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum XidAction {
    /// Nothing.
    Nothing,
    /// Start the application again.
    RestartApplication,
    /// Look for the Xid that came before.
    FollowOtherXid,
    /// Reset the GPU.
    ResetGpu,
    /// Reboot the machine.
    RebootNode,
    /// Restart the virtual machine.
    RestartVirtualMachine,
    /// Bring driver and firmware up to date.
    UpdateSoftware,
    /// Look at the links, and reset the GPU.
    CheckLinks,
    /// Look at the machine: seating, power, cooling.
    CheckMachine,
    /// Do what the driver's recovery action says.
    FollowRecoveryAction,
    /// Ask the machine's maker.
    ContactSupport,
}

impl XidAction {
    /// The advice as the end of a sentence, for a log line.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Nothing => "nothing needs to be done unless it comes back often",
            Self::RestartApplication => {
                "restart the application; if it comes back, debug the application, then suspect \
                 the GPU"
            }
            Self::FollowOtherXid => {
                "look for the Xid before it and act on that; if there is none, restart the fabric \
                 manager"
            }
            Self::ResetGpu => {
                "drain the GPU and reset it (nvidia-smi --gpu-reset); if it comes back, run the \
                 field diagnostics"
            }
            Self::RebootNode => {
                "drain the node and reboot it; if it comes back, check seating, power and cooling \
                 and contact the machine's maker"
            }
            Self::RestartVirtualMachine => "restart the virtual machine",
            Self::UpdateSoftware => "bring the driver and firmware of host and guest up to date",
            Self::CheckLinks => {
                "drain the GPU and reset it; if it comes back, check NVLink (nvidia-smi nvlink), \
                 its connectors and switches, and the fabric manager"
            }
            Self::CheckMachine => "check the GPU's seating, power cables and cooling",
            Self::FollowRecoveryAction => {
                "do what the driver's recovery action says (nvidia-smi -q, GPU Recovery Action)"
            }
            Self::ContactSupport => {
                "if it comes back, run the field diagnostics and contact the machine's maker"
            }
        }
    }
}

/// What is known of one Xid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XidInfo {
    /// Its number.
    pub number: u16,
    /// The driver's own name for it.
    pub mnemonic: &'static str,
    /// Its name in a few words.
    pub title: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// Where its cause mostly lies.
    pub cause: XidCause,
    /// What to do first.
    pub action: XidAction,
}
