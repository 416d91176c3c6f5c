//! The names of a pod's containers as they are kept: encoded once, in the forms that answers are made of, and shared by
//! all replicas.

use std::{fmt, sync::Arc};

use bytes::BytesMut;

use crate::encoding::{json, protobuf::Fields as _};

/// `ContainerMetrics.name` (metrics, `v1beta1/generated.proto`).
const FIELD: u8 = 1;

/// Names in serving order. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ContainerNames(Arc<Names>);

/// Behind one thin pointer: views hold one for each pod.
#[derive(PartialEq, Eq, Hash, Default)]
struct Names(Box<[ContainerName]>);

/// The name of one container.
#[derive(PartialEq, Eq, Hash)]
pub struct ContainerName {
    text: Box<str>,
    json: Box<[u8]>,
    protobuf: Box<[u8]>,
}

impl ContainerNames {
    /// These names, in this order.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(Arc::new(Names(names.into_iter().map(ContainerName::new).collect())))
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, ContainerName> {
        self.0.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }

    /// Whether both are the same memory, and so the same names.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// How many values share this one's memory, itself among them.
    pub(super) fn clones(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

impl ContainerName {
    fn new(text: &str) -> Self {
        let (mut written, mut fields) = (BytesMut::new(), BytesMut::new());
        json::raw(&mut written, "{\"name\":");
        json::string(&mut written, text);
        fields.text(FIELD, text);
        Self { text: text.into(), json: Box::from(&written[..]), protobuf: Box::from(&fields[..]) }
    }

    /// The name.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// `{"name":"…"`: the begin of a JSON object.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The field `name` of a `ContainerMetrics`.
    pub fn protobuf(&self) -> &[u8] {
        &self.protobuf
    }
}

impl<'a> IntoIterator for &'a ContainerNames {
    type Item = &'a ContainerName;
    type IntoIter = std::slice::Iter<'a, ContainerName>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for ContainerNames {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.iter().map(ContainerName::text)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_these_bytes() {
        let names = ContainerNames::of(["web", "a\"b"]);
        let forms: Vec<_> = names.iter().map(|name| (name.text(), name.json(), name.protobuf())).collect();
        let web: (&str, &[u8], &[u8]) = ("web", br#"{"name":"web""#, b"\x0a\x03web");
        let odd: (&str, &[u8], &[u8]) = ("a\"b", br#"{"name":"a\"b""#, b"\x0a\x03a\"b");
        assert_eq!(forms, [web, odd]);
        assert_eq!(format!("{names:?}"), r#"["web", "a\"b"]"#);
        assert_eq!((names.len(), ContainerNames::default().is_empty()), (2, true));
    }
}
