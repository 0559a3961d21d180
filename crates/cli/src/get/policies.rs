//! `balancing get policies`: what policies redirect, and what became of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
};

use abi::{
    Name, Record,
    frontend::{level, mode, record_flag},
    name::owner_kind,
    policy::{LimitKey, PolicyWords},
};
use agent::local::policy_name;
use kernel::{Contents, Maps, TableStore};
use observe::event::protocol;
use serde::Serialize;

use super::filter::{Facts, Subject};
use crate::{
    output::{Row, or_dash},
    tone::Tone,
};

/// A frontend of a policy.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    kind: &'static str,
    name: String,
    frontend: SocketAddr,
    protocol: &'static str,
    /// Each once, whatever its share.
    backends: BTreeSet<SocketAddr>,
    state: &'static str,
    /// What decides where the policy does not: a mode of frontends, `-` if nothing does.
    below: &'static str,
    /// Connections a second that it takes; null = any number.
    limit: Option<u32>,
    /// Connections that it has taken in the last second; null = nobody counts.
    last_second: Option<u64>,
    /// Connections of the whole policy that found it without a backend.
    fallbacks: u64,
    /// Connections of the whole policy beyond its limit.
    spills: u64,
    /// Connections of its own backends, which it does not take.
    own: u64,
}

impl Subject for Policy {
    const NOUN: (&'static str, &'static str) = ("policy", "policies");
    const LISTING: &'static str = "policies";
    const NONE: &'static str =
        "no LocalRedirectPolicy or BalancingPolicy applies to this node; `balancing status` has the notices";
    const FILTERS: &'static [&'static str] = &["--protocol", "--family"];

    fn facts(&self) -> Facts<'_> {
        let addresses = vec![self.frontend.ip()];
        let name = policy_name(self.kind, &self.name).into();
        Facts { name, protocol: self.protocol, addresses, ..Facts::default() }
    }

    fn key(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }
}

impl Row for Policy {
    const HEADS: &'static [&'static str] = &[
        "KIND",
        "POLICY",
        "FRONTEND",
        "PROTOCOL",
        "BACKENDS",
        "STATE",
        "FALLBACKS",
        "SPILLS",
        "LAST SECOND",
        "LIMIT",
        "OWN",
        "BELOW",
    ];
    const NARROW: usize = 8;

    fn cells(&self) -> Vec<String> {
        vec![
            self.kind.into(),
            self.name.clone(),
            self.frontend.to_string(),
            self.protocol.into(),
            self.backends.len().to_string(),
            self.state.into(),
            self.fallbacks.to_string(),
            self.spills.to_string(),
            or_dash(self.last_second),
            or_dash(self.limit),
            self.own.to_string(),
            self.below.into(),
        ]
    }

    fn tone(&self) -> Tone {
        if self.state == "falling back" { Tone::Warn } else { Tone::Plain }
    }
}

/// What the programs count of each policy, by its kind and name: much is read for it, but not where there are no policies.
pub(crate) fn stepped(maps: &Maps) -> anyhow::Result<BTreeMap<(&'static str, String), PolicyWords>> {
    if maps.policies()?.is_empty() {
        return Ok(BTreeMap::new());
    }
    let words = |it: &Policy| PolicyWords { fallbacks: it.fallbacks, spills: it.spills, own: it.own };
    Ok(rows(maps)?.into_iter().map(|it| ((it.kind, it.name.clone()), words(&it))).collect())
}

/// All of them, by kind, name and frontend.
pub(super) fn rows(maps: &Maps) -> anyhow::Result<Vec<Policy>> {
    let (contents, counted) = (maps.read()?, maps.policies()?);
    let taken = maps.limits(agent::client::monotonic())?;
    let names: HashMap<u32, &Name> = contents.names.iter().map(|(id, name)| (*id, name)).collect();
    let records: HashMap<u32, &Record> = contents.records.iter().map(|(index, it)| (*index, it)).collect();
    let frontends: BTreeMap<_, _> = contents.frontends.iter().copied().collect();
    let find = |key| frontends.get(&key).and_then(|index| records.get(index)).copied();
    let row = |key: &abi::Key| {
        let record = find(*key).filter(|record| record.flags & record_flag::POLICY != 0)?;
        let name = names.get(&record.service)?;
        let words: PolicyWords = counted.get(&record.policy).copied().unwrap_or_default();
        let limit = LimitKey { policy: record.policy, limit: record.limit };
        let below = [level::BALANCING, level::SERVICE].map(|level| key.at(level));
        let below = below.into_iter().filter(|below| below.level() > key.level()).find_map(find);
        let backends = backends(&contents, record);
        Some(Policy {
            kind: owner_kind::name(name.kind),
            name: Name::text(&name.service).to_owned(),
            frontend: key.endpoint.socket_addr(),
            protocol: protocol(key.transport()),
            state: match (key.level(), backends.is_empty()) {
                (level::FIRST, false) => "redirecting",
                (level::FIRST, true) => "falling back",
                (_, _) => "second",
            },
            backends,
            below: below.map_or("-", |record| mode::name(record.mode)),
            limit: Some(record.limit).filter(|limit| *limit != 0),
            last_second: taken.get(&limit).copied(),
            fallbacks: words.fallbacks,
            spills: words.spills,
            own: words.own,
        })
    };
    let mut rows: Vec<Policy> = frontends.keys().filter_map(row).collect();
    rows.sort_by_cached_key(|it| (it.kind, it.name.clone(), it.frontend, it.protocol));
    Ok(rows)
}

fn backends(contents: &Contents, record: &Record) -> BTreeSet<SocketAddr> {
    let known: HashMap<u32, SocketAddr> =
        contents.backends.iter().map(|(index, it)| (*index, it.endpoint().socket_addr())).collect();
    let (start, len) = (record.local.start as usize, record.local.len as usize);
    let list = contents.lists.iter().skip(start).take(len);
    list.filter_map(|index| known.get(index)).copied().collect()
}
