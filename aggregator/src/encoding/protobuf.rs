//! Protocol buffers by hand. A [`Message`] names its fields once; its length and its bytes both come from that one list,
//! so that they cannot differ. Bytes are written once, from front to back: a message's length is put before it when its
//! end is known, so nothing inside is measured again at every level.

use bytes::{Bytes, BytesMut};

/// What every Kubernetes document in protobuf begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";
/// The end of the envelope: `contentEncoding` and `contentType`, both empty.
pub const TAIL: [u8; 4] = [0x1a, 0, 0x22, 0];
/// The envelope's field that holds the document.
const RAW: u8 = 2;

/// A message, as the list of its fields.
pub trait Message {
    /// How many bytes its length takes, mostly, 1 or 2: where that is wrong, what was written is moved.
    const PREFIX: usize = 1;

    /// Gives every field to `to`, in the order in which they are to be written. It must do the same each time.
    fn fields(&self, to: &mut impl Fields);

    /// Its encoded length in bytes, without tag and length prefix.
    fn length(&self) -> usize {
        let mut length = Length(0);
        self.fields(&mut length);
        length.0
    }
}

/// Where fields go: to a buffer, or only to a sum of lengths. Field numbers are below 16: a tag is one byte.
pub trait Fields {
    /// A varint; for `bool` 0 or 1.
    fn number(&mut self, field: u8, value: u64);

    /// A field of known length; `write` appends exactly that many bytes.
    fn delimited(&mut self, field: u8, length: usize, write: impl FnOnce(&mut BytesMut));

    /// A string, written even when it is empty, as Go's encoder does.
    fn text(&mut self, field: u8, text: &str) {
        self.delimited(field, text.len(), |out| out.extend_from_slice(text.as_bytes()));
    }

    /// Fields as they are, tags and prefixes included: what was encoded before.
    fn encoded(&mut self, fields: &[u8]);

    /// A message.
    fn message<M: Message>(&mut self, field: u8, message: &M) {
        self.delimited(field, message.length(), |out| message.fields(out));
    }
}

/// The length of what it was given.
struct Length(usize);

impl Fields for Length {
    fn number(&mut self, _: u8, value: u64) {
        self.0 += 1 + varint_length(value);
    }

    fn delimited(&mut self, _: u8, length: usize, _: impl FnOnce(&mut BytesMut)) {
        self.0 += delimited_length(length);
    }

    fn encoded(&mut self, fields: &[u8]) {
        self.0 += fields.len();
    }
}

impl Fields for BytesMut {
    fn number(&mut self, field: u8, value: u64) {
        tagged(self, field << 3, value);
    }

    fn delimited(&mut self, field: u8, length: usize, write: impl FnOnce(&mut BytesMut)) {
        key(self, field, length);
        write(self);
    }

    fn encoded(&mut self, fields: &[u8]) {
        self.extend_from_slice(fields);
    }

    fn message<M: Message>(&mut self, field: u8, message: &M) {
        let begin = [field << 3 | 2, 0, 0];
        self.extend_from_slice(begin.get(..=M::PREFIX).unwrap_or(&begin));
        let start = self.len();
        message.fields(self);
        let length = self.len() - start;
        let needed = varint_length(length as u64);
        if needed != M::PREFIX {
            let to = start - M::PREFIX + needed;
            self.resize(self.len().max(to + length), 0);
            self.copy_within(start..start + length, to);
            self.truncate(to + length);
        }
        let mut rest = length;
        for (at, byte) in self.iter_mut().skip(start - M::PREFIX).take(needed).enumerate() {
            *byte = low_bits(rest as u64) | if at + 1 < needed { 0x80 } else { 0 };
            rest >>= 7;
        }
    }
}

/// A document in its envelope.
pub fn document(api_version: &str, kind: &str, raw: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(raw.length() + 128);
    open(&mut out, api_version, kind, raw.length());
    raw.fields(&mut out);
    out.extend_from_slice(&TAIL);
    out.freeze()
}

/// Appends a document's envelope (`runtime.Unknown`) up to the document itself, which is of this length. [`TAIL`] has
/// to follow the document.
pub fn open(out: &mut BytesMut, api_version: &str, kind: &str, length: usize) {
    out.extend_from_slice(&MAGIC);
    out.message(1, &TypeMeta { api_version, kind });
    key(out, RAW, length);
}

struct TypeMeta<'a> {
    api_version: &'a str,
    kind: &'a str,
}

impl Message for TypeMeta<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.api_version);
        to.text(2, self.kind);
    }
}

/// `ListMeta`: nothing in it is used, lists are never paged.
#[derive(Debug, Clone, Copy)]
pub struct ListMeta;

impl Message for ListMeta {
    fn fields(&self, _: &mut impl Fields) {}
}

/// The length of a field that holds `length` bytes, tag and prefix included.
pub const fn delimited_length(length: usize) -> usize {
    1 + varint_length(length as u64) + length
}

#[inline]
fn key(out: &mut BytesMut, field: u8, length: usize) {
    tagged(out, field << 3 | 2, length as u64);
}

/// Appends a tag and a varint, in one piece: nearly all of a list's fields are short.
#[inline]
fn tagged(out: &mut BytesMut, tag: u8, mut value: u64) {
    if value < 0x80 {
        return out.extend_from_slice(&[tag, low_bits(value)]);
    }
    let mut bytes = [tag; 11];
    let mut used = 1;
    for byte in bytes.iter_mut().skip(1) {
        used += 1;
        *byte = low_bits(value);
        value >>= 7;
        if value == 0 {
            break;
        }
        *byte |= 0x80;
    }
    out.extend_from_slice(bytes.get(..used).unwrap_or_default());
}

const fn low_bits(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

const fn varint_length(value: u64) -> usize {
    // Seven bits a byte; zero takes one too.
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Number(u64);

    impl Message for Number {
        fn fields(&self, to: &mut impl Fields) {
            to.number(6, self.0);
        }
    }

    #[test]
    fn a_document_is_these_bytes() {
        assert_eq!(
            document("v1", "K", &Number(404))[..],
            *b"k8s\0\x0a\x07\x0a\x02v1\x12\x01K\x12\x03\x30\x94\x03\x1a\x00\x22\x00"
        );
    }

    struct Nested<'a, const PREFIX: usize>(&'a str, usize);

    impl<const PREFIX: usize> Message for Nested<'_, PREFIX> {
        const PREFIX: usize = PREFIX;

        fn fields(&self, to: &mut impl Fields) {
            to.text(1, self.0);
            if self.1 > 0 {
                to.message(2, &Self(self.0, self.1 - 1));
            }
            to.encoded(b"\x18\x01");
        }
    }

    /// The same by prost's own rules, from the inside out.
    fn nested(text: &str, depth: usize) -> Vec<u8> {
        let mut out = Vec::new();
        prost::encoding::string::encode(1, &text.to_owned(), &mut out);
        if depth > 0 {
            prost::encoding::bytes::encode(2, &nested(text, depth - 1), &mut out);
        }
        prost::encoding::bool::encode(3, &true, &mut out);
        out
    }

    #[test]
    fn lengths_of_every_size_stand_before_what_they_measure() {
        for length in [0, 1, 100, 125, 126, 127, 128, 5000, 16_381, 16_384, 70_000] {
            for depth in 0..4 {
                let text = "x".repeat(length);
                let (mut one, mut two) = (BytesMut::new(), BytesMut::new());
                Nested::<1>(&text, depth).fields(&mut one);
                Nested::<2>(&text, depth).fields(&mut two);
                for out in [one, two] {
                    assert_eq!(out.len(), Nested::<1>(&text, depth).length(), "{length} {depth}");
                    assert!(out[..] == nested(&text, depth)[..], "{length} {depth}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn numbers_are_as_long_as_said(bits in 0_u32..64, value in any::<u64>()) {
            let value = value >> bits;
            let mut out = BytesMut::new();
            Number(value).fields(&mut out);
            prop_assert_eq!(out.len(), Number(value).length());
            prop_assert_eq!(prost::encoding::decode_varint(&mut &out[1..]).unwrap(), value);
        }
    }
}
