//! The events that docs/events.md shows, for tests: the page and the program cannot part.

use serde_json::Value;

use crate::model::event::Stamped;

/// The page.
const PAGE: &str = include_str!("../../docs/events.md");

/// Every example of the page, as it stands there.
pub(super) fn texts() -> Vec<&'static str> {
    let blocks = PAGE.split("```json\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("a split has a first piece")).collect()
}

/// Every example of the page.
pub(super) fn events() -> Vec<Stamped> {
    texts().into_iter().map(|text| serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))).collect()
}

#[test]
fn every_example_of_the_page_is_an_event_and_tells_all_of_it() {
    for text in texts() {
        let shown: Value = serde_json::from_str(text).unwrap();
        let event: Stamped = serde_json::from_value(shown.clone()).unwrap_or_else(|why| panic!("{why}: {text}"));
        assert_eq!(serde_json::to_value(&event).unwrap(), shown, "a field is missing or has another name");
    }
}

#[test]
fn the_page_shows_every_event_and_every_kind_of_state() {
    let all = texts().concat();
    let word = |event: &Stamped| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned();
    let mut words: Vec<String> = events().iter().map(word).collect();
    words.sort();
    words.dedup();
    let listed: Vec<&str> = PAGE
        .lines()
        .skip_while(|line| !line.starts_with("| event |"))
        .skip(2)
        .map_while(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let mut listed: Vec<String> = listed.into_iter().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(words, listed, "the table and the examples");
    // A new event must be shown: this match is complete or does not compile.
    for event in events() {
        use crate::model::event::Event::*;
        match event.event {
            RunOpened(_) | HostConnected(_) | HostUnreachable { .. } | StepStarted { .. } | DeedDone { .. } => {}
            StepEnded { .. } | DeedUndone { .. } | HostEnded { .. } | RunClosed { .. } | Note { .. } => {}
        }
    }
    assert_eq!(words.len(), 10);
    for part in [
        "\"path\"",
        "\"package\"",
        "\"service\"",
        "\"user\"",
        "\"group\"",
        "\"file\"",
        "\"directory\"",
        "\"link\"",
        "\"other\"",
        "\"absent\"",
        "\"restart\"",
        "\"reload\"",
        "\"run\": {\"argv\"",
        "\"repeat\"",
        "\"irreversible\"",
        "\"to_be\"",
        "\"drifted\"",
    ] {
        assert!(all.contains(part), "{part} is not shown");
    }
}
