//! Who uses what: decisions counted by client and by backend.
//!
//! `usage` holds two pages of buckets for each CPU. The programs count in one of them ([`crate::Settings::usage_page`]);
//! the agent lets them go on in the other, waits until nobody counts in the first any more, reads it and empties it. So
//! a count is read whole and once, and a page never holds more than what was used since the last time.

use crate::Word;
use bytemuck::{Pod, Zeroable};

/// Pages.
pub const PAGES: u32 = 2;
/// Buckets of a page; a power of two.
pub const BUCKETS: u32 = 1024;
/// Entries of a bucket: of a CPU's cache line.
pub const WAYS: usize = 4;

/// A counter and what it counts.
#[repr(C)]
#[derive(Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
pub struct Entry {
    /// A packed [`Key`]; 0 = free.
    pub key: Word,
    /// How often.
    pub count: Word,
}

/// Value of `usage`.
#[repr(C)]
#[derive(Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug))]
pub struct Bucket(pub [Entry; WAYS]);

/// The words of a [`Bucket`], copied: key and count in turn.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct BucketWords(pub [[u64; 2]; WAYS]);

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Client {
    /// Processes of the cgroup with this id; 0 where the kernel can't tell.
    Cgroup(u64),
    /// Processes in the network namespace with this cookie ([`crate::Settings::usage_by_netns`]).
    Namespace(u64),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Decisions.
    Client {
        /// Whose.
        client: Client,
        /// Id of the service port.
        service: Option<u32>,
        /// [`crate::Reason`].
        reason: u8,
    },
    /// Connections to a backend.
    Backend {
        /// Its index.
        index: u32,
        /// Of which generation; its lowest 31 bits.
        generation: u32,
    },
}

/// Bits of a client's cgroup or network namespace in a packed key. (The kernel numbers kernfs's files and directories one after
/// the other, kernel 6.18 fs/kernfs/dir.c `__kernfs_new_node`: enough for 10^8 cgroups. Each CPU takes 4,096 cookies of
/// namespaces at a time, net/core/net_namespace.c.)
const ID_BITS: u32 = 35;
/// Set where it is a network namespace.
const NAMESPACE: u64 = 1 << ID_BITS;
const CLIENT_BITS: u32 = ID_BITS + 1;
/// Bits of one more than a service port's id; 0 = none.
const SERVICE_BITS: u32 = 22;
const SERVICE_AT: u32 = CLIENT_BITS;
const REASON_AT: u32 = SERVICE_AT + SERVICE_BITS;
/// Set in a key of a client.
const CLIENT: u64 = 1 << 63;
const GENERATION: u32 = (1 << 31) - 1;

/// A cgroup, as [`client`] takes it.
#[inline(always)]
pub const fn of_cgroup(id: u64) -> u64 {
    if id < NAMESPACE { id } else { u64::MAX }
}

/// A network namespace, as [`client`] takes it.
#[inline(always)]
pub const fn of_namespace(cookie: u64) -> u64 {
    if cookie < NAMESPACE { cookie | NAMESPACE } else { u64::MAX }
}

/// A client's packed key; 0 if it can't be packed.
#[inline(always)]
pub const fn client(who: u64, service: Option<u32>, reason: u8) -> u64 {
    let service = match service {
        Some(id) => id as u64 + 1,
        None => 0,
    };
    if who >> CLIENT_BITS != 0 || service >> SERVICE_BITS != 0 {
        return 0;
    }
    CLIENT | ((reason & 31) as u64) << REASON_AT | service << SERVICE_AT | who
}

/// A backend's packed key; 0, which is no backend's, for generation 0 of index 0.
#[inline(always)]
pub const fn backend(index: u32, generation: u32) -> u64 {
    ((generation & GENERATION) as u64) << 32 | index as u64
}

impl Key {
    /// From a packed key; `None` for a free entry's.
    pub const fn unpack(key: u64) -> Option<Self> {
        if key == 0 {
            return None;
        }
        Some(if key & CLIENT != 0 {
            let id = key & (NAMESPACE - 1);
            Self::Client {
                client: if key & NAMESPACE != 0 { Client::Namespace(id) } else { Client::Cgroup(id) },
                service: ((key >> SERVICE_AT) as u32 & ((1 << SERVICE_BITS) - 1)).checked_sub(1),
                reason: (key >> REASON_AT) as u8 & 31,
            }
        } else {
            Self::Backend { index: key as u32, generation: (key >> 32) as u32 }
        })
    }
}

/// The two buckets of a page that a key may be in, the second where the first is full.
#[inline(always)]
pub const fn buckets(key: u64, page: u32) -> [u32; 2] {
    // Fibonacci hashing: the high bits of the product depend on all of the key's.
    let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let first = (page & (PAGES - 1)) * BUCKETS;
    let mask = BUCKETS - 1;
    [first | (hash >> 32) as u32 & mask, first | (hash >> 48) as u32 & mask]
}

const _: () = assert!(size_of::<Bucket>() == 64 && size_of::<BucketWords>() == 64);
const _: () = assert!(crate::Reason::ALL.len() <= 32);
const _: () = assert!(BUCKETS.is_power_of_two() && PAGES.is_power_of_two());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_were() {
        let most = NAMESPACE - 1;
        let last = Some((1 << SERVICE_BITS) - 2);
        for (cgroup, service, reason) in [(0, None, 0), (1, Some(0), 0), (most, last, 31), (7, Some(9), 5)] {
            for (who, kind) in [
                (of_cgroup(cgroup), Client::Cgroup as fn(u64) -> Client),
                (of_namespace(cgroup), Client::Namespace),
            ] {
                let key = client(who, service, reason);
                let client = kind(cgroup);
                assert_eq!(Key::unpack(key), Some(Key::Client { client, service, reason }));
            }
        }
        for (index, generation) in [(0, 1), (u32::MAX, GENERATION), (3, 4)] {
            assert_eq!(Key::unpack(backend(index, generation)), Some(Key::Backend { index, generation }));
        }
        assert_eq!(
            [of_cgroup(most + 1), of_namespace(most + 1)].map(|who| client(who, None, 0)),
            [0; 2],
            "of another one"
        );
        assert_eq!((Key::unpack(0), client(0, last.map(|it| it + 1), 0)), (None, 0));
    }

    #[test]
    fn keys_stay_in_their_page_and_spread_over_it() {
        let mut used = [[0u32; BUCKETS as usize]; PAGES as usize];
        for page in 0..PAGES {
            for n in 0..u64::from(BUCKETS) {
                for key in [client(9000 + n * 61, Some(5), 1), backend(n as u32, 1)] {
                    for bucket in buckets(key, page) {
                        assert_eq!(bucket / BUCKETS, page);
                        used[page as usize][(bucket % BUCKETS) as usize] += 1;
                    }
                }
            }
        }
        // Four a bucket on average.
        assert!(used.iter().flatten().all(|count| *count < 20), "{used:?}");
    }
}
