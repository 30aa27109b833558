//! Packages are brought to wanted states: one transaction of apt for all of them, forward and back.

use std::collections::BTreeMap;

use crate::{
    model::{
        change::{Change, CommandSpec},
        event::Output,
        state::{PackageState, Resource, State},
    },
    resources::{
        Halt,
        package::{
            apt::{self, Transaction},
            archive::{self, Leaving},
            dpkg::{self, Database},
            plan, words,
        },
        program,
    },
    target::Tools,
};

/// A package and the states between which it goes.
struct Goal<'a> {
    name: &'a str,
    before: &'a PackageState,
    after: &'a PackageState,
}

impl<'a> Goal<'a> {
    fn of(change: &'a Change) -> Self {
        match change {
            Change {
                resource: Resource::Package(name),
                before: State::Package(before),
                after: State::Package(after),
            } => Goal { name, before, after },
            other => other.resource.is_misplaced(),
        }
    }
}

/// Brings packages to their states. What is there already is left alone, so that a transaction that was cut short can
/// be carried on.
pub(super) fn carry_out(tools: &Tools<'_>, changes: &[Change]) -> Result<(), Halt> {
    let goals: Vec<Goal<'_>> = changes.iter().map(Goal::of).collect();
    finish_interrupted(tools, &goals)?;
    release(tools, &goals)?;
    let transaction = transaction(tools, &goals)?;
    let settings = archive::settings_to_come(tools, &coming(tools, &goals)?);
    if !transaction.is_empty() {
        let transaction = rehearse(tools, &goals, transaction)?;
        archive::keep(tools, &leaving(tools, &goals)?)?;
        settings.bring(tools)?;
        run(tools, &transaction.call(), "apt-get")?;
    }
    settings.tidy(tools, goals.iter().map(|goal| goal.name))?;
    purge(tools, &goals)?;
    mark(tools, &goals)?;
    prove(tools, &goals)
}

/// The packages that go, in the versions that are there.
fn leaving<'g>(tools: &Tools<'_>, goals: &'g [Goal<'_>]) -> Result<Vec<Leaving<'g>>, Halt> {
    let database = Database::read(tools.probe())?;
    let leaves = |goal: &'g Goal<'_>| {
        let version = goal.before.version.as_deref().filter(|old| goal.after.version.as_deref() != Some(*old))?;
        let is_there = database.state(goal.name).version.as_deref() == Some(version);
        let purged = goal.after.version.is_none() && !goal.after.residue;
        is_there.then_some(Leaving { name: goal.name, version, purged })
    };
    Ok(goals.iter().filter_map(leaves).collect())
}

/// The packages of which nothing is there and that are to be installed.
fn coming<'g>(tools: &Tools<'_>, goals: &'g [Goal<'_>]) -> Result<Vec<&'g str>, Halt> {
    let database = Database::read(tools.probe())?;
    let comes = |goal: &&Goal<'_>| goal.after.version.is_some() && database.state(goal.name) == PackageState::default();
    Ok(goals.iter().filter(comes).map(|goal| goal.name).collect())
}

/// Has dpkg finish what it was at when it was killed, where that was our own work. Its failure is no failure of ours:
/// what is broken is about to be put right.
fn finish_interrupted(tools: &Tools<'_>, goals: &[Goal<'_>]) -> Result<(), Halt> {
    let interrupted = dpkg::interrupted(tools.probe())?;
    let is_ours = |name: &String| goals.iter().any(|goal| goal.name.split(':').next() == Some(name));
    if interrupted.is_empty() || !interrupted.iter().all(is_ours) {
        return Ok(());
    }
    let call = apt::configure_pending();
    tools.run(&call).map(drop).map_err(|error| Halt::io("running dpkg --configure --pending", &error))
}

/// Releases packages whose version changes and that were known to be held.
fn release(tools: &Tools<'_>, goals: &[Goal<'_>]) -> Result<(), Halt> {
    let database = Database::read(tools.probe())?;
    let mut held = Vec::new();
    for goal in goals {
        let found = database.state(goal.name);
        let stays = found.version == goal.after.version && found.unfinished.is_none();
        match found.held {
            true if !stays && !goal.before.held => {
                return Err(Halt::Failed(format!("{} has been put on hold since this was planned", goal.name)));
            }
            true if !stays => held.push(goal.name),
            _ => {}
        }
    }
    set_mark(tools, "unhold", &held)
}

/// What apt has to do.
fn transaction(tools: &Tools<'_>, goals: &[Goal<'_>]) -> Result<Transaction, Halt> {
    let database = Database::read(tools.probe())?;
    let mut transaction = Transaction { purge: true, ..Transaction::default() };
    let mut halves = Vec::new();
    for goal in goals {
        let found = database.state(goal.name);
        match (&found, &goal.after.version) {
            (PackageState { version: Some(old), .. }, Some(new)) if old == new => {}
            (_, Some(new)) => transaction.install.push(apt::word(goal.name, Some(new))),
            (PackageState { version: None, unfinished: None, .. }, None) => {}
            (PackageState { unfinished: Some(word), .. }, None) if word == "half-installed" => halves.push(goal.name),
            (_, None) => {
                transaction.remove.push(goal.name.to_owned());
                transaction.purge &= !goal.after.residue;
            }
        }
    }
    if !halves.is_empty() {
        run(tools, &apt::force_remove(&halves), "dpkg")?;
    }
    Ok(transaction)
}

/// Asks apt what the transaction would do, and refuses it if that is more than was planned. Versions that the
/// repositories no longer have are looked for on the host.
fn rehearse(tools: &Tools<'_>, goals: &[Goal<'_>], mut transaction: Transaction) -> Result<Transaction, Halt> {
    let ask = |transaction: &Transaction| {
        let call = apt::rehearsal(transaction);
        tools.probe().ask(&call).map_err(|error| Halt::io("running apt-get --simulate", &error))
    };
    let mut output = ask(&transaction)?;
    if !output.succeeded() && from_archive(tools, goals, &mut transaction) {
        output = ask(&transaction)?;
    }
    if !output.succeeded() {
        return Err(unavailable(goals, &transaction, &output));
    }
    let after: BTreeMap<&str, Option<&String>> =
        goals.iter().map(|goal| (goal.name, goal.after.version.as_ref())).collect();
    for (name, step) in plan::read(&output)?.steps {
        match after.get(name.as_str()) {
            Some(wanted) if *wanted == step.after.as_ref() => {}
            _ => {
                let what = match (&step.before, &step.after) {
                    (_, None) => "remove it".to_owned(),
                    (None, Some(new)) => format!("install its version {new}"),
                    (Some(old), Some(new)) => format!("bring it from {old} to {new}"),
                };
                return Err(Halt::Failed(format!(
                    "nothing was done: {name} is not part of the plan like this, but apt would now {what}; plan again"
                )));
            }
        }
    }
    Ok(transaction)
}

/// Takes package files of the host's own where it has them. Whether there are any.
fn from_archive(tools: &Tools<'_>, goals: &[Goal<'_>], transaction: &mut Transaction) -> bool {
    let mut found = false;
    for goal in goals {
        let Some(version) = &goal.after.version else { continue };
        let word = apt::word(goal.name, Some(version));
        if let Some(place) = transaction.install.iter_mut().find(|wanted| **wanted == word)
            && let Some(file) = archive::find(tools, goal.name, version)
        {
            *place = file;
            found = true;
        }
    }
    found
}

fn unavailable(goals: &[Goal<'_>], transaction: &Transaction, output: &Output) -> Halt {
    let not_found = |goal: &&Goal<'_>| {
        let version = goal.after.version.as_deref().unwrap_or_default();
        transaction.install.contains(&apt::word(goal.name, Some(version)))
            && output.stderr.text.contains(&format!("Version '{version}' for '{}' was not found", goal.name))
    };
    match goals.iter().find(not_found) {
        Some(goal) => Halt::Failed(format!(
            "{} {} can no longer be had: no repository of this host has it, nor has {}; put the package file there",
            goal.name,
            goal.after.version.as_deref().unwrap_or_default(),
            apt::ARCHIVES
        )),
        None => Halt::Failed(format!("apt cannot do this: {}", program::last_words(output))),
    }
}

/// Removes configuration files that removed packages left.
fn purge(tools: &Tools<'_>, goals: &[Goal<'_>]) -> Result<(), Halt> {
    let database = Database::read(tools.probe())?;
    let is_left =
        |goal: &&Goal<'_>| goal.after.version.is_none() && !goal.after.residue && database.state(goal.name).residue;
    let remove: Vec<String> = goals.iter().filter(is_left).map(|goal| goal.name.to_owned()).collect();
    if remove.is_empty() {
        return Ok(());
    }
    run(tools, &Transaction { remove, purge: true, ..Transaction::default() }.call(), "apt-get")
}

/// Sets what is not a version: automatic, held.
fn mark(tools: &Tools<'_>, goals: &[Goal<'_>]) -> Result<(), Halt> {
    let database = Database::read(tools.probe())?;
    let (mut auto, mut manual, mut hold, mut unhold) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Goal { name, after, .. } in goals {
        let found = database.state(name);
        match (found.automatic, after.automatic) {
            (false, true) if found.version.is_some() => auto.push(*name),
            (true, false) => manual.push(*name),
            _ => {}
        }
        match (found.held, after.held) {
            (false, true) => hold.push(*name),
            (true, false) => unhold.push(*name),
            _ => {}
        }
    }
    [("auto", auto), ("manual", manual), ("hold", hold), ("unhold", unhold)]
        .iter()
        .try_for_each(|(how, names)| set_mark(tools, how, names))
}

fn set_mark(tools: &Tools<'_>, how: &str, names: &[&str]) -> Result<(), Halt> {
    if names.is_empty() { Ok(()) } else { run(tools, &apt::mark(how, names), "apt-mark") }
}

/// Looks whether everything is as it should be.
fn prove(tools: &Tools<'_>, goals: &[Goal<'_>]) -> Result<(), Halt> {
    let database = Database::read(tools.probe())?;
    for goal in goals {
        let found = database.state(goal.name);
        if let Some(difference) = words::differences(&found, goal.after).first() {
            return Err(Halt::Failed(format!(
                "apt ended without a failure, but {} is still {} and not {}",
                goal.name, difference.before, difference.after
            )));
        }
    }
    Ok(())
}

fn run(tools: &Tools<'_>, call: &CommandSpec, program: &str) -> Result<(), Halt> {
    let output = tools.run(call).map_err(|error| Halt::io(format_args!("running {program}"), &error))?;
    if output.succeeded() {
        return Ok(());
    }
    let said = &output.stderr.text;
    let hint = if said.contains("dpkg was interrupted") {
        "; dpkg was interrupted earlier: run \"dpkg --configure -a\" on the host, then try again"
    } else if said.contains("Could not get lock") || said.contains("Unable to acquire the dpkg frontend lock") {
        "; another package manager has been at work for two minutes; try again when it is done"
    } else if said.contains("Failed to fetch") {
        "; if the lists of packages are old, say update_cache: true"
    } else {
        ""
    };
    Err(Halt::Failed(format!("{program} failed{hint}; {}", program::last_words(&output))))
}
