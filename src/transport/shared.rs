//! What the connections of one run share: turns at busy servers, agent programs and known_hosts files once read.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::transport::{bootstrap::Programs, known_hosts::KnownHosts, ssh2::Watch};

/// Logins at once at one address; sshd begins to drop them at 10 (`MaxStartups`).
const LOGINS_MAX: usize = 8;

/// Shared by all connections of a run. A new one has read nothing.
#[derive(Clone, Default)]
pub struct Shared {
    turns: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
    pub(super) programs: Programs,
    pub(super) known_hosts: KnownHosts,
    pub(super) watch: Watch,
    /// Of the system's ssh, major and minor, once it was asked; none where it is another's.
    pub(super) ssh_version: Arc<OnceCell<Option<(u32, u32)>>>,
}

impl Shared {
    /// Waits for a turn to log in at an address; it is given back when dropped.
    pub(super) async fn turn(&self, address: SocketAddr) -> OwnedSemaphorePermit {
        self.turn_at(address.to_string()).await
    }

    /// The same for an address that only the system's ssh can resolve.
    pub(super) async fn turn_at(&self, address: String) -> OwnedSemaphorePermit {
        let turns = {
            let mut addresses = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(addresses.entry(address).or_insert_with(|| Arc::new(Semaphore::new(LOGINS_MAX))))
        };
        turns.acquire_owned().await.expect("the semaphore is never closed")
    }
}
