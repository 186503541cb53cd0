//! `clamshell users passwd` and `users role`: how people sign in to the browser console, and what they may do there.

use std::io::{BufRead, IsTerminal, Write};

use clamshell_wire::percent_encode;
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::json;

use super::{secrets::Hidden, sessions::call};
use crate::{client::Client, failure::Failure, output::print_done};

/// As the server has it: shorter ones are refused there as well.
const PASSWORD_CHARS_MIN: usize = 12;

/// Longest line that is read as a password, with its end.
const LINE_BYTES_MAX: u64 = 1024 + 2;

/// What somebody may do at the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Look at everything but files and secrets
    Viewer,
    /// Work with sessions, shells, files and invocations
    Operator,
    /// Everything
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Passwd {
    /// Whose; root is the account itself
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct SetRole {
    /// Whose
    name: String,
    /// What the user may do
    #[arg(value_enum)]
    role: Role,
}

/// Sets a password: typed twice without being shown, or one line of stdin.
pub(crate) async fn passwd(client: &Client, json: bool, args: Passwd) -> Result<(), Failure> {
    let Passwd { name } = args;
    let password = read(&name)?;
    let path = format!("/clamshell/v1/users/{}/password", percent_encode(&name));
    call(client, Method::PUT, &path, Some(&json!({ "password": password })), "cannot set the password")
        .await?;
    let done = json!({ "success": true, "userName": name });
    print_done(
        json,
        &done,
        &format!("{name} signs in with the new password; other logins of {name} have ended."),
    );
    Ok(())
}

/// Gives a role.
pub(crate) async fn set_role(client: &Client, json: bool, args: SetRole) -> Result<(), Failure> {
    let found = put_role(client, &args.name, args.role).await?;
    print_done(json, &found, &format!("{} is {} now.", args.name, args.role.name()));
    Ok(())
}

/// The user, with the policy of the role.
pub(crate) async fn put_role(client: &Client, name: &str, role: Role) -> Result<serde_json::Value, Failure> {
    let path = format!("/clamshell/v1/users/{}/console-role", percent_encode(name));
    call(client, Method::PUT, &path, Some(&json!({ "role": role.name() })), "cannot give the role").await
}

fn read(name: &str) -> Result<String, Failure> {
    let what = "cannot read the password";
    let failed = |error: std::io::Error| Failure::new(what).because_of(&error);
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::Read::take(std::io::stdin().lock(), LINE_BYTES_MAX).read_line(&mut line).map_err(failed)?;
        return Ok(without_end(&line).to_owned());
    }
    let ask = |prompt: String| {
        let hidden = Hidden::start().map_err(failed)?;
        eprint!("{prompt}");
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        let read = std::io::stdin().read_line(&mut line);
        drop(hidden);
        read.map_err(failed)?;
        Ok::<_, Failure>(without_end(&line).to_owned())
    };
    let password = ask(format!("New password of {name}, not shown: "))?;
    if password.chars().count() < PASSWORD_CHARS_MIN {
        return Err(Failure::new("the password is too short")
            .because(format!("it needs at least {PASSWORD_CHARS_MIN} characters")));
    }
    if ask("Once more: ".to_owned())? != password {
        return Err(Failure::new("the passwords are not the same").because("nothing was changed"));
    }
    Ok(password)
}

fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_the_line_is_no_part_of_a_password() {
        for (line, expect) in [("a b \n", "a b "), ("a\r\n", "a"), ("a", "a"), ("\n", ""), ("a\n\n", "a\n")] {
            assert_eq!(without_end(line), expect);
        }
    }
}
