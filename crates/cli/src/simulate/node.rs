//! `--gpus 8xh100-80gb`: a node's GPUs in one word.

use std::str::FromStr;

/// Groups of GPUs of one model each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GpuList(pub(crate) Vec<GpuGroup>);

/// So many GPUs of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GpuGroup {
    /// At least one.
    pub(crate) count: u32,
    /// A built-in model's name.
    pub(crate) model: String,
}

/// Why a text is not a list of GPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidGpuList {
    /// Nothing between two commas, or nothing at all.
    #[error("expected COUNTxMODEL, such as 8xh100-80gb or 4xa30,2xt4")]
    Empty,
    /// No GPUs of a model.
    #[error("{0:?} has no GPUs: the count starts at 1")]
    NoGpus(String),
}

impl FromStr for GpuList {
    type Err = InvalidGpuList;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',')
            .map(|part| group(part.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// `8xh100-80gb`, or `h100-80gb` for one.
fn group(text: &str) -> Result<GpuGroup, InvalidGpuList> {
    let (count, model) = match text
        .split_once('x')
        .map(|(count, model)| (count.parse(), model))
    {
        Some((Ok(count), model)) => (count, model),
        _ => (1, text),
    };
    if model.is_empty() {
        return Err(InvalidGpuList::Empty);
    }
    if count == 0 {
        return Err(InvalidGpuList::NoGpus(text.to_owned()));
    }
    Ok(GpuGroup {
        count,
        model: model.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(text: &str) -> Vec<(u32, String)> {
        let GpuList(groups) = text.parse().unwrap();
        groups
            .into_iter()
            .map(|group| (group.count, group.model))
            .collect()
    }

    #[test]
    fn a_list_of_gpus_is_counts_and_models() {
        assert_eq!(groups("8xh100-80gb"), [(8, "h100-80gb".into())]);
        assert_eq!(groups("4xa30, 2xt4"), [(4, "a30".into()), (2, "t4".into())]);
        assert_eq!(groups("rtx-pro-6000"), [(1, "rtx-pro-6000".into())]);
    }

    #[test]
    fn a_list_with_a_gap_or_with_none_of_a_model_is_refused() {
        assert_eq!("".parse::<GpuList>(), Err(InvalidGpuList::Empty));
        assert_eq!("8x".parse::<GpuList>(), Err(InvalidGpuList::Empty));
        assert_eq!("8xt4,".parse::<GpuList>(), Err(InvalidGpuList::Empty));
        assert!(matches!(
            "0xt4".parse::<GpuList>(),
            Err(InvalidGpuList::NoGpus(_))
        ));
    }
}
