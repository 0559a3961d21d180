//! `balancing get usage`: who uses what.

use std::{cmp::Reverse, collections::HashMap, net::SocketAddr};

use agent::local::Request;
use jiff::Timestamp;
use observe::{
    Usage,
    event::Who,
    usage::{ClientUse, Count},
};
use serde::Serialize;

use super::{
    filter::{Facts, Subject},
    service_port::ServicePort,
};
use crate::{
    output::{Row, or_dash},
    place::Place,
    target::{Target, who},
    tone::Tone,
};

/// What one client asked of one service port or policy, and what came of it.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Use {
    it: ClientUse,
    #[serde(skip)]
    target: Target,
}

impl From<ClientUse> for Use {
    fn from(it: ClientUse) -> Self {
        Self { target: Target::from(&it), it }
    }
}

impl Subject for Use {
    const NOUN: (&'static str, &'static str) = ("client", "clients");
    const LISTING: &'static str = "usage";
    const NONE: &'static str = "none has connected to a service since the agent started";
    const FILTERS: &'static [&'static str] = &["--namespace", "--service", "--policy", "--pod", "--verdict"];
    const MANY: Option<&'static str> = Some("the busiest are first, then who was seen last");

    fn facts(&self) -> Facts<'_> {
        let ClientUse { client, verdict, .. } = &self.it;
        let namespace = client.namespace.as_deref().unwrap_or_default();
        let name = client.pod.as_deref().or(client.host.as_deref()).unwrap_or_default();
        Facts {
            namespace,
            name: name.into(),
            shown: Some(shown(client)),
            service: match &self.target {
                Target::Service { namespace, name, port } => Some((namespace, name, port)),
                Target::Policy { .. } | Target::Nothing => None,
            },
            policy: match &self.target {
                Target::Policy { kind, name } => Some((kind, name)),
                Target::Service { .. } | Target::Nothing => None,
            },
            pod: client.pod.as_deref().map(|pod| (namespace, pod)),
            verdict,
            ..Facts::default()
        }
    }

    fn key(&self) -> String {
        who(&self.it.client)
    }
}

impl Row for Use {
    const HEADS: &'static [&'static str] =
        &["CLIENT", "SERVICE OR POLICY", "VERDICT", "REASON", "MINUTE", "TOTAL", "LAST SEEN", "CONTAINER"];
    const NARROW: usize = 7;

    fn cells(&self) -> Vec<String> {
        let ClientUse { client, verdict, reason, count, last, .. } = &self.it;
        vec![
            shown(client),
            self.target.to_string(),
            verdict.clone(),
            reason.clone(),
            count.minute.to_string(),
            count.total.to_string(),
            last.map_or("before start".into(), |last| time_of(last, Timestamp::now())),
            or_dash(client.container_id.as_ref()),
        ]
    }

    fn tone(&self) -> Tone {
        match Tone::of_verdict(&self.it.verdict) {
            Tone::Bad => Tone::Bad,
            _ => Tone::Plain,
        }
    }
}

/// The time of day; of other days the day too.
fn time_of(at: Timestamp, now: Timestamp) -> String {
    let day = |at: Timestamp| at.strftime("%F").to_string();
    at.strftime(if day(at) == day(now) { "%TZ" } else { "%FT%TZ" }).to_string()
}

/// Whoever makes a cgroup gives it a name.
fn shown(client: &Who) -> String {
    who(client).replace(char::is_control, "\u{fffd}")
}

/// All of it: the busiest of the last minute first, then who was seen last. Only the agent knows.
pub(super) fn rows(place: &Place) -> anyhow::Result<Vec<Use>> {
    let usage: Usage = agent::local::ask_one(&place.socket, &Request::Usage)?;
    let mut rows: Vec<Use> = usage.clients.into_iter().map(Use::from).collect();
    rows.sort_by_cached_key(|row| {
        let count = row.it.count;
        let busy = (Reverse(count.minute), Reverse(row.it.last), Reverse(count.total));
        (busy, who(&row.it.client), row.target.clone())
    });
    Ok(rows)
}

/// How often each backend was chosen on this node.
pub(super) struct Chosen(HashMap<(String, SocketAddr), Count>);

impl Chosen {
    /// What the agent has counted; `None` where it does not say.
    pub(super) fn ask(place: &Place) -> Option<Self> {
        let usage: Usage = agent::local::ask_one(&place.socket, &Request::Usage).ok()?;
        usage.time.is_some().then(|| Self::from(&usage))
    }

    /// One backend of a service port or policy.
    pub(super) fn count(&self, port: &ServicePort, address: SocketAddr) -> Count {
        self.0.get(&(port.target(), address)).copied().unwrap_or_default()
    }
}

impl From<&Usage> for Chosen {
    fn from(usage: &Usage) -> Self {
        let mut chosen: HashMap<_, Count> = HashMap::new();
        for it in &usage.backends {
            let key = (Target::from(it).to_string(), SocketAddr::new(it.ip, it.port));
            let count = chosen.entry(key).or_default();
            count.minute += it.count.minute;
            count.total += it.count.total;
        }
        Self(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_another_day_says_which() {
        let now: Timestamp = "2026-11-23T00:00:10Z".parse().unwrap();
        for (at, expected) in
            [("2026-11-23T00:00:05Z", "00:00:05Z"), ("2026-11-22T23:59:59Z", "2026-11-22T23:59:59Z")]
        {
            assert_eq!(time_of(at.parse().unwrap(), now), expected);
        }
    }
}
