//! C2 and C3: how soon a change is used, and what it takes.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use testkit::Kind;

use super::{
    feed::Feed,
    stage::{Agent, Stage},
};

/// Between two changes: longer than anything that the agent does because of one.
const APART: Duration = Duration::from_millis(150);
/// How long a change may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two connections.
const PACE: Duration = Duration::from_micros(200);
/// For how long the agent is left alone, to see what it takes when nothing happens.
const IDLE: Duration = Duration::from_secs(5);
/// How often a hundred services change at once, and how long that may take.
const HUNDREDS: u32 = 10;
const HUNDRED_IN: Duration = Duration::from_secs(2);

/// What was found.
pub(super) struct Changes {
    /// From a change of a slice until a new connection used what it says.
    pub(super) took: Vec<Duration>,
    /// CPU of one change, on average.
    pub(super) cpu: Duration,
    /// CPU of a hundred at once, on average.
    pub(super) cpu_of_hundred: Duration,
}

/// Changes slices, and connects until that is seen: a TCP connection, since its backend says who it is. What `getpeername` says
/// would prove nothing, as it is the VIP whatever was chosen, and a look into the maps would be quicker than any client.
pub(super) fn measure<F: Feed>(stage: &Stage<F>, agent: &Agent, count: u32) -> Result<Changes> {
    let cpu = || agent.process().cpu();
    thread::sleep(Duration::from_secs(1));
    let before = cpu()?;
    thread::sleep(IDLE);
    let idle = (cpu()? - before).as_secs_f64() / IDLE.as_secs_f64();
    // What it takes beyond what it takes anyway, for each of so many.
    let net = |cpu: Duration, time: Duration, count: u32| {
        Duration::from_secs_f64((cpu.as_secs_f64() - idle * time.as_secs_f64()).max(0.0) / f64::from(count))
    };

    let (begun, before) = (Instant::now(), cpu()?);
    let took = stage.inside(|| (0..count).map(|number| one(stage, number)).collect::<Result<Vec<_>>>())?;
    thread::sleep(APART);
    let cpu_of_one = net(cpu()? - before, begun.elapsed(), count);

    let (begun, before) = (Instant::now(), cpu()?);
    for number in 1..=HUNDREDS {
        stage.feed().change_hundred(number)?;
        thread::sleep(HUNDRED_IN);
    }
    let cpu_of_hundred = net(cpu()? - before, begun.elapsed(), HUNDREDS);
    Ok(Changes { took, cpu: cpu_of_one, cpu_of_hundred })
}

fn one<F: Feed>(stage: &Stage<F>, number: u32) -> Result<Duration> {
    let set = stage.sets()[(number as usize + 1) % 2];
    stage.feed().prepare(set.1)?;
    // Writing is a sign of change already. And another part of the agent's 20 ms and 1 s each time.
    thread::sleep(APART + Duration::from_millis(u64::from(number * 7 % 50)));
    let begun = Instant::now();
    stage.feed().change()?;
    while !stage.ask(Kind::Tcp)?.backend.starts_with(set.0) {
        if begun.elapsed() > PATIENCE {
            bail!("a change of a slice is not in force after {PATIENCE:?}");
        }
        thread::sleep(PACE);
    }
    Ok(begun.elapsed())
}
