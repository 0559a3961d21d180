//! One resource, for as long as anybody listens.

mod setback;

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{AsyncBufRead, AsyncBufReadExt, FutureExt};
use kube::core::{
    Request,
    params::{ListParams, WatchParams},
};
use model::Change;
use tokio::{
    sync::mpsc::Sender,
    time::{self, Instant},
};

use super::{
    access::chain,
    fault::{ANSWER, CUT, Fault, broken, within},
    line::{Chunk, Line, Sent},
    mirror::Mirror,
    pause::{Pause, chance},
    resource::Resource,
    sent::AsSent,
    servers::{Server, Servers},
};
use crate::{Problem, publish::Notices};

/// Objects in one part of a list, as kube's own clients have it.
const CHUNK: u32 = 500;
/// Changes that are sent on at once.
const BATCH: usize = 500;
/// For how many seconds a watch is asked for: from the first to twice as long, so that thousands don't end together.
const WATCH_SECONDS: u32 = 300;
/// A watch that ends so much earlier was broken off.
const EARLY: Duration = Duration::from_secs(10);
/// Servers send a bookmark every minute. Who is silent for longer may not be there, or not send any: a new watch shows.
const SILENCE: Duration = Duration::from_secs(100);

/// What a follower has to tell.
pub(crate) enum News {
    /// What changed; never empty.
    Changes(Vec<Change>),
    /// More of it has been sent than before, in this sense.
    Given(Given),
    /// All problems that there are now.
    Problems(Vec<Problem>),
}

/// How much of a resource has been sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Given {
    /// Not all that there is.
    #[default]
    Part,
    /// Nor that, but others are not to wait for the rest.
    Enough,
    /// All that there is, or all that will be given.
    All,
}

/// Why a turn ended.
enum End {
    /// As it was meant to: it goes on from where it was.
    Over,
    /// The server does not have the version that is known: everything anew.
    Expired,
    /// Nobody listens any more.
    Unheard,
}

/// See the module.
pub(super) struct Follower {
    index: usize,
    resource: Resource,
    servers: Arc<Servers>,
    news: Sender<(usize, News)>,
    notices: Notices,
    /// Who gets what is passed on as it was sent.
    as_sent: Option<Sender<AsSent>>,
    mirror: Mirror,
    batch: Vec<Change>,
    /// What is wrong with the server, not with objects.
    trouble: Option<Problem>,
    /// The same, as it was when problems were told last.
    told: Option<Problem>,
    /// How often in a row a server did not have the version that was known.
    expired: u32,
    began: Instant,
    given: Given,
    /// The same, as it was told last.
    told_given: Given,
    /// Does the server send all that there is as a watch? Those before 1.32 mostly don't.
    streams: bool,
    /// The server may not be the one that it was: ask how new it is.
    is_suspicious: bool,
    pause: Pause,
}

impl Follower {
    pub(super) fn new(
        index: usize,
        resource: Resource,
        servers: Arc<Servers>,
        news: Sender<(usize, News)>,
        notices: Notices,
    ) -> Self {
        Self {
            index,
            mirror: Mirror::new(resource.kind),
            resource,
            servers,
            news,
            notices,
            as_sent: None,
            batch: Vec::new(),
            trouble: None,
            told: None,
            expired: 0,
            began: Instant::now(),
            given: Given::Part,
            told_given: Given::Part,
            streams: true,
            is_suspicious: false,
            pause: Pause::new(),
        }
    }

    /// Passes on what is sent, instead of what it means.
    pub(super) fn passing_on(self, to: Sender<AsSent>) -> Self {
        Self { mirror: self.mirror.passing_on(), as_sent: Some(to), ..self }
    }

    pub(super) async fn run(mut self) {
        while let Some(server) = self.servers.current() {
            let outcome = self.turn(&server).await;
            self.mirror.break_list();
            // What came before something went wrong is true all the same.
            if self.flush().await.is_err() {
                return;
            }
            let pause = match outcome {
                Ok(End::Over) if !self.is_suspicious => continue,
                // Whoever ends every watch at once is not to be asked a thousand times a second.
                Ok(End::Over) => self.pause.after_failure(None),
                Ok(End::Expired) => self.after_expiry(&server, None),
                Ok(End::Unheard) | Err(Fault::Unheard) => return,
                Err(Fault::Refused(failure)) if failure.code == 404 => {
                    self.after_absence(&server, failure).await
                }
                Err(fault) => {
                    let may_be_outdated = match &fault {
                        Fault::Refused(failure) => failure.code == 401,
                        fault => matches!(fault, Fault::Untrusted(_)),
                    };
                    let renewed = if may_be_outdated { self.servers.renew().await } else { Ok(()) };
                    match renewed {
                        Ok(()) => self.after(&server, fault),
                        Err(error) => self.after(&server, Fault::Untrusted(error.to_string())),
                    }
                }
            };
            if self.flush().await.is_err() {
                return;
            }
            tokio::select! {
                () = time::sleep(pause) => {}
                () = self.news.closed() => return,
            }
        }
    }

    /// Lists if need be, and watches until that ends.
    async fn turn(&mut self, server: &Server) -> Result<End, Fault> {
        if self.is_suspicious && self.mirror.version().is_some() && self.is_older(server).await? {
            tracing::warn!(
                server = &*server.url,
                resource = self.resource.plural,
                "is older than it was: everything anew"
            );
            // The same numbers may stand for something else.
            self.mirror.doubt_everything();
            return Ok(End::Expired);
        }
        self.is_suspicious = false;
        let begins = self.mirror.version().is_none();
        if begins && !self.streams {
            self.list(server).await?;
        }
        let streams = begins && self.streams;
        let mut params = self.watch_params();
        let seconds = WATCH_SECONDS + (f64::from(WATCH_SECONDS) * chance()) as u32;
        params.timeout = Some(seconds);
        params.send_initial_events = streams;
        let version = if streams { "" } else { self.mirror.version().unwrap_or_default() };
        let request = Request::new(self.resource.path).watch(&params, version);
        let request = request.map_err(|error| Fault::Broken(chain(&error)))?;
        let began = Instant::now();
        let stream = within(ANSWER, server.client.request_stream(request)).await??;
        // It is there, and answers.
        self.trouble = None;
        if streams {
            self.mirror.begin_list();
        }
        let end = self.watch(server, stream).await;
        if began.elapsed() + EARLY < Duration::from_secs(seconds.into()) {
            self.is_suspicious = true;
        }
        end
    }

    fn watch_params(&self) -> WatchParams {
        WatchParams {
            label_selector: self.resource.labels.map(str::to_owned),
            field_selector: self.resource.fields.clone(),
            bookmarks: true,
            ..WatchParams::default()
        }
    }

    fn list_params(&self, limit: u32) -> ListParams {
        ListParams {
            label_selector: self.resource.labels.map(str::to_owned),
            field_selector: self.resource.fields.clone(),
            limit: Some(limit),
            ..ListParams::default()
        }
    }

    async fn chunk(&self, server: &Server, params: &ListParams) -> Result<String, Fault> {
        let request = Request::new(self.resource.path).list(params);
        let request = request.map_err(|error| Fault::Broken(chain(&error)))?;
        Ok(within(ANSWER, server.client.request_text(request)).await??)
    }

    /// Does the server know less than we do? Then it was restored from a backup, and would be silent until it knows more
    /// again. Versions are numbers (kubernetes 1.35 on, and always were).
    async fn is_older(&self, server: &Server) -> Result<bool, Fault> {
        let text = self.chunk(server, &self.list_params(1)).await?;
        let chunk: Chunk<'_> = serde_json::from_str(&text).map_err(broken)?;
        let number = |text: &str| text.parse::<u128>().ok();
        let known = self.mirror.version().and_then(number);
        Ok(number(&chunk.metadata.resource_version).zip(known).is_some_and(|(server, known)| server < known))
    }

    /// All that there is, in chunks.
    async fn list(&mut self, server: &Server) -> Result<(), Fault> {
        self.mirror.begin_list();
        let mut params = self.list_params(CHUNK);
        loop {
            let text = self.chunk(server, &params).await?;
            let chunk: Chunk<'_> = serde_json::from_str(&text).map_err(broken)?;
            for item in chunk.items.iter().flatten() {
                let sent = Sent::read(item.get()).map_err(broken)?;
                self.batch.extend(self.mirror.put(&sent, &server.url));
            }
            if chunk.metadata.rest.is_empty() {
                self.batch.extend(self.mirror.end_list(&chunk.metadata.resource_version));
                self.given = Given::All;
                return self.flush().await;
            }
            params.continue_token = Some(chunk.metadata.rest.into_owned());
            self.flush().await?;
        }
    }

    async fn watch(&mut self, server: &Server, stream: impl AsyncBufRead) -> Result<End, Fault> {
        let mut stream = pin!(stream);
        let mut line = Vec::new();
        loop {
            let read = {
                let mut reading = pin!(stream.read_until(b'\n', &mut line));
                match (&mut reading).now_or_never() {
                    Some(read) => read,
                    None => {
                        // Nothing more has come: what there is goes on.
                        self.flush().await?;
                        let limit = if self.mirror.is_listing() { ANSWER } else { SILENCE };
                        tokio::select! {
                            read = time::timeout(limit, reading) => match read {
                                Ok(read) => read,
                                Err(_) if self.mirror.is_listing() => {
                                    // It may not know of lists as streams, and let us watch all the same.
                                    self.streams = false;
                                    return Err(Fault::Broken("does not say when its list is complete".into()));
                                }
                                Err(_) => {
                                    self.is_suspicious = true;
                                    return Ok(End::Over);
                                }
                            },
                            () = self.news.closed() => return Ok(End::Unheard),
                        }
                    }
                }
            };
            // Whoever goes away seldom says good-bye, and each layer has other words for that.
            let read = read.map_err(|error| {
                tracing::debug!(server = &*server.url, "{}", chain(&error));
                Fault::Broken(CUT.into())
            })?;
            if read == 0 {
                return Ok(End::Over);
            }
            if line.last() != Some(&b'\n') {
                return Err(Fault::Broken(CUT.into()));
            }
            let text = std::str::from_utf8(&line).map_err(|error| Fault::Broken(chain(&error)))?;
            if let Some(end) = self.take(server, Line::read(text).map_err(broken)?).await? {
                return Ok(end);
            }
            line.clear();
            if self.batch.len() >= BATCH {
                self.flush().await?;
            }
        }
    }

    /// One line of a watch; the end of it, if it is that.
    async fn take(&mut self, server: &Server, line: Line<'_>) -> Result<Option<End>, Fault> {
        match line {
            Line::Put(sent) => {
                self.batch.extend(self.mirror.put(&sent, &server.url));
                self.went_well();
            }
            Line::Deleted(sent) => {
                self.batch.extend(self.mirror.delete(&sent));
                self.went_well();
            }
            Line::Bookmark { version, is_all } => {
                if is_all {
                    self.batch.extend(self.mirror.end_list(&version));
                    self.given = Given::All;
                    self.flush().await?;
                }
                self.mirror.reach(&version);
                self.went_well();
            }
            Line::Failed(failure) if failure.is_of_version() => return Ok(Some(End::Expired)),
            Line::Failed(failure) => return Err(Fault::Refused(failure)),
        }
        Ok(None)
    }

    /// Not while a list is incomplete: one that breaks off each time would be begun again without a pause.
    fn went_well(&mut self) {
        if !self.mirror.is_listing() {
            self.pause.reset();
            self.expired = 0;
        }
    }

    /// Sends what there is to send.
    async fn flush(&mut self) -> Result<(), Fault> {
        if let Some(sender) = &self.as_sent {
            for it in self.mirror.take_as_sent() {
                sender.send(it).await.map_err(|_| Fault::Unheard)?;
            }
        }
        if !self.batch.is_empty() {
            let changes = std::mem::take(&mut self.batch);
            self.send(News::Changes(changes)).await?;
        }
        self.tell().await
    }

    /// Sends how much there is, and problems, if they have changed.
    async fn tell(&mut self) -> Result<(), Fault> {
        if self.given > self.told_given {
            self.told_given = self.given;
            self.send(News::Given(self.given)).await?;
        }
        self.mirror.take_notices().into_iter().for_each(|notice| self.notices.tell(notice));
        if self.mirror.take_news_of_problems() || self.trouble != self.told {
            self.told.clone_from(&self.trouble);
            let objects = self.mirror.problems();
            let now = self.trouble.iter().cloned().chain(objects).collect();
            self.send(News::Problems(now)).await?;
        }
        Ok(())
    }

    async fn send(&self, news: News) -> Result<(), Fault> {
        self.news.send((self.index, news)).await.map_err(|_| Fault::Unheard)
    }
}
