//! XML 1.0 (section 2), limited to what reports use: elements and text.
//!
//! Prefixes of names are dropped; attributes, comments and processing instructions are skipped. Only the five
//! predefined entities and numeric references are known. Not supported, and refused: document types, and thereby custom
//! entities; encodings other than UTF-8. Invalid bytes of UTF-8 are replaced. Invariant: as many end tags as start
//! tags, no more than [`REPORT_DEPTH_MAX`] elements open at a time, no more than [`REPORT_ELEMENTS_MAX`] in all, no
//! text longer than [`REPORT_ELEMENT_BYTES_MAX`].

use super::refusal::ReportRefusal;
use crate::limits::{REPORT_DEPTH_MAX, REPORT_ELEMENT_BYTES_MAX, REPORT_ELEMENTS_MAX};

/// The next token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Token<'a> {
    /// An element begins.
    Start(&'a str),
    /// The element ends that began last and is open, with the text that it holds itself.
    End(String),
}

/// Reads a document from its front to its end.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    rest: &'a str,
    open: Vec<Open<'a>>,
    elements: usize,
    /// An element that ends where it begins.
    is_empty: bool,
}

#[derive(Debug)]
struct Open<'a> {
    /// As it is written, with its prefix.
    name: &'a str,
    text: String,
}

impl<'a> Reader<'a> {
    /// Of this document.
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            open: Vec::new(),
            elements: 0,
            is_empty: false,
        }
    }

    /// The next token; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, ReportRefusal> {
        if std::mem::take(&mut self.is_empty) {
            return self.end().map(Some);
        }
        loop {
            let markup = self.rest.find('<').unwrap_or(self.rest.len());
            let (text, rest) = self.rest.split_at_checked(markup).unwrap_or_default();
            self.rest = rest;
            self.text(text)?;
            if rest.is_empty() {
                return match self.open.is_empty() && self.elements > 0 {
                    true => Ok(None),
                    false => Err(ReportRefusal::Xml),
                };
            }
            if let Some(behind) = rest.strip_prefix("<!--") {
                self.rest = behind_mark(behind, "-->")?;
            } else if let Some(behind) = rest.strip_prefix("<?") {
                self.rest = behind_mark(behind, "?>")?;
            } else if let Some(behind) = rest.strip_prefix("<![CDATA[") {
                self.rest = behind_mark(behind, "]]>")?;
                let len = behind
                    .len()
                    .saturating_sub(self.rest.len().saturating_add(3));
                self.append(behind.get(..len).unwrap_or_default())?;
            } else if rest.starts_with("<!") {
                return Err(ReportRefusal::Entity);
            } else if let Some(behind) = rest.strip_prefix("</") {
                let (name, after) = behind.split_once('>').ok_or(ReportRefusal::Xml)?;
                self.rest = after;
                let name = name.trim_end();
                return match self.open.last().is_some_and(|open| open.name == name) {
                    true => self.end().map(Some),
                    false => Err(ReportRefusal::Xml),
                };
            } else {
                return self.start().map(Some);
            }
        }
    }

    fn start(&mut self) -> Result<Token<'a>, ReportRefusal> {
        let tag = self.rest.get(1..).unwrap_or_default();
        let len = tag_len(tag).ok_or(ReportRefusal::Xml)?;
        let (tag, rest) = tag.split_at_checked(len).ok_or(ReportRefusal::Xml)?;
        self.rest = rest.get(1..).unwrap_or_default();
        let (tag, is_empty) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let name = tag.split(|c: char| c.is_ascii_whitespace()).next();
        let name = name
            .filter(|name| is_name(name))
            .ok_or(ReportRefusal::Xml)?;
        // One document has one root.
        if self.open.is_empty() && self.elements > 0 {
            return Err(ReportRefusal::Xml);
        }
        self.elements = self.elements.saturating_add(1);
        if self.elements > REPORT_ELEMENTS_MAX || self.open.len() >= REPORT_DEPTH_MAX {
            return Err(ReportRefusal::TooMany);
        }
        self.is_empty = is_empty;
        self.open.push(Open {
            name,
            text: String::new(),
        });
        Ok(Token::Start(local(name)))
    }

    fn end(&mut self) -> Result<Token<'a>, ReportRefusal> {
        let open = self.open.pop().ok_or(ReportRefusal::Xml)?;
        Ok(Token::End(open.text))
    }

    /// Takes text in, with its entities.
    fn text(&mut self, text: &str) -> Result<(), ReportRefusal> {
        let mut rest = text;
        while let Some((front, behind)) = rest.split_once('&') {
            self.append(front)?;
            let (name, after) = behind.split_once(';').ok_or(ReportRefusal::Xml)?;
            let c = entity(name)?;
            self.append(c.encode_utf8(&mut [0; 4]))?;
            rest = after;
        }
        self.append(rest)
    }

    fn append(&mut self, text: &str) -> Result<(), ReportRefusal> {
        let Some(open) = self.open.last_mut() else {
            // Around the root there is nothing but white space.
            return match text.trim().is_empty() {
                true => Ok(()),
                false => Err(ReportRefusal::Xml),
            };
        };
        if open.text.len().saturating_add(text.len()) > REPORT_ELEMENT_BYTES_MAX {
            return Err(ReportRefusal::TooMany);
        }
        open.text.push_str(text);
        Ok(())
    }
}

fn behind_mark<'a>(text: &'a str, mark: &str) -> Result<&'a str, ReportRefusal> {
    let (_, behind) = text.split_once(mark).ok_or(ReportRefusal::Xml)?;
    Ok(behind)
}

/// Bytes of a tag up to the bracket that ends it, which is not one in quotes.
fn tag_len(tag: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            (None, b'<') => return None,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    name.chars().all(is_part) && name.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn entity(name: &str) -> Result<char, ReportRefusal> {
    let number = match name {
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "amp" => return Ok('&'),
        "quot" => return Ok('"'),
        "apos" => return Ok('\''),
        _ => name.strip_prefix('#').ok_or(ReportRefusal::Entity)?,
    };
    let number = match number.strip_prefix('x') {
        Some(number) => u32::from_str_radix(number, 16),
        None => number.parse(),
    };
    number
        .ok()
        .and_then(char::from_u32)
        .ok_or(ReportRefusal::Xml)
}
