//! The services of a soak: addresses, what may be said of one, and the manifest that says it.
//!
//! Each has a number. The first [`STEADY`] are there all the time, and so are the first [`STAYING`] of their
//! backends; all others come, go and change.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use testkit::{
    Family,
    object::{documents, endpoint, node, service, slice},
};

use crate::process::Dice;

/// Services that must never fail.
pub const STEADY: usize = 7;
/// All services.
pub const SERVICES: usize = STEADY + 8;
/// Backends that a service may have.
pub const PLACES: usize = 5;
/// Backends of a steady service that stay.
pub const STAYING: usize = 2;
/// The one whose TCP connections last.
pub const LASTING: usize = 0;
/// How long clients keep their backend, in seconds, where they do.
pub const AFFINITY: u32 = 8;
/// Port of all backends.
const PORT: u16 = 8080;
/// Addresses by which the clients are known.
pub const CLIENTS: [&str; 2] = ["10.1.255.254", "fd00:1::ffff"];

/// Type of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `ClusterIP`.
    ClusterIp,
    /// `NodePort`.
    NodePort,
    /// `LoadBalancer`.
    LoadBalancer,
}

/// Who may use the addresses of its load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// Everybody.
    None,
    /// Our clients.
    Ours,
    /// Others.
    Others,
}

/// One backend in the manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Not there.
    Absent,
    /// Ready.
    Ready,
    /// Neither ready nor serving.
    NotReady,
    /// Terminating and still serving: used while none is ready.
    Serving,
}

impl Condition {
    /// May it answer?
    pub fn may_answer(self) -> bool {
        matches!(self, Self::Ready | Self::Serving)
    }

    fn any(dice: &mut Dice) -> Self {
        [Self::Absent, Self::Ready, Self::Ready, Self::NotReady, Self::Serving][dice.below(5)]
    }
}

/// By which of its addresses a service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Cluster IP.
    Cluster,
    /// External IP.
    External,
    /// Address of the load balancer.
    LoadBalancer,
    /// Node port of this node.
    OwnNode,
    /// Node port of another node.
    OtherNode,
}

impl Via {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::Cluster, Self::External, Self::LoadBalancer, Self::OwnNode, Self::OtherNode];
}

/// What the manifests say of one service.
#[derive(Clone, Debug)]
pub struct Spec {
    /// It is there.
    pub exists: bool,
    /// Its type.
    pub shape: Shape,
    /// It has external IPs.
    pub external: bool,
    /// Clients keep their backend.
    pub affinity: bool,
    /// Source ranges.
    pub ranges: Ranges,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// Its backends.
    pub places: [Condition; PLACES],
}

impl Spec {
    /// What it is in the beginning.
    pub fn first(number: usize) -> Self {
        let mut places = [Condition::Absent; PLACES];
        places[..STAYING].fill(Condition::Ready);
        Self {
            exists: true,
            shape: match number {
                2 => Shape::NodePort,
                3 | 5 => Shape::LoadBalancer,
                _ => Shape::ClusterIp,
            },
            external: number == 4,
            affinity: number == 6,
            ranges: if number == 5 { Ranges::Ours } else { Ranges::None },
            internal_local: false,
            external_local: false,
            places,
        }
    }

    /// Something else: all of it, except the backends.
    pub fn reshape(&mut self, dice: &mut Dice) {
        self.exists = true;
        self.shape = [Shape::ClusterIp, Shape::NodePort, Shape::LoadBalancer][dice.below(3)];
        self.external = dice.below(3) == 0;
        self.affinity = dice.below(3) == 0;
        self.ranges = [Ranges::None, Ranges::Ours, Ranges::Others][dice.below(3)];
        self.internal_local = dice.below(5) == 0;
        self.external_local = self.shape != Shape::ClusterIp && dice.below(4) == 0;
    }

    /// Another condition of one backend, or of several.
    pub fn redo_backends(&mut self, number: usize, dice: &mut Dice) {
        let first = if number < STEADY { STAYING } else { 0 };
        match dice.below(8) {
            0 => self.places[first..].iter_mut().for_each(|place| *place = Condition::any(dice)),
            1 => self.places[first..].fill(Condition::Absent),
            _ => self.places[first + dice.below(PLACES - first)] = Condition::any(dice),
        }
    }

    /// The ways by which it can be asked.
    pub fn ways(&self) -> Vec<Via> {
        let mut ways = vec![Via::Cluster];
        if self.external {
            ways.push(Via::External);
        }
        if self.shape == Shape::LoadBalancer {
            ways.push(Via::LoadBalancer);
        }
        if self.shape != Shape::ClusterIp {
            ways.extend([Via::OwnNode, Via::OtherNode]);
        }
        ways
    }

    /// The manifest.
    pub fn text(&self, number: usize) -> String {
        let name = format!("s{number}");
        let family = [Family::V4, Family::V6];
        let kind = match self.shape {
            Shape::ClusterIp => "ClusterIP",
            Shape::NodePort => "NodePort",
            Shape::LoadBalancer => "LoadBalancer",
        };
        let policy = |local: bool| if local { "Local" } else { "Cluster" };
        let mut object = service(&name)
            .field("type", kind)
            .field("ipFamilies", "[IPv4, IPv6]")
            .field("ipFamilyPolicy", "RequireDualStack")
            .field("internalTrafficPolicy", policy(self.internal_local));
        if self.shape != Shape::ClusterIp {
            object = object.field("externalTrafficPolicy", policy(self.external_local));
        }
        for family in family {
            object = object.cluster_ip(address(number, Via::Cluster, family).ip());
            if self.external {
                object = object.external_ip(address(number, Via::External, family).ip());
            }
            if self.shape == Shape::LoadBalancer {
                object = object.load_balancer_ip(address(number, Via::LoadBalancer, family).ip());
            }
        }
        if self.affinity {
            object = object.affinity(AFFINITY);
        }
        let ranges: &[String] = match self.ranges {
            _ if self.shape != Shape::LoadBalancer => &[],
            Ranges::None => &[],
            Ranges::Ours => &[format!("{}/32", CLIENTS[0]), format!("{}/128", CLIENTS[1])],
            Ranges::Others => &["203.0.113.0/24".to_owned(), "2001:db8:99::/64".to_owned()],
        };
        for range in ranges {
            object = object.source_range(range);
        }
        for words in ["stream:80/TCP", "datagram:80/UDP"] {
            let port = node_port(number).to_string();
            let fields = [("nodePort", port.as_str())];
            let fields = if self.shape == Shape::ClusterIp { &[][..] } else { &fields };
            object = object.port_with(words, fields);
        }
        let slices = family.map(|family| {
            let empty = slice(&format!("{name}-{family:?}").to_lowercase(), &name)
                .port(&format!("stream:{PORT}/TCP"))
                .port(&format!("datagram:{PORT}/UDP"));
            let empty = if family == Family::V6 { empty.ipv6() } else { empty };
            self.places.iter().enumerate().fold(empty, |slice, (place, condition)| {
                let it = endpoint(backend(number, place, family).ip()).node(if place % 2 == 0 {
                    "n2"
                } else {
                    "n1"
                });
                match condition {
                    Condition::Absent => slice,
                    Condition::Ready => slice.endpoint(it),
                    Condition::NotReady => slice.endpoint(it.ready(false).serving(false)),
                    Condition::Serving => slice.endpoint(it.ready(false).serving(true).terminating(true)),
                }
            })
        });
        documents(&[&object, &slices[0], &slices[1]])
    }
}

/// The nodes; a third one comes and goes.
pub fn nodes(third: bool) -> String {
    let of = |low: u8| {
        node(&format!("n{low}")).internal_ip(format!("192.168.7.{low}")).internal_ip(format!("fd00:7::{low}"))
    };
    if third { documents(&[&of(1), &of(2), &of(3)]) } else { documents(&[&of(1), &of(2)]) }
}

fn low(number: usize) -> u16 {
    number as u16 + 10
}

fn node_port(number: usize) -> u16 {
    30_000 + low(number)
}

/// Where a service is asked.
pub fn address(number: usize, via: Via, family: Family) -> SocketAddr {
    let low = low(number);
    let v6 = family == Family::V6;
    let v6_of = |[a, b, c]: [u16; 3], low| IpAddr::from(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, low));
    let ip = match (via, v6) {
        (Via::Cluster, false) => IpAddr::from([10, 96, 0, low as u8]),
        (Via::Cluster, true) => v6_of([0xfd00, 0x96, 0], low),
        (Via::External, false) => IpAddr::from([192, 0, 2, low as u8]),
        (Via::External, true) => v6_of([0x2001, 0xdb8, 0xe], low),
        (Via::LoadBalancer, false) => IpAddr::from([198, 51, 100, low as u8]),
        (Via::LoadBalancer, true) => v6_of([0x2001, 0xdb8, 0xf], low),
        (Via::OwnNode, false) => IpAddr::from([192, 168, 7, 1]),
        (Via::OwnNode, true) => v6_of([0xfd00, 7, 0], 1),
        (Via::OtherNode, false) => IpAddr::from([192, 168, 7, 2]),
        (Via::OtherNode, true) => v6_of([0xfd00, 7, 0], 2),
    };
    SocketAddr::new(ip, if matches!(via, Via::OwnNode | Via::OtherNode) { node_port(number) } else { 80 })
}

/// Where a backend listens.
pub fn backend(number: usize, place: usize, family: Family) -> SocketAddr {
    let (high, low) = (number as u16 + 1, place as u16 + 1);
    let ip = match family {
        Family::V6 => IpAddr::from([0xfd00, 1, 0, 0, 0, 0, high, low]),
        Family::V4 | Family::Mapped => IpAddr::from([10, 1, high as u8, low as u8]),
    };
    SocketAddr::new(ip, PORT)
}

/// What a backend answers with.
pub fn name(number: usize, place: usize) -> String {
    format!("s{number}p{place}")
}

/// Service and backend by what it answers with.
pub fn by_name(name: &str) -> Option<(usize, usize)> {
    let (number, place) = name.strip_prefix('s')?.split_once('p')?;
    Some((number.parse().ok()?, place.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_service_and_backend() {
        assert_eq!(by_name(&name(12, 3)), Some((12, 3)));
        assert_eq!(by_name("m7"), None);
    }

    #[test]
    fn the_backends_of_steady_services_that_stay_are_always_ready() {
        let mut dice = Dice::new(1);
        for number in 0..STEADY {
            let mut spec = Spec::first(number);
            for _ in 0..1_000 {
                spec.redo_backends(number, &mut dice);
                assert_eq!(spec.places[..STAYING], [Condition::Ready; STAYING]);
            }
        }
    }
}
