//! `balancing why`.

mod question;

use std::{collections::BTreeSet, net::SocketAddr, process::ExitCode};

use abi::frontend::mode;
use agent::{
    client::Client,
    explain::{Asker, Explanation, explain, live},
    local::{self, Holder, PortEndpoints, Request, SOCKET_LB, Traffic, policy_name},
};
use anyhow::{Context, bail};
use clap::Args;
use kernel::{Contents, Maps, TableStore};
use question::{Connecting, Destination, is_there};
use serde::Serialize;

use crate::{
    output::{Format, columns_of, or_dash, show},
    place::Place,
    tone::Tone,
    width::{cut, width, wrap},
};

/// Explain where a new connection would go, by replaying the decision on the live tables
#[derive(Args)]
#[command(after_help = "Examples:\n  balancing why host 10.96.0.10:53/udp\n  \
                        balancing why 4711 svc/default/web:http\n  \
                        balancing why pod/shop/web-1 svc/shop/cart:http\n  balancing why host '[fd00:96::10]:80/tcp'\n  \
                        balancing why 4711 192.0.2.7:30080/tcp -o json\n\n\
                        Exit codes: 0 explained, whatever the answer, 1 failed, 2 wrong usage.")]
pub(crate) struct Options {
    /// Who connects: `host`, a process id, or a pod of this node as pod/NAMESPACE/NAME
    client: Connecting,
    /// To what: ip:port/protocol, or svc/NAMESPACE/NAME:PORT with the port's name or number
    destination: Destination,
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
    /// Does the agent run? Without it there are no endpoints that are not chosen, no pods, no nodes, and no services of
    /// others.
    agent: bool,
    /// Endpoints that the agent knows, with their standing for this traffic; null if it does not run.
    endpoints: Option<Vec<local::Endpoint>>,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let maps = self.place.maps()?;
        let contents = maps.read()?;
        let mut client = match &self.client {
            Connecting::Host => Client::identify("host", &self.place.pins(), &maps)?,
            Connecting::Process(pid) if !is_there(*pid) => {
                bail!("there is no process {pid}; give one that runs, `host` or pod/NAMESPACE/NAME")
            }
            Connecting::Process(pid) => Client::identify(&pid.to_string(), &self.place.pins(), &maps)?,
            Connecting::Pod { namespace, name } => {
                let pod = self.pod(namespace, name)?;
                Client::of_pod(&format!("{namespace}/{name}"), &pod, &self.place.pins(), &maps)?
            }
        };
        if let Some(uid) = client.excluded_pod() {
            let told: Option<Option<local::OptedOut>> =
                self.place.ask_if_running(&Request::OptedOut { uid })?;
            client.opted_out_by = told.flatten().map(|it| it.by);
        }
        let destinations = self.destination.find(&contents)?;
        let answers: Vec<Answer> = destinations
            .into_iter()
            .map(|(address, protocol)| self.answer(&maps, &contents, &client, address, protocol))
            .collect::<anyhow::Result<_>>()?;
        match answers.as_slice() {
            // An address has one answer, a service a list of them.
            [answer] if matches!(self.destination, Destination::Address(..)) => {
                show(answer, self.output, |format| text(answer, format))?
            }
            answers => {
                let texts = |form| answers.iter().map(|it| text(it, form)).collect::<Vec<_>>().join("\n\n");
                show(answers, self.output, texts)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A pod of this node, which only the agent knows.
    fn pod(&self, namespace: &str, name: &str) -> anyhow::Result<local::Pod> {
        let pod = format!("pod {namespace}/{name}");
        let request = Request::Pod { namespace: namespace.into(), name: name.into() };
        let known: Option<local::Pod> = self.place.ask_if_running(&request)?.with_context(|| {
            format!("{pod}: the agent is not running, and only it knows pods; give a process id")
        })?;
        let Some(known) = known else {
            let sources = local::status(&self.place.socket)?.sources;
            let files = sources.iter().find(|source| source.name.starts_with("manifests "));
            match files {
                Some(files) => bail!(
                    "the agent knows no {pod}: there is none in its {}; give a process id, or write it there",
                    files.name
                ),
                None => bail!(
                    "the agent knows no {pod}; `kubectl get pods --namespace {namespace}` lists those there are"
                ),
            }
        };
        match known.elsewhere {
            Some(node) => {
                bail!("{pod} is on node {node}; ask there, since what a client meets is its node's affair")
            }
            None => Ok(known),
        }
    }

    fn answer(
        &self,
        maps: &Maps,
        contents: &Contents,
        client: &Client,
        address: SocketAddr,
        protocol: u8,
    ) -> anyhow::Result<Answer> {
        let tables = live(maps);
        let asker = Asker {
            netns: client.netns_cookie.unwrap_or_default(),
            excluded: client.excluded,
            backend_of: client.backend_of(maps)?,
        };
        let mut explanation = explain(&tables, |id| tables.name(id), &asker, address, protocol);
        if let Some(error) = tables.error() {
            return Err(error.into());
        }
        if client.served {
            explanation.look_around(contents);
        } else {
            explanation = explanation.unseen();
        }
        let ip = address.ip().to_canonical();
        let holder: Option<Holder> = self.place.ask_if_running(&Request::Address { ip })?;
        let agent = holder.is_some();
        if let Some(Holder { service, node }) = holder.filter(|_| client.served) {
            explanation.node = node;
            if matches!(explanation.reason, "unknown-port" | "foreign-service") && explanation.owner.is_none()
            {
                explanation.owner = service.map(|it| format!("{}/{}", it.namespace, it.name));
            }
        }
        let mut endpoints = agent.then(Vec::new);
        if let Some(service) = owner(&explanation).filter(|_| agent && chooses(&explanation)) {
            let service = Some(service);
            let is_internal = explanation.mode == Some(mode::name(mode::CLUSTER_IP));
            let traffic = if is_internal { Traffic::Internal } else { Traffic::ShortCircuit };
            let known: Option<Vec<PortEndpoints>> =
                self.place.ask_if_running(&Request::Endpoints { service, traffic })?;
            endpoints = known.map(|ports| standing(&ports, &explanation));
        }
        Ok(Answer { client: client.clone(), explanation, agent, endpoints })
    }
}

/// Whose endpoints there are to choose from: the service's, or those of the policy that takes it.
fn owner(explanation: &Explanation) -> Option<(String, String)> {
    let policy = || {
        let takes = explanation.policies.iter().find(|policy| policy.outcome == "takes")?;
        Some((String::new(), policy_name(takes.kind?, takes.name.as_ref()?)))
    };
    let service = explanation.service.as_ref().map(|it| (it.namespace.clone(), it.name.clone()));
    service.or_else(policy)
}

/// Has it come to choosing among endpoints?
fn chooses(explanation: &Explanation) -> bool {
    !matches!(explanation.reason, "source-range" | "unknown-client" | "remote-node-port")
}

/// The endpoints of the explained service port; of a policy's those of the port that is chosen from.
fn standing(ports: &[PortEndpoints], explanation: &Explanation) -> Vec<local::Endpoint> {
    let Some((namespace, name)) = owner(explanation) else { return Vec::new() };
    let is_chosen_from = |port: &PortEndpoints| match &explanation.service {
        Some(service) => port.port == service.port,
        None => port.endpoints.iter().any(|it| explanation.backends.contains(&it.address)),
    };
    let family = if explanation.destination.ip().to_canonical().is_ipv4() { 4 } else { 6 };
    ports
        .iter()
        .filter(|port| {
            port.namespace == namespace
                && port.service == name
                && is_chosen_from(port)
                && port.protocol == explanation.protocol
                && port.family == family
        })
        .flat_map(|port| port.endpoints.clone())
        .collect()
}

fn text(answer: &Answer, format: Format) -> String {
    let Answer { client, explanation, endpoints, .. } = answer;
    let known = width().filter(|_| format != Format::Wide);
    let mut lines = vec![format!("{} -> {}/{}", client.name, explanation.destination, explanation.protocol)];
    let path = client.cgroup.display().to_string();
    let path = known.map_or_else(|| path.clone(), |width| cut(&path, width.saturating_sub(HEAD)));
    lines.push(format!("cgroup    {path}"));
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
    for policy in &explanation.policies {
        let outcome = match policy.outcome {
            "takes" => "takes it",
            "no-backend" => "has no ready backend, so as if it were not there",
            "limit" => "has reached its limit of connections a second, so as if it were not there",
            "own-backend" => "the client is one of its own backends, so as if it were not there",
            other => other,
        };
        let (kind, name) = (policy.kind.unwrap_or("?"), policy.name.as_deref().unwrap_or("?"));
        lines.push(format!("policy    {kind} {name}: {outcome}"));
    }
    let verdict = Tone::of_verdict(explanation.verdict).paint(explanation.verdict);
    lines.push(format!("result    {verdict}: {}", meaning(client, explanation)));
    let rest = details(explanation).into_iter().map(|(what, text)| format!("{what:<8}  {text}"));
    lines.extend(rest);
    let mut lines: Vec<String> = lines.into_iter().flat_map(|line| folded(line, known)).collect();
    lines.extend(candidates(explanation, endpoints.as_deref(), known));
    if !answer.agent {
        lines.push("\nThe agent is not running: this is the tables' answer alone.".into());
    }
    lines.join("\n")
}

/// Characters of what a line is about, and the blanks after.
const HEAD: usize = 10;

/// The line in as many as it takes.
fn folded(line: String, width: Option<usize>) -> Vec<String> {
    let Some(width) = width.filter(|width| line.chars().count() > *width && *width > 2 * HEAD) else {
        return vec![line];
    };
    let Some((head, text)) = line.split_at_checked(HEAD) else { return vec![line] };
    let text = wrap(text, width - HEAD);
    let heads = std::iter::once(head).chain(std::iter::repeat(""));
    heads.zip(text).map(|(head, text)| format!("{head:<HEAD$}{text}")).collect()
}

/// The endpoints, those that are not chosen too, below an empty line; nothing if there are none.
fn candidates(
    explanation: &Explanation,
    endpoints: Option<&[local::Endpoint]>,
    width: Option<usize>,
) -> Vec<String> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    // Of the heads.
    let mut tones = vec![Tone::Plain];
    for endpoint in endpoints.unwrap_or_default() {
        rows.push(vec![
            endpoint.address.to_string(),
            share(explanation, endpoint.address),
            endpoint.standing.clone(),
            or_dash(endpoint.pod.as_ref()),
            or_dash(endpoint.node.as_ref()),
        ]);
        tones.push(if endpoint.selected { Tone::Plain } else { Tone::Warn });
    }
    let is_alone = rows.is_empty();
    if is_alone && !explanation.backends.is_empty() {
        let backends: BTreeSet<SocketAddr> = explanation.backends.iter().copied().collect();
        rows.extend(backends.iter().map(|it| vec![it.to_string(), share(explanation, *it)]));
        tones.resize(rows.len() + 1, Tone::Plain);
    }
    if rows.is_empty() {
        return Vec::new();
    }
    let heads = ["ENDPOINT", "SHARE", "WHY", "POD", "NODE"];
    let columns = if is_alone { 2 } else { heads.len() };
    let table = columns_of(heads.iter().take(columns), rows.into_iter(), width);
    let lines = table.lines().zip(tones).map(|(line, tone)| tone.paint(line));
    std::iter::once(String::new()).chain(lines).collect()
}

fn share(explanation: &Explanation, address: SocketAddr) -> String {
    match explanation.kept {
        Some(kept) if kept == address => "kept".into(),
        None if explanation.backends.contains(&address) => {
            let times = explanation.backends.iter().filter(|it| **it == address).count();
            format!("{times}/{}", explanation.backends.len())
        }
        _ => "0".into(),
    }
}

/// What else there is to be said, each with its head.
fn details(explanation: &Explanation) -> Vec<(&'static str, String)> {
    let mut details = Vec::new();
    if !explanation.source_ranges.is_empty() {
        let address = explanation.client_address.map_or("not known".into(), |address| address.to_string());
        details.push(("from", address));
        details.push(("ranges", explanation.source_ranges.join(", ")));
    }
    if let Some(seconds) = explanation.affinity_seconds.filter(|_| chooses(explanation)) {
        let text = match (explanation.kept, explanation.kept_seconds) {
            (Some(kept), Some(left)) => {
                format!("{kept}, for {left} s more; each new connection makes it {seconds} s again")
            }
            _ => format!(
                "a client keeps its backend for {seconds} s after its last connection; this one has none"
            ),
        };
        details.push(("affinity", text));
    }
    details
}

/// A reason, as a sentence.
fn meaning(client: &Client, explanation: &Explanation) -> String {
    let count = explanation.backends.len();
    let owner = explanation.owner.as_deref();
    match explanation.reason {
        "balanced" if count == 1 => "there is one backend".into(),
        "balanced" => format!("one of {count} backends, each as likely"),
        "affinity" => "the backend that this client has had lately (sessionAffinity ClientIP)".into(),
        "not-a-service" => not_a_service(explanation),
        "no-endpoints" => "the service has no ready endpoint anywhere (ECONNREFUSED)".into(),
        "no-local-endpoint" => {
            "the traffic policy is Local, and no endpoint on this node is ready (EHOSTUNREACH)".into()
        }
        "unknown-port" => {
            let ports = explanation.ports.join(", ");
            let whose = owner.map_or("a service".into(), |owner| format!("service {owner}"));
            let has = if ports.is_empty() { String::new() } else { format!(", which has {ports}") };
            format!("this is the cluster IP of {whose}{has}; it has no such port (ECONNREFUSED)")
        }
        "unused-address" => {
            let cidr = explanation.service_cidr.as_deref().unwrap_or("a ServiceCIDR");
            format!("the address is in the service CIDR {cidr}, and no service has it (EHOSTUNREACH)")
        }
        "foreign-service" => {
            let whose = owner.map_or("a service".into(), |owner| format!("service {owner}"));
            format!("this is the cluster IP of {whose}, which another proxy serves (label service-proxy-name)")
        }
        "remote-node-port" => {
            let node = explanation.node.as_ref().map_or("another node".into(), |node| format!("node {node}"));
            format!(
                "a node port of {node}, and the external traffic policy is Local: that node chooses among its own \
                 endpoints"
            )
        }
        "source-range" => {
            let who = explanation.client_address.map_or("the client".into(), |ip| format!("the client's address {ip}"));
            format!("{who} is in none of the service's loadBalancerSourceRanges (EACCES)")
        }
        "unknown-client" => {
            "only clients of some addresses may use it (loadBalancerSourceRanges), and this client's is not known: \
             whoever has the address decides"
                .into()
        }
        "fallback" => "a policy of this frontend has no backend now".into(),
        "spilled" => "a policy of this frontend has reached its limit of connections a second".into(),
        "own-backend" => "the client is a backend of the policy that has this address, and nobody else has it".into(),
        "excluded" => {
            let cgroup = client.excluded_cgroup.as_ref();
            let cgroup = cgroup.map_or("its cgroup".into(), |path| path.display().to_string());
            let why = match &client.opted_out_by {
                Some(object) => format!("annotation {SOCKET_LB}: \"false\" of {object}"),
                None if client.excluded_pod().is_some() => format!("excludeCgroup, or annotation {SOCKET_LB}"),
                None => "excludeCgroup".into(),
            };
            format!("{cgroup} is left alone with all below it ({why})")
        }
        "paused" => "`balancing pause` is in force".into(),
        "broken-table" => {
            "the tables contradict themselves, which the next audit repairs; see `balancing status`".into()
        }
        reason => reason.to_owned(),
    }
}

/// No frontend, and nothing else of ours.
fn not_a_service(explanation: &Explanation) -> String {
    let is = |what: &str| explanation.address.contains(&what);
    let port = explanation.destination.port();
    if is("vip") {
        return format!(
            "port {port} of an external IP or load balancer VIP is no service's, and may be a real machine's"
        );
    }
    if is("this-node") || is("other-node") {
        let whose = match (&explanation.node, is("this-node")) {
            (Some(node), _) => format!("node {node}"),
            (None, true) => "this node".into(),
            (None, false) => "another node".into(),
        };
        return format!("this is an address of {whose}, and {port}/{} is no node port", explanation.protocol);
    }
    if is("loopback") {
        return format!(
            "{port}/{} is no node port, or the client is not in the host's network namespace, the only one in which node \
             ports are on loopback",
            explanation.protocol
        );
    }
    "no frontend has this address, port and protocol".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_sentences_are_folded_behind_their_heads() {
        let line = || "result    refused: this is the cluster IP of a service".to_owned();
        assert_eq!(
            folded(line(), Some(30)),
            ["result    refused: this is the", "          cluster IP of a", "          service"]
        );
        assert_eq!(folded(line(), None), [line()]);
        assert_eq!(folded(line(), Some(60)), [line()]);
    }
}
