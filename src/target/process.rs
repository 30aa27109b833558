//! Programs: started from argument vectors in a process group of their own, both streams drained, output capped
//! and counted, ended by deadline or cancellation.

mod streams;

use std::{
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

pub use streams::{Kept, TAKEN_BYTES};

use crate::{
    model::{change::CommandSpec, event::Output},
    target::process::streams::Streams,
};

/// How long a process group may take to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);

/// The pauses between two looks at a program that runs and has nothing more to say: they grow. The longest one is the
/// delay of a cancellation, whatever it says.
const PAUSE_MIN: Duration = Duration::from_micros(100);
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// How long the streams are read on after the program's end, for a child that kept them open.
const LINGER: Duration = Duration::from_millis(500);

/// Whether programs may run, and until when. Clones share it: the thread that hears a cancellation has one, and
/// whoever runs a program has another.
#[derive(Clone, Debug, Default)]
pub struct Running(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cancelled: AtomicBool,
    lost: AtomicBool,
    held: AtomicBool,
    shielded: AtomicBool,
    heard: AtomicBool,
    idle: Arc<AtomicBool>,
    told_to_end: Arc<AtomicBool>,
    times: Mutex<Times>,
}

#[derive(Debug, Default)]
struct Times {
    deadline: Option<Instant>,
    grace: Duration,
    alone_until: Option<Instant>,
}

impl Running {
    /// Ends what runs now; nothing is started any more until [`Running::resume`]. The way back is not cancelled.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
    }

    /// The controller is lost: no deed begins any more. What runs may go on until the grace is over.
    pub fn lose(&self) {
        if !self.0.lost.swap(true, Ordering::SeqCst) {
            let mut times = self.times();
            times.alone_until = Some(Instant::now() + times.grace);
        }
    }

    /// How long a run whose controller is lost waits until one is back.
    pub fn set_grace(&self, grace: Duration) {
        self.times().grace = grace;
    }

    /// When the grace of a run that has lost its controller is over.
    pub fn alone_until(&self) -> Option<Instant> {
        self.times().alone_until
    }

    /// The time to wait for a controller is over.
    pub fn give_up(&self) {
        self.times().alone_until = Some(Instant::now());
    }

    /// The controller has said something.
    pub fn hear(&self) {
        self.0.heard.store(true, Ordering::SeqCst);
    }

    /// Whether the controller has said something since this was asked last.
    pub fn was_heard(&self) -> bool {
        self.0.heard.swap(false, Ordering::SeqCst)
    }

    /// Set by a signal that asks the agent to end.
    pub fn told_to_end(&self) -> &Arc<AtomicBool> {
        &self.0.told_to_end
    }

    /// Set while no run is open: then a signal ends the agent at once.
    pub fn idle(&self) -> &Arc<AtomicBool> {
        &self.0.idle
    }

    /// The operator stops the run: as [`Running::lose`].
    pub fn stop(&self) {
        self.0.held.store(true, Ordering::SeqCst);
    }

    /// The way back begins: programs start again, and neither a cancellation nor a lost controller ends them.
    pub fn shield(&self) {
        self.0.shielded.store(true, Ordering::SeqCst);
        self.set_deadline(None);
    }

    /// The way back of a block has ended; the run goes on.
    pub fn unshield(&self) {
        self.0.shielded.store(false, Ordering::SeqCst);
    }

    /// A new plan or apply begins.
    pub fn resume(&self) {
        self.0.cancelled.store(false, Ordering::SeqCst);
        self.0.held.store(false, Ordering::SeqCst);
        self.0.shielded.store(false, Ordering::SeqCst);
        self.set_deadline(None);
    }

    /// Whether the run was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst) && !self.is_shielded()
    }

    /// Whether the controller is lost.
    pub fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::SeqCst) && !self.is_shielded()
    }

    /// Whether the operator has stopped the run.
    pub fn is_held(&self) -> bool {
        self.0.held.load(Ordering::SeqCst) && !self.is_shielded()
    }

    /// Whether to stop at the next opportunity: cancelled, stopped, or lost.
    pub fn is_stopped(&self) -> bool {
        self.is_cancelled() || self.is_held() || self.is_lost()
    }

    /// Whether the controller is lost, on the way back too.
    pub fn is_alone(&self) -> bool {
        self.0.lost.load(Ordering::SeqCst)
    }

    /// When every program must have ended, whatever its own limit.
    pub fn set_deadline(&self, deadline: Option<Instant>) {
        self.times().deadline = deadline;
    }

    /// Whether the deadline has passed.
    pub fn is_late(&self) -> bool {
        self.times().deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Whether the controller is lost, and the time to wait for one is over.
    fn is_given_up(&self) -> bool {
        self.is_lost() && self.alone_until().is_some_and(|until| Instant::now() >= until)
    }

    fn is_shielded(&self) -> bool {
        self.0.shielded.load(Ordering::SeqCst)
    }

    fn times(&self) -> std::sync::MutexGuard<'_, Times> {
        self.0.times.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// How much it takes to end a program before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A cancellation ends it; so does a lost controller, when the time to wait for one is over.
    Loose,
    /// A cancellation ends it; a lost controller does not: it brings a resource to its end.
    Firm,
}

/// Runs a command to its end. An error means that it could not be started.
pub fn run(spec: &CommandSpec, running: &Running) -> io::Result<Output> {
    run_held(spec, running, Hold::Loose)
}

/// As [`run`], with a say in what ends it early.
pub fn run_held(spec: &CommandSpec, running: &Running, hold: Hold) -> io::Result<Output> {
    if ends(running, hold) {
        return Err(io::Error::new(io::ErrorKind::Interrupted, "cancelled"));
    }
    if running.is_late() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "the step's time is over"));
    }
    let mut child = start(spec)?;
    let group = Pid::from_child(&child);
    let mut streams = Streams::of(&mut child, spec.stdin.as_deref().unwrap_or_default());
    let limit = spec.timeout_s.map(Duration::from_secs);
    let (status, timed_out) = wait(&mut child, group, limit, running, hold, &mut streams)?;
    let [stdout, stderr] = streams.finish(Instant::now() + LINGER);
    Ok(Output { code: status.code(), signal: status.signal(), timed_out, stdout, stderr })
}

fn start(spec: &CommandSpec) -> io::Result<Child> {
    let (program, arguments) = spec.argv.split_first().ok_or_else(|| io::Error::other("an empty command"))?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| is_kept(name)));
    command.env("LC_ALL", "C.UTF-8").envs(&spec.environment);
    if let Some(folder) = &spec.chdir {
        command.current_dir(folder);
    }
    command.stdin(if spec.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// The few variables that pass through from the agent's own environment.
fn is_kept(name: &std::ffi::OsStr) -> bool {
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "TZ"]
        .iter()
        .any(|kept| name == *kept)
}

fn ends(running: &Running, hold: Hold) -> bool {
    running.is_cancelled() || hold == Hold::Loose && (running.is_given_up() || running.is_held())
}

fn wait(
    child: &mut Child,
    group: Pid,
    limit: Option<Duration>,
    running: &Running,
    hold: Hold,
    streams: &mut Streams<'_>,
) -> io::Result<(ExitStatus, bool)> {
    let started = Instant::now();
    let mut pause = PAUSE_MIN;
    let mut ended_at: Option<Instant> = None;
    let mut timed_out = false;
    loop {
        if let Some(status) = child.try_wait()? {
            if ended_at.is_some() {
                // Those of the group that did not heed SIGTERM while their leader did.
                let _already_gone = kill_process_group(group, Signal::KILL);
            }
            return Ok((status, timed_out));
        }
        let late = running.is_late() || limit.is_some_and(|limit| started.elapsed() >= limit);
        match ended_at {
            None if late || ends(running, hold) => {
                timed_out = late;
                ended_at = Some(Instant::now());
                let _already_gone = kill_process_group(group, Signal::TERM);
            }
            Some(at) if at.elapsed() > GRACE => {
                let _already_gone = kill_process_group(group, Signal::KILL);
            }
            _ => {}
        }
        if streams.is_open() {
            // Its end closes them, and ends the wait.
            streams.pass();
        } else {
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> CommandSpec {
        CommandSpec { argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(), ..Default::default() }
    }

    #[test]
    fn both_streams_are_drained_capped_and_counted() {
        let script =
            "head -c 300000 /dev/zero | tr '\\0' e >&2; head -c 300000 /dev/zero | tr '\\0' o; echo end; exit 3";
        let output = run(&sh(script), &Running::default()).unwrap();
        assert_eq!((output.code, output.stdout.bytes, output.stderr.bytes), (Some(3), 300_004, 300_000));
        assert!(output.stdout.cut && output.stdout.text.ends_with("oend\n"));
        assert!(output.stdout.text.len() < 64 * 1024 + 100);
    }

    #[test]
    fn long_input_and_output_do_not_wait_for_each_other() {
        let input = "line\n".repeat(200_000);
        let spec = CommandSpec { stdin: Some(input.clone()), ..sh("tee /dev/stderr") };
        let output = run(&spec, &Running::default()).unwrap();
        assert_eq!([output.stdout.bytes, output.stderr.bytes], [input.len() as u64; 2]);
        let spec = CommandSpec { timeout_s: Some(60), stdin: Some(input), ..sh("exec <&-; echo I do not read") };
        assert_eq!(run(&spec, &Running::default()).unwrap().stdout.text, "I do not read\n");
        let folder = tempfile::tempdir().unwrap();
        let chdir = Some(folder.path().to_string_lossy().into());
        let silent = CommandSpec { argv: sh("exec >&- 2>&-; cat > read").argv, chdir, ..spec };
        assert!(run(&silent, &Running::default()).unwrap().succeeded());
        assert_eq!(std::fs::metadata(folder.path().join("read")).unwrap().len(), 1_000_000);
    }

    #[test]
    fn who_says_no_more_is_waited_for_and_who_is_left_behind_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let said = |script: &str| {
            let output = run(
                &CommandSpec { chdir: Some(folder.path().to_string_lossy().into()), ..sh(script) },
                &Running::default(),
            );
            output.unwrap().stdout.text
        };
        assert_eq!(said("echo now; exec >&- 2>&-; sleep 0.3; echo done > end"), "now\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("end")).unwrap(), "done\n");
        // It talks on when nobody listens any more, and lives.
        assert_eq!(said("(sleep 3; echo late; echo late > late) & echo now"), "now\n");
        let late = folder.path().join("late");
        assert!(!late.exists(), "who was left behind was waited for");
        let until = Instant::now() + Duration::from_secs(30);
        while !late.exists() {
            assert!(Instant::now() < until, "who was left behind has died");
            thread::sleep(PAUSE_MAX);
        }
    }

    #[test]
    fn a_deadline_ends_the_whole_group() {
        let spec = CommandSpec { timeout_s: Some(1), ..sh("sleep 60 & sleep 60") };
        let started = Instant::now();
        let output = run(&spec, &Running::default()).unwrap();
        assert!(output.timed_out && !output.succeeded());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn cancelling_ends_it_and_nothing_starts_after() {
        let running = Running::default();
        let other = running.clone();
        let canceller = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            other.cancel();
        });
        let output = run(&sh("sleep 60"), &running).unwrap();
        canceller.join().unwrap();
        assert_eq!(output.signal, Some(15));
        assert!(run(&sh("true"), &running).is_err());
        running.resume();
        assert!(run(&sh("true"), &running).unwrap().succeeded());
    }

    #[test]
    fn a_lost_controller_ends_a_command_and_not_what_brings_a_resource_about() {
        let running = Running::default();
        running.set_grace(Duration::from_secs(2));
        running.lose();
        assert!(run(&sh("true"), &running).unwrap().succeeded(), "it may go on for a while");
        assert_eq!(run(&sh("sleep 60"), &running).unwrap().signal, Some(15));
        assert!(run(&sh("true"), &running).is_err());
        assert!(run_held(&sh("true"), &running, Hold::Firm).unwrap().succeeded());
        running.cancel();
        assert!(run_held(&sh("true"), &running, Hold::Firm).is_err());
        running.shield();
        running.cancel();
        assert!(run(&sh("true"), &running).unwrap().succeeded(), "the way back is not cancelled");
    }

    #[test]
    fn nothing_begins_after_the_deadline() {
        let running = Running::default();
        running.set_deadline(Some(Instant::now() + Duration::from_millis(100)));
        assert!(run(&sh("sleep 60"), &running).unwrap().timed_out);
        assert!(run(&sh("true"), &running).is_err());
    }

    #[test]
    fn input_is_fed_and_the_environment_is_clean() {
        let spec = CommandSpec {
            stdin: Some("hello".into()),
            environment: [("GREETING".to_owned(), "hi".to_owned())].into(),
            ..sh("cat; echo \" $GREETING ${CARGO_PKG_NAME-clean}\"")
        };
        assert_eq!(run(&spec, &Running::default()).unwrap().stdout.text, "hello hi clean\n");
    }
}
