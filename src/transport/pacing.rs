//! How many logins may be under way at one address: sshd drops those past `MaxStartups`.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Logins at once at one address; sshd begins to drop them at 10.
const LOGINS_MAX: usize = 8;

/// Shared by all connections of a run.
#[derive(Clone, Debug, Default)]
pub struct Pacing(Arc<Mutex<HashMap<SocketAddr, Arc<Semaphore>>>>);

impl Pacing {
    /// Waits for a turn at an address; it is given back when dropped.
    pub(super) async fn turn(&self, address: SocketAddr) -> OwnedSemaphorePermit {
        let turns = {
            let mut addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(addresses.entry(address).or_insert_with(|| Arc::new(Semaphore::new(LOGINS_MAX))))
        };
        turns.acquire_owned().await.expect("the semaphore is never closed")
    }
}
