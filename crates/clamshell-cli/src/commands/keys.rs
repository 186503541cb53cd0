//! `clamshell keys`: who may sign requests.

use clamshell_wire::percent_encode;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::sessions::call;
use crate::{
    cli::ServerArgs,
    failure::Failure,
    output::{self, print_done, text, time},
};

/// Create, list, disable, enable and remove access keys
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell keys                              all keys\n  clamshell keys --json                       as one JSON object\n  clamshell keys create ci                    shows the secret, this once\n  clamshell keys disable AKIA234567ABCDEFGHIJ\n  clamshell keys remove AKIA234567ABCDEFGHIJ"
)]
pub(crate) struct KeysArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(subcommand)]
    command: Option<KeysCommand>,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List keys
    #[command(alias = "ls", after_help = "Examples:\n  clamshell keys list --json")]
    List,
    /// Create a key; its secret is shown this once
    #[command(
        after_help = "Examples:\n  clamshell keys create ci\n  clamshell keys create --user ci     of a user made by `clamshell users create`"
    )]
    Create {
        /// Who will use it; a user that is not there yet is made, and may do everything
        #[arg(required_unless_present = "user")]
        user_name: Option<String>,
        /// A user that is there, and may do what its policies say
        #[arg(long, conflicts_with = "user_name")]
        user: Option<String>,
    },
    /// Refuse a key until it is enabled again
    #[command(after_help = "Examples:\n  clamshell keys disable AKIA234567ABCDEFGHIJ")]
    Disable(Key),
    /// Accept a disabled key again
    #[command(after_help = "Examples:\n  clamshell keys enable AKIA234567ABCDEFGHIJ")]
    Enable(Key),
    /// Remove a key
    #[command(alias = "rm", after_help = "Examples:\n  clamshell keys remove AKIA234567ABCDEFGHIJ")]
    Remove(Key),
}

#[derive(Debug, Args)]
struct Key {
    /// Its id
    access_key_id: String,
}

/// Runs the subcommand; none lists.
pub(crate) async fn run(args: KeysArgs) -> Result<i32, Failure> {
    let json = args.server.json;
    let client = args.server.client(None).await?;
    let one =
        |key: &Key, tail: &str| format!("/clamshell/v1/keys/{}{tail}", percent_encode(&key.access_key_id));
    match args.command.unwrap_or(KeysCommand::List) {
        KeysCommand::List => {
            let answer = call(&client, Method::GET, "/clamshell/v1/keys", None, "cannot list keys").await?;
            print_list(json, &answer);
        }
        KeysCommand::Create { user_name, user } => {
            let existing = user.is_some();
            let body = json!({ "userName": user.or(user_name), "existingUser": existing });
            let key =
                call(&client, Method::POST, "/clamshell/v1/keys", Some(&body), "cannot create a key").await?;
            if json {
                output::print_json(&key);
            } else {
                output::print_fields(&[
                    ("access key id", text(&key, "accessKeyId")),
                    ("secret access key", text(&key, "secretAccessKey")),
                ]);
                eprintln!("The secret is not shown again.");
            }
        }
        KeysCommand::Disable(key) => {
            let found =
                call(&client, Method::POST, &one(&key, "/disable"), None, "cannot disable the key").await?;
            print_done(json, &found, &format!("Disabled {}.", key.access_key_id));
        }
        KeysCommand::Enable(key) => {
            let found =
                call(&client, Method::POST, &one(&key, "/enable"), None, "cannot enable the key").await?;
            print_done(json, &found, &format!("Enabled {}.", key.access_key_id));
        }
        KeysCommand::Remove(key) => {
            call(&client, Method::DELETE, &one(&key, ""), None, "cannot remove the key").await?;
            let gone = json!({"success": true, "accessKeyId": key.access_key_id});
            print_done(json, &gone, &format!("Removed {}.", key.access_key_id));
        }
    }
    Ok(0)
}

fn print_list(json: bool, answer: &Value) {
    if json {
        output::print_json(answer);
        return;
    }
    let rows = answer["keys"].as_array().into_iter().flatten().map(|key| {
        vec![
            text(key, "accessKeyId"),
            text(key, "userName"),
            text(key, "status"),
            time(key, "createdAt"),
            time(key, "lastUsedAt"),
        ]
    });
    output::print_table(&["key", "user", "status", "created", "last used"], rows.collect());
}
