//! The operator's side: an inventory, a record, and runs of the program.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use regex::Regex;
use rollbook::{
    model::event::Stamped,
    record::{RunFilter, Store},
};
use rustix::process::{Pid, Signal, kill_process};

use super::{Host, Kind, until};

/// How long a run may take: one that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(600);

/// A controller with a record, a home and an inventory of its own, in the network of its hosts.
pub(crate) struct Controller<'a> {
    folder: tempfile::TempDir,
    near: &'a Host,
    environment: Vec<(String, String)>,
}

impl<'a> Controller<'a> {
    /// Reaches hosts as each kind is reached: as root by `ssh2`; hardened ones as `ops`, who has a password for sudo;
    /// those behind a bastion by the system's ssh.
    pub(crate) fn of(hosts: &[&'a Host]) -> Self {
        Controller::with(hosts, |_| String::new())
    }

    /// The same, with more words in each host's entry (`, port: 22`).
    pub(crate) fn with(hosts: &[&'a Host], more: impl Fn(&Host) -> String) -> Self {
        let lines: String = hosts.iter().map(|host| entry(&host.name, host, &more(host))).collect();
        Controller::of_inventory(hosts[0], &lines)
    }

    /// One whose inventory has these lines below `hosts:`.
    pub(crate) fn of_inventory(near: &'a Host, lines: &str) -> Self {
        let controller = Controller { folder: tempfile::tempdir().unwrap(), near, environment: Vec::new() };
        fs::write(controller.path("inventory.yml"), format!("all:\n  hosts:\n{lines}")).unwrap();
        controller
    }

    /// The same with one more variable in its environment.
    pub(crate) fn where_is(mut self, variable: &str, value: &str) -> Self {
        self.environment.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// Any other command of the program, with a variable less.
    pub(crate) fn rollbook_without(&self, variable: &str, words: &[&str]) -> Run {
        let mut command = self.command();
        command.env_remove(variable).args(words);
        Running::of(command).wait()
    }

    /// A file of its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a runbook for all hosts; where it is.
    pub(crate) fn runbook(&self, steps: &str) -> PathBuf {
        let path = self.path("runbook.yml");
        fs::write(&path, format!("runbook: Of a test\nhosts: all\nsteps:\n{steps}")).unwrap();
        path
    }

    /// Applies a runbook.
    pub(crate) fn apply(&self, runbook: impl AsRef<Path>, more: &[&str]) -> Run {
        self.run("apply", runbook.as_ref(), &[&["--yes"], more].concat())
    }

    /// Plans a runbook.
    pub(crate) fn plan(&self, runbook: impl AsRef<Path>, more: &[&str]) -> Run {
        self.run("plan", runbook.as_ref(), more)
    }

    fn run(&self, verb: &str, runbook: &Path, more: &[&str]) -> Run {
        self.start(verb, runbook, more).wait()
    }

    /// Any other command of the program.
    pub(crate) fn rollbook(&self, words: &[&str]) -> Run {
        let mut command = self.command();
        command.args(words);
        Running::of(command).wait()
    }

    /// Starts a run, and goes on.
    pub(crate) fn start(&self, verb: &str, runbook: impl AsRef<Path>, more: &[&str]) -> Running {
        let mut command = self.command();
        command.arg(verb).arg(runbook.as_ref()).arg("-i").arg(self.path("inventory.yml")).args(more);
        if !more.contains(&"--connect-timeout") {
            // Many hosts on one machine: a busy one is not a dead one.
            command.args(["--connect-timeout", "60"]);
        }
        Running::of(command)
    }

    /// The program, in the fleet's network. `exec` hands its own process on, so a signal to it reaches the program.
    fn command(&self) -> Command {
        let mut command = self.near.nearby(env!("CARGO_BIN_EXE_rollbook"));
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("ROLLBOOK_STORE", self.path("record.db"))
            .env("ROLLBOOK_AGENT_PROGRAM", agent())
            .env("NO_COLOR", "1")
            .env_remove("SSH_AUTH_SOCK")
            .envs(self.environment.iter().map(|(variable, value)| (variable, value)));
        command
    }

    /// What the record has of the first run of a runbook, if there is one.
    pub(crate) fn events_of_first(&self, runbook: &str) -> Vec<Stamped> {
        let store = Store::open_read_only(&self.path("record.db")).unwrap();
        let runs = store.runs(&RunFilter::default()).unwrap().runs;
        let found = runs.iter().rev().find(|run| run.opened.runbook.name == runbook);
        found.map(|run| store.events_of(&run.run).unwrap()).unwrap_or_default()
    }

    /// What the record has of a run: `2`, or an id.
    pub(crate) fn events(&self, run: &str) -> Vec<Stamped> {
        let store = Store::open_read_only(&self.path("record.db")).unwrap();
        store.events_of(&store.find(run).unwrap()).unwrap()
    }
}

/// A host's line of an inventory, under that name.
pub(crate) fn entry(name: &str, host: &Host, more: &str) -> String {
    let how = match host.kind {
        Kind::Inner => format!("transport: openssh, user: root, ssh_args: [-F, {}]", host.ssh_config.display()),
        Kind::Hardened => format!("{}, user: ops, become: true, become_password: ops", by_key(host)),
        _ => format!("{}, user: root", by_key(host)),
    };
    format!("    {name}: {{{how}{more}}}\n")
}

fn by_key(host: &Host) -> String {
    let Host { address, key, known_hosts, .. } = host;
    format!("address: {address}, key_file: {}, known_hosts: {}", key.display(), known_hosts.display())
}

/// The agent without what only a debugger needs: it goes to every host.
fn agent() -> &'static Path {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    AGENT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let new = folder.join(format!("agent-{}", std::process::id()));
        let mut strip = Command::new("strip");
        let status = strip.arg("-o").arg(&new).arg(env!("CARGO_BIN_EXE_rollbook-agent")).status();
        assert!(status.expect("strip is installed, as cc is").success());
        let agent = folder.join("agent");
        fs::rename(new, &agent).unwrap();
        agent
    })
}

/// A run that goes on. It is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    began: Instant,
    _output: tempfile::TempDir,
    out: PathBuf,
}

impl Running {
    fn of(mut command: Command) -> Running {
        // Into files: nothing waits for a reader.
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let file = fs::File::create(&out).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file).stdin(Stdio::null());
        Running { child: command.spawn().unwrap(), began: Instant::now(), _output: folder, out }
    }

    /// What it has printed so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap()).into_owned()
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills the program without a chance to say goodbye.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Stops the program where it is.
    pub(crate) fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // `timeout` is the child; the program is its only one.
        let pid = self.child.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        for program in children.split_whitespace() {
            kill_process(Pid::from_raw(program.parse().unwrap()).unwrap(), signal).unwrap();
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Run {
        let mut code = None;
        until("the run ends", LIMIT, || {
            code = self.child.try_wait().unwrap();
            code.is_some()
        });
        Run { code: code.and_then(|status| status.code()), said: self.said(), took: self.began.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_over = self.child.kill();
        let _already_over = self.child.wait();
    }
}

/// How a run ended.
#[must_use = "look at how it ended: `ended`"]
#[derive(Debug)]
pub(crate) struct Run {
    code: Option<i32>,
    said: String,
    pub(crate) took: Duration,
}

/// What a run that ended as it should had said.
pub(crate) struct Said(pub(crate) String);

impl Run {
    /// The exit code, unless a signal ended it.
    pub(crate) fn code(&self) -> Option<i32> {
        self.code
    }

    /// What it had said.
    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    /// It must have ended with this exit code.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Said {
        assert_eq!(self.code, Some(code), "{}", self.said);
        Said(self.said)
    }
}

impl Said {
    /// It must have said this.
    #[track_caller]
    pub(crate) fn with(&self, words: &str) -> &Self {
        assert!(self.0.contains(words), "without {words:?}:\n{}", self.0);
        self
    }

    /// It must be what `tests/snapshots/NAME.txt` has, but for what differs from run to run. `ROLLBOOK_BLESS=1` writes
    /// that file anew.
    #[track_caller]
    pub(crate) fn is(&self, name: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.txt"));
        let said = normalised(&self.0);
        if std::env::var_os("ROLLBOOK_BLESS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &said).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            said == expected,
            "{}:\n{}",
            path.display(),
            similar::TextDiff::from_lines(&expected, &said).unified_diff()
        );
    }
}

/// A text without what differs from run to run: temporary paths, addresses, run ids, times, digests, fingerprints.
pub(crate) fn normalised(text: &str) -> String {
    const RULES: [(&str, &str); 6] = [
        (r"\b20\d{6}-\d{6}-[0-9a-z]+\b|\b20\d{6}-\d{4,6}\b", "RUN"),
        (r"\b20\d\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?", "TIME"),
        (r"\b\d+(\.\d+)? ?(ms|s)\b", "TOOK"),
        (r"\b10\.7[78](\.\d+){2}\b", "ADDRESS"),
        (r"SHA256:[A-Za-z0-9+/]{43}|\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "DIGEST"),
        (r"/tmp/\.tmp[A-Za-z0-9]+", "TMP"),
    ];
    RULES.iter().fold(text.to_owned(), |text, (rule, word)| Regex::new(rule).unwrap().replace_all(&text, *word).into())
}
