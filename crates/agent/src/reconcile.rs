//! From changes of objects to written tables: model, desired state, plan, store.
//!
//! Level-triggered (R6): what is desired is compared with what the store really holds, so that whatever went
//! wrong is made good by the next round, and nothing is ever lost on an error.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use abi::{frontend::backend_flag, policy::LimitKey};
use kernel::{Contents, TableStore, policies::Kept};
use model::{
    Change, Cluster, Dirty, HealthCheck, Kind, NodePortAddresses, ObjectId, ObjectName, Policy, Probed, View,
};
use plan::{
    Capacity, Deletes, Desired, Difference, Grace, Image, Inconsistency, Phase, Plan, Refusal, ServiceTables,
    Table, Touched, compile, compile_policy, diff, node_addresses,
};

/// What one round did.
#[derive(Debug, Default)]
pub struct Round {
    /// Single writes.
    pub writes: usize,
    /// Some backend has stopped being usable.
    pub lost_backends: bool,
    /// In words, one line.
    pub summary: String,
    /// What the tables had no room for.
    pub refused: Vec<Refusal>,
    /// What is remembered of clients of some service port is to be forgotten.
    pub ends_affinity: bool,
}

/// A grace period that has begun.
#[derive(Debug)]
#[must_use = "what was freed before it is reusable only after `grace_passed`"]
pub struct GracePeriod {
    reading: u64,
    grace: Grace,
}

/// Numbers of policies, and their limits.
type Counted = (BTreeSet<[u32; 2]>, BTreeSet<LimitKey>);

/// The owner of the tables.
pub struct Reconciler<S> {
    cluster: Cluster,
    desired: Desired,
    table: Table,
    store: S,
    capacity: Capacity,
    /// What changes have touched since the last round.
    dirty: Dirty,
    touched: Touched,
    /// Policies that were touched, for who asks.
    policies: BTreeSet<ObjectId>,
    /// The sources are sure of what is not there.
    complete: bool,
    /// Services and policies that would be left without an endpoint, and keep those that the table has.
    held: BTreeSet<ObjectId>,
    /// Policies and limits that the store has entries for; `None` = what it has is not known.
    counted: Option<Counted>,
    /// How many of these there was no room for.
    uncounted: usize,
    /// R24: services that load balancers ask this node about.
    health_checks: BTreeMap<ObjectName, HealthCheck>,
    /// Addresses of policies that this machine is to ask whether they are well.
    probed: BTreeMap<ObjectId, Probed>,
    /// R14: which addresses of this node serve node ports.
    node_ports: Vec<NodePortAddresses>,
    /// Addresses of this node's interfaces.
    interfaces: Vec<IpAddr>,
    /// The table may not be what the store holds: read it again before the next plan.
    doubtful: bool,
    /// Goes up when the table is read again: graces of the table before mean nothing to it.
    reading: u64,
    inconsistencies: Vec<Inconsistency>,
}

/// What is said of entries that had to be swept.
const FRONTENDS: &str = "frontends";
const NOT_THEIRS: &str = "entries led to records that are not theirs, or could not be found";

impl<S: TableStore> Reconciler<S> {
    /// Takes over what `store` holds.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn new(mut store: S, capacity: Capacity, view: View) -> Result<Self, kernel::Error> {
        let swept = store.sweep()?;
        let (table, mut inconsistencies) = Table::restore(&image(store.read()?), capacity);
        if swept > 0 {
            let (object, problem) = (FRONTENDS.into(), format!("{swept} {NOT_THEIRS}"));
            inconsistencies.push(Inconsistency { object, problem });
        }
        // What they are above of may be known before they are: better as it was than without them.
        let held = table.policies();
        let mut desired = Desired::new();
        for policy in &held {
            drop(desired.set(policy, table.recall(policy), None));
        }
        Ok(Self {
            cluster: Cluster::new(view),
            desired,
            table,
            store,
            capacity,
            dirty: Dirty::default(),
            touched: Touched::default(),
            policies: BTreeSet::new(),
            complete: false,
            held,
            counted: None,
            uncounted: 0,
            health_checks: BTreeMap::new(),
            probed: BTreeMap::new(),
            node_ports: vec![NodePortAddresses::Primary],
            interfaces: Vec::new(),
            doubtful: false,
            reading: 0,
            inconsistencies,
        })
    }

    /// Takes changes in; they reach the store with the next round.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.dirty.merge(self.cluster.apply_all(changes));
    }

    /// Policies that changes have touched since this was last asked.
    pub fn take_touched_policies(&mut self) -> BTreeSet<ObjectId> {
        self.settle();
        std::mem::take(&mut self.policies)
    }

    /// Takes in which addresses of policies are not well, all of them; is any of it new? It reaches the store with the next round.
    pub fn set_unhealthy(&mut self, unhealthy: BTreeMap<ObjectId, BTreeSet<IpAddr>>) -> bool {
        let dirty = self.cluster.set_unhealthy(unhealthy);
        let is_new = !dirty.is_empty();
        self.dirty.merge(dirty);
        is_new
    }

    /// What is desired since the last changes. Not with each of them: an API server tells of services first and then of their
    /// endpoints, and of a busy service many times before there is a round.
    fn settle(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        let mut policies = dirty.policies.clone();
        let mut owners: BTreeSet<ObjectId> = dirty.services.into_iter().map(ObjectId::service).collect();
        owners.extend(dirty.policies);
        if dirty.all {
            owners.extend(self.cluster.services().map(|service| ObjectId::service(service.name.clone())));
            policies.extend(self.cluster.policies().map(Policy::id));
            owners.extend(policies.iter().cloned());
        }
        for owner in owners {
            self.desire(owner);
        }
        if dirty.nodes {
            self.desire_nodes();
        }
        if dirty.cidrs {
            self.desire_cidrs();
        }
        self.policies.extend(policies);
    }

    /// Which addresses of this node serve node ports (R14), and those that its interfaces have, as
    /// [`NodePortAddresses::select`] wants them.
    pub fn set_own_addresses(&mut self, node_ports: &[NodePortAddresses], interfaces: Vec<IpAddr>) {
        self.node_ports = node_ports.to_vec();
        self.interfaces = interfaces;
        self.desire_nodes();
    }

    fn desire_nodes(&mut self) {
        let addresses = node_addresses(&self.cluster, &self.node_ports, &self.interfaces);
        self.touched.merge(self.desired.set_nodes(addresses));
    }

    fn desire_cidrs(&mut self) {
        let all = self.cluster.cidrs().flat_map(|it| &it.cidrs).copied();
        let are_reserved = self.cluster.view().reserves_cidrs();
        self.desired.set_cidrs(if are_reserved { all.collect() } else { Vec::new() });
    }

    /// Addresses of this node that serve node ports (R14).
    pub fn node_port_addresses(&self) -> BTreeSet<IpAddr> {
        NodePortAddresses::select(&self.node_ports, self.cluster.own_node(), &self.interfaces)
    }

    /// Addresses of this node's interfaces, as they were last given.
    pub fn interfaces(&self) -> &[IpAddr] {
        &self.interfaces
    }

    /// From now on what the sources have not given is known not to be there: what was held back is done.
    pub fn complete(&mut self) {
        self.complete = true;
        for owner in std::mem::take(&mut self.held) {
            self.desire(owner);
        }
        self.look_at_everything();
    }

    /// Services and policies that keep the endpoints that they had: until the sources are complete those of which none is
    /// known, and always the API server's (R27).
    pub fn held(&self) -> &BTreeSet<ObjectId> {
        &self.held
    }

    /// Policies and limits that there is no room for: those policies redirect without being counted, or limited.
    pub fn uncounted(&self) -> usize {
        self.uncounted
    }

    /// Services that load balancers ask this node about, and what they are to hear (R24).
    pub fn health_checks(&self) -> &BTreeMap<ObjectName, HealthCheck> {
        &self.health_checks
    }

    /// Whom policies have this machine ask, as of the last round.
    pub fn probed(&self) -> &BTreeMap<ObjectId, Probed> {
        &self.probed
    }

    fn desire(&mut self, owner: ObjectId) {
        let (mut tables, created) = match owner.kind {
            Kind::LocalRedirectPolicy | Kind::BalancingPolicy => {
                let policy = self.cluster.policy(&owner);
                match policy.and_then(|policy| self.cluster.probed(policy)) {
                    Some(probed) => drop(self.probed.insert(owner.clone(), probed)),
                    None => drop(self.probed.remove(&owner)),
                }
                let created = policy.and_then(|policy| policy.created);
                (compile_policy(&self.cluster, &owner), created)
            }
            _ => {
                match self.cluster.health_check(&owner.name) {
                    Some(check) => drop(self.health_checks.insert(owner.name.clone(), check)),
                    None => drop(self.health_checks.remove(&owner.name)),
                }
                let created = self.cluster.service(&owner.name).and_then(|service| service.created);
                (compile(&self.cluster, &owner.name), created)
            }
        };
        // Its endpoints may be in what could not be read yet: better those of before than none. And without those of the
        // API server nobody would ever learn of new ones (R27, pitfall 20).
        let is_vital = (&*owner.name.namespace, owner.name.name.as_str()) == ("default", "kubernetes");
        if (!self.complete || is_vital) && self.would_be_emptied(&tables) {
            tables = self.table.recall(&owner);
            self.held.insert(owner.clone());
        } else {
            self.held.remove(&owner);
        }
        self.touched.merge(self.desired.set(&owner, tables, created));
    }

    fn would_be_emptied(&self, tables: &ServiceTables) -> bool {
        let mut empty = tables.frontends.iter().filter(|(_, frontend)| frontend.list.is_empty());
        empty.any(|(key, frontend)| self.table.serves(key, &frontend.port))
    }

    /// Makes the entries that the programs count policies' connections in; with `gone` those of others go.
    fn count(&mut self, gone: bool) -> Result<(), kernel::Error> {
        let counted = self.desired.policies();
        if self.counted.as_ref() != Some(&counted) {
            self.uncounted = self.store.set_policies(&counted.0, &counted.1, gone)?.left_out;
            self.counted = gone.then_some(counted);
        }
        Ok(())
    }

    /// One round: makes the store hold what is desired. After a failure the next round starts from what the
    /// store really holds.
    ///
    /// # Errors
    /// The store refuses; what was written by then is safe to use.
    pub fn round(&mut self, deletes: Deletes) -> Result<Round, kernel::Error> {
        self.settle();
        if self.doubtful {
            // What was freed a moment ago is free at once in a table that was read again.
            self.store.wait_for_readers();
            let (restored, inconsistencies) = Table::restore(&image(self.store.read()?), self.capacity);
            let before = std::mem::replace(&mut self.table, restored);
            self.table.rest_on(before);
            self.inconsistencies = inconsistencies;
            self.reading += 1;
            self.touched = Touched::everything();
            self.doubtful = false;
            self.counted = None;
        }
        self.count(false)?;
        let plan = diff(&self.desired, &self.touched, &mut self.table, deletes);
        if let Err(error) = write(&mut self.store, &plan) {
            self.doubtful = true;
            return Err(error);
        }
        self.touched = Touched::default();
        if deletes == Deletes::Allowed {
            self.count(true)?;
        }
        Ok(Round {
            writes: plan.len(),
            summary: plan.to_string(),
            ends_affinity: plan.ends_affinity,
            lost_backends: loses_backends(&plan),
            refused: plan.refused,
        })
    }

    /// What to make of maps that have no room for what is desired, or for what was `refused`: at most `most`. `None`: they
    /// can stay as they are.
    pub fn larger(&mut self, refused: &[Refusal], most: &Capacity) -> Option<Capacity> {
        self.settle();
        let is_full = |room| refused.iter().any(|it| it.room() == Some(room));
        self.table.capacity().grown(&self.desired.need(), is_full, most)
    }

    /// From now on the tables are in a larger store, which holds what the one before does.
    pub fn move_to(&mut self, store: S, capacity: Capacity) {
        self.store = store;
        self.capacity = capacity;
        self.table.enlarge(&capacity);
    }

    /// Looks at everything in the next round.
    pub fn look_at_everything(&mut self) {
        self.touched = Touched::everything();
    }

    /// Compares what the store holds with what it should hold. What differs is made good by the next round.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn audit(&mut self) -> Result<Vec<Difference>, kernel::Error> {
        let swept = self.store.sweep()?;
        let mut differences = self.table.compare(&image(self.store.read()?));
        if swept > 0 {
            differences
                .push(Difference { object: FRONTENDS.into(), problem: format!("{swept} {NOT_THEIRS}") });
        }
        self.doubtful |= !differences.is_empty();
        if let Some((policies, limits)) = &self.counted {
            // Nothing refers to them: what is wrong is set right at once.
            let kept = self.store.set_policies(policies, limits, true)?;
            differences.extend(strays("policies, limits", kept));
        }
        Ok(differences)
    }

    /// Begins a grace period for what the rounds so far have freed; `None` if there is nothing.
    pub fn begin_grace(&mut self) -> Option<GracePeriod> {
        (self.table.quarantined() > 0)
            .then(|| GracePeriod { reading: self.reading, grace: self.table.begin_grace() })
    }

    /// No program that ran when `period` began still runs.
    pub fn grace_passed(&mut self, period: GracePeriod) {
        if period.reading == self.reading {
            self.table.grace_passed(period.grace);
        }
    }

    /// Begins a reading of what the programs have told, for ids that the rounds so far have freed.
    pub fn begin_reading(&mut self) -> plan::Reading {
        self.table.begin_reading()
    }

    /// All has been read that programs that ran when `reading` began have told.
    pub fn has_read(&mut self, reading: plan::Reading) {
        self.table.has_read(reading);
    }

    /// The objects.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The desired state, as of the last round.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// The mirror of the store.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for what is kept in it besides the tables.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// What was wrong with the tables when they were last taken over.
    pub fn inconsistencies(&self) -> &[Inconsistency] {
        &self.inconsistencies
    }
}

/// Does it take from a backend that it may be used?
fn loses_backends(plan: &Plan) -> bool {
    plan.phases.iter().any(|phase| match phase {
        Phase::Backends(writes) | Phase::RetireBackends(writes) => {
            writes.iter().any(|(_, backend)| backend.flags & backend_flag::USABLE == 0)
        }
        _ => false,
    })
}

fn write<S: TableStore>(store: &mut S, plan: &Plan) -> Result<(), kernel::Error> {
    for phase in &plan.phases {
        match phase {
            Phase::Names(writes) => store.put_names(writes)?,
            Phase::Backends(writes) | Phase::RetireBackends(writes) => store.put_backends(writes)?,
            Phase::Lists(writes) => store.put_lists(writes)?,
            Phase::Records(writes) => store.put_records(writes)?,
            Phase::Frontends(writes) => store.put_frontends(writes)?,
            Phase::DeleteFrontends(keys) => store.delete_frontends(keys)?,
            Phase::DeleteNames(ids) => store.delete_names(ids)?,
            Phase::Sources(keys) => store.put_sources(keys)?,
            Phase::DeleteSources(keys) => store.delete_sources(keys)?,
            Phase::Addresses(writes) => store.put_addresses(writes)?,
            Phase::DeleteAddresses(ips) => store.delete_addresses(ips)?,
            Phase::Space(space) => store.put_space(space)?,
        }
    }
    Ok(())
}

/// What an audit has set right at once.
pub(crate) fn strays(maps: &str, kept: Kept) -> Option<Difference> {
    let problem = format!("{} entries were missing, or should not have been there", kept.writes);
    (kept.writes > 0).then(|| Difference { object: maps.to_owned(), problem })
}

fn image(contents: Contents) -> Image {
    let Contents { frontends, records, lists, backends, names, addresses, sources, space } = contents;
    let backends = backends.into_iter().filter(|(_, backend)| backend.generation != 0).collect();
    Image { frontends, records, lists, backends, names, addresses, sources, space }
}
