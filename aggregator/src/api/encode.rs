//! Objects and lists as JSON, in the shape that was negotiated; lists come in frames of bounded size.

use bytes::{Bytes, BytesMut};

use super::{
    discovery::Version,
    json,
    negotiate::{MetaVersion, Shape},
    object::Object,
    quantity,
    table::{self, Include},
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
    /// Serve swap too.
    pub swap: bool,
}

impl Encoder {
    /// One object.
    pub fn one<T: Object>(&self, object: T) -> Bytes {
        if let Shape::Table(version) = self.shape {
            let mut out = BytesMut::with_capacity(2048);
            self.table(version, vec![object]).for_each(|frame| out.extend_from_slice(&frame));
            return out.freeze();
        }
        let mut out = BytesMut::with_capacity(1024);
        match self.shape {
            Shape::Metadata(version) => self.partial(&mut out, version, &object),
            Shape::Object | Shape::Table(_) => self.full(&mut out, &object),
        }
        json::raw(&mut out, "\n");
        out.freeze()
    }

    /// A list, frame by frame.
    pub fn list<T: Object>(&self, objects: Vec<T>) -> Box<dyn Iterator<Item = Bytes> + Send> {
        match self.shape {
            Shape::Table(version) => Box::new(self.table(version, objects)),
            Shape::Object => {
                let api = self.version.api_version();
                let head =
                    format!(r#"{{"kind":"{}List","apiVersion":"{api}","metadata":{{}},"items":["#, T::KIND);
                let encoder = self.clone();
                let item = move |out: &mut BytesMut, object: &T| {
                    json::raw(out, "{\"metadata\":");
                    encoder.metadata(out, object);
                    encoder.rest(out, object);
                };
                Box::new(frames(head.as_bytes().into(), objects, item, "]}\n"))
            }
            Shape::Metadata(version) => {
                let api = version.api_version();
                let head = format!(
                    r#"{{"kind":"PartialObjectMetadataList","apiVersion":"{api}","metadata":{{}},"items":["#
                );
                let encoder = self.clone();
                let item = move |out: &mut BytesMut, object: &T| encoder.partial(out, version, object);
                Box::new(frames(head.as_bytes().into(), objects, item, "]}\n"))
            }
        }
    }

    fn table<T: Object>(
        &self,
        version: MetaVersion,
        objects: Vec<T>,
    ) -> impl Iterator<Item = Bytes> + Send + use<T> {
        let mut head = BytesMut::with_capacity(1024);
        let empty = objects.is_empty();
        table::head(&mut head, version, empty, self.swap);
        let encoder = self.clone();
        let row = move |out: &mut BytesMut, object: &T| {
            table::cells(out, object, encoder.swap);
            match encoder.include {
                Include::None => json::raw(out, "null"),
                Include::Metadata => encoder.partial(out, version, object),
                Include::Object => encoder.full(out, object),
            }
            json::raw(out, "}");
        };
        frames(head, objects, row, if empty { "}\n" } else { "]}\n" })
    }

    fn full<T: Object>(&self, out: &mut BytesMut, object: &T) {
        json::raw(out, "{\"kind\":\"");
        json::raw(out, T::KIND);
        json::raw(out, "\",\"apiVersion\":\"");
        json::raw(out, self.version.api_version());
        json::raw(out, "\",\"metadata\":");
        self.metadata(out, object);
        self.rest(out, object);
    }

    fn partial<T: Object>(&self, out: &mut BytesMut, version: MetaVersion, object: &T) {
        json::raw(out, "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
        json::raw(out, version.api_version());
        json::raw(out, "\",\"metadata\":");
        self.metadata(out, object);
        json::raw(out, "}");
    }

    fn metadata<T: Object>(&self, out: &mut BytesMut, object: &T) {
        json::raw(out, "{\"name\":");
        json::string(out, object.name());
        if !object.namespace().is_empty() {
            json::raw(out, ",\"namespace\":");
            json::string(out, object.namespace());
        }
        json::raw(out, ",\"creationTimestamp\":\"");
        quantity::instant(out, self.created);
        json::raw(out, "\"");
        if !object.labels().is_empty() {
            let mut before = ",\"labels\":{";
            for (key, value) in object.labels() {
                json::raw(out, before);
                json::string(out, key);
                json::raw(out, ":");
                json::string(out, value);
                before = ",";
            }
            json::raw(out, "}");
        }
        json::raw(out, "}");
    }

    fn rest<T: Object>(&self, out: &mut BytesMut, object: &T) {
        json::raw(out, ",\"timestamp\":\"");
        quantity::instant(out, object.measured().timestamp);
        json::raw(out, "\",\"window\":\"");
        quantity::duration(out, object.measured().window);
        json::raw(out, "\",");
        object.numbers(out, self.swap);
        json::raw(out, "}");
    }
}

/// `head`, the objects with commas between them, `tail`: in frames of about [`FRAME`] bytes.
fn frames<T: Object>(
    head: BytesMut,
    objects: Vec<T>,
    mut write: impl FnMut(&mut BytesMut, &T) + Send,
    tail: &'static str,
) -> impl Iterator<Item = Bytes> + Send {
    let mut objects = objects.into_iter();
    let mut pending = Some(head);
    let mut separator = "";
    std::iter::from_fn(move || {
        let mut out = pending.take()?;
        while out.len() < FRAME {
            let Some(object) = objects.next() else {
                json::raw(&mut out, tail);
                return Some(out.freeze());
            };
            json::raw(&mut out, separator);
            separator = ",";
            write(&mut out, &object);
        }
        // Room for the object that crosses the line, so that a frame is allocated once.
        pending = Some(BytesMut::with_capacity(FRAME + 4096));
        Some(out.freeze())
    })
}
