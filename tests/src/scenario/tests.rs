//! A runner that can't fail proves nothing.

use super::*;
use crate::{feed::Direct, world::MemoryWorld};

const START: &str = r#"
name: t
manifests: |
  apiVersion: v1
  kind: Service
  metadata: {name: dns}
  spec: {clusterIP: 10.96.0.53, ports: [{port: 53, protocol: UDP}]}
  ---
  apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: dns-1, labels: {kubernetes.io/service-name: dns}}
  addressType: IPv4
  ports: [{port: 5353, protocol: UDP}]
  endpoints: [{addresses: [10.1.0.1]}, {addresses: [10.1.0.2]}]
steps:
"#;

fn played(steps: &str) -> Result<()> {
    let scenario = Scenario::parse(&format!("{START}{steps}"))?;
    play(&mut MemoryWorld::new(scenario.view(), 16, 1)?, &mut Direct, &scenario, Form::Plain)
}

fn failure(steps: &str) -> String {
    format!("{:#}", played(steps).expect_err(steps))
}

#[test]
fn what_goes_otherwise_fails() {
    let to = r#"to: "10.96.0.53:53", protocol: UDP"#;
    let both = r#"{backends: ["10.1.0.1:5353", "10.1.0.2:5353"]}"#;
    played(&format!("- connect: {{{to}, expect: {both}}}")).unwrap();
    for (expect, why) in [
        ("refused", "Answered"),
        ("passed", "Answered"),
        (r#"{backends: ["10.1.0.1:5353"]}"#, "reached 10.1.0.2:5353"),
        (r#"{backends: ["10.1.0.1:5353", "10.1.0.2:5353", "10.1.0.3:5353"]}"#, "never reached: {10.1.0.3"),
    ] {
        let failure = failure(&format!("- connect: {{{to}, expect: {expect}}}"));
        assert!(failure.contains(why), "{failure}");
    }
    let a = r#"- udp: {socket: a, connect: "10.96.0.53:53", times: 60"#;
    played(&format!("{a}, expect: {both}, all: true}}")).unwrap();
    assert!(failure(&format!("{a}, expect: {both}, same: true}}")).contains("the time before"));
    let shown = failure(&format!(r#"{a}, expect: {both}, shown: "10.96.0.53:54"}}"#));
    assert!(shown.contains("answered as 10.96.0.53:53"), "{shown}");
    let apart = r#"apart_from: ["10.96.0.53:53"]"#;
    assert!(failure(&format!("{a}, expect: {both}, {apart}}}")).contains("as by"));
}

#[test]
fn what_is_not_known_is_an_error() {
    for (steps, why) in [
        ("- connet: {}", "connet"),
        (r#"- connect: {to: "10.96.0.53:53", protocol: UDP, expect: refused, time: 3}"#, "time"),
        (r#"- connect: {to: "10.96.0.53:53", protocol: SCTP, expect: refused}"#, "SCTP"),
        (r#"- connect: {to: "10.96.0.53:53", protocol: UDP, expect: maybe}"#, "maybe"),
        ("- udp: {socket: a, hang_up: true, ask: true}", "one of"),
        ("- udp: {socket: a, close: true, expect: passed}", "belongs to"),
        (r#"- udp: {socket: a, send: "10.96.0.53:53", expect: refused, same: true}"#, "belong to"),
        ("- udp: {socket: a, hang_up: true}", "not open"),
        ("- delete: [Service]", "want KIND"),
        ("- delete: [Servive default/a]", "no such kind"),
        ("- apply: 'kind: Service'", "manifests"),
    ] {
        let failure = failure(steps);
        assert!(failure.contains(why), "{steps}: {failure}");
    }
}
