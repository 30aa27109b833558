//! A command line that runs: its streams, and how it ended.

use std::{
    io,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    process::{Child, Command},
    sync::{Notify, oneshot},
    time::timeout,
};

use crate::{
    base::Fault,
    model::event::{Capped, Output},
    transport::unreachable,
};

/// Bytes of stderr that are kept.
const LAST_WORDS: usize = 4096;

/// Bytes of a raw command's stdout that are kept.
const RAW_OUTPUT: usize = 64 * 1024;

/// What something wrote on its stderr of late. Clones share it.
#[derive(Clone, Default)]
pub(super) struct LastWords(Arc<Words>);

#[derive(Default)]
struct Words {
    tail: Mutex<Vec<u8>>,
    more: Notify,
}

impl LastWords {
    /// The text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.tail.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until more was written.
    pub(super) async fn more(&self) {
        self.0.more.notified().await;
    }

    /// Reads a stream to its end, in the background: a stderr that nobody reads would stop its writer.
    fn follow(&self, mut stream: impl AsyncRead + Send + Unpin + 'static) {
        let words = self.clone();
        tokio::spawn(async move {
            let mut buffer = [0u8; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                words.add(&buffer[..count]);
            }
        });
    }

    pub(super) fn add(&self, bytes: &[u8]) {
        let mut tail = self.0.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(bytes);
        let over = tail.len().saturating_sub(LAST_WORDS);
        tail.drain(..over);
        drop(tail);
        self.0.more.notify_one();
    }
}

/// A command line that runs.
pub(super) struct Channel {
    pub(super) stdin: Box<dyn AsyncWrite + Send + Unpin>,
    pub(super) stdout: Box<dyn AsyncRead + Send + Unpin>,
    pub(super) words: LastWords,
    pub(super) exit: oneshot::Receiver<io::Result<ExitStatus>>,
}

impl Channel {
    /// Starts a local program that is the channel.
    pub(super) fn of_child(mut command: Command) -> io::Result<(Channel, LastWords)> {
        use std::process::Stdio;
        // A process group of its own: Ctrl-C is for the controller, which stops what runs in its own order.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let words = LastWords::default();
        words.follow(child.stderr.take().expect("stderr is piped"));
        let stdin = Box::new(child.stdin.take().expect("stdin is piped"));
        let stdout = Box::new(child.stdout.take().expect("stdout is piped"));
        Ok((Channel { stdin, stdout, words: words.clone(), exit: wait(child) }, words))
    }

    /// Reads what it prints to its end.
    pub(super) async fn finish(self, limit: Duration) -> Result<Output, Fault> {
        let Channel { stdin, stdout: mut stream, words, exit } = self;
        drop(stdin);
        let mut stdout = Capped::default();
        let read = timeout(limit, async {
            let mut kept = Vec::new();
            let mut buffer = [0u8; 8192];
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                stdout.bytes += count as u64;
                let room = RAW_OUTPUT - kept.len();
                kept.extend_from_slice(&buffer[..count.min(room)]);
            }
            stdout.cut = stdout.bytes > kept.len() as u64;
            stdout.text = String::from_utf8_lossy(&kept).into_owned();
            exit.await
        });
        let status = match read.await {
            Err(_) => return Ok(Output { timed_out: true, ..Output::default() }),
            Ok(Ok(Ok(status))) => status,
            Ok(_) => return Err(unreachable("the line was lost while a command ran")),
        };
        let words = words.text();
        let stderr = Capped { bytes: words.len() as u64, cut: words.len() >= LAST_WORDS, text: words };
        use std::os::unix::process::ExitStatusExt;
        Ok(Output { code: status.code(), signal: status.signal(), timed_out: false, stdout, stderr })
    }
}

fn wait(mut child: Child) -> oneshot::Receiver<io::Result<ExitStatus>> {
    let (tell, exit) = oneshot::channel();
    tokio::spawn(async move {
        let _nobody_asks_any_more = tell.send(child.wait().await);
    });
    exit
}
