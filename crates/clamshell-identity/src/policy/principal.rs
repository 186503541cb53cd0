//! Whom a statement names, and whether a caller is one of them.

use super::evaluate::{Principal, PrincipalKind};

/// An entry of `Principal` or `NotPrincipal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// `*`: everyone, also callers without an identity of IAM.
    Anyone,
    /// An account: its number or its root ARN.
    Account(String),
    /// A user, a role or one session of a role, by ARN.
    Arn(String),
    /// A service, by its host name.
    Service(String),
}

/// How a caller is covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cover {
    /// Not at all.
    No,
    /// Through its account, which then decides itself: an allow needs an identity policy too.
    Account,
    /// By name.
    Direct,
}

impl Named {
    /// An entry below `AWS`; `None` when it is none of the known forms. Wildcards within an ARN are
    /// refused, as IAM does.
    pub(super) fn parse_aws(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Anyone);
        }
        if is_account(text) {
            return Some(Self::Account(text.to_owned()));
        }
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, "", account, rest] = parts[..] else {
            return None;
        };
        let clean = text.chars().all(|char| char.is_ascii_graphic() && !"*?$\"\\".contains(char));
        if !clean || text.len() > 2048 || !partition.starts_with("aws") || !is_account(account) {
            return None;
        }
        let (kind, name) = rest.split_once('/').unwrap_or((rest, ""));
        match (service, kind) {
            ("iam", "root") if rest == "root" => Some(Self::Account(account.to_owned())),
            ("iam", "user" | "role") if !name.is_empty() => Some(Self::Arn(text.to_owned())),
            ("sts", "assumed-role") => {
                let (role, session) = name.split_once('/')?;
                let whole = !role.is_empty() && !session.is_empty() && !session.contains('/');
                whole.then(|| Self::Arn(text.to_owned()))
            }
            _ => None,
        }
    }

    /// An entry below `Service`.
    pub(super) fn parse_service(text: &str) -> Option<Self> {
        let ok = text.contains('.')
            && text.len() <= 255
            && text.chars().all(|char| char.is_ascii_alphanumeric() || char == '-' || char == '.');
        ok.then(|| Self::Service(text.to_ascii_lowercase()))
    }

    fn cover(&self, caller: &Principal) -> Cover {
        let direct = |yes: bool| if yes { Cover::Direct } else { Cover::No };
        let of_iam = matches!(
            caller.kind,
            PrincipalKind::Root | PrincipalKind::User | PrincipalKind::RoleSession { .. }
        );
        match self {
            Self::Anyone => Cover::Direct,
            Self::Account(account) if of_iam && *account == caller.account => match caller.kind {
                PrincipalKind::Root => Cover::Direct,
                _ => Cover::Account,
            },
            Self::Account(_) => Cover::No,
            Self::Arn(arn) => match &caller.kind {
                PrincipalKind::RoleSession { role_arn } => direct(*arn == caller.arn || arn == role_arn),
                PrincipalKind::User => direct(*arn == caller.arn),
                PrincipalKind::Root | PrincipalKind::Service | PrincipalKind::Anonymous => Cover::No,
            },
            Self::Service(name) => {
                direct(caller.kind == PrincipalKind::Service && name.eq_ignore_ascii_case(&caller.arn))
            }
        }
    }
}

/// The best cover that any of `named` gives.
pub(super) fn cover(named: &[Named], caller: &Principal) -> Cover {
    named.iter().map(|entry| entry.cover(caller)).max().unwrap_or(Cover::No)
}

/// Whether `text` is the number of an account.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_principals() {
        let check = |text: &str, expect: Option<Named>| assert_eq!(Named::parse_aws(text), expect, "{text}");
        let arn = |text: &str| Some(Named::Arn(text.to_owned()));
        let account = Some(Named::Account("111122223333".to_owned()));
        check("*", Some(Named::Anyone));
        check("111122223333", account.clone());
        check("arn:aws:iam::111122223333:root", account);
        for text in [
            "arn:aws:iam::111122223333:user/bob",
            "arn:aws:iam::111122223333:role/path/of/role",
            "arn:aws-cn:iam::111122223333:role/r",
            "arn:aws:sts::111122223333:assumed-role/R/S",
        ] {
            check(text, arn(text));
        }
        for text in [
            "",
            "11112222333",
            "arn:aws:iam::111122223333:user/*",
            "arn:aws:iam::*:root",
            "arn:aws:iam::111122223333:user/",
            "arn:aws:iam::111122223333:rootx",
            "arn:aws:iam:us-west-2:111122223333:user/b",
            "arn:aws:sts::111122223333:assumed-role/R",
            "arn:aws:sts::111122223333:assumed-role/R/S/T",
            "arn:aws:iam::111122223333:group/g",
        ] {
            check(text, None);
        }
    }
}
