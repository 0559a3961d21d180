use std::{collections::BTreeMap, ffi::OsString, fs, path::Path, time::Duration};

use serde_json::json;

use super::*;

fn parsed(text: &str) -> Result<Vec<(String, Vec<String>, u64)>, String> {
    let entries = file::parse(Path::new("b.yaml"), text).map_err(|error| error.to_string())?;
    Ok(entries.into_iter().map(|it| (it.setting.key(), it.texts, it.line)).collect())
}

#[test]
fn names_follow_from_one() {
    let setting = setting("service-proxy-name").unwrap();
    assert_eq!(setting.key(), "serviceProxyName");
    assert_eq!(setting.variable(), "BALANCING_SERVICE_PROXY_NAME");
    assert!(setting.help().starts_with("Serve only services"), "{}", setting.help());
    assert_eq!(super::setting("socket").unwrap().key(), "socket");
}

#[test]
fn a_file_is_read_with_its_lines() {
    let text = "# ours\nnodeName: n1\n\nmaxServices: 100\nevents: >-\n  sampled=5\n";
    let one = |key: &str, text: &str, line| (key.to_owned(), vec![text.to_owned()], line);
    let expected = [one("nodeName", "n1", 2), one("maxServices", "100", 4), one("events", "sampled=5", 5)];
    assert_eq!(parsed(text).unwrap(), expected);
    for empty in ["", "\n", "# nothing\n", "---\n", "{}"] {
        assert_eq!(parsed(empty).unwrap(), [], "{empty:?}");
    }
    // JSON is YAML.
    assert_eq!(parsed("{\"nodeName\": \"n1\"}").unwrap(), [one("nodeName", "n1", 1)]);
}

#[test]
fn mistakes_name_file_line_and_what_is_right() {
    for (text, words) in [
        ("a: 1\n", &["b.yaml:1", "unknown key \"a\""][..]),
        ("\nnodename: n1\n", &["b.yaml:2", "unknown key \"nodename\"", "nodeName"]),
        ("node_name: n1\n", &["nodeName"]),
        ("node-name: n1\n", &["nodeName"]),
        ("maxService: 1\n", &["maxServices"]),
        ("manifest: /a\n", &["manifests"]),
        ("nodeName: n1\nmaxServices: many\n", &["b.yaml:2: maxServices", "not a whole number"]),
        ("maxServices: \"10\"\n", &["not a whole number"]),
        ("maxServices: 0\n", &["from 1 to 4194304"]),
        ("maxServices: 4194305\n", &["from 1 to 4194304"]),
        ("maxServices: 1.5\n", &["not a whole number"]),
        ("maxServices: -1\n", &["from 1 to 4194304"]),
        ("maxServices: [1]\n", &["not a whole number"]),
        ("nodeName: 12\n", &["12 is not a text", "quotes"]),
        ("nodeName: true\n", &["true is not a text", "quotes"]),
        ("nodeName:\n", &["nodeName: has no value", "remove the key"]),
        ("nodeName: \"\"\n", &["nodeName", "give a value"]),
        ("nodeName: {a: b}\n", &["nodeName", "is not a text"]),
        ("events: loud\n", &["b.yaml:1: events: \"loud\": give off, failures, all"]),
        ("events: all\nnodeName: a\nnodeName: b\n", &["b.yaml:3", "nodeName"]),
        ("- a\n- b\n", &["b.yaml", "keys and values"]),
        ("nodeName\n", &["b.yaml", "keys and values"]),
        ("nodeName: 'a\n", &["b.yaml:"]),
        ("nodeName: a\n---\nnodeName: b\n", &["b.yaml:"]),
    ] {
        let error = parsed(text).unwrap_err();
        for word in words {
            assert!(error.contains(word), "{text:?}: {word:?} is missing: {error}");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

fn flags(all: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    all.iter().map(|(flag, text)| ((*flag).to_owned(), vec![(*text).to_owned()])).collect()
}

fn variables(all: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> {
    |name| all.iter().find(|(known, _)| *known == name).map(|(_, text)| text.into())
}

#[test]
fn a_flag_wins_then_the_environment_then_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.yaml");
    fs::write(&path, "manifests: /f\nnodeName: f\nsocket: /f.sock\nevents: all\n").unwrap();
    let effective = resolve(
        &flags(&[("node-name", "c")]),
        variables(&[
            ("BALANCING_NODE_NAME", "e"),
            ("BALANCING_SOCKET", "/e.sock"),
            ("BALANCING_EVENTS", ""),
            ("BALANCING_MAX_SERVICES", "7"),
        ]),
        Some(&path),
    )
    .unwrap();
    let shown = effective.shown();
    let find = |key: &str| shown.iter().find(|it| it.key == key).unwrap();
    for (key, value, from) in [
        ("manifests", json!("/f"), format!("{}:1", path.display())),
        ("nodeName", json!("c"), "flag --node-name".into()),
        ("socket", json!("/e.sock"), "environment BALANCING_SOCKET".into()),
        // An empty variable is none.
        ("events", json!("all"), format!("{}:4", path.display())),
        ("maxServices", json!(7), "environment BALANCING_MAX_SERVICES".into()),
        ("maxBackends", json!(524_288), "default".into()),
        ("cgroupRoot", json!(null), "default: the root of the cgroup2 mount, that is all".into()),
    ] {
        assert_eq!((&find(key).value, find(key).origin_text()), (&value, from), "{key}");
    }
    assert_eq!(effective.config.choice().unwrap(), Choice::Manifests("/f".into()));
    assert_eq!(effective.config.events, EventLevel::All);
    assert_eq!(effective.config.most().services, 7);
    assert_eq!(shown.len(), SETTINGS.len());
}

#[test]
fn mistakes_name_where_they_are() {
    let none = || variables(&[]);
    let error = resolve(&flags(&[("events", "x")]), none(), None).unwrap_err().to_string();
    assert_eq!(error, "--events \"x\": give off, failures, all, or sampled=N for one decision in N");
    let error = resolve(&flags(&[]), variables(&[("BALANCING_MAX_BACKENDS", "x")]), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable BALANCING_MAX_BACKENDS=\"x\": give a number from 1 to 16777216"
    );
    let error = resolve(&flags(&[]), none(), Some(Path::new("/nowhere/b.yaml"))).unwrap_err().to_string();
    assert!(error.starts_with("configuration file read /nowhere/b.yaml: No such file"), "{error}");
    let choice = |given: &[(&str, &str)]| resolve(&flags(given), none(), None).unwrap().config.choice();
    let error = choice(&[]).unwrap_err().to_string();
    assert!(error.contains("--manifests DIR") && error.contains("--kubeconfig FILE"), "{error}");
    for second in ["kubeconfig", "api-server"] {
        let error = choice(&[("manifests", "/m"), (second, "https://s")]).unwrap_err().to_string();
        assert!(error.contains("not both"), "{error}");
    }
    let otlp = choice(&[("manifests", "/m"), ("event-otlp", "http://c:4318")]);
    match otlp {
        Err(error) if !cfg!(feature = "otel") => {
            assert!(error.to_string().contains("--features otel"), "{error}")
        }
        outcome => assert_eq!(outcome.is_ok(), cfg!(feature = "otel")),
    }
    let access = Access { kubeconfig: Some("/k".into()), api_servers: vec!["https://s".into()] };
    let both = choice(&[("kubeconfig", "/k"), ("api-server", "https://s")]);
    assert_eq!(both.unwrap(), Choice::Kubernetes(access));
}

#[test]
fn values_survive_text() {
    for (text, shown) in
        [("500ms", "500ms"), ("30s", "30s"), ("60s", "1m"), ("90s", "90s"), ("2h", "2h"), ("0", "0s")]
    {
        let duration = Duration::read(&[text]).unwrap();
        assert_eq!(duration.show(), json!(shown));
        assert_eq!(Duration::read(&[shown]).unwrap(), duration);
    }
    for text in ["", "30", "s", "-1s", "1.5s", "1d", "99999999999999999h"] {
        Duration::read(&[text]).unwrap_err();
    }
    for (text, shown) in [("64KiB", "64KiB"), ("1024KiB", "1MiB"), ("100MiB", "100MiB"), ("3GiB", "3GiB")] {
        assert_eq!(Bytes::read(&[text]).unwrap().show(), json!(shown));
    }
    for text in ["", "0MiB", "100", "100MB", "MiB", "-1MiB", "99999999999GiB"] {
        Bytes::read(&[text]).unwrap_err();
    }
    assert_eq!(Mode::read(&["660"]).unwrap().show(), json!("0660"));
    for text in ["", "0888", "1777", "rw"] {
        Mode::read(&[text]).unwrap_err();
    }
    assert_eq!(Url::read(&["https://c:4318/v1/logs"]).unwrap().show(), json!("https://c:4318/v1/logs"));
    for text in ["", "c:4318", "ftp://c", "http://", "http:///v1/logs"] {
        Url::read(&[text]).unwrap_err();
    }
    assert_eq!(bool::read(&["true"]), Ok(true));
    bool::read(&["yes"]).unwrap_err();
    assert_eq!(Vec::<String>::read(&["a", "b"]).unwrap().show(), json!(["a", "b"]));
    assert_eq!(Vec::<String>::read(&[]), Ok(Vec::new()));
    Vec::<String>::read(&["a", ""]).unwrap_err();
    assert_eq!(value::text(&json!(["a", "b"])), "a,b");
    for setting in SETTINGS {
        let default = (setting.show)(&Config::default());
        let text = value::text(&default);
        if !default.is_null() {
            let texts: Vec<&str> = if default == json!([]) { Vec::new() } else { vec![&text] };
            assert_eq!(setting.check(&texts), Ok(()), "{setting:?}: its own default");
        }
    }
}

/// docs/configuration.md has every setting, as it is.
#[test]
fn docs_list_every_setting() {
    const BEGIN: &str = "<!-- settings:begin -->\n";
    const END: &str = "<!-- settings:end -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table's beginning is marked");
    let (table, after) = rest.split_once(END).expect("the table's end is marked");
    let expected = table_of_settings();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}")).unwrap();
    } else {
        assert_eq!(table, expected, "`UPDATE_DOCS=1 cargo test -p balancing-agent config` writes it anew");
    }
}

fn table_of_settings() -> String {
    let mut table =
        String::from("| key | flag | environment variable | default | what |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let placeholder =
            if setting.kind == Kind::Switch { String::new() } else { format!(" {}", setting.placeholder) };
        let default = match (setting.words, setting.default_text()) {
            (Some(words), _) => words.to_owned(),
            (None, value) if value.is_empty() => "none".into(),
            (None, value) => format!("`{value}`"),
        };
        table.push_str(&format!(
            "| `{}` | `--{}{placeholder}` | `{}` | {default} | {} |\n",
            setting.key(),
            setting.flag(),
            setting.variable(),
            setting.help(),
        ));
    }
    table
}
