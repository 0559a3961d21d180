//! Which pods, which nodes.

use kube::core::Rule;

/// A selector that means something: API servers let any operator pass in custom resources.
pub(super) fn valid() -> Rule {
    Rule::new(
        "!has(self.matchExpressions) || self.matchExpressions.all(e, e.operator in ['In', 'NotIn'] \
         ? has(e.values) && size(e.values) > 0 \
         : e.operator in ['Exists', 'DoesNotExist'] && (!has(e.values) || size(e.values) == 0))",
    )
    .message("operators are In and NotIn, with values, and Exists and DoesNotExist, without")
}
