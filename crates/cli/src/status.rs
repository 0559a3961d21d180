//! `balancing status`.

mod remains;

use std::{io::Write, process::ExitCode, time::Duration};

use agent::{
    Status,
    local::{AskError, SOCKET_LB},
};
use clap::Args;
use remains::Remains;
use serde::Serialize;

use crate::{
    output::{Format, prose_of, show},
    place::Place,
    tone::Tone,
};

/// One screen: is it running, what is attached, what is in the tables, what is wrong
#[derive(Args)]
#[command(after_help = "Example:\n  balancing status || echo 'something is wrong'\n\n\
                        Exit codes: 0 healthy, 1 degraded, or it can't be asked, 2 not running, or wrong usage.")]
pub(crate) struct Options {
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    place: Place,
}

impl Options {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let status = match agent::local::status(&self.place.socket) {
            Ok(status) => status,
            Err(error @ AskError::NotRunning(_)) => {
                let remains = Remains::find(&self.place, &error.to_string());
                if matches!(self.output, Format::Json | Format::Yaml) {
                    show(&Answer { running: false, rest: &remains }, self.output, |_| String::new())?;
                }
                // Not `eprintln`, which panics where nobody can be told: the exit code still tells.
                let mut err = anstream::stderr().lock();
                let _ = writeln!(err, "error: {error}");
                for line in remains.lines() {
                    let _ = writeln!(err, "{line}");
                }
                return Ok(ExitCode::from(2));
            }
            Err(error) => return Err(error.into()),
        };
        show(&Answer { running: true, rest: &status }, self.output, |format| screen(&status, format))?;
        Ok(if status.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// For programs: is there an agent, and what is known.
#[derive(Serialize)]
struct Answer<'a, T> {
    running: bool,
    #[serde(flatten)]
    rest: &'a T,
}

const HEALTHY: &str = "healthy";
const PAUSED: &str = "PAUSED";

fn screen(status: &Status, format: Format) -> String {
    let state = if status.problems.is_empty() { HEALTHY } else { "degraded" };
    let on = status.hooks.iter().filter(|hook| hook.program.is_some()).count();
    let sources: Vec<String> = status
        .sources
        .iter()
        .map(|source| {
            format!("{} ({})", source.name, if source.synced { "synced" } else { "not yet synced" })
        })
        .collect();
    let objects: Vec<String> = status.objects.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let decisions: Vec<String> =
        status.decisions.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let fullest = status.maps.iter().max_by_key(|map| map.percent());
    let fullest = fullest.map_or("-".into(), |map| format!("fullest: {}, {} %", map.name, map.percent()));
    let zone = status.zone.as_ref().map_or(String::new(), |zone| format!(", zone {zone}"));
    let place = if status.outside { " (outside of the cluster)" } else { "" };
    let id = status.node_id.map_or(String::new(), |id| format!(", id {id}"));
    let paused = if status.paused { format!(", {PAUSED}") } else { String::new() };
    let mut rows = vec![
        (
            "agent",
            format!("{state}{paused}, version {}, pid {}, up {}", status.version, status.pid, up(status)),
        ),
        ("node", format!("{}{id}{place}{zone}", status.node)),
        ("programs", format!("{on} of {} hooks, on {}", status.hooks.len(), status.cgroup)),
        ("sources", sources.join(", ")),
        ("objects", objects.join(", ")),
        ("tables", format!("{} frontends, {} backends", status.frontends, status.backends)),
        ("map use", fullest),
        ("decisions", if decisions.is_empty() { "none yet".into() } else { decisions.join(", ") }),
        (
            "events",
            format!(
                "level {}, {} lost in the kernel, {} suppressed{}",
                status.events,
                status.events_lost,
                status.events_suppressed,
                if status.event_followers > 0 {
                    format!(", {} read them", status.event_followers)
                } else {
                    String::new()
                },
            ),
        ),
        ("audits", format!("{} differences found", status.audit_differences)),
        (
            "sockets",
            format!(
                "{} destroyed as their backend had gone, {} left slots freed",
                status.sockets_destroyed, status.slots_freed
            ),
        ),
    ];
    rows.extend(status.event_sinks.iter().map(|sink| {
        let mut text = format!("{}: {} lines written, {} lost", sink.name, sink.written, sink.lost);
        if let Some(readers) = sink.readers {
            text += &format!(", {readers} readers");
        }
        if sink.sent_away + sink.turned_away > 0 {
            text += &format!(" ({} were stuck, {} too many)", sink.sent_away, sink.turned_away);
        }
        ("event log", text)
    }));
    if status.opted_out.pods > 0 {
        let agent::status::OptedOut { pods, found } = status.opted_out;
        let missing = match pods - found.min(pods) {
            0 => String::new(),
            missing => format!(", {missing} of them without a cgroup so far"),
        };
        rows.push(("opted out", format!("{pods} pods, by annotation {SOCKET_LB}{missing}")));
    }
    if status.health_checks.addresses > 0 {
        let agent::status::HealthChecks { addresses, unhealthy } = status.health_checks;
        rows.push((
            "health checks",
            format!("{addresses} addresses of policies are asked, {unhealthy} are unhealthy"),
        ));
    }
    if let Some(published) = status.published {
        let text = format!("{} Kubernetes Events, {} dropped", published.events, published.dropped);
        rows.push(("published", text));
    }
    rows.extend(status.owners.iter().map(|it| ("served by", format!("{}: {}", it.what, it.who))));
    if format == Format::Wide {
        rows.push(("rounds", format!("{} that wrote something", status.rounds)));
        rows.extend(status.hooks.iter().map(|hook| {
            (
                "hook",
                format!(
                    "{}: {}",
                    hook.name,
                    hook.program.map_or("none".into(), |id| format!("program {id}"))
                ),
            )
        }));
        rows.extend(status.maps.iter().map(|map| {
            let growth =
                if map.most > map.capacity { format!(", may grow to {}", map.most) } else { String::new() };
            ("map", format!("{}: {} of {}{growth} ({} %)", map.name, map.used, map.capacity, map.percent()))
        }));
    }
    rows.extend(status.problems.iter().map(|problem| ("problem", problem.clone())));
    rows.extend(status.notices.iter().map(|notice| ("notice", notice.clone())));
    let text =
        prose_of(std::iter::empty::<&str>(), rows.into_iter().map(|(what, text)| vec![what.into(), text]));
    painted(&text, state)
}

/// What is well and what is not in colour.
fn painted(text: &str, state: &str) -> String {
    let tone = if state == HEALTHY { Tone::Good } else { Tone::Bad };
    let line = |(number, line): (usize, &str)| match line.split_once(' ') {
        _ if number == 0 => {
            line.replacen(state, &tone.paint(state), 1).replacen(PAUSED, &Tone::Warn.paint(PAUSED), 1)
        }
        Some(("problem", _)) => Tone::Bad.paint_head(line),
        Some(("notice", _)) => Tone::Warn.paint_head(line),
        _ => line.to_owned(),
    };
    text.lines().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn up(status: &Status) -> String {
    let up = Duration::from_secs(status.uptime_seconds).as_secs();
    match (up / 86_400, up / 3_600 % 24, up / 60 % 60, up % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_red_and_nothing_else() {
        let text =
            "agent    degraded, PAUSED, version 1\nproblem  a healthy mind\n         problem\nnotice   x";
        let expected = "agent    \x1b[31mdegraded\x1b[0m, \x1b[33mPAUSED\x1b[0m, version 1\n\
                        \x1b[31mproblem\x1b[0m  a healthy mind\n         problem\n\x1b[33mnotice\x1b[0m   x";
        assert_eq!(painted(text, "degraded"), expected);
        assert_eq!(painted("agent  healthy", HEALTHY), "agent  \x1b[32mhealthy\x1b[0m");
    }
}
