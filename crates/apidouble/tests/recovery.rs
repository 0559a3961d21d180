//! A kube-rs watcher over every fault: what it knows is right again soon after, deletions included.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use apidouble::{Cluster, Ending, Fault, Filter, Login, Server, Verb};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config, ResourceExt,
    config::{KubeConfigOptions, Kubeconfig},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::json;
use tokio::time::sleep;

type Known = Arc<Mutex<BTreeMap<String, String>>>;

fn config_map(name: &str, value: usize) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value.to_string()}})
}

async fn client(server: &Server) -> Client {
    let config = Kubeconfig::from_yaml(&server.kubeconfig(&Login::Anonymous).unwrap()).unwrap();
    let mut config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// Follows all ConfigMaps for as long as the test runs.
fn follow(client: Client, config: watcher::Config) -> Known {
    let known = Known::default();
    let inside = known.clone();
    tokio::spawn(async move {
        let mut fresh = BTreeMap::new();
        let mut stream = watcher(Api::<ConfigMap>::all(client), config).boxed();
        while let Some(event) = stream.next().await {
            let value = |object: &ConfigMap| object.data.as_ref().unwrap()["value"].clone();
            match event {
                Ok(Event::Init) => fresh.clear(),
                Ok(Event::InitApply(object)) => drop(fresh.insert(object.name_any(), value(&object))),
                Ok(Event::InitDone) => *inside.lock().unwrap() = std::mem::take(&mut fresh),
                Ok(Event::Apply(object)) => {
                    inside.lock().unwrap().insert(object.name_any(), value(&object));
                }
                Ok(Event::Delete(object)) => {
                    inside.lock().unwrap().remove(&object.name_any());
                }
                // Asking again at once would keep both sides busy with that.
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    });
    known
}

fn truth(cluster: &Cluster) -> BTreeMap<String, String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let objects = cluster.list("configmaps").unwrap();
    objects.iter().map(|object| (text(&object["metadata"]["name"]), text(&object["data"]["value"]))).collect()
}

async fn recovers(config: watcher::Config) {
    let cluster = Cluster::new();
    let server = Server::tls(&cluster).unwrap();
    cluster.put_all((0..50).map(|at| config_map(&format!("map-{at}"), 0))).unwrap();
    let known = follow(client(&server).await, config);
    let right = async |when: &str| {
        let end = Instant::now() + Duration::from_secs(10);
        while *known.lock().unwrap() != truth(&cluster) {
            assert!(Instant::now() < end, "not right in time: {when}");
            sleep(Duration::from_millis(5)).await;
        }
    };
    right("the start").await;

    let mut step = 0;
    // One object changes, one comes and one goes: with the fault in force, or behind the watcher's back.
    let mut edit = || {
        step += 1;
        cluster.put(config_map(&format!("map-{step}"), step)).unwrap();
        cluster.put(config_map(&format!("new-{step}"), step)).unwrap();
        cluster.remove("configmaps", Some("default"), &format!("map-{}", 49 - step)).unwrap();
    };
    for how in [Ending::Clean, Ending::Reset] {
        server.end_watches(how);
        edit();
        right("watches were dropped").await;
        server.close(how).unwrap();
        edit();
        cluster.compact();
        sleep(Duration::from_millis(100)).await;
        server.open().unwrap();
        right("nobody listened, and history is gone").await;
    }
    let faults = [
        Fault::Gone,
        Fault::InternalError,
        Fault::Unavailable,
        Fault::TooManyRequests(1),
        Fault::Reset,
        Fault::Cut(1500),
        Fault::Garbage,
        Fault::Slow(2000, Duration::from_millis(1)),
    ];
    for fault in faults {
        let when = format!("{fault:?}");
        let filter = Filter::verb(Verb::List).and_verb(Verb::Watch);
        let id = server.faults().times(3, filter, fault);
        server.end_watches(Ending::Clean);
        edit();
        cluster.compact();
        let end = Instant::now() + Duration::from_secs(10);
        while server.faults().hits(id) < 3 && Instant::now() < end {
            // A fault that disturbs nothing is met only when the watcher asks again.
            server.end_watches(Ending::Clean);
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(server.faults().hits(id), 3, "{when}");
        right(&when).await;
        edit();
        right(&when).await;
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn a_watcher_that_lists_recovers() {
    run(recovers(watcher::Config::default().page_size(10)));
}

#[test]
fn a_watcher_that_streams_recovers() {
    run(recovers(watcher::Config::default().streaming_lists()));
}

/// What kube-rs does not do by itself: after a restore from a backup its watch goes on from a version that is not there
/// any more, and hears nothing. Whoever uses it has to notice.
#[test]
fn a_watcher_does_not_notice_that_the_past_has_come_back() {
    run(async {
        let cluster = Cluster::new();
        let server = Server::tls(&cluster).unwrap();
        cluster.put(config_map("one", 0)).unwrap();
        let then = cluster.snapshot();
        for value in 1..10 {
            cluster.put(config_map("one", value)).unwrap();
        }
        let known = follow(client(&server).await, watcher::Config::default());
        let value = || known.lock().unwrap().get("one").cloned();
        while value().is_none_or(|value| value != "9") {
            sleep(Duration::from_millis(5)).await;
        }
        cluster.restore(&then);
        sleep(Duration::from_millis(500)).await;
        assert_eq!(value().as_deref(), Some("9"), "kube-rs notices now: the agent need not");
    });
}
