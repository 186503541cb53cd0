//! The table of attempts. `ESCAPED` is said of an effect that nobody in a sandbox may have; none of them changes
//! anything of the machine, so that all may be tried without walls, too.

mod kernel;
mod mounts;
mod neighbors;
mod processes;

/// How it is known that an attempt would be noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// It succeeds in a sandbox without walls.
    GuardOff,
    /// It succeeds on the machine itself: a sandbox without walls still has namespaces of its own.
    Outside,
    /// It succeeds in the sandbox that it is aimed at.
    Neighbor,
    /// As `GuardOff` or `Outside`, on a machine that has what is attacked.
    Depends(&'static str),
    /// Not at all, and why.
    None(&'static str),
}

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) name: &'static str,
    pub(super) proof: Proof,
    /// Perl, after the words of the vocabulary.
    pub(super) script: &'static str,
}

const fn attempt(name: &'static str, proof: Proof, script: &'static str) -> Attempt {
    Attempt { name, proof, script }
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Attempt> {
    let groups: [&'static [Attempt]; 6] = [
        mounts::MOUNTS,
        mounts::NAMESPACES,
        kernel::CALLS,
        kernel::FILES,
        processes::PROCESSES,
        neighbors::NEIGHBORS,
    ];
    groups.into_iter().flatten()
}
