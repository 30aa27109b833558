//! Our verdict on a host key against the system's ssh's, on the same known_hosts file and a real sshd.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "sshd/mod.rs"]
mod sshd;

use std::{fs, path::Path, process::Command, time::Duration};

use rollbook::{
    base::Secret,
    model::inventory::Transport,
    transport::{self, Asker, Settings, Shared},
};
use sshd::Sshd;

struct Nobody;

impl Asker for Nobody {
    fn ask(&self, _question: &str) -> Option<Secret> {
        None
    }
}

fn settings() -> Settings {
    Settings {
        connect_timeout: Duration::from_secs(20),
        silence_timeout: Duration::from_secs(30),
        asker: std::sync::Arc::new(Nobody),
        agent_program: None,
        ssh_program: None,
        shared: Shared::default(),
    }
}

/// Whether the system's ssh lets itself be led to the host.
fn system_trusts(sshd: &Sshd, name: &str, file: &Path) -> bool {
    let output = Command::new("ssh")
        .args(["-F/dev/null", "-T", "-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oConnectTimeout=10"])
        .args(["-oUpdateHostKeys=no", "-oGlobalKnownHostsFile=/dev/null", "-oIdentitiesOnly=yes"])
        .arg(format!("-oUserKnownHostsFile={}", file.display()))
        .arg(format!("-oPort={}", sshd.port))
        .arg("-i")
        .arg(sshd.key())
        .args(["-l", &sshd::own_name(), "--", name, "true"])
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    let refused =
        words.contains("Host key verification failed") || words.contains("REVOKED") || words.contains("revoked");
    assert!(output.status.success() || refused, "ssh failed in another way: {words}");
    output.status.success()
}

/// Whether we do, and what we say if not.
async fn we_trust(sshd: &Sshd, name: &str, file: &Path) -> Result<(), String> {
    let mut host = sshd.as_host(Transport::Ssh2);
    host.connection.address = Some(name.to_owned());
    host.connection.known_hosts = Some(vec![file.to_str().unwrap().to_owned()]);
    match transport::connect(&host, &settings()).await {
        Ok(connection) => {
            connection.close().await;
            Ok(())
        }
        Err(fault) => {
            assert_eq!(fault.kind, rollbook::base::FaultKind::Unreachable, "{fault}");
            assert!(fault.message.to_lowercase().contains("host key"), "refused for another reason: {fault}");
            Err(fault.to_string())
        }
    }
}

/// Lines of a known_hosts file: `PORT` is the host's, and `<NAME>` a key. A key's text has no angle brackets, so that it
/// cannot be taken for the name of another.
fn filled(form: &str, sshd: &Sshd, keys: &[(&str, String)]) -> String {
    let form = form.replace("PORT", &sshd.port.to_string());
    keys.iter().fold(form, |form, (name, key)| form.replace(&format!("<{name}>"), key))
}

/// A known_hosts file whose names `ssh-keygen -H` has hashed.
fn hashed(folder: &Path, text: &str) -> String {
    let file = folder.join("to_hash");
    fs::write(&file, text).unwrap();
    let status = Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file).output().unwrap().status;
    assert!(status.success());
    fs::read_to_string(&file).unwrap()
}

#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn verdicts_are_those_of_the_systems_ssh() {
    let sshd = Sshd::with(&["ed25519", "ecdsa", "rsa"], "");
    let folder = tempfile::tempdir().unwrap();
    sshd::generate(&folder.path().join("other"), "ed25519", "");
    let other = fs::read_to_string(folder.path().join("other.pub")).unwrap();
    let other = other.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let mut keys = vec![("OTHER", other)];
    keys.extend(
        [("ED25519", "ed25519"), ("ECDSA", "ecdsa"), ("RSA", "rsa")].map(|(name, kind)| (name, sshd.host_key(kind))),
    );
    let fill = |form: &str| filled(form, &sshd, &keys);
    let hashed = |form: &str| hashed(folder.path(), &fill(form));
    let forms: Vec<(&str, String, bool)> = vec![
        ("plain", fill("[localhost]:PORT <ED25519>"), true),
        ("another type than the first", fill("[localhost]:PORT <RSA>"), true),
        ("ECDSA only", fill("[localhost]:PORT <ECDSA>"), true),
        ("a list of names", fill("[web9]:PORT,[localhost]:PORT,web8 <ED25519> a comment"), true),
        ("upper case", fill("[LOCALHOST]:PORT <ED25519>"), true),
        ("hashed", hashed("[localhost]:PORT <ED25519>\n"), true),
        ("hashed, another key", hashed("[localhost]:PORT <OTHER>\n"), false),
        ("hashed, another host", hashed("[web9]:PORT <ED25519>\n"), false),
        ("a wildcard", fill("[local*]:PORT <ED25519>"), true),
        ("a wildcard for a letter", fill("[localhos?]:PORT <ED25519>"), true),
        ("everything", fill("* <ED25519>"), true),
        ("a negated name after a wildcard", fill("*,![localhost]:PORT,!localhost <ED25519>"), false),
        ("a negated name with its port only", fill("*,![localhost]:PORT <ED25519>"), true),
        ("a negated name alone", fill("!web9 <ED25519>"), false),
        ("a name without its port", fill("localhost <ED25519>"), true),
        ("a name without its port, another key", fill("localhost <OTHER>"), false),
        ("another port", fill("[localhost]:1 <ED25519>"), false),
        ("nothing", String::new(), false),
        ("another host", fill("[web9]:PORT <ED25519>"), false),
        ("a changed key", fill("[localhost]:PORT <OTHER>"), false),
        ("a changed key beside the right one", fill("[localhost]:PORT <OTHER>\n[localhost]:PORT <ED25519>"), true),
        ("a revoked key", fill("@revoked * <ED25519>\n[localhost]:PORT <ED25519>"), false),
        (
            "a revoked key behind the right one",
            fill("[localhost]:PORT <ED25519>\n@revoked [localhost]:PORT <ED25519>"),
            false,
        ),
        ("another key revoked", fill("@revoked * <OTHER>\n[localhost]:PORT <ED25519>"), true),
        ("a revoked key of another host", fill("@revoked web9 <ED25519>\n[localhost]:PORT <ED25519>"), true),
        ("a certificate authority alone", fill("@cert-authority * <ED25519>"), false),
        ("a certificate authority beside the key", fill("@cert-authority * <OTHER>\n[localhost]:PORT <ED25519>"), true),
        ("an unknown marker", fill("@trusted [localhost]:PORT <ED25519>"), false),
        (
            "comments, empty and malformed lines",
            fill(
                "# a comment\n\n[localhost]:PORT\n[localhost]:PORT ssh-ed25519 zzz\nno\n \t[localhost]:PORT <ED25519>\r",
            ),
            true,
        ),
        ("a malformed key alone", fill("[localhost]:PORT ssh-ed25519 AAAA"), false),
        ("a type that is not the key's", fill("[localhost]:PORT <ED25519>").replace("ssh-ed25519", "ssh-rsa"), false),
        ("a commented line", fill("#[localhost]:PORT <ED25519>"), false),
        ("the address, where the name was used", fill("[127.0.0.1]:PORT <ED25519>"), false),
    ];
    assert_eq!(disagreements(&sshd, &folder.path().join("known_hosts"), &forms).await, "");
}

/// Whether a host is trusted: by the system's ssh, and by us.
#[derive(Clone, Copy, Debug)]
struct Expected {
    theirs: bool,
    ours: bool,
}

impl From<bool> for Expected {
    fn from(both: bool) -> Self {
        Expected { theirs: both, ours: both }
    }
}

/// The forms on which ssh or we decide otherwise than is expected.
async fn disagreements(sshd: &Sshd, file: &Path, forms: &[(&str, String, impl Into<Expected> + Copy)]) -> String {
    let mut wrong = Vec::new();
    for (form, text, expected) in forms {
        let expected = (*expected).into();
        fs::write(file, text).unwrap();
        let theirs = system_trusts(sshd, "localhost", file);
        let ours = we_trust(sshd, "localhost", file).await;
        if theirs != expected.theirs || ours.is_ok() != expected.ours {
            wrong.push(format!("{form}: ssh {theirs}, we {ours:?}, expected {expected:?}"));
        }
    }
    wrong.join("\n")
}

/// An sshd whose host key of a type was signed by an authority (a key pair's file), with more options of `ssh-keygen`.
fn certified(authority: &Path, kind: &str, options: &[&str]) -> Sshd {
    Sshd::prepared(&[kind], |folder| {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-I", "a host", "-s"]).arg(authority).args(options);
        assert!(command.arg(folder.join(format!("host_{kind}.pub"))).status().unwrap().success());
        format!("HostCertificate {}/host_{kind}-cert.pub", folder.display())
    })
}

/// The public half of a key pair: type and base64.
fn public_half(file: &Path) -> String {
    let text = fs::read_to_string(file.with_extension("pub")).unwrap();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn verdicts_on_certificates_are_those_of_the_systems_ssh() {
    let folder = tempfile::tempdir().unwrap();
    let (file, authority) = (folder.path().join("known_hosts"), folder.path().join("authority"));
    let other = folder.path().join("other");
    [&authority, &other].iter().for_each(|key| sshd::generate(key, "ed25519", ""));
    let sshd = certified(&authority, "ed25519", &["-h", "-n", "web9,localhost"]);
    let keys = [("KEY", sshd.host_key("ed25519")), ("CA", public_half(&authority)), ("OTHER", public_half(&other))];
    let fill = |form: &str| filled(form, &sshd, &keys);
    let forms = [
        ("its authority", fill("@cert-authority [localhost]:PORT <CA>"), true),
        ("its authority, for everything", fill("@cert-authority * <CA>"), true),
        ("its authority, for a name without a port", fill("@cert-authority local* <CA>"), true),
        ("its authority, for another host", fill("@cert-authority web9 <CA>"), false),
        ("another authority", fill("@cert-authority * <OTHER>"), false),
        ("another authority, and the plain key", fill("@cert-authority * <OTHER>\n[localhost]:PORT <KEY>"), true),
        (
            "another authority, and another plain key",
            fill("@cert-authority * <OTHER>\n[localhost]:PORT <OTHER>"),
            false,
        ),
        ("its authority, and another plain key", fill("@cert-authority * <CA>\n[localhost]:PORT <OTHER>"), true),
        ("the authority as a plain key", fill("[localhost]:PORT <CA>"), false),
        ("the plain key only", fill("[localhost]:PORT <KEY>"), true),
        ("its authority revoked", fill("@cert-authority * <CA>\n@revoked * <CA>"), false),
        ("its authority revoked, and the plain key", fill("@revoked * <CA>\n[localhost]:PORT <KEY>"), false),
        ("its key revoked", fill("@cert-authority * <CA>\n@revoked * <KEY>"), false),
        ("another key revoked", fill("@cert-authority * <CA>\n@revoked * <OTHER>"), true),
    ];
    assert_eq!(disagreements(&sshd, &file, &forms).await, "");
}

#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn certificates_are_judged_as_by_the_systems_ssh() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    // Older ones take one without names for every host, and no patterns.
    let is_new = sshd::version() >= (10, 3);
    let [yes, no] = [true, false].map(Expected::from);
    let cases: [(&str, &str, &[&str], Expected); 11] = [
        ("ed25519", "ed25519", &["-h", "-n", "*host"], Expected { theirs: is_new, ours: true }),
        ("ed25519", "ed25519", &["-h", "-n", "web*,local?os?"], Expected { theirs: is_new, ours: true }),
        ("ed25519", "ed25519", &["-h", "-n", "LOCAL*"], no),
        ("ed25519", "ed25519", &["-h"], Expected { theirs: !is_new, ours: false }),
        ("ed25519", "ed25519", &["-h", "-n", "web9"], no),
        ("ed25519", "ed25519", &["-h", "-n", "localhost", "-V", "-2d:-1d"], no),
        ("ed25519", "ed25519", &["-h", "-n", "localhost", "-V", "+1d:+2d"], no),
        ("ed25519", "ed25519", &["-h", "-n", "localhost", "-O", "critical:odd=yes"], no),
        ("ed25519", "ed25519", &["-n", "localhost"], no),
        ("rsa", "ecdsa", &["-h", "-n", "localhost"], yes),
        ("ecdsa", "rsa", &["-h", "-n", "localhost"], yes),
    ];
    for (at, (of_authority, of_host, options, expected)) in cases.into_iter().enumerate() {
        let authority = folder.path().join(format!("authority{at}"));
        sshd::generate(&authority, of_authority, "");
        let sshd = certified(&authority, of_host, options);
        let form = format!("{of_host} signed by {of_authority} with {options:?}");
        let text = format!("@cert-authority * {}\n", public_half(&authority));
        assert_eq!(disagreements(&sshd, &file, &[(&form, text, expected)]).await, "");
    }
}

#[tokio::test]
#[ignore = "needs sshd: tests/run"]
async fn a_refusal_names_key_file_line_and_command() {
    let sshd = Sshd::start("");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    let fingerprint = {
        let output = Command::new("ssh-keygen").arg("-lf").arg(sshd.path("host_ed25519.pub")).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    fs::write(&file, "").unwrap();
    let unknown = we_trust(&sshd, "127.0.0.1", &file).await.unwrap_err();
    assert!(unknown.contains("is not known") && unknown.contains(&fingerprint), "{unknown}");

    // The command that it names, run by a shell, trusts the host.
    let mut host = sshd.as_host(Transport::Ssh2);
    host.connection.known_hosts = Some(vec![file.to_str().unwrap().to_owned()]);
    let fault = transport::connect(&host, &settings()).await.err().unwrap();
    let command = fault.hints.iter().find_map(|hint| hint.strip_prefix("then trust it: ")).unwrap();
    assert!(Command::new("sh").args(["-c", command]).output().unwrap().status.success(), "{command}");
    let connection = transport::connect(&host, &settings()).await.unwrap();
    assert_eq!(connection.host_key, Some(fingerprint));
    connection.close().await;

    sshd::generate(&folder.path().join("other"), "ed25519", "");
    let other = fs::read_to_string(folder.path().join("other.pub")).unwrap();
    fs::write(&file, format!("# first\n[127.0.0.1]:{} {other}", sshd.port)).unwrap();
    let changed = we_trust(&sshd, "127.0.0.1", &file).await.unwrap_err();
    assert!(changed.contains("HAS CHANGED") && changed.contains(&format!("{}:2:", file.display())), "{changed}");
}
