//! Floods: commands that print without end, and `ssh2` against servers that are none. Each must end in time, and cost
//! no memory; so nothing else runs in this process.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "sshd/mod.rs"]
mod sshd;

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rollbook::{
    base::{Fault, Secret},
    model::inventory::{Host, Transport},
    transport::{self, Asker, Settings, Shared},
};
use sshd::Sshd;
use tokio::{sync::Mutex, task::JoinSet};

/// Held by the test that measures: memory is the whole process's.
static ALONE: Mutex<()> = Mutex::const_new(());

struct Nobody;

impl Asker for Nobody {
    fn ask(&self, _question: &str) -> Option<Secret> {
        None
    }
}

fn settings() -> Settings {
    Settings {
        connect_timeout: Duration::from_secs(30),
        silence_timeout: Duration::from_secs(30),
        asker: Arc::new(Nobody),
        agent_program: None,
        ssh_program: None,
        shared: Shared::default(),
    }
}

/// A fault with all that it says.
fn told(fault: &Fault) -> String {
    [&[fault.to_string()][..], &fault.causes, &fault.hints].concat().join("\n")
}

/// Commands that print without end, on either stream, and one whose output nobody reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs sshd: tests/run"]
async fn a_flood_costs_no_memory() {
    let _alone = ALONE.lock().await;
    let sshd = Sshd::start("");
    for kind in [Transport::Ssh2, Transport::Openssh] {
        let mut connection = transport::connect(&sshd.as_host(kind), &settings()).await.unwrap();
        let before_kib = resident_kib();
        for (line, bytes) in [("head -c 100000000 /dev/zero", 100_000_000), ("head -c 100000000 /dev/zero >&2", 0)] {
            let output = connection.raw(line, Duration::from_secs(120)).await.unwrap();
            assert_eq!((output.code, output.stdout.bytes), (Some(0), bytes), "{kind:?}: {line}");
            assert_eq!(output.stderr.bytes, 100_000_000 - bytes, "{kind:?}: {line}");
        }
        let output = connection.raw("cat /dev/zero", Duration::from_secs(10)).await.unwrap();
        assert!(output.timed_out && output.stdout.bytes > 1_000_000 && output.stdout.text.len() < 1_000_000);
        let more_kib = resident_kib().saturating_sub(before_kib);
        assert!(more_kib < 8 * 1024, "{kind:?}: {more_kib} KiB");
        // The line is still good.
        let output = connection.raw("echo here", Duration::from_secs(30)).await.unwrap();
        assert_eq!(output.stdout.text, "here\n");
        connection.close().await;
    }
}

/// A server that treats each client so; where it listens.
fn server(treat: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let treat = Arc::new(treat);
    // It ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let treat = Arc::clone(&treat);
            thread::spawn(move || treat(client));
        }
    });
    port
}

fn say_for_ever(mut client: TcpStream, first: &[u8], piece: &[u8]) {
    let _gone = client.write_all(first);
    while client.write_all(piece).is_ok() {}
}

/// The resident memory of this process.
fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_none_are_told_in_time() {
    let _alone = ALONE.lock().await;
    const HELLO: &[u8] = b"SSH-2.0-OpenSSH_9.2p1\r\n";
    let cases: Vec<(&str, u16, &str)> = vec![
        (
            "HTTP",
            server(|mut client| drop(client.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))),
            "is no ssh server: it said",
        ),
        ("closes at once", server(drop), "broke off the ssh handshake"),
        (
            "silent",
            server(|_client| thread::sleep(Duration::from_secs(60))),
            "did not finish the ssh handshake in time",
        ),
        (
            "silent after its hello",
            server(|mut client| {
                let _gone = client.write_all(HELLO);
                thread::sleep(Duration::from_secs(60));
            }),
            "did not finish the ssh handshake in time",
        ),
        (
            "closes after its hello",
            server(|mut client| {
                let _gone = client.write_all(HELLO);
                let _read = client.read(&mut [0; 100]);
            }),
            "broke off the ssh handshake",
        ),
        ("a line without end", server(|client| say_for_ever(client, b"", &[b'x'; 65_536])), ""),
        ("lines without end", server(|client| say_for_ever(client, b"", &b"hello\r\n".repeat(9000))), ""),
        ("zeros after its hello", server(|client| say_for_ever(client, HELLO, &[0; 65_536])), ""),
        ("ones after its hello", server(|client| say_for_ever(client, HELLO, &[255; 65_536])), ""),
        (
            "packets without end",
            // SSH_MSG_IGNORE with nothing in it: 12 bytes long, 6 of padding.
            server(|client| say_for_ever(client, HELLO, &b"\0\0\0\x0c\x06\x02\0\0\0\0\0\0\0\0\0\0".repeat(4000))),
            "",
        ),
    ];
    let settings = Settings { connect_timeout: Duration::from_secs(8), ..settings() };
    let before_kib = resident_kib();
    let mut tries = JoinSet::new();
    for (case, port, reason) in cases {
        let settings = settings.clone();
        let mut host =
            Host { name: "web1".into(), groups: [].into(), vars: Default::default(), connection: Default::default() };
        host.connection.address = Some("127.0.0.1".to_owned());
        host.connection.port = Some(port);
        host.connection.user = Some("root".to_owned());
        tries.spawn(async move {
            let began = Instant::now();
            let fault = transport::connect(&host, &settings).await.err().unwrap();
            (case, reason, told(&fault), began.elapsed())
        });
    }
    for (case, reason, told, took) in tries.join_all().await {
        assert!(told.contains(reason) && told.contains("127.0.0.1"), "{case}: {told}");
        assert!(took < Duration::from_secs(30), "{case} took {took:?}: {told}");
    }
    let more_kib = resident_kib().saturating_sub(before_kib);
    assert!(more_kib < 16 * 1024, "{more_kib} KiB");
}
