//! The system calls that aya does not offer: a link with a starting cgroup, one iterator per walk, the mapped arrays,
//! and giving memory back. The only unsafe code of the agent; it decides nothing.

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use waggle_agent_ebpf::{Classes, Header, Record, SLOT_BYTES};

const BPF_LINK_CREATE: c_long = 28;
const BPF_ITER_CREATE: c_long = 33;
const BPF_TRACE_ITER: u32 = 28;
/// `BPF_CGROUP_ITER_DESCENDANTS_PRE`: the start first, parents before children.
const DESCENDANTS_PRE: u32 = 2;

/// `union bpf_iter_link_info` for cgroup iterators.
#[repr(C)]
struct CgroupIterInfo {
    order: u32,
    cgroup_fd: u32,
    cgroup_id: u64,
}

/// The part of `union bpf_attr` for `BPF_LINK_CREATE`, without implicit padding: the kernel refuses unknown bytes that
/// are not zero.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iter_info: u64,
    iter_info_len: u32,
    padding: u32,
}

/// The part of `union bpf_attr` for `BPF_ITER_CREATE`.
#[repr(C)]
struct IterCreate {
    link_fd: u32,
    flags: u32,
}

/// `size_of::<CgroupIterInfo>()`.
const CGROUP_ITER_INFO_BYTES: u32 = 16;

const _: () = assert!(size_of::<CgroupIterInfo>() == CGROUP_ITER_INFO_BYTES as usize);
const _: () = assert!(size_of::<LinkCreate>() == 32);
const _: () = assert!(size_of::<IterCreate>() == 8);

/// Links an `iter/cgroup` program to a cgroup and all below it.
pub(super) fn link_cgroups(program: BorrowedFd<'_>, start: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let info = CgroupIterInfo { order: DESCENDANTS_PRE, cgroup_fd: number(start), cgroup_id: 0 };
    let attributes = LinkCreate {
        prog_fd: number(program),
        target_fd: 0,
        attach_type: BPF_TRACE_ITER,
        flags: 0,
        iter_info: (&raw const info).addr() as u64,
        iter_info_len: CGROUP_ITER_INFO_BYTES,
        padding: 0,
    };
    // SAFETY: the attributes have the kernel's layout (asserted above) and no padding; `info` outlives the call.
    unsafe { bpf(BPF_LINK_CREATE, &attributes) }
}

/// A new iterator: one walk. It cannot be rewound.
pub(super) fn iterator(link: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let attributes = IterCreate { link_fd: number(link), flags: 0 };
    // SAFETY: the attributes have the kernel's layout (asserted above) and no padding.
    unsafe { bpf(BPF_ITER_CREATE, &attributes) }
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    // A borrowed descriptor is never negative.
    descriptor.as_raw_fd().unsigned_abs()
}

/// A `bpf` call that answers with a new descriptor.
///
/// # Safety
/// `attributes` must be what the kernel expects for `command`, pointers in it included, and have no padding.
unsafe fn bpf<T>(command: c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of the attributes and writes none for these commands.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match i32::try_from(answer) {
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A whole array map, mapped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the value alone and is not tied to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn map(array: BorrowedFd<'_>, bytes: usize, access: ProtFlags) -> io::Result<Self> {
        let bytes = bytes.next_multiple_of(rustix::param::page_size());
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe { mmap(std::ptr::null_mut(), bytes, access, MapFlags::SHARED, array.as_fd(), 0)? };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `map`; nothing borrowed from it can outlive the value.
        // A failure leaves it mapped, which is harmless.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

/// The program's records, mapped read-only.
#[derive(Debug)]
pub(super) struct MappedRecords {
    mapping: Mapping,
    slots: u32,
}

impl MappedRecords {
    /// Maps an array map of `slots` records.
    pub(super) fn map(array: BorrowedFd<'_>, slots: u32) -> io::Result<Self> {
        let mapping = Mapping::map(array, slots as usize * SLOT_BYTES, ProtFlags::READ)?;
        Ok(Self { mapping, slots })
    }

    /// Slot 0.
    pub(super) fn header(&self) -> Header {
        // SAFETY: an array has at least one slot, mappings are page-aligned, and any bits make a `Header`. The kernel
        // writes only during a walk, that is in a call of the thread that reads; volatile, since it does so unseen.
        unsafe { self.mapping.start.cast::<Header>().as_ptr().read_volatile() }
    }

    /// A slot from 1 up; `None` beyond the array.
    pub(super) fn record(&self, slot: u32) -> Option<Record> {
        if slot == 0 || slot >= self.slots {
            return None;
        }
        // SAFETY: the slot lies within the mapping (checked), which is aligned for it, and any bits make a `Record`.
        // Volatile as above.
        Some(unsafe { self.mapping.start.cast::<Record>().as_ptr().add(slot as usize).read_volatile() })
    }

    /// How many slots there are.
    pub(super) const fn slots(&self) -> u32 {
        self.slots
    }
}

/// The classes that the program reads, mapped for writing.
#[derive(Debug)]
pub(super) struct MappedClasses(Mapping);

impl MappedClasses {
    /// Maps an array map of one [`Classes`].
    pub(super) fn map(array: BorrowedFd<'_>) -> io::Result<Self> {
        Mapping::map(array, size_of::<Classes>(), ProtFlags::READ | ProtFlags::WRITE).map(Self)
    }

    /// Sets them for the next walk.
    pub(super) fn write(&self, classes: Classes) {
        // SAFETY: the mapping is page-aligned and larger than a `Classes`. The kernel reads it only during a walk, that is
        // in a call of the thread that writes; volatile, since it does so unseen.
        unsafe { self.0.start.cast::<Classes>().as_ptr().write_volatile(classes) }
    }
}

/// Gives memory that the allocator holds back to the kernel: parsing the kernel's BTF leaves some 14 MB behind.
pub(super) fn trim_memory() {
    // SAFETY: glibc's allocator locks itself; no pointer of ours is affected.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
