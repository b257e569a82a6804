//! The short form of command lines: `8xh100-80gb`, `4xt4,2xa100-40gb`.

use super::{GpuGroup, Scenario, UnknownModel};
use crate::node::MAX_GPUS;

/// Why a text is no short form of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidShortForm {
    /// Another form.
    #[error(
        "{0:?} describes no GPUs: expected a count and a model, such as 8xh100-80gb, several with commas"
    )]
    Shape(String),
    /// A model that does not exist.
    #[error(transparent)]
    Model(#[from] UnknownModel),
    /// Too many GPUs.
    #[error("{0} GPUs are too many: a node has at most {MAX_GPUS}")]
    TooMany(usize),
}

pub(super) fn parse(text: &str) -> Result<Scenario, InvalidShortForm> {
    let groups = text
        .split(',')
        .map(|part| group(part.trim()))
        .collect::<Result<Vec<_>, _>>()?;
    let total = groups
        .iter()
        .fold(0, |total: usize, group| total.saturating_add(group.count));
    if total > MAX_GPUS {
        return Err(InvalidShortForm::TooMany(total));
    }
    Ok(Scenario {
        gpus: groups,
        ..Scenario::default()
    })
}

fn group(text: &str) -> Result<GpuGroup, InvalidShortForm> {
    let counted = text
        .split_once('x')
        .and_then(|(count, model)| Some((count.parse().ok()?, model)));
    match counted {
        Some((count, model)) if count > 0 => Ok(GpuGroup::new(model.parse()?, count)),
        Some(_) => Err(InvalidShortForm::Shape(text.to_owned())),
        None if text.is_empty() => Err(InvalidShortForm::Shape(text.to_owned())),
        None => Ok(GpuGroup::new(text.parse()?, 1)),
    }
}
