//! Decisions of the programs, read from the ring buffer and given names.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use kernel::{Events, LiveTables};
use observe::event::{Clock, Decision, Names, Who};

use super::Agent;
use crate::answer;

/// How long events are read in one go, so that tables don't wait for them.
const EVENTS_AT_ONCE: Duration = Duration::from_millis(10);

impl Agent {
    /// Reads what there is; was there anything?
    pub(super) fn read_events(&mut self, ring: &mut Events) -> bool {
        let begun = Instant::now();
        let mut any = false;
        while begun.elapsed() < EVENTS_AT_ONCE {
            let Some(event) = ring.next_event() else { break };
            any = true;
            if event.reason == abi::Reason::UnknownClient as u8 {
                self.look_for_clients_now();
            }
            let cgroup = self.log.cgroup(event.cgroup);
            let tables = LiveTables::new(self.reconciler.store());
            let service = if event.mode == 0 { None } else { tables.name(event.service) };
            let to = abi::Endpoint { address: event.backend, port_be: event.backend_port_be }.socket_addr();
            let candidate = service
                .as_ref()
                .filter(|_| event.backend_port_be != 0)
                .and_then(|name| answer::candidate(self.reconciler.cluster(), name, to));
            let names = Names {
                node: &self.config.node_name,
                clock: clock(),
                service: service.as_ref(),
                cgroup: cgroup.as_deref(),
                who: Who::default(),
                backend: (
                    candidate.as_ref().and_then(|backend| backend.pod.as_ref()),
                    candidate.as_ref().and_then(|backend| backend.node.as_deref()),
                ),
            };
            let mut decision = Decision::new(&event, &names);
            if event.reason == abi::Reason::UnknownPort as u8 {
                // No service port has it; the service whose address it is is known all the same.
                let owner = self.cluster_ips.service(self.reconciler.cluster(), decision.original.ip);
                decision.service = owner.map(|it| observe::event::Service {
                    namespace: it.namespace.to_string(),
                    name: it.name.clone(),
                    port: String::new(),
                });
            }
            self.log.add(decision);
        }
        // Where there was nothing to read there was room.
        if any {
            self.report_lost();
        }
        any
    }

    pub(super) fn report_lost(&mut self) {
        if let Ok(total) = self.reconciler.store().events_lost()
            && self.log.ring_lost(total)
        {
            let store = self.reconciler.store();
            let noted = store.change_settings(|it| it.reported_lost = total as u32);
            if let Err(error) = noted {
                tracing::warn!("noting how many lost events were reported: {error}");
            }
        }
    }
}

fn clock() -> Clock {
    Clock { monotonic: host::clock::monotonic(), world: Timestamp::now() }
}
