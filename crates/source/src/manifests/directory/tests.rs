mod problems;

use std::{collections::BTreeMap, os::unix::fs::symlink, thread};

use tempfile::TempDir;

use super::*;

/// A directory, and what a listener knows of it.
struct World {
    temp: TempDir,
    directory: Directory,
    known: BTreeMap<ObjectId, Object>,
}

impl World {
    fn new() -> Self {
        let temp = TempDir::new().unwrap();
        let path = temp.path().join("manifests");
        fs::create_dir(&path).unwrap();
        Self { directory: Directory::new(path), temp, known: BTreeMap::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Puts a file in place that was written some time ago.
    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let draft = self.temp.path().join("draft");
        fs::write(&draft, text).unwrap();
        let time = SystemTime::now() - Duration::from_secs(10);
        File::options().write(true).open(&draft).unwrap().set_modified(time).unwrap();
        fs::rename(&draft, self.path(name)).unwrap();
    }

    /// Makes a file look as if it had been written some seconds ago.
    fn age(&self, name: &str, seconds: u64) {
        let time = SystemTime::now() - Duration::from_secs(seconds);
        File::options().write(true).open(self.path(name)).unwrap().set_modified(time).unwrap();
    }

    /// Looks, and applies what changed; every change must be news.
    fn scan(&mut self) -> Batch {
        let batch = self.directory.scan();
        for change in &batch.changes {
            match change {
                Change::Upsert(object) => {
                    let old = self.known.insert(object.id(), object.clone());
                    assert_ne!(old.as_ref(), Some(object), "no news");
                }
                Change::Delete(id) => assert!(self.known.remove(id).is_some(), "no news"),
            }
        }
        batch
    }

    fn names(&self) -> Vec<String> {
        self.known.keys().map(|id| id.name.name.clone()).collect()
    }

    /// Looks, and tells what is known afterwards.
    fn look(&mut self) -> Vec<String> {
        self.scan();
        self.names()
    }

    /// The problems, without the path of the directory.
    fn problems(&mut self) -> Vec<String> {
        let prefix = format!("{}/", self.directory.path().display());
        self.scan().problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
    }
}

fn service(name: &str) -> String {
    with_ip(name, "10.96.0.1")
}

fn with_ip(name: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}\n"
    )
}

#[test]
fn yaml_yml_and_json_files_are_read_and_others_are_not() {
    let mut world = World::new();
    world.write("a.yaml", service("a"));
    world.write("b.yml", service("b"));
    world.write(
        "c.json",
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"},"spec":{"clusterIP":"None"}}"#,
    );
    for name in [".hidden.yaml", "backup.yaml~", "notes.txt", "yaml", "d.yaml.tmp"] {
        world.write(name, service("no"));
    }
    fs::create_dir(world.path("sub.yaml")).unwrap();
    assert_eq!(world.look(), ["a", "b", "c"]);
    assert_eq!(world.problems(), [""; 0]);
}

#[test]
fn a_second_look_finds_nothing_new() {
    let mut world = World::new();
    world.write("a.yaml", service("a"));
    let first = world.scan();
    assert!(first.complete && !first.unsettled && first.changes.len() == 1);
    assert_eq!(world.scan(), Batch { complete: true, whole: true, ..Batch::default() });
}

#[test]
fn a_file_that_was_never_read_well_leaves_open_what_is_not_there() {
    let mut world = World::new();
    world.write("a.yaml", service("a"));
    world.write("b.yaml", "a: [\n");
    assert!(!world.scan().whole);
    world.write("b.yaml", service("b"));
    assert!(world.scan().whole);
    // From here on its last good content is known.
    world.write("b.yaml", "a: [\n");
    assert!(world.scan().whole);
}

#[test]
fn objects_are_added_changed_and_removed_with_their_files() {
    let mut world = World::new();
    world.write("a.yaml", service("a") + &service("b"));
    assert_eq!(world.look(), ["a", "b"]);
    world.write("a.yaml", service("a") + &with_ip("b", "10.96.0.2") + &service("c"));
    let batch = world.scan();
    assert_eq!((batch.changes.len(), world.names()), (2, vec!["a".into(), "b".into(), "c".into()]));
    world.write("a.yaml", service("c"));
    assert_eq!(world.look(), ["c"]);
    fs::remove_file(world.path("a.yaml")).unwrap();
    assert_eq!(world.look(), [""; 0]);
}

#[test]
fn a_file_renamed_into_place_is_one_batch() {
    let mut world = World::new();
    world.write("a.yaml", service("a") + &service("b"));
    world.scan();
    world.write(".a.yaml.new", service("b") + &service("c"));
    fs::rename(world.path(".a.yaml.new"), world.path("a.yaml")).unwrap();
    let batch = world.scan();
    assert_eq!((batch.changes.len(), world.names()), (2, vec!["b".into(), "c".into()]));
}

#[test]
fn an_object_that_moves_between_files_does_not_change() {
    let mut world = World::new();
    world.write("a.yaml", service("a"));
    world.scan();
    fs::rename(world.path("a.yaml"), world.path("b.yaml")).unwrap();
    assert_eq!(world.scan().changes, []);
}

#[test]
fn a_broken_file_keeps_all_of_its_last_good_content_and_harms_no_other() {
    let breakages: [(&str, &[u8]); 4] = [
        ("a.yaml:5: unclosed bracket", b"a: 1\n---\na: 2\n---\n? [\n"),
        (
            "a.yaml:2: Service: metadata.name: invalid type",
            b"---\napiVersion: v1\nkind: Service\nmetadata: {name: 7}\n",
        ),
        ("a.yaml:2: document: apiVersion: is missing", b"---\nhello: world\n"),
        ("a.yaml:2: is not UTF-8", b"# fine\n\xff\n"),
    ];
    for (expected, text) in breakages {
        let mut world = World::new();
        world.write("a.yaml", service("a") + &service("b"));
        world.write("z.yaml", service("z"));
        world.scan();
        world.write("a.yaml", text);
        world.write("z.yaml", service("z") + &service("y"));
        let problems = world.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(expected), "{problems:?}");
        assert_eq!(world.names(), ["a", "b", "y", "z"]);
        // It stays reported, though it is not read again, and goes away with the mistake.
        assert_eq!(world.problems(), problems);
        world.write("a.yaml", service("a"));
        assert_eq!(world.problems(), [""; 0]);
        assert_eq!(world.names(), ["a", "y", "z"]);
    }
}

#[test]
fn a_problem_names_file_line_object_and_reason() {
    let mut world = World::new();
    world.write("a.yaml", service("a") + &with_ip("b", "10.96.0.300"));
    assert_eq!(
        world.problems(),
        ["a.yaml:7: Service default/b: spec.clusterIP: \"10.96.0.300\" is not an IP address"]
    );
    assert_eq!(world.names(), [""; 0], "there is no last good content");
}

#[test]
fn a_broken_file_that_vanishes_takes_its_objects_and_its_problem_with_it() {
    let mut world = World::new();
    world.write("a.yaml", service("a"));
    world.scan();
    world.write("a.yaml", "a: [");
    assert_eq!(world.problems().len(), 1);
    fs::remove_file(world.path("a.yaml")).unwrap();
    assert_eq!(world.problems(), [""; 0]);
    assert_eq!(world.names(), [""; 0]);
}

#[test]
fn a_directory_that_vanishes_keeps_everything_until_it_is_back() {
    let mut world = World::new();
    world.write("a.yaml", service("a"));
    world.write("b.yaml", "a: [");
    world.scan();
    let (here, away) = (world.directory.path().to_owned(), world.temp.path().join("away"));
    fs::rename(&here, &away).unwrap();
    for _ in 0..2 {
        let batch = world.scan();
        assert!(!batch.complete && batch.changes.is_empty());
        assert_eq!(batch.problems.len(), 2, "the directory, and still the broken file");
        assert!(batch.problems[0].reason.contains("everything stays as it was"));
    }
    fs::create_dir(&here).unwrap();
    world.write("c.yaml", service("c"));
    assert_eq!(world.look(), ["c"]);
    assert_eq!(world.problems(), [""; 0]);
}

#[test]
fn an_object_in_two_files_is_held_by_the_first_in_name_order() {
    let mut world = World::new();
    let conflict = |holder: &str| {
        vec![format!("b.yaml:2: Service default/x: is also in {holder}, which holds it; remove one of them")]
    };
    let ip = |world: &World| match world.known.values().next() {
        Some(Object::Service(service)) => service.cluster_ips[0].to_string(),
        other => panic!("{other:?}"),
    };
    world.write("b.yaml", with_ip("x", "10.96.0.2"));
    world.scan();
    assert_eq!(ip(&world), "10.96.0.2");
    world.write("a.yaml", with_ip("x", "10.96.0.1"));
    assert_eq!(world.problems(), conflict("a.yaml"));
    assert_eq!(ip(&world), "10.96.0.1");
    // What the other says of it has no effect.
    world.write("b.yaml", with_ip("x", "10.96.0.3"));
    assert_eq!(world.problems(), conflict("a.yaml"));
    assert_eq!(ip(&world), "10.96.0.1");
    // The first lets go: the other takes over.
    fs::remove_file(world.path("a.yaml")).unwrap();
    assert_eq!(world.problems(), [""; 0]);
    assert_eq!(ip(&world), "10.96.0.3");
}

#[test]
fn links_are_followed_as_in_a_mounted_config_map() {
    let mut world = World::new();
    for (version, name) in [("..v1", "a"), ("..v2", "b")] {
        fs::create_dir(world.path(version)).unwrap();
        world.write(&format!("{version}/x.yaml"), service(name));
    }
    symlink("..v1", world.path("..data")).unwrap();
    symlink("..data/x.yaml", world.path("x.yaml")).unwrap();
    symlink("nowhere", world.path("dangling.yaml")).unwrap();
    assert_eq!(world.look(), ["a"]);
    symlink("..v2", world.path("..data_tmp")).unwrap();
    fs::rename(world.path("..data_tmp"), world.path("..data")).unwrap();
    assert_eq!(world.look(), ["b"]);
}

#[test]
fn only_files_that_changed_are_read_again() {
    let mut world = World::new();
    world.write("a.yaml", service("a"));
    world.scan();
    // Same size, same inode, same time: as far as anybody can tell, the same file.
    let time = fs::metadata(world.path("a.yaml")).unwrap().modified().unwrap();
    fs::write(world.path("a.yaml"), service("b")).unwrap();
    File::options().write(true).open(world.path("a.yaml")).unwrap().set_modified(time).unwrap();
    assert_eq!(world.look(), ["a"]);
    world.age("a.yaml", 5);
    assert_eq!(world.look(), ["a"], "it was changed in place: somebody may still be writing");
    thread::sleep(FRESH);
    assert_eq!(world.look(), ["b"]);
}

#[test]
fn whatever_the_clock_says_a_file_is_at_rest_when_it_has_not_changed_for_a_while() {
    // Of a server with another time, or because ours was set: long ago, and in the future.
    for seconds in [-86_400_i64, 86_400] {
        let mut world = World::new();
        let set = |world: &World, text: &str, step: u64| {
            fs::write(world.path("a.yaml"), text).unwrap();
            let (now, away) = (SystemTime::now(), Duration::from_secs(seconds.unsigned_abs()));
            let there = if seconds < 0 { now - away } else { now + away };
            let time = there + Duration::from_millis(step);
            File::options().write(true).open(world.path("a.yaml")).unwrap().set_modified(time).unwrap();
        };
        set(&world, &(service("a") + &service("b")), 0);
        assert_eq!(world.look(), ["a", "b"]);
        thread::sleep(FRESH);
        world.scan();
        for (step, half_written) in [(1, service("a")), (2, "spec: [".to_string())] {
            set(&world, &half_written, step);
            let batch = world.scan();
            assert!(batch.unsettled, "{seconds}");
            assert_eq!((world.names(), batch.problems), (vec!["a".into(), "b".into()], vec![]), "{seconds}");
        }
        set(&world, &service("b"), 3);
        world.scan();
        thread::sleep(FRESH);
        assert_eq!(world.look(), ["b"], "{seconds}");
        assert!(!world.scan().unsettled, "{seconds}");
    }
}

#[test]
fn an_empty_file_takes_nothing_away() {
    for nothing in ["", " \n", "\0\0\0\0"] {
        let mut world = World::new();
        world.write("a.yaml", service("a"));
        world.scan();
        world.write("a.yaml", nothing);
        let problems = world.problems();
        assert!(problems.len() == 1 && problems[0].starts_with("a.yaml: is empty"), "{problems:?}");
        assert_eq!(world.names(), ["a"]);
        // A comment is something, and says that there is nothing.
        world.write("a.yaml", "# gone");
        assert_eq!(world.look(), [""; 0]);
        assert_eq!(world.problems(), [""; 0]);
    }
}

#[test]
fn an_empty_directory_in_place_of_the_one_that_was_takes_nothing_away() {
    let mut world = World::new();
    world.write("a.yaml", service("a"));
    world.scan();
    let (here, away) = (world.directory.path().to_owned(), world.temp.path().join("away"));
    fs::rename(&here, &away).unwrap();
    fs::create_dir(&here).unwrap();
    for _ in 0..2 {
        let batch = world.scan();
        assert!(!batch.complete && batch.changes.is_empty(), "{batch:?}");
        assert!(batch.problems[0].reason.contains("which is empty"), "{batch:?}");
    }
    // With something in it, it is the one that counts; and once it does, it may become empty.
    world.write("b.yaml", service("b"));
    assert_eq!(world.look(), ["b"]);
    fs::remove_file(world.path("b.yaml")).unwrap();
    assert_eq!(world.look(), [""; 0]);
    assert_eq!(world.problems(), [""; 0]);
}

#[test]
fn a_file_that_was_just_written_is_looked_at_again() {
    let mut world = World::new();
    fs::write(world.path("a.yaml"), service("a")).unwrap();
    let batch = world.scan();
    assert!(batch.unsettled);
    assert_eq!(world.names(), ["a"], "but what it adds counts at once");
    thread::sleep(FRESH + Duration::from_millis(10));
    assert!(!world.scan().unsettled);
}

#[test]
fn a_file_that_is_being_written_is_not_believed_to_have_lost_anything() {
    let mut world = World::new();
    world.write("a.yaml", service("a") + &service("b"));
    world.scan();
    for unfinished in [String::new(), service("a"), "spec: [".to_string()] {
        fs::write(world.path("a.yaml"), unfinished).unwrap();
        let batch = world.scan();
        assert!(batch.unsettled);
        assert_eq!((world.names(), batch.problems), (vec!["a".into(), "b".into()], vec![]));
    }
    world.write("a.yaml", service("b"));
    assert_eq!(world.look(), ["b"]);
}

#[test]
fn a_file_that_is_written_over_and_over_is_believed_after_a_while() {
    let mut world = World::new();
    world.write("a.yaml", service("a") + &service("b"));
    world.scan();
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.names() != ["b"] {
        assert!(Instant::now() < deadline);
        fs::write(world.path("a.yaml"), service("b")).unwrap();
        world.scan();
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_no_file_or_too_large_is_reported() {
    let mut world = World::new();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.path("pipe.yaml"), 0o600.into()).unwrap();
    File::create(world.path("large.yaml")).unwrap().set_len(MAX_BYTES + 1).unwrap();
    world.write("good.yaml", service("good"));
    assert_eq!(
        world.problems(),
        ["large.yaml: is larger than 64 MiB; split it", "pipe.yaml: is not a regular file"]
    );
    assert_eq!(world.names(), ["good"]);
    // One byte less is too much for YAML, but not for us.
    File::options().write(true).open(world.path("large.yaml")).unwrap().set_len(MAX_BYTES).unwrap();
    world.age("large.yaml", 5);
    let problems = world.problems();
    assert!(problems.len() == 2 && !problems[0].contains("larger"), "{problems:?}");
}

#[test]
fn a_file_that_can_not_be_looked_at_is_not_gone() {
    let mut world = World::new();
    world.write("a.yaml", service("a"));
    world.scan();
    fs::remove_file(world.path("a.yaml")).unwrap();
    symlink("a.yaml", world.path("a.yaml")).unwrap();
    let problems = world.problems();
    assert!(problems.len() == 1 && problems[0].starts_with("a.yaml: "), "{problems:?}");
    assert_eq!(world.names(), ["a"]);
    // Nor does one come to be for a link that leads nowhere.
    fs::remove_file(world.path("a.yaml")).unwrap();
    symlink("nowhere.yaml", world.path("a.yaml")).unwrap();
    assert_eq!(world.problems(), [""; 0]);
    assert_eq!(world.names(), [""; 0]);
}

#[test]
fn a_file_that_does_not_hold_as_much_as_it_says_is_not_read() {
    let mut world = World::new();
    // The kernel makes up the content of its files as they are read, and calls them empty.
    symlink("/proc/version", world.path("a.yaml")).unwrap();
    for _ in 0..2 {
        let batch = world.scan();
        assert!(batch.unsettled && !batch.whole && batch.problems.is_empty(), "{batch:?}");
    }
}

#[test]
fn what_is_not_utf8_is_so_in_a_line() {
    let table: [(&[u8], u64); 4] =
        [(b"\xff", 1), (b"# fine\n\xff", 2), (b"# fine\n\n# fine\xff\n", 3), (b"a: \xc3\n", 1)];
    for (bytes, line) in table {
        assert_eq!(parse_bytes(bytes).unwrap_err().line, Some(line), "{bytes:?}");
    }
}
