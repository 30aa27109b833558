//! `strategy:`.

use serde::Deserialize;

use crate::{
    base::{Fault, Faults},
    model::{
        decode::{self, Fields},
        node::{Node, Value},
        runbook::{KindWord, Step},
        strategy::{Confirm, OnFailure, Scope, Share, Strategy},
    },
    syntax::runbook::step,
};

/// The longest time that a host may be left to wait.
const TIME_MS_MAX: u64 = 3_600_000;

/// In less, no new connection can be expected.
const CONFIRM_MS_MIN: u64 = 3_000;

/// The longest time that a batch may be left to itself.
const BAKE_MS_MAX: u64 = 24 * 3_600_000;

/// The strategy, and the steps of its `verify`.
pub(super) fn read(node: &Node, kinds: &[KindWord]) -> Result<(Strategy, Vec<Step>), Faults> {
    let mut fields = Fields::of(node, "a strategy")?;
    let batches = fields.read("batches", batches).unwrap_or_default();
    let max_failures = fields.read("max_failures", |node| share(node, 0));
    let on_failure = fields.read("on_failure", |node| decode::with(node, |reader| Deserialize::deserialize(reader)));
    let rollback = fields.read("rollback", |node| decode::with(node, |reader| Deserialize::deserialize(reader)));
    let bake_ms = fields.read("bake", bake).unwrap_or_default();
    let grace_ms = fields.read("grace", |node| time(node, 0));
    let confirm = confirm(&mut fields);
    let verify = match fields.value("verify") {
        Some(node) => step::list(node, kinds, &mut fields.faults),
        None => Vec::new(),
    };
    for notified in verify.iter().flat_map(|step| &step.notify) {
        let fault = Fault::input("a step of `verify` cannot notify: the handlers have run when it begins");
        fields.faults.push(fault.at(&notified.place));
    }
    let (on_failure, rollback): (OnFailure, Scope) = (on_failure.unwrap_or_default(), rollback.unwrap_or_default());
    if rollback != Scope::Host && on_failure != OnFailure::Rollback {
        let fault = Fault::input("`rollback` says what goes back together, but with this `on_failure` nothing does");
        fields.faults.push(fault.at(fields.place()).hint("remove one of the two"));
    }
    fields.finish(Some((Strategy { batches, max_failures, on_failure, rollback, bake_ms, grace_ms, confirm }, verify)))
}

/// `confirm_within`, and `confirm_via` beside it.
pub(super) fn confirm(fields: &mut Fields<'_>) -> Option<Confirm> {
    let within = fields.read("confirm_within", |node| time(node, CONFIRM_MS_MIN));
    let via = fields.read("confirm_via", decode::text);
    match (within, via) {
        (Some(within_ms), via) => Some(Confirm { within_ms, via }),
        (None, Some(via)) => {
            let fault = Fault::input("`confirm_via` says where a confirmation goes, and none is asked for");
            fields.faults.push(fault.at(&via.place).hint("add `confirm_within: 60s`"));
            None
        }
        (None, None) => None,
    }
}

/// A time of an hour at most.
fn time(node: &Node, least_ms: u64) -> Result<u64, Fault> {
    match step::duration_ms(node)? {
        time_ms if time_ms > TIME_MS_MAX => Err(Fault::input("a host waits for 1h at most").at(&node.place)),
        time_ms if time_ms < least_ms => {
            Err(Fault::input(format!("this is too short: at least {} s", least_ms / 1000)).at(&node.place))
        }
        time_ms => Ok(time_ms),
    }
}

/// One size or a list of them.
fn batches(node: &Node) -> Result<Vec<Share>, Faults> {
    let Value::List(items) = &node.value else { return Ok(vec![share(node, 1)?]) };
    let mut faults = Faults::default();
    let shares: Vec<Share> = items.iter().filter_map(|item| faults.keep(share(item, 1))).collect();
    if items.is_empty() {
        faults.push(Fault::input("a list without a batch").at(&node.place).hint("leave `batches` out for all at once"));
    }
    faults.or(shares)
}

/// `3` or `25%`, at least `least`.
fn share(node: &Node, least: u32) -> Result<Share, Fault> {
    let wrong = || {
        Fault::input(format!("expected a number of hosts or a percentage, and this is {}", node.what()))
            .at(&node.place)
            .hint("write `3`, or `25%` of all hosts")
    };
    let text = decode::text(node).map_err(|_| wrong())?.value;
    let (digits, is_percent) = text.strip_suffix('%').map_or((&*text, false), |digits| (digits, true));
    let number: u32 = digits.trim().parse().map_err(|_| wrong())?;
    if number < least || is_percent && number > 100 {
        let range = if is_percent { format!("{least}% to 100%") } else { format!("{least} or more") };
        return Err(Fault::input(format!("{text} is out of range")).at(&node.place).hint(format!("write {range}")));
    }
    Ok(if is_percent { Share::Percent(number) } else { Share::Count(number) })
}

fn bake(node: &Node) -> Result<u64, Fault> {
    let time_ms = step::duration_ms(node)?;
    match time_ms > BAKE_MS_MAX {
        true => Err(Fault::input("a batch is left to itself for 24h at most").at(&node.place)),
        false => Ok(time_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::yaml;

    const KINDS: [KindWord; 1] = [KindWord { name: "http", short: None, fields: &["url"], runs: false }];

    fn told(text: &str) -> Result<(Strategy, Vec<Step>), String> {
        let node = yaml::parse("x.yml", text).map_err(|faults| faults.to_string())?;
        read(&node, &KINDS).map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_strategy_is_read() {
        let text = "batches: [1, 25%]\nmax_failures: 10%\nrollback: batch\nbake: 2m\n\
                    confirm_within: 60s\nconfirm_via: \"{{ host.address }}\"\ngrace: 0s\n\
                    verify: [{http: {url: x}}]\n";
        let (strategy, verify) = told(text).unwrap();
        assert_eq!(strategy.batches, [Share::Count(1), Share::Percent(25)]);
        assert_eq!((strategy.max_failures, strategy.rollback), (Some(Share::Percent(10)), Scope::Batch));
        assert_eq!((strategy.bake_ms, strategy.grace_ms, verify.len()), (120_000, Some(0), 1));
        let confirm = strategy.confirm.unwrap();
        assert_eq!((confirm.within_ms, confirm.via.unwrap().value), (60_000, "{{ host.address }}".to_owned()));
        assert_eq!(told("batches: 3").unwrap().0.batches, [Share::Count(3)]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, words) in [
            ("batches: 0", "out of range"),
            ("batches: [1, 120%]", "out of range"),
            ("batches: []", "without a batch"),
            ("batches: many", "expected a number of hosts"),
            ("max_failures: -1", "expected a number of hosts"),
            ("bake: 48h", "24h at most"),
            ("rollback: hosts", "hosts"),
            ("verify: [{http: {url: x}, notify: h}]", "cannot notify"),
            ("confirm_within: 1s", "too short"),
            ("confirm_via: 192.0.2.1", "none is asked for"),
            ("grace: 2h", "1h at most"),
            ("batch: 1", "no key `batch`"),
            ("rollback: run\non_failure: stop", "nothing does"),
        ] {
            let found = told(text).unwrap_err();
            assert!(found.contains(words), "{text}: {found}");
        }
    }
}
