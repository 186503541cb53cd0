//! Header names and fixed values of the protocol, lower case as HTTP/2 and `http` want them.

/// Runtime session id: request and response, the 101 answer of a shell included.
pub const SESSION_ID: &str = "x-amzn-bedrock-agentcore-runtime-session-id";
/// Shell id: always on the 101 answer of a shell.
pub const SHELL_ID: &str = "x-amzn-bedrock-agentcore-shell-id";
/// Opaque user id the caller states.
pub const USER_ID: &str = "x-amzn-bedrock-agentcore-runtime-user-id";
/// Request id towards the agent.
pub const RUNTIME_REQUEST_ID: &str = "x-amzn-bedrock-agentcore-runtime-request-id";
/// Prefix of headers that callers may pass on to the agent.
pub const CUSTOM_PREFIX: &str = "x-amzn-bedrock-agentcore-runtime-custom-";
/// Request id: on every response.
pub const REQUEST_ID: &str = "x-amzn-requestid";
/// Name of the exception: on every error response; clients choose the exception type by it.
pub const ERROR_TYPE: &str = "x-amzn-errortype";
/// Trace id of X-Ray.
pub const TRACE_ID: &str = "x-amzn-trace-id";
/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace state.
pub const TRACESTATE: &str = "tracestate";
/// W3C baggage.
pub const BAGGAGE: &str = "baggage";
/// Session of the Model Context Protocol.
pub const MCP_SESSION_ID: &str = "mcp-session-id";
/// Version of the Model Context Protocol.
pub const MCP_PROTOCOL_VERSION: &str = "mcp-protocol-version";
/// Method of the Model Context Protocol.
pub const MCP_METHOD: &str = "mcp-method";
/// Name within a method of the Model Context Protocol.
pub const MCP_NAME: &str = "mcp-name";
/// `Host`.
pub const HOST: &str = "host";
/// `Authorization`.
pub const AUTHORIZATION: &str = "authorization";
/// `Allow`, on 405.
pub const ALLOW: &str = "allow";
/// `Date`.
pub const DATE: &str = "date";
/// `WWW-Authenticate`, on 401 of runtimes with JWT.
pub const WWW_AUTHENTICATE: &str = "www-authenticate";
/// Time of a signature.
pub const AMZ_DATE: &str = "x-amz-date";
/// Session token of temporary credentials.
pub const AMZ_SECURITY_TOKEN: &str = "x-amz-security-token";
/// SHA-256 of the body, sent by some SDKs.
pub const AMZ_CONTENT_SHA256: &str = "x-amz-content-sha256";
/// Subprotocols of a WebSocket upgrade.
pub const SEC_WEBSOCKET_PROTOCOL: &str = "sec-websocket-protocol";
/// `Content-Type`.
pub const CONTENT_TYPE: &str = "content-type";
/// Content type of JSON bodies and error bodies.
pub const JSON: &str = "application/json";
/// Content type of event streams.
pub const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";
