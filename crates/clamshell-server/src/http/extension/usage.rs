//! `usage` of a session: what it has used in all and what that costs, and what it uses now.

use clamshell_domain::{SandboxStats, SessionUsage};
use serde_json::{Value, json};

use crate::{config::CostRates, time::rfc3339};

/// The sums, with the reasons why one is not known.
pub(super) fn sums(usage: &SessionUsage, created_at_ms: u64, rates: Option<&CostRates>) -> Value {
    let (cpu, memory) =
        (usage.cpu_seconds().map(to_millionths), usage.memory_gb_seconds().map(to_millionths));
    let cost = rates.and_then(|rates| {
        let amount = rates.of(usage)?;
        Some(json!({ "amount": amount, "currency": rates.currency }))
    });
    let mut notes = Vec::new();
    match usage.since_ms {
        None => notes.push("use is counted from the next start of this session on".to_owned()),
        Some(since_ms) if since_ms > created_at_ms => {
            notes.push(format!("what was used before {} is not in it", rfc3339(since_ms)));
        }
        Some(_) => {}
    }
    for (missing, what) in [(usage.cpu_missing, "CPU time"), (usage.memory_missing, "memory")] {
        if missing {
            notes.push(format!(
                "the {what} of this session could not be counted; `clamshell doctor` says why"
            ));
        }
    }
    if rates.is_none() {
        notes.push("what use costs is not set: see [cost] in the configuration".to_owned());
    }
    json!({ "cpuSeconds": cpu, "memoryGbSeconds": memory, "cost": cost, "notes": notes })
}

/// What the compute uses now, beside the sums.
pub(in crate::http) fn add_stats(usage: &mut Value, stats: &SandboxStats) {
    usage["cpuUsageUs"] = json!(stats.cpu_usage_us);
    usage["memoryBytes"] = json!(stats.memory_bytes);
    usage["pids"] = json!(stats.pids);
}

fn to_millionths(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_null_and_says_why() {
        let rates = CostRates { currency: "EUR".to_owned(), vcpu_hour: 3600.0, gb_hour: 0.0 };
        let usage = SessionUsage { cpu_us: 1_500_000, memory_kib_ms: 2_000 << 20, ..SessionUsage::new(5) };
        let expect = json!({
            "cpuSeconds": 1.5, "memoryGbSeconds": 2.0, "cost": {"amount": 1.5, "currency": "EUR"}, "notes": [],
        });
        assert_eq!(sums(&usage, 5, Some(&rates)), expect);
        let check = |usage: &SessionUsage, rates: Option<&CostRates>, expect: (Value, &str)| {
            let view = sums(usage, 4, rates);
            assert_eq!(view["cost"], Value::Null);
            assert_eq!(view["cpuSeconds"], expect.0);
            assert!(view["notes"].to_string().contains(expect.1), "{view}");
        };
        check(&usage, None, (json!(1.5), "[cost]"));
        check(&SessionUsage { cpu_missing: true, ..usage }, Some(&rates), (Value::Null, "CPU time"));
        check(&SessionUsage { memory_missing: true, ..usage }, Some(&rates), (json!(1.5), "memory"));
        check(&SessionUsage::default(), Some(&rates), (Value::Null, "next start"));
        let late = sums(&usage, 4, Some(&rates));
        assert_eq!(late["notes"][0], "what was used before 1970-01-01T00:00:00.005Z is not in it", "{late}");
    }
}
