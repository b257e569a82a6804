//! What the GPUs are to be cut into.

use std::path::Path;

use anyhow::anyhow;
use mizzen_core::config::nearest;
use mizzen_core::mig::{MigConfigError, MigConfigFile, MigGpu, MigTarget, builtin_names, targets};

use super::Stop;
use super::args::{TargetArgs, WhichArgs};
use super::node::{Card, Node};
use crate::config::findings::Finding;
use crate::config::{bounded, text_of};

/// What is wanted of the chosen GPUs.
#[derive(Debug)]
pub(super) struct Goal {
    /// What was asked for, for people.
    pub(super) name: String,
    /// In the order of the GPUs; `None` where one is left as it is.
    pub(super) of: Vec<Option<MigTarget>>,
    /// What may not be as its giver expects.
    pub(super) remarks: Vec<String>,
}

/// Words for what no list of devices says.
const WORDS: [&str; 2] = [OFF, EMPTY];
const OFF: &str = "off";
const EMPTY: &str = "empty";

impl Goal {
    /// The GPUs that are meant, and what the command line asks of them.
    pub(super) fn of<'a>(
        args: &TargetArgs,
        which: &WhichArgs,
        node: &'a Node,
    ) -> Result<(Vec<&'a Card>, Self), Stop> {
        let cards = match &which.gpu {
            // Turning MIG off is done where it cannot be on.
            None if node.none_is_able() => node.cards.iter().collect(),
            gpu => node.chosen(gpu.as_ref())?,
        };
        let goal = Self::new(args, node, &cards)?;
        let mut targets = goal.of.iter().flatten();
        if which.gpu.is_none() && targets.any(|target| target.enabled) && node.none_is_able() {
            return Err(node.none_can_be());
        }
        Ok((cards, goal))
    }

    fn new(args: &TargetArgs, node: &Node, cards: &[&Card]) -> Result<Self, Stop> {
        if let Some(text) = &args.devices {
            return Self::typed(text, cards);
        }
        let file = args.file.as_deref().map(read).transpose()?;
        let name = match (&args.config, &file) {
            (Some(name), _) => name.clone(),
            (None, file) => only_name(file.as_ref())?,
        };
        let is_in_file = file
            .as_ref()
            .is_some_and(|file| file.names().any(|known| known == name));
        // A file may speak of GPUs that are not meant here; what it says of those that there are
        // not is a mistake.
        let all: Vec<&Card> = if is_in_file {
            node.cards.iter().collect()
        } else {
            cards.to_vec()
        };
        let gpus: Vec<MigGpu<'_>> = all.iter().map(|card| card.for_configs()).collect();
        let found = targets(&name, file.as_ref(), &gpus).map_err(|error| refused(&error))?;
        let of = cards.iter().map(|card| {
            let mut both = all.iter().zip(&found.of);
            let own = both.find(|(known, _)| known.gpu.index == card.gpu.index);
            own.and_then(|(_, target)| target.clone())
        });
        Ok(Self {
            of: of.collect(),
            name,
            remarks: found.remarks,
        })
    }

    /// What is wanted of one of the GPUs, by its place among them.
    pub(super) fn only(&self, at: usize) -> Self {
        Self {
            name: self.name.clone(),
            of: self.of.get(at).cloned().into_iter().collect(),
            remarks: Vec::new(),
        }
    }

    fn typed(text: &str, cards: &[&Card]) -> Result<Self, Stop> {
        if text.starts_with("all-") {
            let gpus: Vec<MigGpu<'_>> = cards.iter().map(|card| card.for_configs()).collect();
            let found = targets(text, None, &gpus).map_err(|error| refused(&error))?;
            return Ok(Self {
                name: text.to_owned(),
                of: found.of,
                remarks: found.remarks,
            });
        }
        let target = match text {
            OFF => Ok(MigTarget::off()),
            EMPTY => Ok(MigTarget::of([])),
            list => list.parse::<MigTarget>(),
        };
        let target = target.map_err(|error| {
            let hint = did_you_mean(&error.part, cards);
            Stop::misunderstood(anyhow!("{error}{hint}"))
        })?;
        Ok(Self {
            name: target.to_string(),
            of: vec![Some(target); cards.len()],
            remarks: Vec::new(),
        })
    }
}

/// The profile or word that was probably meant.
pub(super) fn did_you_mean(typed: &str, cards: &[&Card]) -> String {
    let tables = cards.iter().filter_map(|card| card.table());
    let profiles = tables.flat_map(|table| &table.profiles);
    let mut known: Vec<String> = profiles.map(|info| info.profile.to_string()).collect();
    known.extend(WORDS.map(str::to_owned));
    let gpus: Vec<MigGpu<'_>> = cards.iter().map(|card| card.for_configs()).collect();
    known.extend(builtin_names(&gpus));
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let typed = typed.split(['*', ' ']).next().unwrap_or_default();
    // Whoever errs in the memory has the slices right.
    let slices = typed
        .split_once('.')
        .map(|(slices, _)| format!("{slices}."));
    let is_alike = |word: &&str| slices.as_ref().is_some_and(|part| word.starts_with(part));
    let alike: Vec<&str> = known.iter().copied().filter(is_alike).collect();
    let near = nearest(typed, &alike).or_else(|| nearest(typed, &known));
    let near = near.filter(|near| near != typed);
    near.map_or_else(String::new, |word| format!("; did you mean {word}?"))
}

fn refused(error: &MigConfigError) -> Stop {
    let mut text = error.to_string();
    if matches!(error, MigConfigError::UnknownName { .. }) {
        text.push_str(" (-f names a file with others)");
        return Stop::misunderstood(anyhow!(text));
    }
    Stop::failed(anyhow!(text))
}

/// The name of a file's only config.
fn only_name(file: Option<&MigConfigFile>) -> Result<String, Stop> {
    let names: Vec<&str> = file.into_iter().flat_map(MigConfigFile::names).collect();
    match names[..] {
        [one] => Ok(one.to_owned()),
        _ => Err(Stop::misunderstood(anyhow!(
            "-c must say which config of the file is meant: {}",
            names.join(", ")
        ))),
    }
}

fn read(path: &Path) -> Result<MigConfigFile, Stop> {
    let (name, text) = if path == Path::new("-") {
        let name = "standard input";
        let text = bounded(std::io::stdin(), name).map_err(Stop::misunderstood)?;
        (name.to_owned(), text)
    } else {
        let name = path.display().to_string();
        let text = text_of(path).map_err(Stop::misunderstood)?;
        (name, text)
    };
    MigConfigFile::parse(&text).map_err(|errors| {
        let lines = errors
            .iter()
            .map(|error| format!("\n{}", Finding::from(error).in_file(&name, "")));
        let lines: String = lines.collect();
        Stop::misunderstood(anyhow!("{name} cannot be used:{lines}"))
    })
}
