//! Rules that are not ours, on a machine as others have made it: hostPorts of a CNI plugin, network policies, services of
//! kube-proxy, routes, queues, sysctls; and what shows them.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use testkit::{
    Backend, Family, Kind, Namespace, backend,
    client::{Client, TIMEOUT},
    eventually,
    netns::{End, veth},
};

use super::{Answer, Host, PATIENCE, pod::Pod};

/// A port of the node's addresses that leads to [`POD_PORT`].
pub const HOST_PORT: u16 = 8088;
/// Where `pod` answers.
pub const POD_PORT: u16 = 8080;
/// Where `other` answers: kube-proxy's rules send those there who ask for [`WEB`].
pub const OTHER_PORT: u16 = 8081;
/// Where `next` answers.
pub const NEXT_PORT: u16 = 8082;
/// Where `forbidden` listens: network policies let nobody in.
pub const FORBIDDEN_PORT: u16 = 9090;

/// How the address of a service ends for which kube-proxy has rules although it is ours.
pub const WEB: u8 = 10;
/// And of one that is kube-proxy's: it leads to [`POD_PORT`].
pub const THEIRS: u8 = 11;

/// The networks of the node in one family.
pub struct Net {
    /// Of the family: `v4`, `v6`.
    pub name: &'static str,
    /// Bits that a network's addresses have in common.
    length: u8,
    /// Of the node and the machine outside.
    nodes: IpAddr,
    pods: IpAddr,
    services: IpAddr,
}

/// In IPv4.
pub const V4: Net = Net {
    name: "v4",
    length: 24,
    nodes: IpAddr::V4(Ipv4Addr::new(10, 250, 77, 0)),
    pods: IpAddr::V4(Ipv4Addr::new(10, 244, 77, 0)),
    services: IpAddr::V4(Ipv4Addr::new(10, 96, 77, 0)),
};
/// In IPv6.
pub const V6: Net = Net {
    name: "v6",
    length: 64,
    nodes: IpAddr::V6(Ipv6Addr::new(0xfd00, 0x250, 0x77, 0, 0, 0, 0, 0)),
    pods: IpAddr::V6(Ipv6Addr::new(0xfd00, 0x244, 0x77, 0, 0, 0, 0, 0)),
    services: IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0x77, 0, 0, 0, 0, 0)),
};

impl Net {
    /// A port of the node's own address.
    pub fn node(&self, port: u16) -> SocketAddr {
        SocketAddr::new(member(self.nodes, 1), port)
    }

    /// A port of the pod.
    pub fn pod(&self, port: u16) -> SocketAddr {
        SocketAddr::new(member(self.pods, 2), port)
    }

    /// Port 80 of the service whose address ends with `low`.
    pub fn vip(&self, low: u8) -> SocketAddr {
        SocketAddr::new(member(self.services, low), 80)
    }

    /// The network that services' addresses are of.
    pub fn services(&self) -> String {
        format!("{}/{}", self.services, self.length)
    }

    /// What the plugin portmap, a network policy engine and kube-proxy have in the kernel, in their shapes.
    fn rules(&self) -> String {
        let (table, address) = if self.pods.is_ipv4() { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
        let (pod, other) = (self.pod(POD_PORT), self.pod(OTHER_PORT));
        let (ip, web, theirs) = (pod.ip(), self.vip(WEB).ip(), self.vip(THEIRS).ip());
        format!(
            "
table {table} nat {{
  chain CNI-DN-0a1b2c {{
    meta l4proto {{ tcp, udp }} th dport {HOST_PORT} counter dnat to {pod}
  }}
  chain CNI-HOSTPORT-DNAT {{
    meta l4proto {{ tcp, udp }} th dport {HOST_PORT} counter jump CNI-DN-0a1b2c
  }}
  chain PREROUTING {{
    type nat hook prerouting priority -100
    fib daddr type local counter jump CNI-HOSTPORT-DNAT
  }}
  chain OUTPUT {{
    type nat hook output priority -100
    fib daddr type local counter jump CNI-HOSTPORT-DNAT
  }}
  chain POSTROUTING {{
    type nat hook postrouting priority 100
    meta mark & 0x2000 == 0x2000 counter masquerade
  }}
}}
table {table} policies {{
  set forbidden {{
    type {address} . inet_proto . inet_service
    elements = {{ {ip} . tcp . {FORBIDDEN_PORT}, {ip} . udp . {FORBIDDEN_PORT} }}
  }}
  chain pods {{
    ct state established,related accept
    {table} daddr . meta l4proto . th dport @forbidden counter drop
  }}
  chain forward {{
    type filter hook forward priority 0
    counter jump pods
  }}
  chain output {{
    type filter hook output priority 0
    counter jump pods
  }}
}}
table {table} kube-proxy {{
  chain service-theirs {{
    meta l4proto {{ tcp, udp }} dnat to {pod}
  }}
  chain service-web {{
    meta l4proto {{ tcp, udp }} dnat to {other}
  }}
  map service-ips {{
    type {address} . inet_proto . inet_service : verdict
    elements = {{
      {theirs} . tcp . 80 : goto service-theirs, {theirs} . udp . 80 : goto service-theirs,
      {web} . tcp . 80 : goto service-web, {web} . udp . 80 : goto service-web
    }}
  }}
  chain services {{
    {table} daddr . meta l4proto . th dport vmap @service-ips
  }}
  chain nat-prerouting {{
    type nat hook prerouting priority -100
    jump services
  }}
  chain nat-output {{
    type nat hook output priority -100
    jump services
  }}
}}
"
        )
    }
}

/// The address of a network that ends with `low`.
fn member(network: IpAddr, low: u8) -> IpAddr {
    match network {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() | u32::from(low)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() | u128::from(low)).into(),
    }
}

/// What else others have set on a node. The programs let everything pass (TC_ACT_OK).
const SETTINGS: &str = "
    ip -4 rule add fwmark 0x100/0x100 priority 100 lookup 200
    ip -6 rule add fwmark 0x100/0x100 priority 100 lookup 200
    ip -4 route add default via 10.250.77.2 table 200
    ip -6 route add default via fd00:250:77::2 table 200
    tc qdisc add dev uplink root handle 1: tbf rate 10gbit burst 10mb latency 50ms
    tc qdisc add dev uplink clsact
    tc filter add dev uplink ingress prio 5 protocol all bpf direct-action bytecode '1,6 0 0 0,'
    tc filter add dev uplink egress prio 5 protocol all bpf direct-action bytecode '1,6 0 0 0,'
    cd /proc/sys/net
    echo 1 > ipv4/conf/all/route_localnet
    echo 33000 60001 > ipv4/ip_local_port_range
    echo 1 > netfilter/nf_conntrack_tcp_be_liberal
    echo 31 > netfilter/nf_conntrack_udp_timeout
";

/// What shows all of that. Handles tell a rule from one like it that was put in its place.
const LOOKS: [&str; 9] = [
    "nft --stateless --handle list ruleset",
    "ip -4 -details rule",
    "ip -6 -details rule",
    "ip -4 -details route show table all",
    "ip -6 -details route show table all",
    "ip -details address",
    "tc -details qdisc",
    "tc -details filter show dev uplink ingress",
    "tc -details filter show dev uplink egress",
];

/// Sysctls that the agent sets (R26), and what follows from those and from traffic.
const OURS: [&str; 5] = [
    "nf_conntrack_tcp_timeout_established",
    "nf_conntrack_tcp_timeout_close_wait",
    "nf_conntrack_max",
    "nf_conntrack_buckets",
    "nf_conntrack_count",
];

/// What there is, by the command that shows it or the file that has it.
#[derive(Debug)]
pub struct Look(BTreeMap<String, String>);

impl Look {
    /// What is not as it was then.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let (now, before) = (&self.0, &before.0);
        let names = before.keys().chain(now.keys().filter(|it| !before.contains_key(*it)));
        let differing = names.filter(|it| before.get(*it) != now.get(*it));
        differing.map(|it| format!("{it}: {:?} was {:?}", now.get(it), before.get(it))).collect()
    }
}

/// A machine with rules of others, a pod on it that they are for, and a machine outside.
pub struct Node {
    /// The machine.
    pub host: Host,
    outside: Namespace,
    _pod: Pod,
    servers: Vec<Backend>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// A process of the node that our programs see.
    Inside,
    /// One on the machine outside.
    Outside,
}

impl Node {
    /// A fresh one.
    ///
    /// # Errors
    /// No root, no iproute2, no nftables, or a kernel without what they are asked for.
    pub fn new(name: &str) -> Result<Self> {
        let host = Host::new(name)?;
        let pod = Pod::new("rules-pod", &V4.pod(0).ip().to_string())?;
        let outside = Namespace::create("rules-outside")?;
        let (here, there) = (host.namespace(), pod.namespace());
        // Interfaces give themselves no addresses, which would change for a while after the first look.
        here.run(|| fs::write("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1"))?;
        connect(here, "cali0a1b2c", there, V4.pods, V6.pods)?;
        connect(here, "uplink", &outside, V4.nodes, V6.nodes)?;
        here.forward()?;
        for (net, default) in [(V4, "0.0.0.0/0"), (V6, "::/0")] {
            there.add_route(default, member(net.pods, 1))?;
            here.add_route(default, member(net.nodes, 2))?;
            for network in [net.pods, net.services] {
                outside.add_route(&format!("{network}/{}", net.length), member(net.nodes, 1))?;
            }
        }
        let mut servers = Vec::new();
        let ports =
            [("pod", POD_PORT), ("other", OTHER_PORT), ("next", NEXT_PORT), ("forbidden", FORBIDDEN_PORT)];
        for (name, port) in ports {
            for net in [V4, V6] {
                servers.extend(backend::pair(there, name, net.pod(port).ip(), port)?);
            }
        }
        let node = Self { host, outside, _pod: pod, servers };
        node.sh(SETTINGS)?;
        node.sh(&format!("nft -f - <<.\n{}{}.\n", V4.rules(), V6.rules()))?;
        // Interfaces that are up may take a second until they know their neighbours.
        for (place, net) in [Place::Inside, Place::Outside].into_iter().flat_map(|it| [(it, V4), (it, V6)]) {
            eventually(PATIENCE, || node.ask(place, Kind::Tcp, net.pod(POD_PORT), TIMEOUT))
                .with_context(|| format!("ask the pod by {}", net.name))?;
        }
        Ok(node)
    }

    /// Runs a script on the node; what it prints.
    ///
    /// # Errors
    /// A command of it fails.
    pub fn sh(&self, script: &str) -> Result<String> {
        let mut sh = Command::new("sh");
        self.host.namespace().contain(&mut sh)?;
        let answer = Answer::of(sh.args(["-ec", script]))?;
        ensure!(answer.code == Some(0), "{script}: {}", answer.err);
        Ok(answer.out)
    }

    /// Runs a verb of `balancing` on the node.
    ///
    /// # Errors
    /// It can't be started.
    pub fn balancing(&self, verb: &str) -> Result<Answer> {
        let mut command = self.host.command(&[verb]);
        self.host.namespace().contain(&mut command)?;
        Answer::of(&mut command)
    }

    /// What there is now.
    ///
    /// # Errors
    /// No iproute2, no nftables.
    pub fn look(&self) -> Result<Look> {
        let mut look = BTreeMap::new();
        for command in LOOKS {
            look.insert(command.to_owned(), self.sh(command)?);
        }
        // A thread's own view of /proc/sys/net is that of its namespace.
        self.host.namespace().run(|| sysctls(Path::new("/proc/sys/net"), &mut look))?;
        Ok(Look(look))
    }

    /// Who answers from the address that is asked.
    ///
    /// # Errors
    /// As the socket gives them; another address answers.
    pub fn ask(&self, place: Place, kind: Kind, to: SocketAddr, timeout: Duration) -> io::Result<String> {
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        let ask = || Client::open(kind, family, to, timeout)?.ask();
        let seen = match place {
            Place::Inside => self.host.run(ask),
            Place::Outside => self.outside.run(ask),
        }?;
        if seen.peer == to { Ok(seen.backend) } else { Err(io::Error::other(format!("{seen:?}"))) }
    }

    /// How often somebody was where nobody may be.
    pub fn trespasses(&self) -> u64 {
        self.servers.iter().filter(|it| it.address().port() == FORBIDDEN_PORT).map(Backend::served).sum()
    }
}

/// Gives the node an interface to another machine, which is the second of both networks.
fn connect(node: &Namespace, interface: &str, other: &Namespace, v4: IpAddr, v6: IpAddr) -> Result<()> {
    let link: IpAddr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into();
    let addresses = |low: u8| {
        let networks = [(v4, V4.length), (v6, V6.length), (link, V6.length)];
        networks.map(|(network, length)| format!("{}/{length}", member(network, low)))
    };
    let (here, there) = (addresses(1), addresses(2));
    veth(
        End { namespace: node, interface, addresses: &here.each_ref().map(String::as_str) },
        End { namespace: other, interface: "eth0", addresses: &there.each_ref().map(String::as_str) },
    )
}

fn sysctls(directory: &Path, look: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in fs::read_dir(directory).context("list /proc/sys/net")? {
        let path = entry.context("list /proc/sys/net")?.path();
        if path.is_dir() {
            sysctls(&path, look)?;
        } else if !OURS.iter().any(|it| path.ends_with(it)) {
            // Some are for writing only.
            let text = fs::read_to_string(&path).unwrap_or_else(|error| error.to_string());
            look.insert(path.display().to_string(), text);
        }
    }
    Ok(())
}
