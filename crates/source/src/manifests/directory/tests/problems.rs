//! What is told of files.

use super::*;

/// Problems are kept up to date change by change: they must be what somebody sees who looks for the first time.
#[test]
fn what_is_wrong_depends_on_the_files_and_not_on_their_history() {
    let slice = |owner: &str| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a-1, labels: \
             {{kubernetes.io/service-name: {owner}}}}}\naddressType: IPv4\nports: [{{port: 80}}]\n\
             endpoints: [{{addresses: [10.0.0.1]}}]\n"
        )
    };
    let texts = [
        service("a"),
        service("b"),
        slice("a"),
        slice("b"),
        format!("{}{}", service("a"), slice("b")),
        "broken: [".to_owned(),
        slice("''"),
    ];
    let mut world = World::new();
    let mut seen = BTreeSet::new();
    let mut dice = 1u64;
    for _ in 0..400 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (file, what) = ((dice >> 33) as usize % 3, (dice >> 43) as usize % (texts.len() + 1));
        let file = ["x.yaml", "y.yaml", "z.yaml"][file];
        match texts.get(what) {
            Some(text) => world.write(file, text),
            None => drop(fs::remove_file(world.path(file))),
        }
        let problems = world.scan().problems;
        // What is broken says what it said before: only those who saw it know.
        let fresh = Directory::new(world.directory.path().to_owned()).scan();
        if fresh.whole {
            assert_eq!(problems, fresh.problems);
            seen.insert(problems.len());
        }
    }
    assert!(seen.len() > 3, "{seen:?}");
}

#[test]
fn a_slice_without_its_service_is_told_of() {
    let mut world = World::new();
    let slice = |labels: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: a-1, labels: {{{labels}}}}}\n\
             addressType: IPv4\nports: [{{port: 80}}]\nendpoints: [{{addresses: [10.0.0.1]}}]\n"
        )
    };
    world.write("b.yaml", slice("kubernetes.io/service-name: a"));
    let of = "b.yaml:1: EndpointSlice default/a-1: metadata.labels.kubernetes.io/service-name:";
    assert_eq!(world.problems(), [format!("{of} there is no Service default/a, so that it has no effect")]);
    world.write("a.yaml", service("a"));
    assert_eq!(world.problems(), [""; 0]);
    world.write("b.yaml", slice(""));
    assert_eq!(
        world.problems(),
        [format!("{of} is missing, so that it belongs to no Service and has no effect")]
    );
}
