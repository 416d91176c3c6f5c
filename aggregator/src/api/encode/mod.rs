//! Objects and lists as bytes, in the format and shape that were negotiated. What is served is decided before; here it is
//! only written, lists in frames of bounded size.

mod as_json;
mod as_protobuf;

use std::{iter, ops::ControlFlow};

use bytes::{Bytes, BytesMut};

use super::{
    discovery::Version,
    negotiate::{Format, Shape},
    object::{Object, Objects},
    table::Include,
    watch::ResourceVersion,
};
use crate::units::RealTime;

/// The length of all frames but the last. Large enough to be worth a write, small enough to hold by the hundred, and a
/// multiple of what HTTP/2 sends at once (16 KiB): a remainder would be a packet of its own each time.
const FRAME: usize = 64 * 1024;
/// Room behind it for the object that crosses its end, so that a frame is allocated once.
const ROOM: usize = 4096;

/// How objects are written: the same for all of an answer.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// The version that was asked for.
    pub version: Version,
    /// The shape that was negotiated.
    pub shape: Shape,
    /// What rows of a Table carry.
    pub include: Include,
    /// The instant of the request: `creationTimestamp`.
    pub created: RealTime,
    /// Serve swap too, where it is known.
    pub swap: bool,
    /// The version of a list, where there are versions.
    pub at: Option<ResourceVersion>,
}

/// The columns of a Table.
#[derive(Debug, Clone, Copy)]
pub struct Columns {
    /// They are described.
    pub headed: bool,
    /// There is one for swap.
    pub swap: bool,
}

impl Encoder {
    /// One object.
    pub fn one<T: Object + Clone + Send + 'static>(&self, object: T) -> Bytes {
        match self.shape {
            Shape::Table(_) => {
                let swap = self.swap && object.total().swap.is_some();
                self.row(object, Columns { headed: true, swap })
            }
            Shape::Object(Format::Json, part) => as_json::one(self, part, &object),
            Shape::Object(Format::Protobuf, part) => as_protobuf::one(self, part, &object),
        }
    }

    /// A Table of one object, whose version is the Table's too; the object itself where no Table was asked for.
    pub fn row<T: Object + Clone + Send + 'static>(&self, object: T, columns: Columns) -> Bytes {
        let Shape::Table(version) = self.shape else { return self.one(object) };
        let encoder = Self { at: object.resource_version(), ..self.clone() };
        let mut out = BytesMut::with_capacity(1024);
        for frame in as_json::table(&encoder, version, vec![object].into_iter(), columns) {
            out.extend_from_slice(&frame);
        }
        out.freeze()
    }

    /// A list, frame by frame.
    pub fn list(&self, objects: impl Objects) -> Box<dyn Iterator<Item = Bytes> + Send> {
        match self.shape {
            Shape::Table(version) => {
                let swap = self.swap && objects.clone().any(|object| object.total().swap.is_some());
                Box::new(as_json::table(self, version, objects, Columns { headed: true, swap }))
            }
            Shape::Object(Format::Json, part) => as_json::list(self, part, objects),
            Shape::Object(Format::Protobuf, part) => Box::new(as_protobuf::list(self, part, objects)),
        }
    }
}

/// What stands around the objects of a list.
struct Around {
    head: BytesMut,
    separator: &'static [u8],
    tail: &'static [u8],
}

/// `around` with the objects in it, in frames of [`FRAME`] bytes.
fn frames<L: Objects>(
    around: Around,
    mut objects: L,
    mut write: impl FnMut(&mut BytesMut, &L::Object<'_>) + Send,
) -> impl Iterator<Item = Bytes> + Send {
    let Around { head, separator, tail } = around;
    let mut head = Some(head);
    // What crossed the end of the frame before.
    let mut carried = Vec::new();
    let mut before: &[u8] = b"";
    let (mut complete, mut ended) = (false, false);
    iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut out = head.take().unwrap_or_else(|| BytesMut::with_capacity(FRAME + ROOM));
        out.extend_from_slice(&carried);
        carried.clear();
        if !complete && out.len() < FRAME {
            let flow = objects.visit(|object| {
                out.extend_from_slice(before);
                before = separator;
                write(&mut out, object);
                if out.len() < FRAME { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            if flow.is_continue() {
                out.extend_from_slice(tail);
                complete = true;
            }
        }
        carried.extend_from_slice(out.get(FRAME..).unwrap_or_default());
        out.truncate(FRAME);
        ended = complete && carried.is_empty();
        Some(out.freeze())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::object::Numbers,
        inventory::Labels,
        view::{Measured, Usage},
    };

    /// This many bytes of one letter.
    #[derive(Clone)]
    struct Long(usize, u8);

    impl Object for Long {
        const KIND: &'static str = "Long";

        fn namespace(&self) -> &str {
            unreachable!()
        }
        fn name(&self) -> &str {
            unreachable!()
        }
        fn labels(&self) -> &Labels {
            unreachable!()
        }
        fn measured(&self) -> &Measured {
            unreachable!()
        }
        fn total(&self) -> Usage {
            unreachable!()
        }
        fn numbers(&self) -> Numbers<'_> {
            unreachable!()
        }
        fn resource_version(&self) -> Option<ResourceVersion> {
            None
        }
    }

    #[test]
    fn all_frames_but_the_last_are_full() {
        for lengths in [
            vec![],
            vec![1],
            vec![FRAME],
            vec![FRAME - 7],
            vec![FRAME - 8, 1, 1],
            vec![FRAME - 6, 1],
            vec![700; 500],
            vec![5 * FRAME, 1, 3 * FRAME + 1],
        ] {
            let letters = (b'a'..=b'z').cycle();
            let objects: Vec<_> =
                lengths.iter().zip(letters).map(|(length, letter)| Long(*length, letter)).collect();
            let mut expected = b"[[[".to_vec();
            for (at, object) in objects.iter().enumerate() {
                expected.extend_from_slice(if at > 0 { b"," } else { b"" });
                expected.resize(expected.len() + object.0, object.1);
            }
            expected.extend_from_slice(b"]]]]");
            let around = Around { head: (&b"[[["[..]).into(), separator: b",", tail: b"]]]]" };
            let made: Vec<_> =
                frames(around, objects.into_iter(), |out, object| out.resize(out.len() + object.0, object.1))
                    .collect();
            let (last, full) = made.split_last().unwrap();
            assert!(full.iter().all(|frame| frame.len() == FRAME) && (1..=FRAME).contains(&last.len()));
            assert!(made.concat() == expected, "{lengths:?}");
        }
    }
}
