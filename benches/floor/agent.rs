//! The floor with a program on the host: it does the standard work in one process, and promises nothing. No journal, no
//! sync, no second look.
//!
//! It reads a plan: lines of `VERB MODE PATH<tab>ARGUMENT`, and behind the line of a `put` as many bytes as its argument
//! says. It prints how much it has changed. `benches/run` starts it over ssh.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on stops; what it prints is its answer"
)]

use std::{
    fs::{self, Permissions},
    io::{self, BufRead, Read},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

fn main() -> io::Result<()> {
    if std::env::args().any(|argument| argument == "--bench") {
        println!("floor-agent is started by benches/run");
        return Ok(());
    }
    let mut plan = io::stdin().lock();
    let mut line = String::new();
    let mut changed = 0;
    while plan.read_line(&mut line)? > 0 {
        let (step, argument) = line.trim_end_matches('\n').split_once('\t').unwrap();
        let mut words = step.splitn(3, ' ');
        let mut word = || words.next().unwrap();
        let (verb, mode, path) = (word(), u32::from_str_radix(word(), 8).unwrap(), Path::new(word()));
        changed += i32::from(match verb {
            "at" => std::env::set_current_dir(path).map(|()| false)?,
            "directory" => directory(path, mode)?,
            "put" => {
                let mut content = vec![0; argument.parse().unwrap()];
                plan.read_exact(&mut content)?;
                put(path, mode, &content)?
            }
            "line" => one_line(path, mode, argument)?,
            "link" => link(path, argument)?,
            "command" => !path.exists() && Command::new("sh").args(["-c", argument]).status()?.success(),
            "mode" => set_mode(path, mode)?,
            "remove" => fs::remove_file(path).is_ok(),
            _ => return Err(io::Error::other(format!("what is {verb}?"))),
        });
        line.clear();
    }
    println!("changed={changed}");
    Ok(())
}

fn directory(path: &Path, mode: u32) -> io::Result<bool> {
    let is_new = !path.is_dir();
    if is_new {
        fs::create_dir(path)?;
    }
    Ok(set_mode(path, mode)? || is_new)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<bool> {
    let differs = fs::metadata(path)?.permissions().mode() & 0o7777 != mode;
    if differs {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(differs)
}

fn put(path: &Path, mode: u32, content: &[u8]) -> io::Result<bool> {
    let same_size = fs::metadata(path).is_ok_and(|found| found.len() == content.len() as u64);
    if same_size && fs::read(path)? == content {
        return set_mode(path, mode);
    }
    let beside = path.with_extension("new");
    fs::write(&beside, content)?;
    fs::set_permissions(&beside, Permissions::from_mode(mode))?;
    fs::rename(&beside, path)?;
    Ok(true)
}

/// `key = value`: takes the place of the line with the same key, or goes to the end.
fn one_line(path: &Path, mode: u32, wanted: &str) -> io::Result<bool> {
    let old = fs::read_to_string(path).unwrap_or_default();
    let key = wanted.split_inclusive('=').next().unwrap();
    let mut lines: Vec<&str> = old.lines().map(|line| if line.starts_with(key) { wanted } else { line }).collect();
    if !lines.contains(&wanted) {
        lines.push(wanted);
    }
    let new = lines.join("\n") + "\n";
    if new == old { Ok(false) } else { put(path, mode, new.as_bytes()) }
}

fn link(path: &Path, target: &str) -> io::Result<bool> {
    if fs::read_link(path).is_ok_and(|found| found == Path::new(target)) {
        return Ok(false);
    }
    let _nothing_there = fs::remove_file(path);
    symlink(target, path).map(|()| true)
}
