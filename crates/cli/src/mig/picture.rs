//! A GPU's memory slices and what lies on them, drawn with characters.

use mizzen_core::mig::{GpuInstance, Layout, MigPlan, MigStep, MigTable, Placement};

use crate::terminal::{BAD, BOLD, DIM, GOOD, Line, PLAIN};

use anstyle::Style;

/// Columns before the first slice: two spaces and a label.
const MARGIN: usize = 8;
/// A drawing is no wider than this, however wide the terminal is.
const WIDEST: usize = 96;
/// The narrowest slice: two borders and two characters.
const NARROWEST: usize = 4;
/// Memory slices of most GPUs.
const USUAL_SLICES: u32 = 8;

/// What becomes of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is there; nothing is planned.
    There,
    /// It stays.
    Kept,
    /// It is taken away.
    Destroyed,
    /// It is made.
    New,
}

impl Fate {
    /// What stands before its id.
    fn mark(self) -> &'static str {
        match self {
            Self::There => "",
            Self::Kept => "=",
            Self::Destroyed => "✖",
            Self::New => "+",
        }
    }

    /// The same in a word, where there is room for one.
    fn word(self) -> &'static str {
        match self {
            Self::There => "",
            Self::Kept => "stays",
            Self::Destroyed => "goes",
            Self::New => "new",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::There | Self::Kept => PLAIN,
            Self::Destroyed => BAD,
            Self::New => GOOD,
        }
    }

    fn border(self) -> Border {
        match self {
            Self::There | Self::Kept => Border(['┏', '━', '┓', '┃', '┗', '┛']),
            Self::Destroyed => Border(['┌', '─', '┐', '│', '└', '┘']),
            Self::New => Border(['╔', '═', '╗', '║', '╚', '╝']),
        }
    }
}

/// Corners and sides: top left, horizontal, top right, vertical, bottom left, bottom right.
#[derive(Debug, Clone, Copy)]
struct Border([char; 6]);

const FREE: Border = Border(['╭', '╌', '╮', '╎', '╰', '╯']);

/// A GPU instance as it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Block {
    place: Placement,
    fate: Fate,
    name: String,
    /// Unknown of what is yet to be made.
    id: Option<u32>,
    /// Compute slices, and the compute instances on them where they are worth showing.
    slices: u32,
    parts: Vec<Part>,
}

/// A compute instance as it is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    place: Placement,
    fate: Fate,
    id: Option<u32>,
}

/// One state of a GPU, to be drawn beside others of the same GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scene {
    label: &'static str,
    on: bool,
    /// Whether the next reset turns MIG on.
    soon_on: bool,
    blocks: Vec<Block>,
}

impl Scene {
    /// How a GPU is.
    pub(super) fn of(label: &'static str, layout: &Layout) -> Self {
        Self::new(label, layout, |_| Fate::There, |_, _| Fate::There)
    }

    /// How a GPU is now, with what a plan leaves of it.
    pub(super) fn before(layout: &Layout, plan: &MigPlan) -> Self {
        let gone = gone(plan);
        let instance = |id: u32| {
            if gone.contains(&id) {
                Fate::Destroyed
            } else {
                Fate::Kept
            }
        };
        let part = |gpu: u32, id: u32| {
            if plan.destroyed.contains(&(gpu, id)) {
                Fate::Destroyed
            } else {
                Fate::Kept
            }
        };
        Self::new("now", layout, instance, part)
    }

    /// How a plan leaves a GPU.
    pub(super) fn after(layout: &Layout, plan: &MigPlan) -> Self {
        let gone = gone(plan);
        let there = |id: u32| layout.instances.iter().any(|instance| instance.id == id);
        let instance = |id: u32| {
            if there(id) && !gone.contains(&id) {
                Fate::Kept
            } else {
                Fate::New
            }
        };
        let part = |gpu: u32, id: u32| {
            let stays = plan.kept.contains(&(gpu, id));
            if stays && instance(gpu) == Fate::Kept {
                Fate::Kept
            } else {
                Fate::New
            }
        };
        Self::new("then", &plan.after, instance, part)
    }

    fn new(
        label: &'static str,
        layout: &Layout,
        instance: impl Fn(u32) -> Fate,
        part: impl Fn(u32, u32) -> Fate,
    ) -> Self {
        let block = |found: &GpuInstance| {
            let fate = instance(found.id);
            let known = |fate, id| (fate != Fate::New).then_some(id);
            let parts = found.compute.iter().map(|inside| {
                let fate = part(found.id, inside.id);
                Part {
                    place: inside.placement,
                    fate,
                    id: known(fate, inside.id),
                }
            });
            Block {
                place: found.placement,
                fate,
                name: found.profile.to_string(),
                id: known(fate, found.id),
                slices: found.profile.gpu_slices,
                parts: parts.collect(),
            }
        };
        let mut blocks: Vec<Block> = layout.instances.iter().map(block).collect();
        blocks.sort_by_key(|block| block.place);
        Self {
            label,
            on: layout.mode.current,
            soon_on: layout.mode.pending && !layout.mode.current,
            blocks,
        }
    }
}

/// The GPU instances that a plan takes away.
fn gone(plan: &MigPlan) -> Vec<u32> {
    let steps = plan.steps.iter().filter_map(|step| match step {
        MigStep::DestroyGpuInstance { id } => Some(*id),
        _ => None,
    });
    steps.collect()
}

/// Draws these states of one GPU below each other, on a terminal of so many columns.
pub(super) fn lines(table: Option<&MigTable>, scenes: &[Scene], columns: usize) -> Vec<Line> {
    let blocks = scenes.iter().flat_map(|scene| &scene.blocks);
    let places = blocks.map(|block| block.place);
    let offered = table.iter().flat_map(|table| &table.profiles);
    let places = places.chain(offered.flat_map(|info| info.placements.iter().copied()));
    let slices = places.map(|place| place.start.saturating_add(place.size));
    let slices = slices.max().unwrap_or(USUAL_SLICES).max(1);
    let canvas = Canvas {
        slices,
        cell: (columns.min(WIDEST).saturating_sub(MARGIN) / slices as usize).max(NARROWEST),
        table,
    };
    let mut lines = vec![canvas.ruler()];
    for scene in scenes {
        lines.extend(canvas.scene(scene));
    }
    lines
}

/// What the borders and marks of a plan's drawing mean, as far as they are in it.
pub(super) fn legend(scenes: &[Scene]) -> Line {
    let all = || {
        let blocks = scenes.iter().flat_map(|scene| &scene.blocks);
        blocks.flat_map(|block| {
            std::iter::once(block.fate).chain(block.parts.iter().map(|part| part.fate))
        })
    };
    let known = [
        (Fate::Kept, "━ = stays"),
        (Fate::Destroyed, "─ ✖ goes"),
        (Fate::New, "═ + new"),
    ];
    let used = known
        .iter()
        .filter(|(fate, _)| all().any(|used| used == *fate))
        .map(|(_, words)| *words);
    let words: Vec<&str> = used.collect();
    Line::of(DIM, " ".repeat(MARGIN)).and(DIM, words.join("   "))
}

struct Canvas<'a> {
    slices: u32,
    /// Columns of a slice.
    cell: usize,
    table: Option<&'a MigTable>,
}

impl Canvas<'_> {
    /// The numbers of the slices.
    fn ruler(&self) -> Line {
        let numbers = (0..self.slices).map(|slice| {
            let number = slice.to_string();
            format!("{number:^width$}", width = self.cell)
        });
        let numbers: String = numbers.collect();
        Line::of(PLAIN, " ".repeat(MARGIN)).and(DIM, numbers.trim_end())
    }

    fn scene(&self, scene: &Scene) -> Vec<Line> {
        let shows_parts = scene.blocks.iter().any(is_divided);
        let height = if shows_parts { 5 } else { 4 };
        let boxes = if scene.on {
            self.boxes(scene, height)
        } else {
            let mode = if scene.soon_on {
                " MIG off, on after a reset"
            } else {
                " MIG off"
            };
            let texts = [Line::of(BOLD, mode), Line::of(DIM, " one whole GPU")];
            vec![boxed(FREE, self.columns(self.slices), height, DIM, &texts)]
        };
        let mut lines: Vec<Line> = (0..height)
            .map(|row| {
                let label = if row == 1 { scene.label } else { "" };
                Line::of(BOLD, format!("  {label:width$}", width = MARGIN - 2))
            })
            .collect();
        for drawn in boxes {
            lines = lines
                .into_iter()
                .zip(drawn)
                .map(|(a, b)| a.join(b))
                .collect();
        }
        lines
    }

    /// The boxes of a partitioned GPU from the left to the right, free slices too.
    fn boxes(&self, scene: &Scene, height: usize) -> Vec<Vec<Line>> {
        let mut boxes = Vec::new();
        let mut next = 0;
        for block in &scene.blocks {
            while next < block.place.start {
                boxes.push(self.free(scene, next, height));
                next += 1;
            }
            boxes.push(self.block(block, height));
            next = next.max(block.place.start + block.place.size);
        }
        while next < self.slices {
            boxes.push(self.free(scene, next, height));
            next += 1;
        }
        boxes
    }

    fn columns(&self, slices: u32) -> usize {
        self.cell * slices as usize
    }

    fn free(&self, scene: &Scene, slice: u32, height: usize) -> Vec<Line> {
        let word = if self.is_usable(scene, slice) {
            "free"
        } else {
            "–"
        };
        let width = self.cell - 2;
        let text = Line::of(DIM, fitted(&format!("{word:^width$}"), width));
        boxed(FREE, self.cell, height, DIM, &[text])
    }

    /// Whether some GPU instance could still be made over this slice.
    fn is_usable(&self, scene: &Scene, slice: u32) -> bool {
        let Some(table) = self.table else {
            return true;
        };
        let one = Placement {
            start: slice,
            size: 1,
        };
        let mut places = table.profiles.iter().flat_map(|info| &info.placements);
        places.any(|place| {
            let mut blocks = scene.blocks.iter();
            place.overlaps(one) && !blocks.any(|block| block.place.overlaps(*place))
        })
    }

    fn block(&self, block: &Block, height: usize) -> Vec<Line> {
        let columns = self.columns(block.place.size);
        let width = columns - 2;
        let style = block.fate.style();
        let name = spaced(&block.name, width);
        let mut texts = vec![
            Line::of(BOLD.fg_color(style.get_fg_color()), name),
            Line::of(
                style,
                spaced(&told(block.fate, block.id, "#", width), width),
            ),
        ];
        if is_divided(block) {
            texts.push(parts(block, width));
        }
        boxed(block.fate.border(), columns, height, style, &texts)
    }
}

/// Whether its compute instances are worth showing: there is not one over all of it.
fn is_divided(block: &Block) -> bool {
    match block.parts.as_slice() {
        [one] => one.place.size != block.slices || one.fate != block.fate,
        _ => true,
    }
}

/// `= #1 stays`, or less of it.
fn told(fate: Fate, id: Option<u32>, sign: &str, width: usize) -> String {
    let id = id.map(|id| format!("{sign}{id}")).unwrap_or_default();
    let join = |words: &[&str]| {
        let words: Vec<&str> = words
            .iter()
            .copied()
            .filter(|word| !word.is_empty())
            .collect();
        words.join(" ")
    };
    let long = join(&[fate.mark(), &id, fate.word()]);
    if long.chars().count() <= width {
        long
    } else {
        join(&[fate.mark(), &id])
    }
}

/// The compute instances of a GPU instance in one line: `[= 0][+    ]`.
fn parts(block: &Block, width: usize) -> Line {
    if block.parts.is_empty() {
        return Line::of(DIM, spaced("empty", width));
    }
    let columns = |slice: u32| width * slice as usize / block.slices.max(1) as usize;
    let mut parts: Vec<&Part> = block.parts.iter().collect();
    parts.sort_by_key(|part| part.place);
    let mut line = Line::default();
    let mut next = 0;
    for part in parts {
        let start = part.place.start.max(next);
        let end = (part.place.start + part.place.size).min(block.slices);
        if start >= end {
            continue;
        }
        line = line.and(PLAIN, " ".repeat(columns(start) - columns(next)));
        let room = (columns(end) - columns(start)).saturating_sub(2);
        let name = format!("{}c", part.place.size);
        let told = told(part.fate, part.id, ".", room.saturating_sub(name.len() + 1));
        let text = fitted(&format!("{name} {told}"), room);
        line = line.and(part.fate.style(), format!("[{text}]"));
        next = end;
    }
    line
}

/// Text of exactly this width, with a space before it if there is room.
fn spaced(text: &str, width: usize) -> String {
    if text.chars().count() < width {
        fitted(&format!(" {text}"), width)
    } else {
        fitted(text, width)
    }
}

/// Text of exactly this width, cut with an ellipsis or filled with spaces.
fn fitted(text: &str, width: usize) -> String {
    let line = Line::from(text).clipped(width).text();
    format!("{line:width$}")
}

/// A box of so many columns and lines with these texts in it.
fn boxed(border: Border, columns: usize, height: usize, style: Style, texts: &[Line]) -> Vec<Line> {
    let [
        top_left,
        horizontal,
        top_right,
        vertical,
        bottom_left,
        bottom_right,
    ] = border.0;
    let width = columns - 2;
    let edge = |left: char, right: char| {
        let middle = horizontal.to_string().repeat(width);
        Line::of(style, format!("{left}{middle}{right}"))
    };
    let mut lines = vec![edge(top_left, top_right)];
    for row in 0..height - 2 {
        let text = texts.get(row).cloned().unwrap_or_default();
        let text = text.clipped(width);
        let gap = width - text.width();
        let line = Line::of(style, vertical.to_string())
            .join(text)
            .and(PLAIN, " ".repeat(gap))
            .and(style, vertical.to_string());
        lines.push(line);
    }
    lines.push(edge(bottom_left, bottom_right));
    lines
}

#[cfg(test)]
mod tests;
