//! What a machine may lack or refuse: it is said in one line that names it and what to do, before anything is made,
//! and what was in force before stays so.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use agent::local;
use balancing_tests::process::{
    Answer, Host, PATIENCE, program,
    traffic::Traffic,
    web,
    within::{after, in_own_mounts, within},
};
use rustix::process::Signal;
use testkit::wait;

/// A machine with a service, clients of it, and nobody who looks after it: an agent has run, and was killed.
fn left_alone(name: &str) -> (Host, Vec<testkit::Backend>, Traffic) {
    let host = Host::new(name).unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let servers = web::serve(&host, &[1, 2]).unwrap();
    host.agent(&[]).unwrap().kill().unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1, 2])]).unwrap();
    (host, servers, traffic)
}

/// There is no bpffs where it is by default, however many there were.
const UNMOUNT: &str = "while mountpoint -q /sys/fs/bpf; do umount -l /sys/fs/bpf; done";

fn agent_in_own_mounts(host: &Host, script: &str, arguments: &[&str]) -> Command {
    in_own_mounts(script, &host.agent_command(&program(), arguments))
}

#[test]
fn without_cgroup2_it_says_how_to_get_one() {
    let (host, _servers, traffic) = left_alone("no-cgroup2");
    let gone = "umount -a -l -t cgroup2";
    let answer = Answer::of(&mut agent_in_own_mounts(&host, gone, &[])).unwrap();
    answer.fails(1, &["no cgroup2 is mounted", "mount -t cgroup2"]);
    let doctor = Answer::of(&mut in_own_mounts(gone, &host.command(&["doctor"]))).unwrap();
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("MISSING") && doctor.out.contains("no cgroup2 is mounted"), "{doctor:?}");

    let chosen = |path: &str| {
        let mut command = Command::new(program());
        command.args(["agent", "--cgroup-root", path, "--manifests"]).arg(host.manifests());
        command.env("BALANCING_BPFFS", host.pins()).env("BALANCING_SOCKET", host.socket());
        Answer::of(&mut command).unwrap()
    };
    chosen("/nowhere").fails(1, &["/nowhere", "No such file", "findmnt -t cgroup2"]);
    chosen("/tmp").fails(1, &["/tmp is not in a cgroup2", "findmnt -t cgroup2", "--cgroup-root"]);
    traffic.end();
}

#[test]
fn without_a_bpffs_that_can_be_written_it_says_so_and_leaves_nothing() {
    let (host, _servers, traffic) = left_alone("bpffs");
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = directory.path().join("pins");
    let pins = elsewhere.display().to_string();
    let answer = Answer::of(&mut host.agent_command(&program(), &["--bpffs", &pins])).unwrap();
    answer.fails(1, &[&pins, "is not on a bpf file system", "mount -t bpf", "--bpffs"]);
    assert!(!elsewhere.exists(), "{pins} is left behind");

    // Where it is by default: another file system there, a read-only one, and none.
    let default = ["--bpffs", "/sys/fs/bpf/balancing"];
    let start = |script: &str| agent_in_own_mounts(&host, &format!("{UNMOUNT}\n{script}"), &default);
    let answer = Answer::of(&mut start("mount -t tmpfs balancing /sys/fs/bpf")).unwrap();
    answer.fails(1, &["/sys/fs/bpf holds another file system", "unmount that"]);
    let answer = Answer::of(&mut start("mount -t bpf -o ro balancing /sys/fs/bpf")).unwrap();
    answer.fails(1, &["/sys/fs/bpf/balancing", "Read-only file system", "mount -o remount,rw"]);
    let answer = Answer::of(&mut start("")).unwrap();
    // It mounts one; what it says then is that this is of no use in a container. (It ends since another serves.)
    answer.fails(1, &["another balancing serves"]);
    assert!(answer.err.contains("mounted a bpf file system at /sys/fs/bpf"), "{answer:?}");
    assert!(answer.err.contains("mount the host's there"), "{answer:?}");
    let unprivileged = bounded(&NEEDED.join(","), &host.agent_command(&program(), &default));
    let answer = Answer::of(&mut in_own_mounts(UNMOUNT, &unprivileged)).unwrap();
    answer.fails(1, &["mount on bpffs at /sys/fs/bpf", "not permitted", "mount it beforehand"]);
    traffic.end();
}

#[test]
fn r27_a_bpffs_that_becomes_read_only_stops_nobody() {
    let host = Host::new("bpffs-ro").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let agent = host.agent(&[]).unwrap();
    let traffic = Traffic::with(&host, &[], &[(10, &[1, 2])]).unwrap();
    let point = host.pins().parent().unwrap().to_owned();
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,{how}")]).arg(&point);
        Answer::of(&mut mount).unwrap().succeeds();
    };
    remount("ro");
    let told = |problem: &String| problem.contains("Read-only file system") && problem.contains("remount,rw");
    agent.wait_status("the problem", |status| status.problems.iter().any(told)).unwrap();
    assert_eq!(host.balancing(&["status"]).unwrap().code, Some(1));
    assert_eq!(agent.log().matches("Read-only file system").count(), 1, "{}", agent.log());
    // Maps that are open can be written all the same.
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    wait::until_equal(PATIENCE, &Some("b2".into()), || web::ask(&host, 10).ok().map(|seen| seen.backend));
    // Another agent would not get far, and says why.
    drop(agent);
    let answer = Answer::of(&mut host.agent_command(&program(), &[])).unwrap();
    answer.fails(1, &["Read-only file system", "remount,rw"]);
    traffic.goes_on();
    remount("rw");
    let agent = host.agent(&[]).unwrap();
    assert_eq!(agent.status().unwrap().problems, Vec::<String>::new());
    traffic.end();
}

#[test]
fn r27_the_socket_on_a_full_disk_is_named() {
    let (host, _servers, traffic) = left_alone("run-full");
    let run = tempfile::tempdir().unwrap();
    let socket = run.path().join("agent.sock").display().to_string();
    let start = |script: &str| {
        let script = script.replace("RUN", &run.path().display().to_string());
        Answer::of(&mut agent_in_own_mounts(&host, &script, &["--socket", &socket])).unwrap()
    };
    let full = "mount -t tmpfs -o size=4k,nr_inodes=2 balancing RUN\ntouch RUN/a";
    start(full).fails(1, &["agent.lock", "No space left on device", "make room there", "--socket"]);
    // There is room for the lock, but not for the socket.
    let full = "mount -t tmpfs -o size=4k,nr_inodes=2 balancing RUN";
    start(full).fails(1, &["bind", "agent.sock", "No space left on device", "make room there", "--socket"]);
    start("mount -t tmpfs -o ro balancing RUN").fails(1, &["Read-only file system", "--socket"]);
    let long = run.path().join("a".repeat(120)).display().to_string();
    let answer = Answer::of(&mut host.agent_command(&program(), &["--socket", &long])).unwrap();
    answer.fails(1, &["107 bytes", "--socket"]);
    traffic.end();
}

#[test]
fn r27_a_log_that_nobody_takes_ends_nobody() {
    let host = Host::new("log-full").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    for nowhere in ["exec >/dev/full 2>&1", "exec >&- 2>&-"] {
        let mut agent =
            host.start_command(&mut after(nowhere, &host.agent_command(&program(), &[]))).unwrap();
        agent.wait_ready().unwrap();
        let traffic = Traffic::start(&host, &[(10, &[1])]).unwrap();
        // Things to log: a mistake, and a change.
        host.write("bad.yaml", "a: [").unwrap();
        agent.wait_status("the mistake", |status| !status.problems.is_empty()).unwrap();
        host.remove("bad.yaml").unwrap();
        agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
        agent.signal(Signal::TERM).unwrap();
        assert_eq!(agent.wait().unwrap().code(), Some(0), "{nowhere}");
        traffic.end();
    }
    // The exit code tells what no text can.
    let silent = after("exec 2>/dev/full", &host.command(&["agent", "--manifests", "/nowhere"]));
    assert_eq!(Answer::of(&mut { silent }).unwrap().code, Some(1));
}

/// The least that the agent works with.
const NEEDED: [&str; 3] = ["cap_bpf", "cap_net_admin", "cap_perfmon"];
/// What it takes to look after sockets of all network namespaces as well.
const EVERYTHING: [&str; 3] = ["cap_sys_admin", "cap_net_admin", "cap_sys_ptrace"];
const NOBODY: &str = "65534";

/// `command` as root with no other capabilities than these, separated by commas.
fn bounded(capabilities: &str, command: &Command) -> Command {
    let set = format!("-all,{}", with_signs(capabilities));
    within("setpriv", &["--bounding-set", &set, "--inh-caps", "-all", "--no-new-privs"], command)
}

/// `command` as a user who owns nothing, with no other capabilities than these.
fn as_nobody(capabilities: &str, command: &Command) -> Command {
    let set = format!("-all{}{}", if capabilities.is_empty() { "" } else { "," }, with_signs(capabilities));
    let ids = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--no-new-privs"];
    let sets = ["--inh-caps", &set, "--ambient-caps", &set, "--bounding-set", &set];
    within("setpriv", &[&ids[..], &sets].concat(), command)
}

/// `cap_bpf,cap_perfmon` as setpriv has it: `+bpf,+perfmon`.
fn with_signs(capabilities: &str) -> String {
    let names = capabilities.split(',').filter_map(|name| name.strip_prefix("cap_"));
    names.map(|name| format!("+{name}")).collect::<Vec<_>>().join(",")
}

/// A place that belongs to nobody in particular: the program, its socket, and what it reads.
struct Open {
    directory: tempfile::TempDir,
    program: PathBuf,
    starts: AtomicU32,
}

impl Open {
    fn new(host: &Host) -> Self {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let directory = tempfile::Builder::new().permissions(mode).tempdir().unwrap();
        let copy = directory.path().join("balancing");
        fs::copy(program(), &copy).unwrap();
        // The manifests are below a directory that only root may enter.
        let manifests = host.manifests();
        fs::set_permissions(manifests.parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        Self { directory, program: copy, starts: AtomicU32::new(0) }
    }

    /// An agent's command line, with a directory for its socket that is nobody's, and pins that are.
    fn command(&self, host: &Host) -> Command {
        let run = self.directory.path().join(format!("run-{}", self.starts.fetch_add(1, Relaxed)));
        fs::create_dir(&run).unwrap();
        let id = Some(NOBODY.parse().unwrap());
        let mut mine = vec![run.clone()];
        for kind in ["", "maps", "links"] {
            mine.push(host.pins().join(kind));
        }
        for kind in ["maps", "links"] {
            let directory = host.pins().join(kind);
            fs::create_dir_all(&directory).unwrap();
            mine.extend(fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()));
        }
        for path in &mine {
            std::os::unix::fs::chown(path, id, id).unwrap();
        }
        let point = host.pins().parent().unwrap().to_owned();
        fs::set_permissions(point, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        host.agent_command(&self.program, &["--socket", &run.join("agent.sock").display().to_string()])
    }
}

#[test]
fn the_least_capabilities_are_enough_and_each_is_needed() {
    let host = Host::new("capabilities").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2, 3]).unwrap();
    let open = Open::new(&host);

    // Without anything that was there before: nobody, with exactly these, gets everything in force.
    let command = open.command(&host);
    let socket = PathBuf::from(command.get_args().last().unwrap());
    let mut agent = host.start_command(&mut as_nobody(&NEEDED.join(","), &command)).unwrap();
    let serves = |backend: &str| {
        wait::until(PATIENCE, "an answer", || web::ask(&host, 10).is_ok_and(|seen| seen.backend == backend));
    };
    wait::until(PATIENCE, "an answer", || {
        assert!(agent.signal(Signal::CONT).is_ok(), "{}", agent.log());
        web::ask(&host, 10).is_ok()
    });
    let traffic = Traffic::with(&host, &[], &[(10, &[1, 2, 3])]).unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[3])).unwrap();
    serves("b3");
    // One thing is missing: sockets of other network namespaces can't be closed, and that is said.
    let of = |socket: &Path| local::status(socket).unwrap();
    wait::until(PATIENCE, "a look after the sockets", || !of(&socket).problems.is_empty());
    let status = of(&socket);
    assert!(status.hooks.len() == 9 && status.hooks.iter().all(|hook| hook.program.is_some()), "{status:?}");
    let [problem] = status.problems.as_slice() else { panic!("{status:?}") };
    assert!(problem.starts_with("looking after sockets: ") && problem.contains("CAP_SYS_ADMIN"), "{problem}");
    agent.kill().unwrap();

    // Over what that one has pinned: the same again, and with each of them missing a line that says which.
    for missing in NEEDED {
        let fewer: Vec<&str> = NEEDED.into_iter().filter(|name| *name != missing).collect();
        let answer = Answer::of(&mut as_nobody(&fewer.join(","), &open.command(&host))).unwrap();
        answer.fails(1, &["may not load programs", &missing.to_uppercase(), "lacking", "root"]);
        let answer =
            Answer::of(&mut bounded(&fewer.join(","), &host.agent_command(&program(), &[]))).unwrap();
        answer.fails(1, &["may not load programs", &missing.to_uppercase()]);
        let doctor = Answer::of(&mut bounded(&fewer.join(","), &host.command(&["doctor"]))).unwrap();
        assert_eq!(doctor.code, Some(1), "{doctor:?}");
        assert!(doctor.out.contains(&format!("{} lacking", missing.to_uppercase())), "{doctor:?}");
    }
    let answer = Answer::of(&mut as_nobody("", &open.command(&host))).unwrap();
    answer.fails(1, &["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "root"]);
    let mut agent = host.start_command(&mut as_nobody(&NEEDED.join(","), &open.command(&host))).unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    serves("b1");
    agent.kill().unwrap();
    // With these it lacks nothing; CAP_SYS_ADMIN stands for two of the others.
    let command = open.command(&host);
    let socket = PathBuf::from(command.get_args().last().unwrap());
    let mut agent = host.start_command(&mut as_nobody(&EVERYTHING.join(","), &command)).unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[2])).unwrap();
    serves("b2");
    wait::until(PATIENCE, "a socket to be closed", || of(&socket).sockets_destroyed > 0);
    assert_eq!(of(&socket).problems, Vec::<String>::new());
    agent.kill().unwrap();
    traffic.end();
}

#[test]
fn a_second_agent_on_the_same_cgroup_with_other_pins_is_refused() {
    let host = Host::new("two-pins").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let mut first = host.agent(&[]).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1, 2])]).unwrap();
    let other = host.pins().with_file_name("other").display().to_string();
    let socket = host.socket().with_file_name("other.sock").display().to_string();
    let arguments = ["--bpffs", other.as_str(), "--socket", socket.as_str()];
    let second = || Answer::of(&mut host.agent_command(&program(), &arguments)).unwrap();
    let cgroup = host.cgroup().path().display().to_string();
    second().fails(1, &["another balancing serves", &cgroup, "translated twice", "balancing clean --bpffs"]);
    assert_eq!(first.status().unwrap().problems, Vec::<String>::new());
    // Programs serve without their agent: the same.
    first.kill().unwrap();
    second().fails(1, &["another balancing serves", &cgroup]);
    traffic.goes_on();
    // What the line says to do helps.
    traffic.end();
    host.balancing(&["clean"]).unwrap().succeeds();
    let mut second = host.start_command(&mut host.agent_command(&program(), &arguments)).unwrap();
    wait::until(PATIENCE, "an answer", || web::ask(&host, 10).is_ok());
    second.kill().unwrap();
}

#[test]
fn strangers_programs_on_the_cgroup_are_told_of() {
    let host = Host::new("strangers").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1, 2])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let agent = host.agent(&[]).unwrap();
    let traffic = Traffic::start(&host, &[(10, &[1, 2])]).unwrap();
    // Another installation's, attached after the start: those of another machine, put here.
    let other = Host::new("other").unwrap();
    other.agent(&[]).unwrap().kill().unwrap();
    let pinned = |hook: &str| other.pins().join("links").join(hook);
    let shown =
        Command::new("bpftool").args(["-j", "link", "show", "pinned"]).arg(pinned("getpeername4")).output();
    let shown: serde_json::Value = serde_json::from_slice(&shown.unwrap().stdout).unwrap();
    let id = shown["prog_id"].as_u64().or_else(|| shown[0]["prog_id"].as_u64()).unwrap().to_string();
    let attach = |verb: &str| {
        let mut bpftool = Command::new("bpftool");
        bpftool.args(["cgroup", verb]).arg(host.cgroup().path());
        bpftool.args(["getpeername4", "id", &id]);
        if verb == "attach" {
            bpftool.arg("multi");
        }
        Answer::of(&mut bpftool).unwrap().succeeds();
    };
    attach("attach");
    let told = |problem: &String| {
        problem.contains(&format!("hook getpeername4: program {id} of another balancing"))
            && problem.contains("twice")
    };
    agent.wait_status("the stranger", |status| status.problems.iter().any(told)).unwrap();
    assert!(agent.log().contains("of another balancing"), "{}", agent.log());
    attach("detach");
    agent.wait_status("health", |status| status.problems.is_empty()).unwrap();
    traffic.end();
}

#[test]
fn clocks_that_jump_do_not_matter() {
    let host = Host::new("clocks").unwrap();
    host.write("web.yaml", web::manifest("web", 10, &[1])).unwrap();
    let _servers = web::serve(&host, &[1, 2]).unwrap();
    let mut agent = host.agent(&[]).unwrap();
    let traffic = Traffic::with(&host, &[], &[(10, &[1, 2])]).unwrap();
    // The monotonic clock is ahead and behind; that of the day can't be set for one process, but files can be of
    // another time.
    for (offset, day) in [("1000000", "2001-01-01"), ("-100", "2100-01-01")] {
        agent.kill().unwrap();
        let script = format!("--monotonic={offset}");
        let mut command = within(
            "unshare",
            &["--time", &script, "--boottime=1000000"],
            &host.agent_command(&program(), &["--events", "all"]),
        );
        agent = host.start_command(&mut command).unwrap();
        agent.wait_ready().unwrap();
        for backend in [2, 1] {
            host.write("web.yaml", web::manifest("web", 10, &[backend])).unwrap();
            let file = host.manifests().join("web.yaml");
            Answer::of(Command::new("touch").args(["-d", day]).arg(&file)).unwrap().succeeds();
            let name = Some(format!("b{backend}"));
            wait::until_equal(PATIENCE, &name, || web::ask(&host, 10).ok().map(|seen| seen.backend));
        }
        let status = agent.status().unwrap();
        assert_eq!((status.problems, status.audit_differences), (vec![], 0));
        // Events bear the time of day at which they were.
        let events = host.balancing(&["events", "-o", "json"]).unwrap();
        let last: serde_json::Value =
            serde_json::from_str(events.succeeds().lines().last().unwrap()).unwrap();
        let date = Answer::of(Command::new("date").args(["-u", "+%Y-%m-%dT%H"])).unwrap();
        assert!(last["time"].as_str().unwrap().starts_with(date.succeeds().trim()), "{last}");
    }
    traffic.end();
}
