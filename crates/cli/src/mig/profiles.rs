//! `mizzen mig profiles`: what the GPUs can be cut into, and what is free.

use std::collections::{BTreeMap, BTreeSet};

use mizzen_core::mig::{Layout, MigProfile, MigTable, MigTarget, Placement, ProfileInfo, plan_mig};
use serde::Serialize;

use super::args::{AnswerForm, ProfilesArgs};
use super::node::{Card, Node, in_words};
use super::picture::{self, Scene};
use super::{FAILED, FORM, Stop, columns, print_json};
use crate::terminal::{BAD, BOLD, DIM, Line, PLAIN, Table, Terminal};
use crate::words::ranges;

/// What is printed for programs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    models: Vec<Model>,
}

/// GPUs that can be cut alike.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Model {
    name: String,
    /// The indices of its GPUs.
    gpus: Vec<u32>,
    memory_mib: u64,
    profiles: Vec<Profile>,
}

/// A profile of a model.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(rename = "profile")]
    name: MigProfile,
    /// What `nvidia-smi mig -cgi` takes.
    id: u32,
    memory_mib: u64,
    multiprocessors: u32,
    copy_engines: u32,
    decoders: u32,
    encoders: u32,
    jpeg_decoders: u32,
    optical_flow_accelerators: u32,
    /// How many fit onto an empty GPU.
    total: u32,
    /// How many more fit onto each GPU now, by index.
    free: BTreeMap<u32, u32>,
    /// The first memory slices at which one may begin.
    starts: Vec<u32>,
    /// Its memory slices.
    size: Option<u32>,
}

/// Carries the command out.
pub(super) fn run(node: &Node, args: &ProfilesArgs) -> Result<u8, Stop> {
    let cards = node.chosen(args.which.gpu.as_ref())?;
    let models = models(&cards);
    let silent: Vec<String> = cards
        .iter()
        .filter_map(|card| Some((card, card.mig.as_ref().err()?)))
        .map(|(card, error)| {
            if card.can_be_partitioned() {
                format!("{}: {error}", card.name())
            } else {
                format!("{} cannot be partitioned", card.name())
            }
        })
        .chain(
            node.broken
                .iter()
                .filter(|_| args.which.gpu.is_none())
                .map(in_words),
        )
        .collect();
    match args.output {
        AnswerForm::Table => {
            let terminal = Terminal::stdout();
            let mut lines = lines(&cards, &models, columns(&terminal));
            lines.extend(
                silent
                    .iter()
                    .map(|text| Line::of(BAD, "✖ ").and(PLAIN, text.as_str())),
            );
            terminal.print(lines).map_err(anyhow::Error::from)?;
        }
        AnswerForm::Json => {
            for text in &silent {
                eprintln!("mizzen mig: {text}");
            }
            print_json(&Document {
                version: FORM,
                models,
            })?;
        }
    }
    Ok(if silent.is_empty() { 0 } else { FAILED })
}

fn models(cards: &[&Card]) -> Vec<Model> {
    let mut groups: Vec<Vec<(&Card, &MigTable, &Layout)>> = Vec::new();
    for card in cards {
        let Ok((table, layout)) = &card.mig else {
            continue;
        };
        let one = (*card, table, layout);
        let same = groups.iter_mut().find(|group| {
            let (first, known, _) = group[0];
            first.gpu.name == card.gpu.name && known == table
        });
        match same {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    let model = |group: Vec<(&Card, &MigTable, &Layout)>| {
        let (first, table, _) = *group.first()?;
        let profiles = table.profiles.iter().map(|info| profile(info, &group));
        Some(Model {
            name: first.gpu.name.clone(),
            gpus: group.iter().map(|(card, _, _)| card.gpu.index).collect(),
            memory_mib: first.gpu.memory_mib,
            profiles: profiles.collect(),
        })
    };
    groups.into_iter().filter_map(model).collect()
}

fn profile(info: &ProfileInfo, group: &[(&Card, &MigTable, &Layout)]) -> Profile {
    let free = group.iter().map(|(card, table, layout)| {
        let free = free(info, table, layout);
        (card.gpu.index, free)
    });
    Profile {
        name: info.profile,
        id: info.id,
        memory_mib: info.memory_mib,
        multiprocessors: info.multiprocessors,
        copy_engines: info.engines.copy,
        decoders: info.engines.decoders,
        encoders: info.engines.encoders,
        jpeg_decoders: info.engines.jpeg,
        optical_flow_accelerators: info.engines.ofa,
        total: info.most,
        free: free.collect(),
        starts: info.placements.iter().map(|place| place.start).collect(),
        size: info.placements.first().map(|place| place.size),
    }
}

/// How many more of a profile fit beside what there is, empty GPU instances included.
fn free(info: &ProfileInfo, table: &MigTable, layout: &Layout) -> u32 {
    if layout.instances.is_empty() {
        return info.most;
    }
    // Each is seen as full: what is empty is not free for others.
    let mut full = layout.clone();
    for instance in &mut full.instances {
        let slices = instance.profile.gpu_slices;
        instance.compute = vec![mizzen_core::mig::ComputeInstance {
            id: 0,
            slices,
            placement: Placement {
                start: 0,
                size: slices,
            },
        }];
    }
    let held: BTreeSet<(u32, u32)> = full.instances.iter().map(|one| (one.id, 0)).collect();
    let there = full.instances.iter().map(|instance| (instance.profile, 1));
    let there: Vec<(MigProfile, u32)> = there.collect();
    let fits = |more: &u32| {
        let target = MigTarget::of(there.iter().copied().chain([(info.profile, *more)]));
        plan_mig(table, &full, &target, &held).is_ok()
    };
    (1..=info.most).rev().find(fits).unwrap_or(0)
}

fn lines(cards: &[&Card], models: &[Model], columns: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for model in models {
        let indices = ranges(model.gpus.iter().copied());
        let plural = if model.gpus.len() == 1 { "" } else { "s" };
        lines.push(
            Line::of(BOLD, format!("GPU{plural} {indices}"))
                .and(PLAIN, format!("  {}", model.name))
                .and(DIM, format!("  {} MiB", model.memory_mib)),
        );
        lines.extend(table(model));
        lines.extend(drawings(cards, model, columns));
        lines.push(Line::default());
    }
    lines
}

fn table(model: &Model) -> Vec<Line> {
    let mut table = Table::new(&[
        "PROFILE", "ID", "MIB", "SMS", "CE", "DEC", "ENC", "JPEG", "OFA", "FREE", "PLACES",
    ]);
    for profile in &model.profiles {
        let least = profile.free.values().min().copied().unwrap_or(0);
        let most = profile.free.values().max().copied().unwrap_or(0);
        let free = if least == most {
            least.to_string()
        } else {
            format!("{least}-{most}")
        };
        let starts: Vec<String> = profile.starts.iter().map(u32::to_string).collect();
        let places = match profile.size {
            Some(size) => format!("{{{}}}:{size}", starts.join(",")),
            None => String::new(),
        };
        table.row(vec![
            Line::of(BOLD, profile.name.to_string()),
            profile.id.to_string().into(),
            profile.memory_mib.to_string().into(),
            profile.multiprocessors.to_string().into(),
            count(profile.copy_engines),
            count(profile.decoders),
            count(profile.encoders),
            count(profile.jpeg_decoders),
            count(profile.optical_flow_accelerators),
            format!("{free}/{}", profile.total).into(),
            Line::of(DIM, places),
        ]);
    }
    table.lines(2)
}

fn count(number: u32) -> Line {
    match number {
        0 => Line::of(DIM, "–"),
        number => number.to_string().into(),
    }
}

/// How the GPUs of a model are cut now; those that are cut alike once.
fn drawings(cards: &[&Card], model: &Model, columns: usize) -> Vec<Line> {
    let mut seen: Vec<(&MigTable, &Layout, Vec<u32>)> = Vec::new();
    let of_model = cards
        .iter()
        .filter(|card| model.gpus.contains(&card.gpu.index));
    for card in of_model {
        let Ok((table, layout)) = &card.mig else {
            continue;
        };
        match seen.iter_mut().find(|(_, known, _)| *known == layout) {
            Some((_, _, indices)) => indices.push(card.gpu.index),
            None => seen.push((table, layout, vec![card.gpu.index])),
        }
    }
    let mut lines = Vec::new();
    for (table, layout, indices) in seen {
        let plural = if indices.len() == 1 { "" } else { "s" };
        let name = format!("  GPU{plural} {}", ranges(indices));
        lines.push(Line::of(DIM, name));
        lines.extend(picture::lines(
            Some(table),
            &[Scene::of("now", layout)],
            columns,
        ));
    }
    lines
}
