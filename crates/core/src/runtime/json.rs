//! JSON of which every value knows its bytes, for edits that leave all others as they are.

use core::ops::Range;

/// The deepest nesting that is read.
const DEPTH: usize = 64;

/// A value and its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Json {
    /// The bytes of the value.
    pub(super) span: Range<usize>,
    /// What it is.
    pub(super) value: Value,
}

/// What a value is, as far as settings need it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Truth(bool),
    /// Of numbers, only that they are one.
    Number,
    Text(String),
    List(Vec<Json>),
    Object(Vec<Member>),
}

/// A name and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Member {
    pub(super) name: String,
    /// The bytes of the name with its quotes.
    pub(super) name_span: Range<usize>,
    pub(super) value: Json,
}

impl Json {
    /// Reads a document.
    ///
    /// # Errors
    /// The byte at which it is wrong, and what was expected there.
    pub(super) fn parse(text: &str) -> Result<Self, (usize, &'static str)> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.space();
        if reader.at < text.len() {
            return Err((reader.at, "expected the end"));
        }
        Ok(value)
    }

    /// The members of an object; none of anything else.
    pub(super) fn members(&self) -> &[Member] {
        match &self.value {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    /// The last member of this name, which is the one that counts.
    pub(super) fn member(&self, name: &str) -> Option<&Member> {
        self.members().iter().rfind(|member| member.name == name)
    }

    /// The value at the end of this path.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |value, name| {
            value.member(name).map(|member| &member.value)
        })
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn truth(&self) -> Option<bool> {
        match self.value {
            Value::Truth(truth) => Some(truth),
            _ => None,
        }
    }

    /// The strings of a list.
    pub(super) fn texts(&self) -> Option<Vec<String>> {
        match &self.value {
            Value::List(values) => Some(
                values
                    .iter()
                    .filter_map(|value| value.text().map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

type Found<T> = Result<T, (usize, &'static str)>;

impl Reader<'_> {
    fn space(&mut self) {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        self.at += rest.len() - trimmed.len();
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, word: &str) -> bool {
        let is_there = self.text[self.at..].starts_with(word);
        if is_there {
            self.at += word.len();
        }
        is_there
    }

    fn value(&mut self, depth: usize) -> Found<Json> {
        if depth > DEPTH {
            return Err((self.at, "nested too deeply"));
        }
        self.space();
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            _ if self.take("true") => Value::Truth(true),
            _ if self.take("false") => Value::Truth(false),
            _ if self.take("null") => Value::Null,
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => return Err((start, "expected a value")),
        };
        Ok(Json {
            span: start..self.at,
            value,
        })
    }

    fn number(&mut self) -> Value {
        let is_of_number = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        while self.peek().is_some_and(is_of_number) {
            self.at += 1;
        }
        Value::Number
    }

    fn object(&mut self, depth: usize) -> Found<Value> {
        self.at += 1;
        let mut members = Vec::new();
        self.space();
        if self.take("}") {
            return Ok(Value::Object(members));
        }
        loop {
            self.space();
            let start = self.at;
            let name = self.string()?;
            let name_span = start..self.at;
            self.space();
            if !self.take(":") {
                return Err((self.at, "expected a colon"));
            }
            members.push(Member {
                name,
                name_span,
                value: self.value(depth + 1)?,
            });
            self.space();
            if self.take("}") {
                return Ok(Value::Object(members));
            }
            if !self.take(",") {
                return Err((self.at, "expected a comma or a closing brace"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Found<Value> {
        self.at += 1;
        let mut values = Vec::new();
        self.space();
        if self.take("]") {
            return Ok(Value::List(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            self.space();
            if self.take("]") {
                return Ok(Value::List(values));
            }
            if !self.take(",") {
                return Err((self.at, "expected a comma or a closing bracket"));
            }
        }
    }

    fn string(&mut self) -> Found<String> {
        let start = self.at;
        if !self.take("\"") {
            return Err((start, "expected a string"));
        }
        let mut text = String::new();
        loop {
            let Some(letter) = self.text[self.at..].chars().next() else {
                return Err((start, "the string does not end"));
            };
            self.at += letter.len_utf8();
            match letter {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                '\0'..='\u{1f}' => return Err((self.at - 1, "control character in a string")),
                letter => text.push(letter),
            }
        }
    }

    fn escape(&mut self) -> Found<char> {
        let letter = self.peek().ok_or((self.at, "the string does not end"))?;
        if !letter.is_ascii() {
            return Err((self.at, "no such escape"));
        }
        self.at += 1;
        Ok(match letter {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => self.unicode()?,
            b'"' | b'\\' | b'/' => char::from(letter),
            _ => return Err((self.at - 1, "no such escape")),
        })
    }

    fn unicode(&mut self) -> Found<char> {
        let unit = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&unit) {
            return Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if !self.take("\\u") {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let low = self.four_digits()?;
        let joined = 0x10000 + ((unit - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff);
        Ok(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Found<u32> {
        let digits = self.text.get(self.at..self.at + 4);
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or((self.at, "expected four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_know_their_bytes() {
        let text = "{ \"a\\u00e9\" : [1, -2.5e3, true] ,\"b\":{\"c\":\"x\\\"y\"}}";
        let json = Json::parse(text).unwrap();
        let member = json.member("aé").unwrap();
        assert_eq!(&text[member.name_span.clone()], "\"a\\u00e9\"");
        assert_eq!(&text[member.value.span.clone()], "[1, -2.5e3, true]");
        assert_eq!(json.get(&["b", "c"]).unwrap().text(), Some("x\"y"));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for (text, at) in [
            ("", 0),
            ("{,}", 1),
            ("{\"a\" 1}", 5),
            ("[1", 2),
            ("{} x", 3),
            ("\"a", 0),
        ] {
            assert_eq!(Json::parse(text).unwrap_err().0, at, "{text}");
        }
        assert!(Json::parse(&"[".repeat(1000)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[\\[\\]{}\",:a1é\\\\u \n-]{0,40}") {
            let read = Json::parse(&text).is_ok();
            // What is accepted by a reader that is known to be right is accepted.
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                prop_assert!(read, "{text}");
            }
        }
    }
}
