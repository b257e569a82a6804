//! The `mizzen labels` command.

mod args;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use mizzen_agent::labels::{ApiLabels, FollowError, LabelsFile, Look, Next, Written, follow, look};
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
    Outlet::new(config).tell_once(seen)?;
    Ok(())
}

/// A config that cannot be used when it is read anew leaves the one before in force.
fn again_and_again(args: &LabelsArgs, mut config: Config) -> Result<()> {
    let mut outlet = Outlet::new(&config);
    loop {
        let loader = mizzen_agent::nvml_loader(&config);
        let tell = async |seen| outlet.tell(seen).await;
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

/// Where labels go, and what was told of it.
struct Outlet {
    place: Place,
    remarks: Vec<String>,
    trouble: String,
}

enum Place {
    Output { printed: Option<Labels> },
    File(LabelsFile),
    Api(Box<ApiLabels>),
}

impl Outlet {
    fn new(config: &Config) -> Self {
        let labels = &config.labels;
        // As in the reference, a file that nobody would write again stays.
        let stays = labels.oneshot || labels.sleep_interval.is_none();
        let place = match (ApiLabels::of(config), &labels.output_file) {
            (Some(api), _) => Place::Api(Box::new(api)),
            (None, Some(path)) => Place::File(LabelsFile::new(path, stays)),
            (None, None) => Place::Output { printed: None },
        };
        Self {
            place,
            remarks: Vec::new(),
            trouble: String::new(),
        }
    }

    /// The same, if it goes to the same file; what an API has is asked of it.
    fn or_another(self, config: &Config) -> Self {
        let labels = &config.labels;
        let path = match (&self.place, labels.of_command().needs_api()) {
            (Place::File(file), false) => Some(file.path()),
            (Place::Output { .. }, false) => None,
            (Place::File(_) | Place::Output { .. }, true) | (Place::Api(_), _) => {
                return Self::new(config);
            }
        };
        if path == labels.output_file.as_deref() {
            self
        } else {
            Self::new(config)
        }
    }

    /// Tells what is different from the last time; an API that does not take it is waited for.
    async fn tell(&mut self, seen: Look) -> io::Result<()> {
        self.remark(seen.remarks);
        let Place::Api(api) = &mut self.place else {
            return self.place.write(seen.labels);
        };
        let words = api.words();
        let trouble = &mut self.trouble;
        let written = api.write_at_last(&seen.labels, |failure| {
            if *trouble != failure.words {
                trouble.clone_from(&failure.words);
                say(&format!(
                    "the labels of {words} cannot be set, trying again: {failure}"
                ));
            }
        });
        say_written(&words, &written.await);
        self.trouble.clear();
        Ok(())
    }

    /// Tells it, or why that cannot be done.
    fn tell_once(&mut self, seen: Look) -> io::Result<()> {
        self.remark(seen.remarks);
        let Place::Api(api) = &mut self.place else {
            return self.place.write(seen.labels);
        };
        let words = api.words();
        let written = api.write_once(&seen.labels).map_err(|error| {
            let text = format!("the labels of {words} cannot be set: {error}");
            io::Error::new(error.kind(), text)
        })?;
        say_written(&words, &written);
        Ok(())
    }

    fn remark(&mut self, remarks: Vec<String>) {
        if remarks != self.remarks {
            for remark in &remarks {
                say(remark);
            }
            self.remarks = remarks;
        }
    }
}

/// What others must know.
fn say_written(place: &str, written: &Written) {
    if let Some(taken) = &written.taken {
        say(&format!(
            "labels of {place} that others had set are ours from now on: {taken}"
        ));
    }
}

impl Place {
    /// Writes to a file or to standard output what is not there yet.
    fn write(&mut self, labels: Labels) -> io::Result<()> {
        match self {
            Self::File(file) => {
                let written = file.write(&labels);
                written.map(drop).map_err(|error| {
                    let path = file.path().display();
                    io::Error::new(error.kind(), format!("cannot write {path}: {error}"))
                })
            }
            Self::Output { printed } if printed.as_ref() != Some(&labels) => {
                print(&features_file(&labels))?;
                *printed = Some(labels);
                Ok(())
            }
            Self::Output { .. } | Self::Api(_) => Ok(()),
        }
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
