//! A new certificate, and the authority that has signed it.
//!
//! Each has an authority of its own, whose key is thrown away as soon as it has signed: nothing is left that could sign another, so
//! nothing more than the pair itself has to be guarded.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use time::OffsetDateTime;

use super::pair::{Authority, Pair};

/// How long it counts.
pub(super) const LIFE: SignedDuration = SignedDuration::from_hours(90 * 24);
/// It counts from before it is made: clocks of API servers may be behind ours.
pub(super) const BACKDATED: SignedDuration = SignedDuration::from_hours(24);

/// One that counts from now on, for these names and addresses.
///
/// # Errors
/// A name can't be one, or the system has no randomness.
pub(super) fn issue(names: &[String], now: Timestamp) -> Result<(Pair, Authority), String> {
    make(names, now).map_err(|error| format!("making a certificate for {}: {error}", names.join(", ")))?
}

type Made = Result<(Pair, Authority), String>;

fn make(names: &[String], now: Timestamp) -> Result<Made, rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    // Names of authorities must differ, or clients take one for the other.
    let identifier = params.key_identifier(&authority_key);
    let identifier: String = identifier.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = named(&format!("balancing webhook authority {identifier}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    dated(&mut params, now);
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::new(params, authority_key);

    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = named(names.first().map_or("balancing", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    dated(&mut params, now);
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(read(&certificate.pem(), &key.serialize_pem(), &authority.pem()))
}

fn read(certificate: &str, key: &str, authority: &str) -> Made {
    let pair = Pair::read(certificate, key)?;
    let authority = Authority::read_all(authority)?.pop().ok_or("it has no authority")?;
    Ok((pair, authority))
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    // What is longer than that is no name for X.509; those that count are alternative names.
    distinguished.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    distinguished
}

fn dated(params: &mut CertificateParams, now: Timestamp) {
    let at = |time: Timestamp, or: OffsetDateTime| {
        OffsetDateTime::from_unix_timestamp(time.as_second()).unwrap_or(or)
    };
    params.not_before = at(now.saturating_sub(BACKDATED).unwrap_or(now), params.not_before);
    params.not_after = at(now.saturating_add(LIFE).unwrap_or(now), params.not_after);
}

/// PEM of a certificate.
pub(super) fn pem(der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
