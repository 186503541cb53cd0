//! Where this server is laxer than the model, and why.

use anyhow::bail;

use super::model::Service;

/// Shapes whose pattern is not enforced: plane, shape, reason.
const PATTERNS_DROPPED: &[(&str, &str, &str)] = &[(
    "Control",
    "RuntimeContainerUri",
    "the model knows Amazon's registries alone, whereas here any OCI reference or local image may be named",
)];

/// Why the pattern of a shape is dropped, if it is.
pub(super) fn pattern_dropped(service: &Service, shape: &str) -> Option<&'static str> {
    PATTERNS_DROPPED
        .iter()
        .find(|(plane, name, _)| *plane == service.plane && *name == shape)
        .map(|(_, _, reason)| *reason)
}

/// Every row still has its shape, and the shape its pattern.
pub(super) fn check(services: &[&Service]) -> anyhow::Result<()> {
    for (plane, shape, _) in PATTERNS_DROPPED {
        let service = services.iter().find(|service| service.plane == *plane);
        let known = service.and_then(|service| service.shapes.get(*shape));
        if known.is_none_or(|shape| shape.pattern.is_none()) {
            bail!("{shape} has no pattern to drop any more");
        }
    }
    Ok(())
}
