//! R22: who may use a VIP.

use super::*;

#[test]
fn r22_a_client_in_a_range_may_use_the_vip_and_others_may_not() {
    let tables = one_backend();
    for (to, not_known) in [("192.0.2.1:80", ONLY_SIX), ("[2001:db8::1]:80", STRANGER)] {
        for key in [tcp(to), udp(to)] {
            assert_each(&tables, POD, key, Reason::Balanced);
            assert_each(&tables, OTHER_POD, key, Reason::SourceRange);
            assert_each(&tables, HOST, key, Reason::SourceRange);
            assert_each(&tables, STRANGER, key, Reason::UnknownClient);
            assert_each(&tables, not_known, key, Reason::UnknownClient);
        }
    }
    assert_each(&tables, ONLY_SIX, tcp("[2001:db8::1]:80"), Reason::Balanced);
}

#[test]
fn r22_another_services_range_admits_nobody() {
    let mut tables = one_backend();
    tables.sources = [source(2, "10.1.7.0", 24), source(1, "fd00:1:7::", 64)].into();
    for to in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        assert_each(&tables, POD, tcp(to), Reason::SourceRange);
    }
}

#[test]
fn r22_what_a_range_says_of_the_nodes_address_counts_for_the_host() {
    let mut tables = one_backend();
    tables.sources.insert(source(1, "172.18.0.1", 32));
    assert_each(&tables, HOST, tcp("192.0.2.1:80"), Reason::Balanced);
}

#[test]
fn r22_only_restricted_vips_ask_who_it_is() {
    let tables = one_backend();
    for to in ["10.96.0.10:80", "192.0.2.2:80", "172.18.0.1:30080", "[fd00:96::a]:80"] {
        assert_all(&tables, to, Reason::Balanced);
    }
}

#[test]
fn r22_is_before_r10_and_r11() {
    let mut tables = tables();
    tables.records.values_mut().for_each(|record| record.local.len = 0);
    for (has_any, allowed) in [(HAS_ANY, Reason::NoLocalEndpoint), (0, Reason::NoEndpoints)] {
        tables.records.values_mut().for_each(|record| record.flags = record.flags & !HAS_ANY | has_any);
        for key in [tcp("192.0.2.1:80"), udp("192.0.2.1:80")] {
            assert_each(&tables, OTHER_POD, key, Reason::SourceRange);
            assert_each(&tables, STRANGER, key, Reason::UnknownClient);
            assert_each(&tables, POD, key, allowed);
        }
    }
}

#[test]
fn r22_an_entry_of_another_network_namespace_is_none() {
    let mut tables = one_backend();
    let entry = tables.clients[&POD];
    tables.clients.insert(STRANGER, entry);
    for to in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        assert_each(&tables, STRANGER, tcp(to), Reason::UnknownClient);
    }
}

#[test]
fn r22_a_client_that_is_denied_is_told_apart_by_service() {
    let (tables, slots) = (one_backend(), Slots::new(1));
    let socket = socket_in(OTHER_POD, 1, &slots);
    let decision = connect(&tables, &socket, &tcp("192.0.2.1:80"));
    assert_eq!((decision.service, decision.mode), (1, mode::LOAD_BALANCER));
    assert_eq!(decision.backend, at("[::]:0"));
}

#[test]
fn r22_an_unknown_clients_datagrams_go_to_the_vip_itself() {
    let (tables, slots) = (one_backend(), Slots::new(4));
    let socket = socket_in(STRANGER, 1, &slots);
    let decision = socket.send(&tables, "192.0.2.1:80");
    assert_eq!((decision.reason, decision.service), (Reason::UnknownClient, 1));
    assert_eq!(socket.from(&at("192.0.2.1:80")), at("192.0.2.1:80"));
}
