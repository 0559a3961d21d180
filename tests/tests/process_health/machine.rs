//! A node, and who asks on it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use apidouble::{Login, Server};
use balancing_tests::process::{
    Agent, Host, PATIENCE, program,
    question::{Reply, ask},
};
use testkit::wait;

pub(crate) const V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 200));
pub(crate) const V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x200));
pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(crate) const HERE: &[&str] = &["--replace-kube-proxy"];

/// The node, with further lines of its manifest.
pub(crate) fn node(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: n1\n{more}status:\n  addresses:\n  \
         - {{type: InternalIP, address: {V4}}}\n  - {{type: InternalIP, address: {V6:?}}}\n"
    )
}

/// A machine with its Node.
pub(crate) fn machine(name: &str) -> Host {
    let host = Host::new(name).unwrap();
    host.write("node.yaml", node("")).unwrap();
    host
}

pub(crate) fn get(host: &Host, port: u16, path: &str) -> Reply {
    ask(host, (LOOPBACK, port), path).unwrap()
}

#[track_caller]
pub(crate) fn status_becomes(host: &Host, port: u16, path: &str, status: u16) {
    wait::until_equal(PATIENCE, &Some(status), || ask(host, (LOOPBACK, port), path).ok().map(|it| it.status));
}

pub(crate) fn is_refused(host: &Host, ip: IpAddr, port: u16) -> bool {
    ask(host, (ip, port), "/healthz").is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// An agent on the machine that follows the cluster of a server.
pub(crate) fn following(host: &Host, server: &Server, arguments: &[&str]) -> Agent {
    let kubeconfig = host.kubeconfig(server, &Login::Anonymous).unwrap();
    let mut command = host.agent_of("--kubeconfig", &kubeconfig, &program(), arguments);
    host.namespace().contain(&mut command).unwrap();
    host.start_command(&mut command).unwrap()
}
