//! What addresses are, where no frontend says what to do with them.
//!
//! ```text
//! spaces         index -> Space       which addresses and ports are worth a look into `addresses`
//! addresses4/6   address -> Use       cluster IPs, and addresses of nodes
//! ```
//!
//! A connection that is for no service pays one failed look-up of a frontend; the second, into `addresses`, only where
//! `Space` says that there could be something.

use crate::Address;
use bytemuck::{Pod, Zeroable};

/// Prefixes that a [`Space`] has room for, in each family.
pub const PREFIXES: usize = 8;

/// Addresses of a prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Prefix {
    /// The network's address; bits that the mask does not cover are 0.
    pub network: Address,
    /// Set bits count. IPv4: also those that make it a mapped address.
    pub mask: Address,
    /// Bits of [`prefix_flag`]; 0 = this and all that follow are not in use.
    pub flags: u32,
}

impl Prefix {
    /// Is the address in it?
    #[inline(always)]
    pub const fn covers(&self, address: &Address) -> bool {
        let ([a, b, c, d], [e, f, g, h], [i, j, k, l]) = (address.0, self.mask.0, self.network.0);
        // One comparison: branches cost the verifier more than the processor saves.
        ((a & e) ^ i) | ((b & f) ^ j) | ((c & g) ^ k) | ((d & h) ^ l) == 0
    }
}

/// Bits of [`Prefix::flags`].
pub mod prefix_flag {
    /// There are cluster IPs in it.
    pub const SERVICES: u32 = 1;
    /// It is a ServiceCIDR: what is in it and belongs to no service is nowhere (R12).
    pub const RESERVED: u32 = 2;
}

/// Which addresses and ports may mean something though they are no frontend.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Space {
    /// ServiceCIDRs, and what covers the cluster IPs outside of these, IPv4.
    pub v4: [Prefix; PREFIXES],
    /// The same, IPv6.
    pub v6: [Prefix; PREFIXES],
    /// Lowest node port, host byte order.
    pub first_node_port: u16,
    /// Highest node port, host byte order; 0 = there are none.
    pub last_node_port: u16,
}

impl Space {
    /// Bits of [`prefix_flag`] for an address.
    #[inline(always)]
    pub fn area(&self, address: &Address) -> u32 {
        let prefixes = if address.as_v4().is_some() { &self.v4 } else { &self.v6 };
        let mut area = 0;
        for prefix in prefixes {
            if prefix.flags == 0 {
                break;
            }
            if prefix.covers(address) {
                area |= prefix.flags;
            }
        }
        area
    }

    /// Can this be a node port?
    #[inline(always)]
    pub const fn may_be_node_port(&self, port_be: u16) -> bool {
        let port = u16::from_be(port_be);
        port >= self.first_node_port && port <= self.last_node_port && port != 0
    }
}

/// Value of `addresses4`. The key comes first: a replaced element of a bpf hash may be another's by the time it is
/// read, and is written from its beginning; who reads the rest, and then finds its own key, has read its own value.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Use4 {
    /// The address, network byte order: the key, repeated.
    pub address: u32,
    /// Bits of [`address_use`].
    pub uses: u32,
}

/// Value of `addresses6`: see [`Use4`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Use6 {
    /// The address, network byte order: the key, repeated.
    pub address: [u32; 4],
    /// Bits of [`address_use`].
    pub uses: u32,
}

/// What an address is.
pub mod address_use {
    /// The cluster IP of a service of ours: its other ports are refused (R12).
    pub const CLUSTER_IP: u32 = 1;
    /// The cluster IP of a service that somebody else proxies (R12).
    pub const FOREIGN: u32 = 2;
    /// An address of this node that serves node ports (R14).
    pub const THIS_NODE: u32 = 4;
    /// An address of another node (R14).
    pub const OTHER_NODE: u32 = 8;
    /// A loopback address that serves node ports, for sockets of the host's network namespace (R14).
    pub const LOOPBACK: u32 = 16;
    /// An external IP or load balancer VIP: its other ports are somebody else's (R12).
    pub const VIP: u32 = 32;
    /// Those that serve node ports.
    pub const NODES: u32 = THIS_NODE | OTHER_NODE | LOOPBACK;
}

const _: () = assert!(size_of::<Prefix>() == 36);
const _: () = assert!(size_of::<Space>() == 580);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::net::IpAddr;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn prefix(network: &str, mask: &str, flags: u32) -> Prefix {
        Prefix { network: address(network), mask: address(mask), flags }
    }

    #[test]
    fn r12_an_address_is_in_the_prefixes_that_cover_it() {
        let all = "ffff:ffff:ffff:ffff:ffff:ffff";
        let mut space = Space::default();
        let mask = |v4: &str| std::format!("{all}:{v4}");
        space.v4[0] = prefix("10.96.0.0", &mask("fff0:0"), 3);
        space.v4[1] = prefix("10.0.0.0", &mask("ff00:0"), 1);
        space.v4[3] = prefix("192.168.0.0", &mask("ffff:0"), 1);
        space.v6[0] = prefix("fd00:96::", "ffff:ffff::", 2);
        let cases = [
            ("10.96.0.1", 3),
            ("10.111.255.255", 3),
            ("10.112.0.0", 1),
            ("11.0.0.0", 0),
            // Behind the first that is not in use.
            ("192.168.0.1", 0),
            ("fd00:96::1", 2),
            ("fd00:97::1", 0),
            ("::", 0),
            ("0.0.0.0", 0),
        ];
        for (text, area) in cases {
            assert_eq!(space.area(&address(text)), area, "{text}");
        }
    }

    #[test]
    fn r14_node_ports_are_a_range() {
        let ports =
            |first_node_port, last_node_port| Space { first_node_port, last_node_port, ..Space::default() };
        let is = |space: Space, port: u16| space.may_be_node_port(port.to_be());
        for (port, expected) in
            [(29_999, false), (30_000, true), (30_500, true), (32_767, true), (32_768, false)]
        {
            assert_eq!(is(ports(30_000, 32_767), port), expected, "{port}");
        }
        assert!(is(ports(80, 80), 80));
        assert!(!is(ports(0, 0), 0), "none");
        assert!(!is(Space::default(), 80));
    }
}
