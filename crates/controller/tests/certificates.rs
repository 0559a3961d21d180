//! Certificates that controllers make, share and renew, and given ones; what API servers are told of them.

#![allow(clippy::unwrap_used)]

mod world;

use std::{fs, sync::atomic::Ordering::Relaxed};

use base64::{Engine, prelude::BASE64_STANDARD};
use controller::{Certificate, Files};
use serde_json::Value;
use world::{Controller, NAME, World, der, policy, until};

const DAY: i64 = 86_400;

fn own() -> Certificate {
    World::own_certificate()
}

#[tokio::test]
async fn controllers_that_start_together_share_one_certificate() {
    let world = World::new().await;
    let controllers: Vec<Controller> = (0..4).map(|_| world.start(own(), 0)).collect();
    for controller in &controllers {
        controller.is_ready().await;
    }
    until("API servers to be told", async || world.trusted() == Some(1)).await;
    let (bundle, served) = (world.secret("ca.crt").unwrap(), der(&world.secret("tls.crt").unwrap()));
    assert_eq!(world.bundles().first(), Some(&bundle));
    for controller in controllers {
        assert_eq!(controller.serves(&bundle).await, served);
        controller.stop().await;
    }
    // Who comes later, takes what is there.
    let later = world.started().await;
    assert_eq!(later.serves(&bundle).await, served);
    world.admits("a").await;
    later.stop().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_under_way_without_a_request_lost() {
    let world = World::new().await;
    // Made so long ago that it is soon to be renewed, and counts today.
    let controllers = [world.start(own(), -61), world.start(own(), -61)];
    for controller in &controllers {
        controller.is_ready().await;
    }
    until("API servers to be told", async || world.trusted() == Some(1)).await;
    let first = world.secret("tls.crt").unwrap();
    world.admits("a").await;
    // Prepared: both authorities are trusted, the first certificate is served.
    controllers.iter().for_each(|controller| controller.skew.store(0, Relaxed));
    until("both to be trusted", async || world.trusted() == Some(2)).await;
    assert!(world.secret("next.crt").is_some());
    let bundle = world.bundles().pop_first().unwrap();
    for controller in &controllers {
        assert_eq!(controller.serves(&bundle).await, der(&first));
    }
    world.admits("b").await;
    // In force, wherever somebody connects, while policies are written.
    controllers.iter().for_each(|controller| controller.skew.store(3660, Relaxed));
    until("the next to be in force", async || {
        world.admits("c").await;
        world.secret("tls.crt").unwrap() != first
    })
    .await;
    assert!(world.secret("next.crt").is_none());
    let second = der(&world.secret("tls.crt").unwrap());
    for controller in &controllers {
        until("it to be served", async || controller.serves(&bundle).await == second).await;
    }
    assert_eq!(world.trusted(), Some(2), "a controller may be late");
    world.admits("d").await;
    for controller in controllers {
        controller.stop().await;
    }
}

#[tokio::test]
async fn an_expired_certificate_keeps_policies_out_and_lets_them_go_until_the_clock_is_right() {
    let world = World::new().await;
    // It believes that what it has counts; API servers know better.
    let controller = world.start(own(), -100);
    controller.is_ready().await;
    until("API servers to be told", async || world.trusted() == Some(1)).await;
    world.cluster.put(policy("old", "80")).unwrap();
    let refused = world.create(&policy("a", "81")).await.unwrap_err();
    assert!(refused.contains("failed calling webhook") && refused.contains("xpired"), "{refused}");
    world.delete("old").await.unwrap();
    // A jump forwards, to today.
    controller.skew.store(0, Relaxed);
    until("a new certificate", async || world.create(&policy("a", "81")).await.is_ok()).await;
    let (_, metrics) = controller.health("/metrics").await;
    let end = "\nbalancing_webhook_certificate_not_after_timestamp_seconds ";
    let end: i64 = metrics.split(end).nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    let left = end - jiff::Timestamp::now().as_second();
    assert!((89 * DAY..=90 * DAY).contains(&left), "{left}");
    controller.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumps_back_makes_a_new_certificate_at_once() {
    let world = World::new().await;
    // Made in a future that never was.
    let controller = world.start(own(), 400);
    controller.is_ready().await;
    until("API servers to be told", async || world.trusted() == Some(1)).await;
    assert!(world.create(&policy("a", "80")).await.is_err());
    controller.stop().await;
    let controller = world.start(own(), 0);
    until("a new certificate", async || world.create(&policy("a", "80")).await.is_ok()).await;
    controller.is_ready().await;
    controller.stop().await;
}

#[tokio::test]
async fn what_others_write_over_is_written_again() {
    let world = World::new().await;
    let controller = world.started().await;
    let bundle = world.bundles().pop_first().unwrap();
    // An upgrade of the chart, which does not know it.
    for resource in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        let mut configuration = world.cluster.get(resource, None, "balancing").unwrap();
        let nonsense = BASE64_STANDARD.encode("nonsense");
        configuration["webhooks"][0]["clientConfig"]["caBundle"] = nonsense.into();
        world.cluster.put(configuration).unwrap();
    }
    until("it to be told again", async || world.bundles() == [bundle.clone()].into()).await;
    // Deleted, and made again.
    let configurations = world::deployed().into_iter().filter(|it| it["webhooks"].is_array());
    for configuration in configurations {
        let kind = configuration["kind"].as_str().unwrap().to_lowercase() + "s";
        world.cluster.remove(&kind, None, "balancing").unwrap();
        world.cluster.put(configuration).unwrap();
    }
    until("it to be told again", async || world.bundles() == [bundle.clone()].into()).await;
    world.admits("a").await;
    controller.stop().await;
}

#[tokio::test]
async fn a_secret_that_is_deleted_or_spoilt_is_made_anew() {
    let world = World::new().await;
    let controller = world.started().await;
    let first = world.secret("tls.crt").unwrap();
    world.cluster.remove("secrets", Some("kube-system"), "balancing-webhook").unwrap();
    let is_new = async |before: &str| world.secret("tls.crt").is_some_and(|now| now != before);
    until("a new Secret", async || is_new(&first).await).await;
    until("a policy to be let in", async || world.create(&policy("a", "80")).await.is_ok()).await;
    let mut secret = world.cluster.get("secrets", Some("kube-system"), "balancing-webhook").unwrap();
    let second = world.secret("tls.crt").unwrap();
    secret["data"]["ca.crt"] = Value::Null;
    world.cluster.put(secret).unwrap();
    until("a right Secret", async || is_new(&second).await && world.secret("ca.crt").is_some()).await;
    until("a policy to be let in", async || world.create(&policy("b", "81")).await.is_ok()).await;
    controller.stop().await;
}

#[tokio::test]
async fn given_files_are_served_and_followed() {
    let world = World::new().await;
    let files = Files {
        certificate: world.path("tls.crt"),
        key: world.path("tls.key"),
        authority: Some(world.path("ca.crt")),
    };
    let controller = world.start(Certificate::Given(files.clone()), 0);
    until("an answer", async || controller.health("/readyz").await.0 == 503).await;
    let (_, why) = controller.health("/readyz").await;
    assert!(why.contains("there is no certificate yet"), "{why}");

    let give = |name: &str| {
        let identity = world.cluster.issue_server(&[name]).unwrap();
        fs::write(&files.certificate, &identity.certificate).unwrap();
        fs::write(&files.key, &identity.key).unwrap();
        der(&identity.certificate)
    };
    let ca = world.cluster.ca().unwrap();
    fs::write(files.authority.as_ref().unwrap(), &ca).unwrap();
    let first = give(NAME);
    controller.is_ready().await;
    until("API servers to be told", async || world.bundles() == [ca.clone()].into()).await;
    world.admits("a").await;
    assert_eq!(controller.serves(&ca).await, first);
    // Half of it, for the moment: what was stays.
    fs::write(&files.key, "nonsense").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(controller.serves(&ca).await, first);
    let second = give(NAME);
    until("the new one", async || controller.serves(&ca).await == second).await;
    world.admits("b").await;
    assert!(world.secret("tls.crt").is_none(), "it makes none");
    controller.stop().await;
}

#[tokio::test]
async fn whom_to_trust_may_be_told_by_somebody_else() {
    let world = World::new().await;
    let identity = world.cluster.issue_server(&[NAME]).unwrap();
    let files = Files { certificate: world.path("tls.crt"), key: world.path("tls.key"), authority: None };
    fs::write(&files.certificate, &identity.certificate).unwrap();
    fs::write(&files.key, &identity.key).unwrap();
    let controller = world.start(Certificate::Given(files), 0);
    controller.is_ready().await;
    assert_eq!(world.bundles(), [String::new()].into());
    // As cert-manager does it.
    let ca = world.cluster.ca().unwrap();
    for resource in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        let mut configuration = world.cluster.get(resource, None, "balancing").unwrap();
        configuration["webhooks"][0]["clientConfig"]["caBundle"] = BASE64_STANDARD.encode(&ca).into();
        world.cluster.put(configuration).unwrap();
    }
    world.admits("a").await;
    assert_eq!(world.bundles(), [ca].into());
    controller.stop().await;
}
