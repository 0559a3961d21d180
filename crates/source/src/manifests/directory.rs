//! What the files of a directory say together, and what changes from one look to the next.

mod problems;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::OsStr,
    fs::{self, File, Metadata},
    hash::{DefaultHasher, Hasher},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use model::{Change, Object, ObjectId};

use super::{
    parse::{Content, Fault, parse},
    signs::Signs,
};
use crate::Problem;

/// No file that is meant is larger.
const MAX_BYTES: u64 = 64 << 20;
/// A file that was written this shortly before it was read may be written again without a visible change of
/// its time: the clock of a filesystem ticks every 4 or 10 ms.
const FRESH: Duration = Duration::from_millis(50);
/// For how long a file that is written over and over must say the same to be believed to say less than before.
const DOUBT: Duration = Duration::from_millis(300);
/// How often a file is read that changes while it is read.
const ATTEMPTS: usize = 3;

/// The directory, as it was when last looked at.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Which directory it was, by device and inode.
    identity: Option<(u64, u64)>,
    files: BTreeMap<Arc<OsStr>, Entry>,
    /// Which files say something about each object, in order; the first one counts. Never empty, and hardly ever more
    /// than one.
    claims: HashMap<ObjectId, Vec<Arc<OsStr>>>,
    /// What the last batches made true.
    given: HashMap<ObjectId, Object>,
    /// Objects that are in more than one file.
    contested: BTreeSet<ObjectId>,
    /// Slices that have no effect.
    orphans: BTreeSet<ObjectId>,
    /// What was wrong at the last look.
    problems: Vec<Problem>,
}

/// What one look found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// What changed since the last look, by object.
    pub changes: Vec<Change>,
    /// All problems there are, by file.
    pub problems: Vec<Problem>,
    /// The directory could be listed.
    pub complete: bool,
    /// Every file has been read well, and at rest, at least once: what no file says is really not there.
    pub whole: bool,
    /// A file was too new to be sure of: look again soon.
    pub unsettled: bool,
}

#[derive(Debug, Default)]
struct Entry {
    /// `None` = read it again.
    stamp: Option<Stamp>,
    digest: Option<u64>,
    /// The last good one.
    content: Content,
    fault: Option<Fault>,
    /// It has been read well, and at rest.
    known: bool,
    /// What was read last, and since when it has been that.
    seen: Option<(Stamp, Instant)>,
    /// What it says that is less than before, though it has not settled, and since when it has said just that.
    doubted: Option<(u64, Instant)>,
}

impl Entry {
    /// Is what was read all there is, or may somebody still be writing? The clock of the filesystem alone can't tell: it
    /// may be another machine's, or ours may have been set.
    fn is_at_rest(&mut self, stamp: Stamp) -> bool {
        let now = Instant::now();
        match self.seen {
            Some((seen, since)) if seen == stamp => now.duration_since(since) >= FRESH,
            Some((seen, _)) if seen.is_same_file(&stamp) => {
                self.seen = Some((stamp, now));
                false
            }
            _ => {
                self.seen = Some((stamp, now));
                stamp.age().is_some_and(|age| age >= FRESH)
            }
        }
    }

    /// Whether to believe a file that may still be being written, as `cp` or a shell do: at once if it only
    /// adds to what it said, else only if it says the same whenever it is looked at. A copy over a slow line never does.
    fn believes(&mut self, parsed: &Result<Content, Fault>, digest: u64) -> bool {
        // An object that has changed may be one that is not written to its end.
        let adds = parsed.as_ref().is_ok_and(|content| {
            self.content.objects.iter().all(|(id, object)| content.objects.get(id) == Some(object))
        });
        if adds {
            self.doubted = None;
            return true;
        }
        let now = Instant::now();
        let since = self.doubted.filter(|(said, _)| *said == digest).map_or(now, |(_, since)| since);
        self.doubted = Some((digest, since));
        now.duration_since(since) > DOUBT
    }
}

/// What tells that a file is still the one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// How long ago it was written; `None` = in the future.
    fn age(&self) -> Option<Duration> {
        let written = u64::try_from(self.seconds).ok().zip(u32::try_from(self.nanoseconds).ok());
        let written = written.map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds))?;
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.checked_sub(written)
    }

    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            seconds: metadata.mtime(),
            nanoseconds: metadata.mtime_nsec(),
        }
    }
}

impl Directory {
    /// A directory that has not been looked at.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            identity: None,
            files: BTreeMap::new(),
            claims: HashMap::new(),
            given: HashMap::new(),
            contested: BTreeSet::new(),
            orphans: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the directory and says what changed.
    pub fn scan(&mut self) -> Batch {
        self.scan_after(&Signs::default())
    }

    /// The same, after these signs.
    pub fn scan_after(&mut self, signs: &Signs) -> Batch {
        let mut batch = Batch::default();
        let found = match self.list() {
            Ok(found) => found,
            Err(error) => {
                batch.problems.push(self.problem_of_directory(&error));
                batch.problems.extend_from_slice(&self.problems);
                return batch;
            }
        };
        batch.complete = true;

        let mut touched = BTreeSet::new();
        let vanished: Vec<Arc<OsStr>> =
            self.files.keys().filter(|name| !found.contains_key(*name)).cloned().collect();
        let mut is_same = vanished.is_empty();
        for name in vanished {
            let entry = self.files.remove(&name).unwrap_or_default();
            self.claim(&name, entry.content, &Content::default(), &mut touched);
        }
        for (name, metadata) in found {
            let stamp = metadata.as_ref().ok().map(Stamp::of);
            if self.files.get(&*name).is_none_or(|entry| entry.stamp.is_none() || entry.stamp != stamp) {
                batch.unsettled |= !self.read(name, metadata, signs, &mut touched);
                is_same = false;
            }
        }
        batch.whole = self.files.values().all(|entry| entry.known);
        self.review(&touched);
        batch.changes = touched.into_iter().filter_map(|id| self.settle(id)).collect();
        if !is_same {
            self.problems = self.find_problems();
        }
        batch.problems.clone_from(&self.problems);
        batch
    }

    /// The manifest files that exist.
    fn list(&mut self) -> io::Result<BTreeMap<Arc<OsStr>, io::Result<Metadata>>> {
        let directory = Stamp::of(&fs::metadata(&self.path)?);
        let mut names: BTreeSet<Arc<OsStr>> = self.files.keys().cloned().collect();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if is_manifest(&name) && !names.contains(&*name) {
                names.insert(name.into());
            }
        }
        let mut found = BTreeMap::new();
        for name in names {
            // Known files too, though not listed: a listing may miss a file that is just being replaced.
            match fs::metadata(self.path.join(&*name)) {
                Ok(metadata) if metadata.is_dir() => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                metadata => {
                    found.insert(name, metadata);
                }
            }
        }
        // If it was moved away in between, nothing was found, which would mean: delete everything.
        let now = Stamp::of(&fs::metadata(&self.path)?);
        if !now.is_same_file(&directory) {
            return Err(io::Error::other("it was replaced while it was read"));
        }
        // What is below a mount point when the file system is gone, most often.
        let identity = Some((now.device, now.inode));
        if self.identity.is_some() && self.identity != identity && found.is_empty() && !self.files.is_empty()
        {
            return Err(io::Error::other(
                "another directory is there, which is empty (unmounted?); put the files there, or start the agent again if \
                 nothing is to be left",
            ));
        }
        self.identity = identity;
        Ok(found)
    }

    /// Reads a file; returns whether that is final.
    fn read(
        &mut self,
        name: Arc<OsStr>,
        metadata: io::Result<Metadata>,
        signs: &Signs,
        touched: &mut BTreeSet<ObjectId>,
    ) -> bool {
        let read = metadata.and_then(|metadata| read_file(&self.path.join(&*name), &metadata));
        let mut entry = self.files.remove(&name).unwrap_or_default();
        let settled = match read {
            Ok(Some(read)) => {
                let digest = digest(&read.bytes);
                let settled = entry.is_at_rest(read.stamp) && !signs.is_being_written(&name);
                entry.stamp = settled.then_some(read.stamp);
                if entry.digest != Some(digest) {
                    let parsed = parse_bytes(&read.bytes);
                    if settled || signs.is_renamed(&name) || entry.believes(&parsed, digest) {
                        entry.digest = Some(digest);
                        self.adopt(&name, &mut entry, parsed, touched);
                    }
                }
                if settled {
                    entry.doubted = None;
                    entry.known |= entry.fault.is_none();
                }
                settled
            }
            Ok(None) => {
                entry.stamp = None;
                false
            }
            Err(error) => {
                entry.digest = None;
                entry.stamp = None;
                entry.fault = Some(Fault { line: None, object: None, reason: error.to_string() });
                true
            }
        };
        self.files.insert(name, entry);
        settled
    }

    fn adopt(
        &mut self,
        name: &Arc<OsStr>,
        entry: &mut Entry,
        parsed: Result<Content, Fault>,
        touched: &mut BTreeSet<ObjectId>,
    ) {
        match parsed {
            Ok(content) => {
                self.claim(name, std::mem::take(&mut entry.content), &content, touched);
                entry.content = content;
                entry.fault = None;
            }
            Err(fault) => entry.fault = Some(fault),
        }
    }

    /// Replaces what a file says by something else.
    fn claim(&mut self, name: &Arc<OsStr>, old: Content, new: &Content, touched: &mut BTreeSet<ObjectId>) {
        for (id, object) in old.objects {
            if new.objects.get(&id) != Some(&object) {
                if let Some(names) = self.claims.get_mut(&id)
                    && !new.objects.contains_key(&id)
                {
                    names.retain(|it| it != name);
                    if names.is_empty() {
                        self.claims.remove(&id);
                    }
                }
                touched.insert(id);
            }
        }
        for id in new.objects.keys() {
            let names = self.claims.entry(id.clone()).or_insert_with(|| Vec::with_capacity(1));
            if let Err(place) = names.binary_search(name) {
                names.insert(place, name.clone());
                touched.insert(id.clone());
            }
        }
    }

    /// What must be said about an object so that the listener knows what the files say.
    fn settle(&mut self, id: ObjectId) -> Option<Change> {
        let holder = self.claims.get(&id).and_then(|names| names.first());
        match holder.and_then(|name| self.files.get(name)?.content.objects.get(&id)) {
            Some(object) if self.given.get(&id) == Some(object) => None,
            Some(object) => {
                self.given.insert(id, object.clone());
                Some(Change::Upsert(object.clone()))
            }
            None => self.given.remove(&id).map(|_| Change::Delete(id)),
        }
    }
}

/// Does a file of this name count?
pub fn is_manifest(name: &OsStr) -> bool {
    let text = name.as_encoded_bytes();
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    !text.starts_with(b".") && !text.ends_with(b"~") && matches!(extension, Some("yaml" | "yml" | "json"))
}

struct ReadFile {
    bytes: Vec<u8>,
    stamp: Stamp,
}

/// `None` if it changes all the time.
fn read_file(path: &Path, metadata: &Metadata) -> io::Result<Option<ReadFile>> {
    // Opening a pipe would wait for somebody to write to it.
    if !metadata.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    for _ in 0..ATTEMPTS {
        let mut file = File::open(path)?;
        let before = Stamp::of(&file.metadata()?);
        if before.size > MAX_BYTES {
            return Err(io::Error::other(format!("is larger than {} MiB; split it", MAX_BYTES >> 20)));
        }
        let mut bytes = Vec::new();
        file.by_ref().take(MAX_BYTES).read_to_end(&mut bytes)?;
        // Of the path, since another file may be there by now.
        let after = fs::metadata(path)?;
        if before == Stamp::of(&after) && bytes.len() as u64 == before.size {
            return Ok(Some(ReadFile { bytes, stamp: before }));
        }
    }
    Ok(None)
}

/// Tells whether a file must be parsed again; nothing rests on it but time.
fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn parse_bytes(bytes: &[u8]) -> Result<Content, Fault> {
    // What a full disk or a crash leaves of a file says nothing, least of all that everything in it is to go.
    if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
        let reason =
            "is empty, and what it said before stays as it was; write what it should say, or delete the file";
        return Err(Fault { line: None, object: None, reason: reason.into() });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| Fault {
        line: Some(1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() as u64),
        object: None,
        reason: "is not UTF-8".into(),
    })?;
    parse(text)
}

#[cfg(test)]
mod tests;
