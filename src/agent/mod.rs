//! The program on the target: it plans, journals, converges, verifies, and undoes.
//!
//! One thread does everything, one thing after the other; another one listens, so that a cancellation and the loss of
//! the controller reach what runs at once.

mod alone;
mod block;
mod deeds;
mod facts;
mod flight;
mod handlers;
mod inbox;
mod life;
mod pipe;
mod program;
mod recover;
mod report;
mod serve;
mod session;
mod undo;
mod unwind;
mod validate;
mod voice;
mod watch;
mod way;

use std::{fs, io, os::fd::AsFd, path::Path, process::ExitCode};

use crate::{
    base::Digest,
    target::{Probe, journal::Store, process::Running},
};

pub use facts::gather;
pub use serve::serve;

/// What an agent works on.
#[derive(Debug)]
pub struct Machine {
    /// The machine: the root folder, what is true of it, and the handle that ends what runs.
    pub probe: Probe,
    /// Where journals are kept.
    pub store: Store,
    /// SHA-256 of the agent's own program.
    pub digest: Digest,
}

impl Machine {
    /// The machine below `root`: `/` for the one that this process runs on, or a folder that stands for one.
    pub fn below(root: &Path) -> io::Result<Machine> {
        let facts = facts::gather(root);
        let state_dir = root.join(facts.state_dir.trim_start_matches('/'));
        if facts::is_public(&facts.state_dir) {
            Store::claim_folder(&state_dir)?;
        }
        let mut store = Store::at(state_dir.join("rollbook"));
        if root == Path::new("/") && rustix::process::geteuid().is_root() {
            store = store.settled_at_boot(root, &facts.init);
        }
        Ok(Machine { probe: Probe::new(root, facts, Running::default()), store, digest: program::known_digest()? })
    }
}

/// The agent as a program: `serve` (the default) speaks over stdin and stdout, `--digest` and `--version` tell and end.
/// `settle` undoes what was cut off, as at boot. `serve --root DIR` works on a folder that stands for a machine, its journals included.
pub fn main_from_args(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let arguments: Vec<String> = arguments.into_iter().collect();
    let said = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["serve"] => serve_stdio(Path::new("/")),
        ["serve", "--root", root] => serve_stdio(Path::new(root)),
        ["settle"] => Machine::below(Path::new("/")).and_then(|machine| recover::at_boot(&machine)),
        ["--digest"] => program::own_digest().and_then(|digest| tell(&digest.to_string())),
        ["--version"] => tell(concat!("rollbook-agent ", env!("CARGO_PKG_VERSION"))),
        _ => Err(io::Error::other("usage: rollbook-agent [serve [--root DIR] | settle | --digest | --version]")),
    };
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _nobody_listens =
                io::Write::write_all(&mut io::stderr(), format!("rollbook-agent: {error}\n").as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn tell(line: &str) -> io::Result<()> {
    io::Write::write_all(&mut io::stdout(), format!("{line}\n").as_bytes())
}

fn serve_stdio(root: &Path) -> io::Result<()> {
    // Away from the terminal: neither its Ctrl-C nor its end is meant for the agent. It fails where the agent leads a
    // process group already, as under sshd, and then there is no terminal.
    let _already_leads = rustix::process::setsid();
    let machine = Machine::below(root)?;
    hear_signals(machine.probe.running())?;
    // For what commands make, as after a login; what the agent makes has modes of its own.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Commands without a folder of their own start at home, or at the root where there is none.
    let home = machine.probe.facts().home.clone();
    std::env::set_current_dir(home).or_else(|_| std::env::set_current_dir("/"))?;
    // The library's own stdout would cut what is said at each line's end.
    let file = fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let pipe = pipe::Pipe::new(file, machine.probe.running().clone());
    serve(io::stdin(), pipe, &machine)
}

/// SIGTERM and SIGHUP come when the session ends: an agent that has a run open goes on without it, any other ends.
fn hear_signals(running: &Running) -> io::Result<()> {
    use signal_hook::{
        consts::{SIGHUP, SIGTERM},
        flag,
    };
    running.idle().store(true, std::sync::atomic::Ordering::SeqCst);
    for signal in [SIGTERM, SIGHUP] {
        flag::register_conditional_default(signal, running.idle().clone())?;
        flag::register(signal, running.told_to_end().clone())?;
    }
    Ok(())
}
