//! Names of service ports, pinned so that ids and names survive the agent.

use bytemuck::{Pod, Zeroable};

/// Longest Kubernetes name kept, in bytes: namespaces, services and ports are DNS labels (RFC 1123: 63).
pub const NAME_LEN: usize = 64;

/// Value of the map `names`: who a service port id belongs to. Strings are zero-padded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Name {
    /// Namespace.
    pub namespace: [u8; NAME_LEN],
    /// Name of the Service or policy.
    pub service: [u8; NAME_LEN],
    /// Name of the port, empty where unset.
    pub port: [u8; NAME_LEN],
    /// `metadata.uid`, empty in most manifests.
    pub uid: [u8; 40],
    /// Port on the VIP, network byte order.
    pub port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4 or 6.
    pub family: u8,
    /// One of [`owner_kind`].
    pub kind: u8,
    /// Always 0.
    pub pad: [u8; 3],
}

/// Values of [`Name::kind`]: whose port it is.
pub mod owner_kind {
    /// A Service's.
    pub const SERVICE: u8 = 0;
    /// A LocalRedirectPolicy's.
    pub const LOCAL_REDIRECT: u8 = 1;
    /// A BalancingPolicy's.
    pub const BALANCING: u8 = 2;

    /// As Kubernetes has it.
    pub const fn name(kind: u8) -> &'static str {
        match kind {
            SERVICE => "Service",
            LOCAL_REDIRECT => "LocalRedirectPolicy",
            BALANCING => "BalancingPolicy",
            _ => "unknown",
        }
    }
}

impl Name {
    /// Zero-padded; `None` if `text` does not fit.
    pub fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(bytes)
    }

    /// The text of a zero-padded field; what is not UTF-8 is cut off.
    pub fn text(bytes: &[u8]) -> &str {
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        let bytes = bytes.get(..end).unwrap_or_default();
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                core::str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
            }
        }
    }
}

const _: () = assert!(size_of::<Name>() == 240);
