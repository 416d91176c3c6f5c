//! The `iter/cgroup` program: copies the counters of each cgroup below the iterator's start into an mmapable array.
//!
//! It makes no decisions. Where a field lies in the running kernel comes in as a global, which is frozen before the
//! program is loaded, so the verifier sees constants. It runs under `cgroup_mutex` and is therefore short, without
//! loops, and logs once at a walk's end, never per cgroup.
#![no_std]
#![no_main]

use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut, read_volatile, write_volatile};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_log_ebpf::warn;
use waggle_agent_ebpf::{Classes, Header, Layout, Record, group};

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;
/// `CSS_VISIBLE`: the css has files. Its enum is anonymous in BTF.
const CSS_VISIBLE: u32 = 1 << 3;

/// The agent sets the actual size before it loads the object.
#[map]
static WAGGLE_RECORDS: Array<Record> = Array::with_max_entries(8192, MMAPABLE);

#[map]
static WAGGLE_CLASSES: Array<Classes> = Array::with_max_entries(1, MMAPABLE);

/// Must be read volatile: the compiler would otherwise fold the zeros into the code, and overriding the global would
/// change nothing without any error.
#[unsafe(no_mangle)]
static LAYOUT: Layout = Layout {
    groups: 0,
    cgroup_kn: 0,
    cgroup_level: 0,
    cgroup_cpu: 0,
    cgroup_memory_css: 0,
    css_flags: 0,
    kernfs_node_id: 0,
    mem_cgroup_usage: 0,
    mem_cgroup_swap: 0,
    mem_cgroup_vmstats: 0,
    vmstats_is_pointer: 0,
    vmstats_inactive_file: 0,
    vmstats_updates: 0,
    most_updates: 0,
};

macro_rules! layout {
    // SAFETY: a valid, initialised static that nothing writes while the program runs.
    ($field:ident) => {
        unsafe { read_volatile(&raw const LAYOUT.$field) }
    };
}

/// `struct bpf_iter_meta`.
#[repr(C)]
pub struct Meta {
    seq: *const c_void,
    session: u64,
    number: u64,
}

/// `struct bpf_iter__cgroup`.
#[repr(C)]
pub struct Context {
    meta: *const Meta,
    cgroup: *const c_void,
}

/// Reads `size_of::<T>()` bytes at `base + offset` into `to`; the helper zeroes `to` and returns an error if it cannot.
#[inline(always)]
unsafe fn read<T>(to: *mut T, base: *const c_void, offset: u32) -> i64 {
    // SAFETY: the caller's `to` is writable for a T; the helper accepts any source address.
    unsafe { bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, base.byte_add(offset as usize)) as i64 }
}

/// Loads a field of a structure whose type the verifier knows: the context's cgroup and what its pointers lead to.
/// One instruction instead of a helper call. The kernel's fault handler sets the result to 0 if the address is bad.
#[inline(always)]
unsafe fn load<T: Copy>(base: *const c_void, offset: u32) -> T {
    // SAFETY: the verifier admits only offsets at which the structure has a field of this size.
    unsafe { read_volatile(base.byte_add(offset as usize).cast()) }
}

/// The kernel calls this for every cgroup of a walk, and once more with a NULL cgroup at its end.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/cgroup")]
pub extern "C" fn waggle_cgroups(context: *const Context) -> i32 {
    let Some(header) = WAGGLE_RECORDS.get_ptr_mut(0) else { return 0 };
    let header: *mut Header = header.cast();
    // SAFETY: the kernel passes a valid context; slot 0 is a `Header`, written by one walk at a time.
    unsafe {
        let session = (*(*context).meta).session;
        let cgroup = (*context).cgroup;
        let first = read_volatile(addr_of!((*header).running_session)) != session;
        if first {
            begin(header, session);
        }
        if cgroup.is_null() {
            end(context, header, session);
        } else {
            visit(header, cgroup, first);
        }
    }
    0
}

#[inline(always)]
unsafe fn begin(header: *mut Header, session: u64) {
    // SAFETY: as for the caller. Volatile: adjacent zero stores would become a call of `memset`.
    unsafe {
        write_volatile(addr_of_mut!((*header).running_session), session);
        write_volatile(addr_of_mut!((*header).running), 0);
        write_volatile(addr_of_mut!((*header).faulted), 0);
        write_volatile(addr_of_mut!((*header).dropped), 0);
    }
}

/// Publishes the walk if all of it fits, and logs what went wrong in it.
#[inline(always)]
unsafe fn end(context: *const Context, header: *mut Header, session: u64) {
    // SAFETY: as for the caller.
    unsafe {
        let dropped = read_volatile(addr_of!((*header).dropped));
        let faulted = read_volatile(addr_of!((*header).faulted));
        if dropped == 0 {
            write_volatile(addr_of_mut!((*header).count), read_volatile(addr_of!((*header).running)));
            write_volatile(addr_of_mut!((*header).session), session);
        } else {
            warn!(context, "the array is too small for the cgroup tree: {} cgroups had no slot", dropped);
        }
        if faulted != 0 {
            warn!(context, "kernel memory could not be read for {} cgroups", faulted);
        }
    }
}

#[inline(always)]
unsafe fn visit(header: *mut Header, cgroup: *const c_void, first: bool) {
    // SAFETY: as for the caller; `slot` is a whole `Record` of the array.
    unsafe {
        let level: u32 = load(cgroup, layout!(cgroup_level));
        let above_pods = if first {
            write_volatile(addr_of_mut!((*header).start_level), level);
            write_volatile(addr_of_mut!((*header).pod_level), level + 1);
            true
        } else {
            level == read_volatile(addr_of!((*header).start_level)) + 1
        };
        // Deeper cgroups belong to containers: they cost one read and no slot.
        if !above_pods && level > read_volatile(addr_of!((*header).pod_level)) + 1 {
            return;
        }
        let node: *const c_void = load(cgroup, layout!(cgroup_kn));
        let id: u64 = if node.is_null() { 0 } else { load(node, layout!(kernfs_node_id)) };
        if above_pods && !first {
            write_volatile(addr_of_mut!((*header).pod_level), level + u32::from(is_class(id)));
        }

        let index = read_volatile(addr_of!((*header).running)) + 1;
        let Some(slot) = WAGGLE_RECORDS.get_ptr_mut(index) else {
            let dropped = addr_of_mut!((*header).dropped);
            write_volatile(dropped, read_volatile(dropped) + 1);
            return;
        };
        write_volatile(addr_of_mut!((*header).running), index);
        let (mut valid, mut faulted) = (0, 0);
        // The agent drops records without an id.
        if id != 0 {
            cpu(slot, cgroup, &mut valid);
            memory(slot, cgroup, &mut valid, &mut faulted);
        }
        if id == 0 || faulted != 0 {
            let count = addr_of_mut!((*header).faulted);
            write_volatile(count, read_volatile(count) + 1);
        }
        write_volatile(addr_of_mut!((*slot).id), id);
        write_volatile(addr_of_mut!((*slot).level), level);
        write_volatile(addr_of_mut!((*slot).valid), valid);
        write_volatile(addr_of_mut!((*slot).faulted), faulted);
    }
}

/// Whether pods of a quality-of-service class are below the cgroup.
#[inline(always)]
fn is_class(id: u64) -> bool {
    let Some(classes) = WAGGLE_CLASSES.get_ptr(0) else { return false };
    // SAFETY: the map's one entry is a `Classes`. User space writes it between walks.
    let (one, other) =
        unsafe { (read_volatile(addr_of!((*classes).ids[0])), read_volatile(addr_of!((*classes).ids[1]))) };
    id != 0 && (id == one || id == other)
}

/// Marks a group as valid, or as faulted if a read of it failed.
#[inline(always)]
fn mark(group: u32, faults: i64, valid: &mut u32, faulted: &mut u32) {
    if faults == 0 {
        *valid |= group;
    } else {
        *faulted |= group;
    }
}

#[inline(always)]
unsafe fn cpu(slot: *mut Record, cgroup: *const c_void, valid: &mut u32) {
    if layout!(groups) & group::CPU != 0 {
        // SAFETY: as for the caller.
        unsafe { write_volatile(addr_of_mut!((*slot).cpu_ns), load(cgroup, layout!(cgroup_cpu))) };
        *valid |= group::CPU;
    }
}

/// The memory groups, if the cgroup has a css of its own and that css has files.
#[inline(always)]
unsafe fn memory(slot: *mut Record, cgroup: *const c_void, valid: &mut u32, faulted: &mut u32) {
    let groups = layout!(groups);
    if groups & group::MEMORY == 0 {
        return;
    }
    // SAFETY: as for the caller.
    unsafe {
        let css: *const c_void = load(cgroup, layout!(cgroup_memory_css));
        if css.is_null() || load::<u32>(css, layout!(css_flags)) & CSS_VISIBLE == 0 {
            return;
        }
        // The css is the first member of its `mem_cgroup`. The verifier knows only the css, so the rest needs the helper.
        if groups & group::USAGE != 0 {
            let faults = read(addr_of_mut!((*slot).usage), css, layout!(mem_cgroup_usage));
            mark(group::USAGE, faults, valid, faulted);
        }
        if groups & group::INACTIVE_FILE != 0 {
            inactive_file(slot, css, valid, faulted);
        }
        if groups & group::SWAP != 0 {
            let faults = read(addr_of_mut!((*slot).swap), css, layout!(mem_cgroup_swap));
            mark(group::SWAP, faults, valid, faulted);
        }
    }
}

/// Reads `inactive_file`, unless the flush before the walk skipped the cgroup.
///
/// Since 6.15 `memcg_rstat_updated` (`mm/memcontrol.c`) stops at the first cgroup that is over the flush threshold and no
/// longer adds to its ancestors' `stats_updates`. A flush resets the counters one CPU at a time. An update that races with
/// it can leave a cgroup over the threshold and its ancestors at 0, so reading the ancestors' `memory.stat` flushes nothing.
#[inline(always)]
unsafe fn inactive_file(slot: *mut Record, css: *const c_void, valid: &mut u32, faulted: &mut u32) {
    // SAFETY: as for the caller.
    unsafe {
        let mut faults = 0;
        let (mut stats, mut offset) = (css, layout!(mem_cgroup_vmstats));
        if layout!(vmstats_is_pointer) != 0 {
            faults += read(addr_of_mut!(stats), css, offset);
            offset = 0;
        }
        faults += read(addr_of_mut!((*slot).inactive_file), stats, offset + layout!(vmstats_inactive_file));
        let mut updates = 0u32;
        if layout!(vmstats_updates) != 0 {
            faults += read(addr_of_mut!(updates), stats, offset + layout!(vmstats_updates));
        }
        if faults != 0 || updates <= layout!(most_updates) {
            mark(group::INACTIVE_FILE, faults, valid, faulted);
        }
    }
}

/// GPL-only helpers may be called only by a program whose license is GPL-compatible.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing in the program can panic; the verifier would refuse the endless loop that stands for it otherwise.
    unsafe { core::hint::unreachable_unchecked() }
}
