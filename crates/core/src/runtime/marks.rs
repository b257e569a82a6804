//! What tells an edit of ours from what others have written.

/// What a line that we added ends with.
pub(super) const ADDED: &str = "# mizzen: turns CDI on";
/// What follows a value that we changed, after a space.
pub(super) const WAS_FALSE: &str = "# mizzen: was false";
/// What a value that we changed is followed by.
pub(super) const CHANGED: &str = "true # mizzen: was false";
/// The first line of a file that is wholly ours.
pub(super) const OURS: &str =
    "# Written by `mizzen runtime configure`; `mizzen runtime configure --undo` removes it.\n";
/// What the second line of such a file begins with; the sum of what follows is after it.
const SUM: &str = "# Sum of the rest, by which an edit of it is noticed: ";

/// A file that is wholly ours.
pub(super) fn whole(text: &str) -> String {
    format!("{OURS}{SUM}{:016x}\n{text}", sum(text))
}

/// Whether this is a file that is wholly ours, to the byte as it was written.
pub(super) fn is_whole(text: &str) -> bool {
    let rest = text.strip_prefix(OURS).unwrap_or_default();
    let Some((first, written)) = rest.split_once('\n') else {
        return false;
    };
    first.strip_prefix(SUM) == Some(&format!("{:016x}", sum(written)))
}

/// FNV-1a in 64 bits: against accidents, not against forgers, who could write the file anyway.
fn sum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The text without the lines that we added, and with the values that we changed as they were.
pub(super) fn stripped(text: &str) -> String {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut kept: Vec<String> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if !line.trim_end().ends_with(ADDED) {
            let line = line.replace(CHANGED, "false");
            // Somebody may have turned it off again, and left our words.
            kept.push(line.replace(&format!("false {WAS_FALSE}"), "false"));
            continue;
        }
        if !line.trim_start().starts_with('[') {
            continue;
        }
        if has_more(&lines[at + 1..]) {
            // Somebody has added to our section.
            kept.push(line.replace(&format!(" {ADDED}"), ""));
        } else if kept.last().is_some_and(|before| before.trim().is_empty()) {
            kept.pop();
        }
    }
    kept.concat()
}

/// Whether the section that these lines begin with has settings that are not ours.
fn has_more(lines: &[&str]) -> bool {
    let of_section = lines.iter().map(|line| line.trim());
    let mut settings = of_section
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.is_empty() && !line.starts_with('#') && !line.ends_with(ADDED));
    settings.next().is_some()
}
