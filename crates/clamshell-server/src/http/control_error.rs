//! Why the control plane refuses a change. What clients are told of it is in [`super::error`].

use clamshell_domain::{EndpointName, ResourceStatus, RuntimeName};
use clamshell_identity::policy::ResourcePolicyError;
use thiserror::Error;

/// A change that is not made.
#[derive(Debug, Error)]
pub(crate) enum ControlError {
    /// Another runtime has the name.
    #[error("runtime name is taken: {name}")]
    NameTaken {
        /// The name.
        name: RuntimeName,
    },
    /// Another endpoint of the runtime has the name.
    #[error("endpoint name is taken: {name}")]
    EndpointNameTaken {
        /// The name.
        name: EndpointName,
    },
    /// Something is going on with it.
    #[error("{what} is in status {}", status.as_str())]
    InProgress {
        /// Runtime or endpoint.
        what: &'static str,
        /// What goes on.
        status: ResourceStatus,
    },
    /// The runtime is being removed, or could not be removed.
    #[error("the runtime is being deleted")]
    BeingDeleted,
    /// The runtime was changed in between.
    #[error("the runtime was changed meanwhile")]
    Changed,
    /// The configuration file says what the runtime is.
    #[error("runtime is declared in the configuration: {name}")]
    Declared {
        /// The runtime.
        name: RuntimeName,
    },
    /// More of something than there may be.
    #[error("at most {most} {what}")]
    Quota {
        /// What.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// No such version.
    #[error("no version {version}")]
    VersionNotFound {
        /// The version.
        version: u32,
    },
    /// The version cannot be pointed to.
    #[error("version {version} is in status {status}")]
    VersionNotReady {
        /// The version.
        version: u32,
        /// Its status.
        status: &'static str,
    },
    /// A runtime has at least one version.
    #[error("only version")]
    OnlyVersion,
    /// An endpoint points to the version.
    #[error("endpoint {endpoint} has version {version}")]
    VersionHasEndpoint {
        /// The version.
        version: u32,
        /// The endpoint.
        endpoint: EndpointName,
    },
    /// Sessions run with the version.
    #[error("sessions run with version {version}")]
    VersionHasSessions {
        /// The version.
        version: u32,
    },
    /// `DEFAULT` goes with its runtime.
    #[error("DEFAULT is deleted with its runtime")]
    DefaultStays,
    /// `DEFAULT` has the newest version.
    #[error("DEFAULT follows the newest version")]
    DefaultFollows,
    /// No such runtime or endpoint.
    #[error("no resource {arn}")]
    ResourceNotFound {
        /// What was asked for.
        arn: String,
    },
    /// The resource has no policy.
    #[error("no policy on {arn}")]
    NoPolicy {
        /// The resource.
        arn: String,
    },
    /// The policy is not one that the resource can have.
    #[error("policy is not valid")]
    Policy(#[source] ResourcePolicyError),
    /// The runtime or endpoint has no version that could be called.
    #[error("endpoint is in status {}", status.as_str())]
    NotReady {
        /// Its status.
        status: ResourceStatus,
    },
}
