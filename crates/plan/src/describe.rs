//! Text for keys, records and names, as plans, differences and refusals show them.

use abi::{Backend, Key, Name, Range, Record, frontend::backend_flag, frontend::mode};
use model::{Family, Protocol, ServicePortName};

/// `10.0.0.1:80/TCP`.
pub(crate) fn key(key: &Key) -> String {
    format!("{}/{}", key.endpoint.socket_addr(), protocol(key.protocol))
}

/// `namespace/name:port/TCP IPv4`.
pub(crate) fn port(port: &ServicePortName) -> String {
    format!("{port} {}", family(port.family))
}

/// `10.0.0.1:80/TCP ClusterIP of service 3, backends at 5..9`.
pub(crate) fn record(record: &Record) -> String {
    format!(
        "{} {} of service {}, flags {:#x}, {}",
        key(&record.key()),
        mode::name(record.mode),
        record.service,
        record.flags,
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
