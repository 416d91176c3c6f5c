//! Writes small BTF blobs for tests.

use super::{MAGIC, kind};

/// A blob under construction. Types get the ids 1, 2, … in order of their making.
pub(crate) struct Blob {
    types: Vec<u8>,
    strings: Vec<u8>,
    next: u32,
}

impl Blob {
    pub(crate) fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], next: 1 }
    }

    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(text.bytes().chain([0]));
        at
    }

    fn head(&mut self, name: &str, kind: u32, count: usize, value: u32) -> u32 {
        let name = self.string(name);
        let count = u32::try_from(count).unwrap();
        for word in [name, kind << 24 | count, value] {
            self.types.extend(word.to_le_bytes());
        }
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn int(&mut self, name: &str, bytes: u32) -> u32 {
        let id = self.head(name, kind::INT, 0, bytes);
        self.types.extend((bytes * 8).to_le_bytes());
        id
    }

    pub(crate) fn pointer(&mut self, to: u32) -> u32 {
        self.head("", kind::PTR, 0, to)
    }

    pub(crate) fn typedef(&mut self, name: &str, of: u32) -> u32 {
        self.head(name, kind::TYPEDEF, 0, of)
    }

    pub(crate) fn volatile(&mut self, of: u32) -> u32 {
        self.head("", kind::VOLATILE, 0, of)
    }

    pub(crate) fn forward(&mut self, name: &str) -> u32 {
        self.head(name, kind::FWD, 0, 0)
    }

    pub(crate) fn array(&mut self, of: u32, length: u32) -> u32 {
        let id = self.head("", kind::ARRAY, 0, 0);
        for word in [of, of, length] {
            self.types.extend(word.to_le_bytes());
        }
        id
    }

    /// Members as name, type, byte offset.
    pub(crate) fn structure(&mut self, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        self.composite(kind::STRUCT, name, members)
    }

    pub(crate) fn union(&mut self, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        self.composite(kind::UNION, name, members)
    }

    fn composite(&mut self, kind: u32, name: &str, members: &[(&str, u32, u32)]) -> u32 {
        let id = self.head(name, kind, members.len(), 4096);
        for (name, ty, offset) in members {
            let name = self.string(name);
            for word in [name, *ty, offset * 8] {
                self.types.extend(word.to_le_bytes());
            }
        }
        id
    }

    pub(crate) fn enumeration(&mut self, name: &str, values: &[(&str, i32)]) -> u32 {
        let id = self.head(name, kind::ENUM, values.len(), 4);
        for (name, value) in values {
            let name = self.string(name);
            self.types.extend(name.to_le_bytes());
            self.types.extend(value.to_le_bytes());
        }
        id
    }

    pub(crate) fn enumeration64(&mut self, name: &str, values: &[(&str, u64)]) -> u32 {
        let id = self.head(name, kind::ENUM64, values.len(), 8);
        for (name, value) in values {
            let name = self.string(name);
            self.types.extend(name.to_le_bytes());
            self.types.extend(value.to_le_bytes());
        }
        id
    }

    pub(crate) fn function(&mut self, name: &str) -> u32 {
        let prototype = self.head("", kind::FUNC_PROTO, 0, 0);
        self.head(name, kind::FUNC, 0, prototype)
    }

    pub(crate) fn unknown_kind(&mut self) {
        self.head("", 31, 0, 0);
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut blob = Vec::new();
        blob.extend(MAGIC.to_le_bytes());
        blob.extend([1, 0]);
        let (types, strings) =
            (u32::try_from(self.types.len()).unwrap(), u32::try_from(self.strings.len()).unwrap());
        for word in [24, 0, types, types, strings] {
            blob.extend(word.to_le_bytes());
        }
        blob.extend(&self.types);
        blob.extend(&self.strings);
        blob
    }
}
