//! `balancing get`: what the kernel holds, joined with names.

mod affinity;
mod connections;
mod endpoints;
mod filter;
mod known;
mod maps;
mod nodes;
mod policies;
mod service_port;
mod services;
mod usage;

use std::process::ExitCode;

use agent::local::{PortEndpoints, Request, Traffic};
use clap::{Args, ValueEnum};
use kernel::TableStore;

use crate::{
    output::{Format, Row, list, wrong_usage},
    place::Place,
};
use filter::{Filter, Kept, Subject};
pub(crate) use policies::stepped;
pub(crate) use services::frontend;
use usage::Chosen;

/// List what the kernel holds; works without the agent, which adds pods, nodes and use
#[derive(Args)]
#[command(
    after_help = "Examples:\n  balancing get services -n default\n  balancing get services web shop/cart --family 4\n  \
                  balancing get endpoints web --state not-selected -o wide\n  balancing get connections web --state stale\n  balancing get affinity -n shop\n  balancing get policies -o wide\n  balancing get usage --service shop/cart\n  balancing get usage --pod shop/web-1 --verdict refused\n  balancing get maps -o json\n\n\
                  Exit codes: 0 done (also if nothing fits), 1 failed, or a name that was asked for is not there, \
                  2 wrong usage."
)]
pub(crate) struct Options {
    /// What to list
    #[arg(value_enum)]
    what: What,
    #[command(flatten)]
    filter: Filter,
    /// Form of the listing
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Addresses of services, and how many backends each has
    #[value(alias = "service", alias = "svc")]
    Services,
    /// Backends, those in use and those that are not
    #[value(alias = "endpoint", alias = "ep")]
    Endpoints,
    /// Living sockets that were translated, each with its first destination
    #[value(alias = "connection", alias = "conn")]
    Connections,
    /// Backends that clients keep (sessionAffinity), each for a client and a service port
    #[value(alias = "affinities")]
    Affinity,
    /// Who used what, and what came of it, as the agent counts it: NAME is a pod's, or a unit's of the host
    #[value(alias = "clients", alias = "client")]
    Usage,
    /// Nodes that the agent knows, and which of them is this one
    #[value(alias = "node")]
    Nodes,
    /// What policies redirect, and what they did not take: STATE is `second` below another policy
    #[value(alias = "policy")]
    Policies,
    /// Maps, and how full they are
    #[value(alias = "map")]
    Maps,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Services => self.show(|it| Ok(services::rows(&it.maps()?.read()?))),
            What::Endpoints => {
                self.show(|it| Ok(endpoints::rows(&it.maps()?.read()?, known(it)?, Chosen::ask(it).as_ref())))
            }
            What::Connections => self.show(|it| connections::rows(&it.maps()?, known(it)?)),
            What::Affinity => self.show(|it| affinity::rows(&it.maps()?, known(it)?)),
            What::Usage => self.show(usage::rows),
            What::Nodes => self.show(nodes::rows),
            What::Policies => self.show(|it| policies::rows(&it.maps()?)),
            What::Maps => self.show(|it| maps::rows(&it.maps()?)),
        }
    }

    fn show<T: Subject + Row>(
        &self,
        rows: impl FnOnce(&Place) -> anyhow::Result<Vec<T>>,
    ) -> anyhow::Result<ExitCode> {
        if let Some(problem) = self.filter.misplaced::<T>() {
            return Ok(wrong_usage(&problem));
        }
        let Kept { rows, empty, missing } = self.filter.apply(rows(&self.place)?);
        let is_table = matches!(self.output, Format::Table | Format::Wide);
        // Who asks for a name is told that it is missing, not that nothing is left.
        if !(rows.is_empty() && is_table && !missing.is_empty()) {
            list(&rows, self.output, &empty)?;
        }
        if let Some(advice) = self.filter.advice::<T>(rows.len()).filter(|_| is_table) {
            eprintln!("{advice}");
        }
        if missing.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("error: {}", missing.join("; "));
        Ok(ExitCode::FAILURE)
    }
}

/// What the agent knows of endpoints: without it there are no pods and nodes, and that is all that is missing.
fn known(place: &Place) -> anyhow::Result<Vec<PortEndpoints>> {
    let all = Request::Endpoints { service: None, traffic: Traffic::Internal };
    Ok(place.ask_if_running(&all)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_are_told_to_list_is_a_listing() {
        for (listing, what) in [
            (services::Service::LISTING, What::Services),
            (endpoints::Endpoint::LISTING, What::Endpoints),
            (connections::Connection::LISTING, What::Connections),
            (affinity::Affinity::LISTING, What::Affinity),
            (usage::Use::LISTING, What::Usage),
            (agent::local::Node::LISTING, What::Nodes),
            (policies::Policy::LISTING, What::Policies),
            (maps::Map::LISTING, What::Maps),
        ] {
            assert_eq!(What::from_str(listing, false), Ok(what));
        }
    }
}
