//! Which certificate is in force here.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{Pair, Validity};

/// For whoever connects from now on.
#[derive(Debug, Default)]
pub(crate) struct Served(RwLock<Option<(Arc<CertifiedKey>, Validity)>>);

impl Served {
    pub(crate) fn serve(&self, pair: &Pair) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((pair.certified(), pair.valid));
    }

    /// When it counts; none: there is none.
    pub(crate) fn validity(&self) -> Option<Validity> {
        let served = self.0.read().unwrap_or_else(PoisonError::into_inner);
        served.as_ref().map(|(_, valid)| *valid)
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let served = self.0.read().unwrap_or_else(PoisonError::into_inner);
        served.as_ref().map(|(certified, _)| certified.clone())
    }
}
