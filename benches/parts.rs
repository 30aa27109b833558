//! Parts alone, in one process: `cargo bench --bench parts`. What `benches/run` measures is made of these.

#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on stops")]

#[path = "../tests/agent_support/mod.rs"]
mod agent_support;
#[path = "../tests/support/job.rs"]
mod job;

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use agent_support::Host;
use divan::{Bencher, black_box, counter::BytesCount, counter::ItemsCount};
use rollbook::{
    base::{Digest, Place, Timestamp},
    engine::{self, Job},
    model::{
        change::{Change, Deed},
        event::{Event, Mode, Stamped},
        facts::Facts,
        ids::{RunId, TaskNo},
        inventory::Inventory,
        lease::Bid,
        runbook::Placed,
        state::{Content, Resource, State},
    },
    record, resources, steps, syntax,
    target::{Blobs, Probe, journal, process::Running},
    transport::known_hosts::{HostKey, KnownHosts, Verdict},
    wire::{FrameReader, FrameWriter, Piece, ToAgent, message::BlobChunk},
};
use serde_json::json;

fn main() {
    divan::main();
}

/// An inventory of this many hosts in 20 groups, with variables of their own.
fn inventory_text(hosts: usize) -> String {
    let backend = |n: usize| json!({"name": format!("be{n}"), "ip": format!("10.1.{n}.1"), "weight": n % 4 + 1});
    let backends: Vec<_> = (1..=12).map(backend).collect();
    let mut text = format!("all:\n  vars: {{app_name: rollcall, root: /srv, backends: {}}}\n", json!(backends));
    text.push_str("  children:\n");
    for group in 0..20 {
        writeln!(text, "    g{group}:\n      vars: {{role: web}}\n      hosts:").unwrap();
        for host in (group..hosts).step_by(20) {
            let of = format!("host_id: {host}, region: eu, memory_mb: {}, hostname: n{host}", 1024 + host);
            writeln!(text, "        n{host}: {{address: 192.0.2.{}, {of}}}", host % 250).unwrap();
        }
    }
    text
}

fn inventory(hosts: usize) -> Inventory {
    syntax::inventory::parse("hosts.yml", &inventory_text(hosts)).unwrap()
}

#[divan::bench(args = [100, 10_000], sample_count = 10)]
fn parse_inventory(bencher: Bencher<'_, '_>, hosts: usize) {
    let text = inventory_text(hosts);
    let bencher = bencher.counter(ItemsCount::new(hosts));
    bencher.bench(|| syntax::inventory::parse("hosts.yml", black_box(&text)).unwrap());
}

#[divan::bench(args = [100, 10_000], sample_count = 10)]
fn select_by_pattern(bencher: Bencher<'_, '_>, hosts: usize) {
    let inventory = inventory(hosts);
    let pattern = Placed { value: "g1,g2,n1*:!g3:!*7".to_owned(), place: Place::file("--limit") };
    bencher.bench(|| syntax::pattern::select(&inventory, black_box(&pattern)).unwrap());
}

/// A job of a runbook in benches/work, ready to be rendered.
fn job(runbook: &str, hosts: usize) -> Job {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/work");
    let runbook = syntax::runbook::load(&project.join(runbook), &steps::words()).0.unwrap();
    job::of(&project, runbook, inventory(hosts))
}

/// All that is done for every host before the first connection.
#[divan::bench(args = [100, 10_000], sample_count = 5)]
fn render_one_template(bencher: Bencher<'_, '_>, hosts: usize) {
    let bencher = bencher.counter(ItemsCount::new(hosts)).with_inputs(|| job("one-template.yml", hosts));
    bencher.bench_refs(|job| engine::check(job).unwrap());
}

/// The same where all hosts give it the same: it is rendered once.
#[divan::bench(args = [100, 10_000], sample_count = 5)]
fn render_one_template_for_all(bencher: Bencher<'_, '_>, hosts: usize) {
    let bencher = bencher.counter(ItemsCount::new(hosts)).with_inputs(|| job("same-template.yml", hosts));
    bencher.bench_refs(|job| engine::check(job).unwrap());
}

/// An agent plans this many files that are at rest, and says so, over pipes.
#[divan::bench(args = [30, 1_000], sample_count = 10)]
fn plan_on_a_host(bencher: Bencher<'_, '_>, steps: usize) {
    let host = Host::new();
    for step in 0..steps {
        host.write(&format!("srv/file-{step}"), &format!("the text of {step}\n"));
    }
    bencher.counter(ItemsCount::new(steps)).bench(|| {
        let mut controller = host.connect();
        controller.open(Mode::Plan, 1);
        for step in 0..steps {
            let text = format!("the text of {step}\n");
            controller.task("copy", json!({"dest": format!("/srv/file-{step}"), "content": text}));
        }
        let told = controller.close();
        assert_eq!(told.ends().len(), steps);
        controller.hang_up();
    });
}

/// A machine of a folder, and a change to each of some files that are there.
struct Machine {
    folder: tempfile::TempDir,
    probe: Probe,
    deeds: Vec<Deed>,
}

impl Machine {
    fn new(files: usize) -> Self {
        // Where a disk is, and not where temporary files may only be in memory: syncs are what is measured.
        let folder = tempfile::Builder::new().prefix("rollbook-parts-").tempdir_in("/var/tmp").unwrap();
        let facts = Facts { is_root: true, ..Facts::default() };
        let probe = Probe::new(folder.path().join("root"), facts, Running::default());
        fs::create_dir(folder.path().join("root")).unwrap();
        let deeds = (0..files).map(|file| replaced(&probe, folder.path(), file)).collect();
        Machine { folder, probe, deeds }
    }

    fn begin(&self, run: u32) -> journal::Journal {
        // An earlier one is still open.
        let store = journal::Store::at(self.folder.path().join(format!("store-{run}")));
        let run = RunId::from_parts("20261123-051034", run);
        store.begin(&Bid { run, operator: "ann".to_owned(), reason: None, job: None }, None).unwrap()
    }
}

fn replaced(probe: &Probe, folder: &Path, file: usize) -> Deed {
    let path = format!("/file-{file}");
    fs::write(folder.join("root").join(&path[1..]), "a text that was there before\n").unwrap();
    let resource = Resource::Path(path.as_str().into());
    let before = resources::observe(probe, &resource).unwrap();
    let State::Path(mut after) = before.clone() else { panic!("a path has a path's state") };
    let rollbook::model::state::PathState::File { content, .. } = &mut after else { panic!("it was written") };
    *content = Content::of(b"another text\n");
    Deed::Change(Change { resource, before, after: State::Path(after) })
}

/// What must be on the disk before changes are made: before-images kept, entries appended, all synced.
#[divan::bench(args = [1, 30], sample_count = 20, sample_size = 1)]
fn journal_arm_and_sync(bencher: Bencher<'_, '_>, changes: usize) {
    let machine = Machine::new(changes);
    let run = AtomicU32::new(0);
    let bencher = bencher.counter(ItemsCount::new(changes)).with_inputs(|| {
        let mut journal = machine.begin(run.fetch_add(1, Ordering::Relaxed));
        // The first entry makes the journal's file.
        journal.arm(&machine.probe, TaskNo { step: 0, item: 0 }, false, &machine.deeds[..1]).unwrap();
        journal
    });
    bencher.bench_refs(|journal| {
        let armed = journal.arm(&machine.probe, TaskNo { step: 1, item: 0 }, false, &machine.deeds).unwrap();
        armed.iter().for_each(|armed| journal.seal(armed).unwrap());
        let nothing = Blobs::default();
        let _tools = journal.tools(&machine.probe, &nothing, &armed);
    });
}

/// Frames with 1 MiB of contents, written and read again.
#[divan::bench]
fn frame_codec(bencher: Bencher<'_, '_>) {
    let bytes = vec![7; 128 * 1024];
    let chunk = ToAgent::Blob(BlobChunk { content: Content::of(&bytes), offset: 0, piece: Piece::Plain(bytes) });
    bencher.counter(BytesCount::new(1_usize << 20)).bench(|| {
        let mut frames = Vec::new();
        let mut writer = FrameWriter::default();
        (0..8).for_each(|_| writer.push(black_box(&chunk), &mut frames));
        let mut reader = FrameReader::<ToAgent>::default();
        let mut read = 0;
        for piece in frames.chunks(32 * 1024) {
            reader.feed(piece);
            while let Some(message) = reader.next_message().unwrap() {
                black_box(message);
                read += 1;
            }
        }
        assert_eq!(read, 8);
    });
}

fn notes(count: usize) -> Vec<Stamped> {
    let run = RunId::from_parts("20261123-051034", 1);
    let note = |n: usize| Event::Note { host: Some("web01".into()), message: format!("the note with the number {n}") };
    let stamped =
        |n: usize| Stamped { at: Timestamp(1_795_410_634_000_000 + n as i64), run: run.clone(), event: note(n) };
    (0..count).map(stamped).collect()
}

/// The beginning of their run.
fn opened() -> Stamped {
    let event = json!({
        "event": "run_opened", "version": 1, "rollbook": "0.1.0", "mode": "apply", "reason": null, "change": null,
        "operator": {"user": "ann", "sudo_user": null, "host": "desk", "from": null},
        "runbook": {"file": "web.yml", "name": "Web", "owner": null, "risk": null,
                    "digest": Digest::of(b"web").to_string(), "commit": null, "dirty": false},
        "inventory": [], "params": {}, "tags": [], "limit": null, "hosts": ["web01"],
    });
    let at = Timestamp(1_795_410_633_000_000);
    Stamped { at, run: RunId::from_parts("20261123-051034", 1), event: serde_json::from_value(event).unwrap() }
}

/// A batch of events, in the record and on the disk.
#[divan::bench(args = [1, 100], sample_count = 20, sample_size = 1)]
fn record_append(bencher: Bencher<'_, '_>, events: usize) {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut store = record::Store::open(&folder.path().join("record.db")).unwrap();
    let notes = notes(events);
    bencher.counter(ItemsCount::new(events)).bench_local(|| store.append_all(&notes).unwrap());
}

#[divan::bench(args = [10_000], sample_count = 5)]
fn record_verify(bencher: Bencher<'_, '_>, events: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mut store = record::Store::open(&folder.path().join("record.db")).unwrap();
    store.append(&opened()).unwrap();
    store.append_all(&notes(events)).unwrap();
    let bencher = bencher.counter(ItemsCount::new(events));
    bencher.bench_local(|| assert!(store.verify().unwrap().is_whole()));
}

/// A file of this many lines, and the key of its last host.
fn known_hosts(folder: &Path, lines: usize) -> (PathBuf, HostKey) {
    let key = |n: usize| {
        let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        blob.extend_from_slice(&Digest::of(&n.to_le_bytes()).0);
        blob
    };
    let mut text = String::new();
    for n in 0..lines {
        use base64ct::{Base64, Encoding};
        writeln!(text, "n{n}.example.com,192.0.2.{} ssh-ed25519 {}", n % 250, Base64::encode_string(&key(n))).unwrap();
    }
    let file = folder.join("known_hosts");
    fs::write(&file, text).unwrap();
    (file, HostKey::parse(&key(lines - 1)).unwrap())
}

/// Reading the file, and the verdict on one host's key.
#[divan::bench(args = [50_000], sample_count = 10)]
fn known_hosts_read(bencher: Bencher<'_, '_>, lines: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = known_hosts(folder.path(), lines);
    let host = format!("n{}.example.com", lines - 1);
    bencher.counter(ItemsCount::new(lines)).bench(|| judged(&KnownHosts::default(), &file, &host, &key));
}

/// The verdict on one host's key, once the file is read.
#[divan::bench(args = [50_000])]
fn known_hosts_judge(bencher: Bencher<'_, '_>, lines: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = known_hosts(folder.path(), lines);
    let known = KnownHosts::default();
    let host = format!("n{}.example.com", lines - 1);
    bencher.bench(|| judged(&known, &file, &host, &key));
}

fn judged(known: &KnownHosts, file: &Path, host: &str, key: &HostKey) {
    let verdict = known.about(&[file.to_owned()], host, 22).judge(key, 1_795_410_634);
    assert!(matches!(verdict, Verdict::Trusted));
}
