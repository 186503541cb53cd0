//! `[cost]`: what the use of sessions costs. There are no prices of our own: without this section no cost is known.

use clamshell_domain::SessionUsage;
use serde::Deserialize;

use super::ConfigError;

/// Highest price of an hour that is taken: beyond it, somebody slipped.
const RATE_MAX: f64 = 1e6;

/// What an hour costs.
#[derive(Debug, Clone, PartialEq)]
pub struct CostRates {
    /// Code of the currency, as ISO 4217 has it.
    pub currency: String,
    /// An hour of one processor, of the time that programs really ran.
    pub vcpu_hour: f64,
    /// An hour of one GB (2^30 bytes) of memory.
    pub gb_hour: f64,
}

impl CostRates {
    /// What this use costs, to the millionth; `None` when a part of it is not known.
    pub(crate) fn of(&self, usage: &SessionUsage) -> Option<f64> {
        let cpu = usage.cpu_seconds()? * self.vcpu_hour;
        let memory = usage.memory_gb_seconds()? * self.gb_hour;
        Some(((cpu + memory) / 3600.0 * 1e6).round() / 1e6)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FileCost {
    currency: String,
    vcpu_hour: f64,
    gb_hour: f64,
}

pub(super) fn cost(file: FileCost) -> Result<CostRates, ConfigError> {
    let FileCost { currency, vcpu_hour, gb_hour } = file;
    if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
        let reason = format!("`{currency}` is not a code of three capital letters such as USD");
        return Err(ConfigError::Value { key: "cost.currency", reason });
    }
    for (key, rate) in [("cost.vcpu_hour", vcpu_hour), ("cost.gb_hour", gb_hour)] {
        if !(0.0..=RATE_MAX).contains(&rate) {
            return Err(ConfigError::Value { key, reason: format!("{rate} is not from 0 to {RATE_MAX}") });
        }
    }
    Ok(CostRates { currency, vcpu_hour, gb_hour })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CostRates, String> {
        let file = toml::from_str(text).map_err(|error| error.to_string())?;
        cost(file).map_err(|error| error.to_string())
    }

    #[test]
    fn rates_are_all_there_and_make_sense() {
        let rates = parse("currency = \"EUR\"\nvcpu_hour = 0.09\ngb_hour = 1\n").unwrap();
        assert_eq!(rates, CostRates { currency: "EUR".to_owned(), vcpu_hour: 0.09, gb_hour: 1.0 });
        for bad in [
            "",
            "currency = \"EUR\"\nvcpu_hour = 1",
            "vcpu_hour = 1\ngb_hour = 1",
            "currency = \"eur\"\nvcpu_hour = 1\ngb_hour = 1",
            "currency = \"<b>\"\nvcpu_hour = 1\ngb_hour = 1",
            "currency = \"EUR\"\nvcpu_hour = -1\ngb_hour = 1",
            "currency = \"EUR\"\nvcpu_hour = 1\ngb_hour = nan",
            "currency = \"EUR\"\nvcpu_hour = inf\ngb_hour = 1",
            "currency = \"EUR\"\nvcpu_hour = 1\ngb_hour = 1\nhour = 1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn both_parts_are_needed_for_a_cost() {
        let rates = CostRates { currency: "EUR".to_owned(), vcpu_hour: 3.6, gb_hour: 0.36 };
        let usage = SessionUsage { cpu_us: 2_500_000, memory_kib_ms: 20_000 << 20, ..SessionUsage::new(0) };
        assert_eq!(rates.of(&usage), Some(0.0045));
        assert_eq!(rates.of(&SessionUsage { memory_missing: true, ..usage }), None);
        assert_eq!(rates.of(&SessionUsage { since_ms: None, ..usage }), None);
    }
}
