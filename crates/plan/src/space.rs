//! Which addresses and ports are worth a second look-up: [`Space`].

use std::net::IpAddr;

use abi::{
    Address, Space,
    space::{PREFIXES, Prefix, prefix_flag},
};
use ipnet::IpNet;

/// Most ServiceCIDRs of one family that are kept unused: one place is for what covers the cluster IPs outside of them.
pub const MOST_CIDRS: usize = PREFIXES - 1;

/// The space of these ServiceCIDRs, cluster IPs (sorted) and node ports.
pub(crate) fn space(
    cidrs: &[IpNet],
    cluster_ips: impl Iterator<Item = IpAddr>,
    node_ports: impl Iterator<Item = u16>,
) -> Space {
    let mut space = Space::default();
    let (mut cidrs4, mut cidrs6): (Vec<IpNet>, Vec<IpNet>) =
        cidrs.iter().partition(|net| net.addr().is_ipv4());
    let (mut outside4, mut outside6) = (Outside::default(), Outside::default());
    for cidrs in [&mut cidrs4, &mut cidrs6] {
        cidrs.sort_unstable();
        cidrs.dedup();
        cidrs.truncate(MOST_CIDRS);
    }
    for ip in cluster_ips {
        let (cidrs, outside) = if ip.is_ipv4() { (&cidrs4, &mut outside4) } else { (&cidrs6, &mut outside6) };
        if !cidrs.iter().any(|net| net.contains(&ip)) {
            outside.add(ip);
        }
    }
    for (prefixes, cidrs, outside) in [(&mut space.v4, cidrs4, outside4), (&mut space.v6, cidrs6, outside6)] {
        let reserved =
            cidrs.into_iter().map(|net| prefix(net, prefix_flag::SERVICES | prefix_flag::RESERVED));
        let others = outside.cover().map(|net| prefix(net, prefix_flag::SERVICES));
        for (place, prefix) in prefixes.iter_mut().zip(reserved.chain(others)) {
            *place = prefix;
        }
    }
    for port in node_ports {
        let first = space.first_node_port;
        space.first_node_port = if first == 0 { port } else { first.min(port) };
        space.last_node_port = space.last_node_port.max(port);
    }
    space
}

/// `old`, and what `new` has besides: what is in force and must not be deleted yet stays within reach.
pub(crate) fn widened(new: &Space, old: &Space) -> Space {
    let mut space = *old;
    for (prefixes, new) in [(&mut space.v4, &new.v4), (&mut space.v6, &new.v6)] {
        for prefix in new.iter().filter(|prefix| prefix.flags != 0) {
            if prefixes.iter().any(|it| it.flags & prefix.flags == prefix.flags && is_within(prefix, it)) {
                continue;
            }
            if let Some(free) = prefixes.iter_mut().find(|it| it.flags == 0) {
                *free = *prefix;
            }
        }
    }
    if new.last_node_port != 0 {
        let first = space.first_node_port;
        space.first_node_port = if first == 0 { new.first_node_port } else { first.min(new.first_node_port) };
        space.last_node_port = space.last_node_port.max(new.last_node_port);
    }
    space
}

fn is_within(inner: &Prefix, outer: &Prefix) -> bool {
    let is_wider = outer.mask.0.iter().zip(inner.mask.0).all(|(outer, inner)| outer & inner == *outer);
    is_wider && outer.covers(&inner.network)
}

fn prefix(net: IpNet, flags: u32) -> Prefix {
    let len = u32::from(net.prefix_len()) + if net.addr().is_ipv4() { 96 } else { 0 };
    let mask = if len == 0 { 0 } else { u128::MAX << (128 - len) };
    Prefix {
        network: net.network().into(),
        mask: Address(std::array::from_fn(|word| ((mask >> (96 - 32 * word)) as u32).to_be())),
        flags,
    }
}

/// The least and the greatest address: what they have in common all between them have too.
#[derive(Default)]
struct Outside(Option<(IpAddr, IpAddr)>);

impl Outside {
    fn add(&mut self, ip: IpAddr) {
        let (least, greatest) = self.0.unwrap_or((ip, ip));
        self.0 = Some((least.min(ip), greatest.max(ip)));
    }

    /// The smallest prefix that covers all.
    fn cover(&self) -> Option<IpNet> {
        let (least, greatest) = self.0?;
        let whole = IpNet::from(least);
        std::iter::successors(Some(whole), IpNet::supernet).find(|net| net.contains(&greatest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cidrs: &[&str], cluster_ips: &[&str], node_ports: &[u16]) -> Space {
        let cidrs: Vec<IpNet> = cidrs.iter().map(|text| text.parse().unwrap()).collect();
        let ips = cluster_ips.iter().map(|text| text.parse::<IpAddr>().unwrap());
        space(&cidrs, ips, node_ports.iter().copied())
    }

    fn area(space: &Space, text: &str) -> u32 {
        space.area(&text.parse::<IpAddr>().unwrap().into())
    }

    #[test]
    fn r12_what_covers_cidrs_and_other_cluster_ips() {
        let both = prefix_flag::SERVICES | prefix_flag::RESERVED;
        let space = of(
            &["10.96.0.0/16", "fd00:96::/108", "10.96.0.0/16"],
            &["10.96.0.1", "10.97.3.1", "10.97.2.9", "fd00:96::1", "fd00:97::1"],
            &[],
        );
        let cases = [
            ("10.96.0.1", both),
            ("10.96.255.255", both),
            ("10.97.2.0", prefix_flag::SERVICES),
            ("10.97.3.255", prefix_flag::SERVICES),
            ("10.97.4.0", 0),
            ("10.97.1.255", 0),
            ("192.0.2.1", 0),
            ("fd00:96::f:ffff", both),
            ("fd00:96::10:0", 0),
            ("fd00:97::1", prefix_flag::SERVICES),
            ("fd00:97::2", 0),
        ];
        for (ip, expected) in cases {
            assert_eq!(area(&space, ip), expected, "{ip}");
        }
        assert_eq!((space.first_node_port, space.last_node_port), (0, 0));
        assert_eq!(of(&[], &[], &[]), Space::default());
    }

    #[test]
    fn r12_addresses_with_nothing_in_common_are_all_covered() {
        let space = of(&[], &["1.0.0.1", "200.0.0.1", "::2", "ff00::1"], &[]);
        for ip in ["1.0.0.1", "8.8.8.8", "200.0.0.1", "::2", "2001:db8::1", "ff00::1"] {
            assert_eq!(area(&space, ip), prefix_flag::SERVICES, "{ip}");
        }
    }

    #[test]
    fn r12_more_cidrs_than_there_is_room_for_leave_room_for_cluster_ips() {
        let cidrs: Vec<String> = (0..20).map(|n| format!("10.{n}.0.0/16")).collect();
        let cidrs: Vec<&str> = cidrs.iter().map(String::as_str).collect();
        let space = of(&cidrs, &["10.6.0.1", "10.19.0.1"], &[]);
        assert_eq!(area(&space, "10.6.0.9") & prefix_flag::RESERVED, prefix_flag::RESERVED);
        assert_eq!(area(&space, "10.19.0.1"), prefix_flag::SERVICES);
    }

    #[test]
    fn r6_while_nothing_is_deleted_the_space_only_grows() {
        let old = of(&["10.96.0.0/16"], &["10.1.0.1", "fd00::1"], &[30_080, 30_090]);
        let new = of(&["10.96.0.0/16", "10.97.0.0/16"], &[], &[30_085, 31_000]);
        let both = widened(&new, &old);
        for ip in ["10.96.0.1", "10.97.0.1", "10.1.0.1", "fd00::1"] {
            assert_ne!(area(&both, ip), 0, "{ip}");
        }
        assert_eq!((both.first_node_port, both.last_node_port), (30_080, 31_000));
        assert_eq!(widened(&new, &Space::default()), new);
        assert_eq!(widened(&Space::default(), &old), old);
        assert_eq!(widened(&old, &old), old);
    }

    #[test]
    fn r14_node_ports_from_the_least_to_the_greatest() {
        let space = of(&[], &[], &[31_000, 30_080, 32_767]);
        assert_eq!((space.first_node_port, space.last_node_port), (30_080, 32_767));
    }
}
