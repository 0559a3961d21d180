//! What others do to pins, maps and links, and what does not fit: the agent says what it found, makes it good, and who
//! has nothing to do with it does not notice.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use abi::{Backend, Key, Name, Record};
use balancing_tests::process::{Answer, Host, PATIENCE, program, traffic::Traffic, web};
use kernel::{Contents, Maps, Pins, TableStore};
use testkit::wait;

/// Audits as often as may be, of small tables: nobody waits half a minute here.
const OFTEN: [&str; 6] = ["--audit-interval", "100ms", "--max-services", "64", "--max-backends", "1024"];

fn maps(host: &Host) -> Maps {
    Maps::open(&Pins::new(host.pins())).unwrap()
}

/// The entries of `victim` in the tables.
struct Entries {
    frontends: Vec<(Key, u32)>,
    records: Vec<(u32, Record)>,
    lists: Vec<(u32, u32)>,
    backends: Vec<(u32, Backend)>,
    names: Vec<(u32, Name)>,
}

fn entries(contents: &Contents, service: &str) -> Entries {
    let names: Vec<_> =
        contents.names.iter().filter(|(_, name)| Name::text(&name.service) == service).copied().collect();
    let is_its = |id: u32| names.iter().any(|(name, _)| *name == id);
    let frontends: Vec<(Key, u32)> = contents
        .frontends
        .iter()
        .filter(|(_, index)| {
            contents.records.iter().any(|(it, record)| it == index && is_its(record.service))
        })
        .copied()
        .collect();
    let records: Vec<(u32, Record)> = contents
        .records
        .iter()
        .filter(|(index, _)| frontends.iter().any(|(_, it)| it == index))
        .copied()
        .collect();
    let positions = records.iter().flat_map(|(_, it)| it.local.start..it.local.start + it.local.len);
    let lists = positions.map(|position| (position, contents.lists[position as usize])).collect();
    let backends = contents.backends.iter().filter(|(_, it)| is_its(it.service)).copied().collect();
    Entries { frontends, records, lists, backends, names }
}

/// The maps that refer to one another, and change their layout together.
const TABLES: [&str; 10] = [
    "frontends4",
    "frontends6",
    "records",
    "lists",
    "backends",
    "names",
    "sources",
    "addresses4",
    "addresses6",
    "spaces",
];

/// Spoils what the first service has in the tables; the second is another one.
type Spoil = fn(&mut Maps, &Entries, &Entries);

/// Ways to spoil it.
const SPOILS: [(&str, Spoil); 11] = [
    ("backends zeroed", |maps, its, _| {
        maps.put_backends(&each(&its.backends, |_| Backend::default())).unwrap();
    }),
    ("backends that are garbage", |maps, its, _| {
        maps.put_backends(&each(&its.backends, |_| garbage())).unwrap();
    }),
    ("backends of another service", |maps, its, others| {
        maps.put_backends(&each(&its.backends, |_| others.backends[0].1)).unwrap();
    }),
    ("records zeroed", |maps, its, _| {
        maps.put_records(&each(&its.records, |_| Record::default())).unwrap();
    }),
    ("records that are garbage", |maps, its, _| {
        maps.put_records(&each(&its.records, |_| garbage())).unwrap();
    }),
    ("records with endless lists", |maps, its, _| {
        let endless = |it: Record| Record { local: abi::Range { start: 7, len: u32::MAX - 3 }, ..it };
        maps.put_records(&each(&its.records, endless)).unwrap();
    }),
    ("frontends elsewhere, and one nobody knows", |maps, its, others| {
        let mut wrong = each(&its.frontends, |_| others.records[0].0);
        let mut unknown = its.frontends[0].0;
        unknown.endpoint.port_be = 4242;
        wrong.push((unknown, u32::MAX));
        maps.put_frontends(&wrong).unwrap();
    }),
    ("no frontends", |maps, its, _| {
        maps.delete_frontends(&its.frontends.iter().map(|(key, _)| *key).collect::<Vec<_>>()).unwrap();
    }),
    ("lists that lead nowhere", |maps, its, _| {
        let nowhere = |(position, _): &(u32, u32)| (*position, Backend::default().listed(u32::MAX));
        maps.put_lists(&its.lists.iter().map(nowhere).collect::<Vec<_>>()).unwrap();
    }),
    ("lists that lead elsewhere than they say", |maps, its, others| {
        let wrong = |(position, index): &(u32, u32)| (*position, others.backends[0].1.listed(*index));
        maps.put_lists(&its.lists.iter().map(wrong).collect::<Vec<_>>()).unwrap();
    }),
    ("names that are garbage", |maps, its, _| {
        maps.put_names(&each(&its.names, |_| garbage())).unwrap();
    }),
];

fn each<K: Copy, V: Copy>(entries: &[(K, V)], change: impl Fn(V) -> V) -> Vec<(K, V)> {
    entries.iter().map(|(key, value)| (*key, change(*value))).collect()
}

fn garbage<T: bytemuck::Pod>() -> T {
    let mut value = T::zeroed();
    for (place, byte) in bytemuck::bytes_of_mut(&mut value).iter_mut().enumerate() {
        *byte = (place * 89 + 167) as u8;
    }
    value
}

#[test]
fn r6_garbage_in_the_maps_is_found_and_repaired_and_who_is_not_concerned_does_not_notice() {
    let host = Host::new("garbage").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    host.write("victim.yaml", web::manifest("victim", 11, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let mut agent = host.agent(&OFTEN).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1, 2])]).unwrap();
    for running in [true, false] {
        for (what, spoil) in SPOILS {
            let what = format!("{what}, agent running: {running}");
            let mut maps = maps(&host);
            let contents = maps.read().unwrap();
            let (its, others) = (entries(&contents, "victim"), entries(&contents, "web"));
            assert_eq!((its.frontends.len(), its.backends.len(), its.names.len()), (4, 8, 4), "{what}");
            if running {
                let before = agent.status().unwrap().audit_differences;
                spoil(&mut maps, &its, &others);
                let found = |status: &agent::Status| status.audit_differences > before;
                agent.wait_status(&what, found).unwrap();
                assert!(agent.log().contains("audit, repairing: "), "{what}: {}", agent.log());
            } else {
                agent.kill().unwrap();
                spoil(&mut maps, &its, &others);
                agent = host.agent(&OFTEN).unwrap();
                let said = agent.log().contains("pinned tables, to be repaired: ");
                // What is simply not there looks like what was never written.
                assert!(
                    said || what.starts_with("no frontends") || what.starts_with("backends zeroed"),
                    "{what}: {}",
                    agent.log()
                );
            }
            wait::until(PATIENCE, &what, || web::ask(&host, 11).is_ok());
            let status = agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
            assert_eq!((status.frontends, status.backends), (8, 16), "{what}");
            // Repaired is repaired: nothing more is found from then on.
            let settled = || agent.status().unwrap().audit_differences;
            let mut last = settled();
            wait::until(PATIENCE, "audits that find nothing", || {
                std::thread::sleep(std::time::Duration::from_millis(250));
                std::mem::replace(&mut last, settled()) == last
            });
            web::all_answer(&host, 11, &[1, 2]);
            traffic.has_not_failed(&format!("{what}\n{}", agent.log()));
        }
    }
    traffic.end();
}

fn bpftool(arguments: &[&str], path: &Path) {
    let mut bpftool = Command::new("bpftool");
    Answer::of(bpftool.args(arguments).arg(path)).unwrap().succeeds();
}

#[test]
fn r27_links_that_are_detached_behind_its_back_are_attached_again() {
    let host = Host::new("links").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1]).unwrap();
    let agent = host.agent(&[]).unwrap();
    // Without the hook that frees slots nobody is worse off for a while.
    let traffic = Traffic::start(&host, &[(10, &[1])]).unwrap();
    let link = |hook: &str| host.pins().join("links").join(hook);
    bpftool(&["link", "detach", "pinned"], &link("sock_release"));
    let words = "somebody has detached our programs; attaching them again";
    wait::until(PATIENCE, words, || agent.log().contains(words));
    agent
        .wait_status("health", |status| {
            status.problems.is_empty() && status.hooks.iter().all(|hook| hook.program.is_some())
        })
        .unwrap();
    traffic.end();
    // Without the others connects go where nobody is, for as long as the agent takes to see it.
    for hook in ["connect4", "connect6", "sendmsg4", "recvmsg6", "getpeername4"] {
        bpftool(&["link", "detach", "pinned"], &link(hook));
    }
    wait::until(PATIENCE, "an answer", || web::ask(&host, 10).is_ok());
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1])]).unwrap();
    // The one that notes cgroups is no hook.
    fs::remove_file(link("cgroup_mkdir")).unwrap();
    wait::until(PATIENCE, "the link of cgroup_mkdir", || link("cgroup_mkdir").exists());
    assert!(!link("cgroup_mkdir_next").exists());
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    // With nobody there: `status` and the next agent know.
    drop(agent);
    bpftool(&["link", "detach", "pinned"], &link("sock_release"));
    let answer = host.balancing(&["status"]).unwrap();
    answer.fails(2, &["not running"]);
    assert!(answer.err.contains("8 of 9 programs are attached"), "{answer:?}");
    let agent = host.agent(&[]).unwrap();
    assert!(agent.status().unwrap().hooks.iter().all(|hook| hook.program.is_some()));
    traffic.end();
}

#[test]
fn r27_pins_that_are_removed_are_put_back_and_those_that_are_replaced_end_the_agent_but_no_service() {
    let host = Host::new("pins").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1, 2])]).unwrap();
    let pinned = |name: &str| Pins::new(host.pins()).map_named(name).unwrap();
    // It has them open, and puts the pins back.
    for name in ["settings", "counters", "frontends4", "records", "backends", "names"] {
        let words = format!("removed the pins of maps; put back: {name}");
        fs::remove_file(pinned(name)).unwrap();
        wait::until(PATIENCE, &words, || agent.log().contains(&words));
    }
    // With no agent there, they are found in the programs.
    for name in ["settings", "counters", "events", "frontends4", "records", "backends", "slots"] {
        agent.kill().unwrap();
        fs::remove_file(pinned(name)).unwrap();
        agent = host.agent(&[]).unwrap();
        assert!(
            agent.log().contains(&format!("had been removed; put back: {name}")),
            "{name}: {}",
            agent.log()
        );
        assert_eq!(agent.status().unwrap().problems, Vec::<String>::new(), "{name}");
        traffic.goes_on();
    }
    // Another map in the place of one, of the same shape, and of another.
    for (name, other) in [("backends", "lists"), ("slots", "settings")] {
        let away = PathBuf::from(format!("{}_away", pinned(name).display()));
        fs::rename(pinned(name), &away).unwrap();
        fs::hard_link(pinned(other), pinned(name)).unwrap();
        assert_eq!(agent.wait().unwrap().code(), Some(1), "{name}");
        assert!(agent.log().contains("removed or replaced"), "{}", agent.log());
        let answer = Answer::of(&mut host.agent_command(&program(), &[])).unwrap();
        let path = pinned(name).display().to_string();
        answer.fails(1, &["pinned map", &path, "was not made by this program", "balancing clean"]);
        for listing in [&["get", "services"][..], &["why", "host", "10.96.0.10:80/tcp"]] {
            host.balancing(listing).unwrap().fails(1, &["pinned map", &path]);
        }
        traffic.goes_on();
        fs::remove_file(pinned(name)).unwrap();
        fs::rename(&away, pinned(name)).unwrap();
        agent = host.agent(&[]).unwrap();
        traffic.goes_on();
    }
    assert_eq!(agent.status().unwrap().audit_differences, 0);
    traffic.end();

    // All of them: whoever did that meant it, and what no program uses is lost. New sockets do not notice.
    let traffic = Traffic::with(&host, &[], &[(10, &[1, 2])]).unwrap();
    fs::remove_dir_all(host.pins().join("maps")).unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(1));
    let log = agent.log();
    assert!(log.contains("removed or replaced") && log.contains("start it again"), "{log}");
    traffic.goes_on();
    let agent = host.agent(&[]).unwrap();
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());
    traffic.end();
}

#[test]
fn r27_tables_of_an_earlier_layout_are_left_to_the_programs_that_read_them() {
    let host = Host::new("earlier").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    host.agent(&[]).unwrap().kill().unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1, 2])]).unwrap();
    // As an agent with an earlier layout leaves them, of which some look like ours.
    let ids = |host: &Host| maps(host).all().map(|map| (map.name(), map.id()));
    let before = ids(&host);
    for name in TABLES {
        let now = Pins::new(host.pins()).map_named(name).unwrap();
        fs::rename(&now, now.with_file_name(format!("{name}_v1"))).unwrap();
    }
    let agent = host.agent(&[]).unwrap();
    assert!(!agent.log().contains("put back"), "{}", agent.log());
    assert!(agent.log().contains("maps of other layouts removed"), "{}", agent.log());
    for ((name, earlier), (_, now)) in before.into_iter().zip(ids(&host)) {
        assert_eq!(earlier == now, !TABLES.contains(&name), "{name}");
    }
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());
    traffic.end();
}

#[test]
fn r27_pins_of_unknown_layouts_and_names_are_removed_and_said() {
    let host = Host::new("layouts").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    host.agent(&[]).unwrap().kill().unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1, 2])]).unwrap();
    let at = |name: &str| host.pins().join("maps").join(name);
    let pinned = |name: &str| Pins::new(host.pins()).map_named(name).unwrap();
    // Those of a later version that was here, or of somebody else.
    for (name, like) in [("records_v99", "records"), ("frontends4_v7", "lists"), ("plans_v1", "names")] {
        fs::hard_link(pinned(like), at(name)).unwrap();
    }
    let agent = host.agent(&[]).unwrap();
    let log = agent.log();
    for name in ["records_v99", "frontends4_v7", "plans_v1"] {
        assert!(log.contains("maps of other layouts removed") && log.contains(name), "{name}: {log}");
        assert!(!at(name).exists(), "{name}");
    }
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());
    drop(agent);
    // Slots are carried over from another layout, but not from what are none.
    fs::hard_link(pinned("lists"), at("slots_v99")).unwrap();
    let answer = Answer::of(&mut host.agent_command(&program(), &[])).unwrap();
    answer.fails(1, &["slots_v99", "balancing clean"]);
    traffic.goes_on();
    fs::remove_file(at("slots_v99")).unwrap();
    host.agent(&[]).unwrap();
    traffic.end();
}

#[test]
fn r30_what_does_not_fit_is_named_and_programmed_when_there_is_room() {
    let host = Host::new("full-maps").unwrap();
    // A service of these has 4 ports (two, in two families), and 4 endpoints for each backend.
    host.write("a.yaml", web::manifest("a", 10, &[1])).unwrap();
    host.write("b.yaml", web::manifest("b", 11, &[1])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    let sizes = ["--max-services", "9", "--max-backends", "16"];
    let agent = host.agent(&sizes).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1]), (11, &[1])]).unwrap();
    let refused = |words: &[&str]| {
        let told = |problem: &String| words.iter().all(|word| problem.contains(word));
        let status =
            agent.wait_status(&format!("{words:?}"), |status| status.problems.iter().any(told)).unwrap();
        let problem = status.problems.iter().find(|problem| told(problem)).unwrap();
        assert!(agent.log().contains(problem), "not logged: {problem}");
    };
    // One service too many.
    host.write("c.yaml", web::manifest("c", 12, &[1])).unwrap();
    refused(&["default/c", "names full", "--max-services"]);
    let full = |problem: &String| problem.starts_with("map names is") && problem.ends_with("% full");
    assert!(agent.status().unwrap().problems.iter().any(full));
    assert_eq!(host.balancing(&["status"]).unwrap().code, Some(1));
    // One goes, and there is room.
    traffic.end();
    host.remove("b.yaml").unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1])]).unwrap();
    wait::until(PATIENCE, "the third service", || web::ask(&host, 12).is_ok());
    web::all_answer(&host, 12, &[1]);
    // Endpoints too many.
    host.remove("c.yaml").unwrap();
    host.write("b.yaml", web::manifest("b", 11, &[1, 2, 3, 4])).unwrap();
    refused(&["default/b", "backends full", "--max-backends"]);
    traffic.goes_on();
    host.write("b.yaml", web::manifest("b", 11, &[2, 3])).unwrap();
    wait::until(PATIENCE, "the endpoints", || web::ask(&host, 11).is_ok());
    agent
        .wait_status("room", |status| !status.problems.iter().any(|problem| problem.contains("default/b")))
        .unwrap();
    web::all_answer(&host, 11, &[2, 3]);
    assert_eq!(agent.status().unwrap().audit_differences, 0);
    traffic.end();
}
