//! TLS of the client: the operating system's roots, and a file of certificates where an operator names one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use super::FetchError;

/// Who is trusted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct TrustedRoots {
    /// PEM file with certificates trusted beside the operating system's.
    pub ca_file: Option<PathBuf>,
}

/// Connectors by their roots: reading the system's takes some milliseconds, so it is done once.
#[derive(Debug, Default)]
pub(super) struct Connectors {
    made: Mutex<BTreeMap<TrustedRoots, Arc<ClientConfig>>>,
}

/// Different roots remembered; an operator names a handful.
const CONNECTORS_MAX: usize = 64;

impl Connectors {
    pub(super) async fn connector(&self, roots: &TrustedRoots) -> Result<TlsConnector, FetchError> {
        let mut made = self.made.lock().await;
        if let Some(config) = made.get(roots) {
            return Ok(TlsConnector::from(Arc::clone(config)));
        }
        let ca_file = roots.ca_file.clone();
        let config = tokio::task::spawn_blocking(move || config(ca_file.as_deref()));
        let config = config.await.map_err(|error| FetchError::Roots { reason: error.to_string() })??;
        if made.len() >= CONNECTORS_MAX {
            made.clear();
        }
        made.insert(roots.clone(), Arc::clone(&config));
        Ok(TlsConnector::from(config))
    }
}

fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, FetchError> {
    let refuse = |reason: String| FetchError::Roots { reason };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| refuse(format!("{}: {error}", path.display())))?;
        if certificates.is_empty() {
            return Err(refuse(format!("{} holds no certificate", path.display())));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| refuse(format!("{}: {error}", path.display())))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
