//! A folder that stands for a host, an agent's program on it with a fault planned, and the line to it.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rollbook::{
    model::event::{Mode, Undone},
    wire::{
        FrameReader, FromAgent, ToAgent,
        message::{Closed, HELLO_MAGIC, Hello, TaskEnd},
    },
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::{
    scenario::{Lines, Scenario},
    tree::{self, Tree},
};

/// No agent works longer than this.
const AGENT_LIFE: Duration = Duration::from_secs(60);

/// Where the hosts of a test run stand, and the agent's program.
pub(crate) struct Ground {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) agent: PathBuf,
}

impl Ground {
    /// In memory where there is a place for it, since thousands of hosts are made.
    pub(crate) fn find() -> Ground {
        let shm = Path::new("/dev/shm");
        let folder = tempfile::Builder::new().prefix("rollbook-crash-").tempdir_in(shm);
        let folder = folder.ok().filter(|folder| takes_attributes(folder.path()));
        let folder = folder.unwrap_or_else(|| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
        let built = PathBuf::from(env!("CARGO_BIN_EXE_rollbook-agent"));
        // An agent hashes its own program when it starts: without symbols that is done sooner.
        let bare = folder.path().join("agent");
        let stripped = Command::new("strip").arg("-o").arg(&bare).arg(&built).status();
        let agent = if stripped.is_ok_and(|status| status.success()) { bare } else { built };
        Ground { folder, agent }
    }

    /// A new host with what a scenario finds.
    pub(crate) fn host(&self, scenario: &Scenario) -> Host<'_> {
        let host = self.bare_host();
        tree::build(&host.root(), scenario.before);
        if let Some(furnish) = scenario.furnish {
            furnish(&host);
        }
        host
    }
}

impl Ground {
    /// A new host on which nothing stands.
    pub(crate) fn bare_host(&self) -> Host<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let folder = tempfile::tempdir_in(self.folder.path()).unwrap();
        let host = Host { ground: self, folder, number: NUMBER.fetch_add(1, Ordering::Relaxed) };
        fs::create_dir(host.root()).unwrap();
        host
    }
}

fn takes_attributes(folder: &Path) -> bool {
    let path = folder.join("probe");
    fs::write(&path, "").is_ok()
        && rustix::fs::lsetxattr(&path, "user.note", b"x", rustix::fs::XattrFlags::empty()).is_ok()
}

/// A folder that stands for a host.
pub(crate) struct Host<'g> {
    ground: &'g Ground,
    folder: tempfile::TempDir,
    /// Which host it is. Its run is called by it: all of them share one machine's processes, and a recovery ends those of its
    /// run, which it knows by the run's name and time.
    pub(crate) number: u32,
}

impl Host<'_> {
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Where the agent keeps its journals.
    pub(crate) fn store(&self) -> PathBuf {
        self.root().join("var/lib/rollbook")
    }

    /// What the commands of a scenario say that they have done.
    pub(crate) fn deeds(&self) -> Vec<String> {
        let text = fs::read_to_string(self.deeds_path()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn deeds_path(&self) -> PathBuf {
        self.folder.path().join("deeds")
    }

    /// All that stands on it, but for the agent's own.
    pub(crate) fn tree(&self) -> Tree {
        let mut tree = Tree::read(&self.root());
        tree.0.retain(|path, _| !path.starts_with("/var/lib/rollbook"));
        tree
    }

    /// Starts an agent. `fault` is a plan, `trace`, or nothing.
    pub(crate) fn start(&self, scenario: &Scenario, fault: Option<&str>) -> Agent {
        let _none_there = fs::remove_file(self.fault_log());
        let mut command = Command::new(&self.ground.agent);
        if let Some(mount) = scenario.mount {
            command = self.mounted(mount);
        }
        self.furnish(&mut command);
        if let Some(fault) = fault {
            command.env("ROLLBOOK_FAULT", fault).env("ROLLBOOK_FAULT_LOG", self.fault_log());
        }
        Agent::start(command)
    }

    /// Starts an agent under a program that watches it.
    pub(crate) fn start_under(&self, mut watcher: Command) -> Agent {
        watcher.arg("--").arg(&self.ground.agent);
        self.furnish(&mut watcher);
        Agent::start(watcher)
    }

    fn furnish(&self, command: &mut Command) {
        command.arg("serve").arg("--root").arg(self.root());
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/").env("XDG_STATE_HOME", "/var/lib");
    }

    /// Where a watcher can write.
    pub(crate) fn watch_log(&self) -> PathBuf {
        self.folder.path().join("watched")
    }

    /// A command that puts one file over another by a mount that ends with it, and becomes the agent.
    fn mounted(&self, (file, over): (&str, &str)) -> Command {
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh"]);
        command.arg(self.root().join(file)).arg(self.root().join(over)).arg(&self.ground.agent);
        command
    }

    fn fault_log(&self) -> PathBuf {
        self.folder.path().join("faults")
    }

    /// The points that were passed, or the fault that fired.
    pub(crate) fn fault_lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.fault_log()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// What an agent said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) hello: Option<Hello>,
    pub(crate) done: u32,
    pub(crate) ends: Vec<TaskEnd>,
    pub(crate) undone: Vec<(String, Undone)>,
    pub(crate) closed: Vec<Closed>,
}

/// An agent that runs, its line, and who listens to it.
pub(crate) struct Agent {
    pid: Pid,
    line: UnixStream,
    listener: JoinHandle<Said>,
}

/// What has become of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Stopped,
    Ended,
    Killed,
}

impl Agent {
    fn start(mut command: Command) -> Agent {
        let (line, theirs) = UnixStream::pair().unwrap();
        let theirs: OwnedFd = theirs.into();
        command.stdin(Stdio::from(theirs.try_clone().unwrap())).stdout(Stdio::from(theirs)).stderr(Stdio::null());
        #[expect(clippy::zombie_processes, reason = "`Agent::wait` waits for it, by a call that sees it stop, too")]
        let child = command.spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        watch().lock().unwrap().insert(pid, Instant::now() + AGENT_LIFE);
        let ear = line.try_clone().unwrap();
        // A listener that has heard the last word hangs up, so that nobody waits for the other.
        let listener = thread::spawn(move || listen(ear));
        Agent { pid, line, listener }
    }

    /// Sends bytes, as many as the agent takes.
    pub(crate) fn send(&self, bytes: Vec<u8>) {
        let mut line = self.line.try_clone().unwrap();
        thread::spawn(move || {
            let _it_may_have_gone = line.write_all(&bytes);
        });
    }

    /// Sends bytes and closes the line behind them.
    pub(crate) fn send_and_hang_up(&self, bytes: Vec<u8>) {
        let mut line = self.line.try_clone().unwrap();
        thread::spawn(move || {
            let _it_may_have_gone = line.write_all(&bytes);
            let _it_may_have_gone = line.shutdown(Shutdown::Write);
        });
    }

    /// Closes the line in both directions.
    pub(crate) fn hang_up(&self) {
        let _it_may_have_gone = self.line.shutdown(Shutdown::Both);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits until it is stopped or gone.
    pub(crate) fn wait(&self) -> Fate {
        let (_, status) = waitpid(Some(self.pid), WaitOptions::UNTRACED).unwrap().expect("it waits");
        if status.stopped() {
            return Fate::Stopped;
        }
        watch().lock().unwrap().remove(&self.pid);
        if status.signaled() { Fate::Killed } else { Fate::Ended }
    }

    /// What it has said; it must have gone.
    pub(crate) fn said(self) -> Said {
        self.listener.join().expect("what an agent says can be read")
    }
}

/// Agents that run, and until when they may.
fn watch() -> &'static Mutex<HashMap<Pid, Instant>> {
    static WATCH: OnceLock<Mutex<HashMap<Pid, Instant>>> = OnceLock::new();
    WATCH.get_or_init(|| {
        thread::spawn(|| {
            loop {
                thread::sleep(Duration::from_secs(1));
                let now = Instant::now();
                for (pid, until) in watch().lock().unwrap().iter() {
                    if *until < now {
                        let _just_gone = kill_process(*pid, Signal::KILL);
                    }
                }
            }
        });
        Mutex::default()
    })
}

/// Listens to the end of the line.
fn listen(mut line: UnixStream) -> Said {
    let hang_up = line.try_clone().unwrap();
    hear(&mut line, |_| {
        let _it_may_have_gone = hang_up.shutdown(Shutdown::Write);
    })
}

/// Hears all that an agent says. Once it has told how a run ended, `heard` is told what was heard so far.
pub(crate) fn hear(line: &mut impl Read, mut heard: impl FnMut(&Said)) -> Said {
    let (mut said, mut reader, mut magic) = (Said::default(), FrameReader::<FromAgent>::default(), Vec::new());
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = line.read(&mut buffer) {
        let mut bytes = &buffer[..n];
        if magic.len() < HELLO_MAGIC.len() {
            let (own, rest) = bytes.split_at(bytes.len().min(HELLO_MAGIC.len() - magic.len()));
            magic.extend_from_slice(own);
            bytes = rest;
            assert!(HELLO_MAGIC.starts_with(&magic), "{magic:?}");
        }
        reader.feed(bytes);
        while let Some(message) = reader.next_message().expect("the agent's frames are whole") {
            take(&mut said, message);
            if !said.closed.is_empty() {
                heard(&said);
            }
        }
    }
    said
}

fn take(said: &mut Said, message: FromAgent) {
    match message {
        FromAgent::Hello(hello) => said.hello = Some(*hello),
        FromAgent::Done { .. } => said.done += 1,
        FromAgent::Ended(end) => said.ends.push(*end),
        FromAgent::Undone { report, how, .. } => said.undone.push((format!("{:?}", report.deed), how)),
        FromAgent::Closed(closed) => said.closed.push(closed),
        _ => {}
    }
}

/// One message after the other, each conversation with an agent of its own.
pub(crate) fn ask(host: &Host<'_>, scenario: &Scenario, fault: Option<&str>, message: &ToAgent) -> Said {
    let agent = host.start(scenario, fault);
    agent.send(Lines::default().with(message).0);
    agent.wait();
    agent.said()
}

/// A run that changes nothing: a host that is free lets it end well.
pub(crate) fn rest(host: &Host<'_>, scenario: &Scenario) -> Said {
    let agent = host.start(scenario, None);
    let open = crate::scenario::open(9, Mode::Apply, &Scenario::REST);
    agent.send(Lines::default().with(&open).with(&ToAgent::Close { witness: None }).0);
    agent.wait();
    agent.said()
}
