//! The few lines of shell that a target is asked to run. All are constants; what varies is passed as arguments, each
//! checked to be plain. Whatever the login shell is (sh, bash, zsh, fish, csh, busybox), it has to know no more than
//! `exec`, words and single quotes: so the scripts have no single quote, no line end, no backslash and no `!` (which csh
//! expands even in quotes).
//!
//! Folders for the agent, in this order, below each a folder of its own that only its user can write:
//! the inventory's `agent_dir`, `~/.cache`, `/var/tmp`, `/dev/shm`. A folder that lies in a place that others can write
//! is entered first and looked at then, so that nobody can exchange it in between.

use crate::{
    base::{Digest, Fault},
    model::inventory::{self, Become},
};

/// What the taking script says on stdout when it begins to listen for the program.
pub(super) const READY: &[u8] = b"ROLLBOOK-READY\n";
/// What it says on stdout when the program lies in its place.
pub(super) const STORED: &[u8] = b"ROLLBOOK-STORED\n";
/// What it says on stderr when no folder can be used; folders and reasons follow.
pub(super) const NOWHERE: &str = "ROLLBOOK-NOWHERE ";
/// What the serving script says on stderr when it finds no agent; the machine follows, and `gzip` where that is there.
pub(super) const MISSING: &str = "ROLLBOOK-MISSING ";

/// Becomes the agent whose digest is `$1`, found below `$2` or in a usual place.
///
/// The agent starts in the home directory, as a login would.
const SERVE: &str = concat!(
    r#"h=$1; "#,
    r#"go() { cd -P "$1" 2>/dev/null && [ "${2:-$PWD}" = "$PWD" ] && [ -O . ] || return 0; "#,
    r#"[ -O "agent-$h" ] && [ -x "agent-$h" ] && [ -s "agent-$h" ] || return 0; "#,
    r#"d=$PWD; cd "$HOME" 2>/dev/null || cd /; exec "$d/agent-$h" serve; }; "#,
    r#"[ "$2" = - ] || go "$2/rollbook-$(id -u)"; "#,
    r#"go "$HOME/.cache/rollbook"; "#,
    r#"u=$(id -u); for b in /var/tmp /dev/shm; do "#,
    r#"cd -P "$b" 2>/dev/null && go "$PWD/rollbook-$u" "$PWD/rollbook-$u"; done; "#,
    r#"echo "ROLLBOOK-MISSING $(uname -m) $(command -v gzip >/dev/null 2>&1 && echo gzip)" >&2; exit 127"#
);

/// Takes the agent whose digest is `$1` and whose length is `$2` from its input into the first place that is ours alone
/// and may be executed from: below `$3`, or a usual one. `$4` is `gzip` where it comes packed.
///
/// A file without a first line for the kernel is read by the shell itself: where even starting that is refused, the
/// place is mounted noexec.
const TAKE: &str = concat!(
    r#"umask 077; h=$1; n=$2; u=$(id -u); w=; f=.new-$$; p=$4; "#,
    r#"all() { case $p in gzip) gzip -dc;; *) cat;; esac; }; "#,
    r#"no() { w="$w $d $1;"; return 1; }; "#,
    r#"at() { d=$1; mkdir -p "$d" 2>/dev/null; "#,
    r#"cd -P "$d" 2>/dev/null || no "cannot be made or entered" || return 1; "#,
    r#"[ "${2:-$PWD}" = "$PWD" ] || no "is a link" || return 1; "#,
    r#"[ -O . ] || no "belongs to another user" || return 1; "#,
    r#"case $(ls -ld .) in d????-??-*) ;; *) no "can be written by others"; return 1;; esac; "#,
    r#"{ echo : >"$f"; } 2>/dev/null && chmod 700 "$f" || no "cannot be written" || return 1; "#,
    r#""./$f" 2>/dev/null || { rm -f "$f"; no "is mounted noexec"; return 1; }; "#,
    r#"echo ROLLBOOK-READY; all >"$f" && [ "$(wc -c <"$f")" -eq "$n" ] && mv -f "$f" "agent-$h" "#,
    r#"&& echo ROLLBOOK-STORED && exit 0; "#,
    r#"rm -f "$f"; echo "the program did not arrive whole in $d" >&2; exit 1; }; "#,
    r#"if [ "$3" = - ]; then :; else case $(ls -ldL "$3/." 2>/dev/null) in "#,
    r#"d???????w[-x]*) d=$3; no "can be written by everybody";; *) at "$3/rollbook-$u";; esac; fi; "#,
    r#"at "$HOME/.cache/rollbook"; "#,
    r#"for b in /var/tmp /dev/shm; do cd -P "$b" 2>/dev/null && at "$PWD/rollbook-$u" "$PWD/rollbook-$u"; done; "#,
    r#"echo "ROLLBOOK-NOWHERE$w" >&2; exit 1"#
);

/// Runs the script `$1` as the user `$3`, by sudo unless that is who we are already; `$2` is the prompt for its
/// password, or `-` where there is none to give. The rest are the script's arguments. sudo speaks English, so that
/// what it refuses can be told.
const AS_USER: &str = concat!(
    r#"s=$1; p=$2; u=$3; shift 3; "#,
    r#"if [ "$(id -un)" = "$u" ]; then exec /bin/sh -c "$s" sh "$@"; fi; "#,
    r#"LC_ALL=C; export LC_ALL; "#,
    r#"case $p in -) exec sudo -n -H -u "$u" -- /bin/sh -c "$s" sh "$@";; "#,
    r#"*) exec sudo -S -p "$p" -H -u "$u" -- /bin/sh -c "$s" sh "$@";; esac"#
);

/// A script with its arguments.
pub(super) struct Script {
    text: &'static str,
    arguments: Vec<Plain>,
}

impl Script {
    /// Becomes the agent.
    pub(super) fn serve(digest: Digest, folder: Option<&Plain>) -> Self {
        Script { text: SERVE, arguments: vec![Plain(digest.to_string()), or_none(folder)] }
    }

    /// Takes the agent from its input, packed by gzip or as it is.
    pub(super) fn take(digest: Digest, bytes: usize, folder: Option<&Plain>, is_packed: bool) -> Self {
        let packed = Plain(if is_packed { "gzip" } else { "-" }.to_owned());
        let arguments = vec![Plain(digest.to_string()), Plain(bytes.to_string()), or_none(folder), packed];
        Script { text: TAKE, arguments }
    }

    /// The command line that runs it as `whom`; `prompt` is what sudo asks for its password with.
    pub(super) fn line(&self, whom: &Become, prompt: Option<&Plain>) -> Result<String, Fault> {
        let user = match whom {
            Become::No => return Ok(line(self.text, &[], &self.arguments)),
            Become::Root => Plain("root".to_owned()),
            Become::User(user) => Plain::user(user)?,
        };
        let first = [or_none(prompt), user];
        Ok(line(AS_USER, &[self.text], &[&first[..], &self.arguments].concat()))
    }
}

fn or_none(word: Option<&Plain>) -> Plain {
    word.cloned().unwrap_or_else(|| Plain("-".to_owned()))
}

/// The line for the login shell.
fn line(script: &str, quoted: &[&str], plain: &[Plain]) -> String {
    let mut line = format!("exec /bin/sh -c '{script}' sh");
    quoted.iter().for_each(|text| line.extend([" '", text, "'"]));
    plain.iter().for_each(|Plain(word)| line.extend([" ", word]));
    line
}

/// A word that means itself in every shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plain(String);

impl Plain {
    /// A folder of the target's, as `agent_dir` names it.
    pub(super) fn folder(text: &str) -> Result<Self, Fault> {
        inventory::check_agent_dir(text).map(|()| Plain(text.to_owned()))
    }

    fn user(text: &str) -> Result<Self, Fault> {
        inventory::check_user(text).map(|()| Plain(text.to_owned()))
    }

    /// A prompt that nobody else can have printed.
    pub(super) fn nonce() -> Self {
        let mut random = [0u8; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).expect("the kernel has randomness");
        Plain(random.iter().fold("rollbook-".to_owned(), |text, byte| format!("{text}{byte:02x}")))
    }

    /// The word.
    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::PermissionsExt, path::Path, process::Command};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn scripts_mean_the_same_in_every_login_shell() {
        for script in [SERVE, TAKE, AS_USER] {
            let odd = script.chars().find(|c| "'\\!\n".contains(*c) || !c.is_ascii());
            assert_eq!(odd, None, "{script}");
        }
    }

    #[test]
    fn words_that_are_not_plain_are_refused() {
        for folder in ["relative", "/a b", "/a;b", "/a/../b", "/$HOME", "/a\nb", "/a'b"] {
            assert!(Plain::folder(folder).is_err(), "{folder:?}");
        }
        for user in ["", "-u", "a b", "a;b", "$(id)", "a'b"] {
            assert!(Plain::user(user).is_err(), "{user:?}");
        }
        assert_eq!(Plain::folder("/opt/a-b_c.d").unwrap().text(), "/opt/a-b_c.d");
        assert_ne!(Plain::nonce(), Plain::nonce());
    }

    /// Runs a script as `/bin/sh` would, with a home of its own; what it wrote, stdout then stderr.
    fn run(shell: &[&str], script: &Script, home: &Path, input: &[u8]) -> (String, String) {
        let line = script.line(&Become::No, None).unwrap();
        let stdin = home.join("input");
        fs::write(&stdin, input).unwrap();
        let output = Command::new(shell[0])
            .args(&shell[1..])
            .args(["-c", &line])
            .env("HOME", home)
            .current_dir(home)
            .stdin(fs::File::open(&stdin).unwrap())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    /// A program that says where it was started, and how.
    const PROGRAM: &[u8] = b"#!/bin/sh\necho served $1 in $PWD\n";

    #[test]
    fn what_was_taken_is_served() {
        let digest = Digest::of(PROGRAM);
        for shell in [&["/bin/sh"][..], &["bash"], &["busybox", "sh"]] {
            if Command::new(shell[0]).arg("--help").output().is_err() {
                continue;
            }
            let home = tempfile::tempdir().unwrap();
            let serve = Script::serve(digest, None);
            let (said, words) = run(shell, &serve, home.path(), b"");
            assert_eq!((said.as_str(), words.trim()), ("", &*format!("{MISSING}{} gzip", std::env::consts::ARCH)));
            let placed = home.path().join(format!(".cache/rollbook/agent-{digest}"));
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(PROGRAM).unwrap();
            for (is_packed, input) in [(true, packer.finish().unwrap()), (false, PROGRAM.to_vec())] {
                let take = Script::take(digest, PROGRAM.len(), None, is_packed);
                let (said, words) = run(shell, &take, home.path(), &input);
                assert_eq!((said.as_bytes(), words.as_str()), (&[READY, STORED].concat()[..], ""), "{shell:?}");
                assert_eq!(fs::read(&placed).unwrap(), PROGRAM);
            }
            assert_eq!(fs::metadata(&placed).unwrap().permissions().mode() & 0o777, 0o700);
            assert_eq!(fs::metadata(placed.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
            let (said, words) = run(shell, &serve, home.path(), b"");
            assert_eq!((said, words.as_str()), (format!("served serve in {}\n", home.path().display()), ""));
        }
    }

    #[test]
    fn a_named_folder_goes_first_and_each_user_has_its_own_below() {
        let home = tempfile::tempdir().unwrap();
        let named = Plain::folder(home.path().join("named").to_str().unwrap()).unwrap();
        let digest = Digest::of(PROGRAM);
        run(&["/bin/sh"], &Script::take(digest, PROGRAM.len(), Some(&named), false), home.path(), PROGRAM);
        let user = rustix::process::geteuid().as_raw();
        assert!(home.path().join(format!("named/rollbook-{user}/agent-{digest}")).exists());
        let (said, _) = run(&["/bin/sh"], &Script::serve(digest, Some(&named)), home.path(), b"");
        assert!(said.starts_with("served"), "{said}");
    }

    #[test]
    fn a_place_that_others_can_write_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let open = home.path().join("open");
        let own = home.path().join(".cache/rollbook");
        for folder in [&open, &own] {
            fs::create_dir_all(folder).unwrap();
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let digest = Digest::of(b"nobody takes this: it is too long");
        let named = Plain::folder(open.to_str().unwrap()).unwrap();
        // Of the length that is announced nothing comes, so that no place elsewhere on this machine is filled.
        let (_, words) = run(&["/bin/sh"], &Script::take(digest, 1, Some(&named), false), home.path(), b"");
        assert_eq!(fs::read_dir(&open).unwrap().count() + fs::read_dir(&own).unwrap().count(), 0, "{words}");
    }

    #[test]
    fn a_cut_program_is_not_put_in_place() {
        let home = tempfile::tempdir().unwrap();
        let digest = Digest::of(PROGRAM);
        let (said, words) =
            run(&["/bin/sh"], &Script::take(digest, PROGRAM.len(), None, false), home.path(), &PROGRAM[1..]);
        assert_eq!(said.as_bytes(), READY);
        assert!(words.contains("did not arrive whole"), "{words}");
        assert_eq!(fs::read_dir(home.path().join(".cache/rollbook")).unwrap().count(), 0);
    }
}
