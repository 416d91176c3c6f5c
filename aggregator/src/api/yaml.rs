//! YAML made from JSON, as sigs.k8s.io/yaml makes it: keys sorted, lists not indented, every string quoted that a reader
//! of YAML 1.1 would take for something else. A list is laid out item by item and never held as a whole.

use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value};

use super::body::{BodyError, Frames, Transformed};

/// The keys of long lists, which stand last in their objects.
const LISTS: [&str; 2] = ["items", "rows"];

/// A document in one piece.
pub fn whole(json: &[u8]) -> Result<Bytes, BodyError> {
    write(&parse::<Value>(json)?).map(Bytes::from)
}

/// A document in frames; a frame of JSON becomes at most one of YAML.
pub fn frames(json: Frames) -> Transformed {
    let mut json = json.peekable();
    let mut document = Some(Document::default());
    Box::new(std::iter::from_fn(move || {
        let mut current = document.take()?;
        loop {
            let Some(frame) = json.next() else { return Some(current.finish()) };
            let made = current.frame(&frame);
            if json.peek().is_none() {
                // The end goes with the last items: a short list is one frame, and its length is known.
                return Some(made.and_then(|items| Ok([items, current.finish()?].concat().into())));
            }
            // A frame in which no item ends makes nothing yet.
            if !made.as_ref().is_ok_and(Bytes::is_empty) {
                document = made.is_ok().then_some(current);
                return Some(made);
            }
        }
    }))
}

/// A document of which some frames were read.
#[derive(Debug, Default)]
struct Document {
    /// What is not laid out yet: everything before the list, or the begin of an item.
    pending: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    list: Option<List>,
}

/// The long list that is being read.
#[derive(Debug)]
struct List {
    key: &'static str,
    /// What stood before it and sorts behind it.
    after: Map<String, Value>,
    empty: bool,
    ended: bool,
}

impl Document {
    fn frame(&mut self, json: &[u8]) -> Result<Bytes, BodyError> {
        let mut out = BytesMut::with_capacity(json.len());
        for byte in json {
            self.byte(&mut out, *byte)?;
        }
        Ok(out.freeze())
    }

    fn byte(&mut self, out: &mut BytesMut, byte: u8) -> Result<(), BodyError> {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            self.pending.push(byte);
            return Ok(());
        }
        match byte {
            b'"' => self.in_string = true,
            b'[' if self.depth == 1 && self.list.is_none() => {
                self.depth = 2;
                return self.open(out);
            }
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 1 && byte == b']' {
                    self.item(out)?;
                    if let Some(list) = &mut self.list {
                        list.ended = true;
                        return Ok(());
                    }
                }
            }
            b',' if self.depth == 2 && self.list.is_some() => return self.item(out),
            _ => {}
        }
        self.pending.push(byte);
        Ok(())
    }

    /// A list begins directly inside the document: if it is the long one, what sorts before it can be written.
    fn open(&mut self, out: &mut BytesMut) -> Result<(), BodyError> {
        let key = LISTS.into_iter().find_map(|key| {
            let before = self.pending.strip_suffix(format!("\"{key}\":").as_bytes())?;
            Some((key, before.strip_suffix(b",").unwrap_or(before)))
        });
        let Some((key, before)) = key else {
            self.pending.push(b'[');
            return Ok(());
        };
        let mut members: Map<String, Value> = parse(&[before, b"}"].concat())?;
        let (first, after) = members
            .iter_mut()
            .map(|(name, value)| (name.clone(), value.take()))
            .partition::<Map<_, _>, _>(|(name, _)| name.as_str() < key);
        members.clear();
        if !first.is_empty() {
            out.extend_from_slice(write(&Value::Object(first))?.as_bytes());
        }
        out.extend_from_slice(format!("{key}:").as_bytes());
        self.pending.clear();
        self.list = Some(List { key, after, empty: true, ended: false });
        Ok(())
    }

    /// An item of the long list ends.
    fn item(&mut self, out: &mut BytesMut) -> Result<(), BodyError> {
        let Some(list) = self.list.as_mut().filter(|list| !list.ended) else { return Ok(()) };
        if !self.pending.is_empty() {
            if std::mem::take(&mut list.empty) {
                out.extend_from_slice(b"\n");
            }
            out.extend_from_slice(write(&[parse::<Value>(&self.pending)?])?.as_bytes());
            self.pending.clear();
        }
        Ok(())
    }

    fn finish(self) -> Result<Bytes, BodyError> {
        let Some(list) = self.list else { return whole(&self.pending) };
        if !list.ended {
            return Err(BodyError::Yaml(format!("the list {:?} has no end", list.key)));
        }
        let mut out = String::new();
        if list.empty {
            out.push_str(" []\n");
        }
        if !list.after.is_empty() {
            out.push_str(&write(&Value::Object(list.after))?);
        }
        Ok(out.into())
    }
}

fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, BodyError> {
    serde_json::from_slice(json).map_err(|error| BodyError::Yaml(error.to_string()))
}

fn write(value: &(impl serde::Serialize + ?Sized)) -> Result<String, BodyError> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(&value, options).map_err(|error| BodyError::Yaml(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_frames(json: &str, size: usize) -> String {
        let pieces: Vec<_> = json.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let made: Vec<u8> = frames(Box::new(pieces.into_iter())).flat_map(Result::unwrap).collect();
        String::from_utf8(made).unwrap()
    }

    #[test]
    fn objects_and_lists() {
        for (json, yaml) in [
            (
                r#"{"kind":"K","apiVersion":"v1","metadata":{},"a":[],"b":["x",{"c":1,"a":null}]}"#,
                "a: []\napiVersion: v1\nb:\n- x\n- a: null\n  c: 1\nkind: K\nmetadata: {}\n",
            ),
            (
                r#"{"kind":"KList","apiVersion":"v1","metadata":{},"items":[{"z":[1,2],"a":{"b":"}],\""}},{"a":true}]}"#,
                "apiVersion: v1\nitems:\n- a:\n    b: \"}],\\\"\"\n  z:\n  - 1\n  - 2\n- a: true\nkind: KList\nmetadata: {}\n",
            ),
            (
                r#"{"kind":"KList","apiVersion":"v1","metadata":{},"items":[]}"#,
                "apiVersion: v1\nitems: []\nkind: KList\nmetadata: {}\n",
            ),
            (
                r#"{"kind":"Table","metadata":{},"columnDefinitions":[{"name":"Name"}],"rows":[{"cells":["a"],"object":null}]}"#,
                "columnDefinitions:\n- name: Name\nkind: Table\nmetadata: {}\nrows:\n- cells:\n  - a\n  object: null\n",
            ),
            (
                r#"{"kind":"Table","columnDefinitions":null,"rows":null}"#,
                "columnDefinitions: null\nkind: Table\nrows: null\n",
            ),
        ] {
            for size in [1, 7, 1000] {
                assert_eq!(in_frames(&format!("{json}\n"), size), yaml, "{size}");
            }
        }
    }

    #[test]
    fn a_short_list_is_one_frame() {
        let json = Bytes::from_static(b"{\"kind\":\"KList\",\"items\":[{\"a\":1}]}\n");
        let made: Vec<_> = frames(Box::new(std::iter::once(json))).map(Result::unwrap).collect();
        assert_eq!(made, ["items:\n- a: 1\nkind: KList\n"]);
    }

    #[test]
    fn strings_stay_strings() {
        for text in [
            "1",
            "1e3",
            "0x1f",
            "0777",
            "1_000",
            "1.0",
            "true",
            "yes",
            "No",
            "on",
            "y",
            "n",
            "null",
            "~",
            "",
            " a",
            "a ",
            "2026-01-01",
            "2026-05-04T10:00:07Z",
            "12:30:45",
            ".inf",
            "<<",
            "=",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#a",
            "{a}",
            "[a",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "a\nb",
            "a\tb",
            "\u{85}",
            "\u{feff}",
            "\u{7f}",
            "'",
            "\"",
            "---",
        ] {
            for yaml in [
                whole(&serde_json::to_vec(&serde_json::json!({"k": text})).unwrap()).unwrap(),
                whole(&serde_json::to_vec(&serde_json::json!({text: 1})).unwrap()).unwrap(),
            ] {
                let yaml = std::str::from_utf8(&yaml).unwrap();
                let quoted = yaml.contains(['\'', '"']);
                assert!(quoted, "{text:?} in {yaml}");
                assert_eq!(yaml.lines().count(), 1, "{yaml}");
            }
        }
        for text in [
            "web",
            "metrics.k8s.io/v1",
            "14.998s",
            "1234624492n",
            "3145732Ki",
            "app.kubernetes.io/name",
            "a-b_c",
        ] {
            let yaml = whole(&serde_json::to_vec(&serde_json::json!({"k": text})).unwrap()).unwrap();
            assert_eq!(yaml, format!("k: {text}\n"));
        }
    }

    #[test]
    fn a_list_that_breaks_off_is_an_error() {
        let pieces = [Bytes::from_static(b"{\"items\":[{},"), Bytes::from_static(b"{}")];
        let mut made = frames(Box::new(pieces.into_iter()));
        assert!(made.next().unwrap().is_ok());
        assert!(made.next().unwrap().is_err());
        assert!(made.next().is_none());
    }
}
