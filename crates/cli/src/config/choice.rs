//! `mizzen config explain-choice`: which devices a container would get, and why.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use mizzen_core::config::{AllocationPolicy, Config};
use mizzen_core::prefer::{Explainer, Explanation};
use mizzen_core::resource::ResourceName;

use super::args::{AnswerForm, ChoiceArgs};
use super::findings::Finding;
use super::node::Node;
use super::offer::{Offer, Resource};
use super::{ConfigFile, UNUSABLE, misunderstood, print_json};
use crate::terminal::Terminal;

mod document;
mod render;
mod taken;

pub(crate) use taken::Taken;

/// The answer to the question.
#[derive(Debug)]
struct Choice<'a> {
    node: &'a Node,
    resource: &'a Resource,
    want: usize,
    /// How each GPU behind the resource stands, by position.
    gpus: Vec<Stand>,
    /// The ids that the container gets; none where it cannot have as many as it wants.
    gets: Vec<String>,
    /// Why the container is refused with them, if it is.
    refusal: Option<String>,
    /// What the rules say, where whole GPUs are chosen by how they are connected.
    rules: Option<Explanation>,
}

/// The devices of one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stand {
    /// The GPU's position.
    gpu: usize,
    /// How many devices it gives to the resource.
    devices: usize,
    /// How many of them other containers have.
    taken: usize,
    /// How many the container gets.
    gets: usize,
}

/// Carries the command out.
pub(super) fn run(args: &ChoiceArgs) -> Result<ExitCode> {
    let file = args.config.as_deref().map(ConfigFile::read).transpose();
    let file = match file {
        Ok(file) => file.unwrap_or_else(ConfigFile::none),
        Err(error) => return Ok(misunderstood(&error)),
    };
    let config = match file.settings.validate() {
        Ok(config) => config,
        Err(errors) => {
            for error in &errors {
                eprintln!("{}", Finding::from(error).in_file(&file.name, ""));
            }
            return Ok(UNUSABLE.into());
        }
    };
    match answer(args, &config) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Ok(misunderstood(&error)),
    }
}

fn answer(args: &ChoiceArgs, config: &Config) -> Result<()> {
    let node = Node::find(&args.node, config)?;
    let offer = Offer::new(&node.inventory, config);
    let resource = wanted_resource(&offer, args.resource.as_ref())?;
    let taken = taken::ids(&args.taken, resource, &node)?;
    let choice = Choice::new(&node, resource, config, &taken, args);
    match args.output {
        AnswerForm::Table => Ok(Terminal::stdout().print(render::lines(&choice))?),
        AnswerForm::Json => print_json(&document::Document::new(&choice)),
    }
}

/// The resource that was named, or the only one, or `nvidia.com/gpu`.
fn wanted_resource<'a>(offer: &'a Offer, named: Option<&ResourceName>) -> Result<&'a Resource> {
    if let (None, [only]) = (named, offer.resources.as_slice()) {
        return Ok(only);
    }
    let default = ResourceName::gpu();
    let name = named.unwrap_or(&default);
    let found = offer.resource(name);
    let names: Vec<&str> = offer
        .resources
        .iter()
        .map(|other| other.name().as_str())
        .collect();
    match (found, names.as_slice()) {
        (Some(resource), _) => Ok(resource),
        (None, []) => bail!("the node offers no GPU"),
        (None, names) => Err(anyhow!(
            "the node has no {name}; it has {}",
            names.join(", ")
        )),
    }
}

impl<'a> Choice<'a> {
    fn new(
        node: &'a Node,
        resource: &'a Resource,
        config: &Config,
        taken: &BTreeSet<String>,
        args: &ChoiceArgs,
    ) -> Self {
        let want = args.want.get();
        let all = resource.gpus.values().flat_map(|backing| &backing.ids);
        let free: Vec<String> = all.filter(|id| !taken.contains(*id)).cloned().collect();
        let gets = if want <= free.len() {
            resource.prefer(&free, want)
        } else {
            Vec::new()
        };
        let gpus: Vec<Stand> = resource
            .gpus
            .iter()
            .map(|(gpu, backing)| Stand {
                gpu: *gpu,
                devices: backing.ids.len(),
                taken: backing.ids.iter().filter(|id| taken.contains(*id)).count(),
                gets: backing.ids.iter().filter(|id| gets.contains(id)).count(),
            })
            .collect();
        Self {
            rules: rules(node, resource, &gpus, want, args.others),
            refusal: resource.refusal(&gets, config),
            node,
            resource,
            want,
            gpus,
            gets,
        }
    }

    /// How many devices are free.
    fn free(&self) -> usize {
        self.gpus
            .iter()
            .map(|stand| stand.devices - stand.taken)
            .sum()
    }
}

/// What the rules of the connected choice say; nothing where the choice was another policy's.
fn rules(
    node: &Node,
    resource: &Resource,
    gpus: &[Stand],
    want: usize,
    others: usize,
) -> Option<Explanation> {
    let is_aligned = resource.shared.is_none() && resource.policy == AllocationPolicy::Aligned;
    let chosen: Vec<usize> = gpus
        .iter()
        .filter(|stand| stand.gets > 0)
        .map(|stand| stand.gpu)
        .collect();
    let free = gpus.iter().filter(|stand| stand.taken == 0);
    let free: Vec<usize> = free.map(|stand| stand.gpu).collect();
    let explainer = Explainer::new(node.gpus(), &node.inventory.links);
    let told = explainer.explain(&free, &[], want, others);
    (is_aligned && !chosen.is_empty() && told.chosen.gpus == chosen).then_some(told)
}
