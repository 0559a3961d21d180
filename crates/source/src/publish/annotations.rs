//! What the annotations of this node are to be (spec/surface.md): a decision about what is known, without doing anything.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use model::{Family, Node, NodeAnnotation};

use super::hash::fnv32;

/// What the agent of a node is to write to it, and what is wrong with what others have written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// All that is to be the agent's; what an administrator has written is not among it.
    pub(super) ours: BTreeMap<NodeAnnotation, String>,
    /// Administrators' values that make no sense. They stay.
    pub(super) problems: BTreeMap<NodeAnnotation, String>,
}

impl Wanted {
    /// Does the node say so already?
    pub(super) fn is_in_force(&self, own: &Node) -> bool {
        let ours = own.annotations.iter().filter(|(_, it)| it.is_ours);
        ours.map(|(which, it)| (which, &it.value)).eq(&self.ours)
    }
}

/// Decides for `own`; `others` are all other nodes, in any order.
pub(super) fn wanted<'a>(own: &Node, others: impl IntoIterator<Item = &'a Node>) -> Wanted {
    let others: Vec<&Node> = others.into_iter().collect();
    let mut wanted = Wanted::default();
    for which in NodeAnnotation::ALL {
        let theirs = own.annotations.get(&which).filter(|it| !it.is_ours);
        let (ours, problem) = match (which, theirs) {
            (NodeAnnotation::NodeId, None) => (Some(id(own, &others).to_string()), None),
            (NodeAnnotation::NodeId, Some(_)) => (None, problem_of_id(own, &others)),
            (_, None) => (address(own, family(which)).map(|ip| ip.to_string()), None),
            (_, Some(theirs)) => (None, problem_of_address(&theirs.value, family(which))),
        };
        wanted.ours.extend(ours.map(|text| (which, text)));
        wanted.problems.extend(problem.map(|text| (which, text)));
    }
    wanted
}

fn family(which: NodeAnnotation) -> Family {
    if which == NodeAnnotation::NodeProxyIpv6 { Family::V6 } else { Family::V4 }
}

fn address(own: &Node, family: Family) -> Option<IpAddr> {
    own.internal_ips.iter().copied().find(|ip| Family::of(*ip) == family)
}

/// An id that the node has stays its own, unless a node that goes before it has it too. Without one it is made from the
/// node's UID. Where that is taken it is the next that is free.
fn id(own: &Node, others: &[&Node]) -> u32 {
    let first = match own.id() {
        Some(id) if others.iter().all(|other| other.id() != Some(id) || !goes_before(other, own)) => {
            return id;
        }
        Some(id) => id,
        None => fnv32(own.uid.as_bytes()).max(1),
    };
    let ids: BTreeSet<u32> = others.iter().filter_map(|node| node.id()).collect();
    // There are more numbers than nodes.
    let following = (first..=u32::MAX).chain(1..first);
    following.into_iter().find(|id| !ids.contains(id)).unwrap_or(first)
}

/// Of two nodes with one id: does `other` keep it? An administrator's does, for nobody else may change it; else the older.
fn goes_before(other: &Node, own: &Node) -> bool {
    let rank = |node: &Node| {
        let is_fixed = node.annotations.get(&NodeAnnotation::NodeId).is_some_and(|it| !it.is_ours);
        (Reverse(is_fixed), node.created)
    };
    let name = |node: &Node| (node.name.clone(), node.uid.clone());
    rank(other).cmp(&rank(own)).then_with(|| name(other).cmp(&name(own))).is_lt()
}

fn problem_of_id(own: &Node, others: &[&Node]) -> Option<String> {
    let Some(id) = own.id() else {
        let text = own.annotations.get(&NodeAnnotation::NodeId).map_or("", |it| &it.value);
        return Some(format!("{text:?} is no number from 1 to {}", u32::MAX));
    };
    let is_fixed =
        |node: &&&Node| node.annotations.get(&NodeAnnotation::NodeId).is_some_and(|it| !it.is_ours);
    let twin = others.iter().filter(|other| other.id() == Some(id)).find(is_fixed)?;
    Some(format!("{id} is the id of Node {} too, and neither was given by an agent", twin.name))
}

fn problem_of_address(text: &str, family: Family) -> Option<String> {
    let is_right = text.parse().is_ok_and(|ip: IpAddr| {
        Family::of(ip) == family && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()
    });
    let name = if family == Family::V4 { "IPv4" } else { "IPv6" };
    (!is_right).then(|| format!("{text:?} is no {name} address of a node"))
}

#[cfg(test)]
mod tests;
