//! What the tables should say for one policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use abi::{
    frontend::{backend_flag, mode, record_flag},
    policy::MOST_A_SECOND,
};
use model::{Cluster, Family, Kind, ObjectId, PolicyBackend};

use super::{FrontendSpec, PortTable, ServiceTables, key};

/// Longest list of a policy whose backends have weights: beyond, weights are made smaller in proportion. A list as long as
/// that gives each share to one part in a thousand.
const LONGEST: u64 = 4096;

/// What the tables should say for a policy: nothing if it is gone or does not apply here (P11).
pub fn compile_policy(cluster: &Cluster, policy: &ObjectId) -> ServiceTables {
    let mut tables = ServiceTables::default();
    let Some(policy) = cluster.policy(policy).filter(|policy| cluster.absence(policy).is_none()) else {
        return tables;
    };
    let service = policy.service().and_then(|name| cluster.service(name));
    let affinity = service.and_then(|service| service.affinity_seconds).unwrap_or_default();
    let limit = policy.limit.unwrap_or(cluster.view().redirect_limit).min(MOST_A_SECOND);
    let mode = match policy.kind() {
        Kind::LocalRedirectPolicy => mode::LOCAL_REDIRECT,
        _ => mode::BALANCING,
    };
    let mut lists = BTreeMap::new();
    for redirect in policy.redirects(service) {
        let family = Family::of(redirect.ip);
        let name = policy.port_name(redirect.backend, family);
        let table = tables.ports.entry(name.clone()).or_insert_with(|| {
            let backends = cluster.policy_backends(policy, redirect.backend, family).backends;
            lists.insert(name.clone(), weighted(&backends));
            PortTable {
                name: name.clone(),
                uid: policy.uid.clone(),
                port: redirect.port,
                backends: backends.iter().filter_map(flagged).collect(),
                sources: BTreeSet::new(),
            }
        });
        // Of several, whatever their order.
        table.port = table.port.min(redirect.port);
        let frontend = FrontendSpec {
            mode,
            list: lists.get(&name).cloned().unwrap_or_default(),
            port: name,
            flags: record_flag::POLICY,
            affinity,
            limit,
        };
        let key = key(redirect.ip, redirect.port, redirect.backend.protocol);
        tables.frontends.entry(key).or_insert(frontend);
    }
    tables
}

/// A backend that is selected, or on which flows may stay.
fn flagged(backend: &PolicyBackend) -> Option<(SocketAddr, u16)> {
    let usable = if backend.usable { backend_flag::USABLE } else { 0 };
    let listed = if backend.weight > 0 { backend_flag::CLUSTER } else { 0 };
    (usable | listed != 0).then_some((backend.address, usable | listed))
}

/// Each backend as often as its weight says, in turns: those of one socket's destinations are to differ (R8), and its
/// candidates are neighbours.
fn weighted(backends: &[PolicyBackend]) -> Vec<SocketAddr> {
    let selected = || backends.iter().filter(|it| it.weight > 0);
    let common = selected().fold(0, |all, it| gcd(all, it.weight)).max(1);
    let sum: u64 = selected().map(|it| u64::from(it.weight / common)).sum();
    let share = |weight: u32| {
        let weight = u64::from(weight / common);
        // Nobody's share is nothing.
        if sum <= LONGEST { weight } else { (weight * LONGEST / sum).max(1) }
    };
    let mut left: Vec<(SocketAddr, u64)> = selected().map(|it| (it.address, share(it.weight))).collect();
    let mut list = Vec::new();
    while !left.is_empty() {
        list.extend(left.iter().map(|(address, _)| *address));
        left.iter_mut().for_each(|(_, share)| *share -= 1);
        left.retain(|(_, share)| *share > 0);
    }
    list
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(weights: &[u32]) -> Vec<u8> {
        let backend = |(n, weight): (u8, &u32)| PolicyBackend {
            address: SocketAddr::new([10, 0, 0, n].into(), 80),
            weight: *weight,
            usable: true,
            why_not: None,
            node: None,
            pod: None,
        };
        let backends: Vec<PolicyBackend> = (0..).zip(weights).map(backend).collect();
        let last = |address: &SocketAddr| match address {
            SocketAddr::V4(it) => it.ip().octets()[3],
            SocketAddr::V6(_) => panic!("{address}"),
        };
        weighted(&backends).iter().map(last).collect()
    }

    #[test]
    fn p8_backends_are_listed_as_often_as_they_weigh_in_turns() {
        assert_eq!(list(&[]), []);
        assert_eq!(list(&[0, 0]), []);
        assert_eq!(list(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(list(&[7, 7]), [0, 1], "as short as it can be");
        assert_eq!(list(&[3, 0, 1, 2]), [0, 2, 3, 0, 3, 0]);
        assert_eq!(list(&[4, 2]), [0, 1, 0]);
    }

    #[test]
    fn p8_weights_that_make_a_list_too_long_become_smaller_and_nobody_is_left_out() {
        let long = list(&[1_000_003, 1_000_000, 1]);
        assert!(long.len() <= 4096 + 1, "{}", long.len());
        let count = |n: u8| long.iter().filter(|it| **it == n).count();
        assert_eq!((count(0), count(1), count(2)), (2048, 2047, 1));
    }
}
