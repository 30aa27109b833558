//! The transports against a real sshd: many hosts at once, awkward logins, the agent's way onto the target.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "sshd/mod.rs"]
mod sshd;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rollbook::{
    base::{Fault, Secret},
    model::{
        event::Mode,
        ids::RunId,
        inventory::{Become, Host, Transport},
        lease::Bid,
        strategy::OnFailure,
    },
    transport::{self, ASK_PASSPHRASE, Asker, Settings, Shared},
    wire::{
        FrameReader, FrameWriter, FromAgent, ToAgent,
        message::{Open, Vigil},
    },
};
use sshd::Sshd;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};

/// Answers each question with the same, and keeps the questions.
struct Answers {
    answer: Option<&'static str>,
    questions: Mutex<Vec<String>>,
}

impl Asker for Answers {
    fn ask(&self, question: &str) -> Option<Secret> {
        self.questions.lock().unwrap().push(question.to_owned());
        self.answer.map(|answer| Secret::new(answer.to_owned()))
    }
}

fn answering(answer: Option<&'static str>) -> (Settings, Arc<Answers>) {
    let asker = Arc::new(Answers { answer, questions: Mutex::default() });
    let settings = Settings {
        connect_timeout: Duration::from_secs(30),
        silence_timeout: Duration::from_secs(30),
        asker: Arc::clone(&asker) as Arc<dyn Asker>,
        agent_program: Some(env!("CARGO_BIN_EXE_rollbook-agent").into()),
        ssh_program: None,
        shared: Shared::default(),
    };
    (settings, asker)
}

fn settings() -> Settings {
    answering(None).0
}

/// A fault with all that it says.
fn told(fault: &Fault) -> String {
    [&[fault.to_string()][..], &fault.causes, &fault.hints].concat().join("\n")
}

/// The cryptography of several sessions runs on several threads at once: one that was built without locks does not
/// outlive this (.cargo/config.toml).
#[test]
#[ignore = "needs sshd: tests/run"]
fn many_hosts_are_served_at_once() {
    let sshd = Sshd::start("");
    let host = Arc::new(sshd.as_host(Transport::Ssh2));
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    threads.block_on(async {
        let settings = settings();
        let mut hosts = JoinSet::new();
        for _ in 0..150 {
            let (host, settings) = (Arc::clone(&host), settings.clone());
            hosts.spawn(async move {
                let mut connection = transport::connect(&host, &settings).await.unwrap();
                for _ in 0..3 {
                    let output = connection.raw("head -c 100000 /dev/zero", Duration::from_secs(60)).await.unwrap();
                    assert_eq!((output.code, output.stdout.bytes), (Some(0), 100_000));
                }
                connection.close().await;
            });
        }
        assert_eq!(hosts.join_all().await.len(), 150);
    });
}

/// As many as sshd turns some of them away.
#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn hosts_that_are_turned_away_come_back() {
    // Newer ones tell of few of them at a lower level.
    let sshd = Sshd::start("MaxStartups 2:60:4\nLogLevel DEBUG3");
    for kind in [Transport::Ssh2, Transport::Openssh] {
        let settings = Settings { connect_timeout: Duration::from_secs(120), ..settings() };
        let host = Arc::new(sshd.as_host(kind));
        let mut hosts = JoinSet::new();
        for _ in 0..24 {
            let (host, settings) = (Arc::clone(&host), settings.clone());
            hosts.spawn(async move {
                let mut connection = transport::connect(&host, &settings).await.map_err(|fault| told(&fault))?;
                let output =
                    connection.raw("echo here", Duration::from_secs(60)).await.map_err(|fault| told(&fault))?;
                connection.close().await;
                Ok::<_, String>(output.stdout.text)
            });
        }
        for outcome in hosts.join_all().await {
            assert_eq!(outcome, Ok("here\n".to_owned()), "{kind:?}");
        }
    }
    let log = sshd.log().to_lowercase();
    let turned_away = log.lines().filter(|line| line.contains("maxstartups") && line.contains("drop")).count();
    assert!(turned_away > 4, "{turned_away} were turned away:\n{}", sshd.log());
}

/// What a host says is not taken for what ssh says (OpenSSH 8.7 and later): a command that has begun is not run again.
#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn a_command_that_speaks_like_ssh_is_run_once() {
    let sshd = Sshd::start("");
    for (kind, name) in [(Transport::Ssh2, "ssh2"), (Transport::Openssh, "openssh")] {
        let ran = sshd.path(name);
        let words = "kex_exchange_identification: Connection closed by remote host";
        let line = format!("echo ran >>{}; echo '{words}' >&2; exit 255", ran.display());
        let mut connection = transport::connect(&sshd.as_host(kind), &settings()).await.unwrap();
        let output = connection.raw(&line, Duration::from_secs(60)).await.unwrap();
        assert_eq!((output.code, output.stderr.text.trim()), (Some(255), words), "{kind:?}");
        assert_eq!(fs::read_to_string(ran).unwrap(), "ran\n", "{kind:?}");
        connection.close().await;
    }
}

/// What a signal ended has no exit code. The system's ssh does not tell which signal it was.
#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn a_command_that_a_signal_ends_has_no_exit_code() {
    let sshd = Sshd::start("");
    for (kind, signal) in [(Transport::Ssh2, Some(9)), (Transport::Openssh, None)] {
        let mut connection = transport::connect(&sshd.as_host(kind), &settings()).await.unwrap();
        let output = connection.raw("kill -9 $$", Duration::from_secs(60)).await.unwrap();
        assert_eq!((output.code, output.signal), (None, signal), "{kind:?}");
        connection.close().await;
    }
}

/// Nobody learns how the command ended then: it is no exit code.
#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn a_line_that_breaks_while_a_command_runs_is_told() {
    let sshd = Sshd::start("");
    for kind in [Transport::Ssh2, Transport::Openssh] {
        let mut connection = transport::connect(&sshd.as_host(kind), &settings()).await.unwrap();
        let fault = connection.raw("kill -9 $PPID; sleep 5", Duration::from_secs(60)).await.unwrap_err();
        assert!(fault.message.contains("the line"), "{kind:?}: {}", told(&fault));
        connection.close().await;
    }
}

/// Starts an agent; whether it had to be put there.
async fn agent(host: &Host, settings: &Settings) -> Result<bool, Fault> {
    let mut connection = transport::connect(host, settings).await?;
    let pipe = connection.agent(&Become::No).await?;
    let installed = pipe.installed;
    drop(pipe);
    connection.close().await;
    Ok(installed)
}

/// Keepalives are answered, and that counts, for longer than a line may be silent.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd: tests/run"]
async fn a_command_that_says_nothing_is_no_silence() {
    let sshd = Sshd::start("");
    let settings = Settings { silence_timeout: Duration::from_secs(6), ..settings() };
    let mut connection = transport::connect(&sshd.as_host(Transport::Ssh2), &settings).await.unwrap();
    let output = connection.raw("sleep 14; echo done", Duration::from_secs(120)).await.unwrap();
    assert_eq!(output.stdout.text, "done\n");
}

/// What libssh2 takes off the socket while another stream is read, nobody is woken for: it must be found all the same,
/// and not with the next keepalive.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs sshd: tests/run"]
async fn no_answer_is_left_lying() {
    const ASKED: usize = 1500;
    let sshd = Arc::new(Sshd::start(""));
    agent(&sshd.as_host(Transport::Ssh2), &settings()).await.unwrap();
    let mut lines = JoinSet::new();
    for number in 0..12 {
        let sshd = Arc::clone(&sshd);
        lines.spawn(async move {
            // A keepalive comes after twenty seconds then.
            let settings = Settings { silence_timeout: Duration::from_secs(60), ..settings() };
            let mut connection = transport::connect(&sshd.as_host(Transport::Ssh2), &settings).await.unwrap();
            let mut pipe = connection.agent(&Become::No).await.unwrap();
            let (mut ask, mut heard) = (FrameWriter::default(), FrameReader::<FromAgent>::default());
            let (mut buffer, mut answers) = (vec![0; 4096], 0);
            // A plan of nothing.
            let bid =
                Bid { run: RunId::from_parts("20261123-051034", 1), operator: "ann".into(), reason: None, job: None };
            let open = ToAgent::Open(Open {
                bid,
                mode: Mode::Plan,
                on_failure: OnFailure::default(),
                witness: None,
                vigil: Vigil::default(),
            });
            for asked in 1..=ASKED {
                let mut frame = Vec::new();
                ask.push(&open, &mut frame);
                ask.push(&ToAgent::Close { witness: None }, &mut frame);
                pipe.writer.write_all(&frame).await.unwrap();
                // Each is sent by itself, and all streams are read with it, while the answer comes.
                for _ in 0..asked % 24 {
                    frame.clear();
                    ask.push(&ToAgent::Ping, &mut frame);
                    pipe.writer.write_all(&frame).await.unwrap();
                    tokio::task::yield_now().await;
                }
                while answers < asked {
                    let read = tokio::time::timeout(Duration::from_secs(18), pipe.reader.read(&mut buffer)).await;
                    let count =
                        read.unwrap_or_else(|_| panic!("line {number}: no answer to question {asked}")).unwrap();
                    heard.feed(&buffer[..count]);
                    while let Some(message) = heard.next_message().unwrap() {
                        answers += usize::from(matches!(message, FromAgent::Closed(_)));
                    }
                }
            }
            drop(pipe);
            connection.close().await;
        });
    }
    lines.join_all().await;
}

/// What its user's login shell does before everything.
fn profile(sshd: &Sshd, text: &str) {
    fs::write(sshd.home().join(".bashrc"), text).unwrap();
}

/// The files of agents below a folder.
fn agents(folder: &Path) -> Vec<fs::Metadata> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| entry.metadata().unwrap()).filter(fs::Metadata::is_file).collect()
}

#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn the_agent_is_put_there_once_whatever_a_login_prints() {
    let banner = tempfile::NamedTempFile::new().unwrap();
    fs::write(banner.path(), "All that you do here is watched.\n".repeat(250)).unwrap();
    let sshd = Sshd::start(&format!("Banner {}", banner.path().display()));
    profile(&sshd, "printf 'Welcome, \\033[31mstranger\\033[0m\\r\\n%.0s' {1..300}; echo complaining {1..900} >&2\n");
    let own = sshd.home().join(".cache/rollbook");
    let (settings, asker) = answering(None);
    assert!(agent(&sshd.as_host(Transport::Ssh2), &settings).await.map_err(|fault| told(&fault)).unwrap());
    let [first] = &agents(&own)[..] else { panic!("one agent is there") };
    assert_eq!(first.permissions().mode() & 0o777, 0o500, "it has checked itself");
    for kind in [Transport::Ssh2, Transport::Openssh] {
        let installed = agent(&sshd.as_host(kind), &settings).await.map_err(|fault| told(&fault)).unwrap();
        assert!(!installed, "{kind:?} finds it");
    }
    assert_eq!(agents(&own)[0].modified().unwrap(), first.modified().unwrap());
    assert_eq!(*asker.questions.lock().unwrap(), [] as [&str; 0]);

    // One that is there, and is damaged, is put anew.
    let file = fs::read_dir(&own).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(&file).unwrap();
    fs::write(&file, [0; 4096]).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(agent(&sshd.as_host(Transport::Ssh2), &settings).await.map_err(|fault| told(&fault)).unwrap());

    profile(&sshd, "yes 'I never end' | head -c 200000\n");
    for kind in [Transport::Ssh2, Transport::Openssh] {
        let fault = agent(&sshd.as_host(kind), &settings).await.unwrap_err();
        assert!(told(&fault).contains("printed more than 64 KiB"), "{kind:?}: {}", told(&fault));
    }
}

#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn any_login_shell_starts_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    // It is by this name that busybox is a shell.
    let ash = folder.path().join("sh");
    std::os::unix::fs::symlink("/bin/busybox", &ash).unwrap();
    for shell in
        ["/bin/sh", "/bin/bash", "/bin/zsh", "/usr/bin/fish", "/bin/tcsh"].map(Path::new).into_iter().chain([&*ash])
    {
        let sshd = Sshd::with_login_shell(shell);
        for kind in [Transport::Ssh2, Transport::Openssh] {
            let (host, settings) = (sshd.as_host(kind), settings());
            let started = async || agent(&host, &settings).await.map_err(|fault| told(&fault));
            assert_eq!(started().await, Ok(true), "{kind:?} puts it there, by {}", shell.display());
            assert_eq!(started().await, Ok(false), "{kind:?} finds it, by {}", shell.display());
            fs::remove_dir_all(sshd.home().join(".cache")).unwrap();
            let mut connection = transport::connect(&host, &settings).await.unwrap();
            let whose = "sh -c 'readlink /proc/$PPID/exe'; exit 0";
            let output = connection.raw(whose, Duration::from_secs(30)).await.unwrap();
            assert_eq!(Path::new(output.stdout.text.trim()), shell.canonicalize().unwrap(), "{kind:?}");
            connection.close().await;
        }
    }
}

#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn a_login_that_runs_nothing_is_told() {
    for (forced, limit_s, reason) in [
        ("/bin/true", 30, "ends each command without a word"),
        ("/bin/sh -c \"echo This account is not available >&2; exit 1\"", 30, "This account is not available"),
        ("/bin/sh -c \"kill -9 $$\"", 30, "could not be started ("),
        ("/bin/sleep 60", 15, "nothing answered within 15 s"),
    ] {
        let sshd = Sshd::start(&format!("ForceCommand {forced}"));
        for kind in [Transport::Ssh2, Transport::Openssh] {
            let settings = Settings { connect_timeout: Duration::from_secs(limit_s), ..settings() };
            let fault = agent(&sshd.as_host(kind), &settings).await.unwrap_err();
            assert!(told(&fault).contains(reason), "{kind:?}, {forced}: {}", told(&fault));
        }
    }
}

#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn keys_with_a_passphrase() {
    let sshd = Sshd::start("");
    let key = sshd.path("locked");
    sshd::generate(&key, "ed25519", "open sesame");
    fs::copy(sshd.path("locked.pub"), sshd.path("authorized_keys")).unwrap();
    let mut host = sshd.as_host(Transport::Ssh2);
    host.connection.key_file = Some(key.to_str().unwrap().to_owned());

    let (settings, asker) = answering(Some("open sesame"));
    transport::connect(&host, &settings).await.map_err(|fault| told(&fault)).unwrap().close().await;
    assert_eq!(*asker.questions.lock().unwrap(), [format!("{ASK_PASSPHRASE} {}", key.display())]);

    for (answer, reason) in
        [(Some("wrong"), "tried: the key"), (None, "it has a passphrase, and nobody could be asked")]
    {
        let fault = transport::connect(&host, &answering(answer).0).await.err().unwrap();
        assert!(told(&fault).contains("permission denied") && told(&fault).contains(reason), "{}", told(&fault));
        assert!(!told(&fault).contains("wrong"), "{}", told(&fault));
    }
}

/// An ssh agent. It ends when this is dropped.
struct SshAgent(Child);

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Nothing lets in but the agent's fifth key: it is found where the inventory says which one is meant.
#[test]
#[ignore = "needs sshd: tests/run"]
fn the_ssh_agents_keys() {
    let sshd = Sshd::start("");
    let socket = sshd.path("agent");
    let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    let _agent = SshAgent(child);
    let until = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        assert!(Instant::now() < until, "ssh-agent does not start");
        thread::sleep(Duration::from_millis(10));
    }
    let add = |key: &Path| {
        let output = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &socket).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    for other in 0..4 {
        let key = sshd.path(&format!("other{other}"));
        sshd::generate(&key, "ed25519", "");
        add(&key);
    }
    add(&sshd.key());
    // Only its public half is left in a file.
    fs::remove_file(sshd.key()).unwrap();
    let named = plan(&sshd, &sshd.host("web1", "ssh2"), &socket);
    assert_eq!(named.0, Some(0), "{}", named.1);
    let unnamed = sshd.host("web1", "ssh2").replace(&format!("key_file: {}, ", sshd.key().display()), "");
    let refused = plan(&sshd, &unnamed, &socket);
    assert_eq!(refused.0, Some(4), "{}", refused.1);
    assert!(refused.1.contains("permission denied") && refused.1.contains("the agent's key"), "{}", refused.1);
}

/// Plans a runbook on a host; exit code and words.
fn plan(sshd: &Sshd, host: &str, agent: &Path) -> (Option<i32>, String) {
    let (inventory, runbook) = (sshd.path("inventory.yml"), sshd.path("runbook.yml"));
    fs::write(&inventory, format!("all:\n  hosts:\n{host}")).unwrap();
    fs::write(&runbook, "runbook: Of a test\nhosts: all\nsteps:\n  - debug: {msg: here}\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_rollbook"))
        .arg("plan")
        .arg(runbook)
        .arg("-i")
        .arg(inventory)
        .env("SSH_AUTH_SOCK", agent)
        .env("HOME", sshd.path(""))
        .env("XDG_STATE_HOME", sshd.path("state"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&words).into_owned())
}
