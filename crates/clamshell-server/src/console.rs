//! The browser console: who signs in, how long that holds, and for which names this server answers browsers.
//!
//! A login is a cookie in place of a signature: `http/auth.rs` makes the same caller of both, and the same policies decide.
//! What only a browser can be made to do by a page of elsewhere is refused in `console/guard.rs`.

pub(crate) mod guard;
mod hosts;
mod links;
mod lockout;
mod logins;
mod passwords;
mod rate;
mod roles;

use std::sync::Arc;

use clamshell_domain::{Clock, Entropy};
use clamshell_identity::oidc::OidcClient;
use clamshell_store::{Store, StoreError};
use thiserror::Error;
use tokio::sync::OnceCell;

pub(crate) use hosts::{Site, site};
pub(crate) use links::Links;
pub(crate) use lockout::{FORGET_MS, Lockout};
pub(crate) use logins::{From, Login, Logins, OpenByLogin, hash_of, new_token};
pub(crate) use passwords::Passwords;
pub(crate) use rate::{Rate, Rates};
pub use roles::ConsoleRole;
pub(crate) use roles::{ROLE_POLICY, refresh_roles};

use crate::config::ConsolePolicy;

/// A link can be used for so long.
pub(crate) const LINK_MS: u64 = 10 * 60_000;

/// Codes of the provider that a network may have refused at once, and the time for one more: each is a call to the provider.
const CODES: u64 = 30;
const CODES_REFILL_MS: u64 = 2000;

/// Refused links and codes in the trail at once, and the time for one more: strangers fill it no faster.
const TOLD: u64 = 60;
const TOLD_REFILL_MS: u64 = 1000;

/// What the console knows of people.
pub(crate) struct Console {
    pub(crate) logins: Logins,
    /// Who guesses passwords. Links and codes are nothing that anybody guesses: they count neither here nor for each other.
    pub(crate) lockout: Lockout,
    pub(crate) links: Links,
    /// Codes of the identity provider.
    pub(crate) codes: Rates,
    /// Refused links and codes that the trail has.
    pub(crate) told: Rate,
    pub(crate) passwords: Passwords,
    /// Starts empty.
    pub(crate) oidc: OnceCell<OidcClient>,
}

impl Console {
    /// Takes up the logins of an earlier process, and who waits for having guessed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn load(
        store: &Store,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
        policy: &ConsolePolicy,
    ) -> Result<Self, StoreError> {
        let logins = Logins::load(store.clone(), Arc::clone(clock), Arc::clone(entropy), policy).await?;
        let now_ms = clock.now_ms();
        let waiting = store.console_lockouts(now_ms.saturating_sub(FORGET_MS)).await?;
        Ok(Self {
            logins,
            lockout: Lockout::load(waiting, now_ms),
            links: Links::default(),
            codes: Rates::new(CODES, CODES_REFILL_MS),
            told: Rate::new(TOLD, TOLD_REFILL_MS),
            passwords: Passwords::default(),
            oidc: OnceCell::new(),
        })
    }
}

/// Why the console refuses.
#[derive(Debug, Error)]
pub(crate) enum ConsoleError {
    /// There is none.
    #[error("there is no console: {0}")]
    Off(&'static str),
    /// The request is for another name.
    #[error("request is for a name that is not this server's")]
    Host,
    /// The request was not made by the console's own page.
    #[error("request is not of the console's page: {0}")]
    CrossSite(&'static str),
    /// The cookie is of no login, or of one that has ended.
    #[error("login has ended")]
    Ended,
    /// Nobody signs in with that.
    #[error("wrong user name, password or link")]
    Wrong,
    /// Too many failures.
    #[error("locked out for {retry_after_s} s")]
    LockedOut {
        /// Seconds to wait.
        retry_after_s: u64,
    },
    /// Too many passwords are checked, or links looked up, at once.
    #[error("too many sign in at once")]
    Busy,
    /// Only a request with a signature may do this.
    #[error("a login may not do this")]
    NeedsSignature,
    /// Only a person with a login may do this.
    #[error("only a login may do this")]
    NeedsLogin,
    /// Only users have logins.
    #[error("caller is no user")]
    NotAUser,
    /// A password is too short or too long.
    #[error("password is too short or too long")]
    Password,
    /// The login is too old to set a first password.
    #[error("login is too old for a first password")]
    NotFresh,
    /// Too many links wait to be used.
    #[error("too many links wait to be used")]
    TooManyLinks,
    /// A password cannot be hashed, or its stored hash not be read.
    #[error("password cannot be hashed or checked")]
    Hash,
}
