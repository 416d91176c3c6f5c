use std::io;

use super::{OBJECT, refusal_of};
use crate::collect::Reason;

#[test]
fn what_the_kernel_says_becomes_a_named_reason() {
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let invalid = io::Error::from(io::ErrorKind::InvalidInput);
    assert_eq!(refusal_of(&denied, "").reason, Reason::LoadRefused);
    for log in [
        "0: (85) call bpf_probe_read_kernel#113\nunknown func bpf_probe_read_kernel#113\n",
        "program of this type cannot use helper bpf_probe_read_kernel#113",
    ] {
        assert_eq!(refusal_of(&invalid, log).reason, Reason::Lockdown, "{log}");
    }
    let refusal = refusal_of(&denied, "0: R1=ctx()\n\nR2 invalid mem access\n3\n4\n5\n6\n7\n");
    assert_eq!(refusal.reason, Reason::VerifierRefused);
    assert!(refusal.detail.contains("R2 invalid mem access") && !refusal.detail.contains('7'), "{refusal}");
}

/// A global that is not read volatile is folded into the code as 0; the override then changes nothing and reports
/// nothing. So every global of the program must be the target of a relocation in the built object.
#[test]
fn the_built_program_reads_every_global_from_memory() {
    let relocations = elf::relocations(OBJECT, "iter/cgroup");
    for name in [
        "OFF_CGROUP_KN",
        "OFF_CGROUP_LEVEL",
        "OFF_CGROUP_CPU",
        "OFF_CGROUP_PARENT_CSS",
        "OFF_CGROUP_MEMORY_CSS",
        "OFF_CSS_CGROUP",
        "OFF_CSS_FLAGS",
        "OFF_KN_ID",
        "OFF_MEMCG_USAGE",
        "OFF_MEMCG_WATERMARK",
        "OFF_MEMCG_SWAP",
        "OFF_MEMCG_VMSTATS",
        "OFF_VMSTATS_INACTIVE_FILE",
        "VMSTATS_IS_POINTER",
        "HAS_SWAP",
        "MAX_DEPTH",
    ] {
        assert!(relocations.iter().any(|found| found == name), "{name} is not read: {relocations:?}");
    }
    assert!(relocations.iter().filter(|name| *name == "WAGGLE_RECORDS").count() >= 2);
}

/// A zero store that became `memset` costs twenty times the verifier's work.
#[test]
fn the_built_program_calls_no_function_of_its_own() {
    let relocations = elf::relocations(OBJECT, "iter/cgroup");
    assert!(
        !relocations.iter().any(|name| name.contains("mem") && !name.starts_with("OFF_")),
        "{relocations:?}"
    );
    assert!(!relocations.iter().any(|name| name == ".text"), "{relocations:?}");
}

/// As much of ELF as the tests need: 64 bit, little-endian.
mod elf {
    fn number(bytes: &[u8], at: usize, width: usize) -> usize {
        let mut word = [0; 8];
        word[..width].copy_from_slice(&bytes[at..at + width]);
        usize::try_from(u64::from_le_bytes(word)).unwrap()
    }

    fn text(bytes: &[u8], at: usize) -> String {
        let end = bytes[at..].iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8(bytes[at..at + end].to_vec()).unwrap()
    }

    struct Section {
        name: String,
        kind: usize,
        link: usize,
        body: std::ops::Range<usize>,
    }

    fn sections(object: &[u8]) -> Vec<Section> {
        let (table, count, names) = (number(object, 40, 8), number(object, 60, 2), number(object, 62, 2));
        let at = |index: usize| table + index * 64;
        let body = |index| {
            let start = number(object, at(index) + 24, 8);
            start..start + number(object, at(index) + 32, 8)
        };
        (0..count)
            .map(|index| Section {
                name: text(object, body(names).start + number(object, at(index), 4)),
                kind: number(object, at(index) + 4, 4),
                link: number(object, at(index) + 40, 4),
                body: body(index),
            })
            .collect()
    }

    /// The names of the symbols that a section's relocations refer to; of a section symbol, the section's.
    pub(super) fn relocations(object: &[u8], section: &str) -> Vec<String> {
        const REL: usize = 9;
        let all = sections(object);
        let rel = all.iter().find(|s| s.kind == REL && s.name == format!(".rel{section}")).unwrap();
        let symbols = &all[rel.link];
        let names = &all[symbols.link];
        rel.body
            .clone()
            .step_by(16)
            .map(|at| {
                let symbol = symbols.body.start + number(object, at + 12, 4) * 24;
                match text(object, names.body.start + number(object, symbol, 4)) {
                    name if name.is_empty() => all[number(object, symbol + 6, 2)].name.clone(),
                    name => name,
                }
            })
            .collect()
    }
}
