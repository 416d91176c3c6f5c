//! Objects and lists as the messages of Kubernetes' `generated.proto` files. The two versions of `metrics.k8s.io` have the
//! same messages: only the envelope names the version.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Around, Encoder, frames};
use crate::{
    api::{
        negotiate::Part,
        object::{Numbers, Object, Objects},
        protobuf::{self, Fields, Message},
        quantity::{self, Quantity},
        watch::ResourceVersion,
    },
    inventory::ContainerName,
    units::RealTime,
    view::Usage,
};

const LIST_META: u8 = 1;
const ITEMS: u8 = 2;

/// One object as a document.
pub fn one<T: Object>(encoder: &Encoder, part: Part, object: &T) -> Bytes {
    let (api_version, kind) = match part {
        Part::Whole => (encoder.version.api_version(), T::KIND),
        Part::Metadata(version) => (version.api_version(), "PartialObjectMetadata"),
    };
    protobuf::document(api_version, kind, &Item { encoder, part, object })
}

/// A list as a document, frame by frame. The envelope states the length of all: the objects are measured first, and
/// come a second time to be written.
pub fn list<L: Objects>(
    encoder: &Encoder,
    part: Part,
    objects: L,
) -> impl Iterator<Item = Bytes> + Send + use<L> {
    let list_kind;
    let (api_version, kind) = match part {
        Part::Whole => {
            list_kind = format!("{}List", <L::Object<'static>>::KIND);
            (encoder.version.api_version(), &*list_kind)
        }
        Part::Metadata(version) => (version.api_version(), "PartialObjectMetadataList"),
    };
    let metadata = ListMeta(encoder.at);
    let mut length = protobuf::delimited_length(metadata.length());
    objects.clone().visit_all(|object| {
        length += protobuf::delimited_length(Item { encoder, part, object }.length());
    });
    let mut head = BytesMut::with_capacity(length.min(super::FRAME + 4096) + 128);
    protobuf::open(&mut head, api_version, kind, length);
    head.message(LIST_META, &metadata);
    let encoder = encoder.clone();
    let around = Around { head, separator: b"", tail: &protobuf::TAIL };
    frames(around, objects, move |out, object| out.message(ITEMS, &Item { encoder: &encoder, part, object }))
}

/// `ListMeta`: only the version, where there are versions.
struct ListMeta(Option<ResourceVersion>);

impl Message for ListMeta {
    fn fields(&self, to: &mut impl Fields) {
        if let Some(version) = self.0 {
            to.text(2, &version.to_string());
        }
    }
}

/// NodeMetrics, PodMetrics or PartialObjectMetadata.
struct Item<'a, T> {
    encoder: &'a Encoder,
    part: Part,
    object: &'a T,
}

impl<T: Object> Message for Item<'_, T> {
    const PREFIX: usize = 2;

    fn fields(&self, to: &mut impl Fields) {
        let Self { encoder, part, object } = *self;
        let metadata = ObjectMeta { created: encoder.created, object };
        to.delimited(1, metadata.length(), |out| metadata.fields(out));
        if part != Part::Whole {
            return;
        }
        let (time, window) = (Time(object.measured().timestamp), Window(object.measured().window));
        to.delimited(2, time.length(), |out| time.fields(out));
        to.delimited(3, window.length(), |out| window.fields(out));
        match object.numbers() {
            Numbers::Usage(usage) => usage_entries(to, 4, usage, encoder.swap),
            Numbers::Containers(names, usages) => {
                for (name, usage) in names.iter().zip(usages) {
                    to.message(4, &ContainerMetrics { name, usage, swap: encoder.swap });
                }
            }
        }
    }
}

struct ObjectMeta<'a, T> {
    created: RealTime,
    object: &'a T,
}

impl<T: Object> Message for ObjectMeta<'_, T> {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.object.name());
        if !self.object.namespace().is_empty() {
            to.text(3, self.object.namespace());
        }
        if let Some(version) = self.object.resource_version() {
            to.text(6, &version.to_string());
        }
        let created = Time(self.created);
        to.delimited(8, created.length(), |out| created.fields(out));
        to.encoded(self.object.labels().protobuf());
    }
}

/// An instant, cut to whole seconds.
struct Time(RealTime);

impl Message for Time {
    fn fields(&self, to: &mut impl Fields) {
        to.number(1, self.0.0 / 1_000_000_000);
        to.number(2, 0);
    }
}

/// A duration in nanoseconds.
struct Window(Duration);

impl Message for Window {
    fn fields(&self, to: &mut impl Fields) {
        to.number(1, i64::try_from(self.0.as_nanos()).unwrap_or(i64::MAX).cast_unsigned());
    }
}

struct ContainerMetrics<'a> {
    name: &'a ContainerName,
    usage: &'a Usage,
    swap: bool,
}

impl Message for ContainerMetrics<'_> {
    fn fields(&self, to: &mut impl Fields) {
        to.encoded(self.name.protobuf());
        usage_entries(to, 2, self.usage, self.swap);
    }
}

/// The map of usage, sorted by key; `swap` where that is asked for and known.
#[inline]
fn usage_entries(to: &mut impl Fields, field: u8, usage: &Usage, swap: bool) {
    usage_entry(to, field, b"\x0a\x03cpu", quantity::cpu(usage.cpu));
    usage_entry(to, field, b"\x0a\x06memory", quantity::memory(usage.memory));
    if let Some(bytes) = usage.swap.filter(|_| swap) {
        usage_entry(to, field, b"\x0a\x04swap", quantity::memory(bytes));
    }
}

/// An entry of the map, whose key is encoded. All lengths in it are known before and short: that of the quantity's text
/// decides.
#[inline]
fn usage_entry<const KEY: usize>(to: &mut impl Fields, field: u8, key: &[u8; KEY], quantity: Quantity) {
    let text = quantity.length();
    let (value, entry) = (2 + text, KEY + 2 + 2 + text);
    to.delimited(field, entry, |out| {
        out.extend_from_slice(key);
        let short = |length: usize| u8::try_from(length).unwrap_or_default();
        out.extend_from_slice(&[2 << 3 | 2, short(value), 1 << 3 | 2, short(text)]);
        quantity.write(out);
    });
}
