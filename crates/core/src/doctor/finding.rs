//! What is found, and how it is written down.

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Not looked at, because of something else.
    Skipped,
    /// Worth knowing; nothing has to be done.
    Hint,
    /// Works now, or in part, and may not later.
    Warning,
    /// Pods do not get their GPUs because of it.
    Error,
}

impl Severity {
    /// The word that programs are told.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Hint => "hint",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

macro_rules! areas {
    ($($area:ident $word:literal $title:literal $doc:literal)*) => {
        /// What is looked at, in the order of dependence.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Area {
            $(#[doc = $doc] $area,)*
        }

        impl Area {
            /// All areas, in their order.
            pub const ALL: &'static [Self] = &[$(Self::$area),*];

            /// The word that programs are told.
            pub fn word(self) -> &'static str {
                match self { $(Self::$area => $word,)* }
            }

            /// The heading that people see.
            pub fn title(self) -> &'static str {
                match self { $(Self::$area => $title,)* }
            }
        }
    };
}

areas! {
    Settings "settings" "Settings" "Flags, environment and config file."
    Driver "driver" "Driver" "GPUs on the bus and the kernel's module for them."
    Nvml "nvml" "NVML" "The driver's management library."
    Gpus "gpus" "GPUs" "What each GPU answers, and how it is partitioned."
    Nodes "device-nodes" "Device nodes" "The files in `/dev` and the links in `/dev/char`."
    Cdi "cdi" "CDI specs" "The files that tell container runtimes of devices."
 Runtime "runtime" "Container runtime" "What gives containers their devices."
    Kubelet "kubelet" "Kubelet" "Its registration socket."
    Registration "registration" "Registration" "Whether the kubelet knows the resources."
    Agent "agent" "Agent" "Whether the agent says that it is ready."
    Permissions "permissions" "Permissions" "What this process may do."
    Clock "clock" "Clock" "Whether the time can be right."
    Privacy "privacy" "Privacy" "Whether pods can take GPUs that they were not given."
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub area: Area,
    /// Its name for programs, which stays: `nouveau`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What that means; nothing where it means that all is well.
    pub meaning: Option<String>,
    /// What to do, in words.
    pub advice: Option<String>,
    /// The commands that mend it, or show more, for a shell on the node.
    pub commands: Vec<String>,
}

impl Finding {
    /// The same with what it means.
    pub(super) fn means(&mut self, meaning: impl Into<String>) -> &mut Self {
        self.meaning = Some(meaning.into());
        self
    }

    /// The same with what to do.
    pub(super) fn advise(&mut self, advice: impl Into<String>) -> &mut Self {
        self.advice = Some(advice.into());
        self
    }

    /// The same with one more command.
    pub(super) fn run(&mut self, command: impl Into<String>) -> &mut Self {
        self.commands.push(command.into());
        self
    }
}

/// Everything that was found, in the order of the areas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The findings.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Takes an area's findings in.
    pub(super) fn take(&mut self, notes: Notes) {
        self.findings.extend(notes.findings);
    }

    /// How many findings are so bad.
    pub fn count(&self, severity: Severity) -> usize {
        let found = self.findings.iter();
        found.filter(|finding| finding.severity == severity).count()
    }

    /// The findings of an area.
    pub fn of(&self, area: Area) -> impl Iterator<Item = &Finding> {
        let found = self.findings.iter();
        found.filter(move |finding| finding.area == area)
    }
}

/// What is written down about one area.
#[derive(Debug)]
pub(super) struct Notes {
    area: Area,
    findings: Vec<Finding>,
}

impl Notes {
    pub(super) fn new(area: Area) -> Self {
        Self {
            area,
            findings: Vec::new(),
        }
    }

    /// Whether nothing bad was written down.
    pub(super) fn is_clean(&self) -> bool {
        let mut found = self.findings.iter();
        found.all(|finding| finding.severity <= Severity::Hint)
    }

    pub(super) fn ok(&mut self, id: &'static str, found: impl Into<String>) {
        self.add(Severity::Ok, id, found);
    }

    /// That the area is not looked at, since something else is in the way.
    pub(super) fn skipped(&mut self, why: &str) {
        self.add(
            Severity::Skipped,
            "not-looked-at",
            format!("not looked at, since {why}"),
        );
    }

    pub(super) fn hint(&mut self, id: &'static str, found: impl Into<String>) -> &mut Finding {
        self.add(Severity::Hint, id, found)
    }

    pub(super) fn warning(&mut self, id: &'static str, found: impl Into<String>) -> &mut Finding {
        self.add(Severity::Warning, id, found)
    }

    pub(super) fn error(&mut self, id: &'static str, found: impl Into<String>) -> &mut Finding {
        self.add(Severity::Error, id, found)
    }

    fn add(
        &mut self,
        severity: Severity,
        id: &'static str,
        found: impl Into<String>,
    ) -> &mut Finding {
        let at = self.findings.len();
        self.findings.push(Finding {
            area: self.area,
            id,
            severity,
            found: found.into(),
            meaning: None,
            advice: None,
            commands: Vec::new(),
        });
        &mut self.findings[at]
    }
}
