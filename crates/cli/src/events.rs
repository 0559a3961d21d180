//! `balancing events`.

mod filter;

use std::{
    iter::Peekable,
    net::SocketAddr,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use agent::{
    EventLevel,
    local::{self, Answers},
};
use clap::Args;
use filter::Filter;
use jiff::Timestamp;
use observe::{
    Destroyed, Pause, Suppressed,
    event::{Decision, Line},
};

use crate::{
    output::{Format, print},
    place::Place,
    target::{Target, UNKNOWN, who},
    tone::Tone,
};

/// How long `-f` waits for another agent when the one that it followed has ended: an upgrade takes less.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it asks meanwhile.
const AGAIN: Duration = Duration::from_millis(100);

/// Show decisions, as they are made: who connected to what, where it went, and why
///
/// Which decisions are told of is the agent's level: failures unless changed.
#[derive(Args)]
#[command(after_help = "Examples:\n  balancing events -f --level all\n  \
                        balancing events --verdict refused -o json | jq .client.comm\n  \
                        balancing events -n shop -o wide\n  \
                        balancing events --since 10m --pod shop/web-1\n\n\
                        Exit codes: 0 done, 1 failed (also: no agent runs, or with -f: it has ended, and no other came within 10 s), \
                        2 wrong usage.")]
pub(crate) struct Options {
    /// Go on with new ones until interrupted
    #[arg(short, long)]
    follow: bool,
    /// First set the level, for everyone: off, failures, sampled=N or all
    #[arg(long, value_name = "LEVEL")]
    level: Option<EventLevel>,
    #[command(flatten)]
    filter: Filter,
    /// Print the JSON Schema of the lines, and exit
    #[arg(long, exclusive = true)]
    schema: bool,
    /// Form of the lines; json is one object a line, yaml one document an event
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: Place,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if self.schema {
            print(&format!("{:#}", observe::schema::schema()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let now = Timestamp::now();
        let mut lines = self.ask(self.filter.since.is_some())?.peekable();
        self.set_level()?;
        let known = take_remembered(&mut lines);
        if let (Some(since), Some(known)) = (self.filter.since, known)
            && known > since.at(now)
        {
            eprintln!("the agent remembers events only since {known}; what was before is not known");
        }
        let mut is_empty = true;
        for line in lines {
            let line = match line {
                Ok(line) => line,
                // Killed while it wrote: as if it had ended.
                Err(_) if self.follow => break,
                Err(error) => return Err(error.into()),
            };
            is_empty &= !self.show(&line, now)?;
        }
        if self.follow {
            return self.go_on(now);
        }
        if is_empty && matches!(self.output, Format::Table | Format::Wide) {
            eprintln!(
                "no events: of those that the agent remembers none fits. `balancing status` says which are told of (level); \
                 -f waits for new ones, --level all has all told of"
            );
        }
        Ok(ExitCode::SUCCESS)
    }

    /// With the agents that come after the one that has ended, for as long as another one comes.
    fn go_on(&self, now: Timestamp) -> anyhow::Result<ExitCode> {
        loop {
            eprintln!("the agent has ended; waiting for another one");
            let deadline = Instant::now() + PATIENCE;
            let mut lines = loop {
                // One that is ending may still be asked, and says nothing.
                if let Ok(mut lines) = self.ask(true).map(Iterator::peekable)
                    && matches!(lines.peek(), Some(Ok(_)))
                {
                    break lines;
                }
                anyhow::ensure!(
                    Instant::now() < deadline,
                    "the agent has ended, and there was no other one for {} s; see its log. Service addresses are \
                     translated meanwhile; the next agent tells of it, as far as the kernel's buffer goes",
                    PATIENCE.as_secs()
                );
                thread::sleep(AGAIN);
            };
            eprintln!(
                "another agent is there, and tells of what was decided meanwhile. If the one before was killed, what it \
                 had read and not told of is missing"
            );
            self.set_level()?;
            take_remembered(&mut lines);
            for line in lines.map_while(Result::ok) {
                self.show(&line, now)?;
            }
        }
    }

    fn ask(&self, how_far: bool) -> Result<Answers, local::AskError> {
        local::ask(&self.place.socket, &local::Request::Events { follow: self.follow, how_far })
    }

    fn set_level(&self) -> anyhow::Result<()> {
        if let Some(level) = self.level {
            agent::set_level(&self.place.maps()?, level)?;
            eprintln!(
                "level {level} from now on, for everyone, until it is set again or the agent is started again"
            );
        }
        Ok(())
    }

    /// Prints a line, if it is one that is wanted; was it?
    fn show(&self, line: &str, now: Timestamp) -> anyhow::Result<bool> {
        let parsed: Line = serde_json::from_str(line)?;
        if !self.filter.wants(&parsed, now) {
            return Ok(false);
        }
        match &parsed {
            _ if self.output == Format::Json => print(line)?,
            _ if self.output == Format::Yaml => {
                print(&format!("---\n{}", serde_saphyr::to_string(&parsed)?.trim_end()))?;
            }
            Line::Decision(decision) if self.output == Format::Wide => print(&wide(decision))?,
            Line::Decision(decision) => print(&text(decision))?,
            Line::Destroyed(socket) => print(&destroyed(socket))?,
            Line::Suppressed(suppressed) => print(&summary(suppressed))?,
            Line::Pause(pause) => print(&pause_text(pause))?,
            Line::Refused(refused) => print(&plain(&refused.refused))?,
            Line::Lost(lost) => {
                print(&format!("{}  {} events are missing here ({})", lost.time, lost.lost, lost.at))?;
            }
        }
        Ok(true)
    }
}

/// How far back the agent remembers. One that does not know the question begins with the events.
fn take_remembered(lines: &mut Peekable<Answers>) -> Option<Timestamp> {
    let is_answer = |line: &Result<String, _>| line.as_ref().is_ok_and(|line| remembered(line).is_some());
    let first = lines.next_if(is_answer)?.ok()?;
    remembered(&first).map(|it| it.since)
}

fn remembered(line: &str) -> Option<local::Remembered> {
    serde_json::from_str(line).ok()
}

fn pause_text(pause: &Pause) -> String {
    let time = |time: Timestamp| time.strftime("%H:%M:%S%.3f").to_string();
    let since = time(pause.since);
    let text = if pause.paused {
        format!("paused since {since}: connections pass untranslated until `balancing resume`")
    } else {
        format!("resumed; it was paused since {since}")
    };
    format!("{}  {text}", time(pause.time))
}

fn summary(suppressed: &Suppressed) -> String {
    format!(
        "{}  {} more of {} in {:.1} s, too many to be shown one by one",
        suppressed.time.strftime("%H:%M:%S%.3f"),
        suppressed.suppressed,
        suppressed.reason,
        suppressed.seconds,
    )
}

fn destroyed(socket: &Destroyed) -> String {
    let service = socket.service.as_ref().map_or(String::new(), |service| {
        let colon = if service.port.is_empty() { "" } else { ":" };
        format!("  {}/{}{colon}{}", service.namespace, service.name, service.port)
    });
    format!(
        "{}  destroyed ({})  {} {} -> {}{service}",
        socket.time.strftime("%H:%M:%S%.3f"),
        socket.destroyed,
        socket.protocol,
        socket.original.socket_addr(),
        socket.backend.socket_addr(),
    )
}

/// Without what a terminal would obey: a process may call its threads and cgroups what it likes.
fn plain(line: &str) -> String {
    line.replace(char::is_control, "\u{fffd}")
}

/// The same, and where the backend is, and who asked.
fn wide(decision: &Decision) -> String {
    let mut more = String::new();
    if let Some(backend) = &decision.backend {
        if let (Some(namespace), Some(pod)) = (&backend.namespace, &backend.pod) {
            more += &format!("  pod {namespace}/{pod}");
        }
        if let Some(node) = &backend.node {
            more += &format!("  on {node}");
        }
    }
    let client = &decision.client;
    if let Some(uid) = client.uid {
        more += &format!("  uid {uid}");
    }
    if let Some(cgroup) = &client.cgroup {
        more += &format!("  {cgroup}");
    }
    if !decision.flags.is_empty() {
        more += &format!("  {}", decision.flags.join(","));
    }
    text(decision) + &plain(&more)
}

/// When, what became of it, who asked for what, where it went. Only the colour is ours.
fn text(decision: &Decision) -> String {
    let Decision { time, verdict, reason, client, protocol, original, backend, service, policy, .. } =
        decision;
    let who = match who(&client.who) {
        who if who == UNKNOWN => String::new(),
        who => who + " ",
    };
    let to = backend.as_ref().map_or(String::new(), |it| format!(" -> {}", SocketAddr::new(it.ip, it.port)));
    let target = match Target::new(service.as_ref(), policy.as_ref()) {
        Target::Nothing => String::new(),
        target => format!("  {target}"),
    };
    let rest = format!(
        "{who}{}[{}]  {protocol} {}{to}{target}",
        client.comm.as_deref().unwrap_or("?"),
        client.pid.map_or("?".into(), |pid| pid.to_string()),
        original.socket_addr(),
    );
    let outcome = Tone::of_verdict(verdict).paint(&plain(&format!("{verdict} ({reason})")));
    format!("{}  {outcome}  {}", time.strftime("%H:%M:%S%.3f"), plain(&rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_name_can_not_write_on_the_screen() {
        let table = [
            ("curl[42]  TCP", "curl[42]  TCP"),
            ("\x1b[2J\nrefused", "\u{fffd}[2J\u{fffd}refused"),
            // What ESC [ is in one character.
            ("\u{9b}2J\x7f", "\u{fffd}2J\u{fffd}"),
            ("caf\u{e9}", "caf\u{e9}"),
        ];
        for (line, expected) in table {
            assert_eq!(plain(line), expected);
        }
    }

    #[test]
    fn a_line_says_who_asked_for_what_in_colour() {
        let json = serde_json::json!({
            "schema": 1, "time": "2026-11-23T10:00:00.5Z", "node": "n1", "hook": "connect", "verdict": "refused",
            "reason": "no-endpoints", "protocol": "TCP", "original": {"ip": "10.96.0.1", "port": 80}, "backend": null,
            "service": {"namespace": "shop", "name": "cart", "port": "http"}, "mode": "ClusterIP", "flags": ["x"],
            "client": {
                "namespace": "shop", "pod": "web-1", "container": "app", "pid": 42, "tid": 42, "comm": "c\u{1b}[2J",
                "uid": 7, "cgroup": "/pod\n", "cgroupId": 1, "netnsCookie": 1
            }
        });
        let mut decision: Decision = serde_json::from_value(json).unwrap();
        let line = "10:00:00.500  \x1b[31mrefused (no-endpoints)\x1b[0m  \
                    shop/web-1/app c\u{fffd}[2J[42]  TCP 10.96.0.1:80  shop/cart:http";
        assert_eq!(text(&decision), line);
        assert_eq!(wide(&decision), format!("{line}  uid 7  /pod\u{fffd}  x"));
        decision.client.who = observe::event::Who { host: Some("sshd.service".into()), ..Default::default() };
        assert!(text(&decision).contains("  host sshd.service c\u{fffd}[2J[42]  TCP"), "{}", text(&decision));
        decision.client.who = Default::default();
        assert!(text(&decision).contains("\x1b[0m  c\u{fffd}[2J[42]  TCP"), "{}", text(&decision));
        decision.policy = Some(observe::event::Policy { kind: "BalancingPolicy".into(), name: "db".into() });
        assert!(text(&decision).ends_with("  bl/db"), "{}", text(&decision));
    }
}
