use model::ObjectName;

use super::*;
use crate::publish::notice::{Regarding, Severity};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    ledger: Ledger,
    start: Instant,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        Self { ledger: Ledger::new("n1", COUNTED, start), start, now: start }
    }

    fn moment(&self) -> Moment {
        let seconds = self.now.duration_since(self.start).as_secs() as i64;
        Moment { now: self.now, time: Timestamp::from_second(seconds).unwrap() }
    }

    fn tell(&mut self, object: &str, note: &str, scope: Scope) -> bool {
        let notice = Notice {
            regarding: Regarding::service(&ObjectName::new("shop", object), object),
            reason: "Tested",
            note: note.into(),
            severity: Severity::Warning,
            scope,
        };
        self.ledger.take(notice, self.moment(), Duration::ZERO)
    }

    /// What is written within so many seconds, by a server that takes everything: note, or count.
    fn written_in(&mut self, seconds: u32) -> Vec<String> {
        let end = self.now + SECOND * seconds;
        let mut written = Vec::new();
        while let Some(at) = self.ledger.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let (name, task) = self.ledger.due(self.now).unwrap();
            let count = match task {
                Task::Tell(notice, _) => {
                    written.push(notice.note);
                    1
                }
                Task::Count(count, time) => {
                    written.push(format!("{count} at {}", time.as_second()));
                    count
                }
            };
            self.ledger.is_written(&name, count, self.now);
        }
        self.now = end;
        written
    }
}

#[test]
fn what_all_see_alike_is_told_once() {
    let mut world = World::new();
    assert!(world.tell("web", "bad", Scope::Cluster) && world.tell("web", "bad", Scope::Cluster));
    assert_eq!(world.written_in(1), ["bad"]);
    for _ in 0..50 {
        world.tell("web", "bad", Scope::Cluster);
        assert_eq!(world.written_in(60), Vec::<String>::new());
    }
    // The server may have forgotten it.
    world.written_in(600);
    world.tell("web", "bad", Scope::Cluster);
    assert_eq!(world.written_in(60), ["bad"]);
}

#[test]
fn what_comes_again_on_this_node_is_counted_now_and_then() {
    let mut world = World::new();
    world.tell("web", "bad", Scope::Node);
    world.tell("web", "bad", Scope::Node);
    assert_eq!(world.written_in(1), ["bad"]);
    assert_eq!(world.written_in(60), ["2 at 0"], "what came before it was written");
    for _ in 0..90 {
        world.tell("web", "bad", Scope::Node);
        world.written_in(0);
        world.now += SECOND;
    }
    let counts = world.written_in(60);
    assert_eq!(counts.last().unwrap(), "92 at 150");
    assert!(counts.len() <= 2, "{counts:?}");
    // It has expired, and happens again.
    let name = world.ledger.entries.keys().next().unwrap().clone();
    world.tell("web", "bad", Scope::Node);
    world.ledger.is_gone(&name, world.now);
    assert_eq!(world.written_in(1), ["bad"]);
}

#[test]
fn an_event_of_an_agent_before_is_counted_on() {
    let mut world = World::new();
    world.tell("web", "bad", Scope::Node);
    let (name, _) = world.ledger.due(world.now).unwrap();
    world.ledger.is_written(&name, 7, world.now);
    assert_eq!(world.ledger.next(), None, "it is no new one");
    world.tell("web", "bad", Scope::Node);
    assert_eq!(world.written_in(120), ["8 at 0"]);
}

#[test]
fn what_is_told_of_an_object_and_of_all_is_limited() {
    let mut world = World::new();
    let kept = (0..100).filter(|at| world.tell("web", &format!("note {at}"), Scope::Cluster)).count();
    assert_eq!(kept, 25 + 2, "at once, and in the ten minutes after that");
    assert!(world.tell("other", "is told all the same", Scope::Cluster));
    assert_eq!(world.written_in(0).len(), 25);
    assert_eq!(world.written_in(700).len(), 3);
    let kept = (0..1000).filter(|at| world.tell(&format!("no-{at}"), "bad", Scope::Cluster)).count();
    assert_eq!(kept, 25 + 120, "at once, and in the ten minutes after that");
    // The others are told of another time, if they are bad still.
    world.written_in(1200);
    assert!(world.tell("no-999", "bad", Scope::Cluster));
}

#[test]
fn memory_has_bounds() {
    let mut world = World::new();
    for at in 0..5000 {
        world.tell(&format!("no-{at}"), "bad", Scope::Cluster);
        world.written_in(5);
        assert!(world.ledger.entries.len() <= MOST && world.ledger.objects.len() <= MOST);
    }
    assert!(world.ledger.entries.len() > MOST / 2, "{}", world.ledger.entries.len());
}

#[test]
fn what_could_not_be_written_is_written_later_and_what_can_not_be_is_forgotten() {
    let mut world = World::new();
    world.tell("web", "bad", Scope::Cluster);
    let (name, _) = world.ledger.due(world.now).unwrap();
    world.ledger.put_off(&name, world.now + 5 * SECOND);
    assert_eq!(world.written_in(4), Vec::<String>::new());
    assert_eq!(world.written_in(4), ["bad"]);
    world.tell("web", "worse", Scope::Cluster);
    let (name, _) = world.ledger.due(world.now).unwrap();
    world.ledger.forget(&name);
    assert_eq!(world.ledger.next(), None);
}
