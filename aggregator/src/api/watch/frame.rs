//! Events as bytes: a JSON document per line, or protobuf messages behind their length.

use bytes::{Bytes, BytesMut};

use super::{
    feed::Watched,
    log::{Event, Kind},
    version::ResourceVersion,
};
use crate::{
    api::{
        encode::{Columns, Encoder},
        json,
        negotiate::{Format, Part, Representation, Shape},
        object::Object,
        protobuf::{self, Fields, Message},
        status::Failure,
    },
    units::RealTime,
};

/// Set on the bookmark behind the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Writes the events of one watch.
#[derive(Debug)]
pub struct Writer {
    encoder: Encoder,
    /// Of a Table; its columns are written once.
    columns: Columns,
}

impl Writer {
    /// A writer in the negotiated shape. `swap`: a Table has a column for it.
    pub fn new(encoder: Encoder, swap: bool) -> Self {
        Self { encoder, columns: Columns { headed: true, swap } }
    }

    /// `Content-Type` of the stream.
    pub fn content_type(shape: Shape) -> &'static str {
        match format(shape) {
            Format::Json => Representation::Json.media_type(),
            Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        }
    }

    /// Appends an event. `now` is the `creationTimestamp`.
    pub fn event<T: Watched>(&mut self, out: &mut BytesMut, event: Event<T>, now: RealTime) {
        self.encoder.created = now;
        let object = match self.encoder.shape {
            Shape::Table(_) => self.encoder.row(event.item, self.columns),
            Shape::Object(..) => self.encoder.one(event.item),
        };
        self.columns.headed = false;
        let kind = match event.kind {
            Kind::Added => "ADDED",
            Kind::Modified => "MODIFIED",
            Kind::Deleted => "DELETED",
        };
        self.write(out, kind, &object);
    }

    /// Appends a bookmark. `end`: it is the one behind the initial events.
    pub fn bookmark<T: Object>(&self, out: &mut BytesMut, version: ResourceVersion, end: bool) {
        let bookmark = Bookmark { version, end };
        let (api_version, kind) = match self.encoder.shape {
            Shape::Object(_, Part::Whole) => (self.encoder.version.api_version(), T::KIND),
            Shape::Object(_, Part::Metadata(meta)) => (meta.api_version(), "PartialObjectMetadata"),
            Shape::Table(meta) => (meta.api_version(), "Table"),
        };
        let object = match format(self.encoder.shape) {
            Format::Json => bookmark.json(api_version, kind),
            Format::Protobuf => protobuf::document(api_version, kind, &bookmark),
        };
        self.write(out, "BOOKMARK", &object);
    }

    /// Appends what ends a watch early.
    pub fn error(&self, out: &mut BytesMut, failure: &Failure) {
        let representation = match format(self.encoder.shape) {
            Format::Json => Representation::Json,
            Format::Protobuf => Representation::Protobuf,
        };
        self.write(out, "ERROR", &failure.encode(representation));
    }

    fn write(&self, out: &mut BytesMut, kind: &str, object: &Bytes) {
        match format(self.encoder.shape) {
            Format::Json => {
                json::raw(out, "{\"type\":\"");
                json::raw(out, kind);
                json::raw(out, "\",\"object\":");
                out.extend_from_slice(object.strip_suffix(b"\n").unwrap_or(object));
                json::raw(out, "}\n");
            }
            Format::Protobuf => {
                let event = WatchEvent { kind, object };
                // Four bytes in network order: apimachinery, `pkg/util/framer`.
                let length = u32::try_from(event.length()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_be_bytes());
                event.fields(out);
            }
        }
    }
}

fn format(shape: Shape) -> Format {
    match shape {
        Shape::Object(format, _) => format,
        Shape::Table(_) => Format::Json,
    }
}

/// `WatchEvent` of meta v1, whose object is a document in its envelope.
struct WatchEvent<'a> {
    kind: &'a str,
    object: &'a [u8],
}

impl Message for WatchEvent<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.kind);
        to.message(2, &RawExtension(self.object));
    }
}

struct RawExtension<'a>(&'a [u8]);

impl Message for RawExtension<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.delimited(1, self.0.len(), |out| out.extend_from_slice(self.0));
    }
}

/// An object of which only the version is told.
struct Bookmark {
    version: ResourceVersion,
    end: bool,
}

impl Bookmark {
    fn json(&self, api_version: &str, kind: &str) -> Bytes {
        // A Table's metadata is that of a list and has no annotations.
        let annotations = if self.end && kind != "Table" {
            format!(",\"annotations\":{{\"{INITIAL_EVENTS_END}\":\"true\"}}")
        } else {
            String::new()
        };
        let rows = if kind == "Table" { ",\"columnDefinitions\":null,\"rows\":[]" } else { "" };
        let version = self.version;
        let head = format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}""#);
        format!(r#"{head},"metadata":{{"resourceVersion":"{version}"{annotations}}}{rows}}}"#).into()
    }
}

impl Message for Bookmark {
    fn fields(&self, to: &mut impl Fields) {
        to.message(1, &BookmarkMeta(self));
    }
}

/// `ObjectMeta` of a bookmark.
struct BookmarkMeta<'a>(&'a Bookmark);

impl Message for BookmarkMeta<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.text(6, &self.0.version.to_string());
        if self.0.end {
            to.message(12, &Annotation);
        }
    }
}

struct Annotation;

impl Message for Annotation {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, INITIAL_EVENTS_END);
        to.text(2, "true");
    }
}
