//! `clamshell users` and `clamshell roles`: who may do what.

use std::path::PathBuf;

use clamshell_wire::percent_encode;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::{people, sessions::call};
use crate::{
    cli::ServerArgs,
    failure::Failure,
    output::{self, print_done, text, time},
};

/// Create, list, show and remove users, and say what they may do
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell users                                    all users\n  clamshell users --json                             as one JSON object\n  clamshell users create ci\n  clamshell users put-policy ci invoke policy.json   may do what the policy says\n  clamshell users show ci\n  clamshell users rm-policy ci invoke\n  clamshell users rm ci\n  clamshell users create ann --console-role operator\n  clamshell users passwd ann                         may sign in to the console with it\n  clamshell users role ann viewer\n\n`clamshell keys create --user ci` makes a key for one."
)]
pub(crate) struct UsersArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(subcommand)]
    command: Option<PersonCommand>,
}

/// What can be done with users.
#[derive(Debug, Subcommand)]
enum PersonCommand {
    #[command(flatten)]
    Principal(UserCommand),
    /// Set the password that a user signs in to the console with; other logins of the user end
    #[command(
        after_help = "Examples:\n  clamshell users passwd ann                 asks twice, and shows nothing\n  clamshell users passwd ann < password.txt  or reads one line"
    )]
    Passwd(people::Passwd),
    /// Say what a user may do at the console: viewer, operator or admin
    #[command(after_help = "Examples:\n  clamshell users role ann operator")]
    Role(people::SetRole),
}

/// Create, list, show and remove roles of runtimes, and say what they may do
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell roles                                       all roles\n  clamshell roles --json                                as one JSON object\n  clamshell roles create reader --description \"reads\"\n  clamshell roles put-policy reader read policy.json    runtimes with it may do what the policy says\n  clamshell roles show reader\n  clamshell roles rm-policy reader read\n  clamshell roles rm reader"
)]
pub(crate) struct RolesArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(subcommand)]
    command: Option<RoleCommand>,
}

/// The subcommands of both, each in words of its own.
macro_rules! principal_commands {
    ($enum:ident, $new:ty, $words:literal, $word:literal, $example:literal, $rm:literal) => {
        #[derive(Debug, Subcommand)]
        enum $enum {
            #[command(
                about = concat!("List all ", $words),
                alias = "ls",
                after_help = concat!("Examples:\n  clamshell ", $words, " list --json")
            )]
            List,
            #[command(
                about = concat!("Create a ", $word, "; without a policy it may do nothing"),
                after_help = concat!(
                    "Examples:\n  clamshell ", $words, " create ", $example, "\n  clamshell ", $words, " create ",
                    $example, " --description \"what it is for\""
                )
            )]
            Create($new),
            #[command(
                about = concat!("Show a ", $word, " with its policies"),
                after_help = concat!("Examples:\n  clamshell ", $words, " show ", $example)
            )]
            Show(Name),
            #[command(
                about = $rm,
                alias = "remove",
                after_help = concat!("Examples:\n  clamshell ", $words, " rm ", $example)
            )]
            Rm(Name),
            #[command(
                about = concat!("Attach a policy to a ", $word, ", in place of the one of this name"),
                after_help = concat!(
                    "Examples:\n  clamshell ", $words, " put-policy ", $example, " invoke policy.json\n  clamshell ",
                    $words, " put-policy ", $example, " invoke - < policy.json"
                )
            )]
            PutPolicy(PutPolicy),
            #[command(
                about = concat!("Take a policy from a ", $word),
                alias = "remove-policy",
                after_help = concat!("Examples:\n  clamshell ", $words, " rm-policy ", $example, " invoke")
            )]
            RmPolicy(PolicyName),
        }

        impl From<$enum> for Action {
            fn from(command: $enum) -> Self {
                match command {
                    $enum::List => Self::List,
                    $enum::Create(new) => Self::Create(new.into()),
                    $enum::Show(name) => Self::Show(name),
                    $enum::Rm(name) => Self::Rm(name),
                    $enum::PutPolicy(policy) => Self::PutPolicy(policy),
                    $enum::RmPolicy(policy) => Self::RmPolicy(policy),
                }
            }
        }
    };
}

principal_commands!(UserCommand, NewUser, "users", "user", "ci", "Remove a user; it must have no keys left");
principal_commands!(RoleCommand, New, "roles", "role", "reader", "Remove a role with its policies");

#[derive(Debug, Args)]
struct NewUser {
    #[command(flatten)]
    new: New,
    /// What the user may do at the console
    #[arg(long, value_enum)]
    console_role: Option<people::Role>,
}

#[derive(Debug, Args)]
struct New {
    /// Its name
    name: String,
    /// For people
    #[arg(long, default_value = "")]
    description: String,
}

#[derive(Debug, Args)]
struct Name {
    /// Its name
    name: String,
}

#[derive(Debug, Args)]
struct PutPolicy {
    #[command(flatten)]
    at: PolicyName,
    /// File with the policy document; - is standard input
    file: PathBuf,
}

#[derive(Debug, Args)]
struct PolicyName {
    /// Its name
    name: String,
    /// Name of the policy
    policy: String,
}

/// What to do, with users or with roles.
enum Action {
    List,
    Create(Creation),
    Show(Name),
    Rm(Name),
    PutPolicy(PutPolicy),
    RmPolicy(PolicyName),
}

/// Somebody new.
struct Creation {
    new: New,
    console_role: Option<people::Role>,
}

impl From<New> for Creation {
    fn from(new: New) -> Self {
        Self { new, console_role: None }
    }
}

impl From<NewUser> for Creation {
    fn from(NewUser { new, console_role }: NewUser) -> Self {
        Self { new, console_role }
    }
}

/// Users or roles.
#[derive(Clone, Copy)]
struct Kind {
    /// As the API's paths and lists have it.
    plural: &'static str,
    singular: &'static str,
    name: &'static str,
}

const USERS: Kind = Kind { plural: "users", singular: "user", name: "userName" };
const ROLES: Kind = Kind { plural: "roles", singular: "role", name: "roleName" };

/// Runs the subcommand on users; none lists.
pub(crate) async fn run_users(args: UsersArgs) -> Result<i32, Failure> {
    let json = args.server.json;
    match args.command {
        None => run(USERS, &args.server, None).await,
        Some(PersonCommand::Principal(command)) => run(USERS, &args.server, Some(command.into())).await,
        Some(PersonCommand::Passwd(passwd)) => {
            people::passwd(&args.server.client(None).await?, json, passwd).await.map(|()| 0)
        }
        Some(PersonCommand::Role(role)) => {
            people::set_role(&args.server.client(None).await?, json, role).await.map(|()| 0)
        }
    }
}

/// Runs the subcommand on roles; none lists.
pub(crate) async fn run_roles(args: RolesArgs) -> Result<i32, Failure> {
    run(ROLES, &args.server, args.command.map(Action::from)).await
}

async fn run(kind: Kind, server: &ServerArgs, action: Option<Action>) -> Result<i32, Failure> {
    let json = server.json;
    let client = server.client(None).await?;
    let all = format!("/clamshell/v1/{}", kind.plural);
    let one = |name: &str| format!("{all}/{}", percent_encode(name));
    let what = |verb: &str| format!("cannot {verb} the {}", kind.singular);
    match action.unwrap_or(Action::List) {
        Action::List => {
            let answer =
                call(&client, Method::GET, &all, None, &format!("cannot list {}", kind.plural)).await?;
            print_list(kind, json, &answer);
        }
        Action::Create(Creation { new: New { name, description }, console_role }) => {
            let body = json!({ kind.name: name, "description": description });
            let mut made = call(&client, Method::POST, &all, Some(&body), &what("create")).await?;
            if let Some(role) = console_role {
                made = people::put_role(&client, &name, role).await?;
            }
            print_done(json, &made, &format!("Created {name}."));
        }
        Action::Show(Name { name }) => {
            let found = call(&client, Method::GET, &one(&name), None, &what("show")).await?;
            show(kind, json, &found);
        }
        Action::Rm(Name { name }) => {
            call(&client, Method::DELETE, &one(&name), None, &what("remove")).await?;
            print_done(json, &json!({ "success": true, kind.name: name }), &format!("Removed {name}."));
        }
        Action::PutPolicy(PutPolicy { at: PolicyName { name, policy }, file }) => {
            let document = read(&file)?;
            let path = format!("{}/policies/{}", one(&name), percent_encode(&policy));
            let found = call(&client, Method::PUT, &path, Some(&document), "cannot put the policy").await?;
            print_done(json, &found, &format!("{name} has the policy {policy}."));
        }
        Action::RmPolicy(PolicyName { name, policy }) => {
            let path = format!("{}/policies/{}", one(&name), percent_encode(&policy));
            call(&client, Method::DELETE, &path, None, "cannot remove the policy").await?;
            let gone = json!({ "success": true, kind.name: name, "policyName": policy });
            print_done(json, &gone, &format!("Removed the policy {policy} of {name}."));
        }
    }
    Ok(0)
}

fn read(file: &PathBuf) -> Result<Value, Failure> {
    let text = if file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let failed = |why: String| Failure::new("cannot read the policy").because(why);
    let text = text.map_err(|error| failed(format!("{}: {error}", file.display())))?;
    serde_json::from_str(&text).map_err(|error| failed(format!("{} is not JSON: {error}", file.display())))
}

fn show(kind: Kind, json: bool, found: &Value) {
    if json {
        output::print_json(found);
        return;
    }
    output::print_fields(&[
        ("name", text(found, kind.name)),
        ("arn", text(found, "arn")),
        ("description", text(found, "description")),
        ("created", time(found, "createdAt")),
    ]);
    for (name, document) in found["policies"].as_object().into_iter().flatten() {
        let document = serde_json::to_string_pretty(document).unwrap_or_default();
        output::print_text(&format!("\n{name}:\n{document}\n"));
    }
}

fn print_list(kind: Kind, json: bool, answer: &Value) {
    if json {
        output::print_json(answer);
        return;
    }
    let rows = answer[kind.plural].as_array().into_iter().flatten().map(|found| {
        let policies = found["policies"].as_object().into_iter().flatten();
        let policies: Vec<&str> = policies.map(|(name, _)| name.as_str()).collect();
        vec![
            text(found, kind.name),
            policies.join(", "),
            text(found, "description"),
            time(found, "createdAt"),
        ]
    });
    output::print_table(&[kind.singular, "policies", "description", "created"], rows.collect());
}
