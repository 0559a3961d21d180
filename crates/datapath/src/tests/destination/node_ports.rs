//! R14: node ports, asked for from inside.

use super::*;

#[test]
fn r14_this_nodes_addresses_serve_node_ports_whatever_the_policy() {
    let tables = one_backend();
    for to in ["172.18.0.1:30080", "172.18.0.1:30081", "[2001:db8:1::1]:30080", "[2001:db8:1::1]:30081"] {
        assert_all(&tables, to, Reason::Balanced);
    }
    // This node's, though another claims it too.
    assert_all(&tables, "172.18.0.3:30081", Reason::Balanced);
}

#[test]
fn r14_another_nodes_address_serves_node_ports() {
    let tables = one_backend();
    for to in ["172.18.0.2:30080", "[2001:db8:1::2]:30080"] {
        assert_all(&tables, to, Reason::Balanced);
    }
}

#[test]
fn r14_remote_node_port_with_external_local_is_left_alone() {
    let tables = one_backend();
    for to in ["172.18.0.2:30081", "[2001:db8:1::2]:30081"] {
        assert_all(&tables, to, Reason::RemoteNodePort);
    }
    // It is told whose it is.
    let slots = Slots::new(1);
    let decision = connect(&tables, &MemorySocket::new(1, &slots), &tcp("172.18.0.2:30081"));
    assert_eq!((decision.service, decision.mode), (1, mode::NODE_PORT));
}

#[test]
fn r14_remote_node_port_with_external_local_and_no_endpoint_is_left_alone_too() {
    let mut tables = tables();
    tables.records.values_mut().for_each(|record| record.local.len = 0);
    assert_all(&tables, "172.18.0.2:30081", Reason::RemoteNodePort);
    assert_all(&tables, "172.18.0.2:30080", Reason::NoLocalEndpoint);
    tables.records.values_mut().for_each(|record| record.flags &= !HAS_ANY);
    assert_all(&tables, "172.18.0.2:30080", Reason::NoEndpoints);
    assert_all(&tables, "172.18.0.1:30081", Reason::NoEndpoints);
}

#[test]
fn r14_loopback_serves_node_ports_to_the_host_only() {
    let tables = one_backend();
    for to in ["127.0.0.1:30080", "127.0.0.1:30081", "[::1]:30080"] {
        for key in [tcp(to), udp(to)] {
            assert_each(&tables, HOST, key, Reason::Balanced);
            for netns in [POD, STRANGER] {
                assert_each(&tables, netns, key, Reason::NotAService);
            }
        }
    }
    assert_all(&tables, "127.0.0.2:30080", Reason::NotAService);
}

#[test]
fn r14_the_unspecified_address_is_loopback() {
    let mut tables = one_backend();
    for to in ["0.0.0.0:30080", "0.0.0.0:30081", "[::]:30080", "[::]:30081"] {
        for key in [tcp(to), udp(to)] {
            assert_each(&tables, HOST, key, Reason::Balanced);
            assert_each(&tables, POD, key, Reason::NotAService);
        }
    }
    // Without the keyword `localhost` nobody reaches the frontend by its key, in either family.
    tables.addresses.remove(&address("127.0.0.1"));
    for netns in [HOST, POD] {
        assert_each(&tables, netns, tcp("0.0.0.0:30080"), Reason::NotAService);
        assert_each(&tables, netns, udp("0.0.0.0:30080"), Reason::NotAService);
    }
    assert_each(&tables, HOST, tcp("[::]:30080"), Reason::Balanced);
    tables.addresses.remove(&address("::1"));
    assert_each(&tables, HOST, tcp("[::]:30080"), Reason::NotAService);
    // Nor with ports that no service has.
    assert_all(&tables, "0.0.0.0:30099", Reason::NotAService);
}

#[test]
fn r14_ports_outside_of_the_range_and_unused_ones_are_not_ours() {
    let mut tables = one_backend();
    for to in ["172.18.0.1:29999", "172.18.0.1:32768", "172.18.0.1:30099", "[2001:db8:1::2]:30099"] {
        assert_all(&tables, to, Reason::NotAService);
    }
    // The range is what counts: behind it there is no node port, whatever frontends there are.
    tables.space.last_node_port = 30_080;
    assert_all(&tables, "172.18.0.1:30081", Reason::NotAService);
    assert_all(&tables, "172.18.0.1:30080", Reason::Balanced);
}

#[test]
fn r14_r20_tcp_and_udp_node_ports_are_different_things() {
    let tables = one_backend();
    assert_each(&tables, POD, tcp("172.18.0.1:30082"), Reason::Balanced);
    assert_each(&tables, POD, udp("172.18.0.1:30082"), Reason::NotAService);
    assert_each(&tables, POD, tcp("[2001:db8:1::1]:30082"), Reason::NotAService);
}

#[test]
fn r14_an_address_that_is_no_nodes_serves_no_node_port() {
    let tables = one_backend();
    for to in ["198.51.100.1:30080", "172.18.0.4:30080", "[2001:db8:1::3]:30080", "10.1.0.1:30080"] {
        assert_all(&tables, to, Reason::NotAService);
    }
}

#[test]
fn r14_getpeername_shows_the_nodes_address_that_was_asked_for() {
    let (tables, slots) = (one_backend(), Slots::new(4));
    for (n, to) in
        ["172.18.0.1:30080", "172.18.0.2:30080", "127.0.0.1:30080", "0.0.0.0:30080"].into_iter().enumerate()
    {
        let socket = socket_in(HOST, n as u64, &slots);
        let backend = socket.dial(&tables, tcp(to)).backend;
        assert_eq!((backend, socket.named(&backend)), (at("10.1.0.1:8080"), Some(at(to))));
    }
}
