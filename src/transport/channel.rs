//! A command line that runs: its streams, and how it ended.

use std::{
    io,
    pin::Pin,
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    process::{Child, ChildStdin, Command},
    sync::{Notify, OwnedSemaphorePermit, oneshot},
    time::timeout,
};

use crate::{
    base::Fault,
    model::event::Output,
    target::process::Kept,
    transport::{Fate, unreachable},
};

/// Bytes of stderr that are told as last words.
const LAST_WORDS: usize = 4096;

/// How long the end of a command is waited for once its streams are closed.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// What something wrote on its stderr: the beginning and the end of it. Clones share it.
#[derive(Clone, Default)]
pub(super) struct LastWords(Arc<Words>);

#[derive(Default)]
struct Words {
    kept: Mutex<Kept>,
    more: Notify,
}

impl LastWords {
    /// The end of it, at most 4 KiB.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept().end(LAST_WORDS)).into_owned()
    }

    /// Waits until more was written.
    pub(super) async fn more(&self) {
        self.0.more.notified().await;
    }

    /// Takes in what was written.
    pub(super) fn add(&self, bytes: &[u8]) {
        self.kept().add(bytes);
        self.0.more.notify_one();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a stream to its end, in the background: a stderr that nobody reads would stop its writer.
    fn follow(&self, mut stream: impl AsyncRead + Send + Unpin + 'static) -> tokio::task::JoinHandle<()> {
        let words = self.clone();
        tokio::spawn(async move {
            let mut buffer = [0u8; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                words.add(&buffer[..count]);
            }
        })
    }
}

/// How a command ended, as far as the line told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    /// Its exit code; none when a signal ended it.
    pub(super) code: Option<i32>,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
}

/// Why a line broke; set before its streams end. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Lost(Arc<OnceLock<String>>);

impl Lost {
    /// Says why; the first reason stays.
    pub(super) fn set(&self, why: impl Into<String>) {
        let _the_first_stays = self.0.set(why.into());
    }

    /// Why, if it broke.
    pub(super) fn why(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// A stream that ends with an error, and not as if all was said, where its line broke.
struct Told<R> {
    stream: R,
    lost: Lost,
}

impl<R: AsyncRead + Unpin> AsyncRead for Told<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        match (&polled, self.lost.why()) {
            (Poll::Ready(Ok(())), Some(why)) if buffer.filled().len() == before && buffer.remaining() > 0 => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why.to_owned())))
            }
            _ => polled,
        }
    }
}

/// A child's stdin that ends for the child when it is shut down; tokio's own ends only when it is dropped.
struct Input(Option<ChildStdin>);

impl Input {
    fn open(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.0.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.open()?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().map_or(Poll::Ready(Ok(())), |stdin| Pin::new(stdin).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

/// Ends what runs when it is asked to, and where it would be left running without its line also when it is dropped.
pub(super) struct Leash(#[expect(dead_code, reason = "its being dropped is what tells")] oneshot::Sender<()>);

/// A command line that runs.
pub(super) struct Channel {
    pub(super) stdin: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) words: LastWords,
    pub(super) end: oneshot::Receiver<Ending>,
    pub(super) lost: Lost,
    pub(super) leash: Leash,
    /// The turn to log in, given back once it is known that it worked.
    pub(super) turn: Option<OwnedSemaphorePermit>,
}

/// The other end of a [`Channel`]'s handles: what whoever moves its bytes tells and is told.
pub(super) struct Reins {
    pub(super) words: LastWords,
    pub(super) end: oneshot::Sender<Ending>,
    pub(super) lost: Lost,
    pub(super) leash: oneshot::Receiver<()>,
}

impl Channel {
    /// A channel over two streams.
    pub(super) fn new(
        stdin: impl AsyncWrite + Send + Unpin + 'static,
        stdout: impl AsyncRead + Send + Unpin + 'static,
    ) -> (Channel, Reins) {
        let (words, lost) = (LastWords::default(), Lost::default());
        let ((tell_end, end), (hold, leash)) = (oneshot::channel(), oneshot::channel());
        let channel = Channel {
            stdin: Box::new(stdin),
            stdout: Box::new(Told { stream: stdout, lost: lost.clone() }),
            words: words.clone(),
            end,
            lost: lost.clone(),
            leash: Leash(hold),
            turn: None,
        };
        (channel, Reins { words, end: tell_end, lost, leash })
    }

    /// Starts a local program that is the channel.
    pub(super) fn of_child(mut command: Command, fate: Fate) -> io::Result<Channel> {
        // A process group of its own: Ctrl-C is for the controller, which stops what runs in its own order.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (channel, reins) = Channel::new(Input(Some(stdin)), stdout);
        let followed = reins.words.follow(stderr);
        tokio::spawn(watch(child, followed, reins, fate));
        Ok(channel)
    }

    /// How it ended; `None` when that is not known within a few seconds, or the line broke.
    pub(super) async fn ending(&mut self) -> Option<Ending> {
        timeout(END_TIMEOUT, &mut self.end).await.ok().and_then(Result::ok)
    }

    /// Reads what it prints to its end, and ends it at its limit.
    pub(super) async fn finish(mut self, limit: Duration) -> Result<Output, Fault> {
        let _no_input = self.stdin.shutdown().await;
        let mut stdout = Kept::default();
        let read = timeout(limit, async {
            let mut buffer = vec![0u8; 16 * 1024];
            loop {
                match self.stdout.read(&mut buffer).await {
                    Ok(0) => return Ok((&mut self.end).await.unwrap_or_default()),
                    Ok(count) => stdout.add(&buffer[..count]),
                    Err(error) => return Err(error),
                }
            }
        });
        let ended = read.await;
        let stderr = self.words.kept().clone().finish();
        let (ending, timed_out) = match ended {
            Ok(Ok(ending)) => (ending, false),
            Ok(Err(error)) => return Err(unreachable("the line was lost while a command ran").because(&error)),
            Err(_late) => (Ending::default(), true),
        };
        let Ending { code, signal } = ending;
        Ok(Output { code, signal, timed_out, stdout: stdout.finish(), stderr })
    }
}

/// Waits for a child's end and tells it; kills it where it was let go.
async fn watch(mut child: Child, followed: tokio::task::JoinHandle<()>, reins: Reins, fate: Fate) {
    let Reins { end, leash, .. } = reins;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let status = tokio::select! {
        status = child.wait() => status,
        _let_go = leash => {
            if let Some(group) = group.filter(|_| fate == Fate::Killed) {
                let _already_gone = kill_process_group(group, Signal::KILL);
            }
            child.wait().await
        }
    };
    // What it wrote last is read before its end is told; a grandchild that keeps stderr open does not hold us up.
    let _still_open = timeout(END_TIMEOUT, followed).await;
    if let Ok(status) = status {
        use std::os::unix::process::ExitStatusExt;
        let _nobody_asks_any_more = end.send(Ending { code: status.code(), signal: status.signal() });
    }
}
