//! Why a signature is refused, in the words of AWS.

use thiserror::Error;

/// One variant per cause; all of them are 403 on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SigV4Error {
    /// The request carries no authentication.
    #[error("Missing Authentication Token")]
    MissingAuthenticationToken,
    /// Nobody has this access key, or it is disabled, or the session token is not its own.
    #[error("The security token included in the request is invalid.")]
    InvalidSecurityToken,
    /// Temporary credentials are past their end.
    #[error("The security token included in the request is expired")]
    ExpiredSecurityToken,
    /// The `Authorization` header lacks a part or repeats one.
    #[error(
        "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters, each of them once."
    )]
    MalformedAuthorization,
    /// The presigned query lacks a part or repeats one.
    #[error(
        "AWS query-string parameters must include 'X-Amz-Algorithm', 'X-Amz-Credential', 'X-Amz-Signature', \
         'X-Amz-SignedHeaders', 'X-Amz-Date' and 'X-Amz-Expires', each of them once. \
         Re-examine the query-string parameters."
    )]
    MalformedPresignedQuery,
    /// Header and query both authenticate.
    #[error("Only one authentication mechanism is allowed: the Authorization header or the query string.")]
    SeveralAuthentications,
    /// Not `AWS4-HMAC-SHA256`.
    #[error("Unsupported AWS 'algorithm': use AWS4-HMAC-SHA256.")]
    UnsupportedAlgorithm,
    /// The credential has not five parts.
    #[error("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")]
    MalformedCredential,
    /// Not 64 hexadecimal digits.
    #[error("The signature must have 64 hexadecimal digits.")]
    MalformedSignature,
    /// No time of signing.
    #[error("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")]
    MissingDate,
    /// The time of signing cannot be read.
    #[error("Date must be in ISO-8601 'basic format'.")]
    MalformedDate,
    /// Date of scope and date of signing differ.
    #[error("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")]
    ScopeDateMismatch,
    /// Another region.
    #[error("Credential should be scoped to a valid region, not the one of the request. Use '{expected}'.")]
    WrongRegion {
        /// The region of this server.
        expected: String,
    },
    /// Another service.
    #[error("Credential should be scoped to correct service: 'bedrock-agentcore'.")]
    WrongService,
    /// The scope does not end in `aws4_request`.
    #[error("Credential should be scoped with a valid terminator: 'aws4_request'.")]
    WrongTerminator,
    /// The list of signed headers is not lower-case, sorted and unique.
    #[error(
        "'SignedHeaders' must be lower-case header names, sorted, without repetition, joined by semicolons."
    )]
    MalformedSignedHeaders,
    /// `host` is not signed.
    #[error("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")]
    HostNotSigned,
    /// A session token in a header that the signature does not cover.
    #[error("'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization.")]
    SessionTokenNotSigned,
    /// A header is listed as signed and was not sent.
    #[error("'{name}' is a 'SignedHeader' in the AWS Authorization but is missing from the request.")]
    SignedHeaderMissing {
        /// Name of the header.
        name: String,
    },
    /// A header says what is asked for, and a presigned query does not cover it.
    #[error("There were headers present in the request which were not signed: {name}")]
    HeaderNotSigned {
        /// Name of the header.
        name: &'static str,
    },
    /// `X-Amz-Expires` is out of bounds.
    #[error("X-Amz-Expires must be between 1 and 300 seconds")]
    InvalidExpires,
    /// The life of the signature is over.
    #[error("Signature expired: {signed_at} is now earlier than {earliest} ({now} - {life_s} s.)")]
    Expired {
        /// Time of signing.
        signed_at: String,
        /// Earliest time of signing that would still do.
        earliest: String,
        /// Time of this server.
        now: String,
        /// Life in seconds.
        life_s: u64,
    },
    /// The client's clock is ahead.
    #[error("Signature not yet current: {signed_at} is still later than {now} + 5 min.")]
    NotYetCurrent {
        /// Time of signing.
        signed_at: String,
        /// Time of this server.
        now: String,
    },
    /// The header with the body's hash is wrong.
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    PayloadHashMismatch,
    /// The payload is not signed.
    #[error("The payload must be signed: UNSIGNED-PAYLOAD and streaming signatures are not supported.")]
    UnsignedPayload,
    /// The signature is wrong.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method. Consult the service documentation for details."
    )]
    SignatureDoesNotMatch,
    /// A bound is passed.
    #[error("The request has too many or too long {what}.")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
    },
    /// The query is not percent-encoded text.
    #[error("The query string is not percent-encoded text.")]
    MalformedQuery,
}

impl SigV4Error {
    /// The text for the client.
    pub fn message(&self) -> String {
        self.to_string()
    }
}
