//! An agent in this process, on a folder that stands for a host, and the controller's side of the talk with it.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use rollbook::{
    agent::{self, Machine},
    base::Digest,
    model::{
        change::DeedReport,
        event::{Mode, Undone},
        facts::Facts,
        ids::{RunId, TaskNo},
        lease::Bid,
        state::Content,
        strategy::OnFailure,
    },
    target::{Probe, journal::Store, process::Running},
    wire::{
        FrameReader, FrameWriter, FromAgent, Piece, ToAgent,
        message::{BlobChunk, Closed, HELLO_MAGIC, Open, Task, TaskEnd, Vigil},
    },
};

/// Each run has an id of its own.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// How a run is brought to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Close,
    Unwind,
}

/// What an agent said in one run.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) ends: Vec<TaskEnd>,
    pub(crate) done: Vec<(TaskNo, DeedReport)>,
    pub(crate) undone: Vec<(TaskNo, DeedReport, Undone)>,
    pub(crate) closed: Option<Closed>,
}

/// One run from hello to closed.
pub(crate) fn run(root: &Path, state: &Path, mode: Mode, work: (Vec<Task>, Vec<Vec<u8>>), ending: Ending) -> Said {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (root, state) = (root.to_owned(), state.to_owned());
    let agent = thread::spawn(move || serve(theirs, &root, &state));
    let said = talk(ours, mode, work, ending);
    agent.join().unwrap();
    said
}

/// The agent, on its own end of the line.
fn serve(line: UnixStream, root: &Path, state: &Path) {
    let facts = Facts { init: "unknown".into(), package_manager: "unknown".into(), ..Facts::default() };
    let probe = Probe::new(root, facts, Running::default());
    let machine = Machine { probe, store: Store::at(state), digest: Digest::of(b"the laws' agent") };
    agent::serve(line.try_clone().unwrap(), line, &machine).unwrap();
}

fn talk(mut line: UnixStream, mode: Mode, (tasks, contents): (Vec<Task>, Vec<Vec<u8>>), ending: Ending) -> Said {
    let (mut writer, mut out) = (FrameWriter::default(), Vec::new());
    let run = RunId::from_parts("20260101-000000", RUNS.fetch_add(1, Ordering::Relaxed));
    let open = Open {
        bid: Bid { run, operator: "laws".into(), reason: None, job: None },
        mode,
        on_failure: OnFailure::Rollback,
        witness: None,
        vigil: Vigil { grace_ms: 0, ..Vigil::default() },
    };
    writer.push(&ToAgent::Open(open), &mut out);
    for bytes in contents {
        let chunk = BlobChunk { content: Content::of(&bytes), offset: 0, piece: Piece::packed(bytes) };
        writer.push(&ToAgent::Blob(chunk), &mut out);
    }
    tasks.into_iter().for_each(|task| writer.push(&ToAgent::Task(Box::new(task)), &mut out));
    match ending {
        Ending::Close => writer.push(&ToAgent::Close { witness: None }, &mut out),
        Ending::Unwind => writer.push(&ToAgent::Unwind, &mut out),
    }
    line.write_all(&out).unwrap();
    listen(line)
}

fn listen(mut line: UnixStream) -> Said {
    let mut magic = [0; HELLO_MAGIC.len()];
    line.read_exact(&mut magic).unwrap();
    assert_eq!(&magic, HELLO_MAGIC);
    let (mut reader, mut buffer, mut said) = (FrameReader::default(), vec![0; 64 * 1024], Said::default());
    while said.closed.is_none() {
        let read = line.read(&mut buffer).unwrap();
        assert!(read > 0, "the agent ended without a word: {said:?}");
        reader.feed(&buffer[..read]);
        while let Some(message) = reader.next_message().unwrap() {
            take(&mut said, message);
        }
    }
    said
}

fn take(said: &mut Said, message: FromAgent) {
    match message {
        FromAgent::Hello(_) | FromAgent::Started(_) => {}
        FromAgent::Done { no, report, .. } => said.done.push((no, *report)),
        FromAgent::Ended(end) => said.ends.push(*end),
        FromAgent::Undone { no, report, how } => said.undone.push((no, *report, how)),
        FromAgent::Closed(closed) => said.closed = Some(closed),
        other => panic!("nobody asked for {other:?}"),
    }
}
