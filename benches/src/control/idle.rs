//! What the agent takes when no service changes: alone, and with what nodes say all the time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    api_server::ApiServer,
    objects,
    stage::{Agent, Stage},
};

/// How often a kubelet renews its lease, and how often it reports the status of a node of which nothing has changed
/// (kubernetes 1.36 pkg/kubelet/apis/config/v1beta1/defaults.go: nodeLeaseDurationSeconds / 4, nodeStatusReportFrequency).
const LEASE: Duration = Duration::from_secs(10);
const STATUS: Duration = Duration::from_secs(300);
/// What is left of a load before.
const SETTLED: Duration = Duration::from_secs(3);

/// What was found.
pub(super) struct Idle {
    pub(super) lasted: Duration,
    /// CPU time of the agent.
    pub(super) cpu: Duration,
    /// Bytes that the server sent.
    pub(super) bytes: u64,
    /// How often the agent began to wait.
    pub(super) waits: u64,
}

/// Nothing happens at all.
pub(super) fn quiet(stage: &Stage<ApiServer>, agent: &Agent, lasts: Duration) -> Result<Idle> {
    measure(stage, agent, || {
        thread::sleep(lasts);
        Ok(())
    })
}

/// All nodes renew their leases, and report their status, as often as kubelets do.
pub(super) fn heartbeats(stage: &Stage<ApiServer>, agent: &Agent, lasts: Duration) -> Result<Idle> {
    let api = stage.feed();
    let nodes = api.nodes().max(1);
    measure(stage, agent, || {
        let begun = Instant::now();
        let (mut leases, mut statuses) = (0, 0);
        while begun.elapsed() < lasts {
            let due = |every: Duration| {
                (begun.elapsed().as_secs_f64() / every.as_secs_f64() * f64::from(nodes)) as u32
            };
            while leases < due(LEASE) {
                api.cluster().put(objects::lease_at(leases % nodes, leases / nodes + 1))?;
                leases += 1;
            }
            while statuses < due(STATUS) {
                api.cluster().put(objects::node_at(statuses % nodes, statuses / nodes + 1))?;
                statuses += 1;
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    })
}

fn measure(stage: &Stage<ApiServer>, agent: &Agent, work: impl FnOnce() -> Result<()>) -> Result<Idle> {
    thread::sleep(SETTLED);
    let now =
        || -> Result<_> { Ok((agent.process().cpu()?, stage.feed().bytes_sent(), agent.process().waits()?)) };
    let (begun, before) = (Instant::now(), now()?);
    work()?;
    let after = now()?;
    Ok(Idle {
        lasted: begun.elapsed(),
        cpu: after.0 - before.0,
        bytes: after.1 - before.1,
        waits: after.2.saturating_sub(before.2),
    })
}
