//! The `iter/cgroup` program: copies the counters of each cgroup below the iterator's start into an mmapable array.
//!
//! It decides nothing. Where a field lies in the running kernel comes in as globals, which are frozen before the
//! program is loaded, so the verifier sees constants. It runs under `cgroup_mutex` and is therefore short, without
//! loops, and warns once at a walk's end, never per cgroup.
#![no_std]
#![no_main]

use core::ffi::c_void;
use core::ptr::{addr_of, addr_of_mut, read_volatile, write_volatile};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use aya_log_ebpf::warn;
use waggle_agent_ebpf::{Header, Record, flag};

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;
/// `CSS_VISIBLE`: the css has files. Its enum is anonymous in BTF.
const CSS_VISIBLE: u32 = 1 << 3;

/// The agent sets the true size before it loads the object.
#[map]
static WAGGLE_RECORDS: Array<Record> = Array::with_max_entries(8192, MMAPABLE);

/// Declares the globals that the agent overrides. They must be read volatile: the compiler would otherwise fold the 0
/// into the code, and the override would change nothing without any error.
macro_rules! globals {
    ($($name:ident),* $(,)?) => { $(
        #[unsafe(no_mangle)]
        static $name: u32 = 0;
    )* };
}

globals! {
    OFF_CGROUP_KN, OFF_CGROUP_LEVEL, OFF_CGROUP_CPU, OFF_CGROUP_PARENT_CSS, OFF_CGROUP_MEMORY_CSS,
    OFF_CSS_CGROUP, OFF_CSS_FLAGS, OFF_KN_ID,
    OFF_MEMCG_USAGE, OFF_MEMCG_WATERMARK, OFF_MEMCG_SWAP, OFF_MEMCG_VMSTATS, OFF_VMSTATS_INACTIVE_FILE,
    VMSTATS_IS_POINTER, HAS_SWAP, MAX_DEPTH,
}

macro_rules! global {
    // SAFETY: a valid, initialised static that nobody writes while the program runs.
    ($name:ident) => {
        unsafe { read_volatile(&raw const $name) }
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

/// Reads `size_of::<T>()` bytes at `base + offset` into `to`, which the helper zeroes when it cannot. Not 0: failed.
#[inline(always)]
unsafe fn read<T>(to: *mut T, base: *const c_void, offset: u32) -> i64 {
    // SAFETY: the caller's `to` is writable for a T; the helper accepts any source address.
    unsafe { bpf_probe_read_kernel(to.cast(), size_of::<T>() as u32, base.byte_add(offset as usize)) as i64 }
}

/// Follows the pointer at `base + offset`; adds the return code to `faults`.
#[inline(always)]
unsafe fn follow(base: *const c_void, offset: u32, faults: &mut i64) -> *const c_void {
    let mut to: *const c_void = core::ptr::null();
    // SAFETY: `to` is a local.
    *faults += unsafe { read(addr_of_mut!(to), base, offset) };
    to
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
        write_volatile(addr_of_mut!((*header).truncated), 0);
        write_volatile(addr_of_mut!((*header).faulted), 0);
        write_volatile(addr_of_mut!((*header).dropped), 0);
    }
}

/// Publishes the walk if all of it fits, and warns of what went wrong in it.
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
        let mut faults = 0;
        let mut level = 0u32;
        faults += read(addr_of_mut!(level), cgroup, global!(OFF_CGROUP_LEVEL));
        if first {
            write_volatile(addr_of_mut!((*header).start_level), level);
        }
        if level > read_volatile(addr_of!((*header).start_level)) + global!(MAX_DEPTH) {
            return;
        }
        let index = read_volatile(addr_of!((*header).running)) + 1;
        let Some(slot) = WAGGLE_RECORDS.get_ptr_mut(index) else {
            let dropped = addr_of_mut!((*header).dropped);
            write_volatile(dropped, read_volatile(dropped) + 1);
            write_volatile(addr_of_mut!((*header).truncated), 1);
            return;
        };
        write_volatile(addr_of_mut!((*header).running), index);

        let node = follow(cgroup, global!(OFF_CGROUP_KN), &mut faults);
        faults += read(addr_of_mut!((*slot).id), node, global!(OFF_KN_ID));
        faults += read(addr_of_mut!((*slot).cpu_ns), cgroup, global!(OFF_CGROUP_CPU));
        faults += parent(slot, cgroup);
        let mut flags = 0;
        faults += memory(slot, cgroup, &mut flags);
        if faults != 0 {
            flags |= flag::FAULT;
            let faulted = addr_of_mut!((*header).faulted);
            write_volatile(faulted, read_volatile(faulted) + 1);
        }
        write_volatile(addr_of_mut!((*slot).level), level);
        write_volatile(addr_of_mut!((*slot).flags), flags);
    }
}

/// The id of the parent by `cgroup->self.parent->cgroup->kn->id`: these names are stable, kernfs' own parent's is not.
#[inline(always)]
unsafe fn parent(slot: *mut Record, cgroup: *const c_void) -> i64 {
    let mut faults = 0;
    // SAFETY: as for the caller.
    unsafe {
        let css = follow(cgroup, global!(OFF_CGROUP_PARENT_CSS), &mut faults);
        if css.is_null() {
            write_volatile(addr_of_mut!((*slot).parent), 0);
            return faults;
        }
        let above = follow(css, global!(OFF_CSS_CGROUP), &mut faults);
        let node = follow(above, global!(OFF_CGROUP_KN), &mut faults);
        faults + read(addr_of_mut!((*slot).parent), node, global!(OFF_KN_ID))
    }
}

/// The memory group: only where the cgroup has a css of its own and that css has files.
#[inline(always)]
unsafe fn memory(slot: *mut Record, cgroup: *const c_void, flags: &mut u32) -> i64 {
    let mut faults = 0;
    // SAFETY: as for the caller.
    unsafe {
        let css = follow(cgroup, global!(OFF_CGROUP_MEMORY_CSS), &mut faults);
        let mut state = 0u32;
        if !css.is_null() {
            faults += read(addr_of_mut!(state), css, global!(OFF_CSS_FLAGS));
        }
        if state & CSS_VISIBLE == 0 {
            write_volatile(addr_of_mut!((*slot).usage), 0);
            write_volatile(addr_of_mut!((*slot).inactive_file), 0);
            write_volatile(addr_of_mut!((*slot).watermark), 0);
            write_volatile(addr_of_mut!((*slot).swap), 0);
            return faults;
        }
        *flags |= flag::MEMORY;
        faults += read(addr_of_mut!((*slot).usage), css, global!(OFF_MEMCG_USAGE));
        faults += read(addr_of_mut!((*slot).watermark), css, global!(OFF_MEMCG_WATERMARK));
        let (stats, offset) = if global!(VMSTATS_IS_POINTER) != 0 {
            (follow(css, global!(OFF_MEMCG_VMSTATS), &mut faults), global!(OFF_VMSTATS_INACTIVE_FILE))
        } else {
            (css, global!(OFF_MEMCG_VMSTATS) + global!(OFF_VMSTATS_INACTIVE_FILE))
        };
        faults += read(addr_of_mut!((*slot).inactive_file), stats, offset);
        if global!(HAS_SWAP) != 0 {
            *flags |= flag::SWAP;
            faults += read(addr_of_mut!((*slot).swap), css, global!(OFF_MEMCG_SWAP));
        } else {
            write_volatile(addr_of_mut!((*slot).swap), 0);
        }
    }
    faults
}

/// Says that GPL-only helpers may be called.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing in the program can panic; the verifier would refuse the endless loop that stands for it otherwise.
    unsafe { core::hint::unreachable_unchecked() }
}
