//! JSON for human eyes: what was encoded in one line, indented by two spaces as Go's `json.MarshalIndent` does it. It
//! changes white space only, frame by frame, and keeps nothing of what passed.

use bytes::{Bytes, BytesMut};

use super::body::Frames;

/// The frames, indented. The newline behind the last brace goes: indented answers of Kubernetes end without one.
pub fn frames(json: Frames) -> Frames {
    let mut indent = Indent::default();
    Box::new(json.map(move |frame| indent.frame(&frame)))
}

/// One piece, indented.
pub fn whole(json: &[u8]) -> Bytes {
    Indent::default().frame(json)
}

#[derive(Debug, Default)]
struct Indent {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// A bracket was opened and nothing followed it yet: empty brackets stay together.
    opened: bool,
}

impl Indent {
    fn frame(&mut self, json: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(json.len() * 2);
        for byte in json {
            if self.in_string {
                self.inside(*byte);
                out.extend_from_slice(&[*byte]);
            } else {
                self.outside(&mut out, *byte);
            }
        }
        out.freeze()
    }

    fn inside(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
    }

    fn outside(&mut self, out: &mut BytesMut, byte: u8) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            b'{' | b'[' => {
                self.first(out);
                out.extend_from_slice(&[byte]);
                self.depth += 1;
                self.opened = true;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if !std::mem::take(&mut self.opened) {
                    self.line(out);
                }
                out.extend_from_slice(&[byte]);
            }
            b',' => {
                out.extend_from_slice(b",");
                self.line(out);
            }
            b':' => out.extend_from_slice(b": "),
            _ => {
                self.first(out);
                self.in_string = byte == b'"';
                out.extend_from_slice(&[byte]);
            }
        }
    }

    /// Before the first value in a bracket.
    fn first(&mut self, out: &mut BytesMut) {
        if std::mem::take(&mut self.opened) {
            self.line(out);
        }
    }

    fn line(&self, out: &mut BytesMut) {
        out.extend_from_slice(b"\n");
        for _ in 0..self.depth {
            out.extend_from_slice(b"  ");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn brackets_are_opened_unless_they_are_empty() {
        let text = r#"{"a":{},"b":[],"c":[1,-2.5e3,{"d":"x{[,:\"\\","e":null}],"f":true}"#.to_owned() + "\n";
        let expected = concat!(
            "{\n  \"a\": {},\n  \"b\": [],\n  \"c\": [\n    1,\n    -2.5e3,\n    {\n",
            "      \"d\": \"x{[,:\\\"\\\\\",\n      \"e\": null\n    }\n  ],\n  \"f\": true\n}"
        );
        assert_eq!(whole(text.as_bytes()), expected);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        /// serde_json's own indentation is the model, whatever the frames.
        #[test]
        fn any_value_in_any_frames(value in values(), size in 1_usize..40) {
            let text = value.to_string().into_bytes();
            let pieces: Vec<_> = text.chunks(size).map(Bytes::copy_from_slice).collect();
            let indented: Vec<u8> = frames(Box::new(pieces.into_iter())).flatten().collect();
            prop_assert_eq!(String::from_utf8(indented).unwrap(), serde_json::to_string_pretty(&value).unwrap());
        }
    }
}
