//! Arbitrary bytes as records of the ring buffer: each becomes one line of JSON that says what the record says.
//!
//! Also run by the fuzz target `events`.

use abi::{Event, Hook, Name, Reason, TCP, UDP, feature, name::owner_kind};
use jiff::Timestamp;
use model::ObjectName;
use observe::event::{Clock, Decision, Line, Lost, Names, SCHEMA, Who};
use serde_json::Value;

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// A record became a line.
    pub lines: u32,
    /// Its reason, hook, protocol and kind of frontend are known.
    pub known: u32,
    /// Its thread's name is not UTF-8.
    pub not_utf8: u32,
    /// A record was of another size.
    pub refused: u32,
}

/// The bytes that say what is known beside the records.
const CONTEXT: usize = 32;

/// Reads `bytes`: what is known, the name of the service port, then records; the last one may be too short.
///
/// # Panics
/// Something did not hold.
pub(super) fn run(bytes: &[u8]) -> Tally {
    let mut tally = Tally::default();
    let Some((context, bytes)) = bytes.split_at_checked(CONTEXT) else { return tally };
    let Some((name, records)) = bytes.split_at_checked(size_of::<Name>()) else { return tally };
    let name: Name = bytemuck::pod_read_unaligned(name);
    let text = String::from_utf8_lossy(&context[20..]).into_owned();
    let pod = ObjectName::new(text.clone(), text.clone());
    let has = |bit: u8| context[0] & (1 << bit) != 0;
    let names = Names {
        node: &text,
        clock: Clock { monotonic: number(&context[4..12]), world: moment(context) },
        service: has(0).then_some(&name),
        cgroup: has(1).then_some(&text),
        who: Who { container: has(4).then(|| text.clone()), ..Who::default() },
        backend: (has(2).then_some(&pod), has(3).then_some(&text)),
    };
    for record in records.chunks(size_of::<Event>()) {
        // As the reader of the ring buffer does.
        match bytemuck::try_pod_read_unaligned::<Event>(record) {
            Ok(event) => check(&event, &names, &mut tally),
            Err(_) => tally.refused += 1,
        }
    }
    let lost =
        Lost { schema: SCHEMA, time: names.clock.world, node: text.clone(), lost: 0, at: "ring".into() };
    one_line(&Line::Lost(Lost { lost: number(&context[12..20]), ..lost }));
    tally
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Any time there is, the ends of time among them.
fn moment(context: &[u8]) -> Timestamp {
    match context[1] {
        0 => Timestamp::MIN,
        1 => Timestamp::MAX,
        _ => Timestamp::from_nanosecond(number(&context[12..20]).cast_signed().into()).expect("is in range"),
    }
}

fn check(event: &Event, names: &Names<'_>, tally: &mut Tally) {
    let line = Line::Decision(Box::new(Decision::new(event, names)));
    let json = one_line(&line);
    tally.lines += 1;

    let told = |key: &str| json[key].as_str().expect("is always told").to_owned();
    let reason = Reason::from_u8(event.reason);
    assert_eq!(told("reason"), reason.map_or("unknown", Reason::name));
    assert_eq!(told("verdict"), reason.map_or("unknown", |it| it.verdict().name()));
    let hook = Hook::from_u8(event.hook);
    assert_eq!(told("hook"), hook.map_or("unknown", Hook::name));
    let is_protocol = matches!(event.protocol, TCP | UDP);
    assert_eq!(told("protocol") == "unknown", !is_protocol);
    assert_eq!(json["mode"].is_null(), event.mode == 0);
    let is_mode = json["mode"] != "unknown";
    tally.known += u32::from(reason.is_some() && hook.is_some() && is_protocol && is_mode);

    let client = &json["client"];
    let known = |bit| event.known & bit != 0;
    assert_eq!(client["pid"].as_u64(), known(feature::PID).then_some(event.pid.into()));
    assert_eq!(client["tid"].as_u64(), known(feature::PID).then_some(event.tid.into()));
    assert_eq!(client["uid"].as_u64(), known(feature::UID).then_some(event.uid.into()));
    assert_eq!(client["cgroupId"].as_u64(), known(feature::CGROUP).then_some(event.cgroup));
    assert_eq!(client["netnsCookie"].as_u64(), Some(event.netns));
    assert_eq!(client["cgroup"].as_str(), names.cgroup);
    assert_eq!(client["comm"].is_string(), known(feature::COMM));
    if let Some(comm) = client["comm"].as_str() {
        tally.not_utf8 += u32::from(padded(&event.comm, comm));
    }

    assert_eq!(json["original"]["port"].as_u64(), Some(u16::from_be(event.original_port_be).into()));
    let port = (event.backend_port_be != 0).then(|| u16::from_be(event.backend_port_be).into());
    assert_eq!(json["backend"]["port"].as_u64(), port);
    let is_policy = names.service.is_some_and(|name| name.kind != owner_kind::SERVICE);
    assert_eq!(json["service"].is_object(), names.service.is_some() && !is_policy);
    assert_eq!(json["policy"].is_object(), is_policy);
    let flags: Vec<&str> = json["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(flags.contains(&"fallback"), event.fallen != 0);
    if let Some(name) = names.service.filter(|_| is_policy) {
        padded(&name.service, json["policy"]["name"].as_str().expect("is always told"));
    }
    if let Some(name) = names.service.filter(|_| !is_policy) {
        for (key, field) in [("namespace", name.namespace), ("name", name.service), ("port", name.port)] {
            padded(&field, json["service"][key].as_str().expect("is always told"));
        }
    }
}

/// `text` is all of a zero-padded field, or what is before the first byte that is not UTF-8; true for the latter.
fn padded(field: &[u8], text: &str) -> bool {
    let field = field.split(|byte| *byte == 0).next().unwrap_or_default();
    assert!(field.starts_with(text.as_bytes()));
    let cut = std::str::from_utf8(field).is_err();
    assert!(cut || field.len() == text.len());
    cut
}

/// One line of JSON, which is read as what it was written from.
fn one_line(line: &Line) -> Value {
    let text = serde_json::to_string(line).expect("can be written");
    assert!(!text.contains(|c: char| c.is_ascii_control() && c != '\x7f'), "{text:?}");
    let back: Line = serde_json::from_str(&text).expect("can be read");
    assert_eq!(back, *line);
    let json: Value = serde_json::from_str(&text).expect("is JSON");
    assert_eq!(json["schema"], SCHEMA);
    json
}
