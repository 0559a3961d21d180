//! A small service with backends, and those who ask it.

use std::{
    fmt::Display,
    io,
    net::{IpAddr, SocketAddr},
};

use anyhow::Result;
use testkit::{
    Backend, Exchange, Family, Kind, exchange,
    object::{documents, endpoint, service, slice},
};

use super::Host;

/// A dual-stack Service `default/NAME` with the VIPs `10.96.0.LOW` and `fd00:96::LOW`, ports `http` (80/TCP)
/// and `dns` (53/UDP), and the backends `10.1.0.N` and `fd00:1::N`, on ports 8080 and 5353.
pub fn manifest(name: &str, low: u8, backends: &[u8]) -> String {
    manifest_with(name, low, backends, &[])
}

/// The same, with further fields of the Service's spec.
pub fn manifest_with(name: &str, low: u8, backends: &[u8], fields: &[(&str, &str)]) -> String {
    let mut object = service(name)
        .cluster_ip(format!("10.96.0.{low}"))
        .cluster_ip(format!("fd00:96::{low:x}"))
        .field("ipFamilies", "[IPv4, IPv6]")
        .field("ipFamilyPolicy", "RequireDualStack")
        .port("http:80/TCP")
        .port("dns:53/UDP");
    for (field, value) in fields {
        object = object.field(field, value);
    }
    let of = |family: &str, prefix: &str| {
        let empty = slice(&format!("{name}-{family}"), name).port("http:8080/TCP").port("dns:5353/UDP");
        backends.iter().fold(empty, |slice, low| {
            slice
                .endpoint(endpoint(format!("{prefix}{low}")).node("n2").pod(&format!("default/{name}-{low}")))
        })
    };
    let objects: [&dyn Display; 3] = [&object, &of("v4", "10.1.0."), &of("v6", "fd00:1::").ipv6()];
    documents(&objects)
}

/// Servers `bN` at the addresses of backend `N`.
///
/// # Errors
/// An address is taken.
pub fn serve(host: &Host, backends: &[u8]) -> Result<Vec<Backend>> {
    let mut servers = Vec::new();
    for low in backends {
        let name = format!("b{low}");
        for ip in [IpAddr::from([10, 1, 0, *low]), IpAddr::from([0xfd00, 1, 0, 0, 0, 0, 0, u16::from(*low)])]
        {
            servers.push(Backend::tcp(host.namespace(), &name, SocketAddr::new(ip, 8080))?);
            servers.push(Backend::udp(host.namespace(), &name, SocketAddr::new(ip, 5353))?);
        }
    }
    Ok(servers)
}

/// The VIP and port that a kind of socket asks.
pub fn vip(kind: Kind, family: Family, low: u8) -> SocketAddr {
    let ip = match family {
        Family::V6 => IpAddr::from([0xfd00, 0x96, 0, 0, 0, 0, 0, u16::from(low)]),
        Family::V4 | Family::Mapped => IpAddr::from([10, 96, 0, low]),
    };
    SocketAddr::new(ip, if kind == Kind::Tcp { 80 } else { 53 })
}

/// Asks by a TCP connection over IPv4 from a thread inside.
///
/// # Errors
/// As connect and read give them.
pub fn ask(host: &Host, low: u8) -> io::Result<Exchange> {
    let vip = vip(Kind::Tcp, Family::V4, low);
    host.run(|| exchange(Kind::Tcp, Family::V4, vip))
}

/// Asks by every kind of socket in every family; checks that one of `backends` answers from the VIP.
#[track_caller]
pub fn all_answer(host: &Host, low: u8, backends: &[u8]) {
    for (kind, family) in Kind::ALL.into_iter().flat_map(|kind| Family::ALL.map(|family| (kind, family))) {
        let vip = vip(kind, family, low);
        match host.run(|| exchange(kind, family, vip)) {
            Ok(seen) => {
                assert_eq!(seen.peer, vip, "{kind:?} {family:?}: {seen:?}");
                let known = backends.iter().any(|low| seen.backend == format!("b{low}"));
                assert!(known, "{kind:?} {family:?}: {seen:?} is none of {backends:?}");
            }
            Err(error) => panic!("{kind:?} {family:?} {vip}: {error}"),
        }
    }
}

/// Checks that nothing is translated: beyond the namespace's own addresses there is nothing.
#[track_caller]
pub fn none_answer(host: &Host, low: u8) {
    for (kind, family) in Kind::ALL.into_iter().flat_map(|kind| Family::ALL.map(|family| (kind, family))) {
        let vip = vip(kind, family, low);
        match host.run(|| exchange(kind, family, vip)) {
            Err(error) if error.raw_os_error() == Some(libc::ENETUNREACH) => {}
            outcome => panic!("{kind:?} {family:?} {vip}: {outcome:?} in place of ENETUNREACH"),
        }
    }
}
