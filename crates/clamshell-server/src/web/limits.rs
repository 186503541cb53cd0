//! How many shells there may be, so that no user takes the room of the others.

use thiserror::Error;

/// The rest of the room is for those who have few: so many shells are few.
const FEW: usize = 8;

/// One part in so many is kept for them.
const KEPT_PART: usize = 4;

/// Limits of `clamshell web`, section `web` of its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebLimits {
    /// Shells connected at once, over all users; each holds up to 4 MiB of output.
    pub connected: usize,
    /// Shells of one user that are connected at once.
    pub connected_per_user: usize,
    /// Shells of one user that may run at once, connected or not.
    pub shells_per_user: u32,
}

impl Default for WebLimits {
    fn default() -> Self {
        // 2 GiB of output; and far more shells than a person looks at.
        Self { connected: 512, connected_per_user: 64, shells_per_user: 64 }
    }
}

/// The limit that one more shell would break; its text is for the user, and says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Limit {
    /// Of this user, connected or not.
    #[error(
        "You have {0} shells, as many as a user may have: close some, or raise `shells_per_user` in [web] of the configuration"
    )]
    ShellsPerUser(u32),
    /// Of this user.
    #[error(
        "{0} of your shells are connected, as many as a user may have: close some, or raise `connected_per_user` in [web] of the configuration"
    )]
    ConnectedPerUser(usize),
    /// Of all users, and this one has more than a few.
    #[error(
        "{connected} of {most} shells of all users are connected, and the rest is kept for users who have fewer than 8; you have {mine}: close some, or raise `connected` in [web] of the configuration"
    )]
    Crowded {
        /// Shells of all users.
        connected: usize,
        /// As many as there may be.
        most: usize,
        /// Shells of this user.
        mine: usize,
    },
    /// Of all users.
    #[error(
        "{0} shells of all users are connected, as many as there may be: close some, or raise `connected` in [web] of the configuration"
    )]
    Connected(usize),
}

impl WebLimits {
    /// Whether a user with `mine` connected shells, of all that are `connected`, may have another one.
    pub(super) fn check(&self, mine: usize, connected: usize) -> Result<(), Limit> {
        if mine >= self.connected_per_user {
            return Err(Limit::ConnectedPerUser(self.connected_per_user));
        }
        if connected >= self.connected {
            return Err(Limit::Connected(self.connected));
        }
        if mine >= FEW && connected >= self.connected - self.connected / KEPT_PART {
            return Err(Limit::Crowded { connected, most: self.connected, mine });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_shells_of_few_users_leave_room_for_others() {
        let limits = WebLimits::default();
        let mut users = vec![0_usize; 8];
        let mut refused = Vec::new();
        for user in 0..users.len() {
            for _ in 0..limits.connected_per_user {
                match limits.check(users[user], users.iter().sum()) {
                    Ok(()) => users[user] += 1,
                    Err(limit) => refused.push(limit),
                }
            }
        }
        assert_eq!(users, [64, 64, 64, 64, 64, 64, 8, 8]);
        assert_eq!(refused.first(), Some(&Limit::Crowded { connected: 392, most: 512, mine: 8 }));
        let connected = users.iter().sum();
        assert_eq!(limits.check(0, connected), Ok(()), "a ninth person finds room");
        assert_eq!(limits.check(64, 64), Err(Limit::ConnectedPerUser(64)));
        assert_eq!(limits.check(0, 512), Err(Limit::Connected(512)));
    }

    #[test]
    fn people_learn_which_limit_it_is() {
        let text = Limit::Crowded { connected: 400, most: 512, mine: 9 }.to_string();
        assert!(text.contains("400 of 512") && text.contains("`connected` in [web]"), "{text}");
    }
}
