//! Who connects to what, as it is asked.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::SocketAddr,
    path::Path,
    str::FromStr,
};

use abi::{Name, Record, frontend::mode, space::address_use};
use anyhow::bail;
use kernel::Contents;

use crate::target::namespaced;

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Connecting {
    Host,
    Process(u32),
    /// A pod of this node.
    Pod {
        namespace: String,
        name: String,
    },
}

impl FromStr for Connecting {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "host" {
            return Ok(Self::Host);
        }
        if let Some(pod) = text.strip_prefix("pod/") {
            let (namespace, name) = namespaced(pod).map_err(|_| "give pod/NAMESPACE/NAME")?;
            return Ok(Self::Pod { namespace, name });
        }
        text.parse().map(Self::Process).map_err(|_| "give `host`, a process id or pod/NAMESPACE/NAME")
    }
}

/// Is there such a process? Where nothing tells, it is said later what fails.
pub(super) fn is_there(pid: u32) -> bool {
    !Path::new("/proc/self").exists() || Path::new(&format!("/proc/{pid}")).exists()
}

/// To what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// An address and a protocol.
    Address(SocketAddr, u8),
    /// A service, all of its addresses.
    Service {
        namespace: String,
        name: String,
        /// Name or number; empty: all ports.
        port: String,
    },
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(service) = text.strip_prefix("svc/") {
            let (service, port) = service.split_once(':').unwrap_or((service, ""));
            let (namespace, name) =
                namespaced(service).map_err(|_| "give svc/NAMESPACE/NAME:PORT".to_owned())?;
            return Ok(Self::Service { namespace, name, port: port.into() });
        }
        let (address, kind) = text
            .rsplit_once('/')
            .ok_or("give ip:port/tcp, ip:port/udp or svc/NAMESPACE/NAME:PORT".to_owned())?;
        let address =
            address.parse().map_err(|_| format!("{address:?}: give ip:port, with [brackets] around IPv6"))?;
        match kind.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Address(address, abi::TCP)),
            "udp" => Ok(Self::Address(address, abi::UDP)),
            _ => Err(format!("protocol {kind:?}: give tcp or udp")),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address, protocol) => {
                write!(f, "{address}/{}", observe::event::protocol(*protocol))
            }
            Self::Service { namespace, name, port } if port.is_empty() => {
                write!(f, "svc/{namespace}/{name}")
            }
            Self::Service { namespace, name, port } => write!(f, "svc/{namespace}/{name}:{port}"),
        }
    }
}

impl Destination {
    /// Addresses and protocols that it means.
    pub(super) fn find(&self, contents: &Contents) -> anyhow::Result<Vec<(SocketAddr, u8)>> {
        let (namespace, name, port) = match self {
            Self::Address(address, protocol) => return Ok(vec![(*address, *protocol)]),
            Self::Service { namespace, name, port } => (namespace, name, port),
        };
        let matches = |it: &Name| {
            Name::text(&it.namespace) == *namespace
                && Name::text(&it.service) == *name
                && (port.is_empty()
                    || Name::text(&it.port) == *port
                    || port.parse() == Ok(u16::from_be(it.port_be)))
        };
        let ids: BTreeSet<u32> =
            contents.names.iter().filter(|(_, it)| matches(it)).map(|(id, _)| *id).collect();
        let records: BTreeSet<u32> = contents
            .records
            .iter()
            .filter(|(_, record)| ids.contains(&record.service))
            .map(|(index, _)| *index)
            .collect();
        let by_index: HashMap<u32, &Record> =
            contents.records.iter().map(|(index, it)| (*index, it)).collect();
        let mut found: Vec<(SocketAddr, u8)> = contents
            .frontends
            .iter()
            .filter(|(_, index)| records.contains(index))
            .filter_map(|(key, index)| {
                let mut address = key.endpoint.socket_addr();
                // A node port has no address of its own: take one of this node, else of another.
                if by_index.get(index).is_some_and(|record| record.mode == mode::NODE_PORT) {
                    let of = |wanted: u32| {
                        let fits = |uses: u32| uses & wanted != 0;
                        let mut ips =
                            contents.addresses.iter().filter(|(_, uses)| fits(*uses)).map(|(ip, _)| *ip);
                        ips.find(|ip| ip.is_ipv4() == address.is_ipv4())
                    };
                    address.set_ip(of(address_use::THIS_NODE).or_else(|| of(address_use::OTHER_NODE))?);
                }
                Some((address, key.transport()))
            })
            .collect();
        found.sort();
        if found.is_empty() {
            bail!(
                "the kernel's tables have no frontend of {self}; `balancing get services` lists those there are"
            );
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_read() {
        let pod =
            |namespace: &str, name: &str| Connecting::Pod { namespace: namespace.into(), name: name.into() };
        for (text, expected) in [
            ("host", Ok(Connecting::Host)),
            ("4711", Ok(Connecting::Process(4711))),
            ("pod/shop/web-1", Ok(pod("shop", "web-1"))),
            ("pod/web-1", Err("give pod/NAMESPACE/NAME")),
            ("web-1", Err("give `host`, a process id or pod/NAMESPACE/NAME")),
            ("99999999999", Err("give `host`, a process id or pod/NAMESPACE/NAME")),
        ] {
            assert_eq!(text.parse::<Connecting>(), expected, "{text}");
        }
        assert!(is_there(std::process::id()) && !is_there(u32::MAX));
    }

    #[test]
    fn destinations_are_read() {
        for text in [
            "10.96.0.20:80/TCP",
            "[fd00:96::a]:53/UDP",
            "svc/shop/cart",
            "svc/shop/cart:http",
            "svc/shop/cart:80",
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
        }
        for (text, words) in [
            ("y", "give ip:port/tcp"),
            ("10.96.0.20:80", "give ip:port/tcp"),
            ("10.96.0.20/tcp", "\"10.96.0.20\": give ip:port"),
            ("fd00:96::a:53/tcp", "[brackets]"),
            ("10.96.0.20:80/sctp", "protocol \"sctp\": give tcp or udp"),
            ("svc/cart:http", "give svc/NAMESPACE/NAME:PORT"),
        ] {
            let error = text.parse::<Destination>().unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
