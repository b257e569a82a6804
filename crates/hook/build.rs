//! With the feature `embedded`, builds this crate's program a second time, static and small, so
//! that other programs can carry it.

use std::error::Error;

use mizzen_inner_build::{InnerBuild, embed, is_asked_for};

fn main() -> Result<(), Box<dyn Error>> {
    for input in [
        "src",
        "Cargo.toml",
        "build.rs",
        "../../Cargo.toml",
        "../../Cargo.lock",
        "../ldcache/src",
    ] {
        println!("cargo::rerun-if-changed={input}");
    }
    if is_asked_for("embedded") {
        let mut inner = InnerBuild::new("rustc", "hook-program")?;
        inner
            .args(["--bin", "mizzen-hook", "--profile", "hook"])
            // Nothing of a host is needed to run it: hosts without glibc are hosts too.
            .args(["--", "-C", "target-feature=+crt-static"]);
        let built = inner
            .carry_out("mizzen-hook", "hook/mizzen-hook")
            .map_err(hint)?;
        embed(&built, "mizzen-hook", "MIZZEN_HOOK_PROGRAM")?;
    }
    Ok(())
}

/// What is missing on most machines where it cannot be built.
fn hint(error: Box<dyn Error>) -> Box<dyn Error> {
    if error.to_string().contains("-lc") {
        return format!(
            "{error}\nmizzen-hook is linked statically, for which the C library's archive is \
             needed: install libc6-dev (Debian, Ubuntu), glibc-static (Fedora, RHEL) or \
             glibc-devel-static (SUSE)"
        )
        .into();
    }
    error
}
