//! The text form of protocol buffers, limited to what chasquid's files use.
//!
//! ```text
//! fields = *( NAME ( ":" value / [ ":" ] "{" fields "}" ) [ "," / ";" ] )
//! value  = *string / word / "[" value *( "," value ) "]"
//! ```
//!
//! Comments go from `#` to the end of the line. Parsing ends at the first line that does not have this form.

use crate::limits::PROTOTEXT_DEPTH_MAX;

/// A field with its value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProtoField {
    pub name: String,
    /// Its line, from 1.
    pub line: usize,
    pub value: ProtoValue,
}

/// The value of a field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ProtoValue {
    /// A string, or words and numbers as they are written.
    Text(String),
    /// Fields in braces.
    Fields(Vec<ProtoField>),
}

/// A line that is not understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unreadable {
    /// The line, from 1.
    pub line: usize,
}

/// Reads the fields, up to the first error. A list yields a field for each of its values.
pub fn parse(text: &str) -> (Vec<ProtoField>, Option<Unreadable>) {
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
    };
    let mut fields = Vec::new();
    let result = reader.fields(&mut fields, 0);
    let unreadable = match result {
        Some(()) if reader.rest().is_empty() => None,
        _ => Some(Unreadable { line: reader.line }),
    };
    (fields, unreadable)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip(&mut self, bytes: usize) {
        let end = self.at.saturating_add(bytes);
        let skipped = self.text.get(self.at..end).unwrap_or_default();
        self.line = self.line.saturating_add(skipped.matches('\n').count());
        self.at = end;
    }

    fn blanks(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.skip(rest.len().saturating_sub(trimmed.len()));
            if !trimmed.starts_with('#') {
                return;
            }
            self.skip(trimmed.find('\n').unwrap_or(trimmed.len()));
        }
    }

    fn take(&mut self, sign: char) -> bool {
        self.blanks();
        let is_there = self.rest().starts_with(sign);
        if is_there {
            self.skip(sign.len_utf8());
        }
        is_there
    }

    fn word(&mut self) -> Option<String> {
        self.blanks();
        let rest = self.rest();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+');
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let word = rest.get(..end).filter(|word| !word.is_empty())?;
        self.skip(end);
        Some(word.to_owned())
    }

    /// Up to the end, or to a brace that closes.
    fn fields(&mut self, fields: &mut Vec<ProtoField>, depth: usize) -> Option<()> {
        if depth > PROTOTEXT_DEPTH_MAX {
            return None;
        }
        loop {
            self.blanks();
            if self.rest().is_empty() || self.rest().starts_with(['}', '>']) {
                return Some(());
            }
            let line = self.line;
            let name = self.word()?;
            let has_colon = self.take(':');
            let mut push = |value| {
                fields.push(ProtoField {
                    name: name.clone(),
                    line,
                    value,
                });
            };
            if self.opens() {
                push(self.braces(depth)?);
            } else if !has_colon {
                return None;
            } else if self.take('[') {
                while !self.take(']') {
                    match self.opens() {
                        true => push(self.braces(depth)?),
                        false => push(ProtoValue::Text(self.scalar()?)),
                    }
                    self.take(',');
                }
            } else {
                push(ProtoValue::Text(self.scalar()?));
            }
            let _ = self.take(',') || self.take(';');
        }
    }

    fn opens(&mut self) -> bool {
        self.blanks();
        self.rest().starts_with(['{', '<'])
    }

    fn braces(&mut self, depth: usize) -> Option<ProtoValue> {
        let close = match self.take('{') {
            true => '}',
            false => self.take('<').then_some('>')?,
        };
        let mut inner = Vec::new();
        self.fields(&mut inner, depth.saturating_add(1))?;
        self.take(close).then_some(ProtoValue::Fields(inner))
    }

    fn scalar(&mut self) -> Option<String> {
        self.blanks();
        if !self.rest().starts_with(['"', '\'']) {
            return self.word();
        }
        let mut text = Vec::new();
        // Strings beside each other are one.
        while self.rest().starts_with(['"', '\'']) {
            self.string(&mut text)?;
            self.blanks();
        }
        String::from_utf8(text).ok()
    }

    fn string(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let quote = self.rest().chars().next()?;
        self.skip(quote.len_utf8());
        loop {
            let c = self.rest().chars().next().filter(|c| *c != '\n')?;
            self.skip(c.len_utf8());
            match c {
                c if c == quote => return Some(()),
                '\\' => self.escaped(out)?,
                c => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
            }
        }
    }

    fn escaped(&mut self, out: &mut Vec<u8>) -> Option<()> {
        let c = self.rest().chars().next()?;
        let digits = |radix: u32, most: usize, text: &str| {
            let digits = text.chars().take(most).take_while(|c| c.is_digit(radix));
            digits.count()
        };
        match c {
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            '\\' | '"' | '\'' | '?' => out.push(u8::try_from(c).ok()?),
            'x' => {
                let hex = self.rest().get(1..)?;
                let len = digits(16, 2, hex);
                out.push(u8::from_str_radix(hex.get(..len)?, 16).ok()?);
                self.skip(len);
            }
            '0'..='7' => {
                let octal = self.rest();
                let len = digits(8, 3, octal);
                out.push(u8::from_str_radix(octal.get(..len)?, 8).ok()?);
                self.skip(len.saturating_sub(1));
            }
            _ => return None,
        }
        self.skip(c.len_utf8());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(name: &str, line: usize, value: &str) -> ProtoField {
        ProtoField {
            name: name.to_owned(),
            line,
            value: ProtoValue::Text(value.to_owned()),
        }
    }

    #[test]
    fn reads_what_chasquid_writes() {
        let text = "# a comment\nhostname: \"mx.example.com\" # another\nmax_data_size_mb: 50\n\
                    users:  {\n  key:  \"ann\"\n  value:  {\n    scrypt:  { logN: 14 salt: \"\\x01\\001\\\"\" }\n  }\n}\n\
                    a: ['x' \"y\", z]; b < c: true >";
        let (fields, unreadable) = parse(text);
        assert_eq!(unreadable, None, "{fields:?}");
        assert_eq!(fields[0], field("hostname", 2, "mx.example.com"));
        assert_eq!(fields[1], field("max_data_size_mb", 3, "50"));
        let ProtoValue::Fields(user) = &fields[2].value else {
            panic!("{fields:?}");
        };
        assert_eq!(user[0], field("key", 5, "ann"));
        assert_eq!(fields[3..5], [field("a", 10, "xy"), field("a", 10, "z")]);
        assert_eq!(
            fields[5].value,
            ProtoValue::Fields(vec![field("c", 10, "true")])
        );
    }

    #[test]
    fn what_is_not_of_the_form_is_named_by_its_line() {
        for (text, line, before) in [
            ("a: 1\nb\nc: 2", 3, 1),
            ("a: 1\nb: \"x\n\"", 2, 1),
            ("a: 1\nb: \"\\q\"", 2, 1),
            ("a: {", 1, 0),
            ("a: 1 }", 1, 1),
            ("a: [1", 1, 1),
        ] {
            let (fields, unreadable) = parse(text);
            assert_eq!(unreadable, Some(Unreadable { line }), "{text:?}");
            assert_eq!(fields.len(), before, "{text:?}");
        }
        let deep = "a{".repeat(PROTOTEXT_DEPTH_MAX * 2);
        assert!(parse(&deep).1.is_some());
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[a-z:{}<>\\[\\]\"'\\\\#,; \nx0-9é]{0,80}") {
            let (fields, unreadable) = parse(&text);
            let lines = text.matches('\n').count() + 1;
            prop_assert!(fields.iter().all(|field| (1..=lines).contains(&field.line)));
            prop_assert!(unreadable.is_none_or(|unreadable| unreadable.line <= lines));
        }
    }
}
