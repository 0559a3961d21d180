//! The event log in a file that is rotated. Others may move or remove it at any time.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::PathBuf,
};

use super::{
    batch::Batch,
    rotation::Rotation,
    sink::{Failure, Output, Standing, write},
};

/// The file, and what becomes of it when it is full.
pub(crate) struct RotatedFile {
    path: PathBuf,
    rotation: Rotation,
    open: Option<File>,
}

impl RotatedFile {
    /// It is opened when there is something to write.
    pub(crate) fn new(path: PathBuf, rotation: Rotation) -> Self {
        Self { path, rotation, open: None }
    }

    /// Is what is open still what the path names?
    fn is_in_place(&self) -> bool {
        let id = |it: fs::Metadata| (it.dev(), it.ino());
        let open = self.open.as_ref().and_then(|file| file.metadata().ok()).map(id);
        open.is_some() && open == fs::metadata(&self.path).ok().map(id)
    }

    /// The file, made with its directory if need be. It ends with a whole line.
    fn opened(&mut self) -> Result<&mut File, Failure> {
        let Self { path, open, .. } = self;
        if let Some(file) = open {
            return Ok(file);
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(Failure::of("mkdir", directory))?;
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let mut file = options.open(&*path).map_err(Failure::of("open", path))?;
        let size = file.metadata().map_err(Failure::of("stat", path))?.len();
        let mut last = *b"\n";
        // An agent that was killed may have left a part of a line there.
        if size > 0 && file.read_at(&mut last, size - 1).is_ok() && last != *b"\n" {
            write(&mut file, b"\n").map_err(Failure::of("write", path))?;
        }
        Ok(open.insert(file))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate(&mut self) -> Result<(), Failure> {
        for (from, to) in self.rotation.moves(|number| self.numbered(number).exists()) {
            let from = self.numbered(from);
            let (call, outcome) = match to {
                Some(to) => ("rename", fs::rename(&from, self.numbered(to))),
                None => ("unlink", fs::remove_file(&from)),
            };
            match outcome {
                // Somebody was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                outcome => outcome.map_err(Failure::of(call, &from))?,
            }
        }
        self.open = None;
        Ok(())
    }
}

impl Output for RotatedFile {
    fn write(&mut self, batch: &mut Batch, standing: &Standing) -> Result<(), Failure> {
        if !self.is_in_place() {
            self.open = None;
            batch.begin_line_again();
        }
        while !batch.rest().is_empty() {
            let (path, rotation) = (self.path.clone(), self.rotation);
            let file = self.opened()?;
            let size = file.metadata().map_err(Failure::of("stat", &path))?.len();
            // A line goes on in the file in which it began.
            let room = match batch.rest_of_line().len() {
                0 => rotation.room(size, batch.rest()),
                rest => rest,
            };
            if room == 0 {
                self.rotate()?;
                continue;
            }
            let part = batch.rest().get(..room).unwrap_or_default();
            let bytes = write(file, part).map_err(Failure::of("write", &path))?;
            standing.add(batch.wrote(bytes), 0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn put(file: &mut RotatedFile, lines: &[&str]) -> Result<u64, Failure> {
        let (mut batch, standing) = (Batch::default(), Standing::new(&"file:x"));
        lines.iter().for_each(|line| batch.push(line));
        file.write(&mut batch, &standing).map(|()| standing.get().written)
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_full_file_makes_room_for_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/events.log");
        let mut file = RotatedFile::new(path.clone(), Rotation { size: 8, keep: 2 });
        let lines: Vec<String> = (10..20).map(|number| number.to_string()).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        assert_eq!(put(&mut file, &lines).unwrap(), 10);
        assert_eq!(read(&path), "18\n19\n");
        assert_eq!(read(&path.with_extension("log.1")), "16\n17\n");
        assert_eq!(read(&path.with_extension("log.2")), "14\n15\n");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 3);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        // The next agent goes on where this one ended, whatever that left.
        fs::write(&path, "torn").unwrap();
        let mut file = RotatedFile::new(path.clone(), Rotation { size: 8, keep: 0 });
        put(&mut file, &["20"]).unwrap();
        assert_eq!(read(&path), "torn\n20\n");
        put(&mut file, &["21"]).unwrap();
        assert_eq!(read(&path), "21\n");
    }

    #[test]
    fn others_may_move_truncate_or_remove_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/events.log");
        let mut file = RotatedFile::new(path.clone(), Rotation { size: 1000, keep: 1 });
        put(&mut file, &["1"]).unwrap();
        fs::rename(&path, directory.path().join("moved")).unwrap();
        put(&mut file, &["2"]).unwrap();
        assert_eq!((read(&directory.path().join("moved")), read(&path)), ("1\n".into(), "2\n".into()));
        File::create(&path).unwrap();
        put(&mut file, &["3"]).unwrap();
        assert_eq!(read(&path), "3\n");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        put(&mut file, &["4"]).unwrap();
        assert_eq!(read(&path), "4\n");

        // Something else in its place is left alone, and told of.
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path.parent().unwrap(), "mine").unwrap();
        let error = put(&mut file, &["5"]).unwrap_err().to_string();
        assert!(error.starts_with("mkdir ") && error.contains("below"), "{error}");
        assert_eq!(read(path.parent().unwrap()), "mine");
    }
}
