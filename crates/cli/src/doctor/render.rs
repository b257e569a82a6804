//! The report for people.

use anstyle::Style;
use mizzen_core::doctor::{Area, Finding, Report, Severity};

use crate::terminal::{BAD, BOLD, BUSY, DIM, GOOD, Line, PLAIN, Terminal, WARN};
use crate::words::counted;

/// Where a finding's text begins.
const MARGIN: usize = 11;
/// Lines are read more easily if they are no longer, however wide the terminal is.
const WIDEST: usize = 100;

/// The report, area by area, and what is the sum of it.
pub(super) fn lines(report: &Report, terminal: &Terminal) -> Vec<Line> {
    let columns = terminal.size().map_or(WIDEST, |size| size.columns);
    let width = columns.clamp(40, WIDEST) - MARGIN;
    let mut lines = Vec::new();
    for area in Area::ALL {
        let mut findings = report.of(*area).peekable();
        if findings.peek().is_some() {
            lines.push(Line::of(BOLD, area.title()));
        }
        for finding in findings {
            lines.extend(of_finding(finding, width));
        }
    }
    lines.push(Line::default());
    lines.push(sum(report));
    lines
}

fn of_finding(finding: &Finding, width: usize) -> Vec<Line> {
    let (word, style) = match finding.severity {
        Severity::Ok => ("ok", GOOD),
        Severity::Skipped => ("-", DIM),
        Severity::Hint => ("hint", BUSY),
        Severity::Warning => ("warning", WARN),
        Severity::Error => ("error", BAD),
    };
    let text_style = if finding.severity == Severity::Skipped {
        DIM
    } else {
        PLAIN
    };
    let mut lines = Vec::new();
    for (at, part) in broken(&finding.found, width).into_iter().enumerate() {
        let head = if at == 0 { word } else { "" };
        let margin = Line::of(style, format!("  {head:<width$}", width = MARGIN - 2));
        lines.push(margin.and(text_style, part));
    }
    if let Some(meaning) = &finding.meaning {
        lines.extend(indented(meaning, "", width, DIM));
    }
    if let Some(advice) = &finding.advice {
        lines.extend(indented(advice, "→ ", width, PLAIN));
    }
    // Whole, so that they can be copied.
    let commands = finding.commands.iter();
    lines.extend(commands.map(|command| {
        Line::from(" ".repeat(MARGIN))
            .and(DIM, "$ ")
            .and(BOLD, command)
    }));
    lines
}

/// A text below a finding, its first line behind `mark`.
fn indented(text: &str, mark: &str, width: usize, style: Style) -> Vec<Line> {
    let inner = mark.chars().count();
    let parts = broken(text, width - inner).into_iter().enumerate();
    parts
        .map(|(at, part)| {
            let mark = if at == 0 {
                mark.to_owned()
            } else {
                " ".repeat(inner)
            };
            Line::from(" ".repeat(MARGIN) + &mark).and(style, part)
        })
        .collect()
}

/// A text in lines of at most `width` characters, broken between words where that is possible.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let length = line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && length > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

fn sum(report: &Report) -> Line {
    let counts: Vec<String> = [
        (Severity::Error, "error"),
        (Severity::Warning, "warning"),
        (Severity::Hint, "hint"),
    ]
    .into_iter()
    .map(|(severity, word)| (report.count(severity), word))
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| counted(count, word))
    .collect();
    let words = counts.join(", ");
    let (errors, warnings) = (
        report.count(Severity::Error),
        report.count(Severity::Warning),
    );
    match (errors, warnings) {
        (0, 0) if words.is_empty() => Line::of(GOOD, "nothing is wrong"),
        (0, 0) => Line::of(GOOD, "nothing is wrong").and(PLAIN, format!("; {words}")),
        (0, _) => Line::of(WARN, format!("no error; {words}")),
        (1, _) => Line::of(BAD, words),
        _ => Line::of(BAD, words).and(
            PLAIN,
            ": begin with the first error, for others may follow from it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_broken_between_words_and_words_never() {
        assert_eq!(broken("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(broken("/a/very/long/path x", 5), ["/a/very/long/path", "x"]);
        assert_eq!(broken("one\n  two", 20), ["one", "two"]);
    }
}
