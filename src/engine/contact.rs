//! Hosts that are spoken with outside of a job: so many at once, each over a connection and a line of its own.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    base::Fault,
    engine::{
        book::Events,
        line::Line,
        session::{self, HostEnd},
    },
    model::{
        event::Event,
        ids::HostName,
        inventory::{Become, Host},
    },
    transport::{self, Connection, Settings},
    wire::message::Hello,
};

/// Does `work` for each host, at most `forks` at a time.
pub(super) async fn each<W>(
    hosts: &[Arc<Host>],
    forks: usize,
    work: impl Fn(Arc<Host>) -> W,
) -> BTreeMap<HostName, HostEnd>
where
    W: Future<Output = HostEnd> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(forks));
    let mut running = JoinSet::new();
    for host in hosts {
        let (name, turns, work) = (host.name.clone(), Arc::clone(&turns), work(Arc::clone(host)));
        running.spawn(async move {
            let _turn = turns.acquire().await.expect("the semaphore is never closed");
            (name, work.await)
        });
    }
    running.join_all().await.into_iter().collect()
}

/// An agent that answers.
pub(super) struct Contact {
    pub(super) connection: Connection,
    pub(super) line: Line,
    pub(super) hello: Box<Hello>,
}

/// Connects and tells of it. `become_user` is whom to become where the inventory does not say.
pub(super) async fn connect(
    host: &Host,
    become_user: &Become,
    settings: &Settings,
    events: &Events,
) -> Result<Contact, Fault> {
    let asked = Instant::now();
    let mut connection = transport::connect(host, settings).await?;
    let whom = host.connection.become_user.as_ref().unwrap_or(become_user);
    let pipe = connection.agent(whom).await?;
    let installed = pipe.installed;
    let mut line = Line::new(pipe);
    let hello = line.hello(settings.connect_timeout).await?;
    events.tell(Event::HostConnected(session::hello_event(host, &connection, Some(&hello), installed, asked))).await;
    Ok(Contact { connection, line, hello })
}
