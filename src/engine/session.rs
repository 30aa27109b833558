//! One host's conversation: connects, and carries out what the state machine orders. All I/O of a host is here.

mod orders;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    pin::Pin,
    sync::Arc,
};

use tokio::{sync::watch, time::Interval};

use crate::{
    base::{Fault, point::fault},
    engine::{
        book::Events,
        confirm::Confirming,
        contact::{self, Reached},
        delegates::Done,
        ending::{self, HostEnd},
        gate::{self, Gate, Halted, Stage, Verdict, halted},
        host_run::{HostRun, Order},
        job::Job,
        line::{self, Line},
        turnstile::{Pass, Permit},
    },
    model::{
        event::{Event, Mode},
        facts::Facts,
        ids::{HostName, TaskNo},
        inventory::Host,
        lease::{OpenRun, Stand},
        state::Content,
        strategy::OnFailure,
    },
    transport::Connection,
    wire::{
        FromAgent, ToAgent,
        message::{ATTEMPTS_MAX, Closed, Open, Vigil, Witness},
    },
};

/// Runs one host from connecting to its end, which has its turn.
pub async fn run(job: Arc<Job>, host: Arc<Host>, events: Events, mut halt: Halted, mut gate: Gate) -> HostEnd {
    let whom = job.needs_agent().then_some(&job.runbook.become_user);
    let reached = tokio::select! {
        biased;
        reason = halted(&mut halt) => return ending::not_started(&host, &events, Some(reason)).await,
        reason = stopped(&mut gate.stage) => return ending::not_started(&host, &events, Some(reason)).await,
        reached = contact::reach(&host, whom, &job.settings, &events) => reached,
    };
    match reached {
        Ok(Reached { connection, agent: Some((line, hello)) })
            if job.mode == Mode::Apply && hello.open_run.as_ref().is_some_and(|open| !goes_on(&job, &host, open)) =>
        {
            let end = ending::open_run(
                &host,
                &job.runbook.become_user,
                &events,
                hello.open_run.as_ref().expect("asked above"),
            )
            .await;
            line.goodbye().await;
            connection.close().await;
            end
        }
        Ok(Reached { connection, agent }) => {
            let found = agent.as_ref().and_then(|(_, hello)| hello.open_run.as_ref());
            if let Some(open) = found.filter(|_| job.mode == Mode::Plan) {
                let message = match goes_on(&job, &host, open) {
                    true => format!("{open}; to apply this now undoes that first"),
                    false => format!("{open}; nothing can be applied until it is settled"),
                };
                events.tell(Event::Note { host: Some(host.name.clone()), message }).await;
            }
            let run = match gate.asked {
                Some(_) => HostRun::serving(Arc::clone(&job), Arc::clone(&host)),
                None => HostRun::new(Arc::clone(&job), Arc::clone(&host)),
            };
            let (line, hello) = agent.unzip();
            let pings = line::pings(job.vigil().silence_ms);
            let session = Session {
                job,
                run,
                events,
                halt,
                gate,
                connection,
                line,
                tokens: HashMap::new(),
                confirming: None,
                cut: None,
                entering: None,
                delegating: None,
                returning: None,
                permit: None,
                orders: VecDeque::new(),
                streaming: None,
                pings,
                sent: HashSet::new(),
                end: None,
            };
            session.run(hello.map(|hello| hello.facts)).await
        }
        Err(fault) => ending::unreachable(&host, &events, fault).await,
    }
}

/// Whether the run that was found is the same command, and not at work: then this one takes its place.
fn goes_on(job: &Job, host: &Host, found: &OpenRun) -> bool {
    let tried_too_often = |stand| matches!(stand, Stand::CutOff { attempts } if attempts >= ATTEMPTS_MAX);
    found.stand != Stand::Working && !tried_too_often(found.stand) && found.lease.bid.job == job.bid(&host.name).job
}

/// Waits until the batch is to stop before this host has begun; says why.
async fn stopped(stage: &mut watch::Receiver<Stage>) -> Fault {
    let stops = |stage: &Stage| matches!(stage, Stage::Stop(_) | Stage::Back(_));
    match stage.wait_for(stops).await.map(|stage| (*stage).clone()) {
        Ok(Stage::Stop(reason) | Stage::Back(reason)) => reason,
        _ => std::future::pending().await,
    }
}

type Entering = Pin<Box<dyn Future<Output = (Pass, Permit)> + Send>>;
type Delegating = Pin<Box<dyn Future<Output = (TaskNo, HostName, Option<Done>)> + Send>>;
type Returning = Pin<Box<dyn Future<Output = Vec<(HostName, Option<usize>)>> + Send>>;

struct Session {
    job: Arc<Job>,
    run: HostRun,
    events: Events,
    halt: Halted,
    gate: Gate,
    connection: Connection,
    line: Option<Line>,
    /// What the run, or a task of it, is to be confirmed with.
    tokens: HashMap<Option<TaskNo>, String>,
    confirming: Option<Confirming>,
    /// How the line was lost, where a confirmation may still tell how it goes on.
    cut: Option<Fault>,
    /// Its turn at a step that hosts go through one after the other, while it waits for it.
    entering: Option<Entering>,
    permit: Permit,
    /// What another host does for it.
    delegating: Option<Delegating>,
    /// Other hosts that undo what they did for it.
    returning: Option<Returning>,
    orders: VecDeque<Order>,
    streaming: Option<orders::Streaming>,
    /// When to say that the controller is still there.
    pings: Interval,
    sent: HashSet<Content>,
    end: Option<HostEnd>,
}

impl Session {
    async fn run(mut self, facts: Option<Facts>) -> HostEnd {
        // Waiting for the head means that this host is on record before anything is done to it.
        let events = self.events.clone();
        let witness = self.meanwhile(events.head()).await;
        fault!("run.opens");
        if self.job.mode == Mode::Apply && witness.is_none() {
            let (host, reason) = (self.run.whereabouts().0, gate::unrecorded(&self.halt));
            self.end = Some(ending::not_started(&host, &self.events, Some(reason)).await);
        } else {
            self.go(witness, facts).await;
        }
        if let Some(line) = self.line {
            line.goodbye().await;
        }
        self.connection.close().await;
        self.end.expect("a state machine ends with HostEnded")
    }

    /// Goes through it to its end.
    async fn go(&mut self, witness: Option<Witness>, facts: Option<Facts>) {
        if self.line.is_some() {
            let open = Open {
                bid: self.job.bid(self.run.host()),
                mode: self.job.mode,
                // What fails for one is no reason to undo what was done for others.
                on_failure: match self.run.is_serving() {
                    true => OnFailure::Continue,
                    false => self.job.runbook.strategy.on_failure,
                },
                witness: witness.filter(|_| self.job.mode == Mode::Apply),
                vigil: self.vigil(),
            };
            self.orders.push_back(Order::Tell(ToAgent::Open(open)));
        }
        let begun = self.run.begin(facts);
        self.orders.extend(begun);
        while let Err(fault) = self.work().await {
            let fault = contact::with_last_words(fault, &self.connection);
            self.line = None;
            if self.confirming.is_some() {
                // What is confirmed may have cut it: the new line tells how it goes on.
                self.cut = Some(fault);
                continue;
            }
            self.drop_orders();
            let last = self.run.lost(fault);
            self.orders.extend(last);
        }
    }

    /// Works until the host is over, or the line is lost.
    async fn work(&mut self) -> Result<(), Fault> {
        let (mut was_halted, mut was_judged, mut verdict) = (false, false, self.halt.clone());
        loop {
            self.carry_out().await?;
            if self.run.is_over() && self.orders.is_empty() {
                return Ok(());
            }
            let has_line = self.line.is_some();
            let awaits_verdict = was_halted && !was_judged;
            tokio::select! {
                _ = self.pings.tick(), if has_line => self.line.as_mut().expect("asked above").ping(&self.pings)?,
                stepped = async { self.line.as_mut().expect("asked above").step().await }, if has_line => stepped?,
                (pass, permit) = async { self.entering.as_mut().expect("asked above").await }, if self.entering.is_some() => {
                    self.entering = None;
                    self.permit = permit;
                    let orders = self.run.entered(pass);
                    self.orders.extend(orders);
                }
                (no, by, done) = async { self.delegating.as_mut().expect("asked above").await }, if self.delegating.is_some() => {
                    self.delegating = None;
                    let orders = self.run.delegated(no, &by, done);
                    self.orders.extend(orders);
                }
                left = async { self.returning.as_mut().expect("asked above").await }, if self.returning.is_some() => {
                    self.returning = None;
                    let orders = self.run.returned(left);
                    self.orders.extend(orders);
                }
                Some(ask) = async { self.gate.asked.as_mut().expect("asked above").recv().await }, if self.gate.asked.is_some() => {
                    let orders = self.run.asked(ask);
                    self.orders.extend(orders);
                }
                confirmed = async { self.confirming.as_mut().expect("asked above").await }, if self.confirming.is_some() => {
                    self.confirming = None;
                    self.confirmed(confirmed);
                }
                _ = halted(&mut self.halt), if !was_halted => {
                    was_halted = true;
                    self.drop_orders();
                    let orders = self.run.hold();
                    self.orders.extend(orders);
                }
                (reason, verdict) = gate::judged(&mut verdict), if awaits_verdict => {
                    was_judged = true;
                    self.drop_orders();
                    let orders = match verdict {
                        Verdict::Undo => self.run.stop_and_undo(&reason),
                        Verdict::Keep => self.run.stop_and_keep(&reason),
                    };
                    self.orders.extend(orders);
                }
                Ok(()) = self.gate.stage.changed() => self.obey(),
            }
            self.listen()?;
        }
    }

    /// The host was asked over a new line, or could not be. Where the old one still stands, that tells how it goes on.
    fn confirmed(&mut self, confirmed: Result<Option<Closed>, Fault>) {
        let orders = match confirmed {
            Ok(Some(closed)) => self.run.hear(FromAgent::Closed(closed)),
            Ok(None) => match self.cut.take() {
                Some(fault) => self.run.lost(fault),
                None => return,
            },
            Err(fault) => self.run.lost(fault),
        };
        self.orders.extend(orders);
    }

    /// What becomes of it when it is left alone. What it does for others is confirmed by nobody.
    fn vigil(&self) -> Vigil {
        let vigil = self.job.vigil();
        Vigil { confirm_ms: vigil.confirm_ms.filter(|_| !self.run.is_serving()), ..vigil }
    }

    /// Does what the batch is told.
    fn obey(&mut self) {
        let stage = self.gate.stage.borrow_and_update().clone();
        let orders = match stage {
            Stage::Work | Stage::Stop(_) => return,
            Stage::Verify => self.run.verify(),
            Stage::Keep => self.run.keep(),
            Stage::Back(reason) => {
                self.drop_orders();
                self.run.interrupt(&reason)
            }
        };
        self.orders.extend(orders);
    }

    /// What was ordered and is not begun is not wanted any more; what has happened is still told.
    fn drop_orders(&mut self) {
        if self.orders.iter().any(|order| matches!(order, Order::Close)) {
            self.run.wait_on();
        }
        self.orders.retain(|order| matches!(order, Order::Event(_) | Order::Return(_)));
        self.entering = None;
        self.delegating = None;
        self.streaming = None;
    }

    fn listen(&mut self) -> Result<(), Fault> {
        while let Some(line) = &mut self.line
            && let Some(message) = line.next_message()?
        {
            if let FromAgent::Token { no, token } = message {
                self.tokens.insert(no, token);
                continue;
            }
            let orders = self.run.hear(message);
            self.orders.extend(orders);
        }
        Ok(())
    }
}
