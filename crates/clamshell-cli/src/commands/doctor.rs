//! `clamshell doctor`: what this machine can give, what it cannot, and how to get it.

use clamshell_server::{Config, Overrides};
use clap::Args;
use http::Method;
use serde_json::Value;

use crate::{cli::ServerArgs, failure::Failure, local, output};

/// Show what this machine can give, what it cannot and why
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  clamshell doctor\n  clamshell doctor --json")]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Prints the report of the running server, or finds out itself. Exit code 1 when no driver works.
pub(crate) async fn run(args: DoctorArgs) -> Result<i32, Failure> {
    let data_dir = local::data_dir(args.server.data_dir.as_deref());
    let report = if args.server.endpoint_url.is_some() || local::running(&data_dir).await?.is_some() {
        let client = args.server.client(None).await?;
        client.json(Method::GET, "/clamshell/v1/doctor", None).await.map_err(|error| {
            error.into_failure("cannot ask the server what it can give", &client.target().endpoint)
        })?
    } else {
        let overrides = Overrides { data_dir: Some(data_dir), ..Overrides::default() };
        let config = Config::load(overrides)
            .map_err(|error| Failure::new("the configuration cannot be used").because_of(&error))?;
        clamshell_server::doctor_local(&config).await
    };
    if args.server.json {
        output::print_json(&report);
    } else {
        output::print_text(&render(&report));
    }
    let usable = report["reports"].as_array().is_some_and(|all| all.iter().any(|one| one["usable"] == true));
    Ok(i32::from(!usable))
}

fn render(report: &Value) -> String {
    let mut text = render_drivers(report);
    if let Some(reason) = report["console"]["detail"].as_str() {
        text.push_str(&format!("browser console: off: {reason}\n"));
    }
    let images: Vec<&Value> = report["runtimes"].as_array().into_iter().flatten().collect();
    if !images.is_empty() {
        text.push_str("images of runtimes:\n");
        text.push_str(&render_capabilities(&images));
    }
    text
}

fn render_drivers(report: &Value) -> String {
    let mut text = String::new();
    let all = |driver: &Value| driver["capabilities"].as_array().cloned().unwrap_or_default();
    let drivers: Vec<&Value> = report["reports"].as_array().into_iter().flatten().collect();
    let first = drivers.first().map(|driver| all(driver)).unwrap_or_default();
    for (index, driver) in drivers.iter().enumerate() {
        let state = if driver["usable"] == true { "usable" } else { "not usable here" };
        text.push_str(&format!("{}: {state}\n", output::text(driver, "driver")));
        let capabilities = all(driver);
        // What the first one said already is not said again.
        let is_new = |one: &&Value| index == 0 || !first.contains(one);
        let has_more = !capabilities.iter().all(|one| is_new(&one));
        let capabilities: Vec<&Value> = capabilities.iter().filter(is_new).collect();
        text.push_str(&render_capabilities(&capabilities));
        if has_more && driver["usable"] == true {
            text.push_str("      the rest as above\n");
        }
    }
    text
}

fn render_capabilities(capabilities: &[&Value]) -> String {
    let mut text = String::new();
    let names = capabilities.iter().map(|one| output::text(one, "name").chars().count());
    let width = names.max().unwrap_or(0);
    for capability in capabilities {
        let mark = if capability["available"] == true { "ok" } else { "--" };
        let name = output::text(capability, "name");
        text.push_str(&format!("  {mark}  {name:<width$}  {}\n", output::text(capability, "detail")));
        let hint = output::text(capability, "hint");
        if capability["available"] != true && !hint.is_empty() {
            text.push_str(&format!("      {:<width$}  hint: {hint}\n", ""));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_has_a_hint() {
        let report = serde_json::json!({"reports": [{"driver": "native", "usable": true, "capabilities": [
            {"name": "pids limit", "available": true, "detail": "cgroup v2", "hint": null},
            {"name": "fuse", "available": false, "detail": "no device", "hint": "modprobe fuse"},
        ]}]});
        assert_eq!(
            render(&report),
            "native: usable\n  ok  pids limit  cgroup v2\n  --  fuse        no device\n                  hint: modprobe fuse\n"
        );
    }

    #[test]
    fn missing_images_are_shown() {
        let report = serde_json::json!({"reports": [], "runtimes": [
            {"name": "mine", "available": false, "detail": "image /x is missing", "hint": "put it there"},
        ]});
        assert_eq!(
            render(&report),
            "images of runtimes:\n  --  mine  image /x is missing\n            hint: put it there\n"
        );
    }

    #[test]
    fn what_drivers_have_in_common_is_told_once() {
        let seccomp =
            serde_json::json!({"name": "seccomp", "available": true, "detail": "filter", "hint": null});
        let root = serde_json::json!({"name": "root", "available": true, "detail": "yes", "hint": null});
        let report = serde_json::json!({"reports": [
            {"driver": "native", "usable": true, "capabilities": [seccomp]},
            {"driver": "runc", "usable": true, "capabilities": [root, seccomp]},
            {"driver": "crun", "usable": false, "capabilities": [root, seccomp]},
        ]});
        assert_eq!(
            render(&report),
            "native: usable\n  ok  seccomp  filter\nrunc: usable\n  ok  root  yes\n      the rest as above\ncrun: not usable here\n  ok  root  yes\n"
        );
    }
}
