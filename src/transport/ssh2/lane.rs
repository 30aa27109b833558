//! One channel of a session: a command from its start to its end, and the bytes between it and our side.

use std::{
    future::Future,
    io::{Read, Write},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use ssh2::{Channel as Remote, Session};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::oneshot,
    time::Instant,
};

use crate::transport::{
    channel::{Channel, Ending, LastWords, Lost, Reins},
    ssh2::{
        pump::{Line, Request, Step},
        wire::Trouble,
    },
    unreachable,
};

/// Bytes that wait between the session and our side, each way.
const BUFFER: usize = 64 * 1024;

/// Bytes that a packet of ssh's holds.
const PACKET: u32 = 32 * 1024;

/// Bytes that are moved at once: libssh2 sends at most so many in a packet, and what is beyond in one more.
const PIECE: usize = 32_700;

/// Bytes that the other side may send ahead of our reading. It bounds what a host can make us hold.
const WINDOW: u32 = 256 * 1024;

/// How long the other side may take to close a channel. It is looked at with each keepalive at least.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// One channel.
pub(super) struct Lane {
    number: u64,
    state: State,
}

enum State {
    /// The channel is being opened.
    Opening(Request),
    /// Its command is being started.
    Starting(Remote, Request),
    /// Its command runs.
    Running(Box<Run>),
    /// It is over on our side, since then.
    Closing(Remote, Instant),
    Over,
}

impl Lane {
    /// A channel that is to be opened.
    pub(super) fn new(number: u64, request: Request) -> Self {
        Lane { number, state: State::Opening(request) }
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening(_))
    }

    /// Whether nothing has come of its command yet: the other side says several short things until then.
    pub(super) fn is_new(&self) -> bool {
        match &self.state {
            State::Opening(_) | State::Starting(..) => true,
            State::Running(run) => run.is_new,
            State::Closing(..) | State::Over => false,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether our side does not take what there is to read.
    pub(super) fn holds_back(&self) -> bool {
        matches!(&self.state, State::Running(run) if !run.out.is_empty())
    }

    /// Whether something was brought for this channel by a call that was about another channel, stream or direction, and
    /// that nobody will be woken for.
    pub(super) fn is_behind(&mut self, line: &Line) -> bool {
        match &mut self.state {
            State::Running(run) => run.is_behind(line),
            State::Opening(_) | State::Starting(..) | State::Closing(..) | State::Over => false,
        }
    }

    /// The line is lost: says so to whoever waits.
    pub(super) fn lose(self, why: &str) {
        match self.state {
            State::Opening(request) | State::Starting(_, request) => {
                let _nobody_waits_any_more = request.answer.send(Err(unreachable(format!("the line broke: {why}"))));
            }
            State::Running(run) => run.lost.set(why),
            State::Closing(..) | State::Over => {}
        }
    }

    /// Moves what can be moved without waiting; whether anything was.
    pub(super) fn advance(&mut self, line: &mut Line, context: &mut Context<'_>) -> Result<bool, Trouble> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Opening(request) => self.open(line, request),
            State::Starting(remote, request) => self.start(line, remote, request),
            State::Running(mut run) => {
                let moved = run.advance(self.number, line, context);
                // It stays after an error too: whoever waits for it is told why.
                self.state = if run.is_over { State::Closing(run.remote, Instant::now()) } else { State::Running(run) };
                moved
            }
            State::Closing(mut remote, since) => {
                let closed = line.attempt(self.number, Step::Close, |_| remote.close()).is_some();
                if closed || since.elapsed() > CLOSE_TIMEOUT {
                    return Ok(true);
                }
                self.state = State::Closing(remote, since);
                Ok(false)
            }
            State::Over => Ok(false),
        }
    }

    fn open(&mut self, line: &mut Line, request: Request) -> Result<bool, Trouble> {
        let open = |session: &Session| session.channel_open("session", WINDOW, PACKET, None);
        match line.attempt(self.number, Step::Open, open) {
            None => self.state = State::Opening(request),
            Some(Ok(remote)) => {
                self.state = State::Starting(remote, request);
                return Ok(true);
            }
            Some(Err(trouble)) => refuse(request, "the target opens no session", trouble)?,
        }
        Ok(self.is_over())
    }

    fn start(&mut self, line: &mut Line, mut remote: Remote, request: Request) -> Result<bool, Trouble> {
        match line.attempt(self.number, Step::Exec, |_| remote.exec(&request.line)) {
            None => {
                self.state = State::Starting(remote, request);
                return Ok(false);
            }
            Some(Ok(())) => {
                let (run, channel) = Run::new(remote);
                // Whoever asked may have given up since: then the channel is let go at once.
                let _let_go_then = request.answer.send(Ok(channel));
                self.state = State::Running(Box::new(run));
            }
            Some(Err(trouble)) => {
                refuse(request, "the target starts no command", trouble)?;
                self.state = State::Closing(remote, Instant::now());
            }
        }
        Ok(true)
    }
}

/// Tells whoever asked; what is a trouble of the whole line goes on.
fn refuse(request: Request, what: &str, trouble: Trouble) -> Result<(), Trouble> {
    let _nobody_waits_any_more = request.answer.send(Err(unreachable(what).because(&trouble)));
    if trouble.is_refusal() { Ok(()) } else { Err(trouble) }
}

/// A command that runs.
struct Run {
    remote: Remote,
    /// Our side's stdin, until it has ended; what was read of it is in `ahead`.
    stdin: Option<DuplexStream>,
    ahead: Vec<u8>,
    end_sent: bool,
    /// Our side's stdout, until it is told to have ended or nobody reads it; what waits for it is in `out`.
    stdout: Option<DuplexStream>,
    out: Vec<u8>,
    words: LastWords,
    end: Option<oneshot::Sender<Ending>>,
    lost: Lost,
    /// Ends when our side lets go of the command.
    leash: Option<oneshot::Receiver<()>>,
    buffer: Box<[u8]>,
    /// The line's news when all was read.
    heard: Option<u64>,
    /// What was left when it was last looked: bytes to be read, room to write, how often something had come.
    left: (u32, u32, u64),
    is_new: bool,
    is_over: bool,
}

impl Run {
    fn new(remote: Remote) -> (Self, Channel) {
        let (their_stdin, stdin) = duplex(BUFFER);
        let (their_stdout, stdout) = duplex(BUFFER);
        let (channel, Reins { words, end, lost, leash }) = Channel::new(their_stdin, their_stdout);
        let run = Run {
            remote,
            stdin: Some(stdin),
            ahead: Vec::new(),
            end_sent: false,
            stdout: Some(stdout),
            out: Vec::new(),
            words,
            end: Some(end),
            lost,
            leash: Some(leash),
            buffer: vec![0; PIECE].into(),
            heard: None,
            left: (0, 0, 0),
            is_new: true,
            is_over: false,
        };
        (run, channel)
    }

    fn advance(&mut self, number: u64, line: &mut Line, context: &mut Context<'_>) -> Result<bool, Trouble> {
        if self.leash.as_mut().is_some_and(|leash| Pin::new(leash).poll(context).is_ready()) {
            self.leash = None;
        }
        let mut moved = self.take(context) | self.give(context);
        moved |= self.send(number, line)?;
        moved |= self.hear(number, line)?;
        moved |= self.finish(number, line)?;
        // A packet that was begun is finished even for a command that nobody wants any more.
        self.is_over |= self.leash.is_none() && !line.is_stuck_on(number);
        Ok(moved || self.is_over)
    }

    /// Takes what our side writes.
    fn take(&mut self, context: &mut Context<'_>) -> bool {
        let Some(stdin) = self.stdin.as_mut().filter(|_| self.ahead.is_empty()) else { return false };
        let mut buffer = ReadBuf::new(&mut self.buffer);
        match Pin::new(stdin).poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.ahead.extend_from_slice(buffer.filled()),
            Poll::Ready(_) => self.stdin = None,
            Poll::Pending => return false,
        }
        true
    }

    /// Gives our side what it can read.
    fn give(&mut self, context: &mut Context<'_>) -> bool {
        if self.out.is_empty() {
            return false;
        }
        match self.stdout.as_mut().map(|stdout| Pin::new(stdout).poll_write(context, &self.out)) {
            Some(Poll::Pending) => return false,
            Some(Poll::Ready(Ok(count))) => drop(self.out.drain(..count)),
            Some(Poll::Ready(Err(_))) | None => {
                self.stdout = None;
                self.out.clear();
            }
        }
        true
    }

    fn send(&mut self, number: u64, line: &mut Line) -> Result<bool, Trouble> {
        let sent = if !self.ahead.is_empty() {
            let Run { remote, ahead, .. } = self;
            let sent = line.attempt_io(number, Step::Write, || remote.write(ahead));
            sent.map(|sent| sent.map(|count| drop(ahead.drain(..count))))
        } else if self.stdin.is_none() && !self.end_sent {
            let sent = line.attempt(number, Step::WriteEnd, |_| self.remote.send_eof());
            self.end_sent = sent.is_some();
            sent
        } else {
            None
        };
        match sent {
            None => Ok(false),
            Some(Err(trouble)) if !trouble.is_refusal() => Err(trouble),
            Some(Err(_nobody_reads_it)) => {
                self.ahead.clear();
                (self.stdin, self.end_sent) = (None, true);
                Ok(true)
            }
            Some(Ok(())) => Ok(true),
        }
    }

    /// Reads, unless all was read and nothing can have come since.
    fn hear(&mut self, number: u64, line: &mut Line) -> Result<bool, Trouble> {
        if self.heard.is_some() && self.heard == line.news() {
            return Ok(false);
        }
        let moved = self.receive(number, line)? | self.receive_words(number, line)?;
        self.heard = line.news().filter(|_| !moved && self.out.len() < BUFFER);
        Ok(moved)
    }

    /// Each call into libssh2 takes all that has come off the socket, whatever it is for. What came while the streams
    /// were read one after the other may so be kept for one that was read already, or may be room to write, and the
    /// kernel tells of nothing that is read by then. What stays as it is (a stream that we do not know) counts once for
    /// each time that something comes.
    fn is_behind(&mut self, line: &Line) -> bool {
        let kept = if self.out.len() < BUFFER { self.remote.read_window().available } else { 0 };
        let room = if self.ahead.is_empty() { 0 } else { self.remote.write_window().remaining };
        let left = (kept, room, line.arrivals());
        let before = std::mem::replace(&mut self.left, left);
        let is_behind = (kept > 0 || room > 0) && left != before;
        if is_behind {
            self.heard = None;
        }
        is_behind
    }

    fn receive(&mut self, number: u64, line: &mut Line) -> Result<bool, Trouble> {
        if self.out.len() >= BUFFER {
            return Ok(false);
        }
        let Run { remote, buffer, .. } = self;
        let read = line.attempt_io(number, Step::Read, || remote.read(buffer));
        let count = self.received(read)?;
        self.is_new &= count == 0;
        if self.stdout.is_some() {
            self.out.extend_from_slice(&self.buffer[..count]);
        }
        Ok(count > 0)
    }

    fn receive_words(&mut self, number: u64, line: &mut Line) -> Result<bool, Trouble> {
        let Run { remote, buffer, .. } = self;
        let read = line.attempt_io(number, Step::ReadWords, || remote.stderr().read(buffer));
        let count = self.received(read)?;
        if count > 0 {
            self.words.add(&self.buffer[..count]);
        }
        Ok(count > 0)
    }

    /// How much was received; a channel that cannot be read any more is over.
    fn received(&mut self, read: Option<Result<usize, Trouble>>) -> Result<usize, Trouble> {
        match read {
            None => Ok(0),
            Some(Ok(count)) => Ok(count),
            Some(Err(trouble)) if trouble.is_refusal() => {
                self.lost.set(trouble.to_string());
                self.is_over = true;
                Ok(0)
            }
            Some(Err(trouble)) => Err(trouble),
        }
    }

    /// When the command has said everything, tells that, and then how it ended.
    fn finish(&mut self, number: u64, line: &mut Line) -> Result<bool, Trouble> {
        if !self.out.is_empty() || self.end.is_none() || !self.remote.eof() {
            return Ok(false);
        }
        let told = self.stdout.take().is_some();
        match line.attempt(number, Step::AwaitEnd, |_| self.remote.wait_close()) {
            None => return Ok(told),
            Some(Err(trouble)) if !trouble.is_refusal() => return Err(trouble),
            Some(_) => {}
        }
        if let Some(end) = self.end.take() {
            let _nobody_asks_any_more = end.send(self.ending());
        }
        self.is_over = true;
        Ok(true)
    }

    fn ending(&self) -> Ending {
        let signal = self.remote.exit_signal().ok().and_then(|signal| signal.exit_signal);
        match signal {
            Some(name) => Ending { code: None, signal: Some(signal_number(&name)) },
            None => Ending { code: self.remote.exit_status().ok(), signal: None },
        }
    }
}

/// The number of a signal's name (RFC 4254, 6.10); 0 for one that has no name there.
fn signal_number(name: &str) -> i32 {
    match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "USR1" => 10,
        "SEGV" => 11,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        _ => 0,
    }
}
