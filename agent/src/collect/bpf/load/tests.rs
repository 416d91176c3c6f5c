use std::io;

use waggle_agent_ebpf::{CLASSES_MAP, LAYOUT_GLOBAL, LAYOUT_WORDS, RECORDS_MAP};

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
        "12: (85) call bpf_probe_read#4\nprogram of this type cannot use helper bpf_probe_read#4\n",
    ] {
        assert_eq!(refusal_of(&invalid, log).reason, Reason::Lockdown, "{log}");
    }
    let refusal = refusal_of(&denied, "0: R1=ctx()\n\nR2 invalid mem access\n3\n4\n5\n6\n7\n");
    assert_eq!(refusal.reason, Reason::VerifierRefused);
    assert!(refusal.detail.contains("R2 invalid mem access") && !refusal.detail.contains('7'), "{refusal}");
}

/// A global that is not read volatile is folded into the code as 0; the override then changes nothing and reports
/// nothing. So every word of the layout must be loaded in the built object.
#[test]
fn the_built_program_reads_the_whole_layout_from_memory() {
    let relocations = elf::relocations(OBJECT, "iter/cgroup");
    let count = |name: &str| relocations.iter().filter(|(_, found)| found == name).count();
    assert!(count(RECORDS_MAP) >= 2 && count(CLASSES_MAP) >= 1, "{relocations:?}");
    let loaded = elf::words_loaded_from(OBJECT, "iter/cgroup", LAYOUT_GLOBAL);
    let all: std::collections::BTreeSet<usize> = (0..LAYOUT_WORDS).map(|word| word * 4).collect();
    assert_eq!(loaded, all, "offsets of the words that the program loads");
}

/// A zero store that became `memset` costs twenty times the verifier's work.
#[test]
fn the_built_program_calls_no_function_of_its_own() {
    let relocations = elf::relocations(OBJECT, "iter/cgroup");
    assert!(!relocations.iter().any(|(_, name)| name.contains("mem")), "{relocations:?}");
    assert!(!relocations.iter().any(|(_, name)| name == ".text"), "{relocations:?}");
}

/// As much of ELF as the tests need: 64 bit, little-endian.
mod elf {
    use std::collections::{BTreeMap, BTreeSet};

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

    /// Offsets within the symbol `global` of the 32-bit loads of a section. Follows the address of the global from the
    /// instruction that has its relocation through moves between registers and the stack, in order of the code.
    pub(super) fn words_loaded_from(object: &[u8], section: &str, global: &str) -> BTreeSet<usize> {
        const LOAD_ADDRESS: u8 = 0x18;
        const LOAD_WORD: u8 = 0x61;
        const LOAD_DOUBLE: u8 = 0x79;
        const STORE_DOUBLE: u8 = 0x7b;
        const MOVE: u8 = 0xbf;
        const CALL: u8 = 0x85;
        const FRAME: usize = 10;
        let relocated: BTreeSet<usize> = relocations(object, section)
            .into_iter()
            .filter(|(_, name)| name == global)
            .map(|(at, _)| at)
            .collect();
        let all = sections(object);
        let body = all.iter().find(|s| s.name == section).unwrap().body.clone();
        let mut registers = [None::<usize>; 16];
        let mut stack: BTreeMap<i16, Option<usize>> = BTreeMap::new();
        let mut loaded = BTreeSet::new();
        for (at, instruction) in object[body].chunks_exact(8).enumerate() {
            let (code, to, from) =
                (instruction[0], usize::from(instruction[1] & 15), usize::from(instruction[1] >> 4));
            let offset = i16::from_le_bytes([instruction[2], instruction[3]]);
            match code {
                LOAD_ADDRESS => {
                    registers[to] = relocated.contains(&(at * 8)).then(|| number(instruction, 4, 4));
                }
                MOVE => registers[to] = registers[from],
                STORE_DOUBLE if to == FRAME => drop(stack.insert(offset, registers[from])),
                LOAD_DOUBLE if from == FRAME => registers[to] = stack.get(&offset).copied().flatten(),
                LOAD_WORD => {
                    loaded.extend(registers[from].map(|base| base + usize::try_from(offset).unwrap()));
                    registers[to] = None;
                }
                CALL => registers[..=5].fill(None),
                // The classes of instructions that write a register: loads and arithmetic.
                _ if matches!(code & 7, 0 | 1 | 4 | 7) => registers[to] = None,
                _ => {}
            }
        }
        loaded
    }

    /// Where a section's relocations are, and the names of the symbols that they refer to; of a section symbol, the
    /// section's.
    pub(super) fn relocations(object: &[u8], section: &str) -> Vec<(usize, String)> {
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
                let name = match text(object, names.body.start + number(object, symbol, 4)) {
                    name if name.is_empty() => all[number(object, symbol + 6, 2)].name.clone(),
                    name => name,
                };
                (number(object, at, 8), name)
            })
            .collect()
    }
}
