//! `balancing events`.

use std::process::ExitCode;

use agent::{EventLevel, local};
use clap::Args;
use observe::{
    Destroyed,
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
                        balancing events -n shop -o wide\n\n\
                        Exit codes: 0 done, 1 failed (also: no agent runs), 2 wrong usage.")]
pub(crate) struct Options {
    /// Go on with new ones until interrupted
    #[arg(short, long)]
    follow: bool,
    /// First set the level, for everyone: off, failures, sampled=N or all
    #[arg(long, value_name = "LEVEL")]
    level: Option<EventLevel>,
    /// Only this verdict: translated, refused, unreachable, denied or passed
    #[arg(long, value_name = "VERDICT", value_parser = ["translated", "refused", "unreachable", "denied", "passed"])]
    verdict: Option<String>,
    /// Only services of this namespace
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only this service
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = service)]
    service: Option<(String, String)>,
    /// Only this process
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Form of the lines; json is one object a line, yaml one document an event
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: Place,
}

fn service(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.into(), name.into()))
        }
        _ => Err("give NAMESPACE/NAME".into()),
    }
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let lines = local::ask(&self.place.socket, &local::Request::Events { follow: self.follow })?;
        if let Some(level) = self.level {
            agent::set_level(&self.place.maps()?, level)?;
            eprintln!(
                "level {level} from now on, for everyone, until it is set again or the agent is started again"
            );
        }
        for line in lines {
            let line = line?;
            let parsed: Line = serde_json::from_str(&line)?;
            match &parsed {
                Line::Decision(decision) if !self.wants(decision) => continue,
                Line::Destroyed(socket) if !self.wants_destroyed(socket) => continue,
                _ if self.output == Format::Json => print(&line)?,
                _ if self.output == Format::Yaml => {
                    print(&format!("---\n{}", serde_saphyr::to_string(&parsed)?.trim_end()))?;
                }
                Line::Decision(decision) if self.output == Format::Wide => print(&plain(&wide(decision)))?,
                Line::Decision(decision) => print(&plain(&text(decision)))?,
                Line::Destroyed(socket) => print(&destroyed(socket))?,
                Line::Lost(lost) => {
                    print(&format!("{}  {} events are missing here ({})", lost.time, lost.lost, lost.at))?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn wants(&self, decision: &Decision) -> bool {
        let service = |(namespace, name): &(String, String)| {
            decision.service.as_ref().is_some_and(|it| it.namespace == *namespace && it.name == *name)
        };
        let namespace = |name: &String| decision.service.as_ref().is_some_and(|it| it.namespace == *name);
        self.namespace.as_ref().is_none_or(namespace)
            && self.verdict.as_ref().is_none_or(|verdict| decision.verdict == *verdict)
            && self.service.as_ref().is_none_or(service)
            && self.pid.is_none_or(|pid| decision.client.pid == Some(pid))
    }

    /// Nobody asked for it, so it has no verdict and no process.
    fn wants_destroyed(&self, socket: &Destroyed) -> bool {
        let service = |(namespace, name): &(String, String)| {
            socket.service.as_ref().is_some_and(|it| it.namespace == *namespace && it.name == *name)
        };
        let namespace = |name: &String| socket.service.as_ref().is_some_and(|it| it.namespace == *name);
        self.namespace.as_ref().is_none_or(namespace)
            && self.service.as_ref().is_none_or(service)
            && self.verdict.is_none()
            && self.pid.is_none()
    }
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
