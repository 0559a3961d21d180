//! A terminal that a test reads and types on.

use std::{
    fs::File,
    io::{Read, Write},
    num::NonZero,
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context, Result, bail};
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use testkit::eventually;

use crate::process::PATIENCE;

/// A program on a terminal of its own.
pub struct Terminal {
    child: Child,
    keys: File,
    /// Our end of the side that the program has, so that it can be asked how it was left.
    side: OwnedFd,
    parser: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    /// Starts a command on a terminal of so many rows and columns.
    ///
    /// # Errors
    /// There are no pseudo-terminals, or it can't be started.
    pub fn start(command: &Command, rows: u16, columns: u16) -> Result<Self> {
        let main =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).context("openpt")?;
        grantpt(&main).context("grantpt")?;
        unlockpt(&main).context("unlockpt")?;
        let name = ptsname(&main, Vec::new()).context("ptsname")?;
        let side =
            open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).context("open pts")?;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&side, size).context("TIOCSWINSZ")?;
        let end = || side.try_clone().map(Stdio::from);
        // A session of its own, whose terminal this is: as it is over ssh.
        let mut inside = Command::new("setsid");
        inside.args(["--ctty", "--"]).arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(variable, value),
                None => inside.env_remove(variable),
            };
        }
        inside.env("TERM", "xterm-256color").stdin(end()?).stdout(end()?).stderr(end()?);
        let child = inside.spawn().context("start setsid")?;
        let [rows, columns] = [rows, columns].map(|it| NonZero::new(it).context("a terminal without room"));
        let parser = Arc::new(Mutex::new(vt100::Parser::new(rows?, columns?, 0)));
        let mut seen = File::from(main.try_clone().context("dup")?);
        let screen = parser.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It ends when nobody has the other side any more.
            while let Ok(count @ 1..) = seen.read(&mut bytes) {
                screen.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..count]);
            }
        });
        Ok(Self { child, keys: main.into(), side, parser })
    }

    fn parser(&self) -> MutexGuard<'_, vt100::Parser> {
        self.parser.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Process id of the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What is to be seen, line by line.
    pub fn text(&self) -> String {
        self.parser().screen().contents()
    }

    /// Is it a screen that goes away, with what was there before below it?
    pub fn is_full_screen(&self) -> bool {
        self.parser().screen().alternate_screen()
    }

    /// Colour of the first character of the line that begins with `start`; `None`: there is no such line.
    pub fn color(&self, start: &str) -> Option<vt100::Color> {
        let parser = self.parser();
        let screen = parser.screen();
        let row = screen.rows(0, screen.size().1.get()).position(|line| line.starts_with(start))?;
        screen.cell(u16::try_from(row).ok()?, 0).map(vt100::Cell::fgcolor)
    }

    /// Is it as it was before: lines are edited by the terminal and letters come back, the cursor is there?
    ///
    /// # Errors
    /// The terminal can't be asked.
    pub fn is_restored(&self) -> Result<bool> {
        let modes = tcgetattr(&self.side).context("tcgetattr")?.local_modes;
        let is_cooked = modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        Ok(is_cooked && !self.is_full_screen() && !self.parser().screen().hide_cursor())
    }

    /// Types.
    ///
    /// # Errors
    /// Nobody has the other side.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).context("type")
    }

    /// Waits until all of `words` are to be seen.
    ///
    /// # Errors
    /// They are not within [`PATIENCE`]: what is.
    pub fn shows(&self, words: &[&str]) -> Result<String> {
        eventually(PATIENCE, || {
            let text = self.text();
            match words.iter().find(|word| !text.contains(**word)) {
                None => Ok(text),
                Some(word) => bail!("{word:?} is not on the screen:\n{text}"),
            }
        })
    }

    /// Waits for the program's end.
    ///
    /// # Errors
    /// It does not end within [`PATIENCE`]: what is to be seen.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        eventually(PATIENCE, || match self.child.try_wait()? {
            Some(status) => Ok(status),
            None => bail!("it goes on:\n{}", self.text()),
        })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
