//! Errors of the object service, in S3's words.

use std::{fmt, io};

/// Codes, their names and HTTP statuses.
macro_rules! codes {
    ($($code:ident = $status:literal, $message:literal;)*) => {
        /// A code of S3.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code { $($code),* }

        impl Code {
            /// Its name on the wire.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$code => stringify!($code)),* }
            }

            /// Its HTTP status.
            pub(crate) fn status(self) -> u16 {
                match self { $(Self::$code => $status),* }
            }

            fn message(self) -> &'static str {
                match self { $(Self::$code => $message),* }
            }
        }
    };
}

codes! {
    AccessDenied = 403, "Access Denied";
    AuthorizationHeaderMalformed = 400, "The authorization header is malformed";
    BadDigest = 400, "The checksum you specified did not match what we received";
    BucketAlreadyOwnedByYou = 409, "Your previous request to create the named bucket succeeded and you already own it";
    BucketNotEmpty = 409, "The bucket you tried to delete is not empty";
    EntityTooLarge = 400, "Your proposed upload exceeds the maximum allowed object size";
    EntityTooSmall = 400, "Your proposed upload is smaller than the minimum allowed object size";
    IncompleteBody = 400, "You did not provide the number of bytes specified by the Content-Length HTTP header";
    InternalError = 500, "We encountered an internal error. Please try again.";
    InvalidAccessKeyId = 403, "The AWS Access Key Id you provided does not exist in our records.";
    InvalidArgument = 400, "Invalid Argument";
    InvalidBucketName = 400, "The specified bucket is not valid.";
    InvalidPart = 400, "One or more of the specified parts could not be found.";
    InvalidPartOrder = 400, "The list of parts was not in ascending order.";
    InvalidRange = 416, "The requested range is not satisfiable";
    InvalidRequest = 400, "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.";
    KeyTooLongError = 400, "Your key is too long";
    MalformedXML = 400, "The XML you provided was not well-formed or did not validate against our published schema";
    MetadataTooLarge = 400, "Your metadata headers exceed the maximum allowed metadata size";
    MethodNotAllowed = 405, "The specified method is not allowed against this resource.";
    MissingSecurityHeader = 400, "Your request was missing a required header";
    NoSuchBucket = 404, "The specified bucket does not exist";
    NoSuchKey = 404, "The specified key does not exist.";
    NoSuchUpload = 404, "The specified upload does not exist. It may have been aborted or completed.";
    NoSuchVersion = 404, "The specified version does not exist.";
    NotImplemented = 501, "This server does not implement this functionality";
    NotModified = 304, "Not Modified";
    PreconditionFailed = 412, "At least one of the pre-conditions you specified did not hold";
    RequestTimeTooSkewed = 403, "The difference between the request time and the current time is too large.";
    RequestTimeout = 400, "Your socket connection to the server was not read from or written to within the timeout period.";
    SignatureDoesNotMatch = 403, "The request signature we calculated does not match the signature you provided.";
    XAmzContentSHA256Mismatch = 400, "The provided 'x-amz-content-sha256' header does not match what was computed.";
}

/// A request that fails.
#[derive(Debug)]
pub(crate) struct S3Error {
    pub(crate) code: Code,
    /// For the caller; never a path of the machine.
    pub(crate) message: String,
    /// For the log.
    pub(crate) source: Option<io::Error>,
}

impl fmt::Display for S3Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for S3Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl From<Code> for S3Error {
    fn from(code: Code) -> Self {
        Self { code, message: code.message().to_owned(), source: None }
    }
}

impl From<io::Error> for S3Error {
    fn from(source: io::Error) -> Self {
        let is_too_long = source.raw_os_error() == Some(rustix::io::Errno::NAMETOOLONG.raw_os_error());
        let code = if is_too_long { Code::KeyTooLongError } else { Code::InternalError };
        Self { source: Some(source), ..Self::from(code) }
    }
}

impl From<tokio::task::JoinError> for S3Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::from(io::Error::from(error))
    }
}

impl S3Error {
    /// A code with words of its own.
    pub(crate) fn of(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), source: None }
    }
}
