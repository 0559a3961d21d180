use serde_json::json;

use super::*;

fn right() -> Value {
    json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": "BalancingPolicy", "metadata": {"name": "p"},
        "spec": {
            "config": {"nodeLabelSelector": {"matchLabels": {"example.com/zone": "a_1", "empty": ""}}},
            "frontend": {"addressMatcher": {"ip": "10.0.0.1", "toPorts": [{"port": "80", "protocol": "TCP"}]}},
            "backend": {"addressEndpoint": {
                "addresses": ["192.0.2.1", "2001:db8::1"], "toPorts": [{"port": "80", "protocol": "TCP"}]}},
        },
    })
}

/// What is said of it with `value` in a place.
fn said(path: &str, value: Value) -> Vec<String> {
    let mut policy = right();
    let (parent, name) = path.rsplit_once('/').unwrap();
    policy.pointer_mut(parent).unwrap()[name] = value;
    check(&policy).iter().map(ToString::to_string).collect()
}

#[test]
fn what_schemas_limit_is_limited() {
    assert_eq!(check(&right()), []);
    let address = "/spec/backend/addressEndpoint";
    for (path, value, words) in [
        (format!("{address}/weights"), json!([1, 101]), "spec.backend.addressEndpoint.weights[1]: 101 is"),
        (format!("{address}/weights"), json!([1, 1.5]), "weights[1]: 1.5 must be of type integer"),
        (format!("{address}/addresses"), json!([]), "addresses: 0 items are not allowed; use 1 to 512"),
        (format!("{address}/toPorts"), json!([]), "toPorts: 0 items are not allowed; use 1 to 64"),
        (format!("{address}/healthCheck"), json!({"protocol": "tcp", "port": 0}), "healthCheck.port: 0 is"),
        (format!("{address}/healthCheck"), json!({}), "healthCheck.protocol: is missing"),
        (
            format!("{address}/healthCheck"),
            json!({"protocol": "tcp", "intervalSeconds": 301}),
            "use 1 to 300",
        ),
        (
            format!("{address}/healthCheck"),
            json!({"protocol": "tcp", "unhealthyThreshold": 0}),
            "unhealthyThreshold: 0 is not allowed; use 1 to 10",
        ),
        (
            format!("{address}/healthCheck"),
            json!({"protocol": "tcp", "whenAllUnhealthy": "x"}),
            "use UseAll or Refuse",
        ),
        ("/spec/config/qosLimit".into(), json!(4_294_967_296_u64), "use 0 to 4294967295"),
        ("/spec/config/enableOutCluster".into(), json!("yes"), "must be of type boolean"),
        ("/spec/frontend/addressMatcher/toPorts/0".replace("/0", ""), json!({}), "must be of type array"),
        ("/spec/backend".into(), json!(7), "spec.backend: 7 must be of type object"),
        ("/spec".into(), json!(null), "spec: is missing"),
        ("/spec".into(), json!({}), "spec.backend: is missing"),
    ] {
        let said = said(&path, value);
        assert!(said.iter().any(|it| it.contains(words)), "{words}: {said:?}");
    }
}

#[test]
fn names_are_no_longer_than_what_agents_keep() {
    assert_eq!(said("/metadata/name", "a".repeat(63).into()), Vec::<String>::new());
    let long = said("/metadata/name", "a".repeat(64).into());
    assert!(long.len() == 1 && long[0].contains("at most 63 characters"), "{long:?}");
    for name in ["", "A", "-a", "a_b"] {
        let said = said("/metadata/name", name.into());
        assert!(said.len() == 1 && said[0].contains("metadata.name: must be a name"), "{name}: {said:?}");
    }
}

#[test]
fn one_thing_written_in_two_ways_is_there_twice() {
    let port = |port: &str| json!({"port": port, "protocol": "TCP"});
    let twice = said("/spec/frontend/addressMatcher/toPorts", json!([port("80"), port("080")]));
    assert_eq!(
        twice,
        ["BalancingPolicy p: spec.frontend.addressMatcher.toPorts[1]: each port and protocol once"]
    );
    let twice =
        said("/spec/backend/addressEndpoint/addresses", json!(["10.0.0.1", "2001:db8::1", "2001:DB8:0::1"]));
    assert_eq!(twice, ["BalancingPolicy p: spec.backend.addressEndpoint.addresses[2]: each address once"]);
}

#[test]
fn addresses_are_those_of_hosts() {
    for ip in ["0.0.0.0", "::", "224.0.0.1", "255.255.255.255", "ff02::1"] {
        let said = said("/spec/backend/addressEndpoint/addresses", json!([ip, "192.0.2.1"]));
        assert!(said.len() == 1 && said[0].contains("[0]: ") && said[0].contains("of one host"), "{said:?}");
    }
    let said = said("/spec/frontend/addressMatcher/ip", "255.255.255.255".into());
    assert!(
        said[0].contains("spec.frontend.addressMatcher.ip: ") && said[0].contains("one host"),
        "{said:?}"
    );
}

#[test]
fn selectors_are_of_labels() {
    let of = |selector: Value| said("/spec/config/nodeLabelSelector", selector);
    let key = of(json!({"matchLabels": {"a b": "x"}}));
    assert!(
        key[0].contains("spec.config.nodeLabelSelector.matchLabels: \"a b\" can't be the name"),
        "{key:?}"
    );
    let value = of(json!({"matchLabels": {"a": "-"}}));
    assert!(value[0].contains(".matchLabels.a: \"-\" can't be the value"), "{value:?}");
    let long = of(json!({"matchLabels": {"a": "x".repeat(64)}}));
    assert!(long[0].contains("can't be the value of a label: at most 63"), "{long:?}");
    let expression = |key: &str, value: &str| {
        of(json!({"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]}))
    };
    assert_eq!(expression("example.com/a.b_c", "x"), Vec::<String>::new());
    assert!(expression("/a", "x")[0].contains("matchExpressions[0].key"));
    assert!(expression("a", "x y")[0].contains("matchExpressions[0].values"));
}

#[test]
fn what_nobody_knows_is_told_of_and_no_mistake() {
    let mut policy = right();
    policy["spec"]["config"]["qoslimit"] = 7.into();
    assert_eq!(check(&policy), []);
    let told: Vec<String> = unknown_fields(&policy).iter().map(ToString::to_string).collect();
    let reason = "is no known field, and has no effect; is it written right?";
    assert_eq!(told, [format!("BalancingPolicy p: spec.config.qoslimit: {reason}")]);
}

#[test]
fn another_version_is_refused_and_another_kind_is_not_ours() {
    let version = said("/apiVersion", "balancing.elf.io/v1".into());
    assert!(version[0].contains("use balancing.elf.io/v1beta1"), "{version:?}");
    for document in
        [json!(null), json!([]), json!({"apiVersion": "v1", "kind": "Service"}), json!({"kind": 7})]
    {
        assert!(!is_policy(&document) && check(&document).is_empty(), "{document}");
    }
}

/// Whatever is anywhere in a policy: an answer.
#[test]
fn nothing_is_too_odd() {
    fn places(value: &Value, path: String, into: &mut Vec<String>) {
        let fields = value.as_object().into_iter().flatten();
        fields.for_each(|(name, value)| places(value, format!("{path}/{}", name.replace('/', "~1")), into));
        let items = value.as_array().into_iter().flatten().enumerate();
        items.for_each(|(index, value)| places(value, format!("{path}/{index}"), into));
        into.push(path);
    }
    let mut all = Vec::new();
    places(&right(), String::new(), &mut all);
    assert!(all.len() > 20);
    for path in all {
        for odd in [
            json!(null),
            json!(-1),
            json!(1e300),
            json!("é\u{0}%s"),
            json!([[]]),
            json!({"": {}}),
            json!(true),
        ] {
            let mut policy = right();
            *policy.pointer_mut(&path).unwrap() = odd;
            check(&policy);
            unknown_fields(&policy);
            super::super::Claim::of(&policy);
        }
    }
}
