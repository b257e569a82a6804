//! An edit as people read one.

use crate::terminal::{BAD, BOLD, DIM, GOOD, Line};

/// The lines around an edit that are shown with it.
const CONTEXT: usize = 2;

/// What is different between two texts of a file, of which one part differs; `None` stands for no
/// file.
pub(super) fn patch(file: &str, before: Option<&str>, after: Option<&str>) -> Vec<Line> {
    let name = |text: Option<&str>| text.map_or("/dev/null", |_| file);
    let mut lines = vec![
        Line::of(BOLD, format!("--- {}", name(before))),
        Line::of(BOLD, format!("+++ {}", name(after))),
    ];
    let old: Vec<&str> = before.unwrap_or_default().lines().collect();
    let new: Vec<&str> = after.unwrap_or_default().lines().collect();
    let same = |pairs: &mut dyn Iterator<Item = (&&str, &&str)>| {
        pairs.take_while(|(one, other)| one == other).count()
    };
    let head = same(&mut old.iter().zip(&new));
    let tail = same(&mut old[head..].iter().rev().zip(new[head..].iter().rev()));
    let (start, old_end, new_end) = (
        head.saturating_sub(CONTEXT),
        old.len() - tail,
        new.len() - tail,
    );
    let end = (old_end + CONTEXT).min(old.len());
    let range = |from: usize, to: usize| {
        let first = if to > from { from + 1 } else { from };
        format!("{first},{}", to - from)
    };
    let added = new_end + (end - old_end);
    lines.push(Line::of(
        DIM,
        format!("@@ -{} +{} @@", range(start, end), range(start, added)),
    ));
    let marked = |mark: &str, lines: &[&str], style| {
        let line = |line: &&str| Line::of(style, format!("{mark}{line}"));
        lines.iter().map(line).collect::<Vec<_>>()
    };
    lines.extend(marked(" ", &old[start..head], DIM));
    lines.extend(marked("-", &old[head..old_end], BAD));
    lines.extend(marked("+", &new[head..new_end], GOOD));
    lines.extend(marked(" ", &old[old_end..end], DIM));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(before: Option<&str>, after: Option<&str>) -> Vec<String> {
        let lines = patch("/f", before, after);
        lines.iter().map(Line::text).collect()
    }

    #[test]
    fn an_added_line_is_shown_with_its_surroundings() {
        let before = "1\n2\n3\n4\n5\n";
        assert_eq!(
            text(Some(before), Some("1\n2\n3\nx\n4\n5\n")),
            [
                "--- /f",
                "+++ /f",
                "@@ -2,4 +2,5 @@",
                " 2",
                " 3",
                "+x",
                " 4",
                " 5"
            ]
        );
        assert_eq!(
            text(Some("1\n"), Some("2\n")),
            ["--- /f", "+++ /f", "@@ -1,1 +1,1 @@", "-1", "+2"]
        );
    }

    #[test]
    fn a_file_that_comes_or_goes_is_compared_with_none() {
        assert_eq!(
            text(None, Some("a\n")),
            ["--- /dev/null", "+++ /f", "@@ -0,0 +1,1 @@", "+a"]
        );
        assert_eq!(
            text(Some("a\n"), None),
            ["--- /f", "+++ /dev/null", "@@ -1,1 +0,0 @@", "-a"]
        );
    }
}
