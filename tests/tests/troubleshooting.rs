//! docs/troubleshooting.md: its commands are run as they are written, and their output is what it shows.

#![allow(clippy::unwrap_used)]

use std::{
    env,
    fmt::Write,
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::Command,
};

use balancing_tests::process::{Host, PATIENCE, pod::Pod, program};
use testkit::Cgroup;

/// What a cluster would have: `cart` with two backends and one that is not ready, `pay` with none that is, and a
/// policy without a pod.
const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  clusterIP: 10.96.0.20
  clusterIPs: [10.96.0.20]
  ports: [{name: http, port: 80, targetPort: 8080}, {name: gossip, port: 53, targetPort: 5353, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: cart-a, namespace: shop, labels: {kubernetes.io/service-name: cart}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: gossip, port: 5353, protocol: UDP}]
endpoints:
- {addresses: [10.1.0.1], nodeName: n2, targetRef: {kind: Pod, namespace: shop, name: cart-1}, conditions: {ready: true}}
- {addresses: [10.1.0.2], nodeName: n3, targetRef: {kind: Pod, namespace: shop, name: cart-2}, conditions: {ready: true}}
- {addresses: [10.1.0.3], nodeName: n3, targetRef: {kind: Pod, namespace: shop, name: cart-3}, conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: pay, namespace: shop}
spec:
  clusterIP: 10.96.0.30
  clusterIPs: [10.96.0.30]
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: pay-a, namespace: shop, labels: {kubernetes.io/service-name: pay}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.1.0.9], nodeName: n2, targetRef: {kind: Pod, namespace: shop, name: pay-1}, conditions: {ready: false}}
---
apiVersion: balancing.elf.io/v1beta1
kind: LocalRedirectPolicy
metadata: {name: gossip}
spec:
  frontend:
    serviceMatcher: {namespace: shop, serviceName: cart, toPorts: [{name: gossip, port: '53', protocol: UDP}]}
  backend:
    endpointSelector: {matchLabels: {app: gossip}}
    toPorts: [{name: gossip, port: '7946', protocol: UDP}]
";

const PODS: [(&str, &str, &str); 2] = [
    ("web-1", "10.2.7.1", "0123456a-89ab-cdef-0123-456789abcdef"),
    ("batch-7", "10.2.7.2", "0123456b-89ab-cdef-0123-456789abcdef"),
];

fn pod(name: &str, ip: &str, uid: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, uid: {uid}}}
spec: {{nodeName: n1, containers: [{{name: app, image: i}}]}}
status: {{podIPs: [{{ip: {ip}}}]}}
"
    )
}

/// A pod's namespace and cgroups, the innermost last.
struct Client {
    pod: Pod,
    cgroups: Vec<Cgroup>,
}

impl Client {
    fn new(host: &Host, n: usize) -> Self {
        let (_, ip, uid) = PODS[n];
        let kubepods = host.cgroup().child(&format!("kubepods{n}")).unwrap();
        let of_pod = kubepods.child(&format!("pod{uid}")).unwrap();
        let container = of_pod.child(&"c".repeat(64)).unwrap();
        Self {
            pod: Pod::new(&format!("trouble{n}"), ip).unwrap(),
            cgroups: vec![kubepods, of_pod, container],
        }
    }

    /// Connects so often; the last socket stays open.
    fn dials(&self, to: &str, times: usize) -> Option<UdpSocket> {
        let work = || {
            let mut living = None;
            for _ in 0..times {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                living = socket.connect(to).ok().map(|()| socket);
            }
            living
        };
        self.pod.namespace().run(|| self.cgroups[2].run(work))
    }

    /// A shell connects; the answer that it gets.
    fn connects(&self, to: &str) {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("exec 3<>/dev/tcp/{to}")]).stderr(std::process::Stdio::null());
        self.pod.namespace().contain(&mut shell).unwrap();
        self.cgroups[2].spawn(&mut shell).unwrap().wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        while self.cgroups.pop().is_some() {}
    }
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md")
}

/// Runs a line of a shell on a host, where `balancing` is ours.
fn run(host: &Host, line: &str) -> String {
    let directory = program().canonicalize().unwrap().parent().unwrap().to_owned();
    let mut shell = host.command(&[]);
    let places: Vec<_> =
        shell.get_envs().map(|(name, value)| (name.to_owned(), value.map(Into::into))).collect();
    shell = Command::new("bash");
    for (name, value) in places {
        let value: Option<std::ffi::OsString> = value;
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let path = env::join_paths(
        std::iter::once(directory).chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    );
    let output = shell.args(["-c", line]).env("PATH", path.unwrap()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // As on a node.
    [
        (host.cgroup().path().to_owned(), "/sys/fs/cgroup"),
        (host.pins(), "/sys/fs/bpf/balancing"),
        (host.manifests(), "/etc/balancing/manifests"),
    ]
    .into_iter()
    .fold(text, |text, (place, usual)| text.replace(&place.display().to_string(), usual))
}

/// What is the same in each run: digits are not, nor is how wide they make a column, nor the place of the test.
fn shape(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let mut word: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        while word.contains("00") {
            word = word.replace("00", "0");
        }
        word
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Each block of commands, by its name, and its commands with what each has printed.
fn blocks(text: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    for part in text.split("<!-- run: ").skip(1) {
        let (name, rest) = part.split_once(" -->").unwrap();
        let block = rest.split_once("```console\n").unwrap().1.split_once("```").unwrap().0;
        let commands = block.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned);
        blocks.push((name.to_owned(), commands.collect()));
    }
    blocks
}

#[test]
fn questions_of_users_are_answered_by_the_commands_of_the_page() {
    let host = Host::new("trouble").unwrap();
    host.write("shop.yaml", SHOP).unwrap();
    host.write("pods.yaml", PODS.map(|(name, ip, uid)| pod(name, ip, uid)).concat()).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let (web, batch) = (Client::new(&host, 0), Client::new(&host, 1));
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());
    // What happened before anybody asked.
    let living = web.dials("10.96.0.20:53", 40);
    drop(batch.dials("10.96.0.20:53", 3));
    web.connects("10.96.0.30/80");
    testkit::wait::until(PATIENCE, "the event", || run(&host, "balancing events").contains("no-endpoints"));

    let text = fs::read_to_string(page()).unwrap();
    let mut shown = String::new();
    let mut rest = text.as_str();
    for (name, commands) in blocks(&text) {
        let mut block = String::new();
        for command in &commands {
            let output = run(&host, command);
            let fits = output.lines().all(|line| line.chars().count() <= 100);
            assert!(fits || command.contains("-o wide"), "{command}:\n{output}");
            write!(block, "$ {command}\n{}\n", output.trim_end()).unwrap();
        }
        // The answers.
        let has = |words: &[&str]| block.lines().any(|line| words.iter().all(|word| line.contains(word)));
        let answer: &[&[&str]] = match name.as_str() {
            "users" => &[&["shop/web-1/app", "40"], &["shop/batch-7/app", "3"]],
            "fails" => &[&["refused", "no-endpoints", "shop/web-1/app", "shop/pay"]],
            "endpoints" => &[&["10.1.0.9:8080", "pay-1", "not ready"]],
            "why" => {
                &[&["refused: the service has no ready endpoint"], &["10.1.0.9:8080", "not ready", "pay-1"]]
            }
            "chosen" => &[&["10.1.0.3:5353", "cart-3", "not ready", " 0"]],
            "connections" => &[&["10.96.0.20:53", "10.1.0."]],
            "policies" => &[&["gossip", "falling back"]],
            "status" => &[&["agent", "healthy"]],
            _ => &[],
        };
        assert!(!answer.is_empty(), "no answer is expected of {name}");
        for words in answer {
            assert!(has(words), "{name}: no line has {words:?}:\n{block}");
        }
        let (before, after) = rest.split_once(&format!("<!-- run: {name} -->\n```console\n")).unwrap();
        let (old, after) = after.split_once("```").unwrap();
        write!(shown, "{before}<!-- run: {name} -->\n```console\n{block}```").unwrap();
        if env::var_os("UPDATE_DOCS").is_none() {
            assert_eq!(shape(old), shape(&block), "{name}: UPDATE_DOCS=1 writes the page anew");
        }
        rest = after;
    }
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(page(), shown + rest).unwrap();
    }
    drop(living);
    agent.kill().unwrap();
}
