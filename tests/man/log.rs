//! chopar-log(7) against the source: events, their levels and fields, and the JSON of the queue tools.

use super::*;

use chopar::engine::control::{ListedMessage, ListedRecipient, Stats};

/// The log output of one function of the source.
#[derive(Default)]
struct Function {
    file: String,
    name: String,
    /// The events that it names, with their level if that is beside them, and the fields of the same chain.
    events: Vec<(String, Option<String>, Words)>,
    /// Functions to which it passes the name of an event.
    through: BTreeMap<String, String>,
    /// All fields that it adds.
    fields: Words,
}

/// Files that format lines, and log nothing themselves.
const WRITERS: [&str; 2] = ["engine/log.rs", "shell/process/log.rs"];

/// Functions that get the name of an event as an argument, and add fields of their own.
const MAKERS: [&str; 2] = ["log_result", "line"];

/// The fields that calls of `with` and similar methods add in a text.
fn fields(text: &str) -> Words {
    let mut found = Words::new();
    for (at, call) in text.match_indices(".with") {
        let rest = &text[at + call.len()..];
        let rest = rest.strip_prefix("_some").unwrap_or(rest);
        let name = rest.strip_prefix('(').map(str::trim_start);
        if let Some(name) = name.and_then(|name| name.strip_prefix('"')) {
            found.insert(name.split('"').next().unwrap_or_default().to_owned());
        }
    }
    if text.contains(".about(") {
        found.extend(["to", "orig_to"].map(str::to_owned));
    }
    found
}

/// The call at the front of a text with its arguments, and the chain of calls that follows.
fn chain(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return &text[..at],
            ')' | ']' | '}' => depth -= 1,
            ';' | ',' if depth == 0 => return &text[..at],
            _ => {}
        }
    }
    text
}

/// The string literal at the front of a text.
fn literal(text: &str) -> Option<&str> {
    let (word, _) = text.trim_start().strip_prefix('"')?.split_once('"')?;
    Some(word)
}

fn function(file: &str, text: &str) -> Function {
    let end = text.find(['(', '<']).unwrap_or(0);
    let mut function = Function {
        file: file.to_owned(),
        name: text[..end].to_owned(),
        fields: fields(text),
        ..Function::default()
    };
    for start in ["Line::new(", "line(Level::", "log_result("] {
        for (at, _) in text.match_indices(start) {
            let arguments = &text[at + start.len()..];
            let (level, event) = match start {
                "log_result(" => (None, literal(arguments)),
                _ => match arguments.split_once(',') {
                    Some((level, rest)) => {
                        let level = level.trim_start_matches("Level::").to_lowercase();
                        let is_named =
                            ["error", "warning", "info", "debug"].contains(&level.as_str());
                        (is_named.then_some(level), literal(rest))
                    }
                    None => (None, None),
                },
            };
            let Some(event) = event else { continue };
            if start != "Line::new(" {
                let maker = start.split('(').next().unwrap_or_default();
                function.through.insert(event.to_owned(), maker.to_owned());
            }
            let added = fields(chain(&text[at..]));
            function.events.push((event.to_owned(), level, added));
        }
    }
    function
}

fn collect(folder: &Path, found: &mut Vec<Function>) {
    for entry in fs::read_dir(folder).expect("a folder of the source") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.expect("UTF-8");
        if path.is_dir() {
            if name != "tests" {
                collect(&path, found);
            }
        } else if name.ends_with(".rs")
            && name != "tests.rs"
            && !WRITERS.iter().any(|writer| path.ends_with(writer))
        {
            let text = fs::read_to_string(&path).expect("a source file");
            let code = text
                .split("\n#[cfg(test)]\nmod tests {")
                .next()
                .unwrap_or_default();
            let lines = code.lines().map(str::trim);
            let lines: Vec<&str> = lines.filter(|line| !line.starts_with("//")).collect();
            let code = lines.join(" ");
            let file = path.display().to_string();
            let functions = code.split(" fn ").map(|text| function(&file, text));
            found.extend(functions);
        }
    }
}

fn functions() -> Vec<Function> {
    let mut found = Vec::new();
    for folder in ["engine", "shell", "setup"] {
        collect(&root().join("src").join(folder), &mut found);
    }
    found
}

fn section<'a>(text: &'a str, title: &str, end: &str) -> &'a str {
    let (_, text) = text
        .split_once(&format!("\n{title}\n"))
        .unwrap_or_else(|| panic!("no {title}"));
    text.split(end).next().unwrap_or_default()
}

/// An event of the page: its levels and its fields.
struct Described {
    levels: Words,
    fields: Words,
}

fn described() -> BTreeMap<String, Described> {
    let text = page("chopar-log.7");
    let events = section(&text, ".Sh EVENTS", "\n.Sh ");
    let events = events.split("\n.It Li ").skip(1);
    events
        .map(|item| {
            let mut lines = item.lines();
            let event = lines.next().unwrap_or_default().to_owned();
            let levels = item
                .lines()
                .find_map(|line| line.strip_prefix("Level: "))
                .unwrap_or_else(|| panic!("{event} has no level"));
            let levels = levels.trim_end_matches('.').split(", ");
            let fields = item
                .split_once("\n.br\n.Va ")
                .map_or("", |(_, rest)| rest.lines().next().unwrap_or_default());
            let fields = fields.split(" , ").filter(|field| !field.is_empty());
            let described = Described {
                levels: words(levels),
                fields: words(fields),
            };
            (event, described)
        })
        .collect()
}

#[test]
fn every_event_is_in_the_manual_and_the_reverse() {
    let functions = functions();
    let events = functions.iter().flat_map(|function| &function.events);
    let there = events.map(|(event, _, _)| event.clone()).collect();
    assert_same("events", &there, &described().into_keys().collect());
}

#[test]
fn the_level_of_every_event_is_in_the_manual() {
    let described = described();
    for function in functions() {
        for (event, level, _) in &function.events {
            if let Some(level) = level {
                let levels = &described[event].levels;
                assert!(levels.contains(level), "{event} is logged as {level}");
            }
        }
    }
}

#[test]
fn every_field_of_an_event_is_in_the_manual_and_the_reverse() {
    let (functions, described) = (functions(), described());
    // Functions that add fields to a line that another function has begun.
    let is_loose = |function: &&Function| function.events.is_empty();
    let loose: Words = functions
        .iter()
        .filter(is_loose)
        .filter(|function| !MAKERS.contains(&function.name.as_str()))
        .flat_map(|function| function.fields.clone())
        .collect();
    let mut may_have: BTreeMap<&str, Words> = BTreeMap::new();
    for function in &functions {
        for (event, _, added) in &function.events {
            let Some(page) = described.get(event) else {
                panic!("{event} of {} is not in chopar-log(7)", function.file);
            };
            let unsaid: Vec<_> = added.difference(&page.fields).collect();
            assert!(
                unsaid.is_empty(),
                "{event} of {}: {unsaid:?}",
                function.file
            );
            let has = may_have.entry(event).or_default();
            has.extend(function.fields.iter().cloned());
            if let Some(maker) = function.through.get(event) {
                let makers = functions
                    .iter()
                    .filter(|made| made.name == *maker && made.file == function.file);
                has.extend(makers.flat_map(|maker| maker.fields.clone()));
            }
        }
        if !function.events.is_empty() {
            let events = function.events.iter();
            let said: Words = events
                .flat_map(|(event, _, _)| described[event].fields.clone())
                .collect();
            let unsaid: Vec<_> = function.fields.difference(&said).collect();
            assert!(
                unsaid.is_empty(),
                "{} in {}: {unsaid:?}",
                function.name,
                function.file
            );
        }
    }
    for (event, described) in &described {
        let invented: Vec<_> = described
            .fields
            .iter()
            .filter(|field| !may_have[event.as_str()].contains(*field) && !loose.contains(*field))
            .collect();
        assert!(invented.is_empty(), "{event} has no {invented:?}");
    }
}

#[test]
fn every_field_has_a_sentence_and_the_reverse() {
    let text = page("chopar-log.7");
    let fields = section(&text, ".Sh FIELDS", "\n.Sh ");
    let items = fields
        .lines()
        .filter_map(|line| line.strip_prefix(".It Va "));
    let used: Words = described()
        .into_values()
        .flat_map(|described| described.fields)
        .collect();
    assert_same("fields", &used, &words(items));
    let is_item = |line: &str| line.starts_with(".It ");
    let lines: Vec<&str> = fields.lines().collect();
    for pair in lines.windows(2) {
        assert!(!(is_item(pair[0]) && is_item(pair[1])), "{}", pair[0]);
    }
}

/// The members of a serialized object.
fn members(value: &impl serde::Serialize) -> Words {
    let value = serde_json::to_value(value).expect("JSON");
    value
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect()
}

fn documented(title: &str) -> Words {
    let text = page("chopar-log.7");
    let text = section(&text, title, "\n.S");
    words(text.lines().filter_map(|line| line.strip_prefix(".It Li ")))
}

#[test]
fn every_member_of_the_json_is_in_the_manual_and_the_reverse() {
    let recipient = ListedRecipient {
        to: String::new(),
        state: String::new(),
        attempts: 0,
        why: String::new(),
        next: Some(1),
    };
    assert_same(
        "members of a recipient",
        &members(&recipient),
        &documented(".Ss A recipient"),
    );
    let message = ListedMessage {
        id: String::new(),
        arrived: 0,
        size: 0,
        from: String::new(),
        origin: String::new(),
        held: false,
        recipients: vec![recipient],
        unreadable: Some(String::new()),
    };
    let mut there = members(&message);
    there.insert("header".to_owned()); // added by `queue show`
    assert_same("members of a message", &there, &documented(".Ss A message"));
    assert_same(
        "statistics",
        &members(&Stats::default()),
        &documented(".Ss Statistics"),
    );
}

/// Counters without a figure of their own, and the figure that replaces them.
const NO_FIGURE: [(&str, &str); 1] = [("dmarc_failed", "chopar_dmarc_total")];

#[test]
fn every_counter_is_counted_and_has_a_figure() {
    let source = fs::read_to_string(root().join("src/engine/counters.rs")).expect("the counters");
    let (_, counters) = source
        .split_once("pub struct Counters {")
        .expect("the counters");
    let (counters, _) = counters.split_once("\n}").expect("their end");
    let names = counters.lines().filter_map(|line| {
        let field = line.trim().strip_prefix("pub ")?;
        field.split_once(':').map(|(name, _)| name)
    });
    let mut code = String::new();
    gather(&root().join("src/engine"), &mut code);
    let figures = fs::read_to_string(root().join("src/engine/status/figures.rs"));
    let figures = figures.expect("the figures");
    for name in names {
        // A counter that is passed on to be incremented, or that is set. Its name in a list of figures does not count.
        let ways = [
            format!("counters.{name}, "),
            format!("counters.{name} = "),
            format!("self.{name} = "),
        ];
        let code = code.replace(&format!("{name}: counters.{name}, "), "");
        let is_counted = ways.iter().any(|way| code.contains(way));
        assert!(is_counted, "nothing counts {name}");
        let instead = NO_FIGURE.iter().find(|(counter, _)| *counter == name);
        let figure = match instead {
            Some((_, other)) => format!("\"{other}\""),
            None => format!("total.{name}"),
        };
        assert!(figures.contains(&figure), "{name} has no figure");
    }
}

/// The code of the engine that counts, without line ends.
fn gather(folder: &Path, code: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder of the source") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            gather(&path, code);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            code.extend(text.split_whitespace().flat_map(|word| [word, " "]));
        }
    }
}
