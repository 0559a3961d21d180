//! How an agent comes to an API server: every way of saying who it is, proxies, and what changes while it runs.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use apidouble::{Access, Ending, Login, Server, User};
use balancing_tests::process::{PATIENCE, cluster::World, program, within::in_own_mounts};
use serde_json::{Value, json};
use testkit::{
    Namespace,
    netns::{End, veth},
    wait,
};

/// A world whose server knows who shows `token`, and nobody else.
fn world(name: &str, token: &str) -> World {
    let world = World::new(name).unwrap();
    world.cluster.accounts().allow_token(token, User::administrator());
    world.server.set_access(Access::Login);
    world
}

/// A file beside the kubeconfig.
fn file(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.kubeconfig.with_file_name(name);
    fs::write(&path, text).unwrap();
    path
}

/// Changes the kubeconfig.
fn change(world: &World, change: impl FnOnce(&mut Value)) {
    let mut config = serde_json::from_str(&fs::read_to_string(&world.kubeconfig).unwrap()).unwrap();
    change(&mut config);
    fs::write(&world.kubeconfig, config.to_string()).unwrap();
}

/// From now on another token is the right one, and who follows has to begin again.
fn replace_token(world: &World, old: &str, new: &str) {
    world.cluster.accounts().revoke_token(old);
    world.cluster.accounts().allow_token(new, User::administrator());
    world.server.end_watches(Ending::Reset);
}

/// Follows what changes with a token, and with the next one.
fn follows_over_a_change_of_tokens(world: &World, arguments: &[&str], change: impl FnOnce()) {
    let agent = world.host.following(&world.kubeconfig, arguments).unwrap();
    let traffic = world.traffic().unwrap();
    world.set("c", 12, &[3]).unwrap();
    wait::until(PATIENCE, "a new service", || world.answers(12, 3));
    change();
    world.set("c", 12, &[1]).unwrap();
    wait::until(PATIENCE, "a change after it", || world.answers(12, 1));
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    traffic.end();
}

#[test]
fn a_token_file_that_changes_is_read_again() {
    let world = world("access-file", "one");
    let token = file(&world, "token", "one");
    world.host.kubeconfig(&world.server, &Login::TokenFile(token.display().to_string())).unwrap();
    follows_over_a_change_of_tokens(&world, &[], || {
        fs::write(&token, "two").unwrap();
        replace_token(&world, "one", "two");
    });
}

#[test]
fn a_kubeconfig_that_changes_is_read_again() {
    let world = world("access-config", "one");
    world.host.kubeconfig(&world.server, &Login::Token("one".into())).unwrap();
    follows_over_a_change_of_tokens(&world, &[], || {
        world.host.kubeconfig(&world.server, &Login::Token("two".into())).unwrap();
        replace_token(&world, "one", "two");
    });
}

#[test]
fn a_certificate_says_who_it_is() {
    let world = world("access-certificate", "nobody");
    let identity = world.cluster.issue(User::administrator()).unwrap();
    world.host.kubeconfig(&world.server, &Login::Certificate(identity)).unwrap();
    follows_over_a_change_of_tokens(&world, &[], || {});
}

/// A plugin that shows the token in a file, and notes that it ran.
fn plugin(world: &World, token: &Path, runs: &Path) -> PathBuf {
    let script = format!(
        "#!/bin/sh\necho run >> {}\ntoken=$(cat {}) || exit 1\n\
         echo '{{\"apiVersion\": \"client.authentication.k8s.io/v1\", \"kind\": \"ExecCredential\", \
         \"status\": {{\"token\": \"'$token'\"}}}}'\n",
        runs.display(),
        token.display()
    );
    let path = file(world, "plugin", &script);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    change(world, |config| {
        config["users"][0]["user"] = json!({"exec": {
            "apiVersion": "client.authentication.k8s.io/v1", "command": path, "interactiveMode": "Never"}});
    });
    path
}

#[test]
fn a_plugin_is_asked_again_when_its_token_is_no_longer_known() {
    let world = world("access-plugin", "one");
    let (token, runs) = (file(&world, "token", "one"), file(&world, "runs", ""));
    plugin(&world, &token, &runs);
    follows_over_a_change_of_tokens(&world, &[], || {
        fs::write(&token, "two").unwrap();
        replace_token(&world, "one", "two");
    });
    let runs = fs::read_to_string(&runs).unwrap().lines().count();
    assert!((2..10).contains(&runs), "it ran {runs} times");
}

#[test]
fn r27_a_plugin_that_fails_or_hangs_keeps_nobody_waiting() {
    let world = world("access-hangs", "one");
    let (token, runs) = (file(&world, "token", "one"), file(&world, "runs", ""));
    let path = plugin(&world, &token, &runs);
    let agent = world.agent().unwrap();
    let traffic = world.traffic().unwrap();
    fs::remove_file(&token).unwrap();
    replace_token(&world, "one", "two");
    let named = |problem: &String| problem.contains(path.to_str().unwrap());
    agent.wait_status("a plugin that fails", |status| status.problems.iter().any(named)).unwrap();
    // It does not come back any more.
    let working = fs::read_to_string(&path).unwrap();
    let pid = path.with_file_name("pid");
    let aside = path.with_file_name("plugin.next");
    fs::write(
        &aside,
        format!("#!/bin/sh\necho $$ > {}.part && mv {0}.part {0}\nexec sleep 600\n", pid.display()),
    )
    .unwrap();
    fs::set_permissions(&aside, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::rename(&aside, &path).unwrap();
    wait::until(PATIENCE, "a plugin that hangs", || pid.exists());
    for _ in 0..5 {
        let asked = Instant::now();
        agent.status().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        thread::sleep(Duration::from_millis(100));
    }
    traffic.has_not_failed("a plugin that hangs");
    fs::write(&token, "two").unwrap();
    fs::write(&aside, working).unwrap();
    fs::set_permissions(&aside, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::rename(&aside, &path).unwrap();
    let sleeping = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(sleeping).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    world.set("c", 12, &[3]).unwrap();
    wait::until(PATIENCE, "what came meanwhile", || world.answers(12, 3));
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    traffic.end();
}

/// In a pod: a service account where Kubernetes puts it, whose token is replaced.
#[test]
fn a_service_account_is_used_in_a_pod_and_its_token_read_again() {
    let world = world("access-pod", "one");
    let account = world.kubeconfig.with_file_name("account");
    fs::create_dir(&account).unwrap();
    fs::write(account.join("token"), "one").unwrap();
    fs::write(account.join("namespace"), "kube-system").unwrap();
    fs::write(account.join("ca.crt"), world.cluster.ca().unwrap()).unwrap();
    let place = "/run/secrets/kubernetes.io/serviceaccount";
    let mounts =
        format!("mount -t tmpfs none /run\nmkdir -p {place}\nmount --bind {} {place}", account.display());
    let mut command = world.host.command(&["agent", "--node-name", "n1"]);
    let address = world.server.address();
    command
        .arg("--cgroup-root")
        .arg(world.host.cgroup().path())
        .env("KUBERNETES_SERVICE_HOST", address.ip().to_string())
        .env("KUBERNETES_SERVICE_PORT", address.port().to_string());
    let mut agent = world.host.start_command(&mut in_own_mounts(&mounts, &command)).unwrap();
    agent.wait_ready().unwrap();
    assert!(world.answers(10, 1));
    fs::write(account.join("token"), "two").unwrap();
    replace_token(&world, "one", "two");
    world.set("c", 12, &[3]).unwrap();
    wait::until(PATIENCE, "a change after it", || world.answers(12, 3));
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
}

/// A proxy that connects to whatever it is asked for, and counts.
fn proxy() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connected = Arc::new(AtomicUsize::new(0));
    let count = connected.clone();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let count = count.clone();
            thread::spawn(move || -> std::io::Result<()> {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    client.read_exact(&mut byte)?;
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
                let mut server = TcpStream::connect(target)?;
                count.fetch_add(1, SeqCst);
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
                thread::spawn(move || std::io::copy(&mut from, &mut to));
                std::io::copy(&mut client, &mut server).map(drop)
            });
        }
    });
    (address, connected)
}

#[test]
fn a_proxy_of_the_kubeconfig_is_used() {
    let world = world("access-proxy", "one");
    let (address, connected) = proxy();
    world.host.kubeconfig(&world.server, &Login::Token("one".into())).unwrap();
    change(&world, |config| {
        config["clusters"][0]["cluster"]["proxy-url"] = json!(format!("http://{address}"))
    });
    follows_over_a_change_of_tokens(&world, &[], || {});
    assert!(connected.load(SeqCst) >= 1);
}

#[test]
fn a_proxy_of_the_environment_is_used_unless_it_is_not_for_this_server() {
    let world = world("access-environment", "one");
    let (address, connected) = proxy();
    world.host.kubeconfig(&world.server, &Login::Token("one".into())).unwrap();
    for (no_proxy, is_used) in [("127.0.0.1", false), ("10.0.0.0/8", true)] {
        let mut command = world.host.agent_of("--kubeconfig", &world.kubeconfig, &program(), &[]);
        command.env("HTTPS_PROXY", format!("http://{address}")).env("NO_PROXY", no_proxy);
        world.host.start_command(&mut command).unwrap().wait_ready().unwrap();
        assert_eq!(connected.load(SeqCst) >= 1, is_used);
    }
}

/// Nobody says that the server is gone: its machine has lost power.
#[test]
fn r27_a_server_that_vanishes_without_a_word_is_noticed_and_the_next_one_asked() {
    let world = World::new("access-vanishes").unwrap();
    let elsewhere = Namespace::create("access-elsewhere").unwrap();
    veth(
        End { namespace: world.host.namespace(), interface: "api0", addresses: &["10.250.0.1/24"] },
        End { namespace: &elsewhere, interface: "api1", addresses: &["10.250.0.2/24"] },
    )
    .unwrap();
    let address = SocketAddr::from(([10, 250, 0, 2], 6443));
    let first = elsewhere.run(|| Server::at(&world.cluster, address, true).unwrap());
    let second = world.host.run(|| Server::tls(&world.cluster).unwrap());
    let urls = [first.url(), second.url()];
    let servers = ["--api-server", &urls[0], "--api-server", &urls[1]];
    let mut command = world.host.agent_of("--kubeconfig", &world.kubeconfig, &program(), &servers);
    world.host.namespace().contain(&mut command).unwrap();
    let mut agent = world.host.start_command(&mut command).unwrap();
    agent.wait_ready().unwrap();
    assert_eq!((first.open_watches(), second.open_watches()), (8, 0), "{}", agent.log());
    let traffic = world.traffic().unwrap();
    elsewhere.ip("link set api1 down").unwrap();
    world.set("c", 12, &[3]).unwrap();
    let lost = Instant::now();
    wait::until(2 * PATIENCE, "the other server's word", || world.answers(12, 3));
    assert!(lost.elapsed() < Duration::from_secs(20), "{:?}", lost.elapsed());
    agent.wait_status("no problems", |status| status.problems.is_empty()).unwrap();
    traffic.end();
}
