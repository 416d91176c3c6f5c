//! Where the fields that the program reads lie in the running kernel. Pure: BTF in, the program's globals out.
//!
//! Structs move with every kernel and configuration, so no number is compiled in. A missing field of the core refuses
//! the walk by name; missing swap only leaves swap out.

use super::btf::{Btf, Shape, TypeId};
use crate::collect::{Reason, Refusal};

/// The function whose presence means that the kernel can iterate cgroups.
const ITERATOR: &str = "bpf_iter_cgroup";
/// The last of the five LRU items. Beyond them a slot of `state[]` is not the enumerator's value (since about 6.10).
const LAST_LRU_ITEM: i64 = 4;
/// Size of a pointer and of a counter.
const WORD: i64 = 8;

/// The program's globals, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offsets {
    globals: Vec<(&'static str, u32)>,
}

impl Offsets {
    /// Resolves all fields.
    pub fn resolve(btf: &Btf<'_>) -> Result<Self, Refusal> {
        if !btf.has_function(ITERATOR) {
            let detail = format!("the kernel's BTF has no function {ITERATOR}: it came with Linux 6.1");
            return Err(Refusal::new(Reason::NoCgroupIter, detail));
        }
        let cgroup = Struct::find(btf, "cgroup")?;
        let css = Struct::find(btf, "cgroup_subsys_state")?;
        let node = Struct::find(btf, "kernfs_node")?;
        let memory = Struct::find(btf, "mem_cgroup")?;
        // The program takes the css pointer for the object that embeds it.
        if memory.member("mem_cgroup.css", &["css"])? != 0 {
            return Err(missing("mem_cgroup.css", "it is not the first member"));
        }
        let subsys = cgroup.member("cgroup.subsys", &["subsys"])?;
        let memory_id = enumerator(btf, "cgroup_subsys_id", "memory_cgrp_id", "memory_cgrp_id", 63)?;
        let vmstats = Vmstats::resolve(btf, &memory)?;
        let swap = memory.member("mem_cgroup.swap", &["swap", "usage"]).ok();
        let globals = vec![
            ("OFF_CGROUP_KN", cgroup.member("cgroup.kn", &["kn"])?),
            ("OFF_CGROUP_LEVEL", cgroup.member("cgroup.level", &["level"])?),
            ("OFF_CGROUP_CPU", cgroup.member("cgroup.bstat", &["bstat", "cputime", "sum_exec_runtime"])?),
            ("OFF_CGROUP_PARENT_CSS", cgroup.member("cgroup.self.parent", &["self", "parent"])?),
            ("OFF_CGROUP_MEMORY_CSS", subsys + memory_id),
            ("OFF_CSS_CGROUP", css.member("cgroup_subsys_state.cgroup", &["cgroup"])?),
            ("OFF_CSS_FLAGS", css.member("cgroup_subsys_state.flags", &["flags"])?),
            ("OFF_KN_ID", node.member("kernfs_node.id", &["id"])?),
            ("OFF_MEMCG_USAGE", memory.member("mem_cgroup.memory.usage", &["memory", "usage"])?),
            ("OFF_MEMCG_WATERMARK", memory.member("mem_cgroup.memory.watermark", &["memory", "watermark"])?),
            ("OFF_MEMCG_SWAP", swap.unwrap_or_default()),
            ("OFF_MEMCG_VMSTATS", vmstats.member),
            ("OFF_VMSTATS_INACTIVE_FILE", vmstats.inactive_file),
            ("VMSTATS_IS_POINTER", vmstats.is_pointer.into()),
            ("HAS_SWAP", swap.is_some().into()),
        ];
        Ok(Self { globals })
    }

    /// Name and value of each.
    pub fn globals(&self) -> &[(&'static str, u32)] {
        &self.globals
    }

    /// Whether the walk reads swap.
    pub fn has_swap(&self) -> bool {
        self.globals.contains(&("HAS_SWAP", 1))
    }
}

/// `mem_cgroup.vmstats`: a pointer since 5.19, an embedded struct or array before.
struct Vmstats {
    member: u32,
    inactive_file: u32,
    is_pointer: bool,
}

impl Vmstats {
    fn resolve(btf: &Btf<'_>, memory: &Struct<'_, '_>) -> Result<Self, Refusal> {
        const NAME: &str = "mem_cgroup.vmstats";
        let member = btf.member(memory.ty, &["vmstats"]).ok_or_else(|| missing(NAME, "no such member"))?;
        let slot = enumerator(btf, "node_stat_item", "NR_INACTIVE_FILE", "NR_INACTIVE_FILE", LAST_LRU_ITEM)?;
        let state = |ty| {
            let found =
                btf.member(ty, &["state"]).ok_or_else(|| missing("memcg_vmstats.state", "no such member"))?;
            Ok(found.offset + slot)
        };
        let (inactive_file, is_pointer) = match btf.shape(member.ty) {
            Shape::Pointer(target) => match btf.shape(target) {
                Shape::Composite(ty) => (state(ty)?, true),
                // A declaration only: the definition is elsewhere in the BTF.
                _ => (state(Struct::find(btf, "memcg_vmstats")?.ty)?, true),
            },
            Shape::Composite(ty) => (state(ty)?, false),
            Shape::Array => (slot, false),
            Shape::Other => return Err(missing(NAME, "it is neither pointer nor struct nor array")),
        };
        Ok(Self { member: member.offset, inactive_file, is_pointer })
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
    Refusal::new(Reason::FieldMissing(name), format!("{name} in the kernel's BTF: {why}"))
}

#[cfg(test)]
mod tests;
