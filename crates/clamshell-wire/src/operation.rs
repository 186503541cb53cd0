//! The operations of both planes, named as AWS names them.

/// Which host serves an operation at AWS; here one listener serves both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plane {
    /// `bedrock-agentcore-control`.
    Control,
    /// `bedrock-agentcore`.
    Data,
}

macro_rules! operations {
    ($($name:ident $plane:ident $method:literal $status:literal $path:literal,)*) => {
        /// An operation of the service model, or of its documentation where the model lacks it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Operation {
            $(
                #[doc = concat!("`", $method, " ", $path, "`")]
                $name,
            )*
        }

        impl Operation {
            /// All operations, for tables and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name as AWS spells it; with the prefix `bedrock-agentcore:` also the action of a policy.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Control or data plane.
            pub fn plane(self) -> Plane {
                match self {
                    $(Self::$name => Plane::$plane,)*
                }
            }

            /// HTTP method.
            pub fn method(self) -> &'static str {
                match self {
                    $(Self::$name => $method,)*
                }
            }

            /// Status of success.
            pub fn success_status(self) -> u16 {
                match self {
                    $(Self::$name => $status,)*
                }
            }

            /// Path as the model writes it.
            pub fn path_template(self) -> &'static str {
                match self {
                    $(Self::$name => $path,)*
                }
            }
        }
    };
}

impl Operation {
    /// The operations this server executes; the others answer `UnknownOperationException`.
    pub const EXECUTED: &'static [Self] = &[
        Self::CreateAgentRuntime,
        Self::ListAgentRuntimes,
        Self::GetAgentRuntime,
        Self::UpdateAgentRuntime,
        Self::DeleteAgentRuntime,
        Self::ListAgentRuntimeVersions,
        Self::CreateAgentRuntimeEndpoint,
        Self::ListAgentRuntimeEndpoints,
        Self::GetAgentRuntimeEndpoint,
        Self::UpdateAgentRuntimeEndpoint,
        Self::DeleteAgentRuntimeEndpoint,
        Self::TagResource,
        Self::UntagResource,
        Self::ListTagsForResource,
        Self::PutResourcePolicy,
        Self::GetResourcePolicy,
        Self::DeleteResourcePolicy,
        Self::InvokeAgentRuntime,
        Self::GetAgentCard,
        Self::GetRuntimeProtectedResourceMetadata,
        Self::StopRuntimeSession,
        Self::InvokeAgentRuntimeCommand,
        Self::InvokeAgentRuntimeWithWebSocketStream,
        Self::InvokeAgentRuntimeCommandShell,
    ];

    /// Whether this server executes it.
    pub fn is_executed(self) -> bool {
        Self::EXECUTED.contains(&self)
    }
}

operations! {
    CreateAgentRuntime Control "PUT" 202 "/runtimes/",
    ListAgentRuntimes Control "POST" 200 "/runtimes/",
    GetAgentRuntime Control "GET" 200 "/runtimes/{agentRuntimeId}/",
    UpdateAgentRuntime Control "PUT" 202 "/runtimes/{agentRuntimeId}/",
    DeleteAgentRuntime Control "DELETE" 202 "/runtimes/{agentRuntimeId}/",
    ListAgentRuntimeVersions Control "POST" 200 "/runtimes/{agentRuntimeId}/versions/",
    CreateAgentRuntimeEndpoint Control "PUT" 202 "/runtimes/{agentRuntimeId}/runtime-endpoints/",
    ListAgentRuntimeEndpoints Control "POST" 200 "/runtimes/{agentRuntimeId}/runtime-endpoints/",
    GetAgentRuntimeEndpoint Control "GET" 200 "/runtimes/{agentRuntimeId}/runtime-endpoints/{endpointName}/",
    UpdateAgentRuntimeEndpoint Control "PUT" 202 "/runtimes/{agentRuntimeId}/runtime-endpoints/{endpointName}/",
    DeleteAgentRuntimeEndpoint Control "DELETE" 202 "/runtimes/{agentRuntimeId}/runtime-endpoints/{endpointName}/",
    TagResource Control "POST" 204 "/tags/{resourceArn}",
    UntagResource Control "DELETE" 204 "/tags/{resourceArn}",
    ListTagsForResource Control "GET" 200 "/tags/{resourceArn}",
    PutResourcePolicy Control "PUT" 201 "/resourcepolicy/{resourceArn}",
    GetResourcePolicy Control "GET" 200 "/resourcepolicy/{resourceArn}",
    DeleteResourcePolicy Control "DELETE" 204 "/resourcepolicy/{resourceArn}",
    InvokeAgentRuntime Data "POST" 200 "/runtimes/{agentRuntimeArn}/invocations",
    GetAgentCard Data "GET" 200 "/runtimes/{agentRuntimeArn}/invocations/.well-known/agent-card.json",
    GetRuntimeProtectedResourceMetadata Data "GET" 200
        "/runtimes/{agentRuntimeArn}/invocations/.well-known/oauth-protected-resource",
    StopRuntimeSession Data "POST" 200 "/runtimes/{agentRuntimeArn}/stopruntimesession",
    InvokeAgentRuntimeCommand Data "POST" 200 "/runtimes/{agentRuntimeArn}/commands",
    InvokeAgentRuntimeWithWebSocketStream Data "GET" 101 "/runtimes/{agentRuntimeArn}/ws",
    InvokeAgentRuntimeCommandShell Data "GET" 101 "/runtimes/{agentRuntimeArn}/ws/shells",
}
