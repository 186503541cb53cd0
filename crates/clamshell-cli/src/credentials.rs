//! Where keys come from: the local server's data directory, or the default chain of AWS clients.

use std::path::Path;

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use clamshell_wire::sigv4::Credentials;

use crate::failure::Failure;

/// Gives keys for a signature, fresh ones each time the old may have expired.
#[derive(Debug)]
pub(crate) enum Keys {
    /// Read once: the root key does not expire.
    Fixed(Credentials),
    /// Asked for each request: temporary keys change under a long shell.
    Chain(SharedCredentialsProvider),
}

impl Keys {
    /// The root key of the local server.
    pub(crate) async fn root(data_dir: &Path) -> Result<Self, Failure> {
        match clamshell_server::local::root_credentials(data_dir).await {
            Ok(root) => Ok(Self::Fixed(Credentials {
                access_key_id: root.access_key_id,
                secret_access_key: root.secret_access_key,
                session_token: None,
            })),
            Err(error) => Err(Failure::new("cannot read the local server's root key")
                .because_of(&error)
                .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to use another key")),
        }
    }

    /// The default chain: environment, profiles, SSO, processes, instance metadata.
    pub(crate) async fn chain(region: &str) -> Result<Self, Failure> {
        let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
            .region(aws_config::Region::new(region.to_owned()))
            .load()
            .await;
        match config.credentials_provider() {
            Some(provider) => Ok(Self::Chain(provider)),
            None => Err(no_keys().because("no credential provider is configured")),
        }
    }

    /// Keys for one request.
    pub(crate) async fn get(&self) -> Result<Credentials, Failure> {
        match self {
            Self::Fixed(credentials) => Ok(credentials.clone()),
            Self::Chain(provider) => match provider.provide_credentials().await {
                Ok(keys) => Ok(Credentials {
                    access_key_id: keys.access_key_id().to_owned(),
                    secret_access_key: keys.secret_access_key().to_owned(),
                    session_token: keys.session_token().map(str::to_owned),
                }),
                Err(error) => Err(no_keys().because_of(&error)),
            },
        }
    }
}

fn no_keys() -> Failure {
    Failure::new("no AWS credentials")
        .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a local server: eval \"$(clamshell env)\"")
}
