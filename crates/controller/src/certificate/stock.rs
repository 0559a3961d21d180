//! What the Secret holds, and what is to become of it as time goes by. Pure: the clock is an argument.
//!
//! A pair is in force. Well before it ends a next one is made, and its authority is told of together with the old one's, while
//! the old one is still served. When all API servers have been told, and some time has passed, the next is in force; the old
//! authority stays trusted until it ends. At no moment is a pair served that is not trusted, whichever controller answers.
//!
//! What a clock that jumps has made worthless, forwards or backwards, is replaced at once.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{
    issue::{BACKDATED, issue},
    pair::{Authority, Pair},
};

/// The next pair is made when the one in force has no more than this left.
pub(super) const RENEW: SignedDuration = SignedDuration::from_hours(30 * 24);
/// For how long both authorities are told of before the next pair is in force: what was written must have come to each API
/// server and each controller.
pub(super) const OVERLAP: SignedDuration = SignedDuration::from_hours(1);
/// Authorities that are trusted beside those of the pair in force and the next: those before them.
const FORMER: usize = 2;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const NEXT_CERTIFICATE: &str = "next.crt";
const NEXT_KEY: &str = "next.key";
const AUTHORITIES: &str = "ca.crt";

/// The keys of a Secret and their texts.
pub(super) type Data = BTreeMap<String, String>;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Stock {
    pub(super) in_force: Pair,
    next: Option<Pair>,
    /// The newest first.
    authorities: Vec<Authority>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Keep,
    /// A new pair, in force at once: there is none that counts.
    Begin,
    /// A new pair, to be in force next.
    Prepare,
    /// The next pair is in force from now on.
    Advance,
}

impl Stock {
    /// Of a Secret.
    ///
    /// # Errors
    /// It holds nothing that could be served, and why.
    pub(super) fn read(data: &Data) -> Result<Self, String> {
        let text = |key: &str| data.get(key).map(String::as_str);
        let needed = |key| text(key).ok_or_else(|| format!("{key} is missing"));
        let in_force = Pair::read(needed(CERTIFICATE)?, needed(KEY)?)?;
        let authorities =
            Authority::read_all(needed(AUTHORITIES)?).map_err(|error| format!("{AUTHORITIES}: {error}"))?;
        if !in_force.is_signed_by(&authorities) {
            return Err(format!("{CERTIFICATE} is not signed by anybody in {AUTHORITIES}"));
        }
        // A next one that is broken is made anew.
        let next = text(NEXT_CERTIFICATE).zip(text(NEXT_KEY));
        let next = next.and_then(|(certificate, key)| Pair::read(certificate, key).ok());
        let next = next.filter(|next| next.is_signed_by(&authorities));
        Ok(Self { in_force, next, authorities })
    }

    /// As a Secret has it.
    pub(super) fn data(&self) -> Data {
        let Pair { certificate, key, .. } = &self.in_force;
        let mut data = Data::from([
            (CERTIFICATE.to_owned(), certificate.clone()),
            (KEY.to_owned(), key.clone()),
            (AUTHORITIES.to_owned(), self.bundle()),
        ]);
        if let Some(Pair { certificate, key, .. }) = &self.next {
            data.insert(NEXT_CERTIFICATE.to_owned(), certificate.clone());
            data.insert(NEXT_KEY.to_owned(), key.clone());
        }
        data
    }

    /// Whom API servers are to trust, PEM.
    pub(super) fn bundle(&self) -> String {
        self.authorities.iter().map(|authority| authority.certificate.as_str()).collect()
    }

    /// What is to be done with what there is. `is_told`: all API servers know [`Stock::bundle`].
    pub(super) fn step(stock: Option<&Self>, names: &[String], now: Timestamp, is_told: bool) -> Step {
        let Some(stock) = stock else { return Step::Begin };
        let counts = |pair: &Pair| pair.valid.has(now) && pair.is_for(names);
        let next = stock.next.as_ref().filter(|next| counts(next));
        if !counts(&stock.in_force) {
            return if next.is_some() { Step::Advance } else { Step::Begin };
        }
        let left = stock.in_force.valid.to.duration_since(now);
        match next {
            Some(next) => {
                let age = now.duration_since(next.valid.from).saturating_sub(BACKDATED);
                if is_told && age >= OVERLAP { Step::Advance } else { Step::Keep }
            }
            None if left <= RENEW => Step::Prepare,
            None => Step::Keep,
        }
    }

    /// What there is after a step.
    ///
    /// # Errors
    /// A new pair can't be made.
    pub(super) fn after(
        stock: Option<Self>,
        step: Step,
        names: &[String],
        now: Timestamp,
    ) -> Result<Option<Self>, String> {
        let trusted = |first: Authority, stock: Option<&Self>, more: usize| {
            let former = stock.map(|stock| stock.authorities.as_slice()).unwrap_or_default();
            let former = former.iter().filter(|it| it.valid.to >= now).take(more + FORMER).cloned();
            [first].into_iter().chain(former).collect()
        };
        Ok(match (step, stock) {
            (Step::Keep, stock) => stock,
            (Step::Begin, stock) => {
                let (in_force, authority) = issue(names, now)?;
                Some(Self { in_force, next: None, authorities: trusted(authority, stock.as_ref(), 0) })
            }
            (Step::Prepare, Some(stock)) => {
                let (next, authority) = issue(names, now)?;
                let authorities = trusted(authority, Some(&stock), 1);
                Some(Self { next: Some(next), authorities, ..stock })
            }
            (Step::Advance, Some(Self { next: Some(next), authorities, .. })) => {
                Some(Self { in_force: next, next: None, authorities })
            }
            (Step::Prepare | Step::Advance, stock) => stock,
        })
    }
}

#[cfg(test)]
mod tests;
