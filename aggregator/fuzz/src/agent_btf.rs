//! The kernel's type information. A blob of the running kernel is no stranger's, but a walker that trusted it would turn
//! an unknown compiler's output into a crash of every agent.

use waggle_agent::fuzzing::{Btf, Shape, TypeId, resolves};

use crate::Target;

/// Names that the agent looks up.
const STRUCTS: [&str; 4] = ["cgroup", "cgroup_subsys_state", "kernfs_node", "mem_cgroup"];
const MEMBERS: [&[&str]; 5] = [&["kn"], &["self", "parent"], &["bstat", "cputime"], &["vmstats"], &["css"]];
const FUNCTION: &str = "bpf_iter_cgroup";
const ENUMERATION: &str = "cgroup_subsys_id";

pub const TARGET: Target = Target {
    name: "agent-btf",
    run,
    seeds,
    words: &[
        "\u{0}cgroup\u{0}",
        "\u{0}cgroup_subsys_state\u{0}",
        "\u{0}kernfs_node\u{0}",
        "\u{0}mem_cgroup\u{0}",
        "\u{0}vmstats\u{0}",
        "\u{0}self\u{0}parent\u{0}",
        "\u{0}bpf_iter_cgroup\u{0}",
        "\u{0}cgroup_subsys_id\u{0}memory_cgrp_id\u{0}",
        "\u{0}\u{0}\u{0}\u{4}",
        "\u{1}\u{0}\u{0}\u{c}",
    ],
};

fn run(blob: &[u8]) {
    let Ok(btf) = Btf::parse(blob) else { return };
    let naive = naive_types(blob);
    let has = |kind: u32, name: &str, filled: bool| {
        naive.iter().any(|ty| ty.kind == kind && ty.name == name.as_bytes() && (!filled || ty.count > 0))
    };
    assert_eq!(btf.has_function(FUNCTION), has(12, FUNCTION, false), "{FUNCTION}");
    for name in STRUCTS {
        let found = btf.structure(name);
        assert_eq!(found.is_some(), has(4, name, true), "struct {name}");
        let Some(ty) = found else { continue };
        for path in MEMBERS {
            follow(&btf, ty, path);
        }
    }
    if btf.enumerator(ENUMERATION, "memory_cgrp_id").is_some() {
        assert!(has(6, ENUMERATION, true) || has(19, ENUMERATION, true), "enum {ENUMERATION}");
    }
    if resolves(&btf) {
        assert!(STRUCTS.iter().all(|name| has(4, name, true)), "resolved without one of {STRUCTS:?}");
    }
}

/// Follows a path and what it leads to; each step ends, whatever the types say.
fn follow(btf: &Btf<'_>, ty: TypeId, path: &[&str]) {
    let Some(member) = btf.member(ty, path) else { return };
    let mut shape = btf.shape(member.ty);
    for _ in 0..8 {
        let (Shape::Pointer(next) | Shape::Composite(next)) = shape else { break };
        shape = btf.shape(next);
    }
    if let Some((_, outer)) = path.split_last()
        && let Some(outer) = btf.member(ty, outer)
    {
        assert!(member.offset >= outer.offset, "{path:?} lies before what embeds it");
    }
}

struct Naive<'b> {
    kind: u32,
    count: u32,
    name: &'b [u8],
}

/// The types of a blob that was accepted, one after the other as `Documentation/bpf/btf.rst` lays them out.
fn naive_types(blob: &[u8]) -> Vec<Naive<'_>> {
    let word = |bytes: &[u8], at: usize| {
        let bytes = &bytes[at..at + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    let at = |field: usize| word(blob, field) as usize;
    let section = |from: usize, length: usize| &blob[at(4) + from..at(4) + from + length];
    let (types, strings) = (section(at(8), at(12)), section(at(16), at(20)));
    let mut found = Vec::new();
    let mut next = 0;
    while next < types.len() {
        let (name, info) = (word(types, next) as usize, word(types, next + 4));
        let (kind, count) = ((info >> 24) & 0x1f, info & 0xffff);
        let rest = match kind {
            1 | 14 | 17 => 4,
            3 => 12,
            4 | 5 | 15 | 19 => count as usize * 12,
            6 | 13 => count as usize * 8,
            _ => 0,
        };
        let text = strings.get(name..).unwrap_or_default();
        // A name without an end is none.
        let name = text.iter().position(|byte| *byte == 0).map_or(&b"\xff"[..], |end| &text[..end]);
        found.push(Naive { kind, count, name });
        next += 12 + rest;
    }
    found
}

/// Collects the strings of a blob.
#[derive(Default)]
struct Strings(Vec<u8>);

impl Strings {
    fn add(&mut self, text: &str) -> u32 {
        if self.0.is_empty() {
            self.0.push(0);
        }
        let at = u32::try_from(self.0.len()).unwrap_or_default();
        self.0.extend(text.bytes().chain([0]));
        at
    }
}

fn blob(types: &[u32], strings: &Strings) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or_default();
    let header = [24, 0, length(types.len() * 4), length(types.len() * 4), length(strings.0.len())];
    let words = header.iter().chain(types).flat_map(|word| word.to_le_bytes());
    [0x9f, 0xeb, 1, 0].into_iter().chain(words).chain(strings.0.iter().copied()).collect()
}

fn seeds() -> Vec<Vec<u8>> {
    let mut strings = Strings::default();
    let [cgroup, kn, this, parent, css] =
        ["cgroup", "kn", "self", "parent", "cgroup_subsys_state"].map(|name| strings.add(name));
    let [function, enumeration, memory] =
        [FUNCTION, ENUMERATION, "memory_cgrp_id"].map(|name| strings.add(name));
    let [mem_cgroup, vmstats, css_member] = ["mem_cgroup", "vmstats", "css"].map(|name| strings.add(name));
    let head = |name: u32, kind: u32, count: u32, value: u32| [name, kind << 24 | count, value];
    // 1: a pointer to type 2; 2: a css that embeds a pointer; 3: a cgroup that embeds a css; 4: a function.
    let pointer = head(0, 2, 0, 2).to_vec();
    let state = [&head(css, 4, 1, 8)[..], &[parent, 1, 0]].concat();
    let structure = [&head(cgroup, 4, 2, 16)[..], &[kn, 1, 0], &[this, 2, 64]].concat();
    let declared = head(function, 12, 0, 0).to_vec();
    let numbers = [&head(enumeration, 6, 1, 4)[..], &[memory, 4]].concat();
    let wide = [&head(enumeration, 19, 1, 8)[..], &[memory, 4, 0]].concat();
    // A member without a name, whose type is the struct itself.
    let looping =
        [&head(mem_cgroup, 4, 3, 16)[..], &[css_member, 2, 0], &[0, 4, 0], &[vmstats, 1, 64]].concat();
    let all = [&*pointer, &state, &structure, &looping, &declared, &numbers, &wide].concat();
    vec![
        blob(&[], &strings),
        blob(&pointer, &strings),
        blob(&[&*pointer, &state].concat(), &strings),
        blob(&[&*pointer, &state, &structure].concat(), &strings),
        blob(&all, &strings),
        blob(&all, &Strings::default()),
    ]
}
