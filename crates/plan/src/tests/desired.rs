//! R2: who keeps a contested frontend.

use abi::space::address_use;
use model::Family;

use super::world::{PortSketch, Sketch, edit, service, vip};
use crate::{Desired, Touched};

fn claiming(created: Option<i64>) -> Option<Sketch> {
    Some(Sketch { created, ..Sketch::new("", [PortSketch::v4(80, 1, [1])]) })
}

fn holder(desired: &Desired) -> Option<String> {
    desired.frontend(&vip(Family::V4, 1, 80)).map(|spec| spec.port.service.name.clone())
}

#[test]
fn r2_the_oldest_keeps_a_frontend_and_the_next_takes_over() {
    let mut desired = Desired::new();
    edit(&mut desired, &(1, claiming(Some(20))));
    edit(&mut desired, &(2, claiming(Some(10))));
    edit(&mut desired, &(3, claiming(Some(30))));
    assert_eq!(holder(&desired).as_deref(), Some("s2"));
    let conflicts: Vec<_> = desired.conflicts().collect();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].holder, service(2));
    assert_eq!(conflicts[0].waiting, [service(1), service(3)]);

    let touched = edit(&mut desired, &(2, None));
    assert!(touched.keys.contains(&vip(Family::V4, 1, 80)));
    assert_eq!(holder(&desired).as_deref(), Some("s1"));
    edit(&mut desired, &(1, None));
    assert_eq!(holder(&desired).as_deref(), Some("s3"));
    assert_eq!(desired.conflicts().count(), 0);
    edit(&mut desired, &(3, None));
    assert_eq!(holder(&desired), None);
}

#[test]
fn r2_of_one_age_the_first_by_name_wins_and_no_age_is_the_youngest() {
    let mut desired = Desired::new();
    edit(&mut desired, &(0, claiming(None)));
    edit(&mut desired, &(2, claiming(Some(10))));
    edit(&mut desired, &(1, claiming(Some(10))));
    assert_eq!(holder(&desired).as_deref(), Some("s1"));
    edit(&mut desired, &(1, None));
    edit(&mut desired, &(2, None));
    edit(&mut desired, &(3, claiming(None)));
    assert_eq!(holder(&desired).as_deref(), Some("s0"));
}

#[test]
fn setting_the_same_again_touches_nothing() {
    let mut desired = Desired::new();
    assert!(!edit(&mut desired, &(0, claiming(None))).is_empty());
    assert_eq!(edit(&mut desired, &(0, claiming(None))), Touched::default());
    // The age settles conflicts, so it counts.
    assert!(!edit(&mut desired, &(0, claiming(Some(1)))).is_empty());
    edit(&mut desired, &(0, None));
    assert_eq!(edit(&mut desired, &(0, None)), Touched::default());
}

#[test]
fn r14_addresses_of_nodes_are_kept_only_while_there_is_a_node_port() {
    let node: std::net::IpAddr = [192, 168, 7, 2].into();
    let mut desired = Desired::new();
    let nodes = |uses| [(node, uses)].into();
    assert!(desired.set_nodes(nodes(address_use::OTHER_NODE)).is_empty());
    assert_eq!((desired.uses(node), desired.addresses().count()), (0, 0));
    // The sketch's VIP 4 is a node port.
    let with = Sketch::new("", [PortSketch { vips: [4].into(), ..PortSketch::v4(80, 4, [1]) }]);
    assert!(edit(&mut desired, &(0, Some(with.clone()))).addresses.contains(&node));
    assert_eq!(desired.uses(node), address_use::OTHER_NODE);
    assert!(desired.set_nodes(nodes(address_use::THIS_NODE)).addresses.contains(&node));
    // A second one, and the first goes: nothing to do.
    assert!(!edit(&mut desired, &(1, Some(with))).addresses.contains(&node));
    assert!(!edit(&mut desired, &(0, None)).addresses.contains(&node));
    assert!(edit(&mut desired, &(1, None)).addresses.contains(&node));
    assert_eq!((desired.uses(node), desired.addresses().count()), (0, 0));
}
