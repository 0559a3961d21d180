//! What the addresses of nodes are for (R14).

use std::{collections::BTreeMap, net::IpAddr};

use abi::space::address_use;
use model::{Cluster, NodePortAddresses};

/// The addresses that serve node ports, each with its [`address_use`]: this node's as `chosen` selects them, those of
/// all other nodes. `interfaces` as for [`NodePortAddresses::select`].
pub fn node_addresses(
    cluster: &Cluster,
    chosen: &[NodePortAddresses],
    interfaces: &[IpAddr],
) -> BTreeMap<IpAddr, u32> {
    let here = &cluster.view().node;
    let others = cluster.nodes().filter(|node| node.name != *here);
    let mut addresses: BTreeMap<IpAddr, u32> = others
        .flat_map(|node| node.internal_ips.iter().chain(&node.external_ips))
        .map(|ip| (*ip, address_use::OTHER_NODE))
        .collect();
    // What this node has is this node's, whoever else claims it.
    let own =
        cluster.node(here).into_iter().flat_map(|node| node.internal_ips.iter().chain(&node.external_ips));
    for ip in own.chain(interfaces) {
        addresses.remove(ip);
    }
    for ip in NodePortAddresses::select(chosen, cluster.node(here), interfaces) {
        let what = if ip.is_loopback() { address_use::LOOPBACK } else { address_use::THIS_NODE };
        addresses.insert(ip, what);
    }
    addresses
}
