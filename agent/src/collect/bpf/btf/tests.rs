use proptest::prelude::*;

use super::sample::Blob;
use super::{Btf, BtfError, Shape};

fn sample() -> Vec<u8> {
    let mut blob = Blob::new();
    let long = blob.int("long", 8);
    let counter = blob.structure("page_counter", &[("usage", long, 0), ("watermark", long, 112)]);
    blob.forward("mem_cgroup");
    let swap = blob.union("", &[("swap", counter, 0), ("memsw", counter, 0)]);
    let deeper = blob.structure("", &[("", swap, 8)]);
    let qualified = blob.volatile(counter);
    let memory = blob.typedef("counter_t", qualified);
    blob.structure("mem_cgroup", &[("memory", memory, 192), ("", deeper, 440)]);
    blob.pointer(counter);
    blob.enumeration("ids", &[("first", 0), ("minus", -1), ("fourth", 4)]);
    blob.enumeration64("wide", &[("big", 1 << 40)]);
    blob.function("bpf_iter_cgroup");
    blob.bytes()
}

#[test]
fn members_are_found_through_typedefs_qualifiers_and_anonymous_members() {
    let blob = sample();
    let btf = Btf::parse(&blob).unwrap();
    let group = btf.structure("mem_cgroup").expect("the one with members, not the forward declaration");
    let offset = |path: &[&str]| btf.member(group, path).map(|member| member.offset);
    assert_eq!(offset(&["memory", "watermark"]), Some(304));
    assert_eq!(offset(&["swap", "usage"]), Some(448));
    assert_eq!(offset(&["memsw", "watermark"]), Some(560));
    assert_eq!(offset(&["memory", "none"]), None);
    assert_eq!(offset(&["memory", "usage", "deeper"]), None, "a number has no members");
    assert_eq!(btf.structure("page_count"), None, "a prefix is not a name");
}

#[test]
fn enumerators_and_functions_are_found_by_name() {
    let blob = sample();
    let btf = Btf::parse(&blob).unwrap();
    assert_eq!(btf.enumerator("ids", "fourth"), Some(4));
    assert_eq!(btf.enumerator("ids", "minus"), Some(-1));
    assert_eq!(btf.enumerator("ids", "fifth"), None);
    assert_eq!(btf.enumerator("others", "fourth"), None);
    assert_eq!(btf.enumerator("wide", "big"), Some(1 << 40));
    assert!(btf.has_function("bpf_iter_cgroup"));
    assert!(!btf.has_function("bpf_iter_task"));
}

#[test]
fn shapes_are_told_apart() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let array = blob.array(int, 3);
    let inner = blob.structure("inner", &[("x", int, 0)]);
    let pointer = blob.pointer(inner);
    blob.structure("s", &[("a", array, 0), ("i", inner, 16), ("p", pointer, 24), ("n", int, 32)]);
    let blob = blob.bytes();
    let btf = Btf::parse(&blob).unwrap();
    let s = btf.structure("s").unwrap();
    let shape = |name| btf.shape(btf.member(s, &[name]).unwrap().ty);
    assert_eq!(shape("a"), Shape::Array);
    assert_eq!(shape("i"), Shape::Composite(btf.structure("inner").unwrap()));
    assert_eq!(shape("p"), Shape::Pointer(btf.structure("inner").unwrap()));
    assert_eq!(shape("n"), Shape::Other);
}

#[test]
fn a_struct_that_contains_itself_ends() {
    let mut blob = Blob::new();
    blob.structure("loop", &[("", 1, 0), ("", 1, 8), ("", 2, 0), ("", 2, 4)]);
    blob.typedef("turn", 2);
    let blob = blob.bytes();
    let btf = Btf::parse(&blob).unwrap();
    assert_eq!(btf.member(btf.structure("loop").unwrap(), &["x"]), None);
}

#[test]
fn what_cannot_be_walked_is_named() {
    assert_eq!(Btf::parse(b"").unwrap_err(), BtfError::Short);
    assert_eq!(Btf::parse(b"\x7fELF....").unwrap_err(), BtfError::Magic);
    let mut blob = Blob::new();
    blob.unknown_kind();
    assert_eq!(Btf::parse(&blob.bytes()).unwrap_err(), BtfError::Kind(31));
}

/// Runs every query of the resolver on a blob that parses.
fn ask(bytes: &[u8]) {
    if let Ok(btf) = Btf::parse(bytes) {
        btf.has_function("bpf_iter_cgroup");
        btf.enumerator("ids", "fourth");
        btf.enumerator("wide", "big");
        for name in ["mem_cgroup", "page_counter"] {
            if let Some(group) = btf.structure(name) {
                for path in [&["memory", "usage"][..], &["swap", "watermark"], &["x"]] {
                    if let Some(member) = btf.member(group, path) {
                        btf.shape(member.ty);
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        ask(&bytes);
        let mut headed = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
        headed.extend(&bytes);
        ask(&headed);
    }

    #[test]
    fn a_truncated_blob_is_taken(cut in 0usize..sample().len()) {
        let blob = sample();
        prop_assert!(Btf::parse(&blob[..cut]).is_err());
    }

    #[test]
    fn a_corrupt_blob_is_taken(changes in proptest::collection::vec((0usize..sample().len(), any::<u8>()), 1..12)) {
        let mut blob = sample();
        for (at, byte) in changes {
            blob[at] = byte;
        }
        ask(&blob);
    }
}
