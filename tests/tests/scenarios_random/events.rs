//! What happens in a scenario, at random: services, slices, nodes and ServiceCIDRs come and go, the client becomes another
//! one, this node gets other addresses.

use std::net::IpAddr;

use balancing_tests::{random::Random, scenario::Client};
use model::NodePortAddresses;
use testkit::object::{node, service_cidr};

use super::{
    known::{Known, SERVICES, ip},
    services::random_slice,
};

/// One thing that happens.
pub(super) enum Event {
    Apply(String),
    Delete(String),
    Client(Client),
    /// Which addresses serve node ports, and those of the interfaces.
    Own(Vec<NodePortAddresses>, Vec<IpAddr>),
}

impl Event {
    pub(super) fn print(&self) {
        match self {
            Self::Apply(manifest) => println!("---\n{manifest}"),
            Self::Delete(name) => println!("# delete {name}"),
            Self::Client(client) => println!("# {client:?}"),
            Self::Own(chosen, interfaces) => println!("# node ports {chosen:?} of {interfaces:?}"),
        }
    }
}

impl Known {
    /// What a scenario begins with.
    pub(super) fn random_start(&mut self, random: &mut Random) -> Vec<Event> {
        let slices = (0..SERVICES).flat_map(|n| [(n, 0), (n, 1), (n, 2), (n, 3)]);
        let mut events: Vec<Event> =
            slices.map(|(n, which)| Event::Apply(random_slice(random, n, which))).collect();
        events.extend((0..SERVICES).map(|n| Event::Apply(self.random_service(random, n))));
        events.push(self.random_client(random));
        events.push(self.random_own(random));
        events.extend((0..4).map(|_| self.random_node(random)));
        events.extend((0..2).map(|_| self.random_cidr(random)));
        events
    }

    /// What happens next.
    pub(super) fn random_event(&mut self, random: &mut Random) -> Event {
        let n = random.below(SERVICES);
        match random.below(16) {
            0 => {
                self.services.remove(&n);
                Event::Delete(format!("Service default/s{n}"))
            }
            1 => Event::Delete(format!("EndpointSlice default/s{n}-{}", random.below(4))),
            2 | 3 => self.random_node(random),
            4 => self.random_cidr(random),
            5 | 6 => self.random_client(random),
            7 => self.random_own(random),
            8..=11 => Event::Apply(self.random_service(random, n)),
            _ => {
                let which = random.below(4);
                Event::Apply(random_slice(random, n, which))
            }
        }
    }

    fn random_node(&mut self, random: &mut Random) -> Event {
        let name = random.one_of(&["n1", "n1", "n2", "n3"]);
        if random.one_in(6) {
            self.nodes.remove(name);
            return Event::Delete(format!("Node {name}"));
        }
        let mut text = node(name);
        if let zone @ 1.. = random.below(3) {
            text = text.zone(["a", "b"][zone as usize - 1]);
        }
        let mut known = model::Node { name: name.into(), ..model::Node::default() };
        // Sometimes it has what is another's.
        let number = if random.one_in(10) { "1" } else { &name[1..] };
        for (prefix, is_internal) in
            [("192.168.7.", true), ("fd00:7::", true), ("203.0.113.", false), ("2001:db8:7::", false)]
        {
            if random.one_in(3) {
                continue;
            }
            let ip = ip(&format!("{prefix}{number}"));
            if is_internal {
                known.internal_ips.push(ip);
                text = text.internal_ip(ip);
            } else {
                known.external_ips.push(ip);
                text = text.external_ip(ip);
            }
        }
        self.nodes.insert(name, known);
        Event::Apply(text.to_string())
    }

    fn random_cidr(&mut self, random: &mut Random) -> Event {
        let name = random.one_of(&["kubernetes", "more"]);
        if random.one_in(3) {
            self.cidrs.remove(name);
            return Event::Delete(format!("ServiceCIDR {name}"));
        }
        let cidrs: &[&str] = random.one_of::<&[&str]>(&[
            &["10.96.0.0/16", "fd00:96::/112"],
            &["10.96.0.0/24"],
            &["fd00:96::/108"],
            &["10.97.0.0/16", "fd00:97::/112"],
        ]);
        self.cidrs.insert(name, cidrs);
        Event::Apply(service_cidr(name, cidrs).to_string())
    }

    fn random_client(&mut self, random: &mut Random) -> Event {
        let mut client =
            Client { host: random.one_in(2), excluded: random.one_in(20), addresses: Vec::new() };
        for pool in [["10.1.9.1", "10.1.8.7", "10.1.8.8"], ["fd00:1:9::1", "fd00:1:8::7", "fd00:1:8::8"]] {
            if !random.one_in(4) {
                client.addresses.push(ip(random.one_of(&pool)));
            }
        }
        self.client = client.clone();
        Event::Client(client)
    }

    fn random_own(&mut self, random: &mut Random) -> Event {
        let chosen: &[&str] = random.one_of::<&[&str]>(&[
            &["primary"],
            &["primary", "localhost"],
            &["localhost"],
            &["all"],
            &["10.9.0.0/16", "fd00:9::/64"],
        ]);
        self.node_ports = chosen.iter().map(|text| text.parse().unwrap()).collect();
        let interfaces = ["192.168.7.1", "10.9.0.1", "fd00:7::1", "fd00:9::1", "127.0.0.1", "::1"];
        self.interfaces = interfaces.into_iter().filter(|_| !random.one_in(3)).map(ip).collect();
        Event::Own(self.node_ports.clone(), self.interfaces.clone())
    }
}
