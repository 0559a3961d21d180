//! Random services and their slices, as manifests.

use balancing_tests::random::Random;
use testkit::object::{endpoint, service, slice};

use super::known::{Known, Said, ip, vip};

impl Known {
    /// A service in place of that with the same number.
    pub(super) fn random_service(&mut self, random: &mut Random, n: u64) -> String {
        let mut text = service(&format!("s{n}"));
        let families = random.one_of(&[[true, false], [false, true], [true, true]]);
        for is_v6 in [false, true].into_iter().filter(|is_v6| families[usize::from(*is_v6)]) {
            text = text.cluster_ip(vip(n, is_v6));
        }
        text = match families {
            [true, true] => {
                text.field("ipFamilyPolicy", "PreferDualStack").field("ipFamilies", "[IPv4, IPv6]")
            }
            [true, false] => text.field("ipFamilies", "[IPv4]"),
            _ => text.field("ipFamilies", "[IPv6]"),
        };
        let is_internal_local = random.one_in(3);
        if is_internal_local {
            text = text.field("internalTrafficPolicy", "Local");
        }
        let kind = random.one_of(&["ClusterIP", "NodePort", "NodePort", "LoadBalancer", "LoadBalancer"]);
        text = text.field("type", kind);
        let is_external_local = kind != "ClusterIP" && random.one_in(2);
        if is_external_local {
            text = text.field("externalTrafficPolicy", "Local");
        }
        let first = 30_000 + 2 * n as u16;
        let node_ports = match kind {
            "ClusterIP" => [0, 0],
            "LoadBalancer" if random.one_in(3) => [0, 0],
            _ if random.one_in(2) => [first, first],
            _ => [first, first + 1],
        };
        let (mut external, mut balanced, mut proxied) = (Vec::new(), Vec::new(), None);
        let mut ranges: &[&str] = &[];
        if random.one_in(2) {
            for _ in 0..1 + random.below(2) {
                // Shared ones, one of a ServiceCIDR, one that is a cluster IP, one that is a load balancer's.
                let pool = ["192.0.2.1", "192.0.2.2", "2001:db8:1::1", "2001:db8:1::2", "10.96.0.77"];
                let rare = ["10.96.0.2", "fd00:96::1", "198.51.100.1", "2001:db8::1"];
                external.push(ip(if random.one_in(5) { random.one_of(&rare) } else { random.one_of(&pool) }));
            }
        }
        if kind == "LoadBalancer" {
            for prefix in ["198.51.100.", "2001:db8::"] {
                if !random.one_in(3) {
                    // Sometimes another's.
                    let n = if random.one_in(6) { 1 } else { n };
                    balanced.push(ip(&format!("{prefix}{n}")));
                }
            }
            proxied = random.one_in(4).then(|| ip("198.51.100.9"));
            ranges = random.one_of::<&[&str]>(&[
                &[],
                &["10.1.9.0/24", "fd00:1:9::/48"],
                &[" 10.1.8.7/32 ", "172.16.0.0/12"],
                &["10.1.9.0/24", "0.0.0.0/0", "fd00:1:8::7/128"],
                &["fd00:1:9::/48"],
            ]);
        }
        external.retain(|ip| !balanced.contains(ip) && *ip != vip(n, ip.is_ipv6()));
        external.sort_unstable();
        external.dedup();
        text = external.iter().fold(text, |text, ip| text.external_ip(ip));
        text = balanced.iter().fold(text, |text, ip| text.load_balancer_ip(ip));
        text = proxied.iter().fold(text, |text, ip| text.proxied_ip(ip));
        text = ranges.iter().fold(text, |text, range| text.source_range(range));
        let has_affinity = random.one_in(3);
        if has_affinity {
            text = text.affinity(if random.one_in(2) { 60 } else { 10_800 });
        }
        let is_labelled = if self.adopts { !random.one_in(4) } else { random.one_in(8) };
        if is_labelled {
            text = text.label("service.kubernetes.io/service-proxy-name", "other");
        }
        let age = random.below(4);
        if age < 3 {
            text = text.created(&format!("2026-0{}-01T00:00:00Z", age + 1));
        }
        let ports = if random.one_in(5) { 1 } else { 2 };
        for (words, number) in ["t:80", "u:53/UDP"].into_iter().zip(node_ports).take(ports) {
            let number = number.to_string();
            let fields = [("nodePort", number.as_str())];
            text = text.port_with(words, if number == "0" { &[] } else { &fields });
        }
        let is_ours = is_labelled == self.adopts;
        let said = Said {
            is_ours,
            ports,
            node_ports,
            families,
            is_external_local,
            is_internal_local,
            external,
            balanced,
            ranges,
            has_affinity,
            age,
        };
        self.services.insert(n, said);
        text.to_string()
    }
}

/// Slice `which` of a service: every other one is of IPv6.
pub(super) fn random_slice(random: &mut Random, n: u64, which: u64) -> String {
    let ipv6 = which % 2 == 1;
    let mut slice = slice(&format!("s{n}-{which}"), &format!("s{n}"));
    if ipv6 {
        slice = slice.ipv6();
    }
    slice = slice.port("t:8080");
    if !random.one_in(4) {
        slice = slice.port("u:5353/UDP");
    }
    for _ in 0..random.below(5) {
        let host = 1 + random.below(6);
        let mut it = endpoint(if ipv6 { format!("fd00:1::{host}") } else { format!("10.1.0.{host}") });
        if random.one_in(3) {
            it = match random.below(3) {
                0 => it.ready(false),
                1 => it.ready(false).serving(true).terminating(true),
                _ => it.ready(false).serving(false).terminating(true),
            };
        }
        if random.one_in(2) {
            it = it.node(["n1", "n2"][random.below(2) as usize]);
        }
        if !random.one_in(3) {
            it = it.for_zone(["a", "b"][random.below(2) as usize]);
        }
        if random.one_in(4) {
            it = it.for_node(["n1", "n2"][random.below(2) as usize]);
        }
        slice = slice.endpoint(it);
    }
    slice.to_string()
}
