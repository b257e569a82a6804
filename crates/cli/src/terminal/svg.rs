//! Lines of a terminal as a picture, for documents.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Color, Effects, Style};

use super::Line;

/// The size of a character cell and of the frame around the text, in the picture's units.
const CELL_WIDTH: f64 = 8.4;
const CELL_HEIGHT: f64 = 19.0;
const FONT_SIZE: f64 = 14.0;
const BORDER: f64 = 18.0;
/// The bar with the three buttons.
const BAR: f64 = 30.0;

const BACKGROUND: &str = "#1b1f27";
const FOREGROUND: &str = "#d5dae3";
const SHADED: &str = "#8b93a3";

/// A picture of a terminal window with these lines in it.
pub(crate) fn picture(title: &str, lines: &[Line]) -> String {
    let columns = lines.iter().map(Line::width).max().unwrap_or(0);
    let (width, height) = (
        cells(columns).mul_add(CELL_WIDTH, 2.0 * BORDER),
        cells(lines.len()).mul_add(CELL_HEIGHT, BAR + 2.0 * BORDER),
    );
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="{FONT_SIZE}">
<rect width="100%" height="100%" rx="9" fill="{BACKGROUND}"/>
"#
    );
    for (position, colour) in ["#ff5f57", "#febc2e", "#28c840"].into_iter().enumerate() {
        let x = cells(position).mul_add(20.0, BORDER + 4.0);
        let _infallible = writeln!(
            svg,
            r#"<circle cx="{x:.0}" cy="19" r="6" fill="{colour}"/>"#
        );
    }
    let _infallible = writeln!(
        svg,
        r#"<text x="{:.0}" y="24" fill="{SHADED}" text-anchor="middle">{}</text>"#,
        width / 2.0,
        escaped(title)
    );
    for (row, line) in lines.iter().enumerate() {
        let baseline = cells(row).mul_add(CELL_HEIGHT, BAR + BORDER + FONT_SIZE);
        write_line(&mut svg, line, baseline);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Every word is placed by itself, so that columns are aligned in any font.
fn write_line(svg: &mut String, line: &Line, baseline: f64) {
    let mut column = 0;
    for (style, text) in &line.spans {
        for word in text.split_inclusive(' ') {
            let shown = word.trim_end();
            if !shown.is_empty() {
                let x = cells(column).mul_add(CELL_WIDTH, BORDER);
                let _infallible = writeln!(
                    svg,
                    r#"<text x="{x:.1}" y="{baseline:.1}"{}>{}</text>"#,
                    attributes(*style),
                    escaped(shown)
                );
            }
            column += word.chars().count();
        }
    }
}

fn attributes(style: Style) -> String {
    let colour = match style.get_fg_color() {
        Some(Color::Ansi(AnsiColor::Green)) => "#7ee787",
        Some(Color::Ansi(AnsiColor::Yellow)) => "#e3b341",
        Some(Color::Ansi(AnsiColor::Red)) => "#ff7b72",
        Some(Color::Ansi(AnsiColor::Cyan)) => "#76c7e0",
        _ if style.get_effects().contains(Effects::DIMMED) => SHADED,
        _ => FOREGROUND,
    };
    let weight = if style.get_effects().contains(Effects::BOLD) {
        r#" font-weight="bold""#
    } else {
        ""
    };
    format!(r#" fill="{colour}"{weight}"#)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[allow(
    clippy::cast_precision_loss,
    reason = "rows and columns of a terminal are far below 2^52"
)]
fn cells(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::{BOLD, GOOD, PLAIN};

    #[test]
    fn a_picture_has_every_word_in_its_column_and_colour() {
        let line = Line::of(PLAIN, "a  ").and(GOOD, "b<c").and(BOLD, "!");
        let svg = picture("title", &[line]);
        assert!(
            svg.contains(r##"<text x="43.2" y="62.0" fill="#7ee787">b&lt;c</text>"##),
            "{svg}"
        );
        assert!(
            svg.contains(r##"fill="#d5dae3" font-weight="bold">!</text>"##),
            "{svg}"
        );
    }
}
