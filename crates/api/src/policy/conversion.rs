//! Policies as the model has them.

mod addresses;

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use model::{Expression, Kind, ObjectId, ObjectName, Operator, Policy, PolicyBackends, Selector};

use addresses::addresses;

use super::{
    AddressEndpoint, BalancingPolicy, Config, Frontend, LocalRedirectPolicy, Port, PortProtocol,
    RedirectMode, ServiceEndpoint, TargetPort,
};
use crate::{Invalid, field::Field, identity::identify};

/// A LocalRedirectPolicy.
///
/// # Errors
///
/// [`Invalid`] for what nothing can be decided from. All that the schema's rules say is [`super::check`]'s.
pub fn from_local_redirect_policy(it: &LocalRedirectPolicy) -> Result<Policy, Invalid> {
    let id = identify(Kind::LocalRedirectPolicy, &it.metadata)?;
    let backend = &it.spec.backend;
    let at = Field::of(&id, "spec.backend");
    let backends = PolicyBackends::Local(pods(&at, &backend.endpoint_selector, &backend.to_ports)?);
    policy(&id, &it.metadata, it.spec.config.as_ref(), &it.spec.frontend, backends)
}

/// A BalancingPolicy.
///
/// # Errors
///
/// As [`from_local_redirect_policy`].
pub fn from_balancing_policy(it: &BalancingPolicy) -> Result<Policy, Invalid> {
    let id = identify(Kind::BalancingPolicy, &it.metadata)?;
    let at = Field::of(&id, "spec.backend");
    let backends = match (&it.spec.backend.service_endpoint, &it.spec.backend.address_endpoint) {
        (Some(endpoint), None) => {
            let ServiceEndpoint { endpoint_selector, redirect_mode, to_ports } = endpoint;
            let at = at.field("serviceEndpoint");
            PolicyBackends::Pods(pods(&at, endpoint_selector, to_ports)?, mode(*redirect_mode))
        }
        (None, Some(endpoint)) => {
            PolicyBackends::Addresses(addresses(&at.field("addressEndpoint"), endpoint)?)
        }
        _ => return Err(at.invalid("give exactly one of serviceEndpoint and addressEndpoint")),
    };
    policy(&id, &it.metadata, it.spec.config.as_ref(), &it.spec.frontend, backends)
}

fn policy(
    id: &ObjectId,
    metadata: &ObjectMeta,
    config: Option<&Config>,
    asked: &Frontend,
    backends: PolicyBackends,
) -> Result<Policy, Invalid> {
    let at = Field::of(id, "spec.config.nodeLabelSelector");
    let nodes = config.and_then(|config| config.node_label_selector.as_ref());
    Ok(Policy {
        name: id.name.name.clone(),
        uid: metadata.uid.clone().unwrap_or_default(),
        created: metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
        frontend: frontend(&Field::of(id, "spec.frontend"), asked)?,
        backends,
        nodes: nodes.map(|it| selector(&at, it)).transpose()?,
        outside: config.is_none_or(|config| config.enable_out_cluster),
        limit: config.and_then(|config| config.qos_limit),
    })
}

fn frontend(at: &Field<'_>, it: &Frontend) -> Result<model::PolicyFrontend, Invalid> {
    match (&it.service_matcher, &it.address_matcher) {
        (Some(matcher), None) => {
            let at = at.field("serviceMatcher");
            Ok(model::PolicyFrontend::Service {
                service: ObjectName::new(&*matcher.namespace, &matcher.service_name),
                ports: frontend_ports(&at, &matcher.to_ports)?,
            })
        }
        (None, Some(matcher)) => {
            let at = at.field("addressMatcher");
            let ip = at.field("ip").ip(&matcher.ip)?;
            Ok(model::PolicyFrontend::Address { ip, ports: frontend_ports(&at, &matcher.to_ports)? })
        }
        _ => Err(at.invalid("give exactly one of serviceMatcher and addressMatcher")),
    }
}

fn frontend_ports(at: &Field<'_>, ports: &[Port]) -> Result<Vec<model::FrontendPort>, Invalid> {
    let at = at.field("toPorts");
    let port = |(at, port): (Field<'_>, &Port)| {
        let number = number(&at, &port.port)?;
        Ok(model::FrontendPort { name: name(&port.name), protocol: port.protocol.into(), port: number })
    };
    at.items(ports).map(port).collect()
}

fn pods(at: &Field<'_>, labels: &LabelSelector, ports: &[TargetPort]) -> Result<model::PodBackends, Invalid> {
    let to_ports = at.field("toPorts");
    let port = |(at, port): (Field<'_>, &TargetPort)| {
        let is_number = port.port.bytes().all(|c| c.is_ascii_digit());
        let target = if is_number {
            model::TargetPort::Number(number(&at, &port.port)?)
        } else {
            model::TargetPort::Name(port.port.clone())
        };
        Ok(model::BackendPort { name: name(&port.name), protocol: port.protocol.into(), target })
    };
    Ok(model::PodBackends {
        selector: selector(&at.field("endpointSelector"), labels)?,
        ports: to_ports.items(ports).map(port).collect::<Result<_, Invalid>>()?,
    })
}

fn number(at: &Field<'_>, text: &str) -> Result<u16, Invalid> {
    let number = text.parse().ok().filter(|number| *number != 0);
    number.ok_or_else(|| at.field("port").invalid(format!("{text:?} is not a port; use \"1\" to \"65535\"")))
}

fn name(name: &Option<String>) -> std::sync::Arc<str> {
    name.as_deref().unwrap_or_default().into()
}

fn selector(at: &Field<'_>, it: &LabelSelector) -> Result<Selector, Invalid> {
    let at = at.field("matchExpressions");
    let mut expressions = Vec::new();
    for (at, it) in at.items(it.match_expressions.as_deref().unwrap_or_default()) {
        let values: BTreeSet<String> = it.values.iter().flatten().cloned().collect();
        let operator = match (it.operator.as_str(), values.is_empty()) {
            ("In", false) => Operator::In(values),
            ("NotIn", false) => Operator::NotIn(values),
            ("Exists", true) => Operator::Exists,
            ("DoesNotExist", true) => Operator::DoesNotExist,
            _ => {
                let allowed = "operators are In and NotIn, with values, and Exists and DoesNotExist, without";
                return Err(at.invalid(allowed));
            }
        };
        expressions.push(Expression { key: it.key.clone(), operator });
    }
    Ok(Selector { labels: it.match_labels.clone().unwrap_or_default(), expressions })
}

fn mode(mode: RedirectMode) -> model::RedirectMode {
    match mode {
        RedirectMode::PodEndpoint => model::RedirectMode::PodEndpoint,
        RedirectMode::HostPort => model::RedirectMode::HostPort,
        RedirectMode::NodeProxy => model::RedirectMode::NodeProxy,
    }
}

impl From<PortProtocol> for model::Protocol {
    fn from(protocol: PortProtocol) -> Self {
        match protocol {
            PortProtocol::Tcp => Self::Tcp,
            PortProtocol::Udp => Self::Udp,
        }
    }
}

#[cfg(test)]
mod tests;
