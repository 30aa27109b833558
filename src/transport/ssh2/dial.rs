//! From a name to a connected socket: all its addresses are tried, the next a moment after the one before.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::{base::Fault, transport::unreachable};

/// How long an address is alone before the next is tried beside it (RFC 8305 recommends 250 ms).
const HEAD_START: Duration = Duration::from_millis(250);

/// The addresses of a name.
pub(super) async fn resolve(name: &str, port: u16, until: Instant) -> Result<Vec<SocketAddr>, Fault> {
    let found = timeout_at(until, lookup_host((name, port))).await;
    let found = found.map_err(|_| unreachable(format!("the name {name} was not resolved in time")))?;
    let found = found.map_err(|error| {
        unreachable(format!("the name {name} cannot be resolved"))
            .because(&error)
            .hint("set `address` in the inventory, or use `transport: openssh` if ssh_config knows the host")
    })?;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() {
        return Err(unreachable(format!("the name {name} has no address")));
    }
    Ok(addresses)
}

/// Connects to the first address that answers.
pub(super) async fn open(addresses: &[SocketAddr], until: Instant) -> Result<(TcpStream, SocketAddr), Fault> {
    let mut tries = JoinSet::new();
    let mut left = addresses.iter().copied();
    let mut why = None;
    let begin = |tries: &mut JoinSet<_>, left: &mut dyn Iterator<Item = SocketAddr>| {
        let next = left.next();
        next.map(|address| tries.spawn(async move { (TcpStream::connect(address).await, address) })).is_some()
    };
    let mut more = begin(&mut tries, &mut left);
    loop {
        let next = timeout_at(until, async {
            tokio::select! {
                ended = tries.join_next() => ended,
                () = sleep(HEAD_START), if more => None,
            }
        });
        match next.await {
            Err(_) => return Err(why.unwrap_or_else(|| silent(addresses))),
            Ok(Some(Ok((Ok(stream), address)))) => return Ok((stream, address)),
            Ok(Some(Ok((Err(error), address)))) => {
                why.get_or_insert_with(|| unreachable(format!("cannot connect to {address}")).because(&error));
                more = begin(&mut tries, &mut left);
            }
            Ok(_) => more = begin(&mut tries, &mut left),
        }
        if tries.is_empty() {
            return Err(why.unwrap_or_else(|| silent(addresses)));
        }
    }
}

fn silent(addresses: &[SocketAddr]) -> Fault {
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    unreachable(format!("{} does not answer", names.join(", ")))
}
