//! Objects and lists as JSON. Labels come ready from the inventory, the instant of the request is written once; what is
//! left to be made for each object is names and numbers.

use bytes::{Bytes, BytesMut};

use super::{Around, Columns, Encoder, frames};
use crate::{
    api::{
        json,
        negotiate::{MetaVersion, Part},
        object::{Numbers, Object, Objects},
        quantity,
        table::{self, Include},
        watch::ResourceVersion,
    },
    units::RealTime,
    view::Usage,
};

/// One object.
pub fn one<T: Object>(encoder: &Encoder, part: Part, object: &T) -> Bytes {
    let mut out = BytesMut::with_capacity(2048);
    let mut writer = Writer::new(encoder);
    match part {
        Part::Whole => writer.full(&mut out, object),
        Part::Metadata(version) => writer.partial(&mut out, version, object),
    }
    json::raw(&mut out, "\n");
    out.freeze()
}

/// A list, frame by frame.
pub fn list<L: Objects>(encoder: &Encoder, part: Part, objects: L) -> Box<dyn Iterator<Item = Bytes> + Send> {
    let around = |kind: &str, api: &str| {
        let metadata = list_metadata(encoder.at);
        let mut head = BytesMut::with_capacity(super::FRAME + super::ROOM);
        json::raw(
            &mut head,
            &format!(r#"{{"kind":"{kind}List","apiVersion":"{api}","metadata":{metadata},"items":["#),
        );
        Around { head, separator: b",", tail: b"]}\n" }
    };
    let mut writer = Writer::new(encoder);
    match part {
        Part::Whole => {
            let around = around(<L::Object<'static>>::KIND, encoder.version.api_version());
            Box::new(frames(around, objects, move |out, object| {
                json::raw(out, "{\"metadata\":");
                writer.metadata(out, object);
                writer.rest(out, object);
            }))
        }
        Part::Metadata(version) => {
            let around = around("PartialObjectMetadata", version.api_version());
            Box::new(frames(around, objects, move |out, object| writer.partial(out, version, object)))
        }
    }
}

/// A Table, frame by frame.
pub fn table<L: Objects>(
    encoder: &Encoder,
    version: MetaVersion,
    objects: L,
    columns: Columns,
) -> impl Iterator<Item = Bytes> + Send + use<L> {
    let empty = !objects.clone().any(|_| true);
    let mut head = BytesMut::with_capacity(super::FRAME + super::ROOM);
    table::head(&mut head, version, &list_metadata(encoder.at), (!empty).then_some(columns));
    let mut writer = Writer::new(encoder);
    let around = Around { head, separator: b",", tail: if empty { b"}\n" } else { b"]}\n" } };
    frames(around, objects, move |out, object| {
        table::cells(out, object, columns.swap);
        match writer.encoder.include {
            Include::None => json::raw(out, "null"),
            Include::Metadata => writer.partial(out, version, object),
            Include::Object => writer.full(out, object),
        }
        json::raw(out, "}");
    })
}

/// `metadata` of a list.
fn list_metadata(at: Option<ResourceVersion>) -> String {
    at.map_or_else(|| "{}".to_owned(), |version| format!(r#"{{"resourceVersion":"{version}"}}"#))
}

/// Writes the objects of one answer.
struct Writer {
    encoder: Encoder,
    /// `,"creationTimestamp":"…"`, the same for all.
    created: BytesMut,
    measured: Stamp,
}

impl Writer {
    fn new(encoder: &Encoder) -> Self {
        let mut created = BytesMut::with_capacity(64);
        json::raw(&mut created, ",\"creationTimestamp\":\"");
        quantity::instant(&mut created, encoder.created);
        json::raw(&mut created, "\"");
        Self { encoder: encoder.clone(), created, measured: Stamp::default() }
    }

    fn full<T: Object>(&mut self, out: &mut BytesMut, object: &T) {
        json::raw(out, "{\"kind\":\"");
        json::raw(out, T::KIND);
        json::raw(out, "\",\"apiVersion\":\"");
        json::raw(out, self.encoder.version.api_version());
        json::raw(out, "\",\"metadata\":");
        self.metadata(out, object);
        self.rest(out, object);
    }

    fn partial<T: Object>(&mut self, out: &mut BytesMut, version: MetaVersion, object: &T) {
        json::raw(out, "{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"");
        json::raw(out, version.api_version());
        json::raw(out, "\",\"metadata\":");
        self.metadata(out, object);
        json::raw(out, "}");
    }

    fn metadata<T: Object>(&mut self, out: &mut BytesMut, object: &T) {
        json::raw(out, "{\"name\":");
        json::string(out, object.name());
        if !object.namespace().is_empty() {
            json::raw(out, ",\"namespace\":");
            json::string(out, object.namespace());
        }
        if let Some(version) = object.resource_version() {
            json::raw(out, ",\"resourceVersion\":\"");
            quantity::integer(out, version.number());
            json::raw(out, "\"");
        }
        out.extend_from_slice(&self.created);
        out.extend_from_slice(object.labels().json());
        json::raw(out, "}");
    }

    fn rest<T: Object>(&mut self, out: &mut BytesMut, object: &T) {
        json::raw(out, ",\"timestamp\":\"");
        self.measured.write(out, object.measured().timestamp);
        json::raw(out, "\",\"window\":\"");
        quantity::duration(out, object.measured().window);
        match object.numbers() {
            Numbers::Usage(usage) => {
                json::raw(out, "\",\"usage\":");
                self.usage(out, usage);
            }
            Numbers::Containers(names, usages) => {
                json::raw(out, "\",\"containers\":");
                let mut before = "[";
                for (name, usage) in names.iter().zip(usages) {
                    json::raw(out, before);
                    out.extend_from_slice(name.json());
                    json::raw(out, ",\"usage\":");
                    self.usage(out, usage);
                    before = "},";
                }
                json::raw(out, "}]");
            }
        }
        json::raw(out, "}");
    }

    /// `{"cpu":"…","memory":"…"}`, with `swap` where that is asked for and known.
    fn usage(&self, out: &mut BytesMut, usage: &Usage) {
        json::raw(out, "{\"cpu\":\"");
        quantity::cpu(usage.cpu).write(out);
        json::raw(out, "\",\"memory\":\"");
        quantity::memory(usage.memory).write(out);
        if let Some(bytes) = usage.swap.filter(|_| self.encoder.swap) {
            json::raw(out, "\",\"swap\":\"");
            quantity::memory(bytes).write(out);
        }
        json::raw(out, "\"}");
    }
}

/// The instant that was written last: many objects have the same one.
#[derive(Default)]
struct Stamp {
    second: Option<u64>,
    text: BytesMut,
}

impl Stamp {
    fn write(&mut self, out: &mut BytesMut, at: RealTime) {
        let second = Some(at.0 / 1_000_000_000);
        if self.second != second {
            self.second = second;
            self.text.clear();
            quantity::instant(&mut self.text, at);
        }
        out.extend_from_slice(&self.text);
    }
}
