//! The maps. Entries given here are replaced by the agent's configuration when it makes them.

use abi::{
    Affinity, Backend, Client, Event, Limit, Name, Pairs, Policy, Record, Settings, Slot, Space,
    cgroup::{CgroupPath, Offsets},
    client::AffinityKey,
    lines::{Line, Shape},
    policy::{ExemptKey, LimitKey},
    slot,
    space::{Use4, Use6},
    usage::{BUCKETS, Bucket, PAGES},
};
use aya_ebpf::{
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf, SkStorage},
    macros::btf_map,
};

// BPF_F_MMAPABLE = 1024, here and below: the agent writes single words, and elements begin on a page, so that those of
// 64 bytes are whole cache lines (kernel 6.18 kernel/bpf/arraymap.c `array_map_alloc`; others begin 8 bytes off).
#[btf_map(name = "frontends4")]
pub static FRONTENDS4: Array<Line, 2, 1024> = Array::new();

#[btf_map(name = "frontends6")]
pub static FRONTENDS6: Array<Line, 2, 1024> = Array::new();

#[btf_map(name = "records")]
pub static RECORDS: Array<Record, 65536, 1024> = Array::new();

#[btf_map(name = "lists")]
pub static LISTS: Array<Backend, 65536, 1024> = Array::new();

#[btf_map(name = "backends")]
pub static BACKENDS: Array<Backend, 65536, 1024> = Array::new();

// Only user space reads it; it is here so that it is made and pinned with the others. The memory is that of
// what is used (BPF_F_NO_PREALLOC = 1).
#[btf_map(name = "names")]
pub static NAMES: HashMap<u32, Name, 65536, 1> = HashMap::new();

#[btf_map(name = "spaces")]
pub static SPACES: Array<Space, 2> = Array::new();

// Few look-ups come here, and those can bear an element that is apart from the others: NO_PREALLOC, as above.
#[btf_map(name = "addresses4")]
pub static ADDRESSES4: HashMap<u32, Use4, 65536, 1> = HashMap::new();

#[btf_map(name = "addresses6")]
pub static ADDRESSES6: HashMap<[u32; 4], Use6, 65536, 1> = HashMap::new();

#[btf_map(name = "clients")]
pub static CLIENTS: HashMap<u64, Client, 4096> = HashMap::new();

// Of the key's words the first is the service port, the others are the address.
#[btf_map(name = "sources")]
pub static SOURCES: LpmTrie<[u32; 5], u32, 65536> = LpmTrie::new();

// Not an LRU: what is evicted unnoticed is a client that is sent elsewhere. The memory is that of what is used.
#[btf_map(name = "affinity")]
pub static AFFINITY: HashMap<AffinityKey, Affinity, 65536, 1> = HashMap::new();

#[btf_map(name = "excluded")]
pub static EXCLUDED: HashMap<u64, u32, 256> = HashMap::new();

// One for each policy that has a limit, of two pages: made when it is needed (BPF_F_NO_PREALLOC = 1).
#[btf_map(name = "limits")]
pub static LIMITS: HashMap<LimitKey, Limit, 4096, 1> = HashMap::new();

#[btf_map(name = "policies")]
pub static POLICIES: HashMap<[u32; 2], Policy, 4096, 1> = HashMap::new();

#[btf_map(name = "exempt")]
pub static EXEMPT: HashMap<ExemptKey, u32, 8192, 1> = HashMap::new();

#[btf_map(name = "settings")]
pub static SETTINGS: Array<Settings, 1> = Array::new();

// BPF_F_MMAPABLE = 1024: the agent takes slots by compare-and-swap when it carries sockets over to a new layout.
#[btf_map(name = "slots")]
pub static SLOTS: Array<slot::Entry, { slot::SLOTS as usize }, 1024> = Array::new();

// The slots of the previous layout while CARRYING, else one unused entry.
#[btf_map(name = "slots_previous")]
pub static SLOTS_PREVIOUS: Array<Slot, 1, 1024> = Array::new();

#[btf_map(name = "pairs")]
pub static PAIRS: SkStorage<Pairs> = SkStorage::new();

#[btf_map(name = "counters")]
pub static COUNTERS: PerCpuArray<u64, { abi::reason::COUNTERS as usize }> = PerCpuArray::new();

#[btf_map(name = "usage")]
pub static USAGE: PerCpuArray<Bucket, { (PAGES * BUCKETS) as usize }> = PerCpuArray::new();

// The oldest make room: what is still there is found by its id.
#[btf_map(name = "cgroups")]
pub static CGROUPS: LruHashMap<u64, CgroupPath, 4096> = LruHashMap::new();

// Where a path is put together: the stack is too small.
#[btf_map(name = "cgroup_path")]
pub static CGROUP_PATH: PerCpuArray<CgroupPath, 1> = PerCpuArray::new();

#[btf_map(name = "events")]
pub static EVENTS: RingBuf<Event, 1048576> = RingBuf::new();

/// Not 0 while the slots of a previous layout are being carried over. Frozen read-only data: at 0 the verifier
/// removes what depends on it.
#[unsafe(no_mangle)]
static CARRYING: u32 = 0;

/// Are the slots of a previous layout being carried over?
#[inline(always)]
pub fn carrying() -> bool {
    // SAFETY: a valid, aligned static; volatile, because the loader replaces the value.
    unsafe { core::ptr::read_volatile(&raw const CARRYING) != 0 }
}

/// [`Shape`] of `frontends4`, then `frontends6`. Frozen read-only data: what it is belongs to the maps.
#[unsafe(no_mangle)]
static SEED: u64 = 0;
#[unsafe(no_mangle)]
static LINES: [u32; 2] = [1; 2];

/// What `frontends4` (`v4`) or `frontends6` is like.
#[inline(always)]
pub fn shape(v4: bool) -> Shape {
    let [four, six] = &LINES;
    // SAFETY: valid, aligned statics; volatile, because the loader replaces the values.
    unsafe {
        Shape {
            seed: core::ptr::read_volatile(&raw const SEED),
            lines: if v4 { core::ptr::read_volatile(four) } else { core::ptr::read_volatile(six) },
        }
    }
}

/// Frozen read-only data: what it is belongs to the kernel.
#[unsafe(no_mangle)]
static OFFSETS: Offsets = Offsets { node: 0, id: 0, root: 0, hierarchy: 0 };

/// Where this kernel keeps what is asked of cgroups.
#[inline(always)]
pub fn offsets() -> Offsets {
    // SAFETY: a valid, aligned static; volatile, because the loader replaces the value.
    unsafe { core::ptr::read_volatile(&raw const OFFSETS) }
}

/// Bits of [`abi::feature`] that this kernel has. Frozen read-only data: the verifier removes calls of helpers that
/// are not there before it looks at them.
#[unsafe(no_mangle)]
static FEATURES: u32 = 0;

/// The features that this kernel has.
#[inline(always)]
pub fn features() -> u32 {
    // SAFETY: a valid, aligned static; volatile, because the loader replaces the value.
    unsafe { core::ptr::read_volatile(&raw const FEATURES) }
}
