//! The story, step by step.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use crate::{
    Pace,
    interrupt::Interrupt,
    screen::{Picture, Screen, grouped},
    stage::{self, Stage},
    traffic::{PODS, Tally, Traffic},
};

const SERVICE: &str = r#"apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  selector: {app: web}
  ipFamilyPolicy: RequireDualStack
  clusterIPs: ["10.96.0.80", "fd00:96::80"]
  ports:
  - {name: http, protocol: TCP, port: 80, targetPort: 8080}
  - {name: echo, protocol: UDP, port: 80, targetPort: 8080}
"#;

const AGENT: &str = "balancing agent --manifests /tmp/demo/manifests --events sampled=50";

/// The pod that is taken away and comes back.
const VICTIM: usize = 1;

/// Between two drawings of the live table.
const FRAME: Duration = Duration::from_millis(100);
/// Over how long "now" is measured.
const NOW: Duration = Duration::from_millis(400);
/// How long a change may take until all new connections obey it.
const OBEYED: Duration = Duration::from_secs(5);
/// A pod that has answered nothing for so long gets nothing any more.
const SILENCE: Duration = Duration::from_millis(250);

/// Everything that the steps need.
struct Teller<'a> {
    pace: Pace,
    screen: &'a mut Screen,
    interrupt: &'a Interrupt,
    stage: Stage,
    states: [&'static str; PODS.len()],
}

/// Tells it. An error if any exchange failed, or anything else was not as told.
pub(crate) fn tell(balancing: &Path, pace: Pace, screen: &mut Screen, interrupt: &Interrupt) -> Result<()> {
    let begun = Instant::now();
    screen.title("Balancing: one address for many pods, decided inside connect()")?;
    let stage = Stage::build(balancing)?;
    let mut teller = Teller { pace, screen, interrupt, stage, states: [""; PODS.len()] };
    teller.introduce()?;
    teller.start()?;
    let vips = [
        SocketAddr::from(([10, 96, 0, 80], 80)),
        SocketAddr::from(([0xfd00, 0x96, 0, 0, 0, 0, 0, 0x80], 80)),
    ];
    let mut traffic = Traffic::start(&teller.stage.client, &teller.stage.cgroup, vips, stage::client_ips())?;
    teller.balance(&traffic)?;
    teller.take_away(&traffic)?;
    teller.kill(&traffic)?;
    let tally = traffic.stop();
    traffic.check()?;
    teller.clean()?;
    drop(teller);
    close(screen, &tally, begun.elapsed())
}

fn close(screen: &mut Screen, tally: &Tally, took: Duration) -> Result<()> {
    screen.section("Summary")?;
    screen.good(&format!(
        "{} exchanges over TCP and UDP, IPv4 and IPv6, {} failed",
        grouped(tally.answers() + tally.failed),
        grouped(tally.failed)
    ))?;
    screen.say(&format!(
        "  each over a new socket, checked for who answered and for the peer address that the client saw,\n  \
         while a pod left and came back, and the agent was killed and restarted ({:.0} s in all)",
        took.as_secs_f32()
    ))
}

impl Teller<'_> {
    fn introduce(&mut self) -> Result<()> {
        self.screen.section("1. A service, and nothing that serves it")?;
        self.screen.say(
            "Four pods, each a network namespace of this machine: a client, and web-1, web-2 and web-3, which\n\
             listen on port 8080, TCP and UDP, IPv4 and IPv6, and answer with their own name. There is no\n\
             Kubernetes, only its YAML in a directory. (Directories of this run are shown as .../demo.)",
        )?;
        self.stage.write("web.yaml", SERVICE)?;
        for (pod, name) in PODS.iter().enumerate() {
            self.stage.write(&format!("{name}.yaml"), &self.stage.pod_manifest(pod))?;
        }
        self.show("cd /tmp/demo/manifests; ls; cat web.yaml")?;
        let command = "ip route get 10.96.0.80   # in the client's pod";
        let (reachable, printed) = self.stage.run_in_client(command)?;
        self.screen.command(command, &printed)?;
        if reachable {
            bail!("something here already answers for 10.96.0.80");
        }
        self.screen.say("Nobody has that address: no interface, no route, no packet filter.")?;
        self.read()
    }

    fn start(&mut self) -> Result<()> {
        self.screen.section("2. The agent")?;
        self.screen.say(
            "It loads its eBPF programs, attaches them to a cgroup, and writes their tables from the YAML.",
        )?;
        self.screen.command(&format!("{AGENT} &"), "")?;
        let took = self.start_agent()?;
        self.screen.good(&format!("ready after {} ms", took.as_millis()))?;
        self.show("balancing status")?;
        self.show("balancing get services")?;
        self.read()
    }

    /// Where a process in the client's pod would get to.
    fn explain(&mut self) -> Result<()> {
        let client = self.stage.client_pid();
        let command = format!("balancing why {client} 10.96.0.80:80/tcp   # a process in the client's pod");
        if !self.show(&command)?.contains("translated: one of") {
            bail!("the explanation is not what happens");
        }
        Ok(())
    }

    fn start_agent(&mut self) -> Result<Duration> {
        let command = self.stage.real(AGENT);
        self.stage.start_agent(&command, self.interrupt)
    }

    fn balance(&mut self, traffic: &Traffic) -> Result<()> {
        self.screen.section("3. Traffic")?;
        self.screen.say(
            "Clients in their pod ask 10.96.0.80:80 and [fd00:96::80]:80 without pause, each time from a new\n\
             socket, TCP and UDP. Who answered:",
        )?;
        self.watch(traffic, self.pace.traffic)?;
        self.until(traffic, "each pod is asked over each protocol and family", |tally| {
            !tally.answered.iter().flatten().any(|count| *count == 0)
        })?;
        self.screen.say("Any single decision can be explained, and a sample of them is in the event log:")?;
        self.explain()?;
        self.show("balancing events | grep 10.96.0.80 | tail -n 3")?;
        self.read()
    }

    fn take_away(&mut self, traffic: &Traffic) -> Result<()> {
        let name = "web-2";
        self.screen.section("4. A pod goes away, under load")?;
        self.screen
            .say("First it is no longer ready. Its file says so; nobody is told, nothing is restarted.")?;
        self.show(&format!("sed -i 's/\"True\"/\"False\"/' /tmp/demo/manifests/{name}.yaml"))?;
        let edited = Instant::now();
        self.set_state(VICTIM, "not ready");
        self.silence_of(traffic, VICTIM)?;
        let took = traffic.last_begun_after(VICTIM, edited);
        let silent = traffic.tally().of_pod(VICTIM);
        self.watch(traffic, self.pace.traffic)?;
        self.screen.good(&format!(
            "the last exchange that reached {name} began {} ms after the edit",
            took.as_millis()
        ))?;
        self.explain()?;
        self.screen.say("Then it is deleted, and its server really ends.")?;
        self.show(&format!("rm /tmp/demo/manifests/{name}.yaml"))?;
        self.set_state(VICTIM, "gone");
        self.interrupt.sleep(SILENCE)?;
        self.stage.close(VICTIM);
        self.watch(traffic, self.pace.traffic / 2)?;
        if traffic.tally().of_pod(VICTIM) != silent {
            bail!("{name} was asked after it had been taken away");
        }
        self.screen.good(&format!("{name} answered {} before, and not one more since", grouped(silent)))?;
        self.read()
    }

    fn kill(&mut self, traffic: &Traffic) -> Result<()> {
        self.screen.section("5. kill -9")?;
        self.screen
            .say("The agent dies in the middle of it. Programs and tables are the kernel's, and stay.")?;
        let pid = self.stage.agent_pid();
        self.show(&format!("kill -9 {pid}"))?;
        self.stage.kill_agent()?;
        self.show_failing("balancing status")?;
        self.screen.say("Meanwhile web-2 comes back. Nobody is there to notice:")?;
        self.stage.open(VICTIM)?;
        self.stage.write("web-2.yaml", &self.stage.pod_manifest(VICTIM))?;
        self.set_state(VICTIM, "returned");
        self.watch(traffic, self.pace.traffic)?;
        self.screen.say(
            "A new agent takes over what is pinned, compares it with the YAML, and writes what differs.",
        )?;
        self.screen.command(&format!("{AGENT} &"), "")?;
        let before = traffic.tally().of_pod(VICTIM);
        let took = self.start_agent()?;
        self.screen.good(&format!("ready after {} ms", took.as_millis()))?;
        self.set_state(VICTIM, "");
        self.until(traffic, "web-2 is asked again", |tally| tally.of_pod(VICTIM) > before)?;
        self.watch(traffic, self.pace.traffic)?;
        self.read()
    }

    fn clean(&mut self) -> Result<()> {
        self.screen.section("6. As if nothing had been")?;
        self.stage.kill_agent()?;
        self.show("balancing clean")?;
        if !self.stage.is_clean() {
            bail!("`balancing clean` left something behind");
        }
        let vip = SocketAddr::from(([10, 96, 0, 80], 80));
        let (cgroup, client) = (&self.stage.cgroup, &self.stage.client);
        let outcome =
            cgroup.run(|| client.run(|| testkit::exchange(testkit::Kind::Tcp, testkit::Family::V4, vip)));
        match outcome {
            Ok(answer) => bail!("{} still answers for {vip}", answer.backend),
            Err(error) => self.screen.good(&format!("connect to {vip}: {error}: nobody has that address")),
        }
    }

    /// Runs a command that has to succeed, and shows it; what it printed.
    fn show(&mut self, command: &str) -> Result<String> {
        let (succeeded, printed) = self.stage.run(&self.stage.real(command))?;
        self.screen.command(command, &printed)?;
        if !succeeded {
            bail!("`{command}` failed");
        }
        Ok(printed)
    }

    /// Runs a command that has to fail, and shows it.
    fn show_failing(&mut self, command: &str) -> Result<()> {
        let (succeeded, printed) = self.stage.run(&self.stage.real(command))?;
        self.screen.command(command, &printed)?;
        if succeeded {
            bail!("`{command}` should have failed");
        }
        Ok(())
    }

    fn set_state(&mut self, pod: usize, state: &'static str) {
        if let Some(old) = self.states.get_mut(pod) {
            *old = state;
        }
    }

    fn read(&self) -> Result<()> {
        if self.screen.is_terminal() {
            self.interrupt.sleep(self.pace.reading)
        } else {
            self.interrupt.check()
        }
    }

    /// The live table for `duration`; on a terminal it moves.
    fn watch(&mut self, traffic: &Traffic, duration: Duration) -> Result<()> {
        let mut history = vec![(Instant::now(), traffic.tally())];
        let end = Instant::now() + duration;
        loop {
            self.interrupt.sleep(FRAME.min(end.saturating_duration_since(Instant::now())))?;
            history.push((Instant::now(), traffic.tally()));
            let over = Instant::now() >= end;
            if over || self.screen.is_terminal() {
                self.draw(&history)?;
            }
            traffic.check()?;
            if over {
                self.screen.release();
                return Ok(());
            }
        }
    }

    fn draw(&mut self, history: &[(Instant, Tally)]) -> Result<()> {
        let Some((last, now)) = history.last() else { return Ok(()) };
        let since = history.iter().rev().find(|(at, _)| *last - *at >= NOW).or(history.first());
        let Some((first, then)) = since else { return Ok(()) };
        let seconds = (*last - *first).as_secs_f64().max(0.001);
        let mut rates = [0.0; PODS.len()];
        for (pod, rate) in rates.iter_mut().enumerate() {
            *rate = now.of_pod(pod).saturating_sub(then.of_pod(pod)) as f64 / seconds;
        }
        self.screen.table(&Picture { tally: *now, rates, states: self.states })
    }

    /// Waits until `pod` has answered nothing for a while.
    fn silence_of(&self, traffic: &Traffic, pod: usize) -> Result<()> {
        let mut last = (Instant::now(), traffic.tally().of_pod(pod));
        self.until(traffic, "the pod is left alone", |tally| {
            let count = tally.of_pod(pod);
            if count != last.1 {
                last = (Instant::now(), count);
            }
            last.0.elapsed() >= SILENCE
        })
    }

    fn until(&self, traffic: &Traffic, what: &str, mut condition: impl FnMut(&Tally) -> bool) -> Result<()> {
        let end = Instant::now() + OBEYED;
        while !condition(&traffic.tally()) {
            traffic.check()?;
            if Instant::now() > end {
                bail!("waited {} s in vain until {what}", OBEYED.as_secs());
            }
            self.interrupt.sleep(Duration::from_millis(10))?;
        }
        Ok(())
    }
}
