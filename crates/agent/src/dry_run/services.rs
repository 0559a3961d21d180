//! What changes for services and policies, which is what people ask; ids and indexes are nobody's business, and neither is who is
//! above whom on a frontend.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
};

use abi::{Key, Name, frontend::level, name::owner_kind};
use plan::Image;
use serde::Serialize;

/// A service or policy that would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceChange {
    /// `Service`, `LocalRedirectPolicy` or `BalancingPolicy`.
    pub kind: &'static str,
    /// Its namespace; empty for policies.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What would become of it.
    pub outcome: Outcome,
    /// Frontends that would change.
    pub frontends: Vec<Frontend>,
}

/// What would become of a service or a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was not there.
    New,
    /// It would be another.
    Changed,
    /// It would not be there any more.
    Gone,
}

/// A frontend that would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Frontend {
    /// Its address.
    pub address: SocketAddr,
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// What would become of it.
    pub outcome: Outcome,
    /// How many backends it has; 0 also where it is not there.
    pub backends_before: usize,
    /// How many it would have.
    pub backends_after: usize,
    /// Backends that it would get.
    pub added: Vec<SocketAddr>,
    /// Backends that it would lose.
    pub removed: Vec<SocketAddr>,
}

/// Kind, namespace, name.
type ServiceName = (&'static str, String, String);

/// What a frontend does: whatever differs there is a change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Does {
    port: String,
    mode: u8,
    flags: u32,
    affinity: u32,
    limit: u32,
    backends: BTreeSet<SocketAddr>,
}

/// A frontend of one of those who have it, whatever their levels there.
type Claim = (ServiceName, Key);

/// What differs between two images, by service.
pub(super) fn changes(before: &Image, after: &Image) -> Vec<ServiceChange> {
    let (before, after) = (frontends(before), frontends(after));
    let services = |all: &BTreeMap<Claim, Does>| -> BTreeSet<ServiceName> {
        all.keys().map(|(service, _)| service.clone()).collect()
    };
    let (had, has) = (services(&before), services(&after));
    let mut changed: BTreeMap<ServiceName, Vec<Frontend>> = BTreeMap::new();
    // One that passes from a service to another is gone from the one and new to the other.
    for claim in before.keys().chain(after.keys()).collect::<BTreeSet<&Claim>>() {
        let (old, new) = (before.get(claim), after.get(claim));
        if old != new {
            let (service, key) = claim;
            changed.entry(service.clone()).or_default().push(frontend(key, old.cloned(), new.cloned()));
        }
    }
    changed
        .into_iter()
        .map(|(service, frontends)| ServiceChange {
            outcome: match (had.contains(&service), has.contains(&service)) {
                (false, _) => Outcome::New,
                (true, true) => Outcome::Changed,
                (true, false) => Outcome::Gone,
            },
            kind: service.0,
            namespace: service.1,
            name: service.2,
            frontends,
        })
        .collect()
}

fn frontend(key: &Key, old: Option<Does>, new: Option<Does>) -> Frontend {
    let outcome = match (&old, &new) {
        (None, _) => Outcome::New,
        (Some(_), Some(_)) => Outcome::Changed,
        (Some(_), None) => Outcome::Gone,
    };
    let backends = |does: Option<Does>| does.map(|it| it.backends).unwrap_or_default();
    let (old, new) = (backends(old), backends(new));
    Frontend {
        address: key.endpoint.socket_addr(),
        protocol: observe::event::protocol(key.transport()),
        outcome,
        backends_before: old.len(),
        backends_after: new.len(),
        added: new.difference(&old).copied().collect(),
        removed: old.difference(&new).copied().collect(),
    }
}

fn frontends(image: &Image) -> BTreeMap<Claim, Does> {
    let names: HashMap<u32, &Name> = image.names.iter().map(|(id, name)| (*id, name)).collect();
    let records: HashMap<u32, _> = image.records.iter().map(|(index, record)| (*index, record)).collect();
    let backends: HashMap<u32, _> = image.backends.iter().map(|(index, it)| (*index, it)).collect();
    let does = |(key, index): &(Key, u32)| {
        let record = records.get(index)?;
        let name = names.get(&record.service);
        let text = |bytes: Option<&[u8]>| bytes.map_or("?", Name::text).to_owned();
        let end = record.local.start.saturating_add(record.local.len) as usize;
        let list = image.lists.get(record.local.start as usize..end).unwrap_or_default();
        let kind = name.map_or("?", |it| owner_kind::name(it.kind));
        let service = (kind, text(name.map(|it| &it.namespace[..])), text(name.map(|it| &it.service[..])));
        let does = Does {
            port: text(name.map(|it| &it.port[..])),
            mode: record.mode,
            flags: record.flags,
            affinity: record.affinity,
            limit: record.limit,
            backends: list
                .iter()
                .filter_map(|index| backends.get(index))
                .map(|backend| backend.endpoint().socket_addr())
                .collect(),
        };
        Some(((service, key.at(level::FIRST)), does))
    };
    image.frontends.iter().filter_map(does).collect()
}

#[cfg(test)]
mod tests {
    use abi::{Backend, Endpoint, Range, Record, TCP, frontend::mode};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Frontends: address, service, backends.
    fn image(frontends: &[(&str, &str, &[&str])]) -> Image {
        let mut image = Image::default();
        for (at, (vip, service, backends)) in frontends.iter().enumerate() {
            let at = u32::try_from(at).unwrap();
            let key = Key { endpoint: Endpoint::from(address(vip)), protocol: TCP };
            let name = Name {
                namespace: Name::bytes("default").unwrap(),
                service: Name::bytes(service).unwrap(),
                port: Name::bytes("").unwrap(),
                uid: Name::bytes("").unwrap(),
                port_be: 0,
                protocol: TCP,
                family: 4,
                kind: 0,
                pad: [0; 3],
            };
            let local = Range {
                start: u32::try_from(image.lists.len()).unwrap(),
                len: u32::try_from(backends.len()).unwrap(),
            };
            for backend in *backends {
                let endpoint = Endpoint::from(address(backend));
                let (address, port_be) = (endpoint.address, endpoint.port_be);
                let index = u32::try_from(image.backends.len()).unwrap();
                image.backends.push((index, Backend { address, port_be, ..Backend::default() }));
                image.lists.push(index);
            }
            image.names.push((at, name));
            image
                .records
                .push((at, Record { mode: mode::CLUSTER_IP, service: at, local, ..Record::default() }));
            image.frontends.push((key, at));
        }
        image
    }

    fn told(before: &Image, after: &Image) -> Vec<String> {
        let frontend = |it: &Frontend| {
            let list = |all: &[SocketAddr]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let counts = format!("{}->{}", it.backends_before, it.backends_after);
            format!("{} {:?} {counts} +{} -{}", it.address, it.outcome, list(&it.added), list(&it.removed))
        };
        let changes = changes(before, after);
        let service = |it: &ServiceChange| {
            let frontends: Vec<String> = it.frontends.iter().map(frontend).collect();
            format!("{} {:?}: {}", it.name, it.outcome, frontends.join("; "))
        };
        changes.iter().map(service).collect()
    }

    #[test]
    fn services_are_new_changed_and_gone() {
        let before = image(&[
            ("10.0.0.1:80", "same", &["10.1.0.1:80"]),
            ("10.0.0.2:80", "less", &["10.1.0.2:80", "10.1.0.3:80"]),
            ("10.0.0.3:80", "old", &["10.1.0.4:80"]),
            ("10.0.0.4:80", "giver", &["10.1.0.5:80"]),
        ]);
        // Other ids and indexes, which do not matter.
        let after = image(&[
            ("10.0.0.9:80", "fresh", &[]),
            ("10.0.0.4:80", "taker", &["10.1.0.5:80"]),
            ("10.0.0.2:80", "less", &["10.1.0.3:80"]),
            ("10.0.0.1:80", "same", &["10.1.0.1:80"]),
        ]);
        assert_eq!(
            told(&before, &after),
            [
                "fresh New: 10.0.0.9:80 New 0->0 + -",
                "giver Gone: 10.0.0.4:80 Gone 1->0 + -10.1.0.5:80",
                "less Changed: 10.0.0.2:80 Changed 2->1 + -10.1.0.2:80",
                "old Gone: 10.0.0.3:80 Gone 1->0 + -10.1.0.4:80",
                "taker New: 10.0.0.4:80 New 0->1 +10.1.0.5:80 -",
            ]
        );
        assert_eq!(told(&before, &before), Vec::<String>::new());
    }

    #[test]
    fn p1_a_policy_that_comes_above_a_service_changes_the_service_not() {
        let before = image(&[("10.0.0.1:80", "web", &["10.1.0.1:80"])]);
        let mut after =
            image(&[("10.0.0.1:80", "web", &["10.1.0.1:80"]), ("10.0.0.1:80", "dns", &["10.1.0.2:80"])]);
        after.names[1].1 = Name { namespace: [0; 64], kind: owner_kind::LOCAL_REDIRECT, ..after.names[1].1 };
        after.frontends[0].0 = after.frontends[0].0.at(level::SERVICE);
        assert_eq!(told(&before, &after), ["dns New: 10.0.0.1:80 New 0->1 +10.1.0.2:80 -"]);
        assert_eq!(changes(&before, &after)[0].kind, "LocalRedirectPolicy");
        assert_eq!(told(&after, &before), ["dns Gone: 10.0.0.1:80 Gone 1->0 + -10.1.0.2:80"]);
    }
}
