use std::{fs, path::Path};

use model::{Change, Kind, ObjectId, ObjectName};
use tempfile::TempDir;
use tokio::sync::mpsc::{self, Receiver};

use super::*;
use crate::{Place, Severity};

fn service(name: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: None}}\n")
}

fn replace(directory: &Path, name: &str, text: &str) {
    let temporary = directory.join(format!(".{name}.new"));
    fs::write(&temporary, text).unwrap();
    fs::rename(temporary, directory.join(name)).unwrap();
}

async fn next(updates: &mut Receiver<Update>) -> Update {
    time::timeout(Duration::from_secs(10), updates.recv()).await.expect("no update in time").expect("ended")
}

/// Updates until one passes, which must come well before the next look without a sign if `quick`.
async fn until(updates: &mut Receiver<Update>, wanted: impl Fn(&Update) -> bool) -> Update {
    loop {
        let update = next(updates).await;
        if wanted(&update) {
            return update;
        }
    }
}

fn names(update: &Update) -> Vec<String> {
    match update {
        Update::Changes(changes) => changes
            .iter()
            .map(|change| match change {
                Change::Upsert(object) => format!("+{}", object.id().name.name),
                Change::Delete(id) => format!("-{}", id.name.name),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn start(directory: &Path) -> Receiver<Update> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(Manifests::open(directory).unwrap().run(sender));
    receiver
}

#[test]
fn a_directory_that_is_not_there_can_not_be_opened() {
    let error = Manifests::open("/nonexistent/manifests").unwrap_err().to_string();
    assert!(error.starts_with("manifests directory /nonexistent/manifests: "), "{error}");
}

#[tokio::test]
async fn namespaces_that_say_something_come_and_go_and_others_are_nothing_to_tell_of() {
    let temp = tempfile::tempdir().unwrap();
    let namespace = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: mesh, annotations: {{balancing.elf.io/socket-lb: '{value}'}}}}\n"
        )
    };
    let plain = "apiVersion: v1\nkind: Namespace\nmetadata: {name: plain}\n";
    replace(temp.path(), "plain.yaml", plain);
    replace(temp.path(), "mesh.yaml", &namespace("false"));
    let mut updates = start(temp.path());
    assert_eq!(names(&next(&mut updates).await), ["+mesh"]);
    until(&mut updates, |update| *update == Update::Synced).await;
    replace(temp.path(), "mesh.yaml", &namespace("no"));
    let told = until(&mut updates, |update| matches!(update, Update::Problems(_))).await;
    let Update::Problems(problems) = told else { panic!("{told:?}") };
    let [problem] = &problems[..] else { panic!("{problems:?}") };
    assert_eq!(problem.severity, Severity::Notice);
    let text = problem.to_string();
    for words in ["mesh.yaml", "Namespace mesh", "balancing.elf.io/socket-lb", "neither"] {
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn looking_without_a_sign_takes_little_of_the_time() {
    let table = [(false, 0, 1_000), (false, 5, 1_000), (false, 50, 10_000), (true, 0, 100), (true, 50, 100)];
    for (unsettled, took, expected) in table {
        let waited = pause(unsettled, Duration::from_millis(took));
        assert_eq!(waited, Duration::from_millis(expected), "{unsettled} {took}");
    }
}

#[tokio::test]
async fn the_first_batch_is_followed_by_synced_and_later_ones_are_not() {
    let temp = TempDir::new().unwrap();
    replace(temp.path(), "a.yaml", &(service("a") + &service("b")));
    let mut updates = start(temp.path());
    assert_eq!(names(&next(&mut updates).await), ["+a", "+b"]);
    assert_eq!(next(&mut updates).await, Update::Synced);

    // On a busy machine the first file has settled meanwhile.
    let later = |update: &Update| *update != Update::Complete;
    replace(temp.path(), "c.yaml", &service("c"));
    assert_eq!(names(&until(&mut updates, later).await), ["+c"]);
    fs::remove_file(temp.path().join("a.yaml")).unwrap();
    assert_eq!(names(&until(&mut updates, later).await), ["-a", "-b"]);
    replace(temp.path(), "c.yaml", &service("d"));
    let swap = Update::Changes(vec![
        Change::Delete(ObjectId { kind: Kind::Service, name: ObjectName::new("default", "c") }),
        match parse(&service("d")).unwrap().objects.into_values().next() {
            Some(object) => Change::Upsert(model::Object::clone(&object)),
            None => panic!("no object"),
        },
    ]);
    assert_eq!(until(&mut updates, later).await, swap);
}

#[tokio::test]
async fn an_empty_directory_is_synced_at_once() {
    let temp = TempDir::new().unwrap();
    assert_eq!(next(&mut start(temp.path())).await, Update::Synced);
}

#[tokio::test]
async fn problems_come_and_go() {
    let temp = TempDir::new().unwrap();
    let mut updates = start(temp.path());
    assert_eq!(next(&mut updates).await, Update::Synced);
    assert_eq!(next(&mut updates).await, Update::Complete);
    replace(temp.path(), "a.yaml", "a: [\n");
    let Update::Problems(problems) = next(&mut updates).await else { panic!("no problems") };
    assert_eq!(
        (problems[0].place.clone(), problems[0].severity),
        (Place::File(temp.path().join("a.yaml")), Severity::Error)
    );
    fs::remove_file(temp.path().join("a.yaml")).unwrap();
    assert_eq!(next(&mut updates).await, Update::Problems(vec![]));
}

#[tokio::test]
async fn a_directory_that_comes_back_is_followed_again() {
    let temp = TempDir::new().unwrap();
    let path = temp.path().join("manifests");
    fs::create_dir(&path).unwrap();
    replace(&path, "a.yaml", &service("a"));
    let mut updates = start(&path);
    until(&mut updates, |update| *update == Update::Synced).await;

    fs::rename(&path, temp.path().join("away")).unwrap();
    until(&mut updates, |update| matches!(update, Update::Problems(list) if !list.is_empty())).await;
    fs::create_dir(&path).unwrap();
    replace(&path, "b.yaml", &service("b"));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(names(&next(&mut updates).await));
    }
    seen.sort();
    assert_eq!(seen, ["+b", "-a"]);
    // With the new directory's own watch: sooner than by looking now and then.
    replace(&path, "c.yaml", &service("c"));
    until(&mut updates, |update| names(update) == ["+c"]).await;
}

#[tokio::test]
async fn a_change_is_seen_at_once_and_not_only_by_looking_now_and_then() {
    let temp = TempDir::new().unwrap();
    let mut updates = start(temp.path());
    assert_eq!(next(&mut updates).await, Update::Synced);
    let started = Instant::now();
    for round in 0..5 {
        replace(temp.path(), "a.yaml", &service(&format!("s{round}")));
        until(&mut updates, |update| names(update).contains(&format!("+s{round}"))).await;
    }
    assert!(started.elapsed() < 4 * RESCAN, "{:?}", started.elapsed());
}

#[tokio::test]
async fn it_ends_when_nobody_listens() {
    let temp = TempDir::new().unwrap();
    let (sender, receiver) = mpsc::channel(1);
    let task = tokio::spawn(Manifests::open(temp.path()).unwrap().run(sender));
    drop(receiver);
    time::timeout(Duration::from_secs(10), task).await.expect("did not end").unwrap();
}
