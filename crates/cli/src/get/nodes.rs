//! `balancing get nodes`: what the agent knows of nodes.

use std::net::IpAddr;

use agent::local::{self, Node, Request};

use super::filter::{Facts, Subject};
use crate::{
    output::{Row, or_dash},
    place::Place,
};

impl Subject for Node {
    const NOUN: (&'static str, &'static str) = ("node", "nodes");
    const LISTING: &'static str = "nodes";
    const NONE: &'static str = "the source gives none; without a cluster they are manifests of kind Node";
    const FILTERS: &'static [&'static str] = &["--family"];

    fn facts(&self) -> Facts<'_> {
        let addresses = self.internal_ips.iter().chain(&self.external_ips).copied().collect();
        Facts { name: self.name.as_str().into(), addresses, ..Facts::default() }
    }
}

impl Row for Node {
    const HEADS: &'static [&'static str] = &["NODE", "THIS", "ZONE", "INTERNAL IPS", "EXTERNAL IPS", "ID"];
    const NARROW: usize = 4;

    fn cells(&self) -> Vec<String> {
        let all = |ips: &[IpAddr]| match ips {
            [] => "-".to_owned(),
            ips => ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        };
        vec![
            self.name.clone(),
            if self.here { "yes".into() } else { "-".into() },
            or_dash(self.zone.as_ref()),
            all(&self.internal_ips),
            all(&self.external_ips),
            or_dash(self.node_id.as_ref()),
        ]
    }
}

/// All nodes by name. Only the agent knows them.
pub(super) fn rows(place: &Place) -> anyhow::Result<Vec<Node>> {
    Ok(local::ask_one(&place.socket, &Request::Nodes)?)
}
