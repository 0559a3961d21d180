//! Labels: what tells the series of one metric apart.

use model::Family;
use prometheus_client::encoding::EncodeLabelSet;

/// The label that kube-proxy's metrics have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfFamily {
    ip_family: &'static str,
}

impl From<Family> for OfFamily {
    fn from(family: Family) -> Self {
        Self { ip_family: name(family) }
    }
}

/// As kube-proxy has it.
pub(super) fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// Declares label sets of one label, whose name is the field's.
macro_rules! one_label {
    ($($name:ident { $label:ident: $type:ty })+) => {
        $(
            #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
            pub(super) struct $name {
                pub(super) $label: $type,
            }
        )+
    };
}

one_label! {
    InState { state: &'static str }
    WithOutcome { outcome: &'static str }
    OfKind { kind: String }
    OfMap { map: String }
    OfHook { hook: &'static str }
    ForReason { reason: String }
    OfSource { source: &'static str }
    At { path: &'static str }
    OfSink { sink: String }
    OfVersion { version: &'static str }
}

/// Of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OfDecision {
    pub(super) hook: &'static str,
    pub(super) family: &'static str,
    pub(super) verdict: &'static str,
    pub(super) reason: &'static str,
}
