//! `balancing events`.

mod filter;

use std::process::ExitCode;

use agent::{EventLevel, local};
use clap::Args;
use filter::Filter;
use jiff::Timestamp;
use observe::{
    Destroyed, Suppressed,
    event::{Decision, Line},
};

use crate::{
    output::{Format, print},
    place::Place,
};

/// Show decisions, as they are made: who connected to what, where it went, and why
///
/// Which decisions are told of is the agent's level: failures unless changed.
#[derive(Args)]
#[command(after_help = "Examples:\n  balancing events -f --level all\n  \
                        balancing events --verdict refused -o json | jq .client.comm\n  \
                        balancing events -n shop -o wide\n  \
                        balancing events --since 10m --pod shop/web-1\n\n\
                        Exit codes: 0 done, 1 failed (also: no agent runs), 2 wrong usage.")]
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
        let (now, how_far) = (Timestamp::now(), self.filter.since.is_some());
        let mut lines =
            local::ask(&self.place.socket, &local::Request::Events { follow: self.follow, how_far })?
                .peekable();
        if let Some(level) = self.level {
            agent::set_level(&self.place.maps()?, level)?;
            eprintln!(
                "level {level} from now on, for everyone, until it is set again or the agent is started again"
            );
        }
        // An agent that does not know the question begins with the events.
        let is_answer = |line: &Result<String, _>| line.as_ref().is_ok_and(|line| remembered(line).is_some());
        if let Some(since) = self.filter.since
            && let Some(Ok(first)) = lines.next_if(is_answer)
            && let Some(known) = remembered(&first).filter(|it| it.since > since.at(now))
        {
            eprintln!("the agent remembers events only since {}; what was before is not known", known.since);
        }
        for line in lines {
            let line = line?;
            let parsed: Line = serde_json::from_str(&line)?;
            if !self.filter.wants(&parsed, now) {
                continue;
            }
            match &parsed {
                _ if self.output == Format::Json => print(&line)?,
                _ if self.output == Format::Yaml => {
                    print(&format!("---\n{}", serde_saphyr::to_string(&parsed)?.trim_end()))?;
                }
                Line::Decision(decision) if self.output == Format::Wide => print(&plain(&wide(decision)))?,
                Line::Decision(decision) => print(&plain(&text(decision)))?,
                Line::Destroyed(socket) => print(&destroyed(socket))?,
                Line::Suppressed(suppressed) => print(&summary(suppressed))?,
                Line::Lost(lost) => {
                    print(&format!("{}  {} events are missing here ({})", lost.time, lost.lost, lost.at))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn remembered(line: &str) -> Option<local::Remembered> {
    serde_json::from_str(line).ok()
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
    let mut text = text(decision);
    if let Some(backend) = &decision.backend {
        if let (Some(namespace), Some(pod)) = (&backend.namespace, &backend.pod) {
            text += &format!("  pod {namespace}/{pod}");
        }
        if let Some(node) = &backend.node {
            text += &format!("  on {node}");
        }
    }
    let client = &decision.client;
    if let Some(uid) = client.uid {
        text += &format!("  uid {uid}");
    }
    if let Some(cgroup) = &client.cgroup {
        text += &format!("  {cgroup}");
    }
    if decision.flags.is_empty() { text } else { format!("{text}  {}", decision.flags.join(",")) }
}

fn text(decision: &Decision) -> String {
    let to = match &decision.backend {
        Some(backend) => format!(" -> {}", std::net::SocketAddr::new(backend.ip, backend.port)),
        None => String::new(),
    };
    let service = decision.service.as_ref().map_or(String::new(), |service| {
        let colon = if service.port.is_empty() { "" } else { ":" };
        format!("  {}/{}{colon}{}", service.namespace, service.name, service.port)
    });
    format!(
        "{}  {} ({})  {}[{}]  {} {}{to}{service}",
        decision.time.strftime("%H:%M:%S%.3f"),
        decision.verdict,
        decision.reason,
        decision.client.comm.as_deref().unwrap_or("?"),
        decision.client.pid.map_or("?".into(), |pid| pid.to_string()),
        decision.protocol,
        decision.original.socket_addr(),
    )
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
}
