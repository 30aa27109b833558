//! A hundred hosts over ssh: a task per host on two threads, as `ssh2` has it, against a thread per host with libssh2 in
//! blocking mode. All hosts are one sshd on a loopback port. `cargo bench --bench ssh_hosts`; it needs sshd.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on stops, and tells its figures"
)]

#[path = "../tests/sshd/mod.rs"]
mod sshd;

use std::{
    fs,
    io::Read,
    net::TcpStream,
    path::Path,
    sync::{Arc, Barrier, Condvar, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use rollbook::{
    base::Secret,
    model::inventory::Transport,
    transport::{self, Asker, Settings, Shared},
};
use ssh2::MethodType;
use sshd::Sshd;
use tokio::task::JoinSet;

const HOSTS: usize = 100;
const COMMANDS: usize = 5;
const COMMAND: &str = "head -c 100000 /dev/zero";
/// Logins at once, as sshd bears them.
const LOGINS: usize = 8;

struct Nobody;

impl Asker for Nobody {
    fn ask(&self, _question: &str) -> Option<Secret> {
        None
    }
}

fn main() {
    let sshd = Sshd::start("");
    // What is made once (tables, the first arena of memory) belongs to neither.
    thread_per_host(&sshd, 2);
    task_per_host(&sshd, 2);
    for _ in 0..3 {
        thread_per_host(&sshd, HOSTS);
        task_per_host(&sshd, HOSTS);
    }
}

fn task_per_host(sshd: &Sshd, hosts: usize) {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let minute = Duration::from_secs(60);
    let settings = Settings {
        connect_timeout: minute,
        silence_timeout: minute,
        asker: Arc::new(Nobody),
        agent_program: None,
        ssh_program: None,
        shared: Shared::default(),
    };
    let host = Arc::new(sshd.as_host(Transport::Ssh2));
    threads.block_on(async {
        let before = Usage::now();
        let mut tasks = JoinSet::new();
        for _ in 0..hosts {
            let (host, settings) = (Arc::clone(&host), settings.clone());
            tasks.spawn(async move {
                let mut connection = transport::connect(&host, &settings).await.unwrap();
                for _ in 0..COMMANDS {
                    assert_eq!(connection.raw(COMMAND, minute).await.unwrap().stdout.bytes, 100_000);
                }
                connection
            });
        }
        let connected = tasks.join_all().await;
        before.tell("a task per host", hosts);
        drop(connected);
    });
}

fn thread_per_host(sshd: &Sshd, hosts: usize) {
    let turns = Arc::new((Mutex::new(LOGINS), Condvar::new()));
    let together = Arc::new(Barrier::new(hosts + 1));
    let (tell, told) = mpsc::channel();
    let before = Usage::now();
    let threads: Vec<_> = (0..hosts)
        .map(|_| {
            let (port, key, user) = (sshd.port, sshd.key(), sshd::own_name());
            let (turns, together, tell) = (Arc::clone(&turns), Arc::clone(&together), tell.clone());
            thread::spawn(move || {
                let (free, freed) = &*turns;
                *freed.wait_while(free.lock().unwrap(), |free| *free == 0).unwrap() -= 1;
                let session = log_in(port, &user, &key);
                *free.lock().unwrap() += 1;
                freed.notify_one();
                for _ in 0..COMMANDS {
                    run(&session);
                }
                tell.send(()).unwrap();
                // All are held until all are there.
                together.wait();
            })
        })
        .collect();
    (0..hosts).for_each(|_| told.recv().unwrap());
    before.tell("a thread per host", hosts);
    together.wait();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn log_in(port: u16, user: &str, key: &Path) -> ssh2::Session {
    let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut session = ssh2::Session::new().unwrap();
    session.set_tcp_stream(socket);
    session.method_pref(MethodType::Kex, "curve25519-sha256").unwrap();
    session.method_pref(MethodType::CryptCs, "aes128-gcm@openssh.com").unwrap();
    session.method_pref(MethodType::CryptSc, "aes128-gcm@openssh.com").unwrap();
    session.handshake().unwrap();
    session.userauth_pubkey_file(user, None, key, None).unwrap();
    session
}

fn run(session: &ssh2::Session) {
    let mut channel = session.channel_session().unwrap();
    channel.exec(COMMAND).unwrap();
    let mut printed = Vec::new();
    channel.read_to_end(&mut printed).unwrap();
    assert_eq!(printed.len(), 100_000);
    channel.wait_close().unwrap();
}

/// What this process has used until a moment.
struct Usage {
    at: Instant,
    cpu_ticks: u64,
    resident_kib: u64,
    mapped_kib: u64,
}

impl Usage {
    fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        // utime and stime (proc(5)), counted behind the program's name.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let cpu_ticks = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        Usage { at: Instant::now(), cpu_ticks, resident_kib: kib("VmRSS:"), mapped_kib: kib("VmSize:") }
    }

    fn tell(&self, what: &str, hosts: usize) {
        let now = Usage::now();
        let each = |after: u64, before: u64| after.saturating_sub(before) / hosts as u64;
        println!(
            "{what}: {hosts} hosts in {:.2} s, {} ms of processor, {} KiB resident and {} KiB mapped a host",
            self.at.elapsed().as_secs_f64(),
            (now.cpu_ticks - self.cpu_ticks) * 10,
            each(now.resident_kib, self.resident_kib),
            each(now.mapped_kib, self.mapped_kib)
        );
    }
}
