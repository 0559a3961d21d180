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
