//! Labels as they are kept: encoded once, when the metadata changes, in the two forms that answers are made of. Selectors
//! read the same bytes.

use std::{collections::BTreeMap, fmt, sync::Arc};

use bytes::BytesMut;

use crate::encoding::{
    json,
    protobuf::{Fields, Message},
};

/// `ObjectMeta.labels` (apimachinery, `meta/v1/generated.proto`).
const FIELD: u8 = 11;

/// Labels, sorted by key. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Labels {
    /// [`Labels::protobuf`], then [`Labels::json`]; empty where there are no labels.
    encoded: Arc<[u8]>,
    /// Where the latter begins.
    json: usize,
}

impl Labels {
    /// No labels.
    pub fn new() -> Self {
        Self::default()
    }

    /// These labels, in any order; of two with one key the later counts.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs: BTreeMap<&str, &str> = pairs.into_iter().collect();
        let mut out = BytesMut::new();
        for (key, value) in &pairs {
            out.message(FIELD, &Entry { key, value });
        }
        let json = out.len();
        let mut before = ",\"labels\":{";
        for (key, value) in &pairs {
            json::raw(&mut out, before);
            json::string(&mut out, key);
            json::raw(&mut out, ":");
            json::string(&mut out, value);
            before = ",";
        }
        if !pairs.is_empty() {
            json::raw(&mut out, "}");
        }
        Self { encoded: Arc::from(&out[..]), json }
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// All of them, by key.
    pub fn iter(&self) -> Iter<'_> {
        Iter(self.protobuf())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// How many values share this one's memory, itself among them.
    pub(super) fn clones(&self) -> usize {
        Arc::strong_count(&self.encoded)
    }

    /// The fields `labels` of an `ObjectMeta`, ready to be its last.
    pub fn protobuf(&self) -> &[u8] {
        self.encoded.get(..self.json).unwrap_or_default()
    }

    /// `,"labels":{…}`, ready to be the last key of a JSON object; nothing where there are none.
    pub fn json(&self) -> &[u8] {
        self.encoded.get(self.json..).unwrap_or_default()
    }
}

/// An entry of the map of labels.
struct Entry<'a> {
    key: &'a str,
    value: &'a str,
}

impl Message for Entry<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.key);
        to.text(2, self.value);
    }
}

/// Labels, one after the other, read from their encoded form without allocating.
#[derive(Debug, Clone)]
pub struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let (entry, rest) = field(self.0)?;
        self.0 = rest;
        let (key, rest) = field(entry)?;
        let (value, _) = field(rest)?;
        // They came in as text, so this holds.
        Some((str::from_utf8(key).ok()?, str::from_utf8(value).ok()?))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl FromIterator<(Box<str>, Box<str>)> for Labels {
    fn from_iter<T: IntoIterator<Item = (Box<str>, Box<str>)>>(pairs: T) -> Self {
        let pairs: Vec<_> = pairs.into_iter().collect();
        Self::of(pairs.iter().map(|(key, value)| (&**key, &**value)))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self).finish()
    }
}

/// The content of the delimited field that the bytes begin with, and what follows it.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = bytes.get(1..)?;
    let mut length = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        rest = tail;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_map, prelude::*};

    use super::*;

    #[test]
    fn both_forms_are_these_bytes() {
        let labels = Labels::of([("b", ""), ("a", "1"), ("b", "2")]);
        assert_eq!(labels.json(), br#","labels":{"a":"1","b":"2"}"#);
        assert_eq!(labels.protobuf(), b"\x5a\x06\x0a\x01a\x12\x011\x5a\x06\x0a\x01b\x12\x012");
        assert_eq!(format!("{labels:?}"), r#"{"a": "1", "b": "2"}"#);
        let none = Labels::of([]);
        assert_eq!((none.json(), none.protobuf()), (&b""[..], &b""[..]));
        assert!(none == Labels::new() && none.is_empty() && none.get("").is_none());
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(pairs in btree_map(any::<String>(), "(x{130})?.{0,9}", 0..6), other: String) {
            let labels = Labels::of(pairs.iter().map(|(key, value)| (&**key, &**value)));
            let found: BTreeMap<String, String> =
                labels.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(&found, &pairs);
            for key in pairs.keys().chain([&other]) {
                prop_assert_eq!(labels.get(key), pairs.get(key).map(|value| &**value));
            }
            let text = format!("{{\"x\":0{}}}", str::from_utf8(labels.json()).unwrap());
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            let empty = serde_json::Map::new();
            let read = read.get("labels").and_then(|labels| labels.as_object()).unwrap_or(&empty);
            prop_assert_eq!(read.len(), pairs.len());
            for (key, value) in &pairs {
                prop_assert_eq!(read[key].as_str(), Some(&**value));
            }
        }
    }
}
