//! When a command need not run: what `command` and `shell` decide alike.

use crate::{
    model::{
        change::{Act, CommandSpec},
        event::Output,
    },
    resources::{Halt, View},
    steps::{
        Decision,
        fields::{AbsolutePath, CommandLine},
        paths::exists,
    },
};

/// What says whether a command is to run.
pub(super) struct Guards<'a> {
    /// It is not, where this exists.
    pub(super) creates: Option<&'a AbsolutePath>,
    /// It is not, where this does not exist.
    pub(super) removes: Option<&'a AbsolutePath>,
    /// It is not, where this succeeds.
    pub(super) unless: Option<&'a CommandLine>,
    /// It is not, where this fails.
    pub(super) only_if: Option<&'a CommandLine>,
    /// Where the guards' commands are started.
    pub(super) chdir: Option<&'a AbsolutePath>,
    /// Whether the command changes anything; one that does not is a look itself.
    pub(super) changes: bool,
}

impl Guards<'_> {
    /// Runs `command` unless a guard says that there is no need.
    pub(super) fn decide(&self, view: &mut dyn View, command: CommandSpec) -> Result<Decision, Halt> {
        if let Some(reason) = self.rest(view)? {
            return Ok(Decision::nothing().say(reason));
        }
        if !self.changes {
            return look(view, &command);
        }
        let decision = Decision::nothing().act(Act::Run(command));
        Ok(match self.reason() {
            Some(reason) => Decision { guarded: true, ..decision.say(reason) },
            None => decision,
        })
    }

    /// Why it is to run, as those guards see it that must see it otherwise afterwards.
    fn reason(&self) -> Option<String> {
        let creates = self.creates.map(|path| format!("{} does not exist", path.as_str()));
        let removes = self.removes.map(|path| format!("{} exists", path.as_str()));
        let unless = self.unless.map(|command| format!("{:?} fails", command.0.join(" ")));
        let reasons: Vec<String> = [creates, removes, unless].into_iter().flatten().collect();
        (!reasons.is_empty()).then(|| reasons.join(", "))
    }

    /// Why there is no need, if there is none. The cheap looks come first.
    fn rest(&self, view: &mut dyn View) -> Result<Option<String>, Halt> {
        if let Some(path) = self.creates
            && exists(view, path)?
        {
            return Ok(Some(format!("{} exists", path.as_str())));
        }
        if let Some(path) = self.removes
            && !exists(view, path)?
        {
            return Ok(Some(format!("{} does not exist", path.as_str())));
        }
        if let Some(command) = self.unless
            && self.succeeds(view, command)?
        {
            return Ok(Some(format!("{:?} succeeds", command.0.join(" "))));
        }
        if let Some(command) = self.only_if
            && !self.succeeds(view, command)?
        {
            return Ok(Some(format!("{:?} fails", command.0.join(" "))));
        }
        Ok(None)
    }

    /// Asks a guard's command. It sees the host as it is, not as earlier steps of a plan would have left it.
    fn succeeds(&self, view: &mut dyn View, CommandLine(argv): &CommandLine) -> Result<bool, Halt> {
        if view.planning() && view.staged() {
            return Err(Halt::Unknown(format!(
                "whether {:?} succeeds may depend on earlier steps; it is asked when they are done",
                argv.join(" ")
            )));
        }
        let chdir = self.chdir.map(|path| path.as_str().to_owned());
        let command = CommandSpec { argv: argv.clone(), chdir, ..Default::default() };
        let output = view.ask(&command)?;
        match output.timed_out {
            true => Err(Halt::Failed(format!("the guard {:?} took too long", argv.join(" ")))),
            false => Ok(output.succeeded()),
        }
    }
}

/// Runs a command that only looks. One that fails may succeed at the next try.
fn look(view: &mut dyn View, command: &CommandSpec) -> Result<Decision, Halt> {
    let name = command.argv.first().map_or("", String::as_str);
    if view.planning() && view.staged() {
        return Err(Halt::Unknown(format!("{name} is run when the earlier steps are done")));
    }
    let output = view.ask(command)?;
    if !command.accepts(&output) {
        return Err(Halt::NotYet(failure(name, &output)));
    }
    Ok(Decision { output: Some(output), ..Decision::default() })
}

/// How a look failed, with the last line that it printed.
fn failure(name: &str, output: &Output) -> String {
    let how = match (output.timed_out, output.code, output.signal) {
        (true, ..) => "took too long".to_owned(),
        (_, Some(code), _) => format!("ended with code {code}"),
        (_, None, signal) => format!("was ended by signal {}", signal.unwrap_or(0)),
    };
    let printed = [&output.stderr, &output.stdout].map(|stream| stream.text.trim_end().lines().last().unwrap_or(""));
    match printed.into_iter().find(|line| !line.is_empty()) {
        Some(line) => format!("{name} {how}: {line}"),
        None => format!("{name} {how}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        resources::Halt,
        steps::{command::Command, fake::Fake},
    };

    /// Whether the command would run.
    fn runs(fake: &mut Fake, guards: &str) -> Result<bool, Halt> {
        let decision = fake.ask_step::<Command>(&format!(r#"{{"cmd": "work", {guards}}}"#))?;
        Ok(!decision.acts.is_empty())
    }

    #[test]
    fn each_guard_can_stop_it() {
        let mut fake = Fake::with(&["/there", "/dangling -> /none"]);
        fake.commands = [("yes".to_owned(), 0), ("no".to_owned(), 1)].into();
        for (guard, expected) in [
            (r#""creates": "/there""#, false),
            (r#""creates": "/dangling""#, false),
            (r#""creates": "/not/there""#, true),
            (r#""removes": "/there""#, true),
            (r#""removes": "/not/there""#, false),
            (r#""unless": "yes""#, false),
            (r#""unless": ["no"]"#, true),
            (r#""only_if": "yes""#, true),
            (r#""only_if": "no""#, false),
        ] {
            assert_eq!(runs(&mut fake, guard), Ok(expected), "{guard}");
        }
        assert!(matches!(runs(&mut fake, r#""unless": "missing""#), Err(Halt::Failed(_))));
    }

    #[test]
    fn a_plan_asks_no_command_about_what_is_yet_to_change() {
        let mut fake = Fake::with(&["/there"]);
        (fake.planning, fake.staged) = (true, true);
        assert!(matches!(runs(&mut fake, r#""unless": "yes""#), Err(Halt::Unknown(_))));
        assert_eq!(runs(&mut fake, r#""unless": "yes", "creates": "/there""#), Ok(false));
        assert!(fake.asked.is_empty());
    }

    #[test]
    fn a_look_is_no_act() {
        let mut fake = Fake::with(&[]);
        fake.commands = [("work".to_owned(), 0)].into();
        assert_eq!(runs(&mut fake, r#""changes": false"#), Ok(false));
        assert_eq!(fake.asked, ["work"]);
        fake.commands = [("work".to_owned(), 3)].into();
        assert_eq!(runs(&mut fake, r#""changes": false"#), Err(Halt::NotYet("work ended with code 3".into())));
        assert_eq!(runs(&mut fake, r#""changes": false, "ok_codes": [3]"#), Ok(false));
        (fake.planning, fake.staged) = (true, true);
        assert!(matches!(runs(&mut fake, r#""changes": false"#), Err(Halt::Unknown(_))));
    }

    #[test]
    fn a_sensitive_argument_is_refused() {
        let refused = runs(&mut Fake::with(&[]), r#""unless": "login hunter2""#).unwrap_err();
        assert!(refused.message().contains("sensitive"));
    }
}
