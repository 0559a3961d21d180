//! What the cluster is told of its objects, as Events: what has no room in the tables, what is kept against the cluster's
//! word, and ports for load balancers' questions that can't be had (R24). (What can't be understood is told by the source.)

use std::collections::BTreeMap;

use model::{Kind, ObjectName, ServicePortName};
use plan::{Refusal, Subject};
use source::publish::{Notice, Notices, Regarding, Scope, Severity};

use super::Agent;
use crate::{
    answer::{self, KEPT, is_api_server},
    health::Trouble,
    status::Published,
};

/// What has been told.
pub(super) struct Telling {
    notices: Notices,
    /// Services that are known to lack something, and what of it was told.
    crowded: BTreeMap<ObjectName, String>,
    is_api_server_held: bool,
    /// What can't be served at node ports (R24), of which services.
    unserved: Vec<Trouble>,
}

impl Telling {
    pub(super) fn new(notices: Notices) -> Self {
        Self { notices, crowded: BTreeMap::new(), is_api_server_held: false, unserved: Vec::new() }
    }

    pub(super) fn told(&self) -> Option<Published> {
        self.notices.told().map(|told| Published { events: told.written, dropped: told.dropped })
    }
}

impl Agent {
    /// Tells what has come up since the last time.
    pub(super) fn tell(&mut self) {
        self.tell_of_room();
        self.tell_of_ports();
        let held =
            self.reconciler.held().iter().map(|owner| &owner.name).find(|name| is_api_server(name)).cloned();
        let was_held = std::mem::replace(&mut self.telling.is_api_server_held, held.is_some());
        if let Some(service) = held.filter(|_| !was_held) {
            self.notice(&service, "EndpointsKept", KEPT.into(), Scope::Cluster);
        }
    }

    fn tell_of_room(&mut self) {
        let mut crowded = BTreeMap::new();
        for refusal in &self.refused {
            if let Some(service) = service(refusal) {
                // One is enough to know that something is missing.
                crowded.entry(service.clone()).or_insert_with(|| answer::refused(refusal));
            }
        }
        let before = std::mem::take(&mut self.telling.crowded);
        for (service, text) in crowded.iter().filter(|(service, _)| !before.contains_key(*service)) {
            // Tables are equally large everywhere, or should be.
            self.notice(service, "NoRoom", text.clone(), Scope::Cluster);
        }
        self.telling.crowded = crowded;
    }

    fn tell_of_ports(&mut self) {
        let unserved = self.contract.troubles();
        for trouble in unserved.iter().filter(|it| !self.telling.unserved.contains(it)) {
            if let Some(service) = trouble.object.as_ref().filter(|object| object.kind == Kind::Service) {
                self.notice(&service.name, trouble.reason, trouble.message.clone(), Scope::Node);
            }
        }
        self.telling.unserved = unserved;
    }

    /// Gives an Event on a Service to be written: something is not in force that should be. Never waits.
    pub(super) fn notice(&self, service: &ObjectName, reason: &'static str, note: String, scope: Scope) {
        let uid = self.reconciler.cluster().service(service).map_or("", |service| &service.uid);
        let regarding = Regarding::service(service, uid);
        self.telling.notices.tell(Notice { regarding, reason, note, severity: Severity::Warning, scope });
    }
}

/// Whose it is that has no room.
fn service(refusal: &Refusal) -> Option<&ObjectName> {
    match refusal {
        Refusal::Full { subject, .. } => match subject {
            Subject::Port(port) | Subject::Backends { port, .. } | Subject::Sources(port) => of(port),
            Subject::Frontend(_) | Subject::Address(_) => None,
        },
        Refusal::Name { port, .. } => of(port),
    }
}

fn of(port: &ServicePortName) -> Option<&ObjectName> {
    (port.kind == Kind::Service).then_some(&port.service)
}
