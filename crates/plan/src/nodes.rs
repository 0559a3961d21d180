//! What the addresses of nodes are for (R14).

use std::{collections::BTreeMap, net::IpAddr};

use abi::space::address_use;
use model::{Cluster, NodePortAddresses};

/// The addresses that serve node ports, each with its [`address_use`]: this node's as `chosen` selects them, those of
/// all other nodes. `interfaces` as for [`NodePortAddresses::select`]. Outside of the cluster (P11): of all nodes, if at all.
pub fn node_addresses(
    cluster: &Cluster,
    chosen: &[NodePortAddresses],
    interfaces: &[IpAddr],
) -> BTreeMap<IpAddr, u32> {
    let view = cluster.view();
    if !view.serves_external() {
        return BTreeMap::new();
    }
    let others = cluster.nodes().filter(|node| view.outside.is_some() || node.name != view.node);
    let mut addresses: BTreeMap<IpAddr, u32> = others
        .flat_map(|node| node.internal_ips.iter().chain(&node.external_ips))
        .map(|ip| (*ip, address_use::OTHER_NODE))
        .collect();
    if view.outside.is_some() {
        return addresses;
    }
    // What this node has is this node's, whoever else claims it.
    let node = cluster.own_node();
    let own = node.into_iter().flat_map(|node| node.internal_ips.iter().chain(&node.external_ips));
    for ip in own.chain(interfaces) {
        addresses.remove(ip);
    }
    for ip in NodePortAddresses::select(chosen, node, interfaces) {
        let what = if ip.is_loopback() { address_use::LOOPBACK } else { address_use::THIS_NODE };
        addresses.insert(ip, what);
    }
    addresses
}
