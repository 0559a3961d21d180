use super::*;

fn policy(kind: &str, name: &str, id: Option<&str>, frontend: &Value) -> Value {
    let port = json!([{"port": "80", "protocol": "TCP"}]);
    let backend = match kind {
        "BalancingPolicy" => {
            json!({"addressEndpoint": {"addresses": ["192.0.2.1", "2001:db8::1"], "toPorts": port}})
        }
        _ => json!({"endpointSelector": {"matchLabels": {"app": "x"}}, "toPorts": port}),
    };
    let mut policy = json!({
        "apiVersion": "balancing.elf.io/v1beta1", "kind": kind, "metadata": {"name": name},
        "spec": {"frontend": frontend, "backend": backend},
    });
    if let Some(id) = id {
        policy["metadata"]["annotations"] = json!({SERVICE_ID: id});
    }
    policy
}

fn address(ip: &str, port: &str, protocol: &str) -> Value {
    json!({"addressMatcher": {"ip": ip, "toPorts": [{"port": port, "protocol": protocol}]}})
}

fn service(name: &str, port: Option<&str>) -> Value {
    let mut matcher = json!({"namespace": "default", "serviceName": name});
    if let Some(port) = port {
        matcher["toPorts"] = json!([{"port": port, "protocol": "TCP"}]);
    }
    json!({"serviceMatcher": matcher})
}

fn balancing(name: &str, frontend: &Value) -> Value {
    policy("BalancingPolicy", name, None, frontend)
}

fn claims(policies: &[&Value]) -> Vec<Claim> {
    policies.iter().map(|policy| Claim::of(policy).unwrap()).collect()
}

fn said(policy: &Value, former: Option<&Value>, others: &[&Value]) -> Vec<String> {
    validate(policy, former, &claims(others)).iter().map(ToString::to_string).collect()
}

/// The id of a policy after it was defaulted.
fn id_of(policy: &Value, former: Option<&Value>, others: &[&Value]) -> String {
    let patch = default(policy, former, &claims(others)).unwrap();
    patch.as_array().unwrap().last().unwrap()["value"].as_str().unwrap().to_owned()
}

#[test]
fn an_id_is_given_to_who_has_none() {
    let new = balancing("a", &address("10.0.0.1", "80", "TCP"));
    let patch = default(&new, None, []).unwrap();
    assert_eq!(patch[0], json!({"op": "add", "path": "/metadata/annotations", "value": {}}));
    assert_eq!(patch[1]["path"], "/metadata/annotations/balancing.elf.io~1serviceId");
    let id: u32 = id_of(&new, None, &[]).parse().unwrap();
    // Again the same, whoever asks; others are others'.
    assert_eq!(id_of(&new, None, &[]), id.to_string());
    assert_ne!(id_of(&balancing("b", &json!({})), None, &[]), id.to_string());
    assert_ne!(id_of(&policy("LocalRedirectPolicy", "a", None, &json!({})), None, &[]), id.to_string());
    // Other annotations stay.
    let mut annotated = new.clone();
    annotated["metadata"]["annotations"] = json!({"x": "y"});
    assert_eq!(default(&annotated, None, []).unwrap().as_array().unwrap().len(), 1);
}

#[test]
fn an_id_is_unique_among_those_there_are() {
    let new = balancing("a", &json!({}));
    let id: u32 = id_of(&new, None, &[]).parse().unwrap();
    let with = |name: &str, id: u32| policy("LocalRedirectPolicy", name, Some(&id.to_string()), &json!({}));
    assert_eq!(id_of(&new, None, &[&with("x", id), &with("y", id + 1)]), (id + 2).to_string());
    // Its own is no other's.
    let own = policy("BalancingPolicy", "a", Some(&id.to_string()), &json!({}));
    assert_eq!(id_of(&new, None, &[&own]), id.to_string());
}

#[test]
fn an_id_is_kept() {
    let given = policy("BalancingPolicy", "a", Some("10091"), &json!({}));
    assert_eq!(default(&given, None, []), None);
    // A `kubectl replace` without it.
    assert_eq!(id_of(&balancing("a", &json!({})), Some(&given), &[]), "10091");
    // What is wrong is not ours to change: it is refused.
    assert_eq!(default(&policy("BalancingPolicy", "a", Some("x"), &json!({})), None, []), None);
    let mut going = balancing("a", &json!({}));
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(default(&going, None, []), None);
}

#[test]
fn an_id_is_a_number_that_no_other_has() {
    let frontend = address("10.0.0.1", "80", "TCP");
    for id in ["0", "10091", "4294967295"] {
        assert_eq!(
            said(&policy("BalancingPolicy", "a", Some(id), &frontend), None, &[]),
            Vec::<String>::new()
        );
    }
    for id in ["", "-1", "+1", "1.5", "0x10", "4294967296", "ten"] {
        let said = said(&policy("BalancingPolicy", "a", Some(id), &frontend), None, &[]);
        let begin = "BalancingPolicy a: metadata.annotations[balancing.elf.io/serviceId]: ";
        assert!(said.len() == 1 && said[0].starts_with(begin), "{id}: {said:?}");
        assert!(said[0].contains("from 0 to 4294967295"), "{said:?}");
    }
    let other = policy("LocalRedirectPolicy", "b", Some("10091"), &address("10.0.0.2", "80", "TCP"));
    let said = said(&policy("BalancingPolicy", "a", Some("10091"), &frontend), None, &[&other]);
    assert_eq!(said.len(), 1);
    assert!(said[0].contains("10091 is that of LocalRedirectPolicy b; use another number"), "{said:?}");
}

#[test]
fn p1_a_frontend_is_one_policys_of_a_kind() {
    let holds = |ours: &Value, theirs: &Value| {
        let (ours, theirs) = (balancing("a", ours), balancing("b", theirs));
        let said = said(&ours, None, &[&theirs]);
        assert!(said.len() < 2, "{said:?}");
        said.into_iter().next()
    };
    let tcp = |ip: &str, port: &str| address(ip, port, "TCP");
    let word = holds(&tcp("10.0.0.1", "80"), &tcp("10.0.0.1", "80")).unwrap();
    assert_eq!(
        word,
        "BalancingPolicy a: spec.frontend: 10.0.0.1 port 80/TCP is what BalancingPolicy b is for already; \
         ask for something else, or change or delete that first"
    );
    // However it is written.
    assert!(holds(&tcp("2001:db8::1", "80"), &tcp("2001:DB8:0::1", "080")).is_some());
    assert!(holds(&service("web", Some("80")), &service("web", Some("80"))).is_some());
    assert!(holds(&service("web", Some("80")), &service("web", None)).is_some());
    assert!(holds(&service("web", None), &service("web", Some("80"))).is_some());
    let all = holds(&service("web", None), &service("web", None)).unwrap();
    assert!(all.contains("service default/web, all ports, is what"), "{all}");
    for (ours, theirs) in [
        (tcp("10.0.0.1", "80"), tcp("10.0.0.1", "81")),
        (tcp("10.0.0.1", "80"), tcp("10.0.0.2", "80")),
        (tcp("10.0.0.1", "53"), address("10.0.0.1", "53", "UDP")),
        (service("web", Some("80")), service("web", Some("81"))),
        (service("web", None), service("other", None)),
        // May turn out to be the same some day: its status will say so.
        (service("web", None), tcp("10.0.0.1", "80")),
    ] {
        assert_eq!(holds(&ours, &theirs), None, "{ours} {theirs}");
    }
}

#[test]
fn p1_both_kinds_may_be_for_one_frontend() {
    let frontend = address("169.254.0.90", "80", "TCP");
    let local = policy("LocalRedirectPolicy", "a", None, &frontend);
    assert_eq!(said(&local, None, &[&balancing("a", &frontend)]), Vec::<String>::new());
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let mut wrong = policy("BalancingPolicy", "a", Some("x"), &address("10.0.0.1", "80", "TCP"));
    wrong["spec"]["backend"]["addressEndpoint"]["toPorts"][0]["port"] = "0".into();
    let holder = balancing("b", &address("10.0.0.1", "80", "TCP"));
    assert_eq!(said(&wrong, None, &[&holder]).len(), 3);
}

#[test]
fn p9_updates_are_judged_without_the_policys_former_self() {
    let before = policy("BalancingPolicy", "a", Some("7"), &address("10.0.0.1", "80", "TCP"));
    let mut after = before.clone();
    after["spec"]["backend"]["addressEndpoint"]["addresses"] = json!(["192.0.2.9"]);
    assert_eq!(said(&after, Some(&before), &[&before]), Vec::<String>::new());
    let other = policy("BalancingPolicy", "b", Some("8"), &address("10.0.0.1", "81", "TCP"));
    after["spec"]["frontend"] = address("10.0.0.1", "81", "TCP");
    assert_eq!(said(&after, Some(&before), &[&before, &other]).len(), 1);
}

#[test]
fn p1_who_has_a_frontend_may_change_the_rest_though_another_came_by_the_same() {
    let before = policy("BalancingPolicy", "a", Some("7"), &address("10.0.0.1", "80", "TCP"));
    let same = policy("BalancingPolicy", "b", Some("7"), &address("10.0.0.1", "80", "TCP"));
    let mut after = before.clone();
    after["spec"]["backend"]["addressEndpoint"]["addresses"] = json!(["192.0.2.9"]);
    assert_eq!(said(&after, Some(&before), &[&before, &same]), Vec::<String>::new());
}

#[test]
fn old_mistakes_keep_nobody_from_going() {
    let mut before = balancing("a", &json!({}));
    before["spec"]["backend"] = json!({"nobody": "knows"});
    assert!(!said(&before, None, &[]).is_empty());
    // Labels, annotations, finalizers.
    let mut after = before.clone();
    after["metadata"]["finalizers"] = json!([]);
    after["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(said(&after, Some(&before), &[]), Vec::<String>::new());
    assert!(!is_to_be_judged(&after, Some(&before)));
    assert_eq!(default(&after, Some(&before), []), None);
    // A change of what is judged is judged.
    after["spec"]["backend"] = json!({});
    assert!(!said(&after, Some(&before), &[]).is_empty());
    assert!(is_to_be_judged(&after, Some(&before)) && is_to_be_judged(&after, None));
    after["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert_eq!(said(&after, Some(&before), &[]), Vec::<String>::new());
}

#[test]
fn what_is_not_understood_claims_nothing() {
    let odd = json!({"kind": "BalancingPolicy", "metadata": {"name": "odd", "annotations": {SERVICE_ID: "x"}},
        "spec": {"frontend": {"addressMatcher": {"ip": "nowhere", "toPorts": 7}, "serviceMatcher": null}}});
    let new = balancing("a", &address("10.0.0.1", "80", "TCP"));
    assert_eq!(said(&new, None, &[&odd]), Vec::<String>::new());
    for odd in
        [json!(null), json!({}), json!({"kind": 1, "metadata": []}), json!({"kind": "x", "metadata": {}})]
    {
        assert_eq!(Claim::of(&odd), None, "{odd}");
    }
}
