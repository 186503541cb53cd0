//! The one table of system calls as an OCI seccomp profile.
//!
//! A runtime compares one argument once per rule, with no "none of these": so conditions are spread
//! over several rules, any of which denies. Where that cannot be said exactly the call is denied
//! altogether.

use clamshell_protocol::seccomp_policy::{ArgumentRule, SYSCALL_RULES, SyscallAnswer};
use serde_json::{Value, json};

/// Values between allowed ones that are written out one by one; families and protocols need a dozen.
const ENUMERATED_MAX: u64 = 64;

/// The profile: everything is allowed that no rule names, on the native calling convention alone.
pub(super) fn profile() -> Value {
    let mut calls = Vec::new();
    for rule in SYSCALL_RULES {
        let errno = match rule.answer {
            SyscallAnswer::NotPermitted => libc::EPERM,
            SyscallAnswer::NotImplemented => libc::ENOSYS,
            SyscallAnswer::NoSuchFamily => libc::EAFNOSUPPORT,
        };
        for comparisons in spread(rule.when) {
            calls.push(json!({
                "names": rule.names,
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": errno,
                "args": comparisons.iter().copied().map(Comparison::to_json).collect::<Vec<_>>(),
            }));
        }
    }
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "SCMP_ARCH_AARCH64",
        _ => "SCMP_ARCH_X86_64",
    };
    // Other conventions (i386, x32) are not listed: such a call kills the process.
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": [architecture], "syscalls": calls })
}

/// One comparison of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    /// `argument & mask == value`.
    Masked { argument: u8, mask: u32, value: u32 },
    /// `argument > value`, on all 64 bits.
    Above { argument: u8, value: u32 },
}

impl Comparison {
    fn to_json(self) -> Value {
        match self {
            Self::Masked { argument, mask, value } => {
                json!({ "index": argument, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
            }
            Self::Above { argument, value } => {
                json!({ "index": argument, "value": value, "op": "SCMP_CMP_GT" })
            }
        }
    }

    #[cfg(test)]
    fn holds(self, arguments: [u64; 6]) -> bool {
        match self {
            Self::Masked { argument, mask, value } => {
                arguments[usize::from(argument)] & u64::from(mask) == u64::from(value)
            }
            Self::Above { argument, value } => arguments[usize::from(argument)] > u64::from(value),
        }
    }
}

/// Alternatives, each a list of comparisons that must all hold.
fn spread(when: &[ArgumentRule]) -> Vec<Vec<Comparison>> {
    let mut alternatives = vec![Vec::new()];
    for rule in when {
        let Some(choices) = choices(*rule) else {
            return vec![Vec::new()];
        };
        alternatives = alternatives
            .iter()
            .flat_map(|before: &Vec<Comparison>| {
                choices.iter().map(|choice| before.iter().copied().chain([*choice]).collect())
            })
            .collect();
    }
    alternatives
}

/// Comparisons of which one must hold; `None` when it cannot be said.
fn choices(rule: ArgumentRule) -> Option<Vec<Comparison>> {
    match rule {
        ArgumentRule::AnyBit { argument, bits } => {
            Some(bits_of(bits).map(|bit| Comparison::Masked { argument, mask: bit, value: bit }).collect())
        }
        ArgumentRule::Equals { argument, value } => {
            Some(vec![Comparison::Masked { argument, mask: u32::MAX, value }])
        }
        ArgumentRule::NotIn { argument, values } => {
            none_in_gaps(argument, values).or_else(|| none_of_flags(argument, values))
        }
    }
}

/// Every value between the allowed ones, and all above them.
fn none_in_gaps(argument: u8, values: &[u32]) -> Option<Vec<Comparison>> {
    let highest = *values.iter().max()?;
    if u64::from(highest) > ENUMERATED_MAX {
        return None;
    }
    let gaps = (0..highest).filter(|value| !values.contains(value));
    let mut choices: Vec<_> =
        gaps.map(|value| Comparison::Masked { argument, mask: u32::MAX, value }).collect();
    choices.push(Comparison::Above { argument, value: highest });
    Some(choices)
}

/// For flag words where every mix of some flags is allowed, and the word of all ones.
///
/// A word is refused when it has a forbidden bit and is not all ones. Then, going round the
/// forbidden bits, one is set whose neighbor is clear; or all are set and an allowed bit is clear.
fn none_of_flags(argument: u8, values: &[u32]) -> Option<Vec<Comparison>> {
    let plain: Vec<u32> = values.iter().copied().filter(|value| *value != u32::MAX).collect();
    let allowed = plain.iter().fold(0, |all, value| all | value);
    let is_every_mix = plain.len() == 1_usize << allowed.count_ones().min(16);
    if plain.len() == values.len() || !is_every_mix {
        return None;
    }
    let forbidden: Vec<u32> = bits_of(!allowed).collect();
    let first = *forbidden.first()?;
    let neighbors = forbidden.iter().skip(1).copied().chain([first]);
    let set_and_clear = |set: u32, clear: u32| Comparison::Masked { argument, mask: set | clear, value: set };
    let ring = forbidden.iter().zip(neighbors).map(|(set, clear)| set_and_clear(*set, clear));
    Some(ring.chain(bits_of(allowed).map(|clear| set_and_clear(first, clear))).collect())
}

fn bits_of(word: u32) -> impl Iterator<Item = u32> {
    (0..32).map(|shift| 1 << shift).filter(move |bit| word & bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denies(when: &[ArgumentRule], arguments: [u64; 6]) -> bool {
        spread(when).iter().any(|all| all.iter().all(|comparison| comparison.holds(arguments)))
    }

    fn means(when: &[ArgumentRule], arguments: [u64; 6]) -> bool {
        let low = |argument: u8| u32::try_from(arguments[usize::from(argument)] & 0xffff_ffff).unwrap();
        when.iter().all(|rule| match *rule {
            ArgumentRule::AnyBit { argument, bits } => low(argument) & bits != 0,
            ArgumentRule::Equals { argument, value } => low(argument) == value,
            ArgumentRule::NotIn { argument, values } => !values.contains(&low(argument)),
        })
    }

    #[test]
    fn the_profile_denies_what_the_table_denies() {
        let mut words: Vec<u64> = (0..70).collect();
        words.extend([
            0x5412,
            0x541c,
            0x5413,
            0x2_0000,
            0x2_0008,
            0x4_0000,
            0xffff_ffff,
            0xffff_fff7,
            0x8000_0000,
        ]);
        words.extend((0..32).map(|shift| 0xffff_ffff ^ (1 << shift)));
        words.extend((0..32).map(|shift| 1 << shift));
        for rule in SYSCALL_RULES {
            for first in &words {
                for third in [0, 1, 4, 5, 16, 0xffff] {
                    for arguments in [
                        [*first, 0, third, 0, 0, 0],
                        [1, *first, third, 0, 0, 0],
                        [16, *first, third, 0, 0, 0],
                    ] {
                        let names = rule.names;
                        assert_eq!(
                            denies(rule.when, arguments),
                            means(rule.when, arguments),
                            "{names:?} {arguments:x?}"
                        );
                        // Bits that the kernel cuts off open nothing.
                        let high = arguments.map(|argument| argument | 7 << 40);
                        assert!(denies(rule.when, high) >= means(rule.when, high), "{names:?} {high:x?}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_said_is_denied_altogether() {
        let odd = [ArgumentRule::NotIn { argument: 0, values: &[0, 1 << 20] }];
        assert_eq!(spread(&odd), [vec![]]);
    }
}
