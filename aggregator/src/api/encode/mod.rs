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

/// A frame is closed once it holds this much: large enough to be worth a write, small enough to hold by the hundred.
const FRAME: usize = 64 * 1024;

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

/// `around` with the objects in it, in frames of about [`FRAME`] bytes.
fn frames<L: Objects>(
    around: Around,
    mut objects: L,
    mut write: impl FnMut(&mut BytesMut, &L::Object<'_>) + Send,
) -> impl Iterator<Item = Bytes> + Send {
    let Around { head, separator, tail } = around;
    let mut head = Some(head);
    let mut before: &[u8] = b"";
    let mut ended = false;
    iter::from_fn(move || {
        if ended {
            return None;
        }
        // Room for the object that crosses the line, so that a frame is allocated once.
        let mut out = head.take().unwrap_or_else(|| BytesMut::with_capacity(FRAME + 4096));
        let flow = objects.visit(|object| {
            out.extend_from_slice(before);
            before = separator;
            write(&mut out, object);
            if out.len() < FRAME { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if flow.is_continue() {
            out.extend_from_slice(tail);
            ended = true;
        }
        Some(out.freeze())
    })
}
