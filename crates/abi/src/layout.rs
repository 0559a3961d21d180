//! Layout versions: part of a map's pin name, one for each map.
//!
//! A change of a map's key or value is a new number here. A test holds the layouts that these numbers
//! stand for, so that a change without a new number fails.

/// `frontends4`, `frontends6`, `records`, `lists`, `backends`, `names`, `sources`, `addresses4`, `addresses6`, `spaces`:
/// they refer to one another and change together.
pub const TABLES: u32 = 5;

/// `slots`. A later layout may only append words: sockets outlive agents, and their words are copied.
pub const SLOTS: u32 = if cfg!(feature = "next-layout") { 2 } else { 1 };

/// `pairs`.
pub const PAIRS: u32 = 1;

/// `settings`.
pub const SETTINGS: u32 = 5;

/// `counters`.
pub const COUNTERS: u32 = 4;

/// `clients`.
pub const CLIENTS: u32 = 1;

/// `affinity`.
pub const AFFINITY: u32 = 1;

/// `excluded`.
pub const EXCLUDED: u32 = 1;

/// `events`.
pub const EVENTS: u32 = 2;

/// `limits`.
pub const LIMITS: u32 = 1;

/// `policies`.
pub const POLICIES: u32 = 1;

/// `exempt`.
pub const EXEMPT: u32 = 1;

/// `usage`.
pub const USAGE: u32 = 1;

/// `cgroups`.
pub const CGROUPS: u32 = 1;

#[cfg(test)]
mod tests {
    extern crate std;
    use core::mem::offset_of;
    use std::{format, string::String};

    use crate::{
        Backend, Event, Name, Pair, Pairs, Range, Record, Settings, Slot, Space,
        cgroup::CgroupPath,
        client::{Affinity, AffinityKey, Client, SourceKey},
        policy::{ExemptKey, Limit, LimitKey, Policy},
        reason, slot,
        space::{Prefix, Use4, Use6},
        usage::{self, Bucket, Entry},
    };

    macro_rules! fields {
        ($type:ty: $($field:tt)*) => {{
            let mut text = format!("{} {}", stringify!($type), size_of::<$type>());
            $(text += &format!(" {}@{}", stringify!($field), offset_of!($type, $field));)*
            text + "\n"
        }};
    }

    /// If this fails, a layout has changed: give its maps a new number above, and put the new text here.
    #[test]
    fn the_numbers_stand_for_these_layouts() {
        let tables: String = [
            fields!(Range: start len),
            fields!(Record: address port_be protocol mode flags service local affinity limit policy pad),
            fields!(Backend: address port_be flags service generation index),
            fields!(Name: namespace service port uid port_be protocol family kind pad),
            fields!(SourceKey: bits service address),
            fields!(Use4: address uses),
            fields!(Use6: address uses),
            fields!(Prefix: network mask flags),
            fields!(Space: v4 v6 first_node_port last_node_port),
        ]
        .concat();
        let expected = "Range 8 start@0 len@4\n\
                        Record 64 address@0 port_be@16 protocol@18 mode@19 flags@20 service@24 local@28 affinity@36 limit@40 policy@44 pad@52\n\
                        Backend 32 address@0 port_be@16 flags@18 service@20 generation@24 index@28\n\
                        Name 240 namespace@0 service@64 port@128 uid@192 port_be@232 protocol@234 family@235 kind@236 pad@237\n\
                        SourceKey 24 bits@0 service@4 address@8\n\
                        Use4 8 address@0 uses@4\n\
                        Use6 20 address@0 uses@16\n\
                        Prefix 36 network@0 mask@16 flags@32\n\
                        Space 580 v4@0 v6@288 first_node_port@576 last_node_port@578\n";
        assert_eq!((super::TABLES, tables.as_str()), (5, expected));

        let slots = [fields!(Slot: owner pair), fields!(Pair: vip backend meta ids service)].concat();
        let expected = "Slot 64 owner@0 pair@8\nPair 56 vip@0 backend@16 meta@32 ids@40 service@48\n";
        // Of the entry only the beginning may never change; the test's next layout is a longer one.
        let entry = if cfg!(feature = "next-layout") { (2, 128) } else { (1, 64) };
        assert_eq!((super::SLOTS, size_of::<slot::Entry>()), entry);
        assert_eq!(slots, expected);
        assert_eq!((super::PAIRS, fields!(Pairs: clock pairs).as_str()), (1, "Pairs 456 clock@0 pairs@8\n"));

        let settings = fields!(Settings: paused events sample reported_lost space excluded host_netns tables exempt_cgroups usage_page usage_by_netns);
        let expected = "Settings 48 paused@0 events@4 sample@8 reported_lost@12 space@16 excluded@20 host_netns@24 tables@32 exempt_cgroups@36 usage_page@40 usage_by_netns@44\n";
        assert_eq!((super::SETTINGS, settings.as_str()), (5, expected));
        let client = fields!(Client: netns v6 v4 pad);
        assert_eq!((super::CLIENTS, client.as_str()), (1, "Client 32 netns@0 v6@8 v4@24 pad@28\n"));
        let affinity =
            [fields!(AffinityKey: client service pad), fields!(Affinity: client service ids used)].concat();
        let expected =
            "AffinityKey 16 client@0 service@8 pad@12\nAffinity 32 client@0 service@8 ids@16 used@24\n";
        assert_eq!((super::AFFINITY, affinity.as_str()), (1, expected));
        let policies = [
            fields!(LimitKey: policy limit),
            fields!(Limit: head places),
            fields!(Policy: fallbacks spills own),
            fields!(ExemptKey: policy client),
        ]
        .concat();
        let expected = "LimitKey 12 policy@0 limit@8\nLimit 8008 head@0 places@8\n\
                        Policy 24 fallbacks@0 spills@8 own@16\nExemptKey 16 policy@0 client@8\n";
        let numbers = (super::LIMITS, super::POLICIES, super::EXEMPT);
        assert_eq!((numbers, policies.as_str()), ((1, 1, 1), expected));
        // A new reason or hook moves the counters.
        assert_eq!((super::COUNTERS, reason::COUNTERS), (4, 94));
        let usage = [fields!(Entry: key count), fields!(Bucket: 0)].concat();
        let pages = (usage::PAGES, usage::BUCKETS);
        assert_eq!(
            (super::USAGE, pages, usage.as_str()),
            (1, (2, 1024), "Entry 16 key@0 count@8\nBucket 64 0@0\n")
        );
        let path = fields!(CgroupPath: bytes);
        assert_eq!((super::CGROUPS, path.as_str()), (1, "CgroupPath 512 bytes@0\n"));
        let event = fields!(Event: time cgroup netns cookie pid tid uid service original backend original_port_be
            backend_port_be protocol hook reason mode comm backend_flags known fallen pad pad2);
        let expected = "Event 128 time@0 cgroup@8 netns@16 cookie@24 pid@32 tid@36 uid@40 service@44 original@48 \
                        backend@64 original_port_be@80 backend_port_be@82 protocol@84 hook@85 reason@86 mode@87 \
                        comm@88 backend_flags@104 known@108 fallen@112 pad@116 pad2@120\n";
        assert_eq!((super::EVENTS, event.as_str()), (2, expected));
    }
}
