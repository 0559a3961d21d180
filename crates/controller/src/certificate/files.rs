//! A given certificate, in files that somebody else replaces: an administrator, or cert-manager.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::pair::{Authority, Pair};
use crate::{Error, Shared, complaint::Complaint};

/// How often the files are read: they are small, and whoever replaces them does so weeks before they end.
const EVERY: Duration = Duration::from_secs(2);

/// The files, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, perhaps with those of intermediate authorities.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whom API servers are to trust for it. None: somebody else tells them.
    pub authority: Option<PathBuf>,
}

/// Follows the files, for ever. What makes no sense is told of, and what was before stays in force.
pub(crate) async fn follow(shared: Arc<Shared>, files: Files) -> Result<(), Error> {
    let mut before = None;
    let about = format!("the certificate {}; what was in force before stays", files.certificate.display());
    let mut complaint = Complaint::about(about);
    loop {
        match files.read() {
            Ok(texts) if before.as_ref() == Some(&texts) => complaint.right(),
            Ok(texts) => match texts.take(&shared) {
                Ok(()) => {
                    before = Some(texts);
                    complaint.right();
                }
                Err(error) => complaint.wrong(error),
            },
            Err(error) => complaint.wrong(error),
        }
        sleep(EVERY).await;
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Texts {
    certificate: String,
    key: String,
    authority: Option<String>,
}

impl Files {
    fn read(&self) -> Result<Texts, String> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))
        };
        let authority = self.authority.as_ref().map(read).transpose()?;
        Ok(Texts { certificate: read(&self.certificate)?, key: read(&self.key)?, authority })
    }
}

impl Texts {
    fn take(&self, shared: &Shared) -> Result<(), String> {
        let pair = Pair::read(&self.certificate, &self.key)?;
        if let Some(authority) = &self.authority {
            if Authority::read_all(authority)?.is_empty() {
                return Err("there is no certificate in the file of the authority".into());
            }
            shared.trust(authority.clone());
        }
        tracing::info!("a given certificate is in force, until {}", pair.valid.to);
        shared.serve(&pair);
        Ok(())
    }
}
