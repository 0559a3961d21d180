//! The agent's configuration: flags, environment, one file, and defaults.
//!
//! [`settings!`] below is the one list of what can be set. A line there is a field of [`Config`], and by its name a
//! flag (`--node-name`), a key of the file (`nodeName`) and a variable (`BALANCING_NODE_NAME`); its text is the
//! flag's help and the field's documentation. After adding one, `UPDATE_DOCS=1 cargo test -p balancing-agent config`
//! writes it into docs/configuration.md.
//!
//! ```text
//! setting  what is known of one setting
//! value    types that settings can have: their texts, limits, and what is said of a bad one
//! file     the configuration file, with lines
//! resolve  who wins: flag, environment, file, default
//! level    how much is told of decisions
//! event_sink  where that is written
//! ```

mod event_sink;
mod file;
mod level;
mod resolve;
mod setting;
mod value;

use std::{path::PathBuf, time::Duration};

use kernel::{Pins, pins};
use model::{NodePortAddresses, Outside, View};
use plan::Capacity;
use source::{Choice, kubernetes::Access};

pub use event_sink::EventSink;
pub use file::FileError;
pub use level::EventLevel;
pub use resolve::{ConfigError, Effective, Origin, Shown, resolve};
use setting::settings;
pub use setting::{Setting, setting};
pub use value::{Bytes, Entries, Kind, Label, Mode, Number, Url, Value};

settings! {
    /// Directory of Kubernetes manifests (YAML or JSON), followed live, instead of a cluster
    manifests: Option<PathBuf> = None, "DIR", default "none: a cluster is followed";

    /// The kubeconfig that says which cluster is followed, and who the agent is there
    kubeconfig: Option<PathBuf> = None, "FILE", default "in a pod, its service account";

    /// URL of an API server of that cluster, as https://10.0.0.1:6443: it must be reached without services. With several the
    /// next is asked when one fails
    api_server: Vec<String> = Vec::new(), "URL", default "that of the kubeconfig, or the service kubernetes";

    /// Name of this node, as in Node objects and endpoints
    node_name: String = host::name::node_name(), "NAME", default "the host name";

    /// This machine is no node of the cluster: serve cluster IPs, and leave to the nodes what they serve for the outside
    outside_cluster: bool = false, "";

    /// Outside of the cluster, serve node ports, load balancer VIPs and external IPs too: pods must be reachable from here
    outside_external: bool = false, "";

    /// Label of this machine outside of the cluster, where no Node says it: topology.kubernetes.io/zone=z1
    outside_label: Vec<Label> = Vec::new(), "KEY=VALUE", default "none";

    /// The cgroup whose processes are served
    cgroup_root: Option<PathBuf> = None, "DIR", default "the root of the cgroup2 mount, that is all";

    /// Serve only services whose label service.kubernetes.io/service-proxy-name has this value
    service_proxy_name: Option<String> = None, "NAME", default "only services without that label";

    /// Addresses of this node that serve node ports: primary (the node's own), all, localhost, or ranges like
    /// 10.0.0.0/8
    node_port_addresses: Vec<NodePortAddresses> = vec![NodePortAddresses::Primary], "ADDRESSES";

    /// A cgroup whose processes are left alone, with all below it: a path below the cgroup2 mount
    exclude_cgroup: Vec<PathBuf> = Vec::new(), "DIR", default "none";

    /// Write to the cluster: annotations of this node, and Events on objects that something is wrong with. Where no Node has
    /// this node's name nothing is written anyway
    publish: bool = true, "";

    /// Connections a second that a policy redirects on this node, if it does not say how many itself; 0 = any number. What is
    /// more goes where it would go without the policy
    redirect_qos_limit: u32 = 0, "N";

    /// Which decisions become events: off, failures, sampled=N (one in N) or all
    events: EventLevel = EventLevel::Failures, "LEVEL";

    /// Where events are written, one JSON object a line: stdout, file:PATH (rotated), or socket:PATH (whoever connects gets each
    /// new one). `balancing events` has them in any case
    event_log: Vec<EventSink> = Vec::new(), "SINK", default "none";

    /// URL of an OpenTelemetry collector that gets events as logs, by OTLP over HTTP, as http://10.0.0.9:4318. Only in programs
    /// that were built with the feature otel
    event_otlp: Option<Url> = None, "URL", default "none";

    /// Bytes at which a file of events is rotated, as 100MiB
    event_log_size: Bytes = Bytes(100 << 20), "SIZE";

    /// How many earlier files of events are kept, as PATH.1, PATH.2 and so on
    event_log_keep: Number<1000> = Number(5), "N";

    /// Permissions of a socket of events, octal
    event_socket_mode: Mode = Mode(0o600), "MODE";

    /// Events a second of one reason that are told of one by one; of what is more, exactly how many. 0 = any number
    event_rate: u32 = 10_000, "N";

    /// Events of one reason that are told of one by one at once, before that rate counts
    event_burst: Entries<10_000_000> = Entries(20_000), "N";

    /// Events that the agent remembers for `balancing events`
    event_memory: Entries<1_048_576> = Entries(8192), "N";

    /// How often everything is compared with what the kernel really holds; the first time and every fourth the sockets too
    audit_interval: Option<Duration> = None, "DURATION", default "30s, and with large tables as rarely as takes a thousandth of a CPU";

    /// Reset TCP connections too when their backend stops being usable; else only connected UDP sockets are closed
    reset_tcp: bool = false, "";

    /// Be this node's only service proxy: keep kube-proxy's ports, health checks and sysctls too. kube-proxy must not run
    replace_kube_proxy: bool = false, "";

    /// Port on which the agent says how it is, on all addresses; 0 = none
    health_port: u16 = 5810, "PORT";

    /// Port of the agent's metrics, on all addresses; 0 = none
    metrics_port: u16 = 5811, "PORT";

    /// Service ports, and policies, that have metrics of their own; what others get is one sum. 0 = none, not even that
    metrics_services: u32 = 1000, "N";

    /// Service ports, over both families, that tables may grow to have room for
    max_services: Entries<4_194_304> = Entries(65_536), "N";

    /// Endpoints of service ports, over both families, that tables may grow to have room for
    max_backends: Entries<16_777_216> = Entries(524_288), "N";

    /// The bpffs directory for pinned maps and programs
    bpffs: Pins = Pins::new(pins::DEFAULT), "DIR";

    /// The unix socket on which the agent answers commands
    socket: PathBuf = PathBuf::from("/run/balancing/agent.sock"), "FILE";
}

/// Environment variable that names the configuration file.
pub const FILE_VARIABLE: &str = "BALANCING_CONFIG";

impl Config {
    /// Where objects come from.
    ///
    /// # Errors
    /// Nothing says so, or two do; or this program can't do what is asked for.
    pub fn choice(&self) -> Result<Choice, ConfigError> {
        if !self.outside_cluster && (self.outside_external || !self.outside_label.is_empty()) {
            return Err(ConfigError::OnlyOutside);
        }
        if self.outside_cluster && self.replace_kube_proxy {
            return Err(ConfigError::NoNode);
        }
        if self.event_otlp.is_some() && !cfg!(feature = "otel") {
            return Err(ConfigError::NoOtel);
        }
        match (&self.manifests, &self.kubeconfig) {
            (Some(_), Some(_)) => Err(ConfigError::TwoSources),
            (Some(_), None) if !self.api_server.is_empty() => Err(ConfigError::TwoSources),
            (Some(directory), None) => Ok(Choice::Manifests(directory.clone())),
            (None, None) if !Access::is_in_pod() => Err(ConfigError::NoSource),
            (None, kubeconfig) => Ok(Choice::Kubernetes(Access {
                kubeconfig: kubeconfig.clone(),
                api_servers: self.api_server.clone(),
            })),
        }
    }

    /// Who looks at the cluster, and how; with or without resolving selectors.
    pub fn view(&self, resolve_selectors: bool) -> View {
        let labels = self.outside_label.iter().map(|label| (label.key.clone(), label.value.clone()));
        View {
            node: self.node_name.clone(),
            proxy_name: self.service_proxy_name.clone(),
            resolve_selectors,
            redirect_limit: self.redirect_qos_limit,
            outside: self
                .outside_cluster
                .then(|| Outside { labels: labels.collect(), external: self.outside_external }),
        }
    }

    /// How large tables may become; those that are pinned may be larger.
    pub fn most(&self) -> Capacity {
        Capacity::for_cluster(self.max_services.0, self.max_backends.0)
    }
}

#[cfg(test)]
mod tests;
