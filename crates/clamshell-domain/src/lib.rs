//! Domain types of Clamshell: typed ids, records, the session state machine and the ports.
//!
//! No I/O and no async runtime: time and randomness come in through [`Clock`] and [`Entropy`], so
//! every rule here is tested with a fake clock. Conversion to and from the wire happens at the edge
//! of the server.

mod access_key;
mod hosting;
mod ids;
mod image;
mod lifecycle;
mod object;
mod ports;
mod runtime;
mod sandbox;
mod session;
mod usage;

pub use access_key::{AccessKey, AccessKeyStatus};
pub use hosting::{FileSystem, Hosting, ResourceStatus, ServerProtocol};
pub use ids::{
    AccessKeyId, AccountId, EndpointName, IdError, Region, RuntimeId, RuntimeName, SessionId, ShellId,
    StorageId,
};
pub use image::ImageConfig;
pub use lifecycle::{CallDecision, Lifecycle, Phase, StopDecision, StopReason};
pub use object::{ObjectBody, ObjectContent, ObjectError, ObjectSource};
pub use ports::{Clock, Entropy, SystemClock, SystemEntropy};
pub use runtime::{
    Artifact, CodeRuntime, Endpoint, LifecycleConfiguration, Limits, NetworkMode, ObjectLocation, Runtime,
};
pub use sandbox::{
    BoxFuture, Capability, CreateSandboxError, DestroySandboxError, DriverReport, IdRange, MountSource,
    MountSpec, Sandbox, SandboxDriver, SandboxSpec, SandboxStats,
};
pub use session::{SessionKey, SessionRecord};
pub use usage::{SessionUsage, UsageMeter};
