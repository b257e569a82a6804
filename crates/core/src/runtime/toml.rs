//! TOML of which every value knows its line.

use toml_edit::{Document, Item, TableLike};

use super::report::{Place, SourceFile};

/// A file of TOML.
pub(super) struct TomlFile<'a> {
    file: &'a SourceFile,
    document: Document<&'a str>,
}

/// A value and where it is.
#[derive(Debug, Clone)]
pub(super) struct Located<'a> {
    /// The value.
    pub(super) item: &'a Item,
    /// The line of its key, from 1.
    pub(super) line: usize,
    /// The bytes of the value, where it is written in one piece.
    pub(super) span: Option<core::ops::Range<usize>>,
}

impl<'a> TomlFile<'a> {
    /// Reads a file.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub(super) fn parse(file: &'a SourceFile) -> Result<Self, (Place, String)> {
        let document = Document::parse(file.text.as_str()).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let place = Place {
                file: file.path.clone(),
                line: line_of(&file.text, at),
            };
            (place, error.message().to_owned())
        })?;
        Ok(Self { file, document })
    }

    /// The value at the end of this path of keys.
    pub(super) fn get(&self, path: &[&str]) -> Option<Located<'_>> {
        let mut table: &dyn TableLike = self.document.as_table();
        let (last, parents) = path.split_last()?;
        for key in parents {
            table = table.get(key)?.as_table_like()?;
        }
        let (key, item) = table.get_key_value(last)?;
        // A table that only its sub-tables name has no line of its own.
        let at = key.span().or_else(|| item.span());
        Some(Located {
            item,
            line: line_of(&self.file.text, at.map_or(0, |span| span.start)),
            span: item.span(),
        })
    }

    /// The place of a value.
    pub(super) fn place(&self, located: &Located<'_>) -> Place {
        Place {
            file: self.file.path.clone(),
            line: located.line,
        }
    }

    /// The names in the table at the end of this path.
    pub(super) fn keys(&self, path: &[&str]) -> Vec<String> {
        let located = self.get(path);
        let table = located.and_then(|located| located.item.as_table_like());
        let names = table.map(|table| table.iter().map(|(name, _)| name.to_owned()).collect());
        names.unwrap_or_default()
    }

    /// A string and its place.
    pub(super) fn text(&self, path: &[&str]) -> Option<(String, Place)> {
        let located = self.get(path)?;
        let text = located.item.as_str()?.to_owned();
        Some((text, self.place(&located)))
    }

    /// A truth value and its place.
    pub(super) fn truth(&self, path: &[&str]) -> Option<(bool, Place)> {
        let located = self.get(path)?;
        let truth = located.item.as_bool()?;
        Some((truth, self.place(&located)))
    }

    /// A list of strings and its place.
    pub(super) fn list(&self, path: &[&str]) -> Option<(Vec<String>, Place)> {
        let located = self.get(path)?;
        let array = located.item.as_array()?;
        let texts = array.iter().filter_map(|value| value.as_str());
        Some((texts.map(str::to_owned).collect(), self.place(&located)))
    }
}

/// The line of a byte, from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    1 + before.filter(|byte| **byte == b'\n').count()
}
