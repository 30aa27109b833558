//! The transports against a real sshd: many hosts at once, awkward logins, the agent's way onto the target.

#[path = "sshd/mod.rs"]
mod sshd;

use std::{sync::Arc, time::Duration};

use rollbook::{
    base::Secret,
    model::inventory::Transport,
    transport::{self, Asker, Settings, Shared},
};
use sshd::Sshd;
use tokio::task::JoinSet;

/// Whom a question is put to in vain.
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
