//! Asks targets which heads of the record's chain they have seen: what the store no longer has was cut off.

use std::sync::Arc;

use crate::{
    base::{Fault, FaultKind},
    engine::{contact, line::Line},
    model::{
        ids::HostName,
        inventory::{Become, Host},
    },
    transport::{self, Settings},
    wire::{FromAgent, ToAgent, message::Witness},
};

/// What a host has witnessed, or why it could not be asked.
pub type Testimony = (HostName, Result<Vec<Witness>, Fault>);

/// Asks hosts, `forks` at a time. The answers come in the order of the hosts.
pub async fn ask(hosts: &[Arc<Host>], settings: &Settings, forks: usize) -> Vec<Testimony> {
    let said = contact::each(hosts, forks, |host| {
        let settings = settings.clone();
        async move { ask_one(&host, &settings).await }
    });
    let mut said = said.await;
    hosts.iter().filter_map(|host| said.remove_entry(&host.name)).collect()
}

async fn ask_one(host: &Host, settings: &Settings) -> Result<Vec<Witness>, Fault> {
    let mut connection = transport::connect(host, settings).await?;
    let whom = host.connection.become_user.clone().unwrap_or(Become::No);
    let mut line = Line::new(connection.agent(&whom).await?);
    line.hello(settings.connect_timeout).await?;
    line.push(&ToAgent::AskWitnesses);
    let witnesses = loop {
        match line.next_message()? {
            Some(FromAgent::Witnesses(witnesses)) => break witnesses,
            Some(FromAgent::Closed(closed)) => {
                let why = closed.message.unwrap_or_else(|| "the agent would not say".to_owned());
                return Err(Fault::new(FaultKind::Unreachable, why));
            }
            Some(_) => {}
            None => line.step().await?,
        }
    };
    line.goodbye().await;
    connection.close().await;
    Ok(witnesses)
}
