//! Any file in the manifests directory: read, applied, selected from, and taken away again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use model::{Change, Cluster, View, select};
use source::manifests::parse;

fuzz_target!(|text: &str| {
    let Ok(content) = parse(text) else { return };
    let view = View { node: "n1".into(), resolve_selectors: true, ..View::default() };
    let mut cluster = Cluster::new(view);
    for object in content.objects.values() {
        cluster.apply(Change::Upsert(object.clone()));
    }
    let here = cluster.here();
    for service in cluster.services() {
        for (port, family) in service.ports_by_family() {
            let endpoints = cluster.endpoints(&service.port_name(port, family));
            let selection = select(service, port, family, &endpoints, &here);
            let chosen = [&selection.internal, &selection.external, &selection.cluster];
            assert!(chosen.into_iter().flatten().all(|index| *index < endpoints.len()));
            assert!(selection.has_any || chosen.into_iter().all(Vec::is_empty));
        }
    }
    for id in content.objects.into_keys() {
        cluster.apply(Change::Delete(id));
    }
    assert_eq!(cluster.services().count() + cluster.pods().count() + cluster.nodes().count(), 0);
});
