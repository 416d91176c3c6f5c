//! Tables, as `kubectl get` prints them (metrics-server, `pkg/api/table.go`).

use bytes::BytesMut;

use super::{
    encode::Columns, json, negotiate::MetaVersion, object::Object, quantity, quoted::Quoted, status::Failure,
};

/// What rows carry besides their cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    /// Nothing: `null`.
    None,
    /// PartialObjectMetadata.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl Include {
    /// From the query parameter `includeObject`.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(Failure::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {}: must be \
                 'Metadata', 'Object', 'None', or empty",
                Quoted(other)
            ))),
        }
    }
}

/// Appends everything up to the first row. An empty Table has no columns (`None`) and no rows, only `null`.
pub fn head(out: &mut BytesMut, version: MetaVersion, metadata: &str, columns: Option<Columns>) {
    json::raw(out, "{\"kind\":\"Table\",\"apiVersion\":\"");
    json::raw(out, version.api_version());
    json::raw(out, "\",\"metadata\":");
    json::raw(out, metadata);
    json::raw(out, ",\"columnDefinitions\":");
    let Some(Columns { headed, swap }) = columns else {
        return json::raw(out, "null,\"rows\":null");
    };
    if !headed {
        return json::raw(out, "null,\"rows\":[");
    }
    column(out, "[", "Name", "name", "Name of the resource");
    column(out, ",", "cpu", "quantity", "");
    column(out, ",", "memory", "quantity", "");
    if swap {
        column(out, ",", "swap", "quantity", "");
    }
    column(out, ",", "Window", "duration", "");
    json::raw(out, "],\"rows\":[");
}

fn column(out: &mut BytesMut, before: &str, name: &str, format: &str, description: &str) {
    for part in [
        before,
        "{\"name\":\"",
        name,
        "\",\"type\":\"string\",\"format\":\"",
        format,
        "\",\"description\":\"",
        description,
        "\",\"priority\":0}",
    ] {
        json::raw(out, part);
    }
}

/// Appends a row up to the value of `object`.
pub fn cells<T: Object>(out: &mut BytesMut, object: &T, swap: bool) {
    let total = object.total();
    json::raw(out, "{\"cells\":[");
    json::string(out, object.name());
    json::raw(out, ",\"");
    quantity::cpu(total.cpu).write(out);
    json::raw(out, "\",\"");
    quantity::memory(total.memory).write(out);
    if swap {
        json::raw(out, "\",\"");
        quantity::memory(total.swap.unwrap_or_default()).write(out);
    }
    json::raw(out, "\",\"");
    quantity::duration(out, object.measured().window);
    json::raw(out, "\"],\"object\":");
}
