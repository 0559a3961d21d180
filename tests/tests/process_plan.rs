//! `balancing plan`: what would change, against real maps, without changing them.

#![allow(clippy::unwrap_used)]

use std::{fs, path::Path};

use balancing_tests::process::{Answer, Host, web};
use serde_json::{Value, json};

fn plan(host: &Host, manifests: &Path, more: &[&str]) -> Answer {
    let directory = manifests.display().to_string();
    let arguments = [&["plan", "--node-name", "n1", "--manifests", &directory], more].concat();
    host.balancing(&arguments).unwrap()
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_str(&answer.out).unwrap()
}

/// `sign service frontend before->after`, for each frontend that would change.
fn changes(plan: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for service in plan["services"].as_array().unwrap() {
        for frontend in service["frontends"].as_array().unwrap() {
            all.push(format!(
                "{} {} {}/{} {}->{}",
                frontend["outcome"].as_str().unwrap(),
                service["name"].as_str().unwrap(),
                frontend["address"].as_str().unwrap(),
                frontend["protocol"].as_str().unwrap(),
                frontend["backendsBefore"],
                frontend["backendsAfter"],
            ));
        }
    }
    all.sort();
    all
}

/// All that the tables hold.
fn tables(host: &Host) -> Vec<String> {
    ["services", "endpoints"]
        .map(|what| host.balancing(&["get", what, "-o", "json"]).unwrap().succeeds().to_owned())
        .into()
}

#[test]
fn where_no_agent_ever_ran_everything_is_new() {
    let host = Host::new("plan-new").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let answer = plan(&host, &host.manifests(), &["-o", "json"]);
    assert_eq!(answer.code, Some(3), "{answer:?}");
    let planned = json_of(&answer);
    assert_eq!(planned["tables"]["found"], json!(false));
    assert_eq!(
        changes(&planned),
        [
            "new web 10.96.0.10:53/UDP 0->2",
            "new web 10.96.0.10:80/TCP 0->2",
            "new web [fd00:96::a]:53/UDP 0->2",
            "new web [fd00:96::a]:80/TCP 0->2",
        ]
    );
    assert!(!host.pins().exists(), "it has made pins");
    // Sizes are those of the flags.
    let answer = plan(&host, &host.manifests(), &["--max-services", "2"]);
    answer.fails(1, &["problems with these manifests"]);
    assert!(answer.out.contains("full (2 entries)"), "{answer:?}");
    // An empty directory asks for nothing.
    let empty = tempfile::tempdir().unwrap();
    let answer = plan(&host, empty.path(), &[]);
    assert!(answer.succeeds().contains("Nothing would change."), "{answer:?}");
    plan(&host, Path::new("/nowhere"), &[]).fails(1, &["/nowhere", "create it"]);
    host.balancing(&["plan"]).unwrap().fails(2, &["manifests is not set"]);
}

#[test]
fn it_says_what_the_agent_then_does_and_does_nothing_itself() {
    let host = Host::new("plan").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    host.write("old.yaml", web::manifest("old", 11, &[3])).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    for with_agent in [true, false] {
        if !with_agent {
            agent.kill().unwrap();
        }
        let answer = plan(&host, &host.manifests(), &[]);
        assert!(answer.succeeds().contains("nothing to write"), "{answer:?}");

        let new = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| fs::write(new.path().join(file), text).unwrap();
        write("web.yaml", &web::manifest("web", 10, &[2, 4, 5]));
        write("cart.yaml", &web::manifest("cart", 12, &[]));
        let before = tables(&host);
        let answer = plan(&host, new.path(), &["-o", "json"]);
        assert_eq!(answer.code, Some(3), "{answer:?}");
        let planned = json_of(&answer);
        assert_eq!(
            changes(&planned),
            [
                "changed web 10.96.0.10:53/UDP 2->3",
                "changed web 10.96.0.10:80/TCP 2->3",
                "changed web [fd00:96::a]:53/UDP 2->3",
                "changed web [fd00:96::a]:80/TCP 2->3",
                "gone old 10.96.0.11:53/UDP 1->0",
                "gone old 10.96.0.11:80/TCP 1->0",
                "gone old [fd00:96::b]:53/UDP 1->0",
                "gone old [fd00:96::b]:80/TCP 1->0",
                "new cart 10.96.0.12:53/UDP 0->0",
                "new cart 10.96.0.12:80/TCP 0->0",
                "new cart [fd00:96::c]:53/UDP 0->0",
                "new cart [fd00:96::c]:80/TCP 0->0",
            ]
        );
        let web = &planned["services"].as_array().unwrap().iter().find(|it| it["name"] == "web").unwrap();
        let http = &web["frontends"].as_array().unwrap().iter().find(|it| it["address"] == "10.96.0.10:80");
        let http = http.unwrap();
        assert_eq!(http["added"], json!(["10.1.0.4:8080", "10.1.0.5:8080"]));
        assert_eq!(http["removed"], json!(["10.1.0.1:8080"]));
        assert_eq!(tables(&host), before, "it has changed the tables");

        // The text says the same, each write in words where that is asked for.
        let short = plan(&host, new.path(), &[]);
        let row = "\n~  default/web   10.96.0.10:80    TCP       2 -> 3 (+2 -1)\n";
        assert!(short.out.contains(row), "{}", short.out);
        assert!(!short.out.contains("phase 1"), "{}", short.out);
        assert!(
            short.out.lines().all(|line| line.starts_with("writes") || line.chars().count() <= 100),
            "{}",
            short.out
        );
        let long = plan(&host, new.path(), &["-v"]);
        for phase in planned["phases"].as_array().unwrap() {
            let (name, count) = (phase["phase"].as_str().unwrap(), &phase["count"]);
            assert!(long.out.contains(&format!(": {count} {name}\n")), "{name}: {}", long.out);
            for line in phase["lines"].as_array().unwrap() {
                assert!(long.out.contains(line.as_str().unwrap()), "{line}: {}", long.out);
            }
        }
        let yaml: Value = serde_saphyr::from_str(&plan(&host, new.path(), &["-o", "yaml"]).out).unwrap();
        assert_eq!(yaml, planned);

        // A broken file: told of as the agent does it, and nothing is deleted.
        write("broken.yaml", "kind: Service\n");
        let answer = plan(&host, new.path(), &["-o", "json"]);
        answer.fails(1, &["problems with these manifests"]);
        let planned = json_of(&answer);
        assert!(planned["problems"][0].as_str().unwrap().contains("broken.yaml:1: "), "{planned:#}");
        assert!(!changes(&planned).iter().any(|it| it.starts_with("gone")), "{planned:#}");
    }

    // What was said is what happens.
    fs::remove_file(host.manifests().join("old.yaml")).unwrap();
    host.write("cart.yaml", web::manifest("cart", 12, &[])).unwrap();
    let said = json_of(&plan(&host, &host.manifests(), &["-o", "json"]))["summary"].clone();
    let mut agent = host.start(&balancing_tests::process::program(), &[]).unwrap();
    agent.wait_ready().unwrap();
    let answer = plan(&host, &host.manifests(), &[]);
    assert!(answer.succeeds().contains("Nothing would change."), "said before: {said}; {answer:?}");
}
