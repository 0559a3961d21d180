use super::{
    super::{Validity, issue::LIFE},
    *,
};

const DAY: SignedDuration = SignedDuration::from_hours(24);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn names() -> Vec<String> {
    vec!["balancing-controller.kube-system.svc".into(), "127.0.0.1".into(), "fd00::1".into()]
}

/// A Secret, and who looks after it.
struct World {
    now: Timestamp,
    data: Option<Data>,
    is_told: bool,
    names: Vec<String>,
}

impl World {
    fn new() -> Self {
        let mut world = Self { now: start(), data: None, is_told: true, names: names() };
        assert_eq!(world.turn(), Step::Begin);
        world
    }

    fn stock(&self) -> Stock {
        Stock::read(self.data.as_ref().unwrap()).unwrap()
    }

    /// A controller looks at it.
    fn turn(&mut self) -> Step {
        let stock = self.data.as_ref().and_then(|data| Stock::read(data).ok());
        let step = Stock::step(stock.as_ref(), &self.names, self.now, self.is_told);
        let after = Stock::after(stock, step, &self.names, self.now).unwrap().unwrap();
        self.data = Some(after.data());
        // What is served is trusted and counts, always.
        let stock = self.stock();
        assert!(stock.in_force.is_signed_by(&stock.authorities) && stock.in_force.valid.has(self.now));
        step
    }

    fn pass(&mut self, duration: SignedDuration) -> Step {
        self.now += duration;
        self.turn()
    }
}

fn bundle(world: &World) -> Vec<Authority> {
    Authority::read_all(&world.stock().bundle()).unwrap()
}

#[test]
fn what_is_made_can_be_read_and_is_for_its_names() {
    let world = World::new();
    let stock = world.stock();
    assert_eq!(stock.in_force.valid, Validity { from: start() - DAY, to: start() + LIFE });
    assert!(stock.in_force.is_for(&names()) && !stock.in_force.is_for(&["other".into()]));
    assert_eq!(bundle(&world).len(), 1);
    assert!(!format!("{stock:?}").contains("PRIVATE"), "{stock:?}");
    // The same again.
    assert_eq!(stock.data(), world.data.unwrap());
}

#[test]
fn a_pair_is_renewed_long_before_its_end_with_both_authorities_trusted_in_between() {
    let mut world = World::new();
    let first = world.stock();
    assert_eq!(world.pass(LIFE - RENEW - HOUR), Step::Keep);
    assert_eq!(world.pass(HOUR), Step::Prepare);
    let prepared = world.stock();
    assert_eq!(prepared.in_force.certificate, first.in_force.certificate);
    assert_eq!(bundle(&world).len(), 2);
    assert!(bundle(&world).contains(&first.authorities[0]));
    // Not before it has been told for some time.
    assert_eq!(world.pass(HOUR / 2), Step::Keep);
    assert_eq!(world.pass(HOUR / 2), Step::Advance);
    let second = world.stock();
    assert_ne!(second.in_force.certificate, first.in_force.certificate);
    assert_eq!(second.next.map(|next| next.certificate), None);
    assert!(bundle(&world).contains(&first.authorities[0]), "others may serve the old one yet");
    assert_eq!(world.pass(HOUR), Step::Keep);
}

#[test]
fn nothing_is_in_force_that_servers_have_not_been_told_of() {
    let mut world = World::new();
    world.is_told = false;
    assert_eq!(world.pass(LIFE - RENEW), Step::Prepare);
    assert_eq!(world.pass(DAY * 20), Step::Keep);
    world.is_told = true;
    assert_eq!(world.turn(), Step::Advance);
    // Unless what is in force is worth nothing any more.
    let mut world = World::new();
    world.is_told = false;
    world.pass(LIFE - RENEW);
    assert_eq!(world.pass(RENEW + HOUR), Step::Advance);
}

#[test]
fn years_go_by_and_what_is_trusted_stays_little() {
    let mut world = World::new();
    let mut steps = Vec::new();
    for _ in 0..2 * 365 {
        steps.push(world.pass(DAY));
        assert!(bundle(&world).len() <= 4);
        assert!(world.stock().in_force.valid.to.duration_since(world.now) > DAY * 28);
    }
    let count = |step| steps.iter().filter(|it| **it == step).count();
    assert_eq!((count(Step::Begin), count(Step::Prepare)), (0, count(Step::Advance)));
    assert!((10..=13).contains(&count(Step::Advance)), "{}", count(Step::Advance));
}

#[test]
fn an_expired_pair_is_replaced_at_once() {
    let mut world = World::new();
    let first = world.stock();
    assert_eq!(world.pass(LIFE + HOUR), Step::Begin);
    assert!(!bundle(&world).contains(&first.authorities[0]), "it has ended too");
    assert_eq!(world.turn(), Step::Keep);
}

#[test]
fn a_clock_that_jumps_back_is_believed() {
    let mut world = World::new();
    // A little: it counts from before it was made.
    assert_eq!(world.pass(-HOUR * 23), Step::Keep);
    assert_eq!(world.pass(-DAY * 365), Step::Begin);
    // And back again.
    assert_eq!(world.pass(DAY * 366), Step::Begin);
    assert_eq!(world.turn(), Step::Keep);
}

#[test]
fn a_clock_that_jumps_forwards_and_back_while_a_pair_is_prepared_does_no_harm() {
    let mut world = World::new();
    assert_eq!(world.pass(DAY * 70), Step::Prepare);
    assert_eq!(world.pass(-DAY * 69), Step::Keep);
    assert_eq!(world.pass(DAY * 58), Step::Keep);
    // What was made then counts now, or a new one is made.
    assert_eq!(world.pass(DAY * 2), Step::Prepare);
    assert_eq!(world.pass(HOUR), Step::Advance);
}

#[test]
fn other_names_need_another_pair_and_the_old_one_stays_trusted() {
    let mut world = World::new();
    let first = world.stock();
    world.names.push("more.example".into());
    assert_eq!(world.turn(), Step::Begin);
    assert!(world.stock().in_force.is_for(&world.names) && bundle(&world).contains(&first.authorities[0]));
}

#[test]
fn a_secret_that_makes_no_sense_is_made_anew() {
    let good = World::new().data.unwrap();
    let other = World::new().data.unwrap();
    let mut broken = vec![Data::new()];
    for (key, value) in [
        ("tls.crt", "nonsense"),
        ("tls.key", ""),
        ("ca.crt", ""),
        ("tls.crt", &*other["tls.crt"]),
        ("tls.key", &*other["tls.key"]),
        ("ca.crt", &*other["ca.crt"]),
    ] {
        let mut data = good.clone();
        data.insert(key.into(), value.into());
        broken.push(data);
    }
    for data in broken {
        let error = Stock::read(&data).unwrap_err();
        assert!(!error.contains("PRIVATE"), "{error}");
        let mut world = World { data: Some(data), ..World::new() };
        assert_eq!(world.turn(), Step::Begin, "{error}");
    }
    // A next one that makes no sense is none.
    let mut data = good;
    data.insert("next.crt".into(), other["tls.crt"].clone());
    data.insert("next.key".into(), other["tls.key"].clone());
    assert!(Stock::read(&data).unwrap().next.is_none());
}
