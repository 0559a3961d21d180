//! The addresses of a network namespace: what a pod is known by.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use crate::{
    error::{Error, Result},
    netlink::{Netlink, attribute, u32_at},
};

/// Kinds of messages, linux/rtnetlink.h.
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;

/// Of addresses, linux/if_addr.h: attributes, and flags that make one unfit.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
/// `struct ifaddrmsg`.
const ADDRESS: usize = 8;

/// Of routes, linux/rtnetlink.h.
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u32 = 254;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;
/// `struct rtmsg`.
const ROUTE: usize = 12;

/// Unicast addresses of global scope, the preferred one first: those on the interface of the default route, then by
/// interface index; in the kernel's order on each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// IPv4.
    pub v4: Vec<Ipv4Addr>,
    /// IPv6.
    pub v6: Vec<Ipv6Addr>,
}

impl Addresses {
    /// All of them, IPv4 first.
    pub fn all(self) -> Vec<IpAddr> {
        self.v4.into_iter().map(IpAddr::from).chain(self.v6.into_iter().map(IpAddr::from)).collect()
    }

    /// Those of the calling thread's namespace.
    pub fn own() -> Result<Self> {
        read().map_err(|source| Error::Call {
            call: "RTM_GETADDR, RTM_GETROUTE",
            object: "this network namespace".into(),
            source,
            next: "`ip address` and `ip route` ask the kernel for the same",
        })
    }
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Assigned {
    ip: IpAddr,
    interface: u32,
    deprecated: bool,
}

/// A default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DefaultRoute {
    family: u8,
    interface: u32,
    metric: u32,
}

fn read() -> io::Result<Addresses> {
    let mut netlink = Netlink::open(None)?;
    let (mut assigned, mut routes) = (Vec::new(), Vec::new());
    // AF_UNSPEC: both families.
    netlink.dump(RTM_GETADDR, &[0; ADDRESS], |message| assigned.extend(parse_address(message)))?;
    netlink.dump(RTM_GETROUTE, &[0; ROUTE], |message| routes.extend(parse_default_route(message)))?;
    Ok(sort(assigned, &routes))
}

fn sort(mut assigned: Vec<Assigned>, routes: &[DefaultRoute]) -> Addresses {
    let on_default = |address: &Assigned| {
        let family = if address.ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let own = routes.iter().filter(|route| i32::from(route.family) == family);
        own.min_by_key(|route| route.metric).is_some_and(|route| route.interface == address.interface)
    };
    // Stable: an interface's addresses stay in the kernel's order, in which the first is its primary one.
    assigned.sort_by_key(|address| (address.deprecated, !on_default(address), address.interface));
    let mut addresses = Addresses::default();
    for address in assigned {
        match address.ip {
            IpAddr::V4(ip) if !addresses.v4.contains(&ip) => addresses.v4.push(ip),
            IpAddr::V6(ip) if !addresses.v6.contains(&ip) => addresses.v6.push(ip),
            _ => {}
        }
    }
    addresses
}

/// Reads `struct ifaddrmsg` and its attributes; `None` for what is no global address in use.
fn parse_address(message: &[u8]) -> Option<Assigned> {
    let (fixed, rest) = message.split_at_checked(ADDRESS)?;
    let [family, _, flags, scope, ..] = *fixed else { return None };
    let flags = attribute(rest, IFA_FLAGS).and_then(|value| u32_at(value, 0)).unwrap_or(flags.into());
    if scope != RT_SCOPE_UNIVERSE || flags & (IFA_F_DADFAILED | IFA_F_TENTATIVE) != 0 {
        return None;
    }
    // On a point-to-point interface IFA_ADDRESS is the peer's; IPv6 has no IFA_LOCAL elsewhere.
    let octets = attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS))?;
    let ip = match i32::from(family) {
        libc::AF_INET => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        libc::AF_INET6 => IpAddr::from(<[u8; 16]>::try_from(octets).ok()?),
        _ => return None,
    };
    Some(Assigned { ip, interface: u32_at(fixed, 4)?, deprecated: flags & IFA_F_DEPRECATED != 0 })
}

/// Reads `struct rtmsg` and its attributes; `None` for what is no default route of the main table.
fn parse_default_route(message: &[u8]) -> Option<DefaultRoute> {
    let (fixed, rest) = message.split_at_checked(ROUTE)?;
    let [family, destination_bits, _, _, table, _, _, kind, ..] = *fixed else { return None };
    let value = |kind| attribute(rest, kind).and_then(|value| u32_at(value, 0));
    if destination_bits != 0
        || kind != RTN_UNICAST
        || value(RTA_TABLE).unwrap_or(table.into()) != RT_TABLE_MAIN
    {
        return None;
    }
    // Of several ways at once the first: `struct rtnexthop` has the interface at its fourth byte.
    let first_hop = || u32_at(attribute(rest, RTA_MULTIPATH)?, 4);
    Some(DefaultRoute {
        family,
        interface: value(RTA_OIF).or_else(first_hop)?,
        metric: value(RTA_PRIORITY).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::put_attribute;

    fn address(ip: IpAddr, interface: u32, scope: u8, flags: u32) -> Vec<u8> {
        let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let mut message = vec![family as u8, 24, 0, scope];
        message.extend(interface.to_ne_bytes());
        match ip {
            IpAddr::V4(ip) => {
                put_attribute(&mut message, IFA_ADDRESS, &[192, 0, 2, 99]);
                put_attribute(&mut message, IFA_LOCAL, &ip.octets());
            }
            IpAddr::V6(ip) => put_attribute(&mut message, IFA_ADDRESS, &ip.octets()),
        }
        put_attribute(&mut message, IFA_FLAGS, &flags.to_ne_bytes());
        message
    }

    fn route(family: i32, bits: u8, table: u8, interface: u32, metric: u32) -> Vec<u8> {
        let mut message = vec![family as u8, bits, 0, 0, table, 0, 0, RTN_UNICAST, 0, 0, 0, 0];
        put_attribute(&mut message, RTA_OIF, &interface.to_ne_bytes());
        put_attribute(&mut message, RTA_PRIORITY, &metric.to_ne_bytes());
        message
    }

    fn read(addresses: &[Vec<u8>], routes: &[Vec<u8>]) -> Addresses {
        let routes: Vec<_> = routes.iter().filter_map(|route| parse_default_route(route)).collect();
        sort(addresses.iter().filter_map(|address| parse_address(address)).collect(), &routes)
    }

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn only_global_addresses_that_are_in_use() {
        let found = read(
            &[
                address(v4("127.0.0.1").into(), 1, 254, 0),
                address(v4("10.0.0.7").into(), 2, 0, 0),
                address("fe80::1".parse().unwrap(), 2, 253, 0),
                address("fd00::1".parse().unwrap(), 2, 0, IFA_F_TENTATIVE),
                address("fd00::2".parse().unwrap(), 2, 0, 0x80),
                address("fd00::3".parse().unwrap(), 2, 0, IFA_F_DADFAILED),
            ],
            &[],
        );
        assert_eq!(found, Addresses { v4: vec![v4("10.0.0.7")], v6: vec!["fd00::2".parse().unwrap()] });
    }

    #[test]
    fn the_interface_of_the_default_route_wins_then_the_lowest() {
        let addresses = [
            address(v4("10.0.0.3").into(), 3, 0, 0),
            address(v4("10.0.0.2").into(), 2, 0, 0),
            address(v4("10.0.0.5").into(), 5, 0, 0),
            address(v4("10.0.0.4").into(), 5, 0, 0),
        ];
        let order = |routes: &[Vec<u8>]| -> Vec<u8> {
            read(&addresses, routes).v4.iter().map(|ip| ip.octets()[3]).collect()
        };
        assert_eq!(order(&[]), [2, 3, 5, 4]);
        let routes = [
            route(libc::AF_INET, 0, 254, 3, 100),
            route(libc::AF_INET, 0, 254, 5, 50),
            route(libc::AF_INET, 8, 254, 2, 0),
            route(libc::AF_INET, 0, 7, 2, 0),
            route(libc::AF_INET6, 0, 254, 2, 0),
        ];
        assert_eq!(order(&routes), [5, 4, 2, 3]);
    }

    #[test]
    fn a_deprecated_address_is_the_last_choice() {
        let old = address("fd00::1".parse().unwrap(), 2, 0, IFA_F_DEPRECATED);
        let new = address("fd00::2".parse().unwrap(), 3, 0, 0);
        assert_eq!(
            read(&[old, new], &[]).v6,
            ["fd00::2", "fd00::1"].map(|ip| ip.parse::<Ipv6Addr>().unwrap())
        );
    }

    #[test]
    fn several_next_hops_count_by_the_first() {
        let mut message = vec![libc::AF_INET as u8, 0, 0, 0, 254, 0, 0, RTN_UNICAST, 0, 0, 0, 0];
        let mut hops = vec![8, 0, 0, 0];
        hops.extend(9u32.to_ne_bytes());
        put_attribute(&mut message, RTA_MULTIPATH, &hops);
        assert_eq!(parse_default_route(&message).unwrap().interface, 9);
        assert_eq!(parse_default_route(&message[..8]), None);
    }
}
