//! Objects and lists as JSON.

use bytes::{Bytes, BytesMut};

use super::{Around, Encoder, frames};
use crate::{
    api::{
        json,
        negotiate::{MetaVersion, Part},
        object::{Numbers, Object},
        quantity,
        table::{self, Include},
    },
    view::Usage,
};

/// One object.
pub fn one<T: Object>(encoder: &Encoder, part: Part, object: &T) -> Bytes {
    let mut out = BytesMut::with_capacity(1024);
    match part {
        Part::Whole => encoder.full(&mut out, object),
        Part::Metadata(version) => encoder.partial(&mut out, version, object),
    }
    json::raw(&mut out, "\n");
    out.freeze()
}

/// A list, frame by frame.
pub fn list<T: Object>(
    encoder: &Encoder,
    part: Part,
    objects: Vec<T>,
) -> Box<dyn Iterator<Item = Bytes> + Send> {
    let around = |kind: &str, api: &str| {
        let head = format!(r#"{{"kind":"{kind}List","apiVersion":"{api}","metadata":{{}},"items":["#);
        Around { head: head.as_bytes().into(), separator: b",", tail: b"]}\n" }
    };
    let encoder = encoder.clone();
    match part {
        Part::Whole => {
            let around = around(T::KIND, encoder.version.api_version());
            Box::new(frames(around, objects, move |out, object| {
                json::raw(out, "{\"metadata\":");
                encoder.metadata(out, object);
                encoder.rest(out, object);
            }))
        }
        Part::Metadata(version) => {
            let around = around("PartialObjectMetadata", version.api_version());
            Box::new(frames(around, objects, move |out, object| encoder.partial(out, version, object)))
        }
    }
}

/// A Table, frame by frame.
pub fn table<T: Object>(
    encoder: &Encoder,
    version: MetaVersion,
    objects: Vec<T>,
) -> impl Iterator<Item = Bytes> + Send + use<T> {
    let mut head = BytesMut::with_capacity(1024);
    let empty = objects.is_empty();
    table::head(&mut head, version, empty, encoder.swap);
    let encoder = encoder.clone();
    let around = Around { head, separator: b",", tail: if empty { b"}\n" } else { b"]}\n" } };
    frames(around, objects, move |out, object| {
        table::cells(out, object, encoder.swap);
        match encoder.include {
            Include::None => json::raw(out, "null"),
            Include::Metadata => encoder.partial(out, version, object),
            Include::Object => encoder.full(out, object),
        }
        json::raw(out, "}");
    })
}

impl Encoder {
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
        match object.numbers() {
            Numbers::Usage(usage) => {
                json::raw(out, "\"usage\":");
                self.usage(out, usage);
            }
            Numbers::Containers(containers) => {
                json::raw(out, "\"containers\":[");
                let mut before = "{\"name\":";
                for (name, usage) in containers {
                    json::raw(out, before);
                    json::string(out, name);
                    json::raw(out, ",\"usage\":");
                    self.usage(out, usage);
                    json::raw(out, "}");
                    before = ",{\"name\":";
                }
                json::raw(out, "]");
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
        if let Some(bytes) = usage.swap.filter(|_| self.swap) {
            json::raw(out, "\",\"swap\":\"");
            quantity::memory(bytes).write(out);
        }
        json::raw(out, "\"}");
    }
}
