//! The record's promises: what is acknowledged stays, and what is edited is found.

#![cfg(feature = "controller")]
#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected should stop there")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rollbook::{
    base::{Digest, FaultKind, Timestamp},
    model::{
        event::{Event, Sink, Stamped},
        ids::RunId,
        witness::Witness,
    },
    record::{OutcomeFilter, RunFilter, Store, Verdict, WitnessVerdict},
};
use rusqlite::{Connection, params};
use serde_json::json;

/// 2026-11-23T05:10:34Z.
const START: i64 = 1_795_410_634_000_000;

fn store_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("state/rollbook/record.db")
}

fn stamped(run: &RunId, at: i64, event: serde_json::Value) -> Stamped {
    let event: Event = serde_json::from_value(event).unwrap();
    Stamped { at: Timestamp(START + at), run: run.clone(), event }
}

fn run_id(number: u32) -> RunId {
    RunId::from_parts(&format!("20261123-05{:02}34", number % 60), number)
}

fn opened(run: &RunId, at: i64, mode: &str, host: &str) -> Stamped {
    let opened = json!({
        "event": "run_opened", "version": 1, "rollbook": "0.1.0", "mode": mode,
        "operator": {"user": "ada", "sudo_user": null, "host": "desk", "from": "192.0.2.7"},
        "reason": "a test", "change": "CHG-1",
        "runbook": {"file": "web.yml", "name": "Release the web tier", "owner": "web", "risk": "medium",
                    "digest": Digest::of(b"web").to_string(), "commit": null, "dirty": false},
        "inventory": [["prod.yml", Digest::of(b"prod").to_string()]],
        "params": {"version": "1.2.3"}, "tags": [], "limit": null, "hosts": [host],
    });
    stamped(run, at, opened)
}

fn note(run: &RunId, at: i64, message: &str) -> Stamped {
    stamped(run, at, json!({"event": "note", "host": "web01", "message": message}))
}

fn closed(run: &RunId, at: i64, outcome: &str) -> Stamped {
    let counts = json!({"ok": 1, "changed": 2, "skipped": 0, "failed": 0, "unknown": 0, "undone": 0});
    let event = json!({"event": "run_closed", "outcome": outcome, "hosts": {"succeeded": 1}, "counts": counts,
                       "took_ms": 1200});
    stamped(run, at, event)
}

/// A store with two closed runs and an open one, and its path.
fn small_store(folder: &tempfile::TempDir) -> (Store, PathBuf) {
    let path = store_in(folder);
    let mut store = Store::open(&path).unwrap();
    for (number, outcome) in [(1, "succeeded"), (2, "rolled_back")] {
        let run = run_id(number);
        let at = i64::from(number) * 60_000_000;
        store.append(&opened(&run, at, "apply", &format!("web0{number}"))).unwrap();
        store.append_all(&[note(&run, at + 1, "one"), note(&run, at + 2, "two")]).unwrap();
        store.append(&closed(&run, at + 3, outcome)).unwrap();
    }
    store.append(&opened(&run_id(3), 3 * 60_000_000, "apply", "web03")).unwrap();
    (store, path)
}

fn verify(path: &Path) -> Verdict {
    Store::open_read_only(path).unwrap().verify().unwrap()
}

#[test]
fn what_is_appended_is_there_and_private() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = small_store(&folder);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(mode(path.parent().unwrap().parent().unwrap()), 0o700);
    let verdict = store.verify().unwrap();
    assert!(verdict.is_whole(), "{verdict:?}");
    assert_eq!((verdict.entries, verdict.runs, verdict.open_runs), (10, 3, vec![run_id(3).to_string()]));
    assert_eq!(store.head().unwrap().seq, 9);
    assert_eq!(verdict.store, Some(store.head().unwrap().store));
    let events = store.events_of(&run_id(1)).unwrap();
    assert_eq!(events.len(), 4);
    assert_eq!(events[2], note(&run_id(1), 60_000_002, "two"));
    let other = tempfile::tempdir().unwrap();
    assert_ne!(small_store(&other).0.head().unwrap().store, store.head().unwrap().store, "ids are random");
}

#[test]
fn plans_and_beginnings_of_steps_are_not_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&store_in(&folder)).unwrap();
    let (planned, applied) = (run_id(1), run_id(2));
    let label = json!({"no": {"step": 0, "item": 0}, "name": "a step", "kind": "file", "place": "web.yml:3",
                       "sensitive": false, "handler": false});
    let started = |run: &RunId| stamped(run, 5, json!({"event": "step_started", "host": "web01", "step": label}));
    for (run, mode) in [(&planned, "plan"), (&applied, "apply")] {
        store.take(&opened(run, 1, mode, "web01")).unwrap();
        store.take(&started(run)).unwrap();
        store.take(&note(run, 6, "a note")).unwrap();
        store.take(&closed(run, 7, "succeeded")).unwrap();
    }
    assert_eq!(store.head().unwrap().seq, 3);
    assert!(store.events_of(&planned).unwrap().is_empty());
    assert_eq!(store.events_of(&applied).unwrap().len(), 3);
}

#[test]
fn runs_are_listed_and_found() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = small_store(&folder);
    let listed = |filter: RunFilter| -> Vec<RunId> {
        let list = store.runs(&filter).unwrap();
        assert!(list.unreadable.is_empty());
        list.runs.into_iter().map(|run| run.run).collect()
    };
    let all = RunFilter::default();
    assert_eq!(listed(all.clone()), [run_id(3), run_id(2), run_id(1)]);
    assert_eq!(listed(RunFilter { limit: Some(2), ..all.clone() }), [run_id(3), run_id(2)]);
    assert_eq!(listed(RunFilter { host: Some("web02".into()), ..all.clone() }), [run_id(2)]);
    assert_eq!(listed(RunFilter { host: Some("web0".into()), ..all.clone() }), []);
    assert_eq!(listed(RunFilter { runbook: Some("web.yml".into()), ..all.clone() }).len(), 3);
    assert_eq!(listed(RunFilter { runbook: Some("other".into()), ..all.clone() }), []);
    let since = Some(Timestamp(START + 120_000_000));
    assert_eq!(listed(RunFilter { since, ..all.clone() }), [run_id(3), run_id(2)]);
    for (word, run) in [("succeeded", 1), ("rolled_back", 2), ("rolled-back", 2), ("open", 3)] {
        let outcome: OutcomeFilter = word.parse().unwrap();
        assert_eq!(listed(RunFilter { outcome: Some(outcome), ..all.clone() }), [run_id(run)], "{word}");
    }
    assert!("done".parse::<OutcomeFilter>().unwrap_err().contains("rolled-back"));

    assert_eq!(store.find(run_id(2).as_str()).unwrap(), run_id(2));
    assert_eq!(store.find("20261123-0502").unwrap(), run_id(2));
    let many = store.find("20261123-05").unwrap_err();
    assert_eq!((many.kind, many.message.matches("20261123-050").count()), (FaultKind::Usage, 3), "{many}");
    let none = store.find("20261123-0512").unwrap_err();
    assert_eq!(none.kind, FaultKind::Usage);
    assert!(none.hints[0].contains("did you mean 20261123-050"), "{none:?}");
    for nothing in ["", "x", "zzzz", "%", "2026~"] {
        assert_eq!(store.find(nothing).unwrap_err().kind, FaultKind::Usage, "{nothing:?}");
    }
}

/// What one change of a stored row does.
fn tampered(original: &Path, scratch: &Path, change: impl FnOnce(&Connection)) -> Verdict {
    fs::copy(original, scratch).unwrap();
    let connection = Connection::open(scratch).unwrap();
    change(&connection);
    connection.close().unwrap();
    verify(scratch)
}

#[test]
fn every_changed_byte_of_every_entry_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = small_store(&folder);
    drop(store);
    let scratch = folder.path().join("scratch.db");
    fs::copy(&path, &scratch).unwrap();
    let connection = Connection::open(&scratch).unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    let reader = Store::open_read_only(&scratch).unwrap();
    let cells = "SELECT seq, run, kind, at, body, hash FROM entry ORDER BY seq";
    type Row = (i64, String, String, i64, Vec<u8>, Vec<u8>);
    let read = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Row> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    };
    let rows: Vec<Row> =
        connection.prepare(cells).unwrap().query_map([], read).unwrap().collect::<Result<_, _>>().unwrap();
    let mut tried = 0;
    let mut must_be_found = |seq: i64, column: &str, at: usize, sql: &str, value: &dyn rusqlite::ToSql| {
        connection.execute(sql, params![value, seq]).unwrap();
        let verdict = reader.verify().unwrap();
        let named = verdict.bad.as_ref().map(|bad| bad.seq);
        assert_eq!(named, Some(seq as u64), "{column} of entry {seq}, byte {at}: {verdict:?}");
        tried += 1;
    };
    for (seq, run, kind, at, body, hash) in &rows {
        let seq = *seq;
        for (column, old) in [("body", body), ("hash", hash)] {
            let sql = format!("UPDATE entry SET {column} = ?1 WHERE seq = ?2");
            for place in 0..old.len() {
                let mut new = old.clone();
                new[place] ^= 1 << (place % 8);
                must_be_found(seq, column, place, &sql, &new);
            }
            connection.execute(&sql, params![old, seq]).unwrap();
        }
        for (column, old) in [("run", run), ("kind", kind)] {
            let sql = format!("UPDATE entry SET {column} = ?1 WHERE seq = ?2");
            for place in 0..old.len() {
                let mut new = old.clone().into_bytes();
                new[place] ^= 1;
                must_be_found(seq, column, place, &sql, &String::from_utf8(new).unwrap());
            }
            must_be_found(seq, column, old.len(), &sql, &format!("{old}x"));
            connection.execute(&sql, params![old, seq]).unwrap();
        }
        for bit in 0..63 {
            must_be_found(seq, "at", bit, "UPDATE entry SET at = ?1 WHERE seq = ?2", &(at ^ (1 << bit)));
        }
        connection.execute("UPDATE entry SET at = ?1 WHERE seq = ?2", params![at, seq]).unwrap();
    }
    assert!(tried > 3000, "only {tried} changes were tried");
    assert!(reader.verify().unwrap().is_whole(), "every change was taken back");
}

#[test]
fn rows_removed_reordered_and_inserted_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = small_store(&folder);
    drop(store);
    let scratch = folder.path().join("scratch.db");
    let bad = |verdict: Verdict| verdict.bad.map(|bad| bad.seq);
    for seq in 0..9 {
        let removed = tampered(&path, &scratch, |db| {
            db.execute("DELETE FROM entry WHERE seq = ?1", [seq]).unwrap();
        });
        assert_eq!(bad(removed), Some(seq), "entry {seq} removed");
        let moved_up = tampered(&path, &scratch, |db| {
            db.execute("DELETE FROM entry WHERE seq = ?1", [seq]).unwrap();
            db.execute("UPDATE entry SET seq = seq + 1000 WHERE seq > ?1", [seq]).unwrap();
            db.execute("UPDATE entry SET seq = seq - 1001 WHERE seq > 1000", []).unwrap();
        });
        assert_eq!(bad(moved_up), Some(seq), "entry {seq} removed, and the gap closed");
        let swapped = tampered(&path, &scratch, |db| {
            db.execute("UPDATE entry SET seq = -1 WHERE seq = ?1", [seq]).unwrap();
            db.execute("UPDATE entry SET seq = ?1 WHERE seq = ?1 + 1", [seq]).unwrap();
            db.execute("UPDATE entry SET seq = ?1 + 1 WHERE seq = -1", [seq]).unwrap();
        });
        assert_eq!(bad(swapped), Some(seq), "entries {seq} and the next swapped");
        let doubled = tampered(&path, &scratch, |db| {
            db.execute("UPDATE entry SET seq = seq + 1000 WHERE seq > ?1", [seq]).unwrap();
            let copy = "INSERT INTO entry SELECT seq + 1, run, 'note', at, body, hash FROM entry WHERE seq = ?1";
            db.execute(copy, [seq]).unwrap();
            db.execute("UPDATE entry SET seq = seq - 999 WHERE seq > 1000", []).unwrap();
        });
        assert_eq!(bad(doubled), Some(seq + 1), "entry {seq} doubled");
    }
    let negative = tampered(&path, &scratch, |db| {
        let copy = "INSERT INTO entry SELECT -5, run, 'note', at, body, hash FROM entry WHERE seq = 2";
        db.execute(copy, []).unwrap();
    });
    assert_eq!(bad(negative), Some(0));
    let appended = tampered(&path, &scratch, |db| {
        let copy = "INSERT INTO entry SELECT 10, run, kind, at, body, hash FROM entry WHERE seq = 2";
        db.execute(copy, []).unwrap();
    });
    assert_eq!(bad(appended), Some(10));
    let emptied = tampered(&path, &scratch, |db| {
        db.execute("DELETE FROM entry", []).unwrap();
    });
    assert_eq!(bad(emptied), Some(0));
}

#[test]
fn a_cut_end_is_found_by_witnesses() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = small_store(&folder);
    let seen = |store: &Store| -> Vec<Witness> {
        let id = store.head().unwrap().store;
        let hash = |seq| store.hash_of(seq).unwrap().unwrap();
        (0..10).map(|seq| Witness { store: id.clone(), seq, hash: hash(seq) }).collect()
    };
    let witnesses = seen(&store);
    drop(store);
    let scratch = folder.path().join("scratch.db");
    let cut = tampered(&path, &scratch, |db| {
        db.execute("DELETE FROM entry WHERE seq > 6", []).unwrap();
    });
    assert!(cut.is_whole(), "a chain alone cannot know its end");
    let store = Store::open_read_only(&scratch).unwrap();
    for head in &witnesses {
        let verdict = store.check_witness(head).unwrap();
        match verdict {
            WitnessVerdict::Holds => assert!(head.seq <= 6),
            WitnessVerdict::Broken(bad) => assert!(head.seq > 6 && bad.seq == head.seq),
            WitnessVerdict::OtherStore => panic!("it is this store"),
        }
    }
    let changed = Witness { hash: Digest::of(b"other"), ..witnesses[3].clone() };
    assert!(matches!(store.check_witness(&changed).unwrap(), WitnessVerdict::Broken(bad) if bad.seq == 3));
    let other = Witness { store: "0".repeat(32), ..witnesses[3].clone() };
    assert_eq!(store.check_witness(&other).unwrap(), WitnessVerdict::OtherStore);
    let far = Witness { seq: u64::MAX, ..witnesses[3].clone() };
    assert!(matches!(store.check_witness(&far).unwrap(), WitnessVerdict::Broken(_)));
}

/// What a store says when it is asked everything, in one text; or that it refuses.
fn testimony(path: &Path) -> Result<String, String> {
    let store = Store::open_read_only(path).map_err(|fault| fault.to_string())?;
    let verdict = store.verify().map_err(|fault| fault.to_string())?;
    if !verdict.is_whole() {
        return Err(format!("{verdict:?}"));
    }
    let list = store.runs(&RunFilter::default()).map_err(|fault| fault.to_string())?;
    let events: Vec<_> = (1..4).map(|run| store.events_of(&run_id(run)).map_err(|fault| fault.to_string())).collect();
    Ok(format!("{verdict:?} {list:?} {events:?} {:?}", store.head()))
}

/// Flips bits of the database file itself, where no SQL is needed: either it is found, or nothing that can be read
/// from the store has changed (the byte was in space that is not used).
#[test]
fn no_flipped_byte_of_the_file_changes_what_is_read_unnoticed() {
    let folder = tempfile::tempdir().unwrap();
    let (store, path) = small_store(&folder);
    drop(store);
    let whole = fs::read(&path).unwrap();
    let truth = testimony(&path).unwrap();
    let scratch = folder.path().join("scratch.db");
    let (mut found, mut harmless) = (0, 0);
    for place in (0..whole.len()).step_by(11) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 8);
        fs::write(&scratch, &bytes).unwrap();
        match testimony(&scratch) {
            Err(_) => found += 1,
            Ok(told) => {
                assert_eq!(told, truth, "byte {place} was changed, and nobody noticed");
                harmless += 1;
            }
        }
    }
    assert!(found > 300 && harmless > 100, "{found} found, {harmless} harmless");
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (store, ours) = small_store(&folder);
    drop(store);
    let file = |name: &str| folder.path().join(name);
    fs::write(file("text"), "a text, and long enough to be no header of a database at all").unwrap();
    let foreign = Connection::open(file("foreign")).unwrap();
    foreign.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1);").unwrap();
    drop(foreign);
    for (name, edit) in [
        ("newer", "PRAGMA user_version = 2"),
        ("trigger", "CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM entry WHERE seq = 1; END"),
        ("index", "DROP INDEX entry_of_run"),
    ] {
        fs::copy(&ours, file(name)).unwrap();
        Connection::open(file(name)).unwrap().execute_batch(edit).unwrap();
    }
    fs::write(file("cut"), &fs::read(&ours).unwrap()[..5000]).unwrap();
    for (name, part) in [
        ("text", "it is no database"),
        ("foreign", "another program's database"),
        ("newer", "it has version 2; this Rollbook reads version 1"),
        ("trigger", "its tables are not the ones that Rollbook makes"),
        ("index", "its tables are not the ones that Rollbook makes"),
        ("cut", "it is damaged"),
    ] {
        let before = fs::read(file(name)).unwrap();
        for opened in [Store::open(&file(name)), Store::open_read_only(&file(name))] {
            let fault = opened.and_then(|store| store.verify()).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Record, "{name}");
            assert!(fault.message.contains(part), "{name}: {fault}");
            assert!(!fault.hints.is_empty(), "{name}: what is to be done?");
        }
        assert!(fs::read(file(name)).unwrap() == before, "{name} was written to");
    }
    let missing = Store::open_read_only(&file("missing")).unwrap_err();
    assert!(missing.kind == FaultKind::Record && missing.message.contains("there is no record store"));
    assert!(!file("missing").exists());
    let folder_as_file = Store::open(folder.path()).unwrap_err();
    assert_eq!(folder_as_file.kind, FaultKind::Record);
}

#[test]
fn programs_append_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_in(&folder);
    let writers: Vec<_> = (0..4u32)
        .map(|writer| {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut store = Store::open(&path).unwrap();
                let run = run_id(writer);
                store.append(&opened(&run, 0, "apply", "web01")).unwrap();
                for at in 0..25 {
                    store.append(&note(&run, at, "side by side")).unwrap();
                }
                store.append(&closed(&run, 99, "succeeded")).unwrap()
            })
        })
        .collect();
    let heads: Vec<Witness> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let verdict = verify(&path);
    assert!(verdict.is_whole(), "{verdict:?}");
    assert_eq!((verdict.entries, verdict.runs, verdict.open_runs.len()), (1 + 4 * 27, 4, 0));
    let store = Store::open_read_only(&path).unwrap();
    heads.iter().for_each(|head| assert_eq!(store.check_witness(head).unwrap(), WitnessVerdict::Holds));
}

#[test]
fn a_run_is_opened_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = small_store(&folder);
    let before = store.head().unwrap();
    let fault = store.append_all(&[note(&run_id(3), 1, "first"), opened(&run_id(3), 2, "apply", "x")]).unwrap_err();
    assert!(fault.message.contains("was opened already"), "{fault}");
    assert_eq!(store.head().unwrap(), before, "all or none");
}

/// What the child that is to be killed is told: the round, and where the store is.
const VICTIM: &str = "ROLLBOOK_TEST_VICTIM";

/// No test of its own: the program that `what_is_acknowledged_survives_kill` starts and kills.
#[test]
fn victim_that_appends_until_it_is_killed() {
    let Ok(told) = std::env::var(VICTIM) else { return };
    let (round, path) = told.split_once(' ').unwrap();
    let mut store = Store::open(Path::new(path)).unwrap();
    let run = run_id(round.parse().unwrap());
    store.append(&opened(&run, 0, "apply", "web01")).unwrap();
    for at in 0..1_000_000 {
        let head = store.append(&note(&run, at, &"x".repeat(at as usize % 5000))).unwrap();
        println!("acknowledged {} {}", head.seq, head.hash);
    }
}

#[test]
fn what_is_acknowledged_survives_kill() {
    let folder = tempfile::tempdir().unwrap();
    let path = store_in(&folder);
    let mut acknowledged: Vec<(u64, Digest)> = Vec::new();
    for round in 0..6u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "victim_that_appends_until_it_is_killed", "--nocapture"])
            .env(VICTIM, format!("{round} {}", path.display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (says, is_at_work) = mpsc::channel();
        let killer = std::thread::spawn(move || {
            is_at_work.recv_timeout(Duration::from_secs(60)).expect("it gets to work");
            std::thread::sleep(Duration::from_millis(70 * round));
            child.kill().unwrap();
            child.wait().unwrap()
        });
        let mut told_now = 0;
        for line in lines.map_while(Result::ok) {
            let Some((_, told)) = line.split_once("acknowledged ") else { continue };
            told_now += 1;
            if told_now == 12 {
                says.send(()).unwrap();
            }
            // The last line may be cut: it was not wholly told.
            let Some((seq, hash)) = told.split_once(' ') else { continue };
            acknowledged.extend(hash.parse().ok().map(|hash| (seq.parse().unwrap(), hash)));
        }
        drop(says);
        assert!(!killer.join().unwrap().success(), "the child was killed, and did not end by itself");
        let store = Store::open_read_only(&path).unwrap();
        let verdict = store.verify().unwrap();
        assert!(verdict.is_whole(), "round {round}: {verdict:?}");
        for (seq, hash) in &acknowledged {
            assert_eq!(store.hash_of(*seq).unwrap(), Some(*hash), "round {round}: entry {seq} is lost");
        }
        assert_eq!(verdict.open_runs.len(), round as usize + 1);
    }
    assert!(acknowledged.len() > 60, "only {} entries were acknowledged", acknowledged.len());
}
