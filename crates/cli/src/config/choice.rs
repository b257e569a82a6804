//! `mizzen config explain-choice`: which devices a container would get, and why.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use mizzen_core::config::Config;
use mizzen_core::prefer::{Explainer, Explanation};
use mizzen_core::resource::ResourceName;

use super::args::{AnswerForm, ChoiceArgs};
use super::findings::Finding;
use super::node::Node;
use super::offer::{Offer, Resource, Unit};
use super::{ConfigFile, MISUNDERSTOOD, misunderstood, print_json};
use crate::terminal::Terminal;

mod document;
mod render;
mod taken;

pub(crate) use taken::Taken;

/// The exit code where the container does not get what it asks for.
const DENIED: u8 = 1;

/// The answer to the question.
#[derive(Debug)]
struct Choice<'a> {
    node: &'a Node,
    resource: &'a Resource,
    want: usize,
    /// How each GPU and MIG device behind the resource stands.
    stands: Vec<Stand>,
    /// The ids that the container gets; none where it cannot have as many as it wants.
    gets: Vec<String>,
    /// Why the container is refused with them, if it is.
    refusal: Option<String>,
    /// What the rules say, where whole GPUs are chosen by how they are connected.
    rules: Option<Explanation>,
}

/// The devices of one GPU or MIG device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stand {
    /// What it is.
    unit: Unit,
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
            return Ok(MISUNDERSTOOD.into());
        }
    };
    let node = match Node::find(&args.node, &config) {
        Ok(node) => node,
        Err(error) => return Ok(misunderstood(&error)),
    };
    let offer = Offer::new(&node.inventory, &config);
    let question = wanted_resource(&offer, args.resource.as_ref())
        .and_then(|resource| Ok((resource, taken::ids(&args.taken, resource, &node)?)));
    let (resource, taken) = match question {
        Ok(question) => question,
        Err(error) => return Ok(misunderstood(&error)),
    };
    let choice = Choice::new(&node, resource, &config, &taken, args);
    match args.output {
        AnswerForm::Table => Terminal::stdout().print(render::lines(&choice))?,
        AnswerForm::Json => print_json(&document::Document::new(&choice))?,
    }
    Ok(choice.exit_code())
}

/// The resource that was asked for, or the only one, or `nvidia.com/gpu`.
fn wanted_resource<'a>(offer: &'a Offer, asked: Option<&ResourceName>) -> Result<&'a Resource> {
    if let (None, [only]) = (asked, offer.resources.as_slice()) {
        return Ok(only);
    }
    let name = asked.cloned().unwrap_or_else(ResourceName::gpu);
    offer.resource(&name).ok_or_else(|| {
        let there: Vec<&str> = offer
            .resources
            .iter()
            .map(|resource| resource.name().as_str())
            .collect();
        match there.as_slice() {
            [] => anyhow!("the node offers no GPU"),
            there => anyhow!("the node has no {name}; it has {}", there.join(", ")),
        }
    })
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
        let all = resource.units.values().flat_map(|backing| &backing.ids);
        let free: Vec<String> = all.filter(|id| !taken.contains(*id)).cloned().collect();
        let gets = if want <= free.len() {
            resource.prefer(&free, want)
        } else {
            Vec::new()
        };
        let stands: Vec<Stand> = resource
            .units
            .iter()
            .map(|(unit, backing)| Stand {
                unit: *unit,
                devices: backing.ids.len(),
                taken: backing.ids.iter().filter(|id| taken.contains(*id)).count(),
                gets: backing.ids.iter().filter(|id| gets.contains(id)).count(),
            })
            .collect();
        Self {
            rules: rules(node, resource, &stands, want, args.others),
            refusal: resource.refusal(&gets, config),
            node,
            resource,
            want,
            stands,
            gets,
        }
    }

    /// How many devices are free.
    fn free(&self) -> usize {
        self.stands
            .iter()
            .map(|stand| stand.devices - stand.taken)
            .sum()
    }

    /// Whether the container gets what it wants.
    fn exit_code(&self) -> ExitCode {
        if self.gets.is_empty() || self.refusal.is_some() {
            return DENIED.into();
        }
        ExitCode::SUCCESS
    }
}

/// What the rules say, where the policy goes by them and each GPU gives one device at most. MIG
/// devices are not chosen by links.
fn rules(
    node: &Node,
    resource: &Resource,
    stands: &[Stand],
    want: usize,
    others: usize,
) -> Option<Explanation> {
    if resource.has_mig_devices() {
        return None;
    }
    let explainer = Explainer::of_policy(resource.policy(), node.gpus(), &node.inventory.links)?;
    let positions = |wanted: fn(&Stand) -> bool| {
        let stands = stands.iter().filter(|stand| wanted(stand));
        stands.map(|stand| stand.unit.gpu).collect::<Vec<_>>()
    };
    let open = positions(|stand| stand.taken < stand.devices);
    let told = explainer.explain(&open, &[], want, others);
    let is_this_choice = told.chosen.gpus == positions(|stand| stand.gets > 0)
        && stands.iter().all(|stand| stand.gets <= 1);
    (is_this_choice && !told.chosen.gpus.is_empty()).then_some(told)
}
