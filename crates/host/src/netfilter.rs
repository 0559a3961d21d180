//! What kube-proxy leaves in the kernel's packet filter, also when it is gone: its rules go on as they were.

use std::{collections::BTreeSet, io};

use rustix::net::netlink;

use crate::{
    error::{Error, Result},
    netlink::{Netlink, attribute},
};

/// Kinds of messages: those of nf_tables (linux/netfilter/nfnetlink.h, nf_tables.h).
const NFNL_SUBSYS_NFTABLES: u16 = 10 << 8;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_GETCHAIN: u16 = 4;
/// The attribute that has a table's name, of tables and of chains; and a chain's name.
const NFTA_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
/// `struct nfgenmsg`.
const HEADER: usize = 4;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// Its table in nftables mode, and its first chain in iptables mode (kubernetes 1.36 pkg/proxy/nftables/proxier.go,
/// pkg/proxy/iptables/proxier.go).
const TABLE: &str = "kube-proxy";
const CHAIN: &str = "KUBE-SERVICES";

/// Tables and chains of kube-proxy in the calling thread's network namespace, as `nft` names them. Those that a legacy iptables
/// has made are not seen.
pub fn of_kube_proxy() -> Result<BTreeSet<String>> {
    match read() {
        Ok(found) => Ok(found),
        // This kernel has no nf_tables.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPROTONOSUPPORT)) => {
            Ok(BTreeSet::new())
        }
        Err(source) => Err(Error::Call {
            call: "NFT_MSG_GETTABLE, NFT_MSG_GETCHAIN",
            object: "this network namespace".into(),
            source,
            next: "`nft list tables` asks the kernel for the same, and takes CAP_NET_ADMIN",
        }),
    }
}

fn read() -> io::Result<BTreeSet<String>> {
    let mut netlink = Netlink::open(Some(netlink::NETFILTER))?;
    let mut found = BTreeSet::new();
    // AF_UNSPEC: all families.
    netlink.dump(NFNL_SUBSYS_NFTABLES | NFT_MSG_GETTABLE, &[0; HEADER], |message| {
        found.extend(table(message))
    })?;
    netlink.dump(NFNL_SUBSYS_NFTABLES | NFT_MSG_GETCHAIN, &[0; HEADER], |message| {
        found.extend(chain(message))
    })?;
    Ok(found)
}

fn table(message: &[u8]) -> Option<String> {
    let (family, name) = (family(message)?, text(message, NFTA_TABLE)?);
    (name == TABLE).then(|| format!("table {family} {name}"))
}

fn chain(message: &[u8]) -> Option<String> {
    let (family, table) = (family(message)?, text(message, NFTA_TABLE)?);
    let name = text(message, NFTA_CHAIN_NAME)?;
    (name == CHAIN).then(|| format!("chain {family} {table} {name}"))
}

fn family(message: &[u8]) -> Option<&'static str> {
    match *message.first()? {
        NFPROTO_IPV4 => Some("ip"),
        NFPROTO_IPV6 => Some("ip6"),
        _ => None,
    }
}

/// A text that ends with NUL.
fn text(message: &[u8], kind: u16) -> Option<&str> {
    let value = attribute(message.get(HEADER..)?, kind)?;
    std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::put_attribute;

    fn message(family: u8, names: &[(u16, &str)]) -> Vec<u8> {
        let mut message = vec![family, 0, 0, 0];
        for (kind, name) in names {
            put_attribute(&mut message, *kind, format!("{name}\0").as_bytes());
        }
        message
    }

    #[test]
    fn its_tables_and_chains_are_told_from_others() {
        for (family, name, found) in [
            (NFPROTO_IPV4, "kube-proxy", Some("table ip kube-proxy")),
            (NFPROTO_IPV6, "kube-proxy", Some("table ip6 kube-proxy")),
            (1, "kube-proxy", None),
            (NFPROTO_IPV4, "kube-proxy2", None),
            (NFPROTO_IPV4, "nat", None),
        ] {
            assert_eq!(table(&message(family, &[(NFTA_TABLE, name)])).as_deref(), found, "{family} {name}");
        }
        let of = |table, name| chain(&message(NFPROTO_IPV4, &[(NFTA_TABLE, table), (NFTA_CHAIN_NAME, name)]));
        assert_eq!(of("nat", "KUBE-SERVICES").as_deref(), Some("chain ip nat KUBE-SERVICES"));
        assert_eq!(of("nat", "KUBE-SVC-X"), None);
        assert_eq!((table(&[]), chain(&[2, 0, 0, 0]), table(&[2])), (None, None, None));
    }
}
