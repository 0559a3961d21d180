//! Pods that an annotation opts out: theirs, or their namespace's.

#![allow(clippy::unwrap_used)]

use std::{
    io,
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use balancing_tests::process::{
    Agent, Host, PATIENCE,
    cluster::{World, put},
    web,
};
use serde_json::{Value, json};
use testkit::{Cgroup, wait};

/// Of service `web`, whose backend nobody is.
const VIP: &str = "10.96.0.1:80";
const ANNOTATION: &str = "balancing.elf.io/socket-lb";

/// A UID that no other test has, different for each number.
fn uid(n: usize) -> String {
    format!("0e7ca5e{n:x}-0b70-4a11-8c3d-0123456789ab")
}

/// A pod of `shop`; with `says`, annotated.
fn pod(name: &str, n: usize, says: Option<&str>, more: &str) -> String {
    let annotations = says.map_or(String::new(), |says| format!(", annotations: {{{ANNOTATION}: '{says}'}}"));
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, uid: {}{annotations}}}
spec: {{nodeName: n1, containers: [{{name: app, image: i}}]{more}}}
status: {{podIPs: [{{ip: 10.2.77.{n}}}]}}
",
        uid(n)
    )
}

fn namespace(says: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, annotations: {{{ANNOTATION}: '{says}'}}}}\n"
    )
}

/// The cgroup of a pod, as the kubelet makes it with systemd's driver; below it a container's.
struct PodCgroup {
    // Dropped in this order.
    container: Cgroup,
    pod: Cgroup,
}

impl PodCgroup {
    fn make(host: &Host, n: usize) -> Self {
        let name = format!("kubepods-burstable-pod{}.slice", uid(n).replace('-', "_"));
        let pod = host.cgroup().child(&name).unwrap();
        let container = pod.child(&format!("cri-containerd-{}.scope", "ab".repeat(32))).unwrap();
        Self { container, pod }
    }
}

/// A machine where somebody listens at the VIP itself, and another at the backend: who answers says whether the
/// connection was translated.
struct Shop {
    host: Host,
    stop: Arc<AtomicBool>,
    servers: Vec<thread::JoinHandle<()>>,
}

impl Shop {
    fn new(name: &str) -> Self {
        let host = Host::new(name).unwrap();
        host.namespace().ip("addr add 10.96.0.1/32 dev lo").unwrap();
        host.write("web.yaml", web::manifest("web", 1, &[1])).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let servers = ["10.96.0.1:80", "10.1.0.1:8080"].map(|at| {
            let listener = host.namespace().run(|| TcpListener::bind(at)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let stop = stop.clone();
            thread::spawn(move || {
                // What is accepted is closed at once; the client has asked where it is.
                while !stop.load(Ordering::Relaxed) {
                    let _ = listener.accept();
                    thread::sleep(Duration::from_millis(1));
                }
            })
        });
        Self { host, stop, servers: servers.into() }
    }

    /// Does the VIP lead to its backend from here? The local address of a connection to an address of one's own is that.
    fn translates(&self, cgroup: &Cgroup) -> bool {
        self.host.namespace().run(|| cgroup.run(|| is_translated().unwrap()))
    }

    fn why(&self, client: &str) -> (Value, String) {
        let ask = |more: &[&str]| {
            let vip = format!("{VIP}/tcp");
            let arguments = [&["why", client, &vip], more].concat();
            self.host.balancing(&arguments).unwrap().succeeds().to_owned()
        };
        (serde_json::from_str(&ask(&["-o", "json"])).unwrap(), ask(&[]))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.servers.drain(..).for_each(|server| drop(server.join()));
    }
}

fn is_translated() -> io::Result<bool> {
    let stream = TcpStream::connect(VIP)?;
    Ok(stream.local_addr()?.ip().to_string() != "10.96.0.1")
}

/// Its status shows so many pods that are to be left alone, and that many are.
fn opted_out(agent: &Agent, pods: usize, found: usize) {
    let wanted = agent::status::OptedOut { pods, found };
    agent.wait_status(&format!("{wanted:?}"), |status| status.opted_out == wanted).unwrap();
}

#[test]
fn pods_are_left_alone_before_their_first_process_connects_and_as_long_as_they_are_opted_out() {
    let shop = Shop::new("optout");
    let host = &shop.host;
    host.write("mesh.yaml", pod("mesh", 1, Some("false"), "")).unwrap();
    host.write("app.yaml", pod("app", 2, None, "")).unwrap();
    host.write("host.yaml", pod("host", 3, Some("false"), ", hostNetwork: true")).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    opted_out(&agent, 2, 0);

    // The agent knows the pods, and the kubelet makes their cgroups some time before anybody is in them.
    let [mesh, app, on_host] = [1, 2, 3].map(|n| PodCgroup::make(host, n));
    thread::sleep(Duration::from_millis(500));
    assert!(!shop.translates(&mesh.container) && !shop.translates(&on_host.container));
    assert!(shop.translates(&app.container) && shop.translates(host.cgroup()));
    opted_out(&agent, 2, 2);
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());

    // What people see.
    let (json, text) = shop.why("pod/shop/mesh");
    assert_eq!((&json["reason"], &json["verdict"]), (&json!("excluded"), &json!("passed")));
    assert_eq!(json["client"]["excludedCgroup"], json!(mesh.pod.path()));
    assert_eq!(json["client"]["optedOutBy"], json!("Pod shop/mesh"));
    let words =
        format!("is left alone with all below it (annotation {ANNOTATION}: \"false\" of Pod shop/mesh)");
    assert!(text.contains(&words), "{text}");
    assert_eq!(shop.why("pod/shop/app").0["reason"], json!("balanced"));
    let status = host.balancing(&["status"]).unwrap();
    assert!(status.succeeds().contains("opted out  2 pods, by annotation"), "{}", status.out);
    let counted = agent.status().unwrap().decisions;
    assert!(counted.iter().any(|(reason, count)| reason == "excluded" && *count == 2), "{counted:?}");

    // Killed and restarted it keeps them excluded all the while.
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut asked = 0;
            while !over.load(Ordering::Relaxed) {
                assert!(!shop.translates(&mesh.container), "in between, after {asked} connections");
                asked += 1;
            }
            asked
        });
        let ends = Over(&over);
        for _ in 0..3 {
            agent.kill().unwrap();
            let sleeper = Sleeper::start(&mesh.container);
            let (json, text) = shop.why(&sleeper.0.id().to_string());
            assert_eq!((&json["reason"], &json["client"]["optedOutBy"]), (&json!("excluded"), &Value::Null));
            assert!(text.contains(&format!("excludeCgroup, or annotation {ANNOTATION}")), "{text}");
            agent = host.agent(&[]).unwrap();
            opted_out(&agent, 2, 2);
        }
        drop(ends);
        assert!(watch.join().unwrap() > 10);
    });

    // Without the annotation it is served, as it is once it has finished.
    host.write("mesh.yaml", pod("mesh", 1, None, "")).unwrap();
    wait::until(PATIENCE, "its service", || shop.translates(&mesh.container));
    host.remove("host.yaml").unwrap();
    wait::until(PATIENCE, "the end of it", || shop.translates(&on_host.container));
    opted_out(&agent, 0, 0);
    assert_eq!(shop.why("pod/shop/mesh").0["reason"], json!("balanced"));
    agent.kill().unwrap();
}

/// A process that does nothing; killed when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start(cgroup: &Cgroup) -> Self {
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(cgroup.spawn(&mut command).unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says that it is over, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_namespace_opts_its_pods_out_but_for_those_that_say_otherwise() {
    let shop = Shop::new("optoutns");
    let host = &shop.host;
    let pods = [pod("app", 4, None, ""), pod("served", 5, Some("true"), ""), pod("odd", 6, Some("no"), "")];
    host.write("pods.yaml", pods.concat()).unwrap();
    let [app, served, odd] = [4, 5, 6].map(|n| PodCgroup::make(host, n));
    let agent = host.agent(&[]).unwrap();
    let translated = || [&app, &served, &odd].map(|it| shop.translates(&it.container));
    assert_eq!(translated(), [true; 3]);
    let notices = agent.status().unwrap().notices;
    let [notice] = &notices[..] else { panic!("{notices:?}") };
    assert!(notice.contains("Pod shop/odd") && notice.contains("neither"), "{notice}");

    host.write("namespace.yaml", namespace("false")).unwrap();
    opted_out(&agent, 2, 2);
    assert_eq!(translated(), [false, true, false]);
    let (json, text) = shop.why("pod/shop/app");
    assert_eq!(json["client"]["optedOutBy"], json!("Namespace shop"), "{text}");
    host.write("namespace.yaml", namespace("true")).unwrap();
    opted_out(&agent, 0, 0);
    assert_eq!(translated(), [true; 3]);
    drop(agent);

    // An agent that starts knows before it translates anybody.
    host.balancing(&["clean"]).unwrap().succeeds();
    host.write("namespace.yaml", namespace("false")).unwrap();
    let _agent = host.agent(&[]).unwrap();
    assert_eq!(translated(), [false, true, false]);
}

#[test]
fn pods_that_can_not_be_left_alone_are_told_of() {
    let shop = Shop::new("optoutless");
    let host = &shop.host;
    let nameless = pod("nameless", 7, Some("false"), "").replace(&format!(", uid: {}", uid(7)), "");
    host.write("pods.yaml", [pod("nowhere", 8, Some("false"), ""), nameless].concat()).unwrap();
    let agent = host.agent(&[]).unwrap();
    let told = |words: &'static [&'static str]| {
        let wanted = move |text: &String| words.iter().all(|word| text.contains(word));
        agent.wait_status("what is wrong", |status| status.problems.iter().any(wanted)).unwrap();
    };
    told(&[
        "annotation balancing.elf.io/socket-lb): translated all the same",
        "shop/nowhere (no cgroup of cgroup2",
        "shop/nameless (no metadata.uid",
    ]);
    assert_eq!(host.balancing(&["status"]).unwrap().code, Some(1));
    let found = PodCgroup::make(host, 8);
    host.write("pods.yaml", pod("nowhere", 8, Some("false"), "")).unwrap();
    agent.wait_status("that all is well", |status| status.problems.is_empty()).unwrap();
    assert!(!shop.translates(&found.container));
}

/// The same from an API server.
#[test]
fn namespaces_and_pods_of_a_cluster_opt_out() {
    let world = World::new("optoutapi").unwrap();
    put(&world.cluster, &pod("app", 9, None, "")).unwrap();
    let agent = world.agent().unwrap();
    let app = PodCgroup::make(&world.host, 9);
    let answers =
        || world.host.namespace().run(|| app.container.run(|| TcpStream::connect("10.96.0.10:80").is_ok()));
    assert!(answers());
    put(&world.cluster, &namespace("false")).unwrap();
    opted_out(&agent, 1, 1);
    assert!(!answers(), "nothing is at the VIP itself");
    put(&world.cluster, &pod("app", 9, Some("true"), "")).unwrap();
    wait::until(PATIENCE, "its service", answers);
    put(&world.cluster, &pod("app", 9, Some("false"), "")).unwrap();
    opted_out(&agent, 1, 1);
    assert!(!answers());
}
