//! A field of an object: where it is, for errors, and how its value is read.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use model::{ObjectId, Protocol};

use crate::{Invalid, Notice};

/// The place of a field. Costs nothing until an error needs it as text.
#[derive(Clone, Copy)]
pub(crate) struct Field<'a> {
    object: &'a ObjectId,
    parent: Option<&'a Field<'a>>,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Field<'a> {
    /// A field at the top of `object`; may be a path with dots.
    pub(crate) fn of(object: &'a ObjectId, name: &'a str) -> Self {
        Self { object, parent: None, part: Part::Name(name) }
    }

    /// A field of this field; may be a path with dots.
    pub(crate) fn field(&'a self, name: &'a str) -> Self {
        Self { object: self.object, parent: Some(self), part: Part::Name(name) }
    }

    /// An item of this list.
    pub(crate) fn item(&'a self, index: usize) -> Self {
        Self { object: self.object, parent: Some(self), part: Part::Index(index) }
    }

    /// The items of this list.
    pub(crate) fn items<T>(&'a self, list: &'a [T]) -> impl Iterator<Item = (Self, &'a T)> {
        list.iter().enumerate().map(|(index, item)| (self.item(index), item))
    }

    /// The error that this field has `problem`.
    pub(crate) fn invalid(&self, problem: impl Into<String>) -> Invalid {
        Invalid { object: self.object.to_string(), field: self.to_string(), problem: problem.into() }
    }

    /// The notice that this field has no effect.
    pub(crate) fn skipped(&self, reason: impl Into<String>) -> Notice {
        Notice::Skipped { object: self.object.to_string(), field: self.to_string(), reason: reason.into() }
    }

    /// A port number, 1-65535.
    pub(crate) fn port(&self, number: i32) -> Result<u16, Invalid> {
        match self.port_or_zero(number)? {
            0 => Err(self.invalid("0 is not a port; use 1-65535")),
            port => Ok(port),
        }
    }

    /// A port number, or 0 for none.
    pub(crate) fn port_or_zero(&self, number: i32) -> Result<u16, Invalid> {
        u16::try_from(number).map_err(|_| self.invalid(format!("{number} is not a port; use 1-65535")))
    }

    /// A protocol; `None` for SCTP, which is known but out of scope (R28).
    pub(crate) fn protocol(&self, text: Option<&str>) -> Result<Option<Protocol>, Invalid> {
        match text {
            None | Some("" | "TCP") => Ok(Some(Protocol::Tcp)),
            Some("UDP") => Ok(Some(Protocol::Udp)),
            Some("SCTP") => Ok(None),
            Some(other) => Err(self.invalid(format!("{other:?} is not a protocol; use TCP or UDP"))),
        }
    }

    /// An address that can be that of a machine or a service.
    ///
    /// The API server also refuses loopback and link-local addresses in places; without one, they can be
    /// just what is meant.
    pub(crate) fn ip(&self, text: &str) -> Result<IpAddr, Invalid> {
        let ip: IpAddr = text.parse().map_err(|_| self.invalid(format!("{text:?} is not an IP address")))?;
        if let Some(mapped) = ipv4_mapped(ip) {
            return Err(self.invalid(format!("{text:?} is an IPv4-mapped IPv6 address; write {mapped}")));
        }
        if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Err(self.invalid(format!("{text:?} is not the address of one host")));
        }
        Ok(ip)
    }

    /// A CIDR. Bits beyond the prefix are cleared.
    pub(crate) fn cidr(&self, text: &str) -> Result<IpNet, Invalid> {
        let cidr: IpNet = text.parse().map_err(|_| {
            self.invalid(format!("{text:?} is not a CIDR; write address/length, for example 10.0.0.0/8"))
        })?;
        if let Some(mapped) = ipv4_mapped(cidr.addr()) {
            return Err(self.invalid(format!(
                "{text:?} is an IPv4-mapped IPv6 address; write {mapped} with an IPv4 prefix length"
            )));
        }
        Ok(cidr.trunc())
    }

    /// One of a few words. Where the API server has a default, so does the caller.
    pub(crate) fn one_of<T: Copy>(&self, text: &str, words: &[(&str, T)]) -> Result<T, Invalid> {
        words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.invalid(format!("{text:?} is not known; use {}", known.join(" or ")))
        })
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.part {
            Part::Index(index) => write!(f, "[{index}]"),
            Part::Name(name) if self.parent.is_some() => write!(f, ".{name}"),
            Part::Name(name) => f.write_str(name),
        }
    }
}

fn ipv4_mapped(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V6(ip) => ip.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    }
}

/// The text, unless it is empty: Go's API types write an unset string as "".
pub(crate) fn set(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}
