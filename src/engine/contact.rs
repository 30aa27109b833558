//! Hosts are connected to, and that is told; those outside of a job so many at once.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tokio::{sync::Semaphore, task::JoinSet};

use crate::{
    base::{Fault, point::fault},
    engine::{book::Events, gate, line::Line},
    model::{
        event::{Event, HostConnected},
        facts::Facts,
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
) -> BTreeMap<HostName, W::Output>
where
    W: Future<Output: Send + 'static> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(forks));
    let mut running = JoinSet::new();
    for host in hosts {
        let (name, turn, work) = (host.name.clone(), gate::queue(&turns), work(Arc::clone(host)));
        running.spawn(async move {
            let _turn = turn.await;
            (name, work.await)
        });
    }
    running.join_all().await.into_iter().collect()
}

/// A host that answers, and its agent if one is needed.
pub(super) struct Reached {
    pub(super) connection: Connection,
    pub(super) agent: Option<(Line, Box<Hello>)>,
}

/// Connects and tells of it. An agent is begun where `become_user` says whom to become, if the inventory does not.
pub(super) async fn reach(
    host: &Host,
    become_user: Option<&Become>,
    settings: &Settings,
    events: &Events,
) -> Result<Reached, Fault> {
    let asked = Instant::now();
    let (mut connection, mut agent, mut installed) = (transport::connect(host, settings).await?, None, false);
    if let Some(become_user) = become_user {
        let pipe = connection.agent(host.connection.become_user.as_ref().unwrap_or(become_user)).await?;
        installed = pipe.installed;
        let mut line = Line::new(pipe);
        let hello = line.hello(settings.connect_timeout).await;
        agent = Some((line, hello.map_err(|fault| with_last_words(fault, &connection))?));
    }
    fault!("run.connected");
    let hello = agent.as_ref().map(|(_, hello)| &**hello);
    events.tell(Event::HostConnected(connected(host, &connection, hello, installed, asked))).await;
    Ok(Reached { connection, agent })
}

/// An agent that answers.
pub(super) struct Contact {
    pub(super) connection: Connection,
    pub(super) line: Line,
    pub(super) hello: Box<Hello>,
}

/// Connects to an agent and tells of it. `become_user` is whom to become where the inventory does not say.
pub(super) async fn connect(
    host: &Host,
    become_user: &Become,
    settings: &Settings,
    events: &Events,
) -> Result<Contact, Fault> {
    let Reached { connection, agent } = reach(host, Some(become_user), settings, events).await?;
    let (line, hello) = agent.expect("an agent was asked for");
    Ok(Contact { connection, line, hello })
}

/// What an agent wrote on its stderr tells more than a cut line does.
pub(super) fn with_last_words(mut fault: Fault, connection: &Connection) -> Fault {
    let words = connection.last_words();
    if !words.trim().is_empty() {
        fault.causes.push(format!("its last words: {}", words.trim()));
    }
    fault
}

fn connected(
    host: &Host,
    connection: &Connection,
    hello: Option<&Hello>,
    installed: bool,
    asked: Instant,
) -> HostConnected {
    let system = |facts: &Facts| format!("{} {} {}", facts.distribution, facts.distribution_version, facts.arch);
    HostConnected {
        host: host.name.clone(),
        address: connection.address.clone(),
        transport: host.connection.transport.name().to_owned(),
        host_key: connection.host_key.clone(),
        agent: hello.map(|hello| hello.digest.short()),
        installed,
        system: hello.map(|hello| system(&hello.facts)).unwrap_or_default(),
        took_ms: u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}
