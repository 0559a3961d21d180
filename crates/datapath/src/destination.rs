//! What a connection is for: which record decides, or why none does.

use crate::{Caller, Env, frontends, policy};
use abi::{
    Address, Endpoint, Key, Reason, Record,
    frontend::{mode, record_flag},
    reason::fallen,
    space::{address_use, prefix_flag},
};

/// 127.0.0.1 and ::1: what a connection to the unspecified address is for (kernel 6.18 net/ipv4/route.c
/// `ip_route_output_key_hash_rcu`, net/ipv6/tcp_ipv6.c `tcp_v6_connect`).
const LOOPBACK4: Address = Address::v4(u32::from_be(0x7f00_0001));
const LOOPBACK6: Address = Address([0, 0, 0, u32::from_be(1)]);

/// The record of a frontend, and its index.
#[inline(always)]
pub fn look_up<'a, E: Env>(env: &'a E, key: &Key) -> (Option<E::Ref<'a, Record>>, Found) {
    let (found, is_further) = env.look(key);
    if found == 0 && !is_further {
        return (None, Found::none(Reason::NotAService));
    }
    let mut index = found.wrapping_sub(1);
    let mut record = env.record(index);
    if record.as_ref().is_none_or(|record| record.key() != *key) {
        index = env.look_further(key);
        record = env.record(index);
    }
    match record {
        Some(record) if record.key() == *key => {
            (Some(record), Found { reason: Reason::Balanced, record: index, fallen: fallen::NO })
        }
        _ if index == frontends::NONE => (None, Found::none(Reason::NotAService)),
        _ => (None, Found::none(Reason::BrokenTable)),
    }
}

/// The index of the record of a frontend, as [`look_up`] finds it: where room on the stack matters more than time.
#[inline(always)]
pub fn find<E: Env>(env: &E, key: &Key) -> Found {
    match env.look_further(key) {
        frontends::NONE => Found::none(Reason::NotAService),
        frontends::BROKEN => Found::none(Reason::BrokenTable),
        record => Found { reason: Reason::Balanced, record, fallen: fallen::NO },
    }
}

/// Which record decides, or why none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// [`Reason::Balanced`]: the record decides. Anything else is final.
    pub reason: Reason,
    /// Index of the record, or of the one that says so; [`Found::NO_RECORD`] = there is none.
    pub record: u32,
    /// [`abi::reason::fallen`]: why the first policy of the frontend did not decide.
    pub fallen: u8,
}

impl Found {
    /// Index of no record.
    pub const NO_RECORD: u32 = u32::MAX;

    /// No record, and why.
    #[inline(always)]
    pub(crate) const fn none(reason: Reason) -> Self {
        Self { reason, record: Self::NO_RECORD, fallen: fallen::NO }
    }
}

/// Finds the record that decides about a connection of `caller` to `key`. Of a policy's frontend `held` says of which service
/// port the socket has a backend there already, given the record of the first who has it, or [`policy::NOTHING_HELD`].
#[inline(always)]
pub fn resolve<'a, E: Env, C: Caller>(
    env: &'a E,
    caller: &C,
    key: &Key,
    held: impl FnOnce(&Record) -> u32,
) -> (Option<E::Ref<'a, Record>>, Found) {
    let settings = env.settings();
    if settings.paused != 0 {
        return (None, Found::none(Reason::Paused));
    }
    if settings.excluded != 0 && caller.is_excluded() {
        return (None, Found::none(Reason::Excluded));
    }
    let (record, found) = look_up(env, key);
    let is_usual = match &record {
        Some(record) => {
            record.mode != mode::NODE_PORT
                && record.flags & (record_flag::RESTRICTED | record_flag::POLICY) == 0
        }
        // What is for no service at all should not pay for more than this.
        None => !is_noteworthy(env, settings.space, key),
    };
    if is_usual {
        return (record, found);
    }
    let found = match &record {
        Some(record) if record.flags & record_flag::POLICY != 0 => {
            policy::resolve(env, caller, key, held(record))
        }
        _ => env.unusual(caller.netns(), key),
    };
    (env.record(found.record), found)
}

/// Can something that is no frontend be ours all the same?
#[inline(always)]
fn is_noteworthy<E: Env>(env: &E, space: u32, key: &Key) -> bool {
    let Some(space) = env.space(space) else { return false };
    space.area(&key.endpoint.address) != 0 || space.may_be_node_port(key.endpoint.port_be)
}

/// The rare part of [`resolve`], for a client of this network namespace: restricted VIPs, and what is no frontend. Also of what
/// is below policies, where `key` is at a level.
#[inline(always)]
pub fn unusual<E: Env>(env: &E, netns: u64, key: &Key) -> Found {
    let (record, found) = look_up(env, key);
    let mut address = key.endpoint.address;
    match &record {
        Some(record) if record.mode == mode::NODE_PORT => {
            // The application asked for the unspecified address.
            address = if address.as_v4().is_some() { LOOPBACK4 } else { LOOPBACK6 };
        }
        Some(record) if record.flags & record_flag::RESTRICTED != 0 => {
            let reason = admit(env, netns, record, address.as_v4().is_some());
            return Found { reason, ..found };
        }
        // It has changed since.
        Some(_) => return found,
        None if !matches!(found.reason, Reason::NotAService) => return found,
        None => {}
    }
    elsewhere(env, netns, key, &address)
}

/// R22: may this client use a restricted VIP? Each record of a VIP is of one family, and so are its ranges.
#[inline(always)]
fn admit<E: Env>(env: &E, netns: u64, record: &Record, is_v4: bool) -> Reason {
    let Some(client) = env.client(netns) else { return Reason::UnknownClient };
    let address = if is_v4 { Address::v4(client.v4) } else { Address(client.v6) };
    let is_known = if is_v4 { client.v4 != 0 } else { client.v6 != [0; 4] };
    // Last: see `abi::client::Client`.
    if !is_known || client.netns != netns {
        return Reason::UnknownClient;
    }
    if env.admits(record.service, &address) { Reason::Balanced } else { Reason::SourceRange }
}

/// `address` and the port of `key` are no frontend: a node port (R14), a port that no service has on a cluster IP, an
/// address that no service has (R12), or nothing of ours.
#[inline(always)]
fn elsewhere<E: Env>(env: &E, netns: u64, key: &Key, address: &Address) -> Found {
    let settings = env.settings();
    let Some(space) = env.space(settings.space) else { return Found::none(Reason::NotAService) };
    let area = space.area(address);
    let uses = env.uses(address);
    if uses & address_use::CLUSTER_IP != 0 {
        return Found::none(Reason::UnknownPort);
    }
    if uses == 0 {
        let is_reserved = area & prefix_flag::RESERVED != 0;
        return Found::none(if is_reserved { Reason::UnusedAddress } else { Reason::NotAService });
    }
    let nodes = uses & address_use::NODES;
    let is_reachable = nodes != 0 && (nodes != address_use::LOOPBACK || netns == settings.host_netns);
    let (mut record, mut found) = (None, Found::none(Reason::NotAService));
    if is_reachable && space.may_be_node_port(key.endpoint.port_be) {
        (record, found) = look_up(env, &node_port(key));
    }
    match &record {
        Some(record)
            if nodes == address_use::OTHER_NODE && record.flags & record_flag::EXTERNAL_LOCAL != 0 =>
        {
            found.reason = Reason::RemoteNodePort;
        }
        Some(_) => {}
        None if uses & address_use::FOREIGN != 0 => found.reason = Reason::ForeignService,
        None => {}
    }
    found
}

/// The frontend of a node port: the unspecified address stands for all nodes.
#[inline(always)]
fn node_port(key: &Key) -> Key {
    let is_v4 = key.endpoint.address.as_v4().is_some();
    let address = if is_v4 { Address::v4(0) } else { Address([0; 4]) };
    Key { endpoint: Endpoint { address, port_be: key.endpoint.port_be }, protocol: key.transport() }
}
