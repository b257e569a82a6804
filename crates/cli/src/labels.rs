//! The `mizzen labels` command.

mod args;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use mizzen_agent::labels::{FollowError, LabelsFile, Look, Next, follow, look};
use mizzen_core::config::Config;
use mizzen_core::driver::DriverError;
use mizzen_core::labels::{Labels, features_file};

pub(crate) use args::{ABOUT, LabelsArgs, LabelsCli};

/// The exit code of a command line or a config file that cannot be understood, as clap has it.
const MISUNDERSTOOD: u8 = 2;

/// Carries the command out.
pub(crate) fn run(args: &LabelsArgs) -> Result<ExitCode> {
    let config = match args.config() {
        Ok(config) => config,
        Err(mistakes) => {
            say(&mistakes);
            return Ok(MISUNDERSTOOD.into());
        }
    };
    for warning in &config.warnings {
        say(&warning.to_string());
    }
    // Most code that is mapped by now is that of the arguments and settings.
    mizzen_nvml::release_start_code();
    let done = if config.labels.oneshot {
        once(&config)
    } else {
        again_and_again(args, config)
    };
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever reads our output has gone; the caller knows what to do.
        Err(error) if crate::is_broken_pipe(&error) => Err(error),
        Err(error) => {
            say(&format!("{error:#}"));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Everything but labels is for people.
fn say(text: &str) {
    eprintln!("mizzen labels: {text}");
}

fn once(config: &Config) -> Result<()> {
    let loader = mizzen_agent::nvml_loader(config);
    let seen = look(loader.as_ref(), config, timestamp(config)).map_err(explained)?;
    Outlet::new(config).tell(seen)?;
    Ok(())
}

/// A config that cannot be used when it is read anew leaves the one before in force.
fn again_and_again(args: &LabelsArgs, mut config: Config) -> Result<()> {
    let mut outlet = Outlet::new(&config);
    loop {
        let loader = mizzen_agent::nvml_loader(&config);
        let tell = |seen| outlet.tell(seen);
        match follow(&loader, &config, timestamp(&config), tell) {
            Ok(Next::End) => return Ok(()),
            Ok(Next::Reload) => {}
            Err(FollowError::Driver(error)) => return Err(explained(error)),
            Err(FollowError::System(error)) => return Err(error.into()),
        }
        match args.config() {
            Ok(new) => {
                outlet = outlet.or_another(&new);
                config = new;
            }
            Err(mistakes) => say(&format!("{mistakes}\nthe settings stay as they were")),
        }
    }
}

/// Seconds since 1970, as they are told.
fn timestamp(config: &Config) -> Option<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.ok()
        .map(|time| time.as_secs())
        .filter(|_| config.labels.timestamp)
}

fn explained(error: DriverError) -> anyhow::Error {
    anyhow::Error::new(error).context(
        "the driver cannot be asked (--fail-on-init-error=false tells what is known without it)",
    )
}

/// Where labels go.
struct Outlet {
    file: Option<LabelsFile>,
    printed: Option<Labels>,
    remarks: Vec<String>,
}

impl Outlet {
    fn new(config: &Config) -> Self {
        let labels = &config.labels;
        // As in the reference, a file that nobody would write again stays.
        let stays = labels.oneshot || labels.sleep_interval.is_none();
        let path = labels.output_file.as_ref();
        Self {
            file: path.map(|path| LabelsFile::new(path, stays)),
            printed: None,
            remarks: Vec::new(),
        }
    }

    /// The same, if it goes to the same place.
    fn or_another(self, config: &Config) -> Self {
        let path = self.file.as_ref().map(LabelsFile::path);
        if path == config.labels.output_file.as_deref() {
            self
        } else {
            Self::new(config)
        }
    }

    /// Tells what is different from the last time.
    fn tell(&mut self, seen: Look) -> io::Result<()> {
        if seen.remarks != self.remarks {
            for remark in &seen.remarks {
                say(remark);
            }
            self.remarks = seen.remarks;
        }
        match &mut self.file {
            Some(file) => {
                let written = file.write(&seen.labels);
                written.map(drop).map_err(|error| {
                    let path = file.path().display();
                    io::Error::new(error.kind(), format!("cannot write {path}: {error}"))
                })
            }
            None if self.printed.as_ref() == Some(&seen.labels) => Ok(()),
            None => {
                print(&features_file(&seen.labels))?;
                self.printed = Some(seen.labels);
                Ok(())
            }
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
