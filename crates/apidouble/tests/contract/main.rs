//! What the API double has in common with a real API server.
//!
//! Each check runs against the double. Where `KUBEBUILDER_ASSETS` names a directory with `etcd` and `kube-apiserver`, all
//! of them run against these too (docs/testing.md): where the two differ, the double is wrong.

// All of this is a test.
#![allow(clippy::unwrap_used)]

mod access;
mod admission;
mod applying;
mod clients;
mod definitions;
mod lists;
mod objects;
mod patches;
mod recording;
mod target;
mod watches;

use std::{panic::AssertUnwindSafe, pin::Pin};

use apidouble::Real;
use futures_util::FutureExt;
use tokio::runtime::{Builder, Runtime};

use crate::target::Target;

type Check = for<'a> fn(&'a Target) -> Pin<Box<dyn Future<Output = ()> + 'a>>;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

macro_rules! contract {
    ($($module:ident: $($name:ident),+;)+) => {
        mod double {
            $($(
                #[test]
                fn $name() {
                    crate::runtime().block_on(async {
                        crate::$module::$name(&crate::Target::double()).await;
                    });
                }
            )+)+
        }

        const ALL: &[(&str, Check)] = &[$($(
            (stringify!($name), |target| Box::pin($module::$name(target))),
        )+)+];
    };
}

contract! {
    objects:
        discovery_says_what_is_served, an_object_is_created_read_replaced_and_deleted,
        a_write_that_changes_nothing_makes_no_version, a_version_may_be_demanded, names_are_generated,
        what_cannot_be_created_is_refused, a_namespace_goes_when_its_content_has_gone, deletion_has_preconditions, finalizers_hold_an_object,
        a_pod_on_a_node_goes_when_its_kubelet_says_so, status_is_written_by_itself, a_dry_run_writes_nothing,
        only_metadata_may_be_asked_for, a_slice_counts_its_generations, a_collection_is_deleted_by_selector;
    patches:
        merge_patches, patches_at_once_lose_nothing, json_patches, strategic_patches, patches_that_cannot_be;
    applying:
        apply_creates_and_is_idempotent, what_is_no_longer_applied_is_removed, fields_of_others_are_conflicts,
        updates_own_fields_too, lists_with_keys_are_applied_item_by_item, a_bundle_is_applied_to_somebody_elses_webhook, status_is_applied_by_itself,
        an_annotation_changes_hands, nothing_is_made_for_a_uid;
    lists:
        selectors_choose, chunks_are_of_one_moment, exact_versions_are_what_was, versions_that_cannot_be,
        metadata_of_a_list;
    watches:
        events_in_order, a_watch_of_a_part_sees_objects_come_and_go, watches_end_in_time,
        initial_events_and_their_end, a_version_that_is_gone, a_version_that_is_not_there_yet,
        options_that_do_not_fit, a_watch_without_a_version_begins_with_what_there_is;
    definitions:
        a_definition_serves_its_kind, its_status_and_generation, what_custom_objects_do_not_allow,
        a_definition_that_goes_takes_its_objects_along;
    access:
        a_token_must_be_known, roles_allow, who_asks_is_told_what_it_may, names_in_rules;
    admission:
        webhooks_change_and_refuse, webhooks_that_fail, webhooks_are_asked_about_what_they_want;
    recording:
        an_event_says_what_it_must, an_event_is_said_once_and_counted;
    clients:
        discovery_in_both_forms, a_watcher_lists_and_watches, a_watcher_streams_its_list, leases_change_hands, events_are_recorded;
}

/// Runs where `KUBEBUILDER_ASSETS` says so; without, there is nothing to compare with.
#[test]
fn real_server() {
    let Some(assets) = Real::assets() else {
        println!("not compared with a real API server: KUBEBUILDER_ASSETS is not set");
        return;
    };
    runtime().block_on(async {
        let target = Target::real(&assets);
        println!("kube-apiserver {}", target.version().await);
        let mut failed = Vec::new();
        for (name, check) in ALL {
            let passed = AssertUnwindSafe(check(&target)).catch_unwind().await.is_ok();
            println!("{name}: {}", if passed { "ok" } else { "DIFFERS" });
            if !passed {
                failed.push(*name);
            }
        }
        println!("{} of {} checks hold", ALL.len() - failed.len(), ALL.len());
        assert_eq!(failed, Vec::<&str>::new(), "the real server does not do what these say");
    });
}
