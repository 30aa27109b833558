//! The sinks of a run: the record, and those who look.

use crate::{
    base::{Fault, Masker},
    cli::Global,
    engine::{Book, book::Ledger},
    model::event::{Mode, Sink},
    record::Store,
    report::{JsonLines, Masked, Style, Terminal},
    wire::message::Witness,
};

/// The book of a run. A plan is shown, and not recorded.
pub(crate) fn open(global: &Global, mode: Mode, diff: bool, masker: &Masker) -> Result<Book, Fault> {
    let ledger: Option<Box<dyn Ledger>> = match mode {
        Mode::Plan => None,
        Mode::Apply => Some(Box::new(Masked::new(Store::open(&global.store())?, masker.clone()))),
    };
    let style = Style { diff, verbose: global.verbose > 0 };
    let watcher: Box<dyn Sink> = match global.json {
        true => Box::new(Masked::new(JsonLines, masker.clone())),
        false => Box::new(Masked::new(Terminal::new(style), masker.clone())),
    };
    Ok(Book { ledger, watchers: vec![watcher] })
}

impl Ledger for Masked<Store> {
    fn head(&self) -> Result<Witness, Fault> {
        self.inner().witness()
    }
}
