//! Rules of the shape that kube-proxy makes, for services of one protocol with ten endpoints each.
//!
//! Only what a packet of a local client passes that leaves the node: OUTPUT and POSTROUTING. All endpoints of a service are
//! one server: a chain each, as if they were ten.

use std::fmt::Write;

use model::Protocol;

use crate::tables::{ENDPOINTS, PORT, TARGET, endpoint4, vip4};

/// Where clients' packets to VIPs come from. Pods: kube-proxy leaves their source address as it is.
pub(crate) const CLIENT: &str = "10.1.1.1";
/// Addresses of pods, to kube-proxy's knowledge.
const PODS: &str = "10.1.0.0/16";
/// Addresses of services.
pub(crate) const VIPS: &str = "10.96.0.0/12";

/// Where each endpoint listens, to be put behind a `dnat to`.
fn backend() -> String {
    format!("{}:{TARGET}", endpoint4(0))
}

fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// For `nft`: connection tracking is on as soon as a rule asks for its state.
pub(crate) fn conntrack() -> String {
    "table ip tracked { chain output { type filter hook output priority 0; ct state invalid drop; }; }\n"
        .into()
}

/// For `nft`: what all services share.
pub(crate) fn nftables() -> String {
    let head = "
        add table ip kube-proxy
        add map ip kube-proxy service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
        add map ip kube-proxy no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }
        add map ip kube-proxy firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
        add set ip kube-proxy cluster-ips { type ipv4_addr; }
        add chain ip kube-proxy mark-for-masquerade
        add rule ip kube-proxy mark-for-masquerade mark set mark or 0x4000
        add chain ip kube-proxy masquerading
        add rule ip kube-proxy masquerading mark and 0x4000 == 0 return
        add rule ip kube-proxy masquerading mark set mark xor 0x4000
        add rule ip kube-proxy masquerading masquerade fully-random
        add chain ip kube-proxy services
        add rule ip kube-proxy services ip daddr . meta l4proto . th dport vmap @service-ips
        add chain ip kube-proxy service-endpoints-check
        add rule ip kube-proxy service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services
        add chain ip kube-proxy firewall-check
        add rule ip kube-proxy firewall-check ip daddr . meta l4proto . th dport vmap @firewall-ips
        add chain ip kube-proxy cluster-ips-check
        add rule ip kube-proxy cluster-ips-check ip daddr @cluster-ips reject
        add chain ip kube-proxy nat-output { type nat hook output priority -100; }
        add rule ip kube-proxy nat-output jump services
        add chain ip kube-proxy nat-postrouting { type nat hook postrouting priority 100; }
        add rule ip kube-proxy nat-postrouting jump masquerading
        add chain ip kube-proxy filter-output { type filter hook output priority 0; }
        add rule ip kube-proxy filter-output ct state new jump service-endpoints-check
        add rule ip kube-proxy filter-output ct state new jump firewall-check
        add chain ip kube-proxy filter-output-post-dnat { type filter hook output priority -90; }
        add rule ip kube-proxy filter-output-post-dnat ct state new jump cluster-ips-check
";
    head.into()
}

/// For `nft`, after [`nftables`]: these services.
pub(crate) fn nftables_services(protocol: Protocol, services: std::ops::Range<u32>) -> String {
    let (mut text, protocol, backend) = (String::new(), name(protocol), backend());
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        // Into memory: it cannot fail.
        let _ = writeln!(text, "{arguments}");
    };
    for service in services {
        let vip = vip4(service);
        let endpoint = |endpoint: u32| format!("endpoint-{service}-{endpoint}");
        for endpoint in (0..ENDPOINTS).map(endpoint) {
            line(format_args!("add chain ip kube-proxy {endpoint}"));
            let source = endpoint4(0);
            line(format_args!(
                "add rule ip kube-proxy {endpoint} ip saddr {source} jump mark-for-masquerade"
            ));
            line(format_args!("add rule ip kube-proxy {endpoint} meta l4proto {protocol} dnat to {backend}"));
        }
        let chain = format!("service-{service}");
        line(format_args!("add chain ip kube-proxy {chain}"));
        line(format_args!(
            "add rule ip kube-proxy {chain} ip daddr {vip} {protocol} dport {PORT} ip saddr != {PODS} jump mark-for-masquerade"
        ));
        let verdicts: Vec<String> =
            (0..ENDPOINTS).map(|it| format!("{it} : goto {}", endpoint(it))).collect();
        let verdicts = verdicts.join(", ");
        line(format_args!(
            "add rule ip kube-proxy {chain} numgen random mod {ENDPOINTS} vmap {{ {verdicts} }}"
        ));
        line(format_args!("add element ip kube-proxy cluster-ips {{ {vip} }}"));
        line(format_args!(
            "add element ip kube-proxy service-ips {{ {vip} . {protocol} . {PORT} : goto {chain} }}"
        ));
    }
    text
}

/// For `iptables-restore`: everything.
pub(crate) fn iptables(protocol: Protocol, services: u32) -> String {
    let (mut text, protocol, backend, source) = (String::new(), name(protocol), backend(), endpoint4(0));
    let mut line = |arguments: std::fmt::Arguments<'_>| {
        // As above.
        let _ = writeln!(text, "{arguments}");
    };
    // kube-proxy hashes names into 16 characters.
    let service_chain = |service: u32| format!("KUBE-SVC-{service:016}");
    let endpoint_chain =
        |service: u32, endpoint: u32| format!("KUBE-SEP-{:016}", service * ENDPOINTS + endpoint);
    line(format_args!(
        "*filter
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes load balancer firewall\" -j KUBE-PROXY-FIREWALL
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]"
    ));
    for service in 0..services {
        line(format_args!(":{} - [0:0]", service_chain(service)));
        for endpoint in 0..ENDPOINTS {
            line(format_args!(":{} - [0:0]", endpoint_chain(service, endpoint)));
        }
    }
    line(format_args!(
        "-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully"
    ));
    for service in 0..services {
        let (vip, chain) = (vip4(service), service_chain(service));
        let comment = format!("-m comment --comment \"bench/service-{service}:{protocol} cluster IP\"");
        let of_vip = format!("-d {vip}/32 -p {protocol} {comment} -m {protocol} --dport {PORT}");
        line(format_args!("-A KUBE-SERVICES {of_vip} -j {chain}"));
        line(format_args!("-A {chain} ! -s {PODS} {of_vip} -j KUBE-MARK-MASQ"));
        for endpoint in 0..ENDPOINTS {
            let left = ENDPOINTS - endpoint;
            let chance = match left {
                1 => String::new(),
                _ => {
                    format!("-m statistic --mode random --probability {:.11} ", 1.0 / f64::from(left))
                }
            };
            let target = endpoint_chain(service, endpoint);
            line(format_args!("-A {chain} {comment} {chance}-j {target}"));
            line(format_args!("-A {target} -s {source}/32 {comment} -j KUBE-MARK-MASQ"));
            line(format_args!(
                "-A {target} -p {protocol} {comment} -m {protocol} -j DNAT --to-destination {backend}"
            ));
        }
    }
    line(format_args!(
        "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT"
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_chain_and_each_endpoint_one() {
        let text = nftables_services(Protocol::Tcp, 5..7);
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!(count("add chain ip kube-proxy service-"), 2);
        assert_eq!(count("dnat to 10.1.0.1:8080"), 20);
        assert!(
            text.contains("add element ip kube-proxy service-ips { 10.96.0.6 . tcp . 80 : goto service-5 }")
        );
    }

    #[test]
    fn iptables_go_through_one_rule_a_service() {
        let text = iptables(Protocol::Udp, 3);
        let rules: Vec<&str> = text.lines().filter(|line| line.starts_with("-A KUBE-SERVICES")).collect();
        assert_eq!(rules.len(), 4);
        assert!(rules[2].starts_with("-A KUBE-SERVICES -d 10.96.0.3/32 -p udp"));
        assert!(rules[3].ends_with("-j KUBE-NODEPORTS"));
        // Each endpoint has the same chance: 1/10, then 1/9 of what is left, and all of the rest.
        let chances = text.lines().filter(|line| line.contains("--probability"));
        assert_eq!(chances.count(), 3 * 9);
        assert_eq!(text.matches("-j DNAT").count(), 30);
    }
}
