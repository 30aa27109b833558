//! Secrets in events.

use crate::{
    base::{Masker, secret::HIDDEN},
    model::event::{
        Capped, Event, HostConnected, Operator, Output, RunOpened, RunbookLabel, StepEnd, StepLabel, Undone,
    },
    report::masked::Hide,
};

impl Hide for Event {
    fn hide(&mut self, masker: &Masker) {
        match self {
            Event::RunOpened(opened) => opened.hide(masker),
            Event::HostConnected(connected) => connected.hide(masker),
            Event::HostUnreachable { host: _, fault } => fault.hide(masker),
            Event::StepStarted { host: _, step } => step.hide(masker),
            Event::DeedDone { host: _, step, report, took_us: _ } => {
                step.hide(masker);
                report.hide(masker);
            }
            Event::StepEnded { host: _, step, end } => {
                step.hide(masker);
                end.hide(masker);
            }
            Event::DeedUndone { host: _, step, report, how } => {
                step.hide(masker);
                report.hide(masker);
                how.hide(masker);
            }
            Event::HostEnded { host: _, outcome: _, counts: _, fault } => fault.hide(masker),
            Event::RunClosed { outcome: _, hosts: _, counts: _, took_ms: _ } => {}
            Event::Note { host: _, message } => message.hide(masker),
        }
    }
}

impl Hide for RunOpened {
    fn hide(&mut self, masker: &Masker) {
        let RunOpened {
            version: _,
            rollbook: _,
            mode: _,
            operator,
            reason,
            change,
            runbook,
            inventory,
            params,
            set,
            tags,
            limit,
            hosts: _,
            undoes: _,
            becomes,
        } = self;
        operator.hide(masker);
        reason.hide(masker);
        change.hide(masker);
        runbook.hide(masker);
        inventory.iter_mut().for_each(|(file, _digest)| file.hide(masker));
        params.hide(masker);
        set.hide(masker);
        tags.hide(masker);
        limit.hide(masker);
        becomes.hide(masker);
    }
}

impl Hide for Operator {
    fn hide(&mut self, masker: &Masker) {
        let Operator { user, sudo_user, host: _, from } = self;
        user.hide(masker);
        sudo_user.hide(masker);
        from.hide(masker);
    }
}

impl Hide for RunbookLabel {
    fn hide(&mut self, masker: &Masker) {
        let RunbookLabel { file, name, owner, risk: _, digest: _, commit: _, dirty: _, untold } = self;
        file.hide(masker);
        name.hide(masker);
        owner.hide(masker);
        untold.hide(masker);
    }
}

impl Hide for HostConnected {
    fn hide(&mut self, masker: &Masker) {
        let HostConnected { host: _, address, transport: _, host_key: _, agent: _, installed: _, system, took_ms: _ } =
            self;
        address.hide(masker);
        system.hide(masker);
    }
}

impl Hide for StepLabel {
    fn hide(&mut self, masker: &Masker) {
        let StepLabel { no: _, name, kind: _, place, sensitive: _, handler: _ } = self;
        name.hide(masker);
        place.hide(masker);
    }
}

impl Hide for StepEnd {
    fn hide(&mut self, masker: &Masker) {
        let StepEnd { outcome: _, deeds, output, message, attempts: _, took_us: _ } = self;
        deeds.hide(masker);
        output.hide(masker);
        message.hide(masker);
    }
}

impl Hide for Output {
    fn hide(&mut self, masker: &Masker) {
        let Output { code: _, signal: _, timed_out: _, stdout, stderr } = self;
        stdout.hide(masker);
        stderr.hide(masker);
    }
}

impl Hide for Capped {
    fn hide(&mut self, masker: &Masker) {
        let Capped { text, bytes: _, cut: _ } = self;
        match masker.is_partial() && !text.is_empty() {
            true => *text = HIDDEN.to_owned(),
            false => text.hide(masker),
        }
    }
}

impl Hide for Undone {
    fn hide(&mut self, masker: &Masker) {
        match self {
            Undone::Drifted(why) | Undone::Failed(why) => why.hide(masker),
            Undone::Undone | Undone::AlreadyBefore | Undone::Irreversible => {}
        }
    }
}
