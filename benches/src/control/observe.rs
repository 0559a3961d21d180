//! S1 to S4: what it costs to see what connections do, and whether anything is missing.

use std::{
    fmt,
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use agent::{EventLevel, local};
use anyhow::{Context, Result, bail, ensure};
use kernel::{Maps, Pins};
use serde::Serialize;

use crate::tables::{PORT, vip4};

use super::{
    manifests::Manifests,
    stage::{Agent, Stage},
};

/// Rounds of S1, and connections in each.
const ROUNDS: usize = 1500;
const IN_A_ROUND: u32 = 500;
/// What none may be lost of.
const PACED: u64 = 10_000;
/// Services that are used before: as many as have metrics of their own.
const USED: u32 = 1000;
/// Scrapes, and questions who uses what.
const SCRAPES: usize = 40;
/// Until all is told: a client is waited for up to three seconds, and what was suppressed is told within one.
const SETTLED: Duration = Duration::from_secs(4);
/// A port that the service does not have.
const REFUSED: u16 = 9;

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The `balancing` to measure
    #[arg(long, value_name = "FILE")]
    program: PathBuf,
    /// Services, each with ten endpoints
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=50_000))]
    services: u32,
    /// How long failures come, of each kind
    #[arg(long, value_name = "N", default_value_t = 10)]
    seconds: u64,
    /// Also write everything to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Everything that was measured.
#[derive(Serialize)]
struct Measured {
    services: u32,
    cpus: usize,
    /// What a UDP connect and close takes.
    levels: Vec<Level>,
    /// What became of decisions, by how they came.
    floods: Vec<(&'static str, Flood)>,
    /// Microseconds of a scrape: median, longest; and its bytes.
    scrape: (u64, u64, usize),
    /// Microseconds until it is known who uses what: median, longest.
    usage: (u64, u64),
    resident_mib: u64,
}

/// A UDP connect and close at one level of events.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Level {
    level: &'static str,
    /// Of ten connects so many are refused.
    refused_of_ten: u32,
    /// Nanoseconds, of the best and the median round.
    best: u64,
    median: u64,
}

/// Decisions that were to be told of, and those that were.
#[derive(Clone, Copy, Default, Serialize)]
struct Flood {
    decisions: u64,
    a_second: u64,
    told: u64,
    lost: u64,
    suppressed: u64,
}

impl Flood {
    fn is_exact(&self) -> bool {
        self.told + self.lost + self.suppressed == self.decisions
    }
}

/// Measures, and prints the table; fails where a decision is missing that nobody counted.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    testkit::require_root();
    println!("{} services ...", arguments.services);
    let feed = |vip, first| Manifests::write(arguments.services, false, vip, first);
    let stage = Stage::build(&arguments.program, arguments.services, feed)?;
    let agent = stage.agent()?;
    let maps = Maps::open(&Pins::new(stage.pins()))?;
    let levels = levels(&stage, &maps)?;
    let seconds = Duration::from_secs(arguments.seconds);
    agent::set_level(&maps, EventLevel::Failures)?;
    let refused = SocketAddr::new(stage.vip().ip(), REFUSED);
    let paced = flood(&stage, refused, seconds, Some(PACED)).context("failures, paced")?;
    let failures = flood(&stage, refused, seconds, None).context("failures")?;
    agent::set_level(&maps, EventLevel::All)?;
    let all = flood(&stage, stage.vip(), seconds, None).context("all")?;
    agent::set_level(&maps, EventLevel::Failures)?;
    use_services(&stage, arguments.services.min(USED));
    let measured = Measured {
        services: arguments.services,
        cpus: thread::available_parallelism().map_or(1, Into::into),
        levels,
        floods: vec![("10,000 failures/s", paced), ("failures", failures), ("level all", all)],
        scrape: scrape(&stage)?,
        usage: usage(&stage)?,
        resident_mib: resident(&agent)?,
    };
    println!("\n{measured}");
    crate::write_json(arguments.json.as_deref(), &measured)?;
    drop(agent);
    stage.clean()?;
    ensure!(
        paced.lost + paced.suppressed == 0,
        "of {PACED} failures a second {} are not told of",
        paced.lost
    );
    for (what, flood) in &measured.floods {
        ensure!(flood.is_exact(), "{what}: some decisions are neither told of nor counted");
    }
    Ok(())
}

/// S1: levels take turns, in short rounds, so that what else runs on the machine meets all of them. Where all connects go well,
/// and where one in ten is refused.
fn levels(stage: &Stage<Manifests>, maps: &Maps) -> Result<Vec<Level>> {
    let levels = [("off", EventLevel::Off), ("failures", EventLevel::Failures), ("all", EventLevel::All)];
    let cases: Vec<_> = [0, 1].iter().flat_map(|refused| levels.map(|level| (*refused, level))).collect();
    let mut rounds: Vec<Vec<u64>> = vec![Vec::new(); cases.len()];
    let (vip, nobody) = (stage.vip(), SocketAddr::new(stage.vip().ip(), REFUSED));
    stage.inside(|| -> Result<()> {
        for round in 0..ROUNDS {
            for turn in 0..cases.len() {
                let which = (round + turn) % cases.len();
                let (refused, (_, level)) = cases[which];
                agent::set_level(maps, level)?;
                connect(vip)?;
                let begun = Instant::now();
                for n in 0..IN_A_ROUND {
                    if n % 10 < refused {
                        ensure!(connect(nobody).is_err(), "{nobody} is not refused");
                    } else {
                        connect(vip)?;
                    }
                }
                rounds[which].push(begun.elapsed().as_nanos() as u64 / u64::from(IN_A_ROUND));
            }
        }
        Ok(())
    })?;
    let figures = cases.iter().zip(&mut rounds).map(|((refused_of_ten, (level, _)), rounds)| {
        rounds.sort_unstable();
        Level { level, refused_of_ten: *refused_of_ten, best: rounds[0], median: rounds[rounds.len() / 2] }
    });
    Ok(figures.collect())
}

/// Uses so many services, so that each has metrics of its own.
fn use_services(stage: &Stage<Manifests>, services: u32) {
    stage.inside(|| {
        for n in 0..services {
            // Nobody is there; that a backend was chosen is what counts.
            let _ =
                TcpStream::connect_timeout(&SocketAddr::new(vip4(n).into(), PORT), Duration::from_millis(1));
        }
    });
    // The agent reads who uses what every two seconds.
    thread::sleep(SETTLED);
}

fn connect(to: SocketAddr) -> Result<()> {
    UdpSocket::bind("0.0.0.0:0")?.connect(to).context("connect")
}

/// S2: as many connections as there can be, or so many a second, and how many lines come of them.
fn flood(stage: &Stage<Manifests>, to: SocketAddr, time: Duration, rate: Option<u64>) -> Result<Flood> {
    // What came before is told of by then.
    thread::sleep(SETTLED);
    let follower = Follower::start(stage)?;
    let begun = Instant::now();
    let decisions = stage.inside(|| -> Result<u64> {
        let mut count = 0;
        while begun.elapsed() < time {
            // In bursts of a millisecond.
            let due = rate.map_or(count + 1000, |rate| rate * begun.elapsed().as_millis() as u64 / 1000);
            while count < due {
                // Refused or not: what is told of it is what counts.
                let _ = UdpSocket::bind("0.0.0.0:0")?.connect(to);
                count += 1;
            }
            if rate.is_some() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(count)
    })?;
    let a_second = (decisions as f64 / begun.elapsed().as_secs_f64()) as u64;
    follower.end(Flood { decisions, a_second, ..Flood::default() })
}

/// Counts the lines of the event log.
struct Follower {
    counts: Arc<[AtomicU64; 3]>,
    over: Arc<AtomicBool>,
}

impl Follower {
    fn start(stage: &Stage<Manifests>) -> Result<Self> {
        let counts: Arc<[AtomicU64; 3]> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let lines = local::ask(&stage.socket(), &local::Request::Events { follow: true, how_far: false })?;
        let (told, finished) = (counts.clone(), over.clone());
        let begun = jiff::Timestamp::now().to_string();
        // Events tell the time to the kernel's tick.
        thread::sleep(Duration::from_millis(20));
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Of an earlier flood, which the agent remembers.
                let is_old = field(&line, "\"time\":\"").is_none_or(|time| time < begun.as_str());
                if finished.load(SeqCst) {
                    break;
                }
                if is_old {
                    continue;
                }
                let number = |name| field(&line, name).and_then(|text| text.parse::<u64>().ok());
                match (number("\"lost\":"), number("\"suppressed\":")) {
                    (Some(lost), _) => told[1].fetch_add(lost, SeqCst),
                    (_, Some(suppressed)) => told[2].fetch_add(suppressed, SeqCst),
                    _ => told[0].fetch_add(1, SeqCst),
                };
            }
        });
        Ok(Self { counts, over })
    }

    /// Waits until all is told, or nothing more is.
    fn end(self, mut flood: Flood) -> Result<Flood> {
        let mut before = u64::MAX;
        loop {
            let [told, lost, suppressed] = [0, 1, 2].map(|n| self.counts[n].load(SeqCst));
            (flood.told, flood.lost, flood.suppressed) = (told, lost, suppressed);
            let sum = told + lost + suppressed;
            if sum == before {
                break;
            }
            before = sum;
            thread::sleep(SETTLED);
        }
        self.over.store(true, SeqCst);
        Ok(flood)
    }
}

/// What is behind a field's name in a line of JSON, to its end.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let rest = &line[line.find(name)? + name.len()..];
    rest.split([',', '}', '"']).next()
}

/// S3: the whole of the metrics, as Prometheus gets it.
fn scrape(stage: &Stage<Manifests>) -> Result<(u64, u64, usize)> {
    let mut bytes = 0;
    let (median, longest) = timed(|| {
        let mut stream =
            TcpStream::connect(("127.0.0.1", stage.metrics_port())).context("connect to metrics")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        if !text.starts_with("HTTP/1.1 200") {
            bail!("metrics: {}", text.lines().next().unwrap_or_default());
        }
        bytes = text.len();
        Ok(())
    })?;
    Ok((median, longest, bytes))
}

/// S4: who uses what, as `balancing top` asks it.
fn usage(stage: &Stage<Manifests>) -> Result<(u64, u64)> {
    timed(|| {
        local::ask_one::<observe::Usage>(&stage.socket(), &local::Request::Usage)
            .map(drop)
            .map_err(Into::into)
    })
}

fn timed(mut work: impl FnMut() -> Result<()>) -> Result<(u64, u64)> {
    let mut times = Vec::new();
    for _ in 0..SCRAPES {
        let begun = Instant::now();
        work()?;
        times.push(begun.elapsed().as_micros() as u64);
        thread::sleep(Duration::from_millis(50));
    }
    times.sort_unstable();
    Ok((times[times.len() / 2], times[times.len() - 1]))
}

fn resident(agent: &Agent) -> Result<u64> {
    Ok(agent.process().memory()?.resident >> 20)
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "S1: UDP connect+close to a VIP, by level of events, an agent reading them")?;
        writeln!(
            f,
            "{:<16} {:<10} {:>8} {:>7} {:>10} {:>7}",
            "refused", "level", "best ns", "ratio", "median ns", "ratio"
        )?;
        for group in self.levels.chunk_by(|a, b| a.refused_of_ten == b.refused_of_ten) {
            for it in group {
                let what = if it.refused_of_ten == 0 { "none" } else { "one in ten" };
                let ratio = |ns: u64, off: u64| ns as f64 / off.max(1) as f64;
                let (one, other) = (ratio(it.best, group[0].best), ratio(it.median, group[0].median));
                let Level { level, best, median, .. } = it;
                writeln!(f, "{what:<16} {level:<10} {best:>8} {one:>7.3} {median:>10} {other:>7.3}")?;
            }
        }
        writeln!(f, "\nS2: decisions that were to be told of")?;
        let heads = ["decisions", "a second", "told", "lost", "suppressed"];
        let [a, b, c, d, e] = heads;
        writeln!(f, "{:<18} {a:>10} {b:>9} {c:>9} {d:>9} {e:>10}", "")?;
        for (what, it) in &self.floods {
            let exact = if it.is_exact() { "exact" } else { "NOT EXACT" };
            writeln!(
                f,
                "{what:<18} {:>10} {:>9} {:>9} {:>9} {:>10}  {exact}",
                it.decisions, it.a_second, it.told, it.lost, it.suppressed
            )?;
        }
        let ((median, longest, bytes), (asked, most)) = (self.scrape, self.usage);
        let ms = |us: u64| us as f64 / 1000.0;
        writeln!(f, "\nat {} services, {} CPUs:", self.services, self.cpus)?;
        writeln!(
            f,
            "S3: a scrape of {} KiB: {:.1} ms, longest {:.1} ms",
            bytes / 1024,
            ms(median),
            ms(longest)
        )?;
        writeln!(f, "S4: who uses what: {:.1} ms, longest {:.1} ms", ms(asked), ms(most))?;
        write!(f, "resident: {} MiB", self.resident_mib)
    }
}
