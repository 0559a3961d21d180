//! Addresses as backends: their weights, and how they are asked whether they are well.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use model::{AddressBackends, BackendPort, Probe, ProbeAction, Protocol};

use super::{AddressEndpoint, name, number};
use crate::{
    Invalid,
    field::Field,
    policy::{AllUnhealthy, HealthCheck, HealthCheckProtocol},
};

pub(super) fn addresses(at: &Field<'_>, it: &AddressEndpoint) -> Result<AddressBackends, Invalid> {
    let (to, ports) = (at.field("addresses"), at.field("toPorts"));
    // That there are as many weights as addresses is a rule of the schema.
    let weights = it.weights.iter().flatten().copied().chain(std::iter::repeat(1));
    let addresses =
        to.items(&it.addresses).zip(weights).map(|((at, text), weight)| Ok((at.ip(text)?, weight)));
    let addresses = addresses.collect::<Result<BTreeMap<IpAddr, u32>, Invalid>>()?;
    let mut listening = Vec::new();
    let mut first_of_tcp = None;
    for (at, port) in ports.items(&it.to_ports) {
        let (number, protocol) = (number(&at, &port.port)?, Protocol::from(port.protocol));
        if protocol == Protocol::Tcp {
            first_of_tcp.get_or_insert(number);
        }
        let target = model::TargetPort::Number(number);
        listening.push(BackendPort { name: name(&port.name), protocol, target });
    }
    let at = at.field("healthCheck");
    let probe = it.health_check.as_ref().map(|check| {
        let port = check.port.or(first_of_tcp);
        let port = port.ok_or_else(|| at.invalid("give a port to ask: none of toPorts is of TCP"))?;
        Ok(probe(check, port))
    });
    Ok(AddressBackends { addresses, ports: listening, probe: probe.transpose()? })
}

fn probe(it: &HealthCheck, port: u16) -> Probe {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    Probe {
        action: match it.protocol {
            HealthCheckProtocol::Tcp => ProbeAction::Tcp,
            HealthCheckProtocol::Http => ProbeAction::Http(it.path.clone().unwrap_or_else(|| "/".into())),
        },
        port,
        interval: seconds(it.interval_seconds),
        timeout: seconds(it.timeout_seconds),
        healthy: it.healthy_threshold,
        unhealthy: it.unhealthy_threshold,
        use_all: it.when_all_unhealthy == AllUnhealthy::UseAll,
    }
}
