//! TLS of the listener: PEM files, or a certificate of the server's own CA.

use std::{io, path::Path, sync::Arc, time::Duration};

use clamshell_domain::Region;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use thiserror::Error;

use crate::config::Tls;

/// Life of a server certificate; a new one is made at every start.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * 86_400);

/// Life of the CA.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Clocks of clients may be a little behind.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file of the CA cannot be written or read.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A PEM file does not hold what it should.
    #[error("{path} is not a PEM file of the right kind")]
    Pem {
        /// The file.
        path: String,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// Certificate and key do not fit.
    #[error("certificate and key cannot be used")]
    Use(#[from] rustls::Error),
}

/// Makes sure that the CA exists. Its certificate is `ca.pem`, its key `ca-key.pem` (mode 0600).
///
/// # Errors
/// [`TlsError`].
pub(crate) fn ensure_ca(data_dir: &Path, now_ms: u64) -> Result<(), TlsError> {
    let (certificate_path, key_path) = (data_dir.join("ca.pem"), data_dir.join("ca-key.pem"));
    if certificate_path.exists() && key_path.exists() {
        return Ok(());
    }
    let key = KeyPair::generate()?;
    let certificate = ca_params(now_ms).self_signed(&key)?;
    write_private(&key_path, &key.serialize_pem())?;
    std::fs::write(&certificate_path, certificate.pem()).map_err(|source| file(&certificate_path, source))
}

/// The TLS configuration of the listener.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn server_config(
    tls: &Tls,
    data_dir: &Path,
    region: &Region,
    now_ms: u64,
) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = match tls {
        Tls::Files { cert, key } => (read_chain(cert)?, read_key(key)?),
        Tls::LocalCa { names } => local_certificate(names, data_dir, region, now_ms)?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn local_certificate(
    names: &[String],
    data_dir: &Path,
    region: &Region,
    now_ms: u64,
) -> Result<ChainAndKey, TlsError> {
    let read = |name: &str| {
        let path = data_dir.join(name);
        std::fs::read_to_string(&path).map_err(|source| file(&path, source))
    };
    let ca_key = KeyPair::from_pem(&read("ca-key.pem")?)?;
    let ca_path = data_dir.join("ca.pem");
    let ca = read_chain(&ca_path)?;
    let ca_certificate =
        ca.first().cloned().ok_or_else(|| file(&ca_path, io::ErrorKind::InvalidData.into()))?;
    let issuer = Issuer::new(ca_params(now_ms), ca_key);

    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    all.push(format!("bedrock-agentcore.{region}.amazonaws.com"));
    all.push(format!("bedrock-agentcore-control.{region}.amazonaws.com"));
    all.extend(names.iter().cloned());
    let mut params = CertificateParams::new(all)?;
    params.distinguished_name.push(DnType::CommonName, "Clamshell server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, now_ms, CERTIFICATE_LIFE);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())
        .map_err(|_| rustls::Error::General("fresh key is not usable".to_owned()))?;
    Ok((vec![certificate.der().clone(), ca_certificate], key))
}

/// What the CA says of itself; issuing needs its name and its key's usages again, not its life.
fn ca_params(now_ms: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Clamshell local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, now_ms, CA_LIFE);
    params
}

fn set_life(params: &mut CertificateParams, now_ms: u64, life: Duration) {
    let now = std::time::UNIX_EPOCH + Duration::from_millis(now_ms);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + life).into();
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|source| pem(path, source))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|source| pem(path, source))
}

fn write_private(path: &Path, text: &str) -> Result<(), TlsError> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| file(path, source))
}

fn file(path: &Path, source: io::Error) -> TlsError {
    TlsError::File { path: path.display().to_string(), source }
}

fn pem(path: &Path, source: rustls::pki_types::pem::Error) -> TlsError {
    TlsError::Pem { path: path.display().to_string(), source }
}
