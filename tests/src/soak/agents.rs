//! The agent, its restarts, and what it takes.

use std::{
    fs,
    os::unix::process::CommandExt,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use agent::Status;
use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::ledger::Ledger;
use crate::process::{Agent, Dice, Host, program};

/// How long one may take to come up.
const START: Duration = Duration::from_secs(60);

/// How far the agent is.
enum Stage {
    Up,
    Starting { since: Instant },
    Down { until: Instant },
}

/// The agent of now.
pub struct Agents<'a> {
    host: &'a Host,
    ledger: Arc<Ledger>,
    dice: Dice,
    audit: Duration,
    agent: Agent,
    stage: Stage,
    /// When the next restart is due.
    due: Instant,
    /// Restarts so far.
    pub restarts: usize,
    /// The longest that one took to be ready.
    pub slowest: Duration,
    /// What was wrong with one that is no more.
    pub complaints: Vec<String>,
}

/// What an agent takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Footprint {
    /// Resident memory, in KiB: also what it has mapped of the program, and of maps.
    pub rss: u64,
    /// Of that, its own, in KiB.
    pub own: u64,
    /// Open file descriptors.
    pub files: usize,
}

impl<'a> Agents<'a> {
    /// Starts the first one.
    ///
    /// # Errors
    /// It can't be started.
    pub fn new(host: &'a Host, ledger: &Arc<Ledger>, seed: u64, audit: Duration) -> Result<Self> {
        let agent = start(host, audit)?;
        let now = Instant::now();
        Ok(Self {
            host,
            ledger: Arc::clone(ledger),
            dice: Dice::new(seed),
            audit,
            agent,
            stage: Stage::Starting { since: now },
            due: now + Duration::from_secs(3),
            restarts: 0,
            slowest: Duration::ZERO,
            complaints: Vec::new(),
        })
    }

    /// Its status, if it answers.
    pub fn status(&self) -> Option<Status> {
        self.agent.status().ok()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.agent.log()
    }

    /// It has read everything, and everything is in force.
    pub fn is_up(&self) -> bool {
        matches!(self.stage, Stage::Up)
    }

    /// Does what is due: an end if `may_end`, a start, or a look whether it is up. `whole` = no file is broken.
    ///
    /// # Errors
    /// An agent does not come up.
    pub fn step(&mut self, may_end: bool, whole: bool) -> Result<()> {
        match self.stage {
            Stage::Up if may_end && Instant::now() >= self.due => {
                let kill = self.dice.below(3) > 0;
                let down =
                    if self.dice.below(2) == 0 { Duration::ZERO } else { self.dice.millis(100, 3_000) };
                self.end(if kill { Signal::KILL } else { Signal::TERM })?;
                self.stage = Stage::Down { until: Instant::now() + down };
            }
            Stage::Down { until } if Instant::now() >= until => {
                self.agent = start(self.host, self.audit)?;
                self.restarts += 1;
                self.stage = Stage::Starting { since: Instant::now() };
            }
            Stage::Starting { since } => {
                if self.status().is_some_and(|status| is_ready(&status)) {
                    self.slowest = self.slowest.max(since.elapsed());
                    self.stage = Stage::Up;
                    self.due = Instant::now() + self.dice.millis(500, 20_000);
                } else if since.elapsed() > START {
                    bail!("the agent does not come up:\n{}", self.agent.log());
                } else if may_end && self.dice.below(150) == 0 {
                    // It dies on its way.
                    self.end(Signal::KILL)?;
                    self.stage = Stage::Down { until: Instant::now() };
                }
            }
            _ => {}
        }
        if self.is_up() && whole && !self.ledger.is_followed() {
            let held =
                |status: &Status| status.problems.iter().any(|text| text.contains("nothing is deleted"));
            if self.status().is_some_and(|status| !held(&status)) {
                self.ledger.follows();
            }
        }
        Ok(())
    }

    /// Waits until it is up, and follows the files if they are `whole`.
    ///
    /// # Errors
    /// It does not come up.
    pub fn come_up(&mut self, whole: bool) -> Result<()> {
        let deadline = Instant::now() + 2 * START;
        while !(self.is_up() && (self.ledger.is_followed() || !whole)) {
            if Instant::now() > deadline {
                bail!("the agent does not follow the manifests: {:?}\n{}", self.status(), self.log());
            }
            self.step(false, whole)?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Restarts it at once.
    ///
    /// # Errors
    /// It does not come up.
    pub fn restart(&mut self, signal: Signal) -> Result<()> {
        self.end(signal)?;
        self.stage = Stage::Down { until: Instant::now() };
        self.come_up(true)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        self.ledger.stops_following();
        self.inspect();
        if signal == Signal::KILL {
            return self.agent.kill();
        }
        self.agent.signal(signal)?;
        let status = self.agent.wait()?;
        if !status.success() {
            self.complaints.push(format!("{signal:?} ended the agent with {status}"));
        }
        Ok(())
    }

    /// Looks whether anything is wrong with the agent of now that shows at any time.
    pub fn inspect(&mut self) {
        let log = self.agent.log();
        let bad = |line: &&str| line.contains("audit, repairing") || line.contains("panicked");
        for line in log.lines().filter(bad).take(5) {
            self.complaints.push(format!("logged: {line}"));
        }
        let differences = self.status().map_or(0, |status| status.audit_differences);
        if differences > 0 {
            self.complaints.push(format!("audits have found {differences} differences"));
        }
    }

    /// What it takes now.
    ///
    /// # Errors
    /// It has ended.
    pub fn footprint(&self) -> Result<Footprint> {
        let process = format!("/proc/{}", self.agent.pid());
        let status =
            fs::read_to_string(format!("{process}/status")).context("read the agent's status file")?;
        let kib = |name: &str| -> Option<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.split_whitespace().next()?.parse().ok()
        };
        let files = fs::read_dir(format!("{process}/fd")).context("list the agent's files")?.count();
        let (rss, own) = (kib("VmRSS:").context("no VmRSS")?, kib("RssAnon:").context("no RssAnon")?);
        Ok(Footprint { rss, own, files })
    }

    /// The least that it takes within `time`.
    ///
    /// # Errors
    /// It has ended.
    pub fn least_footprint(&self, time: Duration) -> Result<Footprint> {
        let end = Instant::now() + time;
        let mut least = self.footprint()?;
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
            let now = self.footprint()?;
            least = Footprint {
                rss: least.rss.min(now.rss),
                own: least.own.min(now.own),
                files: least.files.min(now.files),
            };
        }
        Ok(least)
    }
}

fn start(host: &Host, audit: Duration) -> Result<Agent> {
    let audit = format!("{}ms", audit.as_millis());
    let mut command = host.agent_command(&program(), &["--audit-interval", &audit]);
    // A ctrl-C is for us, not for it.
    command.process_group(0);
    host.start_command(&mut command)
}

fn is_ready(status: &Status) -> bool {
    status.sources.iter().all(|source| source.synced)
        && status.hooks.iter().all(|hook| hook.program.is_some())
}
