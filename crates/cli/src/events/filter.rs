//! Which events are wanted. No clock: it is told.

use agent::config::Value;
use clap::Args;
use jiff::Timestamp;
use observe::{
    Destroyed, Suppressed,
    event::{Decision, Line, Service},
};

use crate::{
    target::namespaced,
    wanted::{WantedPolicy, WantedService},
};

/// Conditions, all of which must hold.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Only since then: so long ago, as 10m, or a time, as 2026-11-22T18:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub(crate) since: Option<Since>,
    /// Only this verdict: translated, refused, unreachable, denied or passed
    #[arg(long, value_name = "VERDICT", value_parser = ["translated", "refused", "unreachable", "denied", "passed"])]
    verdict: Option<String>,
    /// Only services of this namespace, and clients in pods of it
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only this service, or port of it
    #[arg(long, value_name = "NAMESPACE/NAME[:PORT]")]
    service: Option<WantedService>,
    /// Only clients in this pod
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    pod: Option<(String, String)>,
    /// Only what this policy decided: NAME, lr/NAME or bl/NAME
    #[arg(long, value_name = "NAME")]
    policy: Option<WantedPolicy>,
    /// Only this process
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

/// A time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// So long before now.
    Ago(std::time::Duration),
    /// This one.
    At(Timestamp),
}

impl Since {
    /// When that is.
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.checked_sub(ago).unwrap_or(Timestamp::MIN),
            Self::At(at) => at,
        }
    }
}

fn since(text: &str) -> Result<Since, String> {
    let ago = std::time::Duration::read(&[text]).map(Since::Ago);
    ago.or_else(|_| text.parse().map(Since::At))
        .map_err(|_| "give how long ago, as 30s, 10m or 1h, or a time, as 2026-11-22T18:00:00Z".into())
}

impl Filter {
    /// Is this line wanted?
    pub(crate) fn wants(&self, line: &Line, now: Timestamp) -> bool {
        self.since.is_none_or(|since| line.time() >= since.at(now))
            && match line {
                Line::Decision(decision) => self.wants_decision(decision),
                Line::Destroyed(socket) => self.wants_destroyed(socket),
                Line::Suppressed(suppressed) => self.wants_suppressed(suppressed),
                // Nobody knows of what; and a pause is everybody's.
                Line::Lost(_) | Line::Pause(_) | Line::Refused(_) => true,
            }
    }

    fn wants_decision(&self, decision: &Decision) -> bool {
        let who = &decision.client.who;
        let is = |one: &Option<String>, other: &String| one.as_ref() == Some(other);
        let namespace = |name: &String| {
            decision.service.as_ref().is_some_and(|it| it.namespace == *name) || is(&who.namespace, name)
        };
        let pod = |(namespace, name): &(String, String)| is(&who.namespace, namespace) && is(&who.pod, name);
        self.namespace.as_ref().is_none_or(namespace)
            && self.pod.as_ref().is_none_or(pod)
            && self.verdict.as_ref().is_none_or(|verdict| decision.verdict == *verdict)
            && self.wants_service(decision.service.as_ref())
            && self
                .policy
                .as_ref()
                .is_none_or(|wanted| decision.policy.as_ref().is_some_and(|it| wanted.is(&it.kind, &it.name)))
            && self.pid.is_none_or(|pid| decision.client.pid == Some(pid))
    }

    /// Nobody asked for it, so it has no verdict and no process.
    fn wants_destroyed(&self, socket: &Destroyed) -> bool {
        let namespace = |name: &String| socket.service.as_ref().is_some_and(|it| it.namespace == *name);
        self.namespace.as_ref().is_none_or(namespace)
            && self.wants_service(socket.service.as_ref())
            && self.verdict.is_none()
            && self.pod.is_none()
            && self.policy.is_none()
            && self.pid.is_none()
    }

    /// Of whom they were is not known: they may be among those that are wanted.
    fn wants_suppressed(&self, suppressed: &Suppressed) -> bool {
        let reason = abi::Reason::ALL.into_iter().find(|reason| reason.name() == suppressed.reason);
        let is = |verdict: &String| reason.is_none_or(|reason| reason.verdict().name() == verdict);
        self.verdict.as_ref().is_none_or(is)
    }

    fn wants_service(&self, service: Option<&Service>) -> bool {
        let is =
            |wanted: &WantedService| service.is_some_and(|it| wanted.is(&it.namespace, &it.name, &it.port));
        self.service.as_ref().is_none_or(is)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        filter: Filter,
    }

    const DECISION: &str = r#"{"schema":1,"time":"2026-11-22T10:00:00Z","node":"n1","hook":"connect","verdict":"refused","reason":"no-endpoints","protocol":"TCP","client":{"namespace":"shop","pod":"web-1","container":"web","containerId":"0123","host":null,"pid":42,"tid":43,"comm":"curl","uid":1000,"cgroup":"/kubepods/pod1","cgroupId":7,"netnsCookie":3},"original":{"ip":"10.96.0.1","port":80},"backend":null,"service":{"namespace":"data","name":"cart","port":"http"},"policy":null,"mode":"ClusterIP","flags":[]}"#;
    const DESTROYED: &str = r#"{"schema":1,"time":"2026-11-22T10:00:00Z","node":"n1","destroyed":"backend-gone","protocol":"UDP","cookie":4711,"netnsCookie":3,"local":{"ip":"10.2.0.9","port":40000},"original":{"ip":"10.96.0.1","port":53},"backend":{"ip":"10.1.0.7","port":5353},"service":{"namespace":"data","name":"dns","port":""}}"#;
    const LOST: &str = r#"{"schema":1,"time":"2026-11-22T10:00:00Z","node":"n1","lost":7,"at":"ring"}"#;
    const SUPPRESSED: &str = r#"{"schema":1,"time":"2026-11-22T10:00:00Z","node":"n1","suppressed":7,"reason":"no-endpoints","seconds":1.0}"#;

    /// Which of the four lines above, and of a decision by a policy, these arguments want.
    fn wanted(arguments: &[&str]) -> String {
        let filter = Command::parse_from([&["events"], arguments].concat()).filter;
        let policy = DECISION
            .replace("\"policy\":null", "\"policy\":{\"kind\":\"BalancingPolicy\",\"name\":\"dns\"}")
            .replace("{\"namespace\":\"data\",\"name\":\"cart\",\"port\":\"http\"}", "null");
        let lines = [
            ("decision", DECISION),
            ("policy", &policy),
            ("socket", DESTROYED),
            ("lost", LOST),
            ("many", SUPPRESSED),
        ];
        let now = "2026-11-22T10:05:00Z".parse().unwrap();
        let wants = |text: &str| filter.wants(&serde_json::from_str(text).unwrap(), now);
        let names: Vec<&str> =
            lines.into_iter().filter(|(_, text)| wants(text)).map(|(name, _)| name).collect();
        names.join(" ")
    }

    #[test]
    fn conditions_choose_lines() {
        for (arguments, expected) in [
            (&[][..], "decision policy socket lost many"),
            (&["--verdict", "refused"], "decision policy lost many"),
            (&["--verdict", "denied"], "lost"),
            // The service's, or the client's.
            (&["-n", "data"], "decision socket lost many"),
            (&["-n", "shop"], "decision policy lost many"),
            (&["-n", "web"], "lost many"),
            (&["--service", "data/cart"], "decision lost many"),
            (&["--service", "data/dns"], "socket lost many"),
            (&["--service", "shop/cart"], "lost many"),
            (&["--pod", "shop/web-1"], "decision policy lost many"),
            (&["--pod", "data/web-1"], "lost many"),
            (&["--policy", "dns"], "policy lost many"),
            (&["--policy", "bl/dns"], "policy lost many"),
            (&["--policy", "lr/dns"], "lost many"),
            (&["--service", "data/cart:http"], "decision lost many"),
            (&["--service", "data/cart:grpc"], "lost many"),
            (&["--pid", "42"], "decision policy lost many"),
            (&["--pid", "43"], "lost many"),
            (
                &["--pod", "shop/web-1", "--service", "data/cart", "--pid", "42", "-n", "data"],
                "decision lost many",
            ),
            (&["--since", "5m"], "decision policy socket lost many"),
            (&["--since", "299s"], ""),
            (&["--since", "2026-11-22T10:00:00Z"], "decision policy socket lost many"),
            (&["--since", "2026-11-22T11:00:00.001+01:00"], ""),
        ] {
            assert_eq!(wanted(arguments), expected, "{arguments:?}");
        }
    }

    #[test]
    fn what_is_no_condition_is_told() {
        for arguments in [
            ["--since", "10"],
            ["--since", "yesterday"],
            ["--pod", "web-1"],
            ["--service", "a/b/c"],
            ["--verdict", "no"],
        ] {
            assert!(
                Command::try_parse_from([&["events"][..], &arguments].concat()).is_err(),
                "{arguments:?}"
            );
        }
    }
}
