//! What programs count of policies, and who is not redirected: the maps `policies`, `limits` and `exempt`.

use std::collections::{BTreeMap, BTreeSet};

use abi::{
    Limit,
    policy::{ExemptKey, LimitKey, LimitWords, PLACES, PolicyWords},
};
use bytemuck::Pod;

use crate::{
    Error, Maps,
    maps::PinnedMap,
    store::{delete, read},
    sys,
};

/// What had to be done so that a map has the keys that it should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Keys that were added or removed.
    pub writes: usize,
    /// Keys that there was no room for.
    pub left_out: usize,
}

/// Elements of `limits` that one call reads: they are large.
const STEP: usize = 16;

impl Maps {
    /// Makes `policies` and `limits` have an entry for each of these; with `gone` for no others. What is there stays as it is.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn make_policies(
        &self,
        policies: &BTreeSet<[u32; 2]>,
        limits: &BTreeSet<LimitKey>,
        gone: bool,
    ) -> Result<Kept, Error> {
        let one = set_keys(&self.policies, policies, &PolicyWords::default(), gone)?;
        let other = set_keys(&self.limits, limits, &LimitWords { head: 0, places: [0; PLACES] }, gone)?;
        Ok(Kept { writes: one.writes + other.writes, left_out: one.left_out + other.left_out })
    }

    /// What is counted of each policy ([`abi::policy::number`], in halves).
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn policies(&self) -> Result<BTreeMap<[u32; 2], PolicyWords>, Error> {
        Ok(read(&self.policies)?.into_iter().collect())
    }

    /// The limits of policies, and how many connections of the second before `now` (CLOCK_MONOTONIC, nanoseconds) they have.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn limits(&self, now: u64) -> Result<BTreeMap<LimitKey, u64>, Error> {
        let mut taken = BTreeMap::new();
        let see = |key: LimitKey, words: LimitWords| {
            taken.insert(key, datapath::limit::taken(&Limit::from(words), key.limit, now));
        };
        sys::for_each(self.limits.fd(), STEP, usize::MAX, see)
            .map_err(self.limits.error("BPF_MAP_LOOKUP_BATCH"))?;
        Ok(taken)
    }

    /// Who is not redirected by which policy.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn exempt(&self) -> Result<BTreeSet<ExemptKey>, Error> {
        Ok(read::<ExemptKey, u32>(&self.exempt)?.into_iter().map(|(key, _)| key).collect())
    }

    /// Makes `exempt` hold these and no others (P7). Nobody who was exempt and is to stay so is redirected meanwhile.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_exempt(&self, exempt: &BTreeSet<ExemptKey>) -> Result<Kept, Error> {
        let added = set_keys(&self.exempt, exempt, &1u32, false)?;
        let by_cgroup = exempt.iter().any(|key| abi::policy::whole(key.client) & ExemptKey::CGROUP != 0);
        if self.settings()?.exempt_cgroups != u32::from(by_cgroup) {
            self.change_settings(|settings| settings.exempt_cgroups = u32::from(by_cgroup))?;
        }
        let removed = set_keys(&self.exempt, exempt, &1u32, true)?;
        Ok(Kept { writes: added.writes + removed.writes, ..removed })
    }
}

/// Makes a hash have these keys, the new ones with this value; with `gone` no others.
fn set_keys<K: Pod + Ord, V: Pod>(
    map: &PinnedMap,
    keys: &BTreeSet<K>,
    value: &V,
    gone: bool,
) -> Result<Kept, Error> {
    let mut have = BTreeSet::new();
    sys::for_each(map.fd(), STEP, usize::MAX, |key: K, _: V| have.extend([key]))
        .map_err(map.error("BPF_MAP_LOOKUP_BATCH"))?;
    let strays: Vec<K> = have.difference(keys).filter(|_| gone).copied().collect();
    delete(map, &strays)?;
    let mut kept = Kept { writes: strays.len(), left_out: 0 };
    for key in keys.difference(&have) {
        match sys::insert(map.fd(), key, value) {
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => kept.left_out += 1,
            outcome => {
                outcome.map_err(map.error("BPF_MAP_UPDATE_ELEM"))?;
                kept.writes += 1;
            }
        }
    }
    Ok(kept)
}
