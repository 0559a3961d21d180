//! The look-ups over the bpf maps.

use crate::{maps, rare};
use abi::{
    Address, Affinity, Backend, Client, Key, Limit, Policy, Record, Settings, Space, Word,
    client::{AffinityKey, SourceKey},
    lines::{Line, Shape},
    policy::{ExemptKey, LimitKey},
    slot::Ids,
};
use aya_ebpf::{
    btf_maps::lpm_trie,
    helpers::{bpf_get_prandom_u32, bpf_ktime_get_ns, generated::bpf_ktime_get_coarse_ns},
};
use core::ptr::read_volatile;
use datapath::{Caller, Env, Found};

/// BPF_NOEXIST of include/uapi/linux/bpf.h.
const NO_EXIST: u64 = 1;
const EEXIST: i32 = 17;

/// How often a reader that met a reused element of `addresses` looks again before it gives up.
const LOOK_UPS: u32 = 4;

/// The bpf maps.
pub struct Tables;

impl Env for Tables {
    type Ref<'a, T: 'a> = &'a T;

    #[inline(always)]
    fn settings(&self) -> Settings {
        maps::SETTINGS.get(0).copied().unwrap_or_default()
    }

    #[inline(always)]
    fn shape(&self, v4: bool) -> Shape {
        maps::shape(v4)
    }

    #[inline(always)]
    fn line(&self, v4: bool, number: u32) -> Option<&Line> {
        if v4 { maps::FRONTENDS4.get(number) } else { maps::FRONTENDS6.get(number) }
    }

    #[inline(always)]
    fn look_further(&self, key: &Key) -> u32 {
        rare::call_look_further(key)
    }

    #[inline(always)]
    fn record(&self, index: u32) -> Option<&Record> {
        maps::RECORDS.get(index)
    }

    #[inline(always)]
    fn listed(&self, position: u32) -> Option<&Backend> {
        maps::LISTS.get(position)
    }

    #[inline(always)]
    fn backend(&self, index: u32) -> Option<&Backend> {
        maps::BACKENDS.get(index)
    }

    #[inline(always)]
    fn space(&self, index: u32) -> Option<&Space> {
        maps::SPACES.get(index)
    }

    #[inline(always)]
    fn uses(&self, address: &Address) -> u32 {
        for _ in 0..LOOK_UPS {
            // SAFETY: elements of these maps, aligned. The key is read last: see `abi::space::Use4`.
            unsafe {
                if let Some(wanted) = address.as_v4() {
                    let Some(found) = maps::ADDRESSES4.get_ptr(wanted) else { return 0 };
                    let uses = read_volatile(&raw const (*found).uses);
                    if read_volatile(&raw const (*found).address) == wanted {
                        return uses;
                    }
                } else {
                    let Some(found) = maps::ADDRESSES6.get_ptr(address.0) else { return 0 };
                    let uses = read_volatile(&raw const (*found).uses);
                    if read_volatile(&raw const (*found).address) == address.0 {
                        return uses;
                    }
                }
            }
        }
        0
    }

    #[inline(always)]
    fn client(&self, netns: u64) -> Option<&Client> {
        // SAFETY: a valid element; what another update may put there meanwhile is caught by the key in it.
        unsafe { maps::CLIENTS.get(netns) }
    }

    #[inline(always)]
    fn admits(&self, service: u32, address: &Address) -> bool {
        let [a, b, c, d] = address.0;
        maps::SOURCES.get(&lpm_trie::Key::new(SourceKey::WHOLE, [service, a, b, c, d])).is_some()
    }

    #[inline(always)]
    fn affinity(&self, client: u64, service: u32) -> Option<&Affinity> {
        // SAFETY: a valid element of atomics; what another update may put there is caught by the key in it.
        unsafe { maps::AFFINITY.get(AffinityKey { client, service, pad: 0 }) }
    }

    #[inline(always)]
    fn remember(&self, client: u64, service: u32, ids: Ids, now: u64) -> bool {
        let entry = Affinity {
            client: Word::new(client),
            service: Word::new(u64::from(service)),
            ids: Word::new(ids.pack()),
            used: Word::new(now),
        };
        match maps::AFFINITY.insert(AffinityKey { client, service, pad: 0 }, &entry, NO_EXIST) {
            Ok(()) => true,
            Err(error) => error == -EEXIST,
        }
    }

    #[inline(always)]
    fn limit(&self, policy: [u32; 2], limit: u32) -> Option<&Limit> {
        // SAFETY: a valid element of atomics. One that another update has made another policy's by now is counted in
        // once too often.
        unsafe { maps::LIMITS.get(LimitKey { policy, limit }) }
    }

    #[inline(always)]
    fn policy(&self, policy: [u32; 2]) -> Option<&Policy> {
        // SAFETY: as in `limit`.
        unsafe { maps::POLICIES.get(policy) }
    }

    #[inline(always)]
    fn exempts(&self, policy: [u32; 2], client: u64) -> bool {
        maps::EXEMPT.get_ptr(ExemptKey::new(policy, client)).is_some()
    }

    #[inline(always)]
    fn now_exactly(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    }

    #[inline(always)]
    fn random(&self) -> u32 {
        // SAFETY: a helper without arguments.
        unsafe { bpf_get_prandom_u32() }
    }

    #[inline(always)]
    fn unusual(&self, netns: u64, key: &Key) -> Found {
        rare::call_unusual(netns, key)
    }

    #[inline(always)]
    fn redirect<C: Caller>(&self, caller: &C, key: &Key) -> Found {
        rare::call_redirect(caller.netns(), key)
    }

    #[inline(always)]
    fn stay(&self, key: &Key, held: u32) -> Found {
        rare::call_stay(key, held)
    }

    #[inline(always)]
    fn stands_back<C: Caller>(&self, caller: &C, record: u32) -> u8 {
        rare::stands_back(caller.netns(), u64::from(record)) as u8
    }

    #[inline(always)]
    fn take(&self, record: u32) -> bool {
        rare::take(u64::from(record)) != 0
    }

    #[inline(always)]
    fn recall(&self, client: u64, record: u32) -> Ids {
        Ids::unpack(rare::recall(client, u64::from(record)))
    }

    #[inline(always)]
    fn keep(&self, client: u64, record: u32, backend: u32) -> Ids {
        Ids::unpack(rare::keep(client, u64::from(record), u64::from(backend)))
    }
}
