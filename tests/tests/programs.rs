//! How large the programs are, and how much the verifier has to look at: `docs/programs.txt` is what was accepted.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use aya::programs::loaded_programs;
use kernel::{HOOKS, Loaded, Pins, attached, install};
use plan::Capacity;
use testkit::{Bpffs, Cgroup};

/// More than this share above what was accepted is too much. A little is not: the seed of the tables is drawn when
/// they are made, and the compilers see it.
const PERCENT: u64 = 5;

const UPDATE: &str = "sudo -E env UPDATE_DOCS=1 $(which cargo) test -p balancing-tests --test programs";

const TITLE: &str = "\
What the kernel makes of each program. tests/tests/programs.rs fails where a figure has grown by more than 5 %, on a
kernel of the same major and minor version; UPDATE_DOCS=1 makes it write this file anew.

verified  instructions that the verifier looked at, over all paths; it gives up at 1,000,000
xlated    bytes of eBPF code as verified
jited     bytes of machine code";

/// Figures of one program, in the order of [`COLUMNS`].
type Figures = [u64; 3];

const COLUMNS: [&str; 3] = ["verified", "xlated", "jited"];

/// All programs by name, on one kernel.
#[derive(Debug, PartialEq, Eq)]
struct Snapshot {
    /// Major and minor version.
    kernel: String,
    programs: BTreeMap<String, Figures>,
}

impl Snapshot {
    /// Loads the programs as shipped, and asks the kernel.
    fn take() -> Self {
        testkit::require_root();
        let (bpffs, cgroup) = (Bpffs::mount().unwrap(), Cgroup::create().unwrap());
        let (pins, sizes) = (Pins::new(bpffs.path().join("pins")), agent::sizes(&Capacity::FIRST));
        install(Loaded::load(&pins, &sizes).unwrap(), &pins, &sizes, cgroup.path()).unwrap();
        let hooks = attached(&pins).unwrap();
        // One that cannot be looked at is of a test beside this one, and has just gone.
        let programs = loaded_programs().filter_map(Result::ok).filter_map(|program| {
            let hook = hooks.iter().find(|hook| hook.program_id == Some(program.id()))?;
            // Both are known from kernel 5.16 on, where this is root.
            let verified = program.verified_instruction_count().unwrap();
            let translated = program.size_translated().unwrap();
            Some((hook.hook.to_owned(), [verified, translated, program.size_jitted()].map(u64::from)))
        });
        let snapshot = Self { kernel: running_kernel(), programs: programs.collect() };
        kernel::clean(&pins).unwrap();
        assert_eq!(snapshot.programs.len(), HOOKS.len(), "a program was not found: {snapshot:?}");
        snapshot
    }

    fn parse(text: &str) -> Option<Self> {
        let kernel = text.lines().find_map(|line| line.strip_prefix("kernel: "))?.to_owned();
        let rows = text.lines().skip_while(|line| !line.starts_with("program ")).skip(1);
        let programs = rows.map(|row| {
            let mut words = row.split_whitespace();
            let name = words.next()?.to_owned();
            let figures: Vec<u64> = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
            Some((name, figures.try_into().ok()?))
        });
        Some(Self { kernel, programs: programs.collect::<Option<_>>()? })
    }

    fn text(&self) -> String {
        let mut text = format!("{TITLE}\n\nkernel: {}\n\n{:<14}", self.kernel, "program");
        for column in COLUMNS {
            write!(text, "{column:>10}").unwrap();
        }
        for (name, figures) in &self.programs {
            write!(text, "\n{name:<14}").unwrap();
            for figure in figures {
                write!(text, "{figure:>10}").unwrap();
            }
        }
        text + "\n"
    }

    /// What has grown by too much since `accepted`, a line each.
    fn growth(&self, accepted: &Self) -> Vec<String> {
        let mut growth = Vec::new();
        for (name, figures) in &self.programs {
            let Some(before) = accepted.programs.get(name) else {
                growth.push(format!("{name} is new"));
                continue;
            };
            for ((column, now), before) in COLUMNS.iter().zip(figures).zip(before) {
                if now * 100 > before * (100 + PERCENT) {
                    growth.push(format!("{name}: {column} was {before} and is {now}"));
                }
            }
        }
        growth
    }
}

/// `6.18` of `6.18.44-cloud`.
fn running_kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    release.trim().splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
}

#[test]
fn programs_have_not_grown_unnoticed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/programs.txt");
    let now = Snapshot::take();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, now.text()).unwrap();
        return;
    }
    let text = fs::read_to_string(&path).unwrap();
    let accepted =
        Snapshot::parse(&text).unwrap_or_else(|| panic!("docs/programs.txt is broken: `{UPDATE}`"));
    println!("{}", now.text());
    if accepted.kernel != now.kernel {
        println!("not compared: docs/programs.txt is of kernel {}", accepted.kernel);
        return;
    }
    let growth = now.growth(&accepted);
    assert!(
        growth.is_empty(),
        "programs have grown:\n  {}\naccepted, docs/programs.txt:\n{text}\nnow:\n{}\nIf they had to: `{UPDATE}`",
        growth.join("\n  "),
        now.text()
    );
}

#[test]
fn a_snapshot_is_what_its_text_says() {
    let snapshot = |verified| Snapshot {
        kernel: "6.18".into(),
        programs: [("connect4".into(), [verified, 2000, 1500]), ("recvmsg4".into(), [1, 2, 3])].into(),
    };
    let accepted = snapshot(1000);
    assert_eq!(Snapshot::parse(&accepted.text()), Some(snapshot(1000)));
    assert_eq!(snapshot(1050).growth(&accepted), Vec::<String>::new());
    assert_eq!(snapshot(1051).growth(&accepted), ["connect4: verified was 1000 and is 1051"]);
    assert_eq!(Snapshot::parse("nonsense"), None);
}
