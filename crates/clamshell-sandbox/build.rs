//! Builds the guest as a static program, to be carried inside this crate.
//!
//! A nested cargo with a target folder of its own, so that it does not wait for the lock of the build it is part
//! of. `CLAMSHELL_GUEST_BINARY` names a ready-made program instead, `CLAMSHELL_GUEST_TARGET_DIR` a
//! target folder that several builds share.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-env-changed=CLAMSHELL_GUEST_BINARY");
    println!("cargo::rerun-if-env-changed=CLAMSHELL_GUEST_TARGET_DIR");
    let path = match env::var_os("CLAMSHELL_GUEST_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build(),
    };
    println!("cargo::rerun-if-changed={}", path.display());
    println!("cargo::rustc-env=CLAMSHELL_GUEST_BINARY_PATH={}", path.display());
}

fn build() -> PathBuf {
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let workspace = manifest_dir.join("../..");
    for part in ["clamshell-guest", "clamshell-term", "clamshell-protocol"] {
        watch(&workspace.join("crates").join(part).join("src"));
        watch(&workspace.join("crates").join(part).join("Cargo.toml"));
    }
    watch(&workspace.join("Cargo.lock"));

    let target = variable("TARGET");
    let out = PathBuf::from(variable("OUT_DIR")).join("guest-target");
    let target_dir = env::var_os("CLAMSHELL_GUEST_TARGET_DIR").map_or(out, PathBuf::from);
    let shipped = variable("PROFILE") == "release";
    // Position-dependent: no relocations means no private copies of pages, and keeper and guest share them all.
    let flags = ["-Ctarget-feature=+crt-static", "-Crelocation-model=static"].join("\x1f");
    let mut command = Command::new(variable("CARGO"));
    command
        .current_dir(&workspace)
        .args(["build", "--quiet", "--release", "--package", "clamshell-guest", "--target", &target])
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        // A clippy run must not put its driver in front of the nested compiler.
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("CLIPPY_ARGS")
        .env_remove("CARGO_MAKEFLAGS")
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", if shipped { "s" } else { "1" })
        .env("CARGO_PROFILE_RELEASE_LTO", if shipped { "true" } else { "off" })
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", if shipped { "1" } else { "16" })
        .env("CARGO_PROFILE_RELEASE_PANIC", "unwind")
        .env("CARGO_PROFILE_RELEASE_STRIP", "true");
    if shipped {
        // What a flood of output goes through is built for speed, the rest for size: below 2 MB altogether.
        for hot in ["vte", "shpool-vterm", "clamshell-term"] {
            command.arg("--config").arg(format!("profile.release.package.{hot}.opt-level=3"));
        }
    }
    let status = command.status().expect("cargo starts: it runs this script");
    assert!(status.success(), "the guest does not build");
    target_dir.join(target).join("release/clamshell-guest")
}

fn variable(name: &str) -> String {
    env::var(name).expect("cargo sets its variables for build scripts")
}

fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}
