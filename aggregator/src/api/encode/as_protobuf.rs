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
        to.message(2, &Time(object.measured().timestamp));
        to.message(3, &Window(object.measured().window));
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
        to.message(8, &Time(self.created));
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
fn usage_entries(to: &mut impl Fields, field: u8, usage: &Usage, swap: bool) {
    usage_entry(to, field, "cpu", quantity::cpu(usage.cpu));
    usage_entry(to, field, "memory", quantity::memory(usage.memory));
    if let Some(bytes) = usage.swap.filter(|_| swap) {
        usage_entry(to, field, "swap", quantity::memory(bytes));
    }
}

/// An entry of the map. All lengths in it are known before: that of the quantity's text decides.
fn usage_entry(to: &mut impl Fields, field: u8, key: &'static str, quantity: Quantity) {
    let text = quantity.length();
    let value = protobuf::delimited_length(text);
    let entry = protobuf::delimited_length(key.len()) + protobuf::delimited_length(value);
    to.delimited(field, entry, |out| {
        out.text(1, key);
        out.delimited(2, value, |out| out.delimited(1, text, |out| quantity.write(out)));
    });
}
