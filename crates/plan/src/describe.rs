//! Text for keys, records and names, as plans, differences and refusals show them.

use std::fmt::Write;

use abi::{
    Address, Backend, Key, Name, Range, Record, Space,
    client::SourceKey,
    frontend::{backend_flag, level, mode},
    space::{address_use, prefix_flag},
};
use model::{Family, Protocol, ServicePortName};

/// `10.0.0.1:80/TCP`.
pub(crate) fn key(key: &Key) -> String {
    let level = match key.level() {
        level::FIRST => "",
        level::BALANCING => " below a LocalRedirectPolicy",
        _ => " below a policy",
    };
    format!("{}/{}{level}", key.endpoint.socket_addr(), protocol(key.transport()))
}

/// `namespace/name:port/TCP IPv4`.
pub(crate) fn port(port: &ServicePortName) -> String {
    format!("{port} {}", family(port.family))
}

/// `10.0.0.1:80/TCP ClusterIP of service 3, backends at 5..9`.
pub(crate) fn record(record: &Record) -> String {
    let limit = if record.limit == 0 { String::new() } else { format!("{} a second, ", record.limit) };
    format!(
        "{} {} of service {}, flags {:#x}, affinity {} s, {limit}{}",
        key(&record.key()),
        mode::name(record.mode),
        record.service,
        record.flags,
        record.affinity,
        range(record.local)
    )
}

/// `backends at 5..9`.
pub(crate) fn range(range: Range) -> String {
    match range.len {
        0 => "no backends".into(),
        len => format!("backends at {}..{}", range.start, u64::from(range.start) + u64::from(len)),
    }
}

/// `10.0.0.1:80 of service 3, generation 7, live usable`.
pub(crate) fn backend(backend: &Backend) -> String {
    let flags = [
        (backend_flag::LIVE, " live"),
        (backend_flag::USABLE, " usable"),
        (backend_flag::TERMINATING, " terminating"),
        (backend_flag::INTERNAL, " internal"),
        (backend_flag::CLUSTER, " cluster"),
    ];
    let mut text = format!(
        "{} of service {}, generation {},",
        backend.endpoint().socket_addr(),
        backend.service,
        backend.generation
    );
    let set: String =
        flags.iter().filter(|(bit, _)| backend.flags & bit != 0).map(|(_, word)| *word).collect();
    text.push_str(if set.is_empty() { " free" } else { &set });
    text
}

/// `namespace/service:port/TCP IPv4, port 80, uid ...`.
pub(crate) fn name(name: &Name) -> String {
    format!(
        "{}/{}:{}/{} IPv{}, port {}, uid {:?}",
        Name::text(&name.namespace),
        Name::text(&name.service),
        Name::text(&name.port),
        protocol(name.protocol),
        name.family,
        u16::from_be(name.port_be),
        Name::text(&name.uid)
    )
}

/// `10.0.0.0/8 of service 3`.
pub(crate) fn source(key: &SourceKey) -> String {
    let ip = Address(key.address).ip();
    let bits = key.bits.saturating_sub(if ip.is_ipv4() { 32 + 96 } else { 32 });
    format!("{ip}/{bits} of service {}", key.service)
}

/// `cluster IP, VIP`.
pub(crate) fn uses(uses: u32) -> String {
    let words = [
        (address_use::CLUSTER_IP, "cluster IP"),
        (address_use::FOREIGN, "cluster IP of another proxy's service"),
        (address_use::VIP, "VIP"),
        (address_use::THIS_NODE, "this node"),
        (address_use::OTHER_NODE, "another node"),
        (address_use::LOOPBACK, "loopback of this node"),
    ];
    let set: Vec<&str> = words.iter().filter(|(bit, _)| uses & bit != 0).map(|(_, word)| *word).collect();
    if set.is_empty() { format!("unknown ({uses:#x})") } else { set.join(", ") }
}

/// `reserved 10.96.0.0/12, services in 10.0.0.0/8, node ports 30080-32767`.
pub(crate) fn space(space: &Space) -> String {
    let mut text = String::new();
    for prefix in space.v4.iter().chain(&space.v6).filter(|prefix| prefix.flags != 0) {
        let ip = prefix.network.ip();
        let bits: u32 = prefix.mask.0.iter().map(|word| word.count_ones()).sum();
        let bits = if ip.is_ipv4() { bits.saturating_sub(96) } else { bits };
        let is_reserved = prefix.flags & prefix_flag::RESERVED != 0;
        let _ = write!(text, "{} {ip}/{bits}, ", if is_reserved { "reserved" } else { "services in" });
    }
    match (space.first_node_port, space.last_node_port) {
        (0, 0) => text.push_str("no node ports"),
        (first, last) => drop(write!(text, "node ports {first}-{last}")),
    }
    text
}

fn protocol(number: u8) -> String {
    match number {
        abi::TCP => Protocol::Tcp.to_string(),
        abi::UDP => Protocol::Udp.to_string(),
        other => format!("protocol {other}"),
    }
}

fn family(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
