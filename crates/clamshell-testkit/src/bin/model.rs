//! A scripted model as a program; see `clamshell_testkit::model`.
//!
//! usage: clamshell-model [--listen ADDRESS] [--script FILE]
//!
//! Prints the address that it listens on as one line, and serves until it is killed.

#![expect(clippy::print_stdout, reason = "a command-line program")]

use anyhow::{Context, Result, bail};
use clamshell_testkit::model::{Listen, Rule, Script, ScriptedModel};

fn main() -> Result<()> {
    let mut listen = "127.0.0.1:0".to_owned();
    let mut script = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().with_context(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--listen" => listen = value,
            "--script" => script = Some(value),
            _ => bail!("usage: clamshell-model [--listen ADDRESS] [--script FILE]"),
        }
    }
    let script = match script {
        Some(file) => {
            let text = std::fs::read(&file).with_context(|| format!("cannot read {file}"))?;
            Script::parse(&text).with_context(|| format!("cannot use {file}"))?
        }
        None => Script::new(vec![Rule::say("Hello from the script.")])?,
    };
    let model =
        ScriptedModel::start(script, Listen::Tcp(listen.parse().context("--listen takes HOST:PORT")?))?;
    println!("{}", model.address()?);
    loop {
        std::thread::park();
    }
}
