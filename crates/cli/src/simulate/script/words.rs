//! The words of a sentence and where each stands, so that mistakes can be pointed at.

use std::fmt;

use clap::ValueEnum;
use clap::builder::PossibleValue;

/// A mistake in a sentence, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    sentence: String,
    message: String,
    /// First and one-past-last character of the wrong word.
    place: (usize, usize),
}

impl std::error::Error for Mistake {}

/// The message, the sentence, and a line that points at the place.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = self.place;
        let (summary, details) = self.message.split_once('\n').unwrap_or((&self.message, ""));
        let (gap, marks) = (" ".repeat(from), "^".repeat((to - from).max(1)));
        if !details.is_empty() {
            return write!(
                f,
                "{summary}\n{details}\n\n  {}\n  {gap}{marks}",
                self.sentence
            );
        }
        write!(f, "{summary}\n  {}\n  {gap}{marks}", self.sentence)
    }
}

/// One word and the position of its first character.
#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    at: usize,
}

/// A cursor over the words of a text. `:` and `;` are words of their own where they end one.
#[derive(Debug)]
pub(super) struct Words<'a> {
    text: &'a str,
    all: Vec<Word<'a>>,
    next: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            all: split(text),
            next: 0,
        }
    }

    /// The next word, whatever it is; `wanted` says what is missing at the end.
    pub(super) fn any(&mut self, wanted: &str) -> Result<&'a str, Mistake> {
        match self.peek() {
            Some(";") | None => Err(self.missing(wanted)),
            Some(word) => {
                self.next += 1;
                Ok(word)
            }
        }
    }

    /// The next word must be `wanted`.
    pub(super) fn expect(&mut self, wanted: &str) -> Result<(), Mistake> {
        if self.any(&format!("`{wanted}`"))? == wanted {
            return Ok(());
        }
        Err(self.last_is_wrong(&format!("should be `{wanted}`")))
    }

    /// Takes the next word if it is `wanted`.
    pub(super) fn take_if(&mut self, wanted: &str) -> bool {
        let found = self.peek() == Some(wanted);
        self.next += usize::from(found);
        found
    }

    /// The next word, read by `parse`; `wanted` says what it should have been.
    pub(super) fn parsed<T, E>(
        &mut self,
        wanted: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, Mistake> {
        let word = self.any(wanted)?;
        parse(word).map_err(|_| self.last_is_wrong(&format!("should be {wanted}")))
    }

    /// The next word if `parse` can read it.
    pub(super) fn parsed_if<T, E>(
        &mut self,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = parse(self.peek()?).ok()?;
        self.next += 1;
        Some(value)
    }

    /// The next word, which must be one of the names of `T`'s values.
    pub(super) fn one_of<T: ValueEnum>(&mut self) -> Result<T, Mistake> {
        let names: Vec<_> = T::value_variants()
            .iter()
            .filter_map(ValueEnum::to_possible_value)
            .collect();
        let list = names
            .iter()
            .map(PossibleValue::get_name)
            .collect::<Vec<_>>()
            .join(", ");
        self.parsed(&format!("one of: {list}"), |word| T::from_str(word, false))
    }

    /// Goes on to the next sentence, if there is one; what is left of this one is a mistake.
    pub(super) fn next_sentence(&mut self) -> Result<bool, Mistake> {
        if self.peek().is_some() && !self.take_if(";") {
            self.next += 1;
            return Err(self.last_is_wrong("is one word too many"));
        }
        Ok(self.peek().is_some())
    }

    /// The word just taken is a mistake; `message` continues after it.
    pub(super) fn last_is_wrong(&self, message: &str) -> Mistake {
        let word = self.all[self.next - 1];
        let from = self.column(word.at);
        Mistake {
            sentence: self.text.to_owned(),
            message: format!("`{}` {message}", word.text),
            place: (from, from + word.text.chars().count()),
        }
    }

    fn missing(&self, wanted: &str) -> Mistake {
        let at = self
            .all
            .get(self.next)
            .map_or(self.text.trim_end().len(), |word| word.at);
        let column = self.column(at);
        Mistake {
            sentence: self.text.to_owned(),
            message: format!("something is missing: {wanted}"),
            place: (column, column + 1),
        }
    }

    fn peek(&self) -> Option<&'a str> {
        self.all.get(self.next).map(|word| word.text)
    }

    /// The column of a byte position, in characters.
    fn column(&self, at: usize) -> usize {
        self.text[..at].chars().count()
    }
}

fn split(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut at = 0;
    for chunk in text.split_inclusive(char::is_whitespace) {
        let word = chunk.trim_end();
        let body = word.trim_end_matches([':', ';']);
        if !body.is_empty() {
            words.push(Word { text: body, at });
        }
        for (offset, mark) in word[body.len()..].char_indices() {
            let mark = &word[body.len() + offset..][..mark.len_utf8()];
            words.push(Word {
                text: mark,
                at: at + body.len() + offset,
            });
        }
        at += chunk.len();
    }
    words
}
