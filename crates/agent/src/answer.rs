//! Serving the unix socket: who asks, what is asked of the task that owns the tables, what comes back.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use kernel::TableStore;
use model::{
    Cluster, Family, Kind, ObjectId, ObjectName, Policy, PolicyBackend, Service, Traffic, standings,
};
use observe::{Refused, log::Memory};
use plan::{Conflict, Desired};
use plan::{Refusal, Room};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::{Semaphore, mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::{
    Error, Reconciler,
    config::Shown,
    event_log::{Follower, Past},
    local::{self, Endpoint, Holder, HolderService, Node, OptedOut, Pod, PortEndpoints, Remembered, Request},
    status::Status,
};

/// Longest request line, in bytes.
const REQUEST: u64 = 64 * 1024;

/// Conversations at once. Whoever comes when there are as many waits for a moment, and is then told so: each takes an open
/// file, and the manifests must not run out of them.
const CONVERSATIONS: usize = 48;
/// Of these, so many may be about events, which take as long as whoever reads them likes.
const FOLLOWERS: usize = 32;
/// How long somebody waits to be one of them.
const TURN: Duration = Duration::from_secs(1);
/// How long a request line, and any other answer, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request, on its way to the task that can answer it.
pub(crate) enum Question {
    Status(oneshot::Sender<Box<Status>>),
    Endpoints(Option<ObjectName>, Traffic, oneshot::Sender<Vec<PortEndpoints>>),
    Address(IpAddr, oneshot::Sender<Holder>),
    Pod(ObjectName, oneshot::Sender<Option<Pod>>),
    OptedOut(String, oneshot::Sender<Option<OptedOut>>),
    Nodes(oneshot::Sender<Vec<Node>>),
    Usage(oneshot::Sender<Box<observe::Usage>>),
    Events(oneshot::Sender<Past>),
}

/// What does not change while the agent runs, so that nobody need be asked; and its log.
pub(crate) struct Still {
    /// Name of this node.
    pub(crate) node: String,
    /// The configuration.
    pub(crate) settings: Vec<Shown>,
    /// The last lines of the log.
    pub(crate) log: Memory,
    /// Who may read events, beside those who do.
    pub(crate) followers: Followers,
}

/// Places of those who read events.
#[derive(Clone, Debug)]
pub(crate) struct Followers(Arc<Semaphore>);

impl Default for Followers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FOLLOWERS)))
    }
}

impl Followers {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        FOLLOWERS - self.0.available_permits()
    }
}

/// Listens on `socket`, for root only.
pub(crate) fn serve(socket: &Path, still: Still) -> Result<mpsc::Receiver<Question>, Error> {
    // The lock says that nobody listens there any more.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::file("unlink", socket, error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(|e| Error::file("bind", socket, e))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .map_err(|e| Error::file("chmod", socket, e))?;
    let (ask, questions) = mpsc::channel(16);
    let still = Arc::new(still);
    tokio::spawn(async move {
        let conversations = Arc::new(Semaphore::new(CONVERSATIONS));
        let mut turn = TURN;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (ask, still) = (ask.clone(), still.clone());
                    // It has no end but that of the semaphore, which nobody closes.
                    let Ok(Ok(permit)) = timeout(turn, conversations.clone().acquire_owned()).await else {
                        // The next ones in the queue have waited meanwhile.
                        turn = Duration::ZERO;
                        turn_away(&stream, &still.node);
                        continue;
                    };
                    turn = TURN;
                    tokio::spawn(async move {
                        // Who goes away in the middle of an answer is no error of ours.
                        let _ = converse(stream, ask, &still).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("accepting commands: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(questions)
}

/// Says why there is no answer. What a new connection does not take at once it is not told.
fn turn_away(stream: &UnixStream, node: &str) {
    let why =
        format!("{CONVERSATIONS} commands ask this agent already, and none of them ends; try again later");
    tracing::warn!("turned a command away: {why}");
    if let Ok(line) = serde_json::to_string(&Refused::new(node, &why)) {
        let _ = stream.try_write(format!("{line}\n").as_bytes());
    }
}

async fn converse(stream: UnixStream, ask: mpsc::Sender<Question>, still: &Still) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(REQUEST)).lines();
    let Some(line) = timeout(PATIENCE, lines.next_line()).await?? else { return Ok(()) };
    let request = serde_json::from_str(&line)?;
    let Request::Events { follow, how_far } = request else {
        return timeout(PATIENCE, answer(&mut write, &ask, still, request)).await?;
    };
    let Ok(_place) = still.followers.0.try_acquire() else {
        let why = format!("{FOLLOWERS} commands read the events of this agent already; let one of them go");
        return put(&mut write, &Refused::new(&still.node, &why)).await;
    };
    let past = fetch(&ask, Question::Events).await?;
    if how_far {
        put(&mut write, &Remembered { since: past.since }).await?;
    }
    for line in past.lines {
        put_line(&mut write, &line).await?;
    }
    if !follow {
        return Ok(());
    }
    let follower = Follower::new(past.coming, &still.node, "reader");
    tokio::select! {
        // A follower that hangs up is noticed even if nothing happens.
        _ = lines.next_line() => Ok(()),
        // Somebody may look at a page for as long as he likes; what he misses meanwhile he is told.
        done = follower.pass_on(&mut write, Duration::MAX, |_, _| {}) => done,
    }
}

async fn answer(
    write: &mut OwnedWriteHalf,
    ask: &mpsc::Sender<Question>,
    still: &Still,
    request: Request,
) -> std::io::Result<()> {
    match request {
        Request::Status => put(write, &fetch(ask, Question::Status).await?).await,
        Request::Endpoints { service, traffic } => {
            let only = service.map(|(namespace, name)| ObjectName::new(namespace, name));
            let traffic = match traffic {
                local::Traffic::Internal => Traffic::Internal,
                local::Traffic::ShortCircuit => Traffic::ShortCircuit,
            };
            put(write, &fetch(ask, |reply| Question::Endpoints(only, traffic, reply)).await?).await
        }
        Request::Address { ip } => put(write, &fetch(ask, |reply| Question::Address(ip, reply)).await?).await,
        Request::Pod { namespace, name } => {
            let name = ObjectName::new(namespace, name);
            put(write, &fetch(ask, |reply| Question::Pod(name, reply)).await?).await
        }
        Request::OptedOut { uid } => {
            put(write, &fetch(ask, |reply| Question::OptedOut(uid, reply)).await?).await
        }
        Request::Usage => put(write, &fetch(ask, Question::Usage).await?).await,
        Request::Nodes => put(write, &fetch(ask, Question::Nodes).await?).await,
        Request::Configuration => put(write, &still.settings).await,
        Request::Log => put(write, &still.log.lines()).await,
        // Of their own: above.
        Request::Events { .. } => Ok(()),
    }
}

async fn fetch<T>(
    ask: &mpsc::Sender<Question>,
    question: impl FnOnce(oneshot::Sender<T>) -> Question,
) -> std::io::Result<T> {
    let (reply, answer) = oneshot::channel();
    ask.send(question(reply)).await.map_err(std::io::Error::other)?;
    answer.await.map_err(std::io::Error::other)
}

async fn put(write: &mut (impl AsyncWriteExt + Unpin), value: &impl serde::Serialize) -> std::io::Result<()> {
    put_line(write, &serde_json::to_string(value)?).await
}

async fn put_line(write: &mut (impl AsyncWriteExt + Unpin), line: &str) -> std::io::Result<()> {
    write.write_all(line.as_bytes()).await?;
    write.write_all(b"\n").await
}

/// All endpoints of the service ports that are ours and of policies, or of `only` one of them, with their standing for this traffic.
pub(crate) fn endpoints(
    cluster: &Cluster,
    only: Option<&ObjectName>,
    traffic: Traffic,
) -> Vec<PortEndpoints> {
    let here = cluster.here();
    let mut ports = Vec::new();
    let services: Vec<&Service> = match only {
        Some(name) => cluster.service(name).into_iter().collect(),
        None => cluster.services().collect(),
    };
    for policy in cluster.policies() {
        let name = local::policy_name(&policy.kind().to_string(), &policy.name);
        if only.is_none_or(|only| only.namespace.is_empty() && only.name == name) {
            ports.extend(policy_endpoints(cluster, policy, &name));
        }
    }
    for service in services.into_iter().filter(|service| cluster.is_ours(service)) {
        for (port, family) in service.ports_by_family() {
            let name = service.port_name(port, family);
            let candidates = cluster.endpoints(&name);
            let standings = standings(service, traffic, &candidates, &here);
            let endpoints = candidates
                .iter()
                .zip(standings)
                .map(|(candidate, standing)| Endpoint {
                    address: candidate.address,
                    selected: standing.is_selected(),
                    standing: standing.to_string(),
                    pod: candidate.endpoint.pod.as_ref().map(ToString::to_string),
                    node: candidate.endpoint.node.as_deref().map(str::to_owned),
                    zone: candidate.endpoint.zone.as_deref().map(str::to_owned),
                })
                .collect();
            ports.push(PortEndpoints {
                namespace: name.service.namespace.to_string(),
                service: name.service.name.clone(),
                port: name.port.to_string(),
                protocol: name.protocol.to_string(),
                family: if family == Family::V4 { 4 } else { 6 },
                endpoints,
            });
        }
    }
    ports
}

/// The backends of a policy, by port and family, each once.
fn policy_endpoints(cluster: &Cluster, policy: &Policy, name: &str) -> Vec<PortEndpoints> {
    let mut ports: BTreeMap<(String, String, u8), PortEndpoints> = BTreeMap::new();
    for redirect in cluster.redirects(policy) {
        let family = Family::of(redirect.ip);
        let port = policy.port_name(redirect.backend, family);
        let number = if family == Family::V4 { 4 } else { 6 };
        let key = (port.port.to_string(), port.protocol.to_string(), number);
        ports.entry(key).or_insert_with(|| {
            let backends = cluster.policy_backends(policy, redirect.backend, family).backends;
            let endpoint = |it: PolicyBackend| Endpoint {
                address: it.address,
                selected: it.why_not.is_none() && it.weight > 0,
                standing: match it.why_not {
                    Some(why) => why.to_string(),
                    None if it.weight == 0 => "weight 0".into(),
                    None => "selected".into(),
                },
                pod: it.pod.as_ref().map(ToString::to_string),
                zone: it.node.as_deref().and_then(|node| cluster.node(node)?.zone().map(str::to_owned)),
                node: it.node.as_deref().map(str::to_owned),
            };
            PortEndpoints {
                namespace: String::new(),
                service: name.to_owned(),
                port: port.port.to_string(),
                protocol: port.protocol.to_string(),
                family: number,
                endpoints: backends.into_iter().map(endpoint).collect(),
            }
        });
    }
    ports.into_values().collect()
}

/// Services by their cluster IPs, those of others too: made when somebody asks, forgotten when objects change.
#[derive(Debug, Default)]
pub(crate) struct ClusterIps(Option<HashMap<IpAddr, ObjectName>>);

impl ClusterIps {
    /// Objects have changed.
    pub(crate) fn forget(&mut self) {
        self.0 = None;
    }

    /// The service that has this cluster IP.
    pub(crate) fn service(&mut self, cluster: &Cluster, ip: IpAddr) -> Option<&ObjectName> {
        let all = self.0.get_or_insert_with(|| {
            let of = |service: &Service| {
                let name = service.name.clone();
                service.cluster_ips.clone().into_iter().map(move |ip| (ip, name.clone()))
            };
            cluster.services().flat_map(of).collect()
        });
        all.get(&ip)
    }

    /// Whose an address is.
    pub(crate) fn holder(&mut self, cluster: &Cluster, ip: IpAddr) -> Holder {
        let has =
            |node: &&model::Node| node.internal_ips.iter().chain(&node.external_ips).any(|it| *it == ip);
        let service = self.service(cluster, ip).and_then(|name| cluster.service(name));
        Holder {
            service: service.map(|service| HolderService {
                namespace: service.name.namespace.to_string(),
                name: service.name.name.clone(),
                proxy: service.proxy_name.clone(),
            }),
            node: cluster.nodes().find(has).map(|node| node.name.clone()),
        }
    }
}

/// All nodes, by name.
pub(crate) fn nodes(cluster: &Cluster) -> Vec<Node> {
    let here = cluster.here().node;
    let node = |node: &model::Node| Node {
        name: node.name.clone(),
        here: node.name == here,
        node_id: node.id(),
        zone: node.zone().map(str::to_owned),
        internal_ips: node.internal_ips.clone(),
        external_ips: node.external_ips.clone(),
    };
    cluster.nodes().map(node).collect()
}

/// A pod by its name.
pub(crate) fn pod(cluster: &Cluster, name: &ObjectName) -> Option<Pod> {
    let pod = cluster.pod(name)?;
    let node = pod.node.as_deref().unwrap_or_default().to_owned();
    let is_here = cluster.own_pods().any(|own| own.name == *name);
    Some(Pod {
        uid: pod.uid.clone(),
        ips: pod.ips.clone(),
        host_network: pod.host_network,
        elsewhere: (!is_here).then_some(node),
    })
}

/// Pod and node of each backend of a service or policy, by its address.
pub(crate) type Backends = HashMap<SocketAddr, (Option<ObjectName>, Option<Arc<str>>)>;

/// Where the backends of a service or policy are.
pub(crate) fn backends(cluster: &Cluster, id: &ObjectId) -> Backends {
    if id.kind == Kind::Service {
        let ports = cluster.service(&id.name).map(|service| {
            let names = service.ports_by_family().map(|(port, family)| service.port_name(port, family));
            names.collect::<Vec<_>>()
        });
        let candidates = ports.iter().flatten().flat_map(|name| cluster.endpoints(name));
        let backends = candidates.map(|candidate| candidate.backend());
        return backends.map(|backend| (backend.address, (backend.pod, backend.node))).collect();
    }
    let policy = cluster.policy(id);
    let all = policy.into_iter().flat_map(|policy| {
        let of =
            move |it: model::Redirect<'_>| cluster.policy_backends(policy, it.backend, Family::of(it.ip));
        cluster.redirects(policy).into_iter().flat_map(move |redirect| of(redirect).backends)
    });
    all.map(|backend| (backend.address, (backend.pod, backend.node))).collect()
}

/// Objects known, by kind.
pub(crate) fn objects(cluster: &Cluster) -> Vec<(String, usize)> {
    let slices: usize = cluster.services().map(|service| cluster.slices_of(&service.name).count()).sum();
    [
        ("services", cluster.services().count()),
        ("slices", slices),
        ("nodes", cluster.nodes().count()),
        ("pods", cluster.pods().count()),
        ("serviceCIDRs", cluster.cidrs().count()),
    ]
    .map(|(kind, count)| (kind.to_owned(), count))
    .into()
}

/// Services that keep what they had, because nobody knows yet what they should have; and the API server's (R27).
pub(crate) fn held<S: TableStore>(reconciler: &Reconciler<S>) -> Vec<String> {
    let held = reconciler.held().iter();
    held.map(|owner| {
        if is_api_server(&owner.name) {
            format!("{owner}: {KEPT}")
        } else {
            format!("{owner}: no endpoint is known so far; it keeps those that it had")
        }
    })
    .collect()
}

/// What is said of the API server's service while it is held.
pub(crate) const KEPT: &str =
    "an update that would leave it without an endpoint is not applied; it keeps those that it had";

/// Is it the service of the API server itself?
pub(crate) fn is_api_server(service: &ObjectName) -> bool {
    (&*service.namespace, service.name.as_str()) == ("default", "kubernetes")
}

/// Addresses that several services want.
pub(crate) fn conflicts(desired: &Desired) -> Vec<String> {
    let conflict = |conflict: Conflict| {
        let waiting: Vec<String> = conflict.waiting.iter().map(|owner| owner.name.to_string()).collect();
        format!(
            "{}/{}: {} has it, {} waits for it",
            conflict.key.endpoint.socket_addr(),
            observe::event::protocol(conflict.key.protocol),
            conflict.holder,
            waiting.join(", ")
        )
    };
    desired.conflicts().map(conflict).collect()
}

/// R12: of more ServiceCIDRs than there is room for the rest is left alone.
pub(crate) fn crowded(cluster: &Cluster) -> Option<String> {
    let all: BTreeSet<IpNet> = cluster.cidrs().flat_map(|it| &it.cidrs).copied().collect();
    let most = plan::space::MOST_CIDRS;
    let v4 = all.iter().filter(|net| net.addr().is_ipv4()).count();
    (v4 > most || all.len() - v4 > most).then(|| {
        format!("there are more than {most} ServiceCIDRs of one family: unused addresses of the rest are left alone")
    })
}

/// What had no room, and which setting would give it some.
pub(crate) fn refused(refusal: &Refusal) -> String {
    let setting = match refusal {
        Refusal::Full { room: Room::Backends | Room::Lists, .. } => "--max-backends",
        Refusal::Full { .. } => "--max-services",
        Refusal::Name { .. } => return refusal.to_string(),
    };
    format!("{refusal} by a greater {setting}")
}
