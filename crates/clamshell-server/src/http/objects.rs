//! The object service on the listener of the planes: requests whose signature is for the service `s3`.
//!
//! The service checks signatures by the rules of S3 and finds out what a request needs; who signs, and what they may do, is
//! the same as for every other call: keys of users, credentials of roles, and their policies.

use std::sync::{Arc, OnceLock};

use clamshell_domain::BoxFuture;
use http::{Request, Response, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{
    ApiError,
    access::{self, Caller, Demand, Session},
    chain,
    response::Body,
};
use crate::{
    app::App,
    objects::{ObjectAuthority, ObjectCaller, ObjectService},
    server::Proof,
};

pub(super) use crate::objects::is_for_objects;

/// Answers a request to the object service.
pub(super) async fn serve(app: &Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let authority = Authority {
        app: Arc::clone(app),
        parts: parts.clone(),
        signer: OnceLock::new(),
        caller: tokio::sync::OnceCell::new(),
    };
    let service = ObjectService::new(
        &app.config.data_dir,
        app.account_id.as_str(),
        app.region.as_str(),
        Arc::new(authority),
        Arc::clone(&app.clock),
    );
    let answer = service.handle(Request::from_parts(parts, body)).await;
    answer.map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

/// Knows who signed one request.
struct Authority {
    app: Arc<App>,
    parts: Parts,
    /// Whose key the request names.
    signer: OnceLock<Session>,
    /// The same, once the signature was found to be theirs.
    caller: tokio::sync::OnceCell<Caller>,
}

impl Authority {
    /// Who signed. Only asked when the signature holds.
    async fn caller(&self) -> Result<&Caller, ApiError> {
        let made = self.caller.get_or_try_init(|| async {
            let signer = self.signer.get().ok_or(ApiError::Internal("nobody has signed"))?;
            // What a stranger may hold of this server ends here.
            if let Some(proof) = self.parts.extensions.get::<Proof>() {
                proof.give();
            }
            if let Some(key) = &signer.key {
                self.app.note_key_use(key);
            }
            access::caller(&self.app, &self.parts, signer.identity.clone()).await
        });
        made.await
    }
}

impl ObjectAuthority for Authority {
    fn caller<'a>(
        &'a self,
        access_key_id: &'a str,
        session_token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<ObjectCaller>, String>> {
        Box::pin(async move {
            let session = match self.app.signer(access_key_id, session_token).await {
                Ok(session) => session,
                Err(ApiError::UnknownAccessKey) => return Ok(None),
                Err(error) => return Err(chain(&error)),
            };
            let secret = session.secret.expose_text().ok_or("secret access key is not text")?.to_owned();
            let principal = session.identity.principal.arn.clone();
            let _ = self.signer.set(session);
            Ok(Some(ObjectCaller { secret_access_key: secret, principal }))
        })
    }

    fn allows<'a>(&'a self, _principal: &'a str, action: &'a str, resource: &'a str) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let demand = Demand::new(action, vec![resource.to_owned()]);
            let allowed = match self.caller().await {
                Ok(caller) => access::authorize(&self.app, caller, &demand).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &allowed {
                tracing::debug!(error = chain(error), "not allowed");
            }
            allowed.is_ok()
        })
    }
}
