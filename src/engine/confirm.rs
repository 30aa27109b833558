//! The dead man's switch, from the controller's side: a new connection that shares nothing with the old one.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    base::{Fault, FaultKind, point::fault},
    engine::{ending, job::Job, line::Line},
    model::{
        event::HostOutcome,
        inventory::{Host, Transport},
        strategy::Confirm,
    },
    render::Scope,
    transport::{self, Settings, Shared},
    wire::{FromAgent, ToAgent, message::Closed},
};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the host is asked after its time is over: it undoes the run, and then may be reached again.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// The line that the run itself goes over tells more of how it went back: it is left so much time to do that.
const LISTENING: Duration = Duration::from_secs(2);

/// A confirmation under way: how the host's run ended, or nothing where it goes on behind a step; as far as the host could
/// be asked.
pub(super) type Confirming = Pin<Box<dyn Future<Output = Result<Option<Closed>, Fault>> + Send>>;

/// Confirms the run on a host, or a step of it, until it is settled there or cannot be reached for too long.
pub(super) fn confirm(job: Arc<Job>, host: Arc<Host>, scope: Scope, step: Option<u32>, token: String) -> Confirming {
    Box::pin(async move {
        let asked = match step {
            None => job.runbook.strategy.confirm.as_ref(),
            Some(number) => job.step(number as usize).and_then(|step| step.confirm.as_ref()),
        };
        let asked = asked.expect("a token is only given where this is asked for");
        let host = elsewhere(&job, &host, &scope, asked)?;
        let word = ToAgent::Confirm { run: job.run.clone(), token, of_step: step.is_some() };
        let until = Instant::now() + Duration::from_millis(asked.within_ms) + AFTERWARDS;
        loop {
            let fault = match timeout_at(until, attempt(&job, &host, &word)).await {
                Ok(Ok(closed)) if closed.outcome == HostOutcome::Succeeded => {
                    return Ok(step.is_none().then_some(closed));
                }
                Ok(Ok(closed)) if closed.outcome != HostOutcome::Unknown => {
                    sleep(LISTENING).await;
                    return Ok(Some(closed));
                }
                Ok(Ok(closed)) => Fault::new(FaultKind::Failed, closed.message.unwrap_or_default()),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::new(FaultKind::Unreachable, "the host did not answer in time"),
            };
            if Instant::now() + PAUSE >= until {
                return Err(not_confirmed(&job, &host, &fault));
            }
            sleep(PAUSE).await;
        }
    })
}

fn not_confirmed(job: &Job, host: &Host, fault: &Fault) -> Fault {
    let recovery = ending::recovery(&job.run, host, &job.runbook.become_user);
    Fault::new(FaultKind::Unreachable, "the run could not be confirmed over a new connection")
        .because(fault)
        .hint(format!("the host undoes it by itself; see to it: {recovery}"))
}

/// The host at the address where it is to be reached when all is done, and past any connection that is shared.
fn elsewhere(job: &Job, host: &Host, scope: &Scope, asked: &Confirm) -> Result<Host, Fault> {
    let mut host = host.clone();
    if host.connection.transport == Transport::Openssh {
        host.connection.ssh_args.extend(["-S", "none"].map(str::to_owned));
    }
    if let Some(via) = &asked.via {
        let address = job.renderer.text(&via.value, &via.place, scope);
        let address = address.map_err(|_| Fault::input("`confirm_via` cannot be rendered").at(&via.place))?;
        host.connection.address = Some(address.as_str().map_or_else(|| address.to_string(), str::to_owned));
    }
    Ok(host)
}

async fn attempt(job: &Job, host: &Host, word: &ToAgent) -> Result<Closed, Fault> {
    fault!("confirm.tries");
    let settings = Settings { shared: Shared::default(), ..job.settings.clone() };
    let mut connection = transport::connect(host, &settings).await?;
    let whom = host.connection.become_user.as_ref().unwrap_or(&job.runbook.become_user);
    let mut line = Line::new(connection.agent(whom).await?);
    line.hello(settings.connect_timeout).await?;
    fault!("confirm.reached");
    line.push(word);
    let closed = loop {
        match line.next_message()? {
            Some(FromAgent::Closed(closed)) => break closed,
            Some(_) => {}
            None => line.step().await?,
        }
    };
    line.goodbye().await;
    connection.close().await;
    Ok(closed)
}
