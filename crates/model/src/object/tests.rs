use super::*;
use crate::sample::*;

#[test]
fn objects_are_called_as_kubernetes_calls_them() {
    let cidr = ServiceCidr { name: "kubernetes".into(), cidrs: vec![] };
    let table = [
        (Object::from(service()), "Service default/web"),
        (Object::from(slice("web-1", vec![])), "EndpointSlice default/web-1"),
        (Object::from(pod("web-a", "10.0.0.1")), "Pod default/web-a"),
        // Cluster-scoped: no namespace.
        (Object::from(node("n1", "z1")), "Node n1"),
        (Object::from(cidr), "ServiceCIDR kubernetes"),
    ];
    for (object, text) in table {
        assert_eq!(object.id().to_string(), text);
    }
}

#[test]
fn r2_a_service_port_is_called_by_service_port_and_protocol() {
    let table = [
        (http(), "default/web:http/TCP"),
        (ServicePortName { port: "".into(), protocol: Protocol::Udp, ..http() }, "default/web:/UDP"),
    ];
    for (port, text) in table {
        assert_eq!(port.to_string(), text);
    }
}

#[test]
fn the_id_of_a_node_is_a_number_in_its_one_way_to_be_written() {
    let cases = [
        ("7", Some(7)),
        ("4294967295", Some(u32::MAX)),
        ("0", None),
        ("07", None),
        ("+7", None),
        ("x", None),
    ];
    for (text, id) in cases {
        let mut it = node("n1", "z1");
        assert_eq!(it.id(), None);
        it.annotations.insert(NodeAnnotation::NodeId, Annotation { value: text.into(), is_ours: false });
        assert_eq!(it.id(), id, "{text}");
    }
}
