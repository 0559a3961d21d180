//! `balancing why`.

use std::{collections::BTreeSet, net::SocketAddr, process::ExitCode};

use abi::Name;
use agent::{
    client::Client,
    explain::{Asker, Explanation, explain, live},
    local::{self, PortEndpoints, Request},
};
use anyhow::{Context, bail};
use clap::Args;
use kernel::{Contents, Maps, TableStore};
use serde::Serialize;

use crate::{
    output::{Format, columns_of, show},
    place::Place,
};

/// Explain where a new connection would go, by replaying the decision on the live tables
#[derive(Args)]
#[command(after_help = "Examples:\n  balancing why host 10.96.0.10:53/udp\n  \
                        balancing why 4711 svc/default/web:http\n  balancing why host '[fd00:96::10]:80/tcp'\n\n\
                        Exit codes: 0 explained, whatever the answer, 1 failed, 2 wrong usage.")]
pub(crate) struct Options {
    /// Who connects: `host`, or a process id
    client: String,
    /// To what: ip:port/protocol, or svc/NAMESPACE/NAME:PORT with the port's name or number
    destination: String,
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: Place,
}

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    client: Client,
    #[serde(flatten)]
    explanation: Explanation,
    /// Endpoints that the agent knows, with their standing; null if it does not run.
    endpoints: Option<Vec<local::Endpoint>>,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let maps = self.place.maps()?;
        let contents = maps.read()?;
        let client = Client::identify(&self.client, &self.place.pins(), &maps)?;
        let destinations = destinations(&self.destination, &contents)?;
        let answers: Vec<Answer> = destinations
            .into_iter()
            .map(|(address, protocol)| self.answer(&maps, &client, address, protocol))
            .collect::<anyhow::Result<_>>()?;
        match answers.as_slice() {
            // An address has one answer, a service a list of them.
            [answer] if !self.destination.starts_with(SERVICE) => {
                show(answer, self.output, |_| text(answer))?
            }
            answers => {
                let texts = |_| answers.iter().map(text).collect::<Vec<_>>().join("\n\n");
                show(answers, self.output, texts)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn answer(
        &self,
        maps: &Maps,
        client: &Client,
        address: SocketAddr,
        protocol: u8,
    ) -> anyhow::Result<Answer> {
        let tables = live(maps);
        let asker = Asker { netns: client.netns_cookie.unwrap_or_default(), excluded: client.excluded };
        let mut explanation = explain(&tables, |id| tables.name(id), &asker, address, protocol);
        if let Some(error) = tables.error() {
            return Err(error.into());
        }
        if !client.served {
            explanation = explanation.unseen();
        }
        let service = explanation.service.clone().map(|it| (it.namespace, it.name));
        let known: Option<Vec<PortEndpoints>> = self.place.ask_if_running(&Request::Endpoints { service })?;
        let endpoints = known.map(|ports| standing(&ports, &explanation));
        Ok(Answer { client: client.clone(), explanation, endpoints })
    }
}

/// How a destination begins that is a service.
const SERVICE: &str = "svc/";

fn protocol(text: &str) -> anyhow::Result<u8> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(abi::TCP),
        "udp" => Ok(abi::UDP),
        _ => bail!("protocol {text:?}: give tcp or udp"),
    }
}

/// Addresses and protocols that `text` means.
fn destinations(text: &str, contents: &Contents) -> anyhow::Result<Vec<(SocketAddr, u8)>> {
    let Some(service) = text.strip_prefix(SERVICE) else {
        let (address, kind) = text.rsplit_once('/').with_context(|| {
            format!("destination {text:?}: give ip:port/tcp, ip:port/udp or svc/NAMESPACE/NAME:PORT")
        })?;
        let address = address
            .parse()
            .with_context(|| format!("destination {address:?}: give ip:port, with [brackets] around IPv6"))?;
        return Ok(vec![(address, protocol(kind)?)]);
    };
    let (namespace, rest) = service
        .split_once('/')
        .with_context(|| format!("destination {text:?}: give svc/NAMESPACE/NAME:PORT"))?;
    let (name, port) = rest.split_once(':').unwrap_or((rest, ""));
    let matches = |it: &Name| {
        Name::text(&it.namespace) == namespace
            && Name::text(&it.service) == name
            && (port.is_empty()
                || Name::text(&it.port) == port
                || port.parse() == Ok(u16::from_be(it.port_be)))
    };
    let ids: BTreeSet<u32> = contents.names.iter().filter(|(_, it)| matches(it)).map(|(id, _)| *id).collect();
    let records: BTreeSet<u32> = contents
        .records
        .iter()
        .filter(|(_, record)| ids.contains(&record.service))
        .map(|(index, _)| *index)
        .collect();
    let mut found: Vec<(SocketAddr, u8)> = contents
        .frontends
        .iter()
        .filter(|(_, index)| records.contains(index))
        .map(|(key, _)| (key.endpoint.socket_addr(), key.protocol))
        .collect();
    found.sort();
    if found.is_empty() {
        bail!(
            "the kernel's tables have no frontend of {text}; `balancing get services` lists those there are"
        );
    }
    Ok(found)
}

/// The endpoints of the explained service port.
fn standing(ports: &[PortEndpoints], explanation: &Explanation) -> Vec<local::Endpoint> {
    let Some(service) = &explanation.service else { return Vec::new() };
    let family = if explanation.destination.is_ipv4() { 4 } else { 6 };
    ports
        .iter()
        .filter(|port| {
            port.namespace == service.namespace
                && port.service == service.name
                && port.port == service.port
                && port.protocol == explanation.protocol
                && port.family == family
        })
        .flat_map(|port| port.endpoints.clone())
        .collect()
}

fn text(answer: &Answer) -> String {
    let Answer { client, explanation, endpoints } = answer;
    let mut lines = vec![format!("{} -> {}/{}", client.name, explanation.destination, explanation.protocol)];
    lines.push(format!("cgroup    {}", client.cgroup.display()));
    if !client.served {
        lines.push(
            "result    passed: its cgroup is not below the one that the programs are attached to".into(),
        );
        return lines.join("\n");
    }
    if let Some(service) = &explanation.service {
        let colon = if service.port.is_empty() { "" } else { ":" };
        lines.push(format!(
            "service   {}/{}{colon}{} ({})",
            service.namespace,
            service.name,
            service.port,
            explanation.mode.unwrap_or("?")
        ));
    }
    lines.push(format!("result    {}: {}", explanation.verdict, meaning(explanation)));
    match endpoints {
        Some(endpoints) if !endpoints.is_empty() => {
            lines.push(String::new());
            let rows = endpoints.iter().map(|endpoint| {
                let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
                let listed = explanation.backends.contains(&endpoint.address);
                vec![
                    endpoint.address.to_string(),
                    share(listed, explanation.backends.len()),
                    endpoint.standing.clone(),
                    or_dash(&endpoint.pod),
                    or_dash(&endpoint.node),
                ]
            });
            lines.push(columns_of(["ENDPOINT", "SHARE", "WHY", "POD", "NODE"].iter(), rows));
        }
        Some(_) => {}
        None => {
            if !explanation.backends.is_empty() {
                lines.push(String::new());
                let rows = explanation
                    .backends
                    .iter()
                    .map(|address| vec![address.to_string(), share(true, explanation.backends.len())]);
                lines.push(columns_of(["ENDPOINT", "SHARE"].iter(), rows));
            }
            lines.push("\nThe agent is not running: this is the tables' answer alone.".into());
        }
    }
    lines.join("\n")
}

fn share(listed: bool, of: usize) -> String {
    if listed { format!("1/{of}") } else { "0".into() }
}

/// A reason, as a sentence.
fn meaning(explanation: &Explanation) -> String {
    match explanation.reason {
        "balanced" => match explanation.backends.len() {
            1 => "there is one backend".into(),
            count => format!("one of {count} backends, each as likely"),
        },
        "not-a-service" => "no frontend has this address, port and protocol".into(),
        "no-endpoints" => "the service has no ready endpoint anywhere (ECONNREFUSED)".into(),
        "no-local-endpoint" => {
            "the traffic policy is Local, and no endpoint on this node is ready (EHOSTUNREACH)".into()
        }
        "paused" => "`balancing pause` is in force".into(),
        reason => reason.to_owned(),
    }
}
