//! R26: what kube-proxy sets of connection tracking.

use balancing_tests::process::{Agent, Host, program, within::in_own_mounts};

use super::machine::{HERE, get, machine};

/// Files in place of the kernel's, which belong to the whole machine.
const CONNTRACK: &str = "
    mount -t tmpfs conntrack /proc/sys/net/netfilter
    cd /proc/sys/net/netfilter
    echo 65536 > nf_conntrack_max
    echo 432000 > nf_conntrack_tcp_timeout_established
    echo 60 > nf_conntrack_tcp_timeout_close_wait
    mount -t tmpfs hashsize /sys/module/nf_conntrack/parameters
    echo 16384 > /sys/module/nf_conntrack/parameters/hashsize
    cd /
";

/// What the agent sees there. What is mounted below /proc/sys/net is seen from that network namespace only.
fn conntrack(host: &Host, agent: &Agent, name: &str) -> u64 {
    let root = format!("/proc/{}/root", agent.pid());
    let file = match name {
        "hashsize" => format!("{root}/sys/module/nf_conntrack/parameters/hashsize"),
        name => format!("{root}/proc/sys/net/netfilter/nf_conntrack_{name}"),
    };
    host.namespace().run(|| std::fs::read_to_string(file)).unwrap().trim().parse().unwrap()
}

fn inside_with(host: &Host, script: &str, arguments: &[&str]) -> Agent {
    let mut command = in_own_mounts(script, &host.agent_command(&program(), arguments));
    host.namespace().contain(&mut command).unwrap();
    let mut agent = host.start_command(&mut command).unwrap();
    agent.wait_ready().unwrap();
    agent
}

#[test]
fn r26_sysctls_are_kube_proxys_where_it_is_replaced_and_only_there() {
    let host = machine("r26");
    let all = |agent: &Agent| {
        ["tcp_timeout_established", "tcp_timeout_close_wait", "max", "hashsize"]
            .map(|name| conntrack(&host, agent, name))
    };
    let mut agent = inside_with(&host, CONNTRACK, &[]);
    assert_eq!(all(&agent), [432_000, 60, 65_536, 16_384]);
    agent.kill().unwrap();
    let mut agent = inside_with(&host, CONNTRACK, HERE);
    let [established, close_wait, max, buckets] = all(&agent);
    assert_eq!((established, close_wait), (86_400, 3_600));
    assert!((131_072..=1_048_576).contains(&max) && buckets == max / 4, "{max}, {buckets}");
    assert!(agent.status().unwrap().problems.is_empty());
    assert!(
        agent.log().contains("nf_conntrack_tcp_timeout_close_wait set from 60 to 3600"),
        "{}",
        agent.log()
    );
    agent.kill().unwrap();
    // A larger table stays as it is.
    let larger = format!("{CONNTRACK}\necho 4000000 > /proc/sys/net/netfilter/nf_conntrack_max");
    let mut agent = inside_with(&host, &larger, HERE);
    assert_eq!(
        (conntrack(&host, &agent, "max"), conntrack(&host, &agent, "tcp_timeout_close_wait")),
        (4_000_000, 3_600)
    );
    agent.kill().unwrap();
    // Where it may not write it says so, and serves.
    let read_only = format!("{CONNTRACK}\nmount -o remount,ro /proc/sys/net/netfilter");
    let agent = inside_with(&host, &read_only, HERE);
    let words = ["nf_conntrack_tcp_timeout_established", "Read-only file system", "writable"];
    let told = |problem: &String| words.iter().all(|word| problem.contains(word));
    agent.wait_status("the problem", |status| status.problems.iter().any(told)).unwrap();
    assert_eq!((all(&agent)[1], get(&host, 10_256, "/healthz").status), (60, 200));
}

#[test]
fn r26_timeouts_are_those_of_the_agents_own_namespace() {
    let host = machine("r26-real");
    let file = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
    // A thread's own view of /proc/sys/net is that of its namespace.
    let read = || -> u64 { std::fs::read_to_string(file).unwrap().trim().parse().unwrap() };
    if !std::path::Path::new(file).exists() {
        panic!("this kernel tracks no connections: load nf_conntrack");
    }
    let before = read();
    host.namespace().run(|| std::fs::write(file, "61")).unwrap();
    let _agent = host.agent_inside(HERE).unwrap();
    assert_eq!((host.namespace().run(read), read()), (3_600, before));
}
