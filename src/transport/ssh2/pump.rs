//! The task that owns a session: it moves the bytes of its channels, and keeps the line alive.

use std::{
    future::poll_fn,
    io::{self, ErrorKind, Read, Write},
    os::unix::process::ExitStatusExt,
    pin::Pin,
    process::ExitStatus,
    task::{Context, Poll},
    time::Duration,
};

use ssh2::Channel as Remote;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    base::Fault,
    transport::{
        channel::{Channel, LastWords},
        ssh2::wire::Wire,
        unreachable,
    },
};

/// Bytes that wait on either side of a channel.
const BUFFER: usize = 64 * 1024;

/// Seconds between keepalives.
const KEEPALIVE_S: u32 = 5;

/// The handle on a session's task. The session ends when it is dropped and its channels are over.
pub(super) struct Pump {
    requests: mpsc::Sender<Request>,
}

struct Request {
    line: String,
    answer: oneshot::Sender<Result<(Channel, LastWords), Fault>>,
}

impl Pump {
    /// Starts the task.
    pub(super) fn start(wire: Wire, silence_timeout: Duration) -> Self {
        let (requests, asked) = mpsc::channel(1);
        let task = Task { wire, asked, moves: Vec::new(), heard: Instant::now(), silence_timeout };
        tokio::spawn(task.work());
        Pump { requests }
    }

    /// Starts a command line.
    pub(super) async fn run(&self, line: &str) -> Result<(Channel, LastWords), Fault> {
        let (answer, answered) = oneshot::channel();
        let lost = || unreachable("the line was lost");
        self.requests.send(Request { line: line.to_owned(), answer }).await.map_err(|_| lost())?;
        answered.await.map_err(|_| lost())?
    }
}

struct Task {
    wire: Wire,
    asked: mpsc::Receiver<Request>,
    moves: Vec<Move>,
    heard: Instant,
    silence_timeout: Duration,
}

impl Task {
    async fn work(mut self) {
        self.wire.session().set_keepalive(true, KEEPALIVE_S);
        let mut beat = interval(Duration::from_secs(u64::from(KEEPALIVE_S)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut open = true;
        while open || !self.moves.is_empty() {
            while self.step() {}
            self.moves.retain(|moved| !moved.is_over());
            let waits_for_room = self.moves.iter().all(|moved| !moved.outgoing_full());
            tokio::select! {
                request = self.asked.recv(), if open => match request {
                    Some(request) => self.start(request).await,
                    None => open = false,
                },
                () = self.wire.ready(), if waits_for_room => self.heard = Instant::now(),
                () = poll_fn(|context| poll_any(&mut self.moves, context)) => {}
                _ = beat.tick() => {
                    if self.heard.elapsed() > self.silence_timeout {
                        break;
                    }
                    // A keepalive that would block is sent with the next.
                    let _would_block = self.wire.session().keepalive_send();
                }
            }
        }
        let goodbye = self.wire.session().disconnect(None, "done", None);
        drop(goodbye);
    }

    /// Moves what can be moved without waiting; whether anything was.
    fn step(&mut self) -> bool {
        self.moves.iter_mut().fold(false, |any, moved| moved.step() | any)
    }

    async fn start(&mut self, request: Request) {
        // Opening a channel takes round trips in which the others must not starve; but they are few, and short.
        let answer = match self.wire.exec(&request.line).await {
            Err(error) => Err(unreachable("a command could not be started on the target").because(&error)),
            Ok(remote) => {
                let (moved, channel, words) = Move::new(remote);
                self.moves.push(moved);
                Ok((channel, words))
            }
        };
        let _nobody_waits_any_more = request.answer.send(answer);
    }
}

fn poll_any(moves: &mut [Move], context: &mut Context<'_>) -> Poll<()> {
    let ready = moves.iter_mut().fold(false, |any, moved| moved.poll(context) | any);
    if ready { Poll::Ready(()) } else { Poll::Pending }
}

/// One channel: bytes from our side to the remote, and back.
struct Move {
    remote: Remote,
    stdin: DuplexStream,
    stdout: DuplexStream,
    words: LastWords,
    inbound: Vec<u8>,
    inbound_ended: bool,
    eof_sent: bool,
    outgoing: Vec<u8>,
    reader_gone: bool,
    exit: Option<oneshot::Sender<io::Result<ExitStatus>>>,
    failed: bool,
}

impl Move {
    fn new(remote: Remote) -> (Self, Channel, LastWords) {
        let (ours_in, stdin) = duplex(BUFFER);
        let (ours_out, stdout) = duplex(BUFFER);
        let (tell, exit) = oneshot::channel();
        let words = LastWords::default();
        let moved = Move {
            remote,
            stdin,
            stdout,
            words: words.clone(),
            inbound: Vec::new(),
            inbound_ended: false,
            eof_sent: false,
            outgoing: Vec::new(),
            reader_gone: false,
            exit: Some(tell),
            failed: false,
        };
        let channel = Channel { stdin: Box::new(ours_in), stdout: Box::new(ours_out), words: words.clone(), exit };
        (moved, channel, words)
    }

    fn is_over(&self) -> bool {
        self.exit.is_none() && (self.outgoing.is_empty() || self.reader_gone)
    }

    fn outgoing_full(&self) -> bool {
        self.outgoing.len() >= BUFFER
    }

    /// Moves bytes between the session and the buffers, as far as neither would block.
    fn step(&mut self) -> bool {
        if self.exit.is_none() {
            return false;
        }
        self.send() | self.receive() | self.receive_words() | self.finish()
    }

    fn send(&mut self) -> bool {
        if !self.inbound.is_empty() {
            return match self.remote.write(&self.inbound) {
                Ok(count) => {
                    self.inbound.drain(..count);
                    count > 0
                }
                Err(error) => self.fail_unless_blocked(&error),
            };
        }
        if self.inbound_ended && !self.eof_sent {
            self.eof_sent = self.remote.send_eof().is_ok();
            return self.eof_sent;
        }
        false
    }

    fn receive(&mut self) -> bool {
        if self.outgoing_full() {
            return false;
        }
        let mut buffer = [0u8; 16 * 1024];
        match self.remote.read(&mut buffer) {
            Ok(count) => {
                if !self.reader_gone {
                    self.outgoing.extend_from_slice(&buffer[..count]);
                }
                count > 0
            }
            Err(error) => self.fail_unless_blocked(&error),
        }
    }

    fn receive_words(&mut self) -> bool {
        let mut buffer = [0u8; 4096];
        match self.remote.stderr().read(&mut buffer) {
            Ok(count) => {
                self.words.add(&buffer[..count]);
                count > 0
            }
            Err(error) => self.fail_unless_blocked(&error),
        }
    }

    /// When the remote has said everything, takes its exit code.
    fn finish(&mut self) -> bool {
        if !self.failed && (!self.remote.eof() || self.remote.close().is_err() || self.remote.wait_close().is_err()) {
            return false;
        }
        let status = match (self.failed, self.remote.exit_signal(), self.remote.exit_status()) {
            (true, ..) => Err(io::Error::from(ErrorKind::ConnectionReset)),
            (_, Ok(signal), _) if signal.exit_signal.is_some() => Ok(ExitStatus::from_raw(libc_signal(&signal))),
            (_, _, Ok(code)) => Ok(ExitStatus::from_raw((code & 0xff) << 8)),
            (_, _, Err(error)) => Err(io::Error::other(error)),
        };
        if let Some(exit) = self.exit.take() {
            let _nobody_asks_any_more = exit.send(status);
        }
        true
    }

    fn fail_unless_blocked(&mut self, error: &io::Error) -> bool {
        if error.kind() != ErrorKind::WouldBlock && !self.failed {
            self.failed = true;
            return true;
        }
        false
    }

    /// Moves bytes between the buffers and our side; whether anything was moved. Registers to be woken otherwise.
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        self.poll_inbound(context) | self.poll_outgoing(context)
    }

    fn poll_inbound(&mut self, context: &mut Context<'_>) -> bool {
        if !self.inbound.is_empty() || self.inbound_ended {
            return false;
        }
        let mut bytes = [0u8; 16 * 1024];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut self.stdin).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.inbound.extend_from_slice(buffer.filled()),
            Poll::Ready(_) => self.inbound_ended = true,
            Poll::Pending => return false,
        }
        true
    }

    fn poll_outgoing(&mut self, context: &mut Context<'_>) -> bool {
        if self.outgoing.is_empty() {
            // The end of what the remote says must be seen by whoever reads it.
            return false;
        }
        match Pin::new(&mut self.stdout).poll_write(context, &self.outgoing) {
            Poll::Ready(Ok(count)) => drop(self.outgoing.drain(..count)),
            Poll::Ready(Err(_)) => {
                self.reader_gone = true;
                self.outgoing.clear();
            }
            Poll::Pending => return false,
        }
        true
    }
}

/// The number of a signal's name, as far as commands are ended by it.
fn libc_signal(signal: &ssh2::ExitSignal) -> i32 {
    match signal.exit_signal.as_deref() {
        Some("HUP") => 1,
        Some("INT") => 2,
        Some("QUIT") => 3,
        Some("ABRT") => 6,
        Some("SEGV") => 11,
        Some("PIPE") => 13,
        Some("TERM") => 15,
        _ => 9,
    }
}
