//! R14: which addresses of this node serve node ports.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

use crate::object::{Family, Node};

/// One choice of addresses, as kube-proxy's `nodePortAddresses` has them (kubernetes 1.36
/// pkg/proxy/util/nodeport_addresses.go), and `all` and `localhost` besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// The node's first address of each family: of type InternalIP, else ExternalIP.
    Primary,
    /// All addresses of its interfaces, except loopback ones.
    All,
    /// 127.0.0.1 and ::1, for sockets of the host's network namespace.
    Localhost,
    /// Those addresses of its interfaces that are in this range, except loopback ones.
    Within(IpNet),
}

impl FromStr for NodePortAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "primary" => Ok(Self::Primary),
            "all" => Ok(Self::All),
            "localhost" => Ok(Self::Localhost),
            range => range
                .parse::<IpNet>()
                .map(|range| Self::Within(range.trunc()))
                .map_err(|_| format!("{text:?} is not primary, all, localhost, or a range like 10.0.0.0/8")),
        }
    }
}

impl fmt::Display for NodePortAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::All => f.write_str("all"),
            Self::Localhost => f.write_str("localhost"),
            Self::Within(range) => range.fmt(f),
        }
    }
}

impl NodePortAddresses {
    /// The addresses that these choices select. `node` is this node, if it is known; `interfaces` are the addresses of
    /// its interfaces, the one that leaves the machine first in each family.
    pub fn select(chosen: &[Self], node: Option<&Node>, interfaces: &[IpAddr]) -> BTreeSet<IpAddr> {
        let outside = || interfaces.iter().copied().filter(|ip| !ip.is_loopback());
        let mut selected = BTreeSet::new();
        for choice in chosen {
            match choice {
                Self::Primary => selected.extend([Family::V4, Family::V6].into_iter().filter_map(|family| {
                    let of_node =
                        node.into_iter().flat_map(|it| it.internal_ips.iter().chain(&it.external_ips));
                    // A machine that is no node, or is none yet, has the address that it is known by.
                    of_node.copied().chain(outside()).find(|ip| Family::of(*ip) == family)
                })),
                Self::All => selected.extend(outside()),
                Self::Localhost => {
                    selected
                        .extend([IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16])]);
                }
                Self::Within(range) => selected.extend(outside().filter(|ip| range.contains(ip))),
            }
        }
        selected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn r14_node_port_addresses() {
        let interfaces =
            ips(&["192.0.2.7", "fd00::7", "127.0.0.1", "10.0.0.7", "10.9.0.7", "fd00:9::7", "::1"]);
        let node = Node {
            internal_ips: ips(&["10.0.0.7", "10.0.0.8", "fd00::8"]),
            external_ips: ips(&["203.0.113.7"]),
            ..Node::default()
        };
        let external = Node { external_ips: ips(&["203.0.113.7", "fd00:e::7"]), ..Node::default() };
        let cases: [(&[&str], Option<&Node>, &[&str]); 12] = [
            (&["primary"], Some(&node), &["10.0.0.7", "fd00::8"]),
            (&["primary"], Some(&external), &["203.0.113.7", "fd00:e::7"]),
            (&["primary"], Some(&Node::default()), &["192.0.2.7", "fd00::7"]),
            (&["primary"], None, &["192.0.2.7", "fd00::7"]),
            (&["all"], Some(&node), &["192.0.2.7", "10.0.0.7", "10.9.0.7", "fd00::7", "fd00:9::7"]),
            (&["localhost"], Some(&node), &["127.0.0.1", "::1"]),
            (&["primary", "localhost"], Some(&node), &["10.0.0.7", "127.0.0.1", "fd00::8", "::1"]),
            (&["10.9.0.0/16"], Some(&node), &["10.9.0.7"]),
            // The address given may have host bits.
            (&["10.9.1.1/16", "fd00:9::/64"], Some(&node), &["10.9.0.7", "fd00:9::7"]),
            // Loopback addresses only by the word.
            (&["127.0.0.0/8", "::1/128"], Some(&node), &[]),
            // A range is one of interfaces, whatever the Node says.
            (&["203.0.113.0/24"], Some(&node), &[]),
            (&[], Some(&node), &[]),
        ];
        for (chosen, node, expected) in cases {
            let parsed: Vec<NodePortAddresses> = chosen.iter().map(|text| text.parse().unwrap()).collect();
            let got = NodePortAddresses::select(&parsed, node, &interfaces);
            assert_eq!(got, ips(expected).into_iter().collect(), "{chosen:?} of {node:?}");
        }
    }

    #[test]
    fn r14_choices_are_words_and_ranges() {
        for text in ["primary", "all", "localhost", "10.0.0.0/8", "fd00::/16"] {
            assert_eq!(text.parse::<NodePortAddresses>().unwrap().to_string(), text);
        }
        assert_eq!(" primary ".parse(), Ok(NodePortAddresses::Primary));
        for text in ["", "Primary", "10.0.0.1", "10.0.0.0/33", "primary,all"] {
            let error = text.parse::<NodePortAddresses>().unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }
}
