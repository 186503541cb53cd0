//! What an image says about its program, checked: nothing that `exec` would refuse gets past here.
//!
//! A variable or port that is none is left out, because every program would be kept from starting for one
//! bad line. A command line, user or folder that cannot be meant makes the image malformed: to run
//! something else, or as somebody else, would be worse.

use clamshell_domain::ImageConfig;

use super::{error::ImageError, manifest::ProcessConfig};

/// Most bytes of arguments, and of variables. Together they stay below the 2 MiB that Linux gives a program by default.
const LIST_BYTES_MAX: usize = 512 << 10;
/// Longest argument or variable that Linux takes: 32 pages with the closing NUL.
const TEXT_BYTES_MAX: usize = (128 << 10) - 1;
/// Most arguments, and most variables: far above any image's.
const LIST_MAX: usize = 4096;
/// Longest `User`: two names of 256 bytes, as long as account tools make them.
const USER_BYTES_MAX: usize = 513;
/// Longest path that Linux takes, with the closing NUL.
const PATH_BYTES_MAX: usize = 4095;
/// Most ports.
const PORTS_MAX: usize = 1024;

/// Checks what a configuration file says.
pub(super) fn checked(config: ProcessConfig) -> Result<ImageConfig, ImageError> {
    let env = config.env.unwrap_or_default();
    let pairs = env.iter().filter_map(|line| line.split_once('='));
    let pairs = pairs.filter(|(name, value)| {
        let fits = name.len() + value.len() < TEXT_BYTES_MAX;
        fits && !name.is_empty() && !name.contains('\0') && !value.contains('\0')
    });
    let env: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    bounded("variables", env.len(), env.iter().map(|(name, value)| name.len() + value.len() + 1))?;
    let entrypoint = arguments("entry point", config.entrypoint)?;
    let cmd = arguments("command", config.cmd)?;
    let all = entrypoint.iter().chain(&cmd);
    bounded("arguments", entrypoint.len() + cmd.len(), all.map(String::len))?;
    let working_dir = text("working folder", config.working_dir, PATH_BYTES_MAX - 1)?
        .map(|path| if path.starts_with('/') { path } else { format!("/{path}") });
    Ok(ImageConfig {
        env,
        entrypoint,
        cmd,
        user: text("user", config.user, USER_BYTES_MAX)?,
        working_dir,
        stop_signal: config.stop_signal.as_deref().and_then(signal),
        exposed_ports: ports(config.exposed_ports.unwrap_or_default().keys())?,
    })
}

fn bounded(what: &'static str, count: usize, bytes: impl Iterator<Item = usize>) -> Result<(), ImageError> {
    if count > LIST_MAX {
        return Err(ImageError::TooLarge { what, limit: LIST_MAX as u64 });
    }
    // Each costs a NUL and a pointer, too.
    if bytes.map(|bytes| bytes + 9).sum::<usize>() > LIST_BYTES_MAX {
        return Err(ImageError::TooLarge { what, limit: LIST_BYTES_MAX as u64 });
    }
    Ok(())
}

fn arguments(what: &str, list: Option<Vec<String>>) -> Result<Vec<String>, ImageError> {
    let list = list.unwrap_or_default();
    if list.iter().any(|argument| argument.contains('\0') || argument.len() > TEXT_BYTES_MAX) {
        return Err(ImageError::malformed(format!("configuration: {what}")));
    }
    Ok(list)
}

fn text(what: &str, text: Option<String>, bytes_max: usize) -> Result<Option<String>, ImageError> {
    let text = text.filter(|text| !text.is_empty());
    if text.as_ref().is_some_and(|text| text.len() > bytes_max || text.chars().any(char::is_control)) {
        return Err(ImageError::malformed(format!("configuration: {what}")));
    }
    Ok(text)
}

/// TCP ports of `port`, `port/tcp` and the ranges `from-to/tcp` of old.
fn ports<'a>(names: impl Iterator<Item = &'a String>) -> Result<Vec<u16>, ImageError> {
    let mut ports = std::collections::BTreeSet::new();
    for name in names {
        let (range, protocol) = name.split_once('/').unwrap_or((name, "tcp"));
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u16>().ok().filter(|port| digits && *port > 0)
        };
        if let (true, Some(from), Some(to)) = (protocol == "tcp", number(from), number(to)) {
            ports.extend((from..=to).take(PORTS_MAX + 1));
        }
        if ports.len() > PORTS_MAX {
            return Err(ImageError::TooLarge { what: "exposed ports", limit: PORTS_MAX as u64 });
        }
    }
    Ok(ports.into_iter().collect())
}

/// Names of the signals 1 to 31 on Linux, but on Alpha, MIPS, PA-RISC and SPARC.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// First and last of the real-time signals, as the C libraries of Linux number them.
const REAL_TIME: (u8, u8) = (34, 64);

/// Number of `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` or `RTMAX-1`; `None` for what is no signal.
fn signal(name: &str) -> Option<u8> {
    let name = name.to_ascii_uppercase();
    let digits = |text: &str| {
        (text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u8>().ok())?
    };
    if let Some(number) = digits(&name) {
        return (1..=REAL_TIME.1).contains(&number).then_some(number);
    }
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = if let Some(above) = name.strip_prefix("RTMIN") {
        REAL_TIME.0 + above.strip_prefix('+').map_or((above.is_empty()).then_some(0), digits)?
    } else if let Some(below) = name.strip_prefix("RTMAX") {
        REAL_TIME.1.checked_sub(below.strip_prefix('-').map_or((below.is_empty()).then_some(0), digits)?)?
    } else {
        let at = SIGNALS.iter().position(|known| *known == name)?;
        return u8::try_from(at + 1).ok();
    };
    (REAL_TIME.0..=REAL_TIME.1).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value) -> Result<ImageConfig, String> {
        checked(serde_json::from_value(json).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_configuration_is_read_whole() {
        let config = parse(serde_json::json!({
            "Env": ["PATH=/bin", "EMPTY=", "EQUALS=a=b"], "Entrypoint": ["/app", "serve"], "Cmd": ["--port", "8080"],
            "User": "web:adm", "WorkingDir": "/srv/app", "StopSignal": "SIGINT",
            "ExposedPorts": {"9000/tcp": {}, "8080/tcp": {}, "8080": {}, "53/udp": {}},
        }));
        let text = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let env = [("PATH", "/bin"), ("EMPTY", ""), ("EQUALS", "a=b")];
        let expect = ImageConfig {
            env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            entrypoint: text(&["/app", "serve"]),
            cmd: text(&["--port", "8080"]),
            user: Some("web:adm".into()),
            working_dir: Some("/srv/app".into()),
            stop_signal: Some(2),
            exposed_ports: vec![8080, 9000],
        };
        assert_eq!(expect.argv(), text(&["/app", "serve", "--port", "8080"]));
        assert_eq!(config, Ok(expect));
        let nothing = serde_json::json!({ "Env": null, "User": "", "WorkingDir": "", "StopSignal": "", "ExposedPorts": null });
        assert_eq!(parse(nothing), Ok(ImageConfig::default()));
        let relative = parse(serde_json::json!({ "WorkingDir": "srv" })).unwrap();
        assert_eq!(relative.working_dir.as_deref(), Some("/srv"));
    }

    #[test]
    fn what_is_no_variable_or_port_is_left_out() {
        let long = format!("LONG={}", "x".repeat(128 << 10));
        let config = parse(serde_json::json!({
            "Env": ["=x", "none", "", "A\0=b", "A=b\0", long, "KEPT=1"], "StopSignal": "SIGNOTHING",
            "ExposedPorts": {"": {}, "/tcp": {}, "0/tcp": {}, "65536/tcp": {}, "-1/tcp": {}, "+80/tcp": {}, "80/": {}, "90/sctp": {}, "7-5/tcp": {}, "81-83/tcp": {}},
        }))
        .unwrap();
        assert_eq!(config.env, [("KEPT".to_owned(), "1".to_owned())]);
        assert_eq!((config.stop_signal, config.exposed_ports), (None, vec![81, 82, 83]));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |json, expect: &str| assert_eq!(parse(json), Err(expect.to_owned()));
        check(serde_json::json!({ "Entrypoint": ["a\0b"] }), "malformed configuration: entry point");
        check(serde_json::json!({ "Cmd": ["x".repeat(128 << 10)] }), "malformed configuration: command");
        check(serde_json::json!({ "User": "root\nweb" }), "malformed configuration: user");
        check(serde_json::json!({ "User": "u".repeat(600) }), "malformed configuration: user");
        check(serde_json::json!({ "WorkingDir": "/a\0" }), "malformed configuration: working folder");
        check(
            serde_json::json!({ "WorkingDir": "/a".repeat(2048) }),
            "malformed configuration: working folder",
        );
        check(serde_json::json!({ "Cmd": vec!["x"; 5000] }), "arguments above the limit of 4096");
        check(serde_json::json!({ "Env": vec!["A=b"; 5000] }), "variables above the limit of 4096");
        let large = "x".repeat(100_000);
        check(serde_json::json!({ "Cmd": vec![large.clone(); 6] }), "arguments above the limit of 524288");
        check(
            serde_json::json!({ "Env": vec![format!("A={large}"); 6] }),
            "variables above the limit of 524288",
        );
        check(
            serde_json::json!({ "ExposedPorts": {"1-65535/tcp": {}} }),
            "exposed ports above the limit of 1024",
        );
    }

    #[test]
    fn signals_are_numbers_and_names() {
        let check = |name, expect| assert_eq!(signal(name), expect, "{name:?}");
        check("SIGTERM", Some(15));
        check("quit", Some(3));
        check("sigkill", Some(9));
        check("SYS", Some(31));
        check("15", Some(15));
        check("64", Some(64));
        check("SIGRTMIN", Some(34));
        check("SIGRTMIN+3", Some(37));
        check("RTMAX-14", Some(50));
        for none in [
            "",
            "0",
            "65",
            "-9",
            "+9",
            "015",
            "SIG",
            "SIGSIGTERM",
            "RTMIN+99",
            "RTMIN+",
            "RTMAX-40",
            "RTMIN-1",
            "\u{661}",
        ] {
            check(none, None);
        }
    }
}
