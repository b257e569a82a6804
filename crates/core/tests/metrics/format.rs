//! A strict reader of the text exposition format, version 0.0.4: what it takes, every reader does.

use std::collections::{BTreeMap, BTreeSet};

/// One family of series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) series: Vec<Series>,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
    /// The value as it is written.
    pub(crate) text: String,
}

impl Series {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn label_names(&self) -> Vec<&str> {
        self.labels.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Reads a page, and says what of it breaks the format.
pub(crate) fn read(page: &str) -> Result<Vec<Family>, String> {
    let mut families: Vec<Family> = Vec::new();
    let mut lines = page.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let line = line
            .strip_suffix('\n')
            .ok_or("the last line does not end")?;
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("HELP without text")?;
            let next = lines
                .next()
                .ok_or("HELP at the end")?
                .trim_end_matches('\n');
            let kind = next
                .strip_prefix("# TYPE ")
                .and_then(|rest| rest.strip_prefix(name)?.strip_prefix(' '))
                .ok_or_else(|| format!("no TYPE after HELP of {name}"))?;
            begin(&mut families, name, kind, &unescape(help, false)?)?;
            continue;
        }
        if line.starts_with('#') || line.is_empty() {
            return Err(format!("a line of no use: {line:?}"));
        }
        let series = read_series(line)?;
        let family = families.last_mut().ok_or("a series before any family")?;
        if !belongs(&series.name, family) {
            return Err(format!("{} stands below {}", series.name, family.name));
        }
        family.series.push(series);
    }
    for family in &families {
        check(family)?;
    }
    unique(&families)?;
    Ok(families)
}

fn begin(families: &mut Vec<Family>, name: &str, kind: &str, help: &str) -> Result<(), String> {
    if !is_name(name, true) {
        return Err(format!("{name:?} is no name"));
    }
    if !["gauge", "counter", "histogram", "untyped"].contains(&kind) {
        return Err(format!("{kind:?} is no type"));
    }
    if families.iter().any(|family| family.name == name) {
        return Err(format!("{name} is there twice"));
    }
    families.push(Family {
        name: name.to_owned(),
        kind: kind.to_owned(),
        help: help.to_owned(),
        series: Vec::new(),
    });
    Ok(())
}

fn belongs(name: &str, family: &Family) -> bool {
    match name.strip_prefix(family.name.as_str()) {
        Some("") => family.kind != "histogram",
        Some("_bucket" | "_sum" | "_count") => family.kind == "histogram",
        _ => false,
    }
}

fn check(family: &Family) -> Result<(), String> {
    let name = &family.name;
    if family.series.is_empty() {
        return Err(format!("{name} has no series"));
    }
    if family.kind == "counter" && family.series.iter().any(|series| series.value < 0.0) {
        return Err(format!("{name} counts below zero"));
    }
    if family.kind == "histogram" {
        let suffix = |suffix: &str| format!("{name}{suffix}");
        let buckets = family
            .series
            .iter()
            .filter(|it| it.name == suffix("_bucket"));
        let counts: Vec<f64> = buckets.clone().map(|it| it.value).collect();
        let bounds: Option<Vec<f64>> = buckets
            .map(|it| match it.label("le")? {
                "+Inf" => Some(f64::INFINITY),
                bound => bound.parse().ok(),
            })
            .collect();
        let bounds = bounds.ok_or_else(|| format!("{name} has a bucket without a bound"))?;
        let count = family.series.iter().find(|it| it.name == suffix("_count"));
        let sum = family.series.iter().find(|it| it.name == suffix("_sum"));
        if !bounds.is_sorted()
            || !counts.is_sorted()
            || bounds.last() != Some(&f64::INFINITY)
            || counts.last() != count.map(|it| &it.value)
            || sum.is_none()
        {
            return Err(format!("{name} is no histogram"));
        }
    }
    Ok(())
}

fn unique(families: &[Family]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for series in families.iter().flat_map(|family| &family.series) {
        let labels: BTreeMap<_, _> = series.labels.iter().cloned().collect();
        if labels.len() != series.labels.len() {
            return Err(format!("{} has a label twice", series.name));
        }
        // An empty label is none.
        let told: BTreeMap<_, _> = labels
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        if !seen.insert((series.name.clone(), told)) {
            return Err(format!("{series:?} is there twice"));
        }
    }
    Ok(())
}

fn is_name(text: &str, with_colon: bool) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || (with_colon && c == ':');
    text.starts_with(is_first) && text.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

fn read_series(line: &str) -> Result<Series, String> {
    let wrong = |what: &str| format!("{what}: {line:?}");
    let end = line.find(['{', ' ']).ok_or_else(|| wrong("no value"))?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err(wrong("no name"));
    }
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").ok_or_else(|| wrong("no label"))?;
            if !is_name(label, false) || label.starts_with("__") {
                return Err(wrong("a label's name"));
            }
            let end = closing_quote(after).ok_or_else(|| wrong("an open quote"))?;
            labels.push((label.to_owned(), unescape(&after[..end], true)?));
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        rest = rest
            .strip_prefix('}')
            .ok_or_else(|| wrong("no end of labels"))?;
    }
    let text = rest.strip_prefix(' ').ok_or_else(|| wrong("no value"))?;
    let value = match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
            text.parse().map_err(|_| wrong("no number"))?
        }
        _ => return Err(wrong("no number")),
    };
    Ok(Series {
        name: name.to_owned(),
        labels,
        value,
        text: text.to_owned(),
    })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return Some(at),
            _ => {}
        }
    }
    None
}

fn unescape(text: &str, with_quotes: bool) -> Result<String, String> {
    let mut read = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            read.push(c);
            continue;
        }
        read.push(match rest.next() {
            Some('\\') => '\\',
            Some('n') => '\n',
            Some('"') if with_quotes => '"',
            other => return Err(format!("\\{other:?} is no escape")),
        });
    }
    Ok(read)
}

#[test]
fn a_page_that_breaks_the_format_is_refused() {
    let head = "# HELP m h\n# TYPE m gauge\n";
    assert!(read(&format!("{head}m{{a=\"b\"}} 1\n")).is_ok());
    for wrong in [
        "m 1\n",
        "# HELP m h\nm 1\n",
        &format!("{head}m 1"),
        &format!("{head}other 1\n"),
        &format!("{head}m 1\n{head}m 2\n"),
        &format!("{head}m 1\nm 1\n"),
        &format!("{head}m 1\nm{{a=\"\"}} 1\n"),
        &format!("{head}m{{a=\"b\",a=\"c\"}} 1\n"),
        &format!("{head}m{{a=\"b\" 1\n"),
        &format!("{head}m{{a=\"\\x\"}} 1\n"),
        &format!("{head}m one\n"),
        &format!("{head}m  1\n"),
        head,
        "# HELP m h\n# TYPE m summary\nm 1\n",
        "# HELP m h\n# TYPE m histogram\nm_bucket{le=\"1\"} 1\nm_sum 1\nm_count 1\n",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}
