//! `docs/troubleshooting.md` quotes what the programs say, and all of it. A quotation stands in backticks; `…` stands for what
//! changes. Texts are taken from the sources: messages of errors, contexts, log lines of warnings and errors.

use std::{collections::BTreeSet, fs, path::Path};

use crate::render::{read, repository};

const PLACE: &str = "docs/troubleshooting.md";

/// Not for people who run Waggle, each with the reason.
const NOT_FOR_USERS: [(&str, &str); 12] = [
    ("…", "nothing but another error's text"),
    ("…: …", "a reason and its detail, each documented by itself"),
    ("Unauthorized", "the body of a 401"),
    ("the path is not canonical", "the body of a 404"),
    ("too old resource version: … (…)", "the body of a 410"),
    ("… watches are open", "the body of a 429"),
    ("the protobuf form of OpenAPI has no field for …", "a test keeps it from happening"),
    ("it has a key …, which is none of Waggle's", "part of another text"),
    ("it has … without …", "part of another text"),
    ("… cannot be read: …", "part of another text"),
    ("cannot read …: …", "the general form; the special ones are documented"),
    ("it is cut short", "part of another text"),
];

/// What an occurrence of a text in a source begins with.
const BEGINNINGS: [&str; 6] =
    ["#[error(", ".context(", ".with_context(|| format!(", "tracing::warn!(", "tracing::error!(", "bail!("];

/// All texts, each with the first file that has it.
fn said(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            said(&path, into);
            continue;
        }
        // Tests, and what only tests have.
        if ["tests.rs", "simulation.rs"].contains(&path.file_name().unwrap().to_str().unwrap()) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        for beginning in BEGINNINGS {
            for call in text.split(beginning).skip(1) {
                into.extend(message(call).map(|message| plain(&message)));
            }
        }
    }
}

/// The string that is the message of a call: the last one of a log line, else the first one.
fn message(call: &str) -> Option<String> {
    if call.starts_with("transparent") {
        return None;
    }
    let end =
        if call.starts_with(|c: char| c == '"' || c.is_whitespace()) { call.len() } else { call.find(");")? };
    let call = call.get(..end.min(600).min(call.len()))?;
    let mut rest = call;
    // Fields of a log line come before its message; a quoted value of one is passed over.
    loop {
        let (before, after) = rest.split_once('"')?;
        let literal = literal(after);
        let tail = &after[literal.len() + 1..];
        if !before.trim_end().ends_with('=') {
            return Some(literal.to_owned());
        }
        rest = tail;
    }
}

/// Up to the quotation mark that ends a string.
fn literal(text: &str) -> &str {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return &text[..at],
            _ => {}
        }
    }
    text
}

/// As it is quoted: in one line, without escapes, `…` for what changes.
fn plain(literal: &str) -> String {
    let mut out = String::new();
    let mut rest = literal;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("\\\n") {
            rest = after.trim_start();
        } else if let Some(after) = rest.strip_prefix("\\\"") {
            out.push('"');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            out.push('…');
            rest = after.split_once('}').map_or("", |(_, after)| after);
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// What the page quotes, in backticks.
fn quoted(page: &str) -> BTreeSet<String> {
    page.lines().flat_map(|line| line.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn every_text_is_explained_and_no_other() {
    let mut all = BTreeSet::new();
    for program in ["agent/src", "aggregator/src"] {
        said(&repository(program), &mut all);
    }
    assert!(all.len() > 80, "only {} texts found: {all:?}", all.len());
    let page = read(PLACE);
    let quoted = quoted(&page);
    let excepted = |text: &str| NOT_FOR_USERS.iter().any(|(other, _)| *other == text);
    let missing: Vec<&String> =
        all.iter().filter(|text| !quoted.contains(*text) && !excepted(text)).collect();
    assert!(missing.is_empty(), "{PLACE} does not explain what the programs say: {missing:#?}");
    for (text, why) in NOT_FOR_USERS {
        assert!(all.contains(text), "nothing says {text:?} ({why})");
    }
    let rows = rows(&page);
    for text in &rows {
        assert!(all.contains(*text), "no program says {text:?}");
    }
    assert!(rows.len() > 70, "only {} rows in {PLACE}", rows.len());
}

/// The first cells of the tables of what the programs say.
fn rows(page: &str) -> Vec<&str> {
    let (mut rows, mut ours) = (Vec::new(), false);
    for line in page.lines() {
        ours |= line.starts_with("| the aggregator says |") || line.starts_with("| the agent says |");
        ours &= line.starts_with('|');
        let cell = line.strip_prefix("| `").and_then(|rest| rest.split_once("` |"));
        rows.extend(cell.filter(|_| ours).map(|(text, _)| text));
    }
    rows
}

#[test]
fn texts_are_found_in_calls() {
    let of = |call: &str| message(call).map(|text| plain(&text));
    assert_eq!(of("\"cannot {verb} {name}: {0:?}\")]"), Some("cannot … …: …".to_owned()));
    assert_eq!(of("\n  \"one \\\n   two \\\"x\\\"\"\n)]"), Some("one two \"x\"".to_owned()));
    assert_eq!(of("reason = \"no\", %error, \"not yet\");"), Some("not yet".to_owned()));
    assert_eq!(of("%error);"), None);
    assert_eq!(of("transparent)]\n struct X;"), None);
}
