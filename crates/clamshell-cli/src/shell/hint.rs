//! The command that comes back to a shell.

use super::{Access, Wish};
use crate::output::quote;

/// Flags that the command line of now had and that coming back needs too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HintFlags {
    /// `--region`
    pub(crate) region: Option<String>,
    /// `--endpoint-url`
    pub(crate) endpoint_url: Option<String>,
    /// `--data-dir`
    pub(crate) data_dir: Option<String>,
    /// A token is needed; it is never printed.
    pub(crate) bearer_token: bool,
    /// `--detach-keys`
    pub(crate) detach_keys: Option<String>,
}

/// `[to reconnect:]` and the command, ready to copy.
pub(super) fn text(wish: &Wish) -> String {
    let mut flags = vec![format!("--runtime {}", wish.arn)];
    let mut add = |flag: &str, value: Option<&String>| {
        flags.extend(value.map(|value| format!("{flag} {}", quote(value))));
    };
    let own = &wish.hint_flags;
    add("--region", own.region.as_ref());
    add("--endpoint-url", own.endpoint_url.as_ref());
    add("--data-dir", own.data_dir.as_ref());
    add("--qualifier", Some(&wish.qualifier).filter(|qualifier| *qualifier != "DEFAULT"));
    add("--session-id", Some(&wish.session_id));
    add("--shell-id", wish.shell_id.as_ref());
    add("--detach-keys", own.detach_keys.as_ref());
    if own.bearer_token {
        flags.push("--bearer-token \"$TOKEN\"".to_owned());
    }
    if wish.access == Access::Watch {
        flags.push("--watch".to_owned());
    }
    format!("[to reconnect:]\n  clamshell exec --it \\\n    {}\n", flags.join(" \\\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            arn: "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345".to_owned(),
            qualifier: "DEFAULT".to_owned(),
            session_id: "5723cde5-43c7-44c0-ab95-557516758545".to_owned(),
            shell_id: Some("shell-0001".to_owned()),
            access: Access::Write,
            keep: false,
            detach_key: "^]".to_owned(),
            hint_flags: HintFlags { region: Some("us-west-2".to_owned()), ..HintFlags::default() },
        }
    }

    #[test]
    fn the_hint_is_the_one_people_know() {
        let expect = "[to reconnect:]
  clamshell exec --it \\
    --runtime arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345 \\
    --region us-west-2 \\
    --session-id 5723cde5-43c7-44c0-ab95-557516758545 \\
    --shell-id shell-0001
";
        assert_eq!(text(&wish()), expect);
    }

    #[test]
    fn every_needed_flag_is_there_and_no_secret() {
        let mut wish = wish();
        wish.qualifier = "blue".to_owned();
        wish.hint_flags = HintFlags {
            region: None,
            endpoint_url: Some("http://127.0.0.1:9".to_owned()),
            data_dir: Some("/a b".to_owned()),
            bearer_token: true,
            detach_keys: Some("^P".to_owned()),
        };
        let text = text(&wish);
        for flag in [
            "--endpoint-url http://127.0.0.1:9",
            "--data-dir '/a b'",
            "--qualifier blue",
            "--detach-keys '^P'",
            "--bearer-token \"$TOKEN\"",
        ] {
            assert!(text.contains(flag), "{text}");
        }
    }
}
