use super::*;

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: None}}\n")
}

fn ids(text: &str) -> Vec<String> {
    let mut ids: Vec<String> = parse(text).unwrap().objects.keys().map(ToString::to_string).collect();
    ids.sort();
    ids
}

fn bad(text: &str) -> (Option<u64>, String) {
    let fault = parse(text).unwrap_err();
    (fault.line, fault.reason)
}

#[test]
fn documents_are_separated_and_know_their_lines() {
    let text = format!("# first\n---\n{}---\n\n# second\n{}", service("a"), service("b"));
    assert_eq!(ids(&text), ["Service default/a", "Service default/b"]);
    let mut lines: Vec<u64> = parse(&text).unwrap().lines.into_values().collect();
    lines.sort_unstable();
    assert_eq!(lines, [3, 10]);
}

#[test]
fn empty_files_and_documents_are_fine() {
    for text in ["", "\n", "# nothing\n", "---\n---\n# still\n---\n", "null\n", "\u{feff}", "---\r\n---\r\n"]
    {
        assert_eq!(parse(text), Ok(Content::default()), "{text:?}");
    }
}

#[test]
fn json_is_read_in_one_long_line_and_with_tabs() {
    let item =
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"NAME"},"spec":{"clusterIP":"None"}}"#;
    let items: Vec<String> = (0..200).map(|i| item.replace("NAME", &format!("s{i}"))).collect();
    let list = format!(r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#, items.join(","));
    assert_eq!(ids(&list).len(), 200);
    let tabs = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"a\\u002db\"},\n\t\
                \"spec\": {\"clusterIP\": \"None\"}\n}\n";
    assert_eq!(ids(tabs), ["Service default/a-b"]);
}

#[test]
fn syntax_errors_name_their_line() {
    let (line, reason) = bad(&format!("{}---\na: [\n", service("a")));
    assert_eq!(line, Some(6));
    assert!(reason.contains("bracket"), "{reason}");
}

#[test]
fn a_key_twice_is_an_error() {
    let (line, reason) = bad("apiVersion: v1\nkind: Service\nkind: Pod\n");
    assert_eq!(line, Some(3));
    assert!(reason.contains("duplicate") && reason.contains("kind"), "{reason}");
}

#[test]
fn an_invalid_object_names_the_line_of_its_document() {
    let text = format!("{}---\n{}", service("a"), service("b").replace("None", "10.0.0.300"));
    let fault = parse(&text).unwrap_err();
    assert_eq!(fault.line, Some(6));
    assert_eq!(fault.object.as_deref(), Some("Service default/b"));
    assert_eq!(fault.reason, "spec.clusterIP: \"10.0.0.300\" is not an IP address");
}

#[test]
fn the_same_object_twice_in_a_file_is_an_error() {
    let (line, reason) = bad(&format!("{}---\n{}", service("a"), service("a")));
    assert_eq!(line, Some(6));
    assert_eq!(reason, "is already in this file, in the document at line 1; remove one");
}

#[test]
fn kinds_that_are_not_read_are_noticed_once_each() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n";
    let content = parse(&format!("{deployment}---\n{deployment}---\n{}", service("a"))).unwrap();
    assert_eq!(content.objects.len(), 1);
    let reasons: Vec<&str> = content.notices.iter().map(|notice| notice.reason.as_str()).collect();
    assert_eq!(reasons, ["2 of kind Deployment (apps/v1) ignored; Balancing does not read them"]);
}

#[test]
fn alias_bombs_are_errors() {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_string();
    for (one, other) in ('a'..='y').zip('b'..='z') {
        let ten = vec![format!("*{one}"); 10].join(",");
        text += &format!("{other}: &{other} [{ten}]\n");
    }
    parse(&text).unwrap_err();
}

#[test]
fn deep_flow_sequences_are_errors() {
    parse(&"[".repeat(100_000)).unwrap_err();
    parse(&("[".repeat(10_000) + &"]".repeat(10_000))).unwrap_err();
}

#[test]
fn deep_flow_mappings_are_errors() {
    parse(&"{a: ".repeat(100_000)).unwrap_err();
    parse(&"{".repeat(100_000)).unwrap_err();
}

#[test]
fn deep_block_mappings_are_errors() {
    parse(&(0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect::<String>()).unwrap_err();
}

#[test]
fn deep_block_sequences_are_errors() {
    parse(&"- ".repeat(10_000)).unwrap_err();
}

#[test]
fn deep_keys_are_errors() {
    parse(&"? ".repeat(10_000)).unwrap_err();
}

#[test]
fn aliases_can_not_nest_deeper_than_text() {
    let mut text = "a0: &a0 x\n".to_string();
    for depth in 1..5_000 {
        text += &format!("a{depth}: &a{depth} [*a{}]\n", depth - 1);
    }
    parse(&text).unwrap_err();
}

#[test]
fn ten_thousand_services_fit() {
    let mut text = String::new();
    for i in 0..10_000 {
        text += &format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec:\n  clusterIP: 10.0.{}.{}\n  \
             ports: [{{port: 80}}]\n",
            i / 250,
            i % 250 + 1
        );
    }
    assert_eq!(parse(&text).unwrap().objects.len(), 10_000);
}

#[test]
fn fields_that_nobody_knows_are_told_of_but_not_without_end() {
    let service = |number: usize| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\n\
             spec: {{clusterIP: None, ports: [{{port: 80, protocl: UDP}}], clusterIp: x}}\n---\n"
        )
    };
    let content = parse(&service(0)).unwrap();
    let told: Vec<(Option<u64>, &str)> =
        content.notices.iter().map(|it| (it.line, it.reason.as_str())).collect();
    let what = "is no known field, and has no effect; is it written right?";
    assert_eq!(
        told,
        [
            (Some(1), format!("spec.clusterIp: {what}").as_str()),
            (Some(1), format!("spec.ports[0].protocl: {what}").as_str())
        ]
    );
    let content = parse(&(0..20).map(service).collect::<String>()).unwrap();
    assert_eq!(content.notices.len(), MAX_NOTICES + 1);
    assert!(content.notices[MAX_NOTICES].reason.starts_with("20 more"), "{:?}", content.notices);
}

#[test]
fn as_many_notices_as_may_be_are_all_there() {
    for (kinds, last) in [(MAX_NOTICES, false), (MAX_NOTICES + 1, true)] {
        let document =
            |n| format!("---\napiVersion: example.com/v1\nkind: Kind{n:04}\nmetadata: {{name: a}}\n");
        let content = parse(&(0..kinds).map(document).collect::<String>()).unwrap();
        assert_eq!(content.notices.len(), kinds);
        let left_out =
            content.notices.iter().any(|it| it.reason == "1 more notices about this file are left out");
        assert_eq!(left_out, last, "{kinds}");
    }
}
