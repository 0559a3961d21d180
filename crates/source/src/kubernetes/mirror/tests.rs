use super::*;

fn server() -> Arc<str> {
    "https://s".into()
}

fn put(mirror: &mut Mirror, name: &str, version: u32, spec: &str) -> Option<Change> {
    let text = format!(
        r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}","namespace":"n","resourceVersion":"{version}"}},
        "spec":{spec}}}"#
    );
    let sent = Sent::read(&text).unwrap();
    mirror.put(&sent, &server())
}

const HEADLESS: &str = r#"{"clusterIP":"None"}"#;
const BROKEN: &str = r#"{"clusterIP":"None","type":"Nonsense"}"#;
/// Of a type that it can't have.
const WRONG: &str = r#"{"clusterIP":["None"]}"#;

fn listed(names: &[&str]) -> Mirror {
    let mut mirror = Mirror::new(Kind::Service);
    mirror.begin_list();
    for (version, name) in (1..).zip(names) {
        assert!(matches!(put(&mut mirror, name, version, HEADLESS), Some(Change::Upsert(_))));
    }
    assert_eq!(mirror.end_list("10"), []);
    mirror
}

fn deleted(name: &str) -> Change {
    Change::Delete(ObjectId { kind: Kind::Service, name: ObjectName::new("n", name) })
}

#[test]
fn r27_only_a_complete_list_says_what_is_gone() {
    let mut mirror = listed(&["a", "b", "c"]);
    assert_eq!(mirror.version(), Some("10"));
    mirror.begin_list();
    assert_eq!(mirror.version(), None, "an incomplete list can't be gone on from");
    assert_eq!(put(&mut mirror, "a", 1, HEADLESS), None, "not news");
    mirror.break_list();
    assert_eq!(mirror.end_list("20"), []);
    mirror.begin_list();
    put(&mut mirror, "c", 3, HEADLESS);
    let mut gone = mirror.end_list("20");
    gone.sort_by_key(|change| format!("{change:?}"));
    assert_eq!(gone, [deleted("a"), deleted("b")]);
    assert_eq!(mirror.version(), Some("20"));
}

#[test]
fn a_watch_goes_on_from_what_came_last() {
    let mut mirror = listed(&["a"]);
    assert!(put(&mut mirror, "a", 11, HEADLESS).is_some());
    assert_eq!(mirror.version(), Some("11"));
    mirror.reach("15");
    assert_eq!(mirror.version(), Some("15"));
    let text = r#"{"metadata":{"name":"a","namespace":"n","resourceVersion":"16"}}"#;
    assert_eq!(mirror.delete(&Sent::read(text).unwrap()), Some(deleted("a")));
    assert_eq!(mirror.version(), Some("16"));
    assert_eq!(mirror.delete(&Sent::read(text).unwrap()), None);
    mirror.forget_version();
    assert_eq!(mirror.version(), None);
}

#[test]
fn r27_an_object_that_is_not_understood_stays_what_it_was() {
    let mut mirror = listed(&["a", "b"]);
    for (version, spec) in [(11, BROKEN), (12, WRONG)] {
        assert_eq!(put(&mut mirror, "a", version, spec), None);
        let problems: Vec<String> = mirror.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 1, "{problems:?}");
        for words in ["https://s: Service n/a: ", "what it said before stays in force"] {
            assert!(problems[0].contains(words), "{problems:?}");
        }
    }
    assert!(put(&mut mirror, "a", 13, HEADLESS).is_some());
    assert_eq!(mirror.problems(), []);
    // One that never was in force is no loss.
    assert_eq!(put(&mut mirror, "c", 14, BROKEN), None);
    assert!(!mirror.problems()[0].reason.contains("before"));
    mirror.begin_list();
    put(&mut mirror, "a", 13, HEADLESS);
    assert_eq!(mirror.end_list("20"), [deleted("b")]);
    assert_eq!(mirror.problems(), []);
}

#[test]
fn of_thousands_of_problems_the_first_are_told_of() {
    let mut mirror = listed(&["a"]);
    assert!(!mirror.take_news_of_problems());
    for number in 0..150 {
        put(&mut mirror, &format!("bad-{number:03}"), 100 + number, BROKEN);
        assert!(mirror.take_news_of_problems());
        put(&mut mirror, "a", 1000 + number, HEADLESS);
        assert!(!mirror.take_news_of_problems());
    }
    let problems = mirror.problems();
    assert_eq!(problems.len(), MOST_PROBLEMS + 1);
    assert!(problems[MOST_PROBLEMS].reason.starts_with("50 more problems"), "{}", problems[MOST_PROBLEMS]);
}

#[test]
fn r27_a_version_of_another_history_is_read_again() {
    let mut mirror = listed(&["a"]);
    mirror.doubt_everything();
    mirror.begin_list();
    assert!(put(&mut mirror, "a", 1, HEADLESS).is_some(), "another content under the same number");
}

#[test]
fn what_is_not_understood_is_told_in_the_same_words_whatever_was_known_before() {
    let told = |mirror: &mut Mirror, version| {
        put(mirror, "a", version, BROKEN);
        let told = mirror.take_notices();
        assert_eq!(told.len(), 1, "{told:?}");
        told
    };
    let mut fresh = Mirror::new(Kind::Service);
    let mut other = listed(&["a"]);
    let first = told(&mut fresh, 11);
    assert_eq!(first, told(&mut other, 11));
    assert!(first[0].note.contains("spec.type"), "{first:?}");
    // Each time that it comes, and not when nothing has come.
    assert_eq!(first, told(&mut other, 12));
    put(&mut other, "a", 12, BROKEN);
    assert!(other.take_notices().is_empty());
    let text = r#"{"metadata":{"name":"b","namespace":"n","uid":"u1","resourceVersion":"13"},"spec":{"type":"Nonsense"}}"#;
    other.put(&Sent::read(text).unwrap(), &server());
    let regarding = other.take_notices().remove(0).regarding;
    assert_eq!((regarding.object.to_string().as_str(), regarding.uid.as_str()), ("Service n/b", "u1"));
}

#[test]
fn what_is_passed_on_comes_as_it_was_sent_and_goes_with_a_list_or_a_word() {
    let mut mirror = Mirror::new(Kind::Service).passing_on();
    mirror.begin_list();
    assert_eq!(put(&mut mirror, "a", 1, WRONG), None);
    assert_eq!(put(&mut mirror, "b", 2, HEADLESS), None);
    assert_eq!(mirror.end_list("10"), []);
    let shown = |mirror: &mut Mirror| -> Vec<(String, String, bool)> {
        let all = mirror.take_as_sent().into_iter();
        all.map(|it| (it.object.name.name.clone(), it.version.to_string(), it.text.is_some())).collect()
    };
    let line = |name: &str, version: &str, is_there| (name.to_owned(), version.to_owned(), is_there);
    assert_eq!(shown(&mut mirror), [line("a", "1", true), line("b", "2", true)]);
    assert_eq!(mirror.problems(), []);

    mirror.begin_list();
    put(&mut mirror, "a", 1, WRONG);
    put(&mut mirror, "a", 12, HEADLESS);
    assert_eq!(mirror.end_list("20"), []);
    assert_eq!(shown(&mut mirror), [line("a", "12", true), line("b", "20", false)]);
    let gone = r#"{"metadata":{"name":"a","namespace":"n","resourceVersion":"21"}}"#;
    assert_eq!(mirror.delete(&Sent::read(gone).unwrap()), None);
    assert_eq!(shown(&mut mirror), [line("a", "21", false)]);
}
