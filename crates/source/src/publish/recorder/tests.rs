//! Against the API double: what a process test would have to wait a minute for.

use apidouble::{Cluster, Login, Server};
use model::{Node, ObjectName};
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::{
    kubernetes::{Access, News},
    publish::{Notices, Regarding, Scope, Severity, nodes::Nodes},
};

const PATIENCE: Duration = Duration::from_secs(15);

struct World {
    cluster: Cluster,
    server: Server,
    notices: Notices,
    _nodes: Nodes,
    _news: mpsc::Receiver<(usize, News)>,
}

impl World {
    /// A cluster with a node, whose recorder runs, and writes counts soon.
    async fn new() -> Self {
        let cluster = Cluster::new();
        let server = Server::plain(&cluster).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, server.kubeconfig(&Login::Anonymous).unwrap()).unwrap();
        let access = Access { kubeconfig: Some(kubeconfig), api_servers: Vec::new() };
        let servers = Arc::new(Servers::open(access).await.unwrap());
        let (mut nodes, here) = Nodes::new("n1");
        nodes.take(&[model::Change::Upsert(Node { name: "n1".into(), ..Node::default() }.into())]);
        nodes.complete();
        let (notices, taken) = Notices::new();
        let (sender, news) = mpsc::channel(16);
        let voice = Voice::new(0, sender, "here");
        let recorder = Recorder::new("n1", servers, taken, voice, Duration::from_millis(300)).of_node(here);
        tokio::spawn(recorder.run());
        Self { cluster, server, notices, _nodes: nodes, _news: news }
    }

    fn tell(&self) {
        self.notices.tell(Notice {
            regarding: Regarding::service(&ObjectName::new("default", "web"), "u"),
            reason: "Tested",
            note: "is bad".into(),
            severity: Severity::Warning,
            scope: Scope::Node,
        });
    }

    /// Waits until there is one Event that was told so often.
    async fn counts(&self, count: u64) {
        let is_so = async {
            loop {
                let events = self.cluster.list("events.events.k8s.io").unwrap();
                if events.len() == 1 && event::count(&events[0]) == count {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, is_so).await.unwrap_or_else(|_| panic!("is not told {count} times"));
    }
}

#[tokio::test]
async fn an_event_is_counted_and_told_anew_when_it_has_expired() {
    let world = World::new().await;
    world.tell();
    world.counts(1).await;
    (0..5).for_each(|_| world.tell());
    world.counts(6).await;
    let requests = world.server.record().requests();
    assert!(requests.iter().filter(|it| it.method == "PATCH").count() <= 2, "{requests:?}");
    assert!(world.notices.told().unwrap().written <= 3);
    let name = world.cluster.list("events.events.k8s.io").unwrap()[0]["metadata"]["name"].clone();
    world.cluster.remove("events.events.k8s.io", Some("default"), name.as_str().unwrap()).unwrap();
    world.tell();
    world.counts(1).await;
}

#[tokio::test]
async fn what_no_server_takes_is_dropped_and_holds_nothing_up() {
    let world = World::new().await;
    let nowhere = Notice {
        regarding: Regarding::service(&ObjectName::new("nowhere", "web"), "u"),
        reason: "Tested",
        note: "is bad".into(),
        severity: Severity::Warning,
        scope: Scope::Cluster,
    };
    world.notices.tell(nowhere);
    world.tell();
    world.counts(1).await;
    let told = async {
        while world.notices.told().unwrap().dropped == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, told).await.unwrap();
}
