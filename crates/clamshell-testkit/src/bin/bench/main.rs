//! `cargo xtask bench sessions` and `hosting`: Clamshell and its peers in turn, in one run, as ratios.
//!
//! Absolute times say more about the machine than about the program; each group therefore interleaves its
//! contestants, so that noise hits all of them alike, and prints p50 and p99 of each with the ratio of the medians.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod commands;
mod create;
mod echo_agent;
mod hosting;
mod memory;
mod peers;
mod start;
mod terminal;

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Numbers of one contestant, in milliseconds.
pub(crate) struct Samples {
    pub(crate) name: String,
    pub(crate) ms: Vec<f64>,
}

impl Samples {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ms: Vec::new() }
    }

    /// Nearest-rank percentile.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.ms.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(rank).copied().unwrap_or(f64::NAN)
    }
}

/// Prints a group: the first contestant is ours.
pub(crate) fn report(title: &str, contestants: &[Samples]) {
    println!("\n## {title}");
    let ours = contestants.first().map_or(f64::NAN, |first| first.percentile(50));
    for one in contestants {
        if one.ms.is_empty() {
            println!("{:<34} not measured", one.name);
            continue;
        }
        let (p50, p99) = (one.percentile(50), one.percentile(99));
        println!(
            "{:<34} p50 {p50:>9.3} ms   p99 {p99:>9.3} ms   n {:>4}   ours/this {:.2}",
            one.name,
            one.ms.len(),
            ours / p50
        );
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().context("usage: bench CLAMSHELL_BINARY [GROUP...]")?;
    if first == "--peer" {
        return peers::serve(&arguments.collect::<Vec<_>>());
    }
    if first == "--agent" {
        let address = arguments.next().context("usage: --agent ADDRESS")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(echo_agent::serve(&address));
    }
    if first == "--hosting" {
        let binary = PathBuf::from(arguments.next().context("usage: --hosting CLAMSHELL_BINARY [GROUP...]")?);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(hosting::run(&binary, &arguments.collect::<Vec<_>>()));
    }
    let binary = PathBuf::from(first);
    let groups: Vec<String> = arguments.collect();
    let wanted = |group: &str| groups.is_empty() || groups.iter().any(|name| name == group);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        println!("# Clamshell sessions, {}", env!("CARGO_PKG_VERSION"));
        if wanted("create") {
            create::run(&binary).await.context("create")?;
        }
        if wanted("commands") {
            commands::run(&binary).await.context("commands")?;
        }
        if wanted("echo") {
            terminal::echo(&binary).await.context("echo")?;
        }
        if wanted("bulk") {
            terminal::bulk(&binary).await.context("bulk")?;
        }
        if wanted("reattach") {
            terminal::reattach(&binary).await.context("reattach")?;
        }
        if wanted("memory") {
            memory::run(&binary).await.context("memory")?;
        }
        if wanted("start") {
            start::run(&binary).await.context("start")?;
        }
        Ok(())
    })
}
