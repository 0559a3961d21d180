//! What is read when somebody asks: of the kernel, of this process, and of the task that owns the tables without waiting for it.

use std::{fmt, time::Duration};

use abi::{Hook, Reason};
use model::Family;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::label::{At, OfDecision, OfHook, OfMap, OfSink, OfSource, name};

/// All of it. What could not be read is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// The kernel's side; `None`: it can't be read.
    pub kernel: Option<Kernel>,
    /// How much there is in the maps.
    pub maps: Vec<MapUse>,
    /// This process.
    pub process: Option<Process>,
    /// What the agent's health says at each path.
    pub health: Vec<(&'static str, bool)>,
    /// How long ago the task that owns the tables turned.
    pub silence: Duration,
    /// For how long the oldest change has waited to be in force.
    pub waiting: Duration,
    /// The source, if anything is known of it.
    pub source: Option<Source>,
    /// Where the event log is written.
    pub sinks: Vec<Sink>,
}

/// What the kernel says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kernel {
    /// Decisions by hook, IPv6, and reason.
    pub decisions: Vec<(Hook, bool, Reason, u64)>,
    /// Events that the ring buffer had no room for.
    pub events_lost: u64,
    /// Decisions that there was no room to count by client or backend.
    pub unattributed: u64,
    /// `balancing pause` is in force.
    pub paused: bool,
    /// The hooks.
    pub programs: Vec<Program>,
}

/// The program of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Name of the hook.
    pub hook: &'static str,
    /// There is one.
    pub attached: bool,
    /// For how long it has run, and how often, where the kernel says so.
    pub runs: Option<(Duration, u64)>,
}

/// How much there is in a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapUse {
    /// Its name.
    pub name: String,
    /// Entries that are in use.
    pub entries: u64,
    /// Entries that there is room for.
    pub capacity: u64,
    /// Entries that it may be made larger for.
    pub limit: u64,
}

/// What this process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// CPU time, in seconds.
    pub cpu: f64,
    /// Bytes of memory.
    pub resident: u64,
    /// Bytes of address space.
    pub address_space: u64,
    /// Files that are open.
    pub open_files: u64,
    /// Files that may be.
    pub most_files: u64,
    /// When it started, in seconds since 1970.
    pub started: f64,
}

/// How fresh what is known of the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// `kubernetes` or `manifests`.
    pub name: &'static str,
    /// It has given everything once.
    pub synced: bool,
    /// For how long it has not given what it has, as far as can be known.
    pub stale: Duration,
}

/// A place where the event log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// As `--event-log` has it.
    pub name: String,
    /// Lines that were written there.
    pub written: u64,
    /// Lines that are missing there.
    pub lost: u64,
    /// Nothing can be written there now.
    pub failing: bool,
}

/// Writes metrics one after the other.
pub(super) struct Writer<'a>(pub(super) DescriptorEncoder<'a>);

impl Writer<'_> {
    pub(super) fn family(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        write: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        write(&mut self.0.encode_descriptor(name, help, None, kind)?)
    }

    /// A gauge for each of these.
    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        self.family(MetricType::Gauge, name, help, |metric| {
            for (labels, value) in all {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
            Ok(())
        })
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.family(MetricType::Gauge, name, help, |metric| metric.encode_gauge(&value))
    }

    /// A counter for each of these.
    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        all: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        self.family(MetricType::Counter, name, help, |metric| {
            for (labels, value) in all {
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
            }
            Ok(())
        })
    }
}

impl Collector for Reading {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let write = &mut Writer(encoder);
        write.gauge(
            "balancing_kernel_readable",
            "1: what the kernel holds could be read just now",
            self.kernel.is_some().into(),
        )?;
        if let Some(kernel) = &self.kernel {
            kernel.encode(write)?;
        }
        self.encode_maps(write)?;
        write.gauges(
            "balancing_healthy",
            "1: the agent's health port answers 200 at this path",
            self.health.iter().map(|(path, good)| (At { path }, f64::from(u8::from(*good)))),
        )?;
        write.gauge(
            "balancing_owner_silence_seconds",
            "How long ago the task that owns the tables turned",
            self.silence.as_secs_f64(),
        )?;
        write.gauge(
            "balancing_sync_waiting_seconds",
            "For how long the oldest change has waited to be in force; 0: none waits",
            self.waiting.as_secs_f64(),
        )?;
        self.encode_source(write)?;
        self.encode_sinks(write)?;
        self.process.iter().try_for_each(|process| process.encode(write))
    }
}

impl Reading {
    fn encode_maps(&self, write: &mut Writer<'_>) -> fmt::Result {
        let of = |value: fn(&MapUse) -> u64| {
            self.maps.iter().map(move |map| (OfMap { map: map.name.clone() }, value(map) as f64))
        };
        write.gauges("balancing_map_entries", "Entries of a map that are in use", of(|it| it.entries))?;
        write.gauges(
            "balancing_map_capacity",
            "Entries that a map has room for now",
            of(|it| it.capacity),
        )?;
        write.gauges("balancing_map_limit", "Entries that a map may be made larger for", of(|it| it.limit))
    }

    fn encode_sinks(&self, write: &mut Writer<'_>) -> fmt::Result {
        let label = |it: &Sink| OfSink { sink: it.name.clone() };
        write.counters(
            "balancing_event_log_written",
            "Lines of the event log that were written to a place of --event-log",
            self.sinks.iter().map(|it| (label(it), it.written)),
        )?;
        write.counters(
            "balancing_event_log_lost",
            "Lines of the event log that are missing there",
            self.sinks.iter().map(|it| (label(it), it.lost)),
        )?;
        write.gauges(
            "balancing_event_log_failing",
            "1: nothing can be written there now",
            self.sinks.iter().map(|it| (label(it), f64::from(u8::from(it.failing)))),
        )
    }

    fn encode_source(&self, write: &mut Writer<'_>) -> fmt::Result {
        let of = |value: fn(&Source) -> f64| {
            self.source.iter().map(move |it| (OfSource { source: it.name }, value(it)))
        };
        write.gauges(
            "balancing_source_synced",
            "1: the source has given everything once since the agent started",
            of(|it| it.synced.into()),
        )?;
        write.gauges(
            "balancing_source_stale_seconds",
            "For how long the source has not been read well, or not completely; 0: it is",
            of(|it| it.stale.as_secs_f64()),
        )
    }
}

impl Kernel {
    fn encode(&self, write: &mut Writer<'_>) -> fmt::Result {
        let decision = |(hook, v6, reason, count): &(Hook, bool, Reason, u64)| {
            let labels = OfDecision {
                hook: hook.name(),
                family: name(if *v6 { Family::V6 } else { Family::V4 }),
                verdict: reason.verdict().name(),
                reason: reason.name(),
            };
            (labels, *count)
        };
        write.counters(
            "balancing_decisions",
            "What became of connects and datagrams, since the maps were made",
            self.decisions.iter().map(decision),
        )?;
        write.family(
            MetricType::Counter,
            "balancing_events_lost",
            "Events that the ring buffer had no room for, since the maps were made",
            |metric| metric.encode_counter::<NoLabelSet, u64, u64>(&self.events_lost, None),
        )?;
        write.family(
            MetricType::Counter,
            "balancing_usage_unattributed",
            "Decisions that there was no room to count by client or backend, since the maps were made",
            |metric| metric.encode_counter::<NoLabelSet, u64, u64>(&self.unattributed, None),
        )?;
        write.gauge(
            "balancing_paused",
            "1: `balancing pause` is in force, connections pass untranslated",
            self.paused.into(),
        )?;
        let hook = |it: &Program| OfHook { hook: it.hook };
        write.gauges(
            "balancing_hook_attached",
            "1: the hook has a program",
            self.programs.iter().map(|it| (hook(it), f64::from(u8::from(it.attached)))),
        )?;
        let runs = || self.programs.iter().filter_map(|it| Some((hook(it), it.runs?)));
        write.family(
            MetricType::Counter,
            "balancing_program_run_seconds",
            "For how long a hook's program has run; only with the sysctl kernel.bpf_stats_enabled",
            |metric| {
                for (labels, (took, _)) in runs() {
                    let seconds = took.as_secs_f64();
                    metric.encode_family(&labels)?.encode_counter::<NoLabelSet, f64, u64>(&seconds, None)?;
                }
                Ok(())
            },
        )?;
        write.counters(
            "balancing_program_runs",
            "How often a hook's program has run; only with the sysctl kernel.bpf_stats_enabled",
            runs().map(|(labels, (_, runs))| (labels, runs)),
        )
    }
}

impl Process {
    /// By the names that all programs have for these (Prometheus, "Writing client libraries", process metrics).
    fn encode(&self, write: &mut Writer<'_>) -> fmt::Result {
        write.family(MetricType::Counter, "process_cpu_seconds", "CPU time of this process", |metric| {
            metric.encode_counter::<NoLabelSet, f64, u64>(&self.cpu, None)
        })?;
        write.gauge("process_resident_memory_bytes", "Memory of this process", self.resident as f64)?;
        write.gauge(
            "process_virtual_memory_bytes",
            "Address space of this process",
            self.address_space as f64,
        )?;
        write.gauge("process_open_fds", "Files that this process has open", self.open_files as f64)?;
        write.gauge("process_max_fds", "Files that this process may open", self.most_files as f64)?;
        write.gauge(
            "process_start_time_seconds",
            "When this process started, in seconds since 1970",
            self.started,
        )
    }
}
