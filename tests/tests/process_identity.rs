//! Who connected: pods and containers of all runtimes, also when they are gone by the time that anybody looks.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use balancing_tests::process::{Host, PATIENCE, pod::Pod, web};
use rustix::process::Signal;
use serde_json::Value;
use testkit::Cgroup;

const VIP: &str = "10.96.0.1";

/// A UID and a container's id of so many digits, different for each number.
fn uid(n: usize) -> String {
    format!("0123456{n:x}-89ab-cdef-0123-456789abcdef")
}

fn id(n: usize, container: usize) -> String {
    format!("{n:x}{container:x}").repeat(32)
}

/// A pod with an init container, a sidecar and an ordinary one, which have ids if `told`.
fn manifest(name: &str, n: usize, more: &str, told: bool) -> String {
    let status = |kind: &str, numbers: &[usize]| {
        let one = |c: &usize| {
            format!(
                "{{name: {}, image: i, imageID: i, ready: true, restartCount: 0, containerID: 'containerd://{}'}}",
                CONTAINERS[*c],
                id(n, *c)
            )
        };
        let all: Vec<String> = numbers.iter().filter(|_| told).map(one).collect();
        format!("{kind}: [{}]", all.join(", "))
    };
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, uid: {}{more}}}
spec:
  nodeName: n1
  initContainers: [{{name: init, image: i}}, {{name: sidecar, image: i, restartPolicy: Always}}]
  containers: [{{name: web, image: i}}]
status: {{podIPs: [{{ip: 10.2.0.{n}}}], {}, {}}}
",
        uid(n),
        status("initContainerStatuses", &[0, 1]),
        status("containerStatuses", &[2]),
    )
}

const CONTAINERS: [&str; 3] = ["init", "sidecar", "web"];

/// Cgroups one in the other, the outermost first.
struct Tree(Vec<Cgroup>);

impl Tree {
    fn make(top: &Cgroup, path: &str) -> Self {
        let mut levels: Vec<Cgroup> = Vec::new();
        for name in path.split('/') {
            let level = levels.last().unwrap_or(top).child(name).unwrap();
            levels.push(level);
        }
        Self(levels)
    }

    fn innermost(&self) -> &Cgroup {
        self.0.last().unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        while self.0.pop().is_some() {}
    }
}

/// A shell that connects to the VIP and is gone; its pid.
fn shell(host: &Host) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("exec 3<>/dev/tcp/{VIP}/80")]).stdin(Stdio::null()).stderr(Stdio::null());
    host.namespace().contain(&mut shell).unwrap();
    shell
}

fn connects(host: &Host, cgroup: &Cgroup) -> u32 {
    let mut child = cgroup.spawn(&mut shell(host)).unwrap();
    child.wait().unwrap();
    child.id()
}

/// The client of each process's last event, once there is one of all of these.
fn clients(host: &Host, pids: &[u32]) -> BTreeMap<u64, Value> {
    let mut found = BTreeMap::new();
    testkit::wait::until(PATIENCE, "all events", || {
        let answer = host.balancing(&["events", "-o", "json"]).unwrap();
        let lines = answer.succeeds().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        found = lines
            .filter_map(|line| Some((line["client"]["pid"].as_u64()?, line["client"].clone())))
            .collect();
        pids.iter().all(|pid| found.contains_key(&u64::from(*pid)))
    });
    found
}

fn names(client: &Value) -> [Option<&str>; 5] {
    ["namespace", "pod", "container", "containerId", "host"].map(|field| client[field].as_str())
}

/// Paths of a container's cgroup as each runtime and driver makes them, in each class of pods.
fn shapes(n: usize, container: usize) -> Vec<String> {
    let (uid, id) = (uid(n), id(n, container));
    let under = uid.replace('-', "_");
    let mut paths = Vec::new();
    for class in ["", "-burstable", "-besteffort"] {
        let above = if class.is_empty() { String::new() } else { format!("kubepods{class}.slice/") };
        let slice = format!("kubepods.slice/{above}kubepods{class}-pod{under}.slice");
        for scope in ["cri-containerd", "crio", "docker"] {
            paths.push(format!("{slice}/{scope}-{id}.scope"));
        }
        paths.push(format!("{slice}/crio-{id}.scope/container"));
        let directory = class.replace('-', "/");
        paths.push(format!("kubepods{directory}/pod{uid}/{id}"));
        paths.push(format!("kubepods{directory}/pod{uid}/crio-{id}"));
        paths.push(format!(
            "system.slice/containerd.service/kubepods{class}-pod{under}.slice:cri-containerd:{id}"
        ));
    }
    // kind: a node that is a container, and an application with cgroups of its own.
    let node = "ab".repeat(32);
    for outer in [format!("docker/{node}"), format!("system.slice/docker-{node}.scope")] {
        paths.push(format!(
            "{outer}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice/cri-containerd-{id}.scope"
        ));
    }
    paths.push(format!("kubepods/pod{uid}/{id}/app/worker"));
    paths
}

#[test]
fn pods_and_containers_that_connected_and_are_gone_with_their_cgroups_have_names() {
    let host = Host::new("identity").unwrap();
    host.write("web.yaml", web::manifest("web", 1, &[])).unwrap();
    let fixed = ", annotations: {kubernetes.io/config.mirror: fedcba9876543210fedcba9876543210}";
    let pods = [manifest("shop-1", 1, "", true), manifest("static-n1", 2, fixed, true)];
    host.write("pods.yaml", pods.concat()).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    // Nobody looks until all of them are gone.
    agent.signal(Signal::STOP).unwrap();
    let mut expected = Vec::new();
    for (container, name) in CONTAINERS.into_iter().enumerate() {
        for path in shapes(1, container) {
            let tree = Tree::make(host.cgroup(), &path);
            let pid = connects(&host, tree.innermost());
            let id = id(1, container);
            expected.push((pid, path, [Some("shop"), Some("shop-1"), Some(name)], Some(id), None));
        }
    }
    let path = format!("kubepods/podfedcba9876543210fedcba9876543210/{}", id(2, 2));
    let tree = Tree::make(host.cgroup(), &path);
    let pid = connects(&host, tree.innermost());
    expected.push((pid, path, [Some("shop"), Some("static-n1"), Some("web")], Some(id(2, 2)), None));
    drop(tree);
    for (path, unit) in [
        ("system.slice/sshd.service", "sshd.service"),
        ("system.slice/nginx.service/workers", "nginx.service"),
        ("batch/job1", "job1"),
    ] {
        let tree = Tree::make(host.cgroup(), path);
        let pid = connects(&host, tree.innermost());
        expected.push((pid, path.to_owned(), [None; 3], None, Some(unit)));
    }
    agent.signal(Signal::CONT).unwrap();

    let pids: Vec<u32> = expected.iter().map(|it| it.0).collect();
    let clients = clients(&host, &pids);
    for (pid, path, [namespace, pod, container], id, unit) in expected {
        let client = &clients[&u64::from(pid)];
        let wanted = [namespace, pod, container, id.as_deref(), unit];
        assert_eq!(names(client), wanted, "{path}: {client}");
        assert!(client["cgroup"].as_str().unwrap().ends_with(&path), "{path}: {client}");
        assert!(!host.cgroup().path().join(&path).exists(), "{path} is to be gone");
    }
    agent.kill().unwrap();
}

#[test]
fn a_container_that_connects_before_its_status_is_known_is_waited_for() {
    let host = Host::new("identitylate").unwrap();
    host.write("web.yaml", web::manifest("web", 1, &[])).unwrap();
    host.write("pod.yaml", manifest("shop-1", 1, "", false)).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let path = |n: usize| format!("kubepods/pod{}/{}", uid(n), id(n, 2));
    let known = connects(&host, Tree::make(host.cgroup(), &path(1)).innermost());
    let never = connects(&host, Tree::make(host.cgroup(), &path(3)).innermost());
    host.write("pod.yaml", manifest("shop-1", 1, "", true)).unwrap();
    let clients = clients(&host, &[known, never]);
    assert_eq!(names(&clients[&u64::from(known)])[..3], [Some("shop"), Some("shop-1"), Some("web")]);
    let other = id(3, 2);
    let expected = [None, None, None, Some(other.as_str()), None];
    assert_eq!(names(&clients[&u64::from(never)]), expected, "a pod that nobody tells of");
    agent.kill().unwrap();
}

/// What the kernel's buffer has when an agent starts is of pods that it is about to hear of.
#[test]
fn who_connected_while_no_agent_ran_is_waited_for() {
    let host = Host::new("identitystart").unwrap();
    host.write("web.yaml", web::manifest("web", 1, &[])).unwrap();
    host.write("pod.yaml", manifest("shop-1", 1, "", true)).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    agent.kill().unwrap();
    let tree = Tree::make(host.cgroup(), &format!("kubepods/pod{}/{}", uid(1), id(1, 2)));
    let pids: Vec<u32> = (0..5).map(|_| connects(&host, tree.innermost())).collect();
    let mut agent = host.agent(&[]).unwrap();
    let clients = clients(&host, &pids);
    for pid in pids {
        let names = names(&clients[&u64::from(pid)]);
        assert_eq!(names[..3], [Some("shop"), Some("shop-1"), Some("web")], "{clients:?}");
    }
    agent.kill().unwrap();
}

/// Whoever may make cgroups below its own may call them what it likes.
#[test]
fn nobody_passes_for_another_pod_by_the_name_of_a_cgroup() {
    let host = Host::new("identityforged").unwrap();
    host.write("web.yaml", web::manifest("web", 1, &[])).unwrap();
    host.write("pods.yaml", manifest("shop-1", 1, "", true) + &manifest("evil", 2, "", true)).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let forged = format!("pod{}/{}", uid(1), id(1, 2));
    let connects =
        |above: &str| connects(&host, Tree::make(host.cgroup(), &format!("{above}/{forged}")).innermost());
    let pod = connects(&format!("kubepods/pod{}/{}", uid(2), id(2, 2)));
    let user = connects("user.slice/user-1000.slice/user@1000.service");
    let service = connects("system.slice/runner.service");
    let clients = clients(&host, &[pod, user, service]);
    assert_eq!(names(&clients[&u64::from(pod)])[..3], [Some("shop"), Some("evil"), Some("web")]);
    for pid in [user, service] {
        assert_eq!(names(&clients[&u64::from(pid)])[..3], [None; 3], "{clients:?}");
    }
    agent.kill().unwrap();
}

/// Where runtimes make no cgroups in the hierarchy of cgroup2: the network namespace says which pod, and the process's other
/// cgroups which container.
#[test]
fn on_hybrid_hosts_network_namespaces_and_other_hierarchies_tell() {
    let host = Host::new("identityhybrid").unwrap();
    host.write("web.yaml", web::manifest("web", 1, &[])).unwrap();
    host.write("pods.yaml", manifest("shop-1", 9, "", true)).unwrap();
    let pod = Pod::new("identityhybridp", "10.2.0.9").unwrap();
    let agent = host.agent(&[]).unwrap();
    let v1 = V1::make(&format!("kubepods/pod{}/{}", uid(9), id(9, 1)));
    let mut sleeper = Command::new("bash");
    sleeper.args(["-c", &format!("echo $$ > {}; exec 3<>/dev/tcp/{VIP}/80; sleep 60", v1.procs())]);
    sleeper.stdin(Stdio::null()).stderr(Stdio::null());
    pod.namespace().contain(&mut sleeper).unwrap();
    let runtime = host.cgroup().child("containerd.service").unwrap();
    let mut child = runtime.spawn(&mut sleeper).unwrap();
    let clients = clients(&host, &[child.id()]);
    let id = id(9, 1);
    let expected = [Some("shop"), Some("shop-1"), Some("sidecar"), Some(id.as_str()), None];
    assert_eq!(names(&clients[&u64::from(child.id())]), expected, "{}", agent.log());

    // Counts too, once the agent has seen that its pods have no cgroups there.
    let counted = |pod: Option<&str>| -> u64 {
        let usage: observe::Usage =
            agent::local::ask_one(&host.socket(), &agent::local::Request::Usage).unwrap();
        usage.clients.iter().filter(|it| it.client.pod.as_deref() == pod).map(|it| it.count.total).sum()
    };
    let dial = || drop(pod.dial(&runtime, &format!("{VIP}:53")));
    testkit::wait::until(PATIENCE, "the pod is counted", || {
        dial();
        counted(Some("shop-1")) > 0
    });
    let before = [None, Some("shop-1")].map(counted);
    (0..10).for_each(|_| dial());
    assert_eq!([None, Some("shop-1")].map(counted), [before[0], before[1] + 10], "{}", agent.log());
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A cgroup of another hierarchy, with those above it.
struct V1 {
    mount: PathBuf,
    top: PathBuf,
    path: PathBuf,
}

impl V1 {
    fn make(below: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut pids = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = pids.find(|it| it[2] == "cgroup" && it[3].split(',').any(|option| option == "pids"));
        let mount =
            mount.expect("this test needs a hybrid host: mount -t cgroup -o pids none /sys/fs/cgroup/pids");
        let top = Path::new(mount[1]).join(format!("balancing-test-{}", std::process::id()));
        let path = top.join(below);
        fs::create_dir_all(&path).unwrap();
        Self { mount: mount[1].into(), top, path }
    }

    fn procs(&self) -> String {
        self.path.join("cgroup.procs").display().to_string()
    }
}

impl Drop for V1 {
    fn drop(&mut self) {
        for pid in fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(self.mount.join("cgroup.procs"), pid);
        }
        for path in self.path.ancestors().take_while(|path| path.starts_with(&self.top)) {
            let _ = fs::remove_dir(path);
        }
    }
}

#[test]
fn who_used_what_is_counted_by_pod_and_backend() {
    let host = Host::new("usage").unwrap();
    host.write("web.yaml", web::manifest("web", 1, &[1, 2])).unwrap();
    host.write("none.yaml", web::manifest("none", 2, &[])).unwrap();
    host.write("pods.yaml", manifest("shop-1", 1, "", true)).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let tree = Tree::make(host.cgroup(), &format!("kubepods/pod{}/{}", uid(1), id(1, 2)));
    let dial = |to: &str, times: usize| {
        host.namespace().run(|| {
            tree.innermost().run(|| {
                for _ in 0..times {
                    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                    let _ = socket.connect(to);
                }
            });
        });
    };
    dial("10.96.0.1:53", 300);
    dial("10.96.0.2:53", 7);
    let usage = || -> observe::Usage {
        agent::local::ask_one(&host.socket(), &agent::local::Request::Usage).unwrap()
    };
    let rows = |usage: &observe::Usage| {
        let row = |it: &observe::usage::ClientUse| {
            let service = it.service.as_ref().map_or("-", |service| &service.name).to_owned();
            (
                it.client.pod.clone().unwrap_or_default(),
                service,
                it.reason.clone(),
                it.count.total,
                it.count.minute,
            )
        };
        usage.clients.iter().map(row).collect::<Vec<_>>()
    };
    let first = usage();
    let (web, none) = (("shop-1", "web", "balanced"), ("shop-1", "none", "no-endpoints"));
    let row = |(pod, service, reason): (&str, &str, &str), count: u64| {
        (pod.to_owned(), service.to_owned(), reason.to_owned(), count, count)
    };
    assert_eq!(rows(&first), [row(web, 300), row(none, 7)], "exactly, at the level of failures");
    let backends: BTreeMap<String, u64> =
        first.backends.iter().map(|it| (it.pod.clone().unwrap(), it.count.total)).collect();
    assert_eq!(backends.values().sum::<u64>(), 300, "{backends:?}");
    assert!(backends.len() == 2 && backends.values().all(|count| *count > 90), "{backends:?}");
    assert!(first.backends.iter().all(|it| it.node.as_deref() == Some("n2")));
    assert_eq!(first.unattributed, 0);

    // What is counted while no agent runs is told by the next one.
    agent.kill().unwrap();
    dial("10.96.0.1:53", 50);
    let mut agent = host.agent(&[]).unwrap();
    testkit::wait::until(Duration::from_secs(10), "what was counted meanwhile", || {
        rows(&usage()) == [("shop-1".into(), "web".into(), "balanced".into(), 50, 0)]
    });
    assert_eq!(usage().clients[0].client.container.as_deref(), Some("web"));
    let status = agent.status().unwrap();
    assert_eq!((status.problems, status.notices), (vec![], vec![]));
    agent.kill().unwrap();
}

#[test]
fn what_a_service_got_that_is_gone_is_not_its_successors() {
    let host = Host::new("successor").unwrap();
    host.write("old.yaml", web::manifest("old", 1, &[])).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let dial = |to: &str, times: usize| {
        host.run(|| (0..times).for_each(|_| drop(UdpSocket::bind("0.0.0.0:0").unwrap().connect(to))));
    };
    let served = |name: &str| {
        host.balancing(&["get", "services", "-o", "json"]).unwrap().succeeds().contains(&format!("{name:?}"))
    };
    let now = || -> BTreeMap<String, u64> {
        let usage: observe::Usage =
            agent::local::ask_one(&host.socket(), &agent::local::Request::Usage).unwrap();
        let count = |it: &observe::usage::ClientUse| Some((it.service.clone()?.name, it.count.total));
        usage.clients.iter().filter_map(count).collect()
    };
    dial("10.96.0.1:53", 50);
    host.remove("old.yaml").unwrap();
    testkit::wait::until(PATIENCE, "the service is gone", || !served("old"));
    host.write("new.yaml", web::manifest("new", 2, &[])).unwrap();
    testkit::wait::until(PATIENCE, "there is another one", || served("new"));
    assert_eq!(now(), BTreeMap::from([("old".into(), 50)]));
    dial("10.96.0.2:53", 3);
    assert_eq!(now(), BTreeMap::from([("old".into(), 50), ("new".into(), 3)]));
    let events = host.balancing(&["events", "-o", "json"]).unwrap();
    let lines = events.succeeds().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_old: Vec<Value> = lines.filter(|line| line["original"]["ip"] == VIP).collect();
    assert!(!of_old.is_empty() && of_old.iter().all(|line| line["service"]["name"] == "old"), "{of_old:?}");
    agent.kill().unwrap();
}
