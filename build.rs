//! Embeds the agent program into a release build of the controller, so that one file is all that an operator needs.
//!
//! In a debug build nothing is embedded: the controller then takes the `rollbook-agent` beside itself.

use sha2::Digest;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(rollbook_embedded_agent)");
    println!("cargo::rerun-if-env-changed=ROLLBOOK_AGENT");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rerun-if-changed=Cargo.lock");
    let is_controller = env::var_os("CARGO_FEATURE_CONTROLLER").is_some();
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if env::var_os("CARGO_FEATURE_FAULTS").is_some() {
        assert!(!is_release, "fault points are for tests: they do not belong into a release build");
        list_fault_points();
    }
    if !is_controller {
        return;
    }
    check_openssl_has_threads();
    let agent = match env::var_os("ROLLBOOK_AGENT") {
        Some(given) => PathBuf::from(given),
        None if is_release => build_agent(),
        None => return,
    };
    println!("cargo::rustc-cfg=rollbook_embedded_agent");
    println!("cargo::rustc-env=ROLLBOOK_AGENT_FILE={}", agent.display());
    let bytes = std::fs::read(&agent).unwrap_or_else(|error| panic!("reading {}: {error}", agent.display()));
    println!("cargo::rustc-env=ROLLBOOK_AGENT_DIGEST={:x}", sha2::Sha256::digest(bytes));
}

/// Lists every `fault!("name")` of the sources, for `base::point` and the tests that ask for all of them.
fn list_fault_points() {
    let mut points = Vec::new();
    let mut todo = vec![PathBuf::from("src")];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(
                fs::read_dir(path).expect("the sources can be read").map(|entry| entry.expect("so can each").path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("the sources are text");
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            points.extend(code.split("fault!(\"").skip(1).map(fault_point));
        }
    }
    points.sort();
    points.windows(2).for_each(|pair| assert!(pair[0].0 != pair[1].0, "two fault points are named {}", pair[0].0));
    let lines: String = points.iter().map(|(name, kind)| format!("    ({name:?}, PointKind::{kind}),\n")).collect();
    let text = format!("/// Every fault point.\npub const POINTS: &[(&str, PointKind)] = &[\n{lines}];\n");
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("fault_points.rs");
    fs::write(out, text).expect("the build's folder can be written");
}

/// The name and kind of a point, from what follows `fault!("`.
fn fault_point(rest: &str) -> (String, &'static str) {
    let (name, rest) = rest.split_once('"').expect("a point's name ends on its line");
    let kind = match rest.split_once(')').expect("so does the macro").0.trim_start_matches(',').trim() {
        "" => "Pass",
        "io" => "Io",
        "sync" => "Sync",
        other => panic!("fault point {name}: there is no kind {other:?}"),
    };
    (name.to_owned(), kind)
}

/// A static OpenSSL without its locks would spoil memory as soon as two hosts are served at once: see .cargo/config.toml,
/// whose word a variable of the environment replaces.
fn check_openssl_has_threads() {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let is_static = variable("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    if !is_static || variable("CARGO_CFG_TARGET_ENV") == "musl" {
        return;
    }
    let target = variable("TARGET");
    let side = if variable("HOST") == target { "HOST_CFLAGS" } else { "TARGET_CFLAGS" };
    let own = format!("CFLAGS_{}", target.replace(['-', '.'], "_"));
    let names = ["CFLAGS", side, &own, &format!("CFLAGS_{target}")];
    names.iter().for_each(|name| println!("cargo::rerun-if-env-changed={name}"));
    assert!(
        names.iter().any(|name| variable(name).contains("-DOPENSSL_THREADS")),
        "add -DOPENSSL_THREADS to {side}: without it, OpenSSL is built for one thread (see .cargo/config.toml)"
    );
}

/// What the linker may do to make the program smaller, where it knows how, tried on a program that does nothing: functions of
/// the same code share it, and the table of sections, which nobody needs to run it, is left out.
fn leaner(flags: &[String], target: &str) -> Vec<String> {
    let asked = ["-Clink-arg=-Wl,--icf=all".to_owned(), "-Clink-arg=-Wl,-z,nosectionheader".to_owned()];
    let out = Path::new(&env::var("OUT_DIR").expect("cargo sets OUT_DIR")).join("leaner");
    fs::create_dir_all(&out).expect("the build's folder can be written");
    let source = out.join("nothing.rs");
    fs::write(&source, "fn main() {}").expect("the build's folder can be written");
    let mut rustc = Command::new(env::var("RUSTC").expect("cargo sets RUSTC"));
    rustc.args(flags.iter().chain(&asked)).args(["--target", target, "--out-dir"]).arg(&out).arg(&source);
    match rustc.output() {
        Ok(tried) if tried.status.success() => asked.into(),
        _ => Vec::new(),
    }
}

/// The folders of cargo's sources. Where they lie on this machine does not belong into a program that goes to many others.
fn registries() -> impl Iterator<Item = PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let folders = home.and_then(|home| fs::read_dir(home.join("registry/src")).ok());
    folders.into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()))
}

/// Builds the agent with the `agent` profile, in a target folder of its own (cargo holds the lock on the other one).
///
/// What cargo tells this build script of its own build (the feature `controller` above all) must not reach the agent's,
/// which would then embed an agent in its turn.
fn build_agent() -> PathBuf {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let folder = Path::new(&variable("OUT_DIR")).join("agent");
    let target = variable("TARGET");
    let told = env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_FEATURE_") || name.starts_with("CARGO_CFG_")
    });
    let mut cargo = Command::new(variable("CARGO"));
    for name in told {
        cargo.env_remove(name);
    }
    // docs/decisions/agent-size.md
    let given = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let script = Path::new(&variable("CARGO_MANIFEST_DIR")).join("src/bin/rollbook-agent.ld");
    let mut flags: Vec<String> = given.split('\u{1f}').filter(|flag| !flag.is_empty()).map(str::to_owned).collect();
    flags.extend(["-Crelocation-model=static".to_owned(), format!("-Clink-arg=-Wl,-T,{}", script.display())]);
    flags.extend(registries().map(|folder| format!("--remap-path-prefix={}/=", folder.display())));
    flags.extend(leaner(&flags, &target));
    let status = cargo
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .args(["build", "--locked", "--bin", "rollbook-agent", "--no-default-features", "--profile", "agent"])
        .args(["--target", &target])
        .arg("--target-dir")
        .arg(&folder)
        .current_dir(variable("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo can be started again");
    assert!(status.success(), "building the agent failed: see above");
    folder.join(target).join("agent").join("rollbook-agent")
}
