use super::*;

const POLICY: &str = "
apiVersion: balancing.elf.io/v1beta1
kind: BalancingPolicy
metadata: {name: NAME}
spec:
  frontend: {addressMatcher: {ip: 10.0.0.1, toPorts: [{port: \"PORT\", protocol: TCP}]}}
  backend: {addressEndpoint: {addresses: [192.0.2.1], toPorts: [{port: \"80\", protocol: TCP}]}}
";

fn policy(name: &str, port: &str) -> String {
    POLICY.replace("NAME", name).replace("PORT", port)
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
";

/// What is said of a text that comes from standard input.
fn said(text: &str) -> (Vec<String>, Report) {
    let report = check(&["-".into()], text.as_bytes());
    (report.problems.iter().map(ToString::to_string).collect(), report)
}

#[test]
fn what_is_right_is_right() {
    let text = [&policy("a", "80"), "---", &policy("b", "81"), "---", SERVICE].concat();
    let (problems, report) = said(&text);
    assert_eq!((problems, report.notices, report.objects, report.ignored), (vec![], vec![], 3, 0));
}

#[test]
fn each_mistake_is_said_with_its_place_and_what_would_be_right() {
    let text = [
        &policy("a", "0"),
        "---",
        &policy("b", "81"),
        "---",
        &policy("c", "81"),
        "---",
        &SERVICE.replace("80", "0"),
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
        "---\njust words\n",
    ]
    .concat();
    let (problems, report) = said(&text);
    assert_eq!(
        problems,
        [
            "-:2: BalancingPolicy a: spec.frontend.addressMatcher.toPorts[0].port: must be a port number from 1 to 65535, as a text: \"80\"",
            "-:16: BalancingPolicy c: spec.frontend: 10.0.0.1 port 81/TCP is what BalancingPolicy b is for already; \
             ask for something else, or change or delete that first",
            "-:23: Service default/web: spec.ports[0].port: 0 is not a port; use 1-65535",
            "-:32: document: apiVersion: is missing; a document must be a Kubernetes object",
        ]
    );
    assert_eq!((report.objects, report.ignored), (5, 1));
}

#[test]
fn lists_are_what_is_in_them() {
    let (problems, report) = said(
        "apiVersion: balancing.elf.io/v1beta1\nkind: BalancingPolicyList\nitems:\n- metadata: {name: a}\n  spec: {}\n",
    );
    assert!(problems[0].contains("BalancingPolicy a: spec.backend: is missing"), "{problems:?}");
    assert_eq!(report.objects, 1);
}

#[test]
fn what_is_there_twice_is_told_of() {
    let (problems, _) =
        said(&[SERVICE, "---", SERVICE, "---", &policy("a", "80"), "---", &policy("a", "81")].concat());
    assert_eq!(
        problems,
        [
            "-:7: Service default/web: metadata.name: is already in -:2; remove one",
            "-:19: BalancingPolicy a: metadata.name: is already in -:12; remove one",
        ]
    );
}

#[test]
fn what_nobody_knows_is_no_mistake() {
    let (problems, report) = said(&policy("a", "80").replace("backend:", "backends: 1\n  backend:"));
    assert_eq!(problems, Vec::<String>::new());
    assert!(report.notices[0].to_string().contains("spec.backends: is no known field"), "{report:?}");
}

#[test]
fn files_and_directories_are_read_and_what_is_not_there_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("b.yaml"), policy("b", "80")).unwrap();
    fs::write(path("a.yml"), policy("a", "80")).unwrap();
    fs::write(path(".hidden.yaml"), "{").unwrap();
    fs::write(path("notes.txt"), "apiVersion: [").unwrap();
    let said = |paths: &[PathBuf]| {
        let report = check(paths, io::empty());
        report.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let problems = said(&[directory.path().to_owned()]);
    assert!(
        problems.len() == 1 && problems[0].contains("b.yaml:2: BalancingPolicy b: spec.frontend: "),
        "{problems:?}"
    );
    // A file by its name is one, whatever that is.
    assert!(said(&[path("notes.txt")])[0].contains("notes.txt:1: "), "{:?}", said(&[path("notes.txt")]));
    fs::create_dir(path("empty")).unwrap();
    assert!(said(&[path("empty")])[0].contains("has no manifests"));
    assert!(said(&[path("nothing.yaml")])[0].contains("nothing.yaml: No such file"));
    fs::write(path("void.yaml"), " \n").unwrap();
    assert!(said(&[path("void.yaml")])[0].ends_with("void.yaml: is empty"));
    fs::write(path("bytes.yaml"), b"\xff").unwrap();
    assert!(said(&[path("bytes.yaml")])[0].contains("UTF-8"));
}
