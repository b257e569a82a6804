//! Numbers and lists as people write them.

/// `1 warning`, `2 warnings`.
pub(crate) fn counted(number: usize, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// `name`, or `name ×3` for more than one.
pub(crate) fn times(name: &str, count: usize) -> String {
    if count == 1 {
        name.to_owned()
    } else {
        format!("{name} ×{count}")
    }
}

/// `name`, or `3 × name` for more than one.
pub(crate) fn times_before(count: usize, name: &str) -> String {
    if count == 1 {
        name.to_owned()
    } else {
        format!("{count} × {name}")
    }
}

/// Ascending numbers in short: `0-3,6`; two neighbours stay apart.
pub(crate) fn ranges(numbers: impl IntoIterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let shown = runs.into_iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    shown.collect::<Vec<_>>().join(",")
}

/// GPUs, and MIG devices by their GPU, in short: `0-3,6`, `0:0-6 1:2`.
pub(crate) fn mixed_ranges(
    gpus: impl IntoIterator<Item = u32>,
    mig_devices: impl IntoIterator<Item = (u32, Vec<u32>)>,
) -> String {
    let inside = mig_devices.into_iter();
    let inside = inside.map(|(gpu, devices)| format!("{gpu}:{}", ranges(devices)));
    let parts = std::iter::once(ranges(gpus)).chain(inside);
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

/// `8 × NVIDIA H100 80GB HBM3`, a part for each model.
pub(crate) fn models<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    let parts: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{count} × {name}"))
        .collect();
    if parts.is_empty() {
        "no GPU".to_owned()
    } else {
        parts.join(" + ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_drawn_together_from_three_on() {
        assert_eq!(ranges([]), "");
        assert_eq!(ranges([4]), "4");
        assert_eq!(ranges([0, 1, 3, 4, 5, 9]), "0,1,3-5,9");
    }

    #[test]
    fn mig_devices_stand_behind_their_gpu() {
        let inside = [(1, vec![0, 1, 2]), (3, vec![4])];
        assert_eq!(mixed_ranges([0, 2], inside), "0,2 1:0-2 3:4");
        assert_eq!(mixed_ranges([], [(0, vec![0])]), "0:0");
    }

    #[test]
    fn models_are_counted_in_the_order_they_come() {
        assert_eq!(models(["L4", "T4", "L4"]), "2 × L4 + 1 × T4");
        assert_eq!(models([]), "no GPU");
    }
}
