use std::{
    cell::Cell,
    hash::{DefaultHasher, Hash, Hasher},
};

use model::{Kind, ObjectName, ProbeAction, Probed};

use super::*;

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn probe(interval: u64, timeout: u64, healthy: u32, unhealthy: u32) -> Probe {
    Probe {
        action: ProbeAction::Tcp,
        port: 80,
        interval: Duration::from_secs(interval),
        timeout: Duration::from_secs(timeout),
        healthy,
        unhealthy,
        use_all: true,
    }
}

fn policy(name: &str) -> ObjectId {
    ObjectId { kind: Kind::BalancingPolicy, name: ObjectName::new("", name) }
}

fn ip(low: u8) -> IpAddr {
    [192, 0, 2, low].into()
}

fn wanted(name: &str, probe: &Probe, lows: &[u8]) -> Wanted {
    let addresses = lows.iter().map(|low| ip(*low)).collect();
    [(policy(name), Probed { probe: probe.clone(), addresses })].into()
}

thread_local! {
    static DICE: Cell<u64> = const { Cell::new(0) };
}

/// From 0 to 1; each thread, that is each test, has the same sequence.
fn chance() -> f64 {
    let number = DICE.get();
    DICE.set(number + 1);
    let mut hasher = DefaultHasher::new();
    number.hash(&mut hasher);
    hasher.finish() as f64 / u64::MAX as f64
}

/// What an address does to those who ask.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Answers(Duration),
    Refuses,
    Hangs,
}

/// A schedule, the addresses that it asks, and a clock for both.
struct World {
    schedule: Schedule,
    start: Instant,
    now: Duration,
    moods: BTreeMap<IpAddr, Mood>,
    /// What will be answered when.
    coming: Vec<(Duration, Question, Answer)>,
    /// Who was asked when.
    asked: Vec<(Duration, IpAddr)>,
    /// Who changed when, and is healthy then.
    changes: Vec<(Duration, IpAddr, bool)>,
}

impl World {
    fn new(wanted: &Wanted) -> Self {
        let start = Instant::now();
        let mut schedule = Schedule::new(chance);
        schedule.want(wanted, start);
        let (moods, now) = (BTreeMap::new(), Duration::ZERO);
        Self { schedule, start, now, moods, coming: vec![], asked: vec![], changes: vec![] }
    }

    fn want(&mut self, wanted: &Wanted) {
        self.schedule.want(wanted, self.start + self.now);
    }

    fn mood(&mut self, low: u8, mood: Mood) {
        self.moods.insert(ip(low), mood);
    }

    fn unhealthy(&self) -> Vec<String> {
        let found = self.schedule.found();
        let ips = |(policy, ips): (&ObjectId, &BTreeSet<IpAddr>)| {
            let policy = policy.name.name.clone();
            ips.iter().map(|ip| format!("{policy} {ip}")).collect::<Vec<_>>()
        };
        found.unhealthy.iter().flat_map(ips).collect()
    }

    /// Lets time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let question = self.schedule.next().map(|next| next - self.start).filter(|at| *at <= end);
            let answer = (0..self.coming.len()).min_by_key(|it| self.coming[*it].0);
            let answer = answer.filter(|it| self.coming[*it].0 <= end);
            match (question, answer) {
                (at, Some(it)) if at.is_none_or(|at| self.coming[it].0 <= at) => {
                    let (at, question, answer) = self.coming.swap_remove(it);
                    self.now = at;
                    if let Some(change) = self.schedule.answered(&question, &answer) {
                        self.changes.push((at, change.address.ip(), change.failure.is_none()));
                    }
                }
                (Some(at), _) => self.ask(at.max(self.now)),
                (None, _) => break,
            }
        }
        self.now = end;
    }

    fn ask(&mut self, at: Duration) {
        self.now = at;
        let question = self.schedule.take(self.start + at).expect("it is due");
        let (ip, timeout) = (question.address.ip(), question.probe.timeout);
        self.asked.push((at, ip));
        let mood = self.moods.get(&ip).copied().unwrap_or(Mood::Answers(Duration::from_millis(1)));
        let (after, answer) = match mood {
            Mood::Answers(after) if after < timeout => (after, Ok(())),
            Mood::Refuses => (Duration::from_millis(1), Err(Failure::Refused)),
            Mood::Answers(_) | Mood::Hangs => (timeout, Err(Failure::TimedOut(timeout))),
        };
        self.coming.push((at + after, question, answer));
    }

    /// How long it takes from now until `low` has changed.
    fn until_changed(&mut self, low: u8) -> Duration {
        let (before, began) = (self.changes.len(), self.now);
        while !self.changes[before..].iter().any(|(_, it, _)| *it == ip(low)) {
            assert!(self.now - began < Duration::from_secs(100_000), "it never changes");
            self.run(Duration::from_millis(500));
        }
        self.changes[before..].iter().find(|(_, it, _)| *it == ip(low)).unwrap().0 - began
    }
}

#[test]
fn an_unhealthy_address_leaves_within_interval_times_threshold_and_1_s_and_comes_back_likewise() {
    let mut late = 0;
    for (interval, timeout) in
        [(1, 1), (2, 1), (2, 2), (3, 2), (5, 5), (10, 1), (10, 6), (10, 10), (300, 1), (300, 300)]
    {
        for (healthy, unhealthy) in [(1, 1), (1, 2), (1, 3), (3, 3), (2, 10), (10, 2)] {
            let probe = probe(interval, timeout, healthy, unhealthy);
            // What asking twice as often could not make up for.
            let is_late = unhealthy == 1 && timeout > 1 + interval / 2;
            late += u32::from(is_late);
            for mood in [Mood::Refuses, Mood::Hangs] {
                let mut world = World::new(&wanted("p", &probe, &[1, 2]));
                for _ in 0..10 {
                    world.run(probe.interval.mul_f64(1.0 + chance()));
                    world.mood(1, mood);
                    let took = world.until_changed(1);
                    let extra = if is_late && mood == Mood::Hangs { probe.timeout } else { seconds(1.0) };
                    let most = probe.interval * unhealthy + extra;
                    assert!(took <= most, "{probe:?} left after {took:?}");
                    assert!(
                        took + probe.interval > probe.interval.mul_f64(0.8) * (unhealthy - 1),
                        "{took:?}"
                    );
                    assert_eq!(world.unhealthy(), ["p 192.0.2.1"]);

                    world.run(probe.interval.mul_f64(chance()));
                    world.mood(1, Mood::Answers(Duration::from_millis(300)));
                    let took = world.until_changed(1);
                    let most = probe.interval * healthy + seconds(1.0);
                    assert!(took <= most, "{probe:?} came back after {took:?}");
                    assert_eq!(world.unhealthy(), [""; 0]);
                }
                assert!(world.changes.iter().all(|(_, it, _)| *it == ip(1)), "the other one was well");
            }
        }
    }
    assert!(late > 0, "the exception is tested too");
}

#[test]
fn answers_that_come_in_time_are_good_however_slow() {
    let probe = probe(10, 10, 1, 2);
    let mut world = World::new(&wanted("p", &probe, &[1]));
    world.mood(1, Mood::Answers(Duration::from_secs(9)));
    world.run(Duration::from_secs(1000));
    assert!(world.changes.is_empty() && world.asked.len() > 90);
    world.mood(1, Mood::Answers(Duration::from_secs(10)));
    world.until_changed(1);
}

#[test]
fn only_answers_in_a_row_count() {
    let probe = probe(1, 1, 2, 3);
    let mut schedule = Schedule::new(chance);
    let start = Instant::now();
    schedule.want(&wanted("p", &probe, &[1]), start);
    let mut now = start;
    let mut changes = String::new();
    for answer in "bbgbbgbbb gbgbgg bbb".chars().filter(|it| *it != ' ') {
        now += Duration::from_secs(2);
        let question = schedule.take(now).unwrap();
        let answer = if answer == 'g' { Ok(()) } else { Err(Failure::Status(500)) };
        let change = schedule.answered(&question, &answer);
        changes.push(match change {
            None => '.',
            Some(Change { failure: Some(Failure::Status(500)), .. }) => 'b',
            Some(Change { failure: None, .. }) => 'g',
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(changes, "........b.....g..b");
}

#[test]
fn an_answer_that_a_later_one_has_overtaken_is_of_the_past() {
    let probe = probe(10, 10, 2, 1);
    let mut schedule = Schedule::new(chance);
    let start = Instant::now();
    schedule.want(&wanted("p", &probe, &[1]), start);
    let mut ask = |after| schedule.take(start + Duration::from_secs(after)).unwrap();
    let questions = [ask(20), ask(40), ask(60), ask(80)];
    let (good, bad) = (Ok(()), Err(Failure::TimedOut(probe.timeout)));
    let mut turns = |it: usize, answer: &Answer| schedule.answered(&questions[it], answer).is_some();
    assert!(!turns(1, &good));
    assert!(!turns(0, &bad));
    assert!(turns(2, &bad));
    assert!(!turns(3, &good), "the first of two");
}

#[test]
fn what_this_machine_has_no_room_to_ask_says_nothing() {
    let mut schedule = Schedule::new(chance);
    let start = Instant::now();
    schedule.want(&wanted("p", &probe(1, 1, 1, 1), &[1]), start);
    let question = schedule.take(start + Duration::from_secs(2)).unwrap();
    assert!(schedule.answered(&question, &Err(Failure::Unasked("too many open files".into()))).is_none());
    assert_eq!(schedule.found().unhealthy(), 0);
}

#[test]
fn those_that_stay_are_what_they_were_and_those_that_go_are_forgotten() {
    let short = probe(1, 1, 1, 2);
    let mut world = World::new(&wanted("p", &short, &[1, 2, 3]));
    world.mood(1, Mood::Refuses);
    world.mood(2, Mood::Hangs);
    world.run(Duration::from_secs(5));
    assert_eq!(world.unhealthy(), ["p 192.0.2.1", "p 192.0.2.2"]);

    // One goes while it is being asked, one comes; the others stay.
    let begun = world.now;
    world.want(&wanted("p", &short, &[1, 3, 4]));
    assert_eq!(world.unhealthy(), ["p 192.0.2.1"]);
    world.run(Duration::from_secs(5));
    assert_eq!(world.unhealthy(), ["p 192.0.2.1"]);
    assert!(!world.asked.iter().any(|(at, it)| *at > begun && *it == ip(2)), "nobody asks it any more");
    assert!(world.asked.iter().any(|(at, it)| *at > begun && *it == ip(4)));

    // Another way of asking, and other times: it stays what it is until the answers say otherwise.
    let other = Probe { action: ProbeAction::Http("/".into()), ..probe(2, 1, 2, 2) };
    world.want(&wanted("p", &other, &[1, 3, 4]));
    assert_eq!(world.unhealthy(), ["p 192.0.2.1"]);
    world.mood(1, Mood::Answers(Duration::ZERO));
    let took = world.until_changed(1);
    assert!(took > Duration::from_secs(1) && took <= Duration::from_secs(5), "{took:?}");

    // Gone and back it is a new one.
    world.mood(1, Mood::Refuses);
    world.until_changed(1);
    world.want(&Wanted::new());
    assert_eq!((world.unhealthy(), world.schedule.next()), (vec![], None));
    world.want(&wanted("p", &other, &[1]));
    assert_eq!(world.unhealthy(), [""; 0]);
    world.until_changed(1);
}

#[test]
fn answers_to_another_question_do_not_count() {
    let tcp = probe(10, 1, 1, 2);
    let mut schedule = Schedule::new(chance);
    let start = Instant::now();
    schedule.want(&wanted("p", &tcp, &[1]), start);
    let bad = Err(Failure::Refused);
    let ask = |schedule: &mut Schedule, after| schedule.take(start + Duration::from_secs(after)).unwrap();
    let first = ask(&mut schedule, 20);
    assert!(schedule.answered(&first, &bad).is_none());
    let of_old = ask(&mut schedule, 40);
    schedule.want(&wanted("p", &Probe { port: 81, ..tcp }, &[1]), start + Duration::from_secs(41));
    assert!(schedule.answered(&of_old, &bad).is_none());
    let fresh = ask(&mut schedule, 60);
    assert_eq!(fresh.address.port(), 81);
    assert!(schedule.answered(&fresh, &bad).is_none(), "the first of two");
    let fresh = ask(&mut schedule, 80);
    assert!(schedule.answered(&fresh, &bad).is_some());
}

#[test]
fn a_shorter_interval_counts_at_once() {
    let mut world = World::new(&wanted("p", &probe(300, 1, 1, 1), &[1]));
    world.run(Duration::from_secs(600));
    let begun = world.now;
    world.want(&wanted("p", &probe(1, 1, 1, 1), &[1]));
    world.run(Duration::from_secs(1));
    assert!(world.asked.iter().any(|(at, _)| *at > begun), "it does not wait for the five minutes");
}

#[test]
fn an_agent_asks_no_more_often_than_it_may_and_nobody_is_left_out() {
    let lows: Vec<u8> = (1..=200).collect();
    let mut wanted: Wanted = BTreeMap::new();
    // 400 addresses, each second: 400 a second and more.
    for name in ["p", "q"] {
        wanted.extend(self::wanted(name, &probe(1, 1, 1, 1), &lows));
    }
    let mut world = World::new(&wanted);
    let notice = world.schedule.found().notice().unwrap();
    assert!(notice.contains("445 questions a second"), "{notice}");
    world.run(Duration::from_secs(20));
    let per_second = |from: u64| {
        let within = |at: &Duration| *at >= Duration::from_secs(from) && *at < Duration::from_secs(from + 1);
        world.asked.iter().filter(|(at, _)| within(at)).count()
    };
    for second in 1..20 {
        let asked = per_second(second);
        assert!((245..=251).contains(&asked), "{asked} in second {second}");
    }
    let mut times: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (_, ip) in &world.asked {
        *times.entry(*ip).or_default() += 1;
    }
    let (least, most) = (times.values().min().unwrap(), times.values().max().unwrap());
    assert!(times.len() == 200 && *least >= 22 && *most <= 28, "{least} to {most}");
    assert!(Schedule::new(chance).found().notice().is_none());
}

#[test]
fn timers_that_are_a_little_late_make_it_no_slower() {
    let lows: Vec<u8> = (1..=255).collect();
    let mut schedule = Schedule::new(chance);
    let start = Instant::now();
    schedule.want(&wanted("p", &probe(1, 1, 1, 1), &lows), start);
    let mut now = start + Duration::from_secs(10);
    let mut asked = 0;
    for _ in 0..100 {
        // Each time 10 ms have passed.
        now += Duration::from_millis(10);
        while schedule.take(now).is_some() {
            asked += 1;
        }
    }
    assert!((245..=256).contains(&asked), "{asked} in a second");
    // But nothing of a long pause.
    now += Duration::from_secs(10);
    let at_once = std::iter::from_fn(|| schedule.take(now)).count();
    assert!(at_once <= 6, "{at_once}");
}

#[test]
fn addresses_are_not_asked_in_step() {
    let lows: Vec<u8> = (1..=100).collect();
    let mut world = World::new(&wanted("p", &probe(10, 1, 1, 3), &lows));
    world.run(Duration::from_secs(30));
    let mut most = 0;
    for tenth in 0..300 {
        let (from, to) = (Duration::from_millis(tenth * 100), Duration::from_millis(tenth * 100 + 100));
        most = most.max(world.asked.iter().filter(|(at, _)| *at >= from && *at < to).count());
    }
    // One in a hundred of ten seconds would be 1.
    assert!(most <= 7, "{most} in a tenth of a second");
    let asked = world.asked.len();
    assert!((290..400).contains(&asked), "{asked} in three intervals");
}
