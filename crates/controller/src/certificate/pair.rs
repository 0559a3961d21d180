//! A certificate and its key.

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use rustls::{
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// From when to when something counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

impl Validity {
    pub(crate) fn has(&self, now: Timestamp) -> bool {
        (self.from..=self.to).contains(&now)
    }
}

/// A certificate, with those of intermediate authorities if it has such, and its key.
#[derive(Clone)]
pub(crate) struct Pair {
    /// PEM.
    pub(super) certificate: String,
    /// PEM.
    pub(super) key: String,
    pub(super) valid: Validity,
    certified: Arc<CertifiedKey>,
}

/// Without the key.
impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair").field("valid", &self.valid).finish_non_exhaustive()
    }
}

impl Pair {
    /// Of two PEM texts.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn read(certificate: &str, key: &str) -> Result<Self, String> {
        let chain = chain(certificate)?;
        let leaf = chain.first().ok_or("there is no certificate in it; give a PEM text")?;
        let valid = validity(&parse(leaf)?)?;
        let private =
            PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| format!("its key: {error}"))?;
        let certified = CertifiedKey::from_der(chain, private, &default_provider())
            .map_err(|error| format!("the certificate and its key: {error}"))?;
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Ok(Self { certificate, key, valid, certified: Arc::new(certified) })
    }

    /// What TLS serves.
    pub(super) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }

    /// Is it for each of these names and addresses?
    pub(super) fn is_for(&self, names: &[String]) -> bool {
        let parsed = self.certified.cert.first().and_then(|leaf| parse(leaf).ok());
        let Some(parsed) = parsed else { return false };
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let has: Vec<String> =
            alternatives.iter().flat_map(|it| &it.value.general_names).filter_map(written).collect();
        names.iter().all(|name| has.contains(name))
    }

    /// Has one of these authorities signed it?
    pub(super) fn is_signed_by(&self, authorities: &[Authority]) -> bool {
        let parsed = self.certified.cert.first().and_then(|leaf| parse(leaf).ok());
        parsed.is_some_and(|parsed| authorities.iter().any(|authority| authority.has_signed(&parsed)))
    }
}

/// The certificate of somebody who signs others.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// PEM.
    pub(super) certificate: String,
    pub(super) valid: Validity,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("valid", &self.valid).finish_non_exhaustive()
    }
}

impl Authority {
    /// All in a PEM text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read_all(bundle: &str) -> Result<Vec<Self>, String> {
        let authority = |der: CertificateDer<'static>| {
            let valid = validity(&parse(&der)?)?;
            Ok(Self { certificate: super::issue::pem(&der), valid })
        };
        chain(bundle)?.into_iter().map(authority).collect()
    }

    fn has_signed(&self, other: &X509Certificate<'_>) -> bool {
        let Ok(chain) = chain(&self.certificate) else { return false };
        let own = chain.first().and_then(|der| parse(der).ok());
        own.is_some_and(|own| {
            own.subject() == other.issuer() && other.verify_signature(Some(own.public_key())).is_ok()
        })
    }
}

fn chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(|it| it.map_err(|error| error.to_string())).collect()
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    Ok(parsed)
}

fn validity(certificate: &X509Certificate<'_>) -> Result<Validity, String> {
    let time = |seconds| Timestamp::from_second(seconds).map_err(|error| error.to_string());
    let valid = certificate.validity();
    Ok(Validity { from: time(valid.not_before.timestamp())?, to: time(valid.not_after.timestamp())? })
}

fn written(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|it| std::net::Ipv4Addr::from(it).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|it| std::net::Ipv6Addr::from(it).to_string()),
            _ => None,
        },
        _ => None,
    }
}
