//! The agent as it is deployed: in a container as the chart's DaemonSet has it, with the rights and the configuration
//! that the chart gives it, and what is left when it is cleaned.

#![allow(clippy::unwrap_used)]

use std::{fs, net::IpAddr, os::unix::fs::PermissionsExt, path::Path, process::Command};

use apidouble::{Access, Cluster, Server, User};
use balancing_tests::{
    chart::{IMAGE, file, one, render},
    process::{
        Answer, Host, PATIENCE, cluster::put, container::Container, program, question::ask, traffic::Traffic,
        web,
    },
};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::{Cgroup, wait};

/// A cluster that gives its agents the rights of the chart, and no more.
fn cluster(host: &Host, objects: &[Value]) -> (Cluster, Server) {
    let cluster = Cluster::new();
    let rights = objects
        .iter()
        .filter(|object| ["ClusterRole", "ClusterRoleBinding"].iter().any(|kind| object["kind"] == *kind));
    cluster.put_all(rights.cloned()).unwrap();
    cluster.put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})).unwrap();
    cluster.accounts().allow_token("agent", User::service_account("kube-system", "balancing-agent"));
    let server = host.namespace().run(|| Server::tls(&cluster)).unwrap();
    server.set_access(Access::Rbac);
    (cluster, server)
}

#[test]
fn in_a_container_with_the_least_rights_it_serves_as_anywhere_and_is_cleaned() {
    let host = Host::new("deployed").unwrap();
    // The host's hierarchy, as the container sees it.
    let root = host::CgroupRoot::discover(None).unwrap();
    let mount = root.path().strip_prefix("/sys/fs/cgroup").unwrap();
    let served = Path::new("/host/sys/fs/cgroup").join(mount).join(host.cgroup().path().file_name().unwrap());
    let cgroup_root = format!("config.cgroupRoot={}", served.display());
    let objects = render(&[IMAGE, &cgroup_root, "config.auditInterval=1s"]).unwrap();

    let (cluster, server) = cluster(&host, &objects);
    put(&cluster, &web::manifest("a", 10, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    let pod = Cgroup::create().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let address = server.address().ip().to_string();
    let container = |objects| {
        let account = [
            ("token", "agent".to_owned()),
            ("ca.crt", cluster.ca().unwrap()),
            ("namespace", "kube-system".to_owned()),
        ];
        let directory = directory.path();
        let api_server = (address.as_str(), server.address().port());
        Container { host: &host, cgroup: &pod, objects, directory, account: &account, api_server }
            .command(&program())
            .unwrap()
    };
    let mut agent = host.start_command(&mut container(&objects)).unwrap();
    let status = agent.wait_ready().unwrap();
    assert_eq!((status.node.as_str(), status.problems), ("n1", vec![]), "{}", agent.log());
    assert_eq!(status.cgroup, served.display().to_string());
    // Its kubelet hears of it, and the cluster of its node.
    let node =
        |it: Option<Value>| it.unwrap()["metadata"]["annotations"]["balancing.elf.io/nodeId"].is_string();
    wait::until(PATIENCE, "annotations", || node(cluster.get("nodes", None, "n1")));
    let spec = &one(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0];
    for probe in ["livenessProbe", "readinessProbe"] {
        let probe = &spec[probe]["httpGet"];
        let port = spec["ports"].as_array().unwrap().iter().find(|port| port["name"] == probe["port"]);
        let port = port.unwrap()["containerPort"].as_u64().unwrap().try_into().unwrap();
        let ip: IpAddr = probe["host"].as_str().unwrap().parse().unwrap();
        wait::until_equal(PATIENCE, &Some(200), || {
            ask(&host, (ip, port), probe["path"].as_str().unwrap()).ok().map(|reply| reply.status)
        });
    }

    // Everything works, closing sockets in other namespaces too.
    let traffic = Traffic::with(&host, &[], &[(10, &[1, 2, 3])]).unwrap();
    put(&cluster, &web::manifest("a", 10, &[3])).unwrap();
    wait::until(PATIENCE, "sockets to be closed", || agent.status().unwrap().sockets_destroyed > 0);
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());

    // What `kubectl exec` runs shares all that with the agent.
    let inside = |arguments: &[&str]| {
        let pid = agent.pid().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--mount", "--cgroup", "--root", "--wd", "/balancing"]);
        Answer::of(command.args(arguments)).unwrap()
    };
    inside(&["status"]).succeeds();
    let mut client = Command::new("sleep").arg("60").spawn().unwrap();
    host.cgroup().adopt(client.id()).unwrap();
    let why = inside(&["why", &client.id().to_string(), "10.96.0.10:80/tcp"]);
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(why.succeeds().contains(&format!("cgroup    {}", served.display())), "{why:?}");
    assert!(why.out.contains("translated: there is one backend"), "{why:?}");

    // The next version of the DaemonSet takes over; the one that cleans leaves nothing.
    agent.signal(Signal::TERM).unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(0));
    let mut agent = host.start_command(&mut container(&objects)).unwrap();
    agent.wait_ready().unwrap();
    traffic.end();
    agent.signal(Signal::TERM).unwrap();
    agent.wait().unwrap();
    assert!(web::ask(&host, 10).is_ok());
    let mut clean = host.start_command(&mut container(&render(&[IMAGE, "clean=true"]).unwrap())).unwrap();
    wait::until(PATIENCE, "nothing to be left", || !host.pins().exists());
    assert!(web::ask(&host, 10).is_err());
    // It stays until the DaemonSet goes.
    clean.signal(Signal::TERM).unwrap();
    assert_eq!(clean.wait().unwrap().code(), Some(0), "{}", clean.log());
}

/// Containers have `/proc/sys` for reading only, even on the host's network.
#[test]
fn r26_in_place_of_kube_proxy_it_can_set_sysctls() {
    let host = Host::new("sysctls").unwrap();
    let pod = Cgroup::create().unwrap();
    let directory = tempfile::tempdir().unwrap();
    // In place of the program, something that looks.
    let looks = directory.path().join("looks");
    let script =
        "#!/bin/sh\n! test -w /proc/sys/net/ipv4/ip_forward && test -w /host/proc/sys/net/ipv4/ip_forward";
    fs::write(&looks, script).unwrap();
    fs::set_permissions(&looks, fs::Permissions::from_mode(0o755)).unwrap();
    for (value, can) in [("false", false), ("true", true)] {
        let replaces = format!("config.replaceKubeProxy={value}");
        let objects = render(&[IMAGE, "feature.apiServerHost=10.0.0.1", &replaces]).unwrap();
        let container = Container {
            host: &host,
            cgroup: &pod,
            objects: &objects,
            directory: directory.path(),
            account: &[],
            api_server: ("10.0.0.1", 6443),
        };
        let answer = Answer::of(&mut container.command(&looks).unwrap()).unwrap();
        assert_eq!((answer.code, answer.err.as_str()), (Some(i32::from(!can)), ""), "{value}");
    }
}

/// The unit of systemd means what systemd takes it for, and gives the agent the same rights as the DaemonSet.
#[test]
fn the_unit_is_right_and_has_the_rights_of_the_daemonset() {
    let unit = fs::read_to_string(file("deploy/balancing.service")).unwrap();
    let objects = render(&[IMAGE]).unwrap();
    let context = &one(&objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    let added = context["capabilities"]["add"].as_array().unwrap();
    let names: Vec<String> = added.iter().map(|name| format!("CAP_{}", name.as_str().unwrap())).collect();
    assert!(unit.contains(&format!("\nCapabilityBoundingSet={}\n", names.join(" "))), "{names:?}");

    // Verified is that the program can be run, too.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("balancing.service");
    fs::write(&path, unit.replace("/usr/local/bin/balancing", &program().display().to_string())).unwrap();
    let systemd = |arguments: &[&str]| {
        let answer = Answer::of(Command::new("systemd-analyze").args(arguments).arg(&path)).unwrap();
        assert!(answer.code == Some(0) && answer.err.is_empty(), "{answer:?}");
    };
    systemd(&["verify"]);
    // Exposure in tenths: nothing is open that need not be.
    systemd(&["security", "--offline=true", "--threshold=50"]);
}
