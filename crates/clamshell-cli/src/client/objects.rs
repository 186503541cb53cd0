//! Objects by the S3 protocol: whether one is there, putting a file, removing one.

use std::{
    io::Read,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use clamshell_wire::sigv4::PayloadHash;
use http::{HeaderName, Method};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};

use super::{ANSWER_TIMEOUT, Answer, Client, RequestError};
use crate::target::Endpoint;

/// A zip of 250 MB over a line of 2 Mbit/s.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// One read of a file on its way up.
const CHUNK_BYTES: usize = 64 << 10;
/// Digest of nothing.
const EMPTY_SHA256: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27,
    0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];
/// Header that S3 wants beside the signature.
const CONTENT_SHA256: &str = "x-amz-content-sha256";

impl Client {
    /// Asks S3 at `endpoint` about an object, or puts a file there. `path` must need no escape.
    pub(crate) async fn object(
        &self,
        endpoint: &Endpoint,
        path: &str,
        upload: Option<Upload>,
    ) -> Result<Answer, RequestError> {
        let Some(upload) = upload else {
            let fields = [(HeaderName::from_static(CONTENT_SHA256), hex(&EMPTY_SHA256))];
            let payload = PayloadHash::Empty;
            let head = self.request("s3", endpoint, &Method::HEAD, path, &fields, payload).await?;
            return self.answer(endpoint, path, head.map(|()| Full::default()), ANSWER_TIMEOUT).await;
        };
        let fields = [
            (HeaderName::from_static(CONTENT_SHA256), hex(&upload.sha256)),
            (http::header::CONTENT_TYPE, "application/zip".to_owned()),
        ];
        let payload = PayloadHash::Sha256(upload.sha256);
        let head = self.request("s3", endpoint, &Method::PUT, path, &fields, payload).await?;
        let body = FileBody { file: upload.file, left: upload.bytes };
        self.answer(endpoint, path, head.map(|()| body), UPLOAD_TIMEOUT).await
    }
}

impl Client {
    /// Removes an object. `path` must need no escape.
    pub(crate) async fn remove_object(
        &self,
        endpoint: &Endpoint,
        path: &str,
    ) -> Result<Answer, RequestError> {
        let fields = [(HeaderName::from_static(CONTENT_SHA256), hex(&EMPTY_SHA256))];
        let head = self.request("s3", endpoint, &Method::DELETE, path, &fields, PayloadHash::Empty).await?;
        self.answer(endpoint, path, head.map(|()| Full::default()), ANSWER_TIMEOUT).await
    }
}

impl Client {
    /// Puts a file by a call of the server's own API; nothing of it is kept unless it arrives whole.
    pub(crate) async fn upload(&self, path_and_query: &str, upload: Upload) -> Result<Answer, RequestError> {
        let endpoint = &self.target.endpoint;
        let fields = [(HeaderName::from_static(CONTENT_SHA256), hex(&upload.sha256))];
        let payload = PayloadHash::Sha256(upload.sha256);
        let head =
            self.request(super::AGENTCORE, endpoint, &Method::PUT, path_and_query, &fields, payload).await?;
        let body = FileBody { file: upload.file, left: upload.bytes };
        self.answer(endpoint, path_and_query, head.map(|()| body), UPLOAD_TIMEOUT).await
    }
}

/// A file to put somewhere.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The file, at its start.
    pub(crate) file: std::fs::File,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its digest.
    pub(crate) sha256: [u8; 32],
}

/// A file as a body. It was just written, so reads come from memory and may block the one thread there is.
struct FileBody {
    file: std::fs::File,
    left: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let mut chunk = vec![0; CHUNK_BYTES.min(usize::try_from(self.left).unwrap_or(CHUNK_BYTES))];
        if chunk.is_empty() {
            return Poll::Ready(None);
        }
        if let Err(error) = self.file.read_exact(&mut chunk) {
            return Poll::Ready(Some(Err(error)));
        }
        self.left = self.left.saturating_sub(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Digits of a digest.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn a_file_is_sent_whole_and_its_end_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..200_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        std::fs::write(&path, &content).unwrap();
        let body = |left| FileBody { file: std::fs::File::open(&path).unwrap(), left };
        assert_eq!(body(200_000).size_hint().exact(), Some(200_000));
        assert_eq!(body(200_000).collect().await.unwrap().to_bytes(), content);
        assert!(body(0).is_end_stream());
        // Somebody made it shorter meanwhile: no short upload under the digest of the whole.
        assert!(body(200_001).collect().await.is_err());
    }

    #[test]
    fn digests_are_lower_case_digits() {
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
    }
}
