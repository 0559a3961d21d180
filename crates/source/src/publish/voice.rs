//! What is said of writing itself, in `status`.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;

use crate::{Place, Problem, Severity, kubernetes::News};

/// How often in a row something fails before it is said: who is away for a moment is told of by those that read.
const PATIENCE: u32 = 3;

/// Says what is wrong, once for each change of it.
#[derive(Debug)]
pub(super) struct Voice {
    index: usize,
    news: Sender<(usize, News)>,
    place: Place,
    said: Vec<Problem>,
    failures: u32,
    trouble: Option<String>,
}

impl Voice {
    pub(super) fn new(index: usize, news: Sender<(usize, News)>, server: &str) -> Self {
        let place = Place::Server(Arc::from(server));
        Self { index, news, place, said: Vec::new(), failures: 0, trouble: None }
    }

    /// It works.
    pub(super) fn went_well(&mut self) {
        (self.failures, self.trouble) = (0, None);
    }

    /// It does not, and may later.
    pub(super) fn failed(&mut self, text: String) {
        self.failures += 1;
        if self.failures >= PATIENCE {
            self.trouble = Some(text);
        }
    }

    /// It does not, for a reason that stays.
    pub(super) fn is_refused(&mut self, text: String) {
        self.trouble = Some(text);
    }

    /// Says what there is to say, with what else is wrong: objects, and what is wrong with each.
    pub(super) async fn say(&mut self, objects: impl IntoIterator<Item = (String, String)>) {
        let problem = |severity, object, reason| Problem {
            severity,
            place: self.place.clone(),
            line: None,
            object,
            reason,
        };
        let trouble = self.trouble.iter().map(|text| problem(Severity::Notice, None, text.clone()));
        let objects = objects.into_iter();
        let objects = objects.map(|(object, text)| problem(Severity::Error, Some(object), text));
        let now: Vec<Problem> = trouble.chain(objects).collect();
        if now != self.said {
            self.said.clone_from(&now);
            // Whoever no longer listens is about to end this.
            let _ = self.news.send((self.index, News::Problems(now))).await;
        }
    }
}
