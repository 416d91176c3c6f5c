//! Section 9: protobuf, read field by field without any generated code.

use crate::world::{BASE, World, header};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A field: its number, and its bytes or its integer.
#[derive(Debug, Clone, PartialEq)]
enum Field<'a> {
    Bytes(u64, &'a [u8]),
    Integer(u64, u64),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        fields.push(match tag & 7 {
            0 => Field::Integer(tag >> 3, varint(&mut bytes)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (field, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(tag >> 3, field)
            }
            other => panic!("wire type {other}"),
        });
    }
    fields
}

/// All bytes at the end of a path of field numbers.
fn at<'a>(bytes: &'a [u8], path: &[u64]) -> Vec<&'a [u8]> {
    let Some((first, rest)) = path.split_first() else { return vec![bytes] };
    let matching = fields(bytes).into_iter().filter_map(|field| match field {
        Field::Bytes(number, bytes) if number == *first => Some(bytes),
        _ => None,
    });
    matching.flat_map(|bytes| at(bytes, rest)).collect()
}

fn texts(bytes: &[u8], path: &[u64]) -> Vec<String> {
    at(bytes, path).into_iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
}

fn integers(bytes: &[u8], path: &[u64], number: u64) -> Vec<u64> {
    let inside = at(bytes, path).into_iter().flat_map(fields);
    inside
        .filter_map(|field| match field {
            Field::Integer(known, value) if known == number => Some(value),
            _ => None,
        })
        .collect()
}

/// The parts of the envelope: apiVersion, kind, object.
fn opened(bytes: &[u8]) -> (String, String, &[u8]) {
    let unknown = bytes.strip_prefix(b"k8s\0").unwrap();
    let order: Vec<u64> = fields(unknown)
        .into_iter()
        .map(|field| match field {
            Field::Bytes(number, _) | Field::Integer(number, _) => number,
        })
        .collect();
    assert_eq!(order, [1, 2, 3, 4], "the envelope's fields");
    assert_eq!((at(unknown, &[3]), at(unknown, &[4])), (vec![&b""[..]], vec![&b""[..]]));
    (texts(unknown, &[1, 1]).concat(), texts(unknown, &[1, 2]).concat(), at(unknown, &[2])[0])
}

#[test]
fn protobuf_says_what_the_contract_says() {
    World::shared().table("section 9", async |rows, client| {
        let answer = client.accepting(&format!("{BASE}/v1/namespaces/shop/pods"), PROTOBUF).await;
        rows.same("type", header(&answer, "content-type"), PROTOBUF);
        let (version, kind, list) = opened(&answer.bytes);
        rows.same("envelope", (&*version, &*kind), ("metrics.k8s.io/v1", "PodMetricsList"));
        rows.same("names", texts(list, &[2, 1, 1]), vec!["db-0".to_owned(), "web-0".to_owned()]);
        rows.same("namespaces", texts(list, &[2, 1, 3]), vec!["shop".to_owned(), "shop".to_owned()]);
        rows.same(
            "labels, sorted",
            texts(list, &[2, 1, 11, 1]),
            ["app", "rev", "tier"].map(Into::into).to_vec(),
        );
        rows.same("windows, ns", integers(list, &[2, 3], 1), vec![2_000_000_000; 2]);
        rows.same("timestamps have no nanoseconds", integers(list, &[2, 2], 2), vec![0; 2]);
        rows.same("creation times", integers(list, &[2, 1, 8], 1).len(), 2);
        let containers = ["db", "web", "extra", "proxy", "debug"].map(Into::into).to_vec();
        rows.same("containers", texts(list, &[2, 4, 1]), containers);
        rows.same(
            "usage keys",
            texts(list, &[2, 4, 2, 1]),
            ["cpu", "memory"].repeat(5).iter().map(ToString::to_string).collect(),
        );
        let quantities = ["250m", "50Mi", "1234624492n", "3145732Ki", "0", "0", "1", "4Ki", "1500u", "12Ki"];
        rows.same("quantities", texts(list, &[2, 4, 2, 2, 1]), quantities.map(Into::into).to_vec());

        let beta = client.accepting(&format!("{BASE}/v1beta1/nodes/node-a"), PROTOBUF).await;
        let (version, kind, node) = opened(&beta.bytes);
        rows.same("envelope", (&*version, &*kind), ("metrics.k8s.io/v1beta1", "NodeMetrics"));
        rows.same("node", texts(node, &[4, 2, 1]), vec!["500m".to_owned(), "512Mi".to_owned()]);

        let missing = client.accepting(&format!("{BASE}/v1/nodes/nope"), PROTOBUF).await;
        rows.same("Status", missing.status.as_u16(), 404);
        let (version, kind, status) = opened(&missing.bytes);
        rows.same("Status: envelope", (&*version, &*kind), ("v1", "Status"));
        rows.same("Status: message", texts(status, &[3]), vec!["node \"nope\" not found".to_owned()]);
        rows.same("Status: reason", texts(status, &[4]), vec!["NotFound".to_owned()]);
        rows.same("Status: details", texts(status, &[5, 3]), vec!["node".to_owned()]);
        rows.same("Status: code", integers(status, &[], 6), vec![404]);

        let groups = client.accepting("/apis", PROTOBUF).await;
        let (_, kind, groups) = opened(&groups.bytes);
        rows.same(
            "groups",
            (&*kind, texts(groups, &[1, 1])),
            ("APIGroupList", vec!["metrics.k8s.io".to_owned()]),
        );
        let resources = client.accepting(&format!("{BASE}/v1"), PROTOBUF).await;
        let (_, kind, resources) = opened(&resources.bytes);
        rows.same("resources", &*kind, "APIResourceList");
        rows.same("names", texts(resources, &[2, 1]), vec!["nodes".to_owned(), "pods".to_owned()]);
        rows.same(
            "verbs",
            texts(resources, &[2, 4, 1]),
            ["get", "list"].repeat(2).iter().map(ToString::to_string).collect(),
        );
    });
}

#[test]
fn both_versions_have_the_same_bytes() {
    World::shared().table("section 9, versions", async |rows, client| {
        let of = async |version: &str| {
            client.accepting(&format!("{BASE}/{version}/nodes/node-a"), PROTOBUF).await.bytes.to_vec()
        };
        let (one, other) = (of("v1").await, of("v1beta1").await);
        let (_, _, one) = opened(&one);
        let (_, _, other) = opened(&other);
        // Two requests may fall into two seconds.
        let without_creation =
            |node: &[u8]| (at(node, &[1, 1]).concat(), at(node, &[2]).concat(), at(node, &[4]).concat());
        rows.same("bytes of the object", without_creation(one), without_creation(other));
    });
}
