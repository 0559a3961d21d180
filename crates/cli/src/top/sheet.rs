//! Rows and columns, on a screen or in plain text: what they say, how they are sorted and filtered.

use std::cmp::Ordering;

use super::view::{Busy, ClientRow, Failed, Failure, Figures, MapRow, PolicyRow, Share, View};

/// What a screen can show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tab {
    #[default]
    Services,
    Failures,
    Clients,
    Policies,
    Maps,
}

impl Tab {
    pub(super) const ALL: [Self; 5] =
        [Self::Services, Self::Failures, Self::Clients, Self::Policies, Self::Maps];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::Failures => "failures",
            Self::Clients => "clients",
            Self::Policies => "policies",
            Self::Maps => "maps",
        }
    }

    /// Its place among all.
    pub(super) fn index(self) -> usize {
        Self::ALL.iter().position(|it| *it == self).unwrap_or_default()
    }

    /// What is said of it when there is nothing to show.
    pub(super) fn empty(self) -> &'static str {
        match self {
            Self::Services => "no connections to services so far",
            Self::Failures => "no connection has failed so far",
            Self::Clients => "no client so far",
            Self::Policies => "no policies here",
            Self::Maps => "no maps",
        }
    }
}

/// How wide a column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// Characters.
    Fixed(u16),
    /// A share of what is left.
    Rest(u16),
}

/// A column's head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) name: &'static str,
    pub(super) width: Width,
    /// Numbers are on the right.
    pub(super) is_number: bool,
    /// It is shown where there are as many characters on a line.
    pub(super) from: u16,
}

const fn text(name: &'static str, width: Width) -> Head {
    Head { name, width, is_number: false, from: 0 }
}

const fn number(name: &'static str, width: u16) -> Head {
    Head { name, width: Width::Fixed(width), is_number: true, from: 0 }
}

const fn from(from: u16, head: Head) -> Head {
    Head { from, ..head }
}

use Width::{Fixed, Rest};

const SERVICES: &[Head] = &[
    text("SERVICE OR POLICY", Rest(1)),
    number("PER S", 8),
    number("MINUTE", 7),
    number("MIN FAILED", 10),
    number("TOTAL", 9),
    from(90, number("FAILED", 8)),
    from(90, number("CLIENTS", 7)),
    number("BACKENDS", 8),
];
const FAILURES: &[Head] = &[
    text("SERVICE", Rest(5)),
    text("REASON", Fixed(17)),
    text("CLIENT", Rest(6)),
    from(110, text("VERDICT", Fixed(11))),
    from(100, number("PER S", 8)),
    number("MINUTE", 7),
    from(90, number("TOTAL", 8)),
];
const CLIENTS: &[Head] = &[
    text("CLIENT", Rest(6)),
    text("SERVICE OR POLICY", Rest(5)),
    number("PER S", 8),
    number("MINUTE", 7),
    number("MIN FAILED", 10),
    from(90, number("TOTAL", 9)),
    from(90, number("FAILED", 8)),
];
const POLICIES: &[Head] = &[
    text("POLICY", Rest(1)),
    number("PER S", 8),
    number("MINUTE", 8),
    number("TAKEN", 10),
    number("FALLBACKS", 10),
    number("SPILLS", 8),
    from(90, number("OWN", 8)),
];
const MAPS: &[Head] =
    &[text("MAP", Rest(1)), number("USED", 10), number("CAPACITY", 10), number("MOST", 10), number("USE", 6)];
const BACKENDS: &[Head] = &[
    text("BACKEND", Fixed(22)),
    number("SHARE", 5),
    number("MINUTE", 7),
    // What there is to be said has room.
    text("WHY", Fixed(24)),
    text("POD", Rest(1)),
    from(100, text("NODE", Fixed(16))),
];

/// What is in a place.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text(String),
    Count(u64),
    /// A second.
    Rate(f64),
    /// `None`: of nothing.
    Percent(Option<f64>),
}

impl Cell {
    pub(super) fn text(&self) -> String {
        match self {
            // A process may call its threads and cgroups what it likes.
            Self::Text(text) => text.replace(char::is_control, "\u{fffd}"),
            Self::Count(count) => count.to_string(),
            Self::Rate(rate) if *rate == 0.0 => "0".into(),
            Self::Rate(rate) if *rate < 10.0 => format!("{rate:.1}"),
            Self::Rate(rate) => format!("{rate:.0}"),
            Self::Percent(None) => "-".into(),
            Self::Percent(Some(percent)) => format!("{percent:.0} %"),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Count(a), Self::Count(b)) => a.cmp(b),
            (Self::Rate(a), Self::Rate(b)) => a.total_cmp(b),
            (Self::Percent(a), Self::Percent(b)) => a.unwrap_or(-1.0).total_cmp(&b.unwrap_or(-1.0)),
            (a, b) => a.text().cmp(&b.text()),
        }
    }
}

/// How a row is to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mark {
    #[default]
    None,
    /// Worth a look.
    Warn,
    /// Something fails.
    Bad,
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) cells: Vec<Cell>,
    pub(super) mark: Mark,
}

impl Line {
    /// What tells it from others: what it says in words.
    pub(super) fn key(&self) -> String {
        let words = self.cells.iter().filter(|cell| matches!(cell, Cell::Text(_)));
        words.map(Cell::text).collect::<Vec<_>>().join(" ")
    }
}

/// Heads and rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Sheet {
    pub(super) heads: &'static [Head],
    pub(super) lines: Vec<Line>,
}

/// By which column rows are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) column: usize,
    /// The greatest first.
    pub(super) down: bool,
}

fn cells(words: &[&str], figures: Figures) -> Vec<Cell> {
    let mut cells: Vec<Cell> = words.iter().map(|word| Cell::Text((*word).to_owned())).collect();
    cells.extend([Cell::Rate(figures.per_second), Cell::Count(figures.minute), Cell::Count(figures.total)]);
    cells
}

/// What failed is beside what it is a part of: of the last minute, of all.
fn with_failed(words: &[&str], figures: Figures, failed: Failed) -> Vec<Cell> {
    let mut cells = cells(words, figures);
    cells.insert(words.len() + 2, Cell::Count(failed.minute));
    cells.push(Cell::Count(failed.total));
    cells
}

fn bad(is: bool) -> Mark {
    if is { Mark::Bad } else { Mark::None }
}

fn warn(is: bool) -> Mark {
    if is { Mark::Warn } else { Mark::None }
}

impl Sheet {
    /// A tab of a picture.
    pub(super) fn new(view: &View, tab: Tab) -> Self {
        let (heads, lines): (_, Vec<Line>) = match tab {
            Tab::Services => (SERVICES, view.services.iter().map(service).collect()),
            Tab::Failures => {
                let line = |it: &Failure| {
                    let target = it.target.to_string();
                    Line {
                        cells: cells(&[&target, &it.reason, &it.client, &it.verdict], it.figures),
                        mark: bad(it.figures.minute > 0),
                    }
                };
                (FAILURES, view.failures.iter().map(line).collect())
            }
            Tab::Clients => {
                let line = |it: &ClientRow| {
                    let cells = with_failed(&[&it.client, &it.target.to_string()], it.figures, it.failed);
                    Line { cells, mark: bad(it.failed.minute > 0) }
                };
                (CLIENTS, view.clients.iter().map(line).collect())
            }
            Tab::Policies => {
                let line = |it: &PolicyRow| {
                    let mut cells = cells(&[&it.policy.to_string()], it.figures);
                    cells.extend([it.fallbacks, it.spills, it.own].map(Cell::Count));
                    Line { cells, mark: warn(it.fallbacks > 0 || it.spills > 0) }
                };
                (POLICIES, view.policies.iter().map(line).collect())
            }
            Tab::Maps => {
                let line = |it: &MapRow| {
                    let mut cells = vec![Cell::Text(it.map.name.clone())];
                    cells.extend([it.map.used, it.map.capacity, it.map.most].map(Cell::Count));
                    cells.push(Cell::Percent(Some(it.percent as f64)));
                    Line { cells, mark: warn(it.is_filling()) }
                };
                (MAPS, view.maps.iter().map(line).collect())
            }
        };
        Self { heads, lines }
    }

    /// The backends of a service.
    pub(super) fn backends(busy: &Busy) -> Self {
        let line = |it: &Share| {
            let why = it.standing.clone().unwrap_or_else(|| "-".into());
            let dash = |text: &Option<String>| Cell::Text(text.clone().unwrap_or_else(|| "-".into()));
            Line {
                cells: vec![
                    Cell::Text(it.address.to_string()),
                    Cell::Percent(it.percent),
                    Cell::Count(it.figures.minute),
                    Cell::Text(why),
                    dash(&it.pod),
                    dash(&it.node),
                ],
                mark: warn(it.selected == Some(false)),
            }
        };
        Self { heads: BACKENDS, lines: busy.backends.iter().map(line).collect() }
    }

    /// Keeps rows that have `words` in them, in whatever case.
    pub(super) fn filter(&mut self, words: &str) {
        let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
        self.lines.retain(|line| {
            let key = line.key().to_lowercase();
            words.iter().all(|word| key.contains(word.as_str()))
        });
    }

    /// Sorts; what is alike stays in the order that it has.
    pub(super) fn sort(&mut self, order: Order) {
        self.lines.sort_by(|a, b| {
            let (Some(a), Some(b)) = (a.cells.get(order.column), b.cells.get(order.column)) else {
                return Ordering::Equal;
            };
            if order.down { b.order(a) } else { a.order(b) }
        });
    }

    /// Columns for which there is room.
    pub(super) fn columns(&self, width: u16) -> impl Iterator<Item = (usize, &'static Head)> {
        self.heads.iter().enumerate().filter(move |(_, head)| head.from <= width)
    }
}

fn service(it: &Busy) -> Line {
    let mut cells = with_failed(&[&it.target.to_string()], it.figures, it.failed);
    let used = it.backends.iter().filter(|share| share.figures.minute > 0).count();
    cells.extend([it.clients as u64, used as u64].map(Cell::Count));
    Line { cells, mark: bad(it.failed.minute > 0) }
}
