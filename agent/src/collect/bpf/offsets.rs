//! Where the fields that the program reads lie in the running kernel. Pure: BTF in, the program's [`Layout`] out.
//!
//! Structs move with every kernel and configuration, so no number is compiled in. Without its core (what identifies a
//! cgroup) the program is refused; any other field that cannot be resolved is left out of the walk alone.

use waggle_agent_ebpf::Layout;

use super::btf::{Btf, Shape, TypeId};
use crate::collect::{Field, Fields, Reason, Refusal};

/// If BTF has this function, the kernel can iterate cgroups.
const ITERATOR: &str = "bpf_iter_cgroup";
/// Flushes every subsystem of a subtree: up to 6.15 reading `cpu.stat` ends there.
const FLUSHES_ALL: &str = "cgroup_rstat_flush";
/// The last of the five LRU items. Beyond them a slot of `state[]` is not the enumerator's value (since about 6.10).
const LAST_LRU_ITEM: i64 = 4;
/// Size of a pointer and of a counter.
const WORD: i64 = 8;

/// What the kernel's BTF provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// For the program.
    pub(crate) layout: Layout,
    /// Fields that the walk cannot read, each with the reason.
    pub(crate) missing: Vec<(Field, Refusal)>,
    /// Whether reading `cpu.stat` leaves memory counters unflushed. Commit 5da3bfa029d6 (6.16) made the flush one of a
    /// single subsystem (`css_rstat_flush`); a kernel of unknown names is flushed both ways.
    pub(crate) flush_memory: bool,
}

impl Offsets {
    /// Resolves the core, then each field.
    pub(crate) fn resolve(btf: &Btf<'_>) -> Result<Self, Refusal> {
        if !btf.has_function(ITERATOR) {
            let detail = format!(
                "the kernel has no function {ITERATOR}, which came with Linux 6.1: upgrade the node's kernel to use eBPF"
            );
            return Err(Refusal::new(Reason::NoCgroupIter, detail));
        }
        let cgroup = Struct::find(btf, "cgroup")?;
        let mut layout = Layout {
            cgroup_kn: cgroup.member("cgroup.kn", &["kn"])?,
            cgroup_level: cgroup.member("cgroup.level", &["level"])?,
            kernfs_node_id: Struct::find(btf, "kernfs_node")?.member("kernfs_node.id", &["id"])?,
            ..Layout::default()
        };
        let (mut found, mut missing) = (Fields::NONE, Vec::new());
        let mut resolved = |field: Field, result: Result<(), Refusal>| match result {
            Ok(()) => found = found.with(field),
            Err(refusal) => missing.push((field, refusal)),
        };
        let cpu = cgroup.member("cgroup.bstat", &["bstat", "cputime", "sum_exec_runtime"]);
        resolved(Field::Cpu, cpu.map(|offset| layout.cgroup_cpu = offset));
        match Memory::resolve(btf, &cgroup, &mut layout) {
            Ok(memory) => {
                resolved(Field::Usage, memory.usage(&mut layout));
                resolved(Field::InactiveFile, memory.inactive_file(&mut layout));
                resolved(Field::Swap, memory.swap(&mut layout));
            }
            Err(refusal) => {
                for field in [Field::Usage, Field::InactiveFile, Field::Swap] {
                    resolved(field, Err(refusal.clone()));
                }
            }
        }
        layout.groups = found.bits();
        let flush_memory = !btf.has_function(FLUSHES_ALL);
        if !flush_memory {
            // `cgroup_rstat_flush` has no threshold: it never skips a cgroup.
            layout.vmstats_updates = 0;
        }
        Ok(Self { layout, missing, flush_memory })
    }
}

/// `struct mem_cgroup`, reached from a cgroup.
struct Memory<'a, 'b>(Struct<'a, 'b>);

impl<'a, 'b> Memory<'a, 'b> {
    fn resolve(btf: &'a Btf<'b>, cgroup: &Struct<'_, '_>, layout: &mut Layout) -> Result<Self, Refusal> {
        let memory = Struct::find(btf, "mem_cgroup")?;
        // The program takes the css pointer for the object that embeds it.
        if memory.member("mem_cgroup.css", &["css"])? != 0 {
            return Err(missing("mem_cgroup.css", "it is not the first member"));
        }
        let subsys = cgroup.member("cgroup.subsys", &["subsys"])?;
        let memory_id = enumerator(btf, "cgroup_subsys_id", "memory_cgrp_id", "memory_cgrp_id", 63)?;
        layout.cgroup_memory_css = subsys
            .checked_add(memory_id)
            .ok_or_else(|| missing("cgroup.subsys", "its offset is too large"))?;
        layout.css_flags =
            Struct::find(btf, "cgroup_subsys_state")?.member("cgroup_subsys_state.flags", &["flags"])?;
        Ok(Self(memory))
    }

    fn usage(&self, layout: &mut Layout) -> Result<(), Refusal> {
        layout.mem_cgroup_usage = self.0.member("mem_cgroup.memory.usage", &["memory", "usage"])?;
        Ok(())
    }

    fn swap(&self, layout: &mut Layout) -> Result<(), Refusal> {
        layout.mem_cgroup_swap = self.0.member("mem_cgroup.swap.usage", &["swap", "usage"])?;
        Ok(())
    }

    /// `mem_cgroup.vmstats`: a pointer since 5.19, an embedded struct or array before.
    fn inactive_file(&self, layout: &mut Layout) -> Result<(), Refusal> {
        const NAME: &str = "mem_cgroup.vmstats";
        let btf = self.0.btf;
        let member = btf.member(self.0.ty, &["vmstats"]).ok_or_else(|| missing(NAME, "no such member"))?;
        let slot = enumerator(btf, "node_stat_item", "NR_INACTIVE_FILE", "NR_INACTIVE_FILE", LAST_LRU_ITEM)?;
        let mut updates = 0;
        let mut state = |ty| {
            let found =
                btf.member(ty, &["state"]).ok_or_else(|| missing("memcg_vmstats.state", "no such member"))?;
            updates = btf.member(ty, &["stats_updates"]).map_or(0, |found| found.offset);
            let offset = found.offset.checked_add(slot);
            offset.ok_or_else(|| missing("memcg_vmstats.state", "its offset is too large"))
        };
        let (offset, is_pointer) = match btf.shape(member.ty) {
            Shape::Pointer(target) => match btf.shape(target) {
                Shape::Composite(ty) => (state(ty)?, true),
                // A declaration only: the definition is elsewhere in the BTF.
                _ => (state(Struct::find(btf, "memcg_vmstats")?.ty)?, true),
            },
            Shape::Composite(ty) => (state(ty)?, false),
            Shape::Array => (slot, false),
            Shape::Other => return Err(missing(NAME, "it is neither pointer nor struct nor array")),
        };
        layout.mem_cgroup_vmstats = member.offset;
        layout.vmstats_is_pointer = is_pointer.into();
        layout.vmstats_inactive_file = offset;
        layout.vmstats_updates = updates;
        Ok(())
    }
}

struct Struct<'a, 'b> {
    btf: &'a Btf<'b>,
    ty: TypeId,
}

impl<'a, 'b> Struct<'a, 'b> {
    fn find(btf: &'a Btf<'b>, name: &'static str) -> Result<Self, Refusal> {
        let ty = btf.structure(name).ok_or_else(|| missing(name, "no such struct"))?;
        Ok(Self { btf, ty })
    }

    fn member(&self, name: &'static str, path: &[&str]) -> Result<u32, Refusal> {
        let found = self.btf.member(self.ty, path).ok_or_else(|| missing(name, "no such member"))?;
        Ok(found.offset)
    }
}

/// An enumerator as the offset of its slot in an array of words.
fn enumerator(btf: &Btf<'_>, of: &str, value: &str, name: &'static str, most: i64) -> Result<u32, Refusal> {
    let found = btf.enumerator(of, value).ok_or_else(|| missing(name, "no such enumerator"))?;
    if !(0..=most).contains(&found) {
        return Err(missing(name, "its value is not one that has a slot of its own"));
    }
    u32::try_from(found * WORD).map_err(|_| missing(name, "its value is too large"))
}

fn missing(name: &'static str, why: &str) -> Refusal {
    Refusal::new(
        Reason::FieldMissing(name),
        format!("the kernel's BTF lacks {name} ({why}): report the kernel version, files are read instead"),
    )
}

#[cfg(test)]
mod tests;
