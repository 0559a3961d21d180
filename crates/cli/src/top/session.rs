//! The live view: keys, answers and signals come as they like, and one loop draws.

use std::{
    io, panic, process,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use anyhow::Context;
use crossterm::{
    cursor,
    event::{self, Event, KeyEvent, KeyEventKind},
};
use ratatui::DefaultTerminal;

use super::{
    ask::{Endpoints, ask},
    controls::{Controls, Next},
    rates::Rates,
    screen::{Shown, draw},
    sheet::Tab,
    view::View,
};
use crate::{place::Place, stop::stop};

enum Happened {
    Key(KeyEvent),
    /// The terminal has another size, or the like.
    Other,
    Answer(Box<View>),
    /// Nobody answered; why.
    Silence(String),
    /// A signal, or the terminal is gone.
    Stop,
}

/// The service or policy whose endpoints are shown, as the agent is asked for it.
type Service = Option<(String, String)>;

/// Shows pictures until somebody has had enough.
pub(super) fn run(place: Place, interval: Duration) -> anyhow::Result<()> {
    let (tell, happened) = mpsc::channel();
    let (want, wanted) = mpsc::channel();
    catch_signals(tell.clone()).context("cannot wait for signals")?;
    // From here on the terminal is in our hands; what ratatui does in a panic puts it right before anything is said.
    let mut terminal = ratatui::try_init().context("cannot use this terminal; `--once` needs none")?;
    end_with_any_thread();
    let keys = tell.clone();
    thread::spawn(move || read_keys(&keys));
    thread::spawn(move || keep_asking(&place, interval, &wanted, &tell));
    let outcome = watch(&mut terminal, &happened, &want);
    let restored = ratatui::try_restore();
    outcome?;
    restored.context("cannot put the terminal right; `reset` does")
}

/// A view that has lost one of its threads would stand still: a panic in any of them is the end.
fn end_with_any_thread() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        // ratatui's hook leaves the cursor to whoever drops the terminal.
        let _ = crossterm::execute!(io::stdout(), cursor::Show);
        hook(panic);
        process::exit(101);
    }));
}

fn catch_signals(tell: Sender<Happened>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = {
        let _inside = runtime.enter();
        stop()?
    };
    thread::spawn(move || {
        runtime.block_on(stop);
        // Nobody left to tell: it is over anyway.
        let _ = tell.send(Happened::Stop);
    });
    Ok(())
}

fn read_keys(tell: &Sender<Happened>) {
    loop {
        let happened = match event::read() {
            Ok(Event::Key(key)) if key.kind == KeyEventKind::Release => continue,
            Ok(Event::Key(key)) => Happened::Key(key),
            Ok(_) => Happened::Other,
            Err(_) => Happened::Stop,
        };
        let is_over = matches!(happened, Happened::Stop);
        if tell.send(happened).is_err() || is_over {
            return;
        }
    }
}

fn keep_asking(place: &Place, interval: Duration, wanted: &Receiver<Service>, tell: &Sender<Happened>) {
    let mut service: Service = None;
    let mut rates = Rates::default();
    loop {
        let endpoints = match &service {
            Some((namespace, name)) => Endpoints::Of(namespace.clone(), name.clone()),
            None => Endpoints::None,
        };
        let happened = match ask(place, &endpoints, &mut rates) {
            Ok(view) => Happened::Answer(Box::new(view)),
            Err(error) => Happened::Silence(error.to_string()),
        };
        if tell.send(happened).is_err() {
            return;
        }
        match wanted.recv_timeout(interval) {
            // Who goes down a list is answered where he stops.
            Ok(first) => service = wanted.try_iter().last().unwrap_or(first),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn watch(
    terminal: &mut DefaultTerminal,
    happened: &Receiver<Happened>,
    want: &Sender<Service>,
) -> anyhow::Result<()> {
    let mut controls = Controls::default();
    let mut view: Option<Box<View>> = None;
    let mut trouble: Option<String> = None;
    let mut shown_service: Service = None;
    loop {
        let shown = Shown { view: view.as_deref(), controls: &controls, trouble: trouble.as_deref() };
        terminal.draw(|frame| draw(frame, &shown)).context("cannot draw on the terminal")?;
        // Whatever has come meanwhile is one change of the screen.
        let first = happened.recv().context("nobody is left to wait for")?;
        for it in std::iter::once(first).chain(happened.try_iter()) {
            match it {
                Happened::Key(key) => {
                    let sheet = view.as_deref().map(|view| controls.sheet(view)).unwrap_or_default();
                    if controls.press(key, &sheet) == Next::Quit {
                        return Ok(());
                    }
                }
                Happened::Answer(_) if controls.is_frozen => {}
                Happened::Answer(answer) => (view, trouble) = (Some(answer), None),
                Happened::Silence(why) => trouble = Some(why),
                Happened::Other => {}
                Happened::Stop => return Ok(()),
            }
        }
        let service = view.as_deref().and_then(|view| chosen(&controls, view));
        if service != shown_service {
            // Who asks has ended only if all is over.
            let _ = want.send(service.clone());
            shown_service = service;
        }
    }
}

/// The service or policy that the cursor is on.
fn chosen(controls: &Controls, view: &View) -> Service {
    if controls.tab != Tab::Services {
        return None;
    }
    let sheet = controls.sheet(view);
    let key = sheet.lines.get(controls.row(&sheet))?.key();
    let busy = view.services.iter().find(|it| it.target.to_string() == key)?;
    let policy = busy.target.policy().map(|_| (String::new(), busy.target.to_string()));
    busy.target.service().map(|(namespace, name)| (namespace.to_owned(), name.to_owned())).or(policy)
}
