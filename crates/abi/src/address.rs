//! Addresses as the maps hold them.

use bytemuck::{Pod, Zeroable};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An IPv6 address in network byte order, four words as `bpf_sock_addr` has them; IPv4 as `::ffff:a.b.c.d`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct Address(pub [u32; 4]);

// So are the programs (target bpfel), which share memory with what user space writes.
const _: () = assert!(cfg!(target_endian = "little"), "only little-endian machines are supported");

/// Third word of an IPv4-mapped address.
const MAPPED: u32 = u32::from_be(0xffff);

impl Address {
    /// An IPv4 address; `word` is in network byte order.
    #[inline(always)]
    pub const fn v4(word: u32) -> Self {
        Self::from_halves([0, MAPPED as u64 | (word as u64) << 32])
    }

    /// From the first two words and the last two, the first of each lowest.
    ///
    /// Where an address is put together this is the way, not word by word: a processor can't forward two small stores to one
    /// larger load, and waits until all that was stored before has reached its cache. (`sendmsg4` took 2.5 hash look-ups
    /// more.)
    #[inline(always)]
    pub const fn from_halves(halves: [u64; 2]) -> Self {
        Self(bytemuck::must_cast(halves))
    }

    /// The first two words and the last two, the first of each lowest.
    #[inline(always)]
    pub const fn halves(&self) -> [u64; 2] {
        bytemuck::must_cast(self.0)
    }

    /// The IPv4 word in network byte order, if this is an IPv4 address.
    #[inline(always)]
    pub const fn as_v4(&self) -> Option<u32> {
        let [a, b, c, d] = self.0;
        if a == 0 && b == 0 && c == MAPPED { Some(d) } else { None }
    }

    /// As the standard library has it; IPv4-mapped addresses become IPv4.
    pub fn ip(&self) -> IpAddr {
        match self.as_v4() {
            Some(word) => Ipv4Addr::from(u32::from_be(word)).into(),
            None => Ipv6Addr::from(bytemuck::cast::<[u32; 4], [u8; 16]>(self.0)).into(),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::v4(u32::from(ip).to_be()),
            IpAddr::V6(ip) => Self(bytemuck::cast(ip.octets())),
        }
    }
}

/// An address and a port, both in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port in network byte order.
    pub port_be: u16,
}

impl Endpoint {
    /// As the standard library has it; IPv4-mapped addresses become IPv4.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), u16::from_be(self.port_be))
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self { address: addr.ip().into(), port_be: addr.port().to_be() }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn addresses_survive_the_way_there_and_back() {
        for text in ["10.1.2.3:80", "[fd00::1:2]:443", "0.0.0.0:0", "[::1]:53"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(Endpoint::from(addr).socket_addr().to_string(), text);
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        let mapped: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        let plain: IpAddr = "10.1.2.3".parse().unwrap();
        assert_eq!(Address::from(mapped), Address::from(plain));
        assert_eq!(Address::from(plain).ip(), plain);
    }

    #[test]
    fn halves_are_the_words_in_order() {
        let address = Address([1, 2, 3, 4]);
        assert_eq!(address.halves(), [1 | 2 << 32, 3 | 4 << 32]);
        assert_eq!(Address::from_halves(address.halves()), address);
        assert_eq!(Address::v4(7), Address([0, 0, MAPPED, 7]));
    }
}
