//! How long a host keeps settled runs: the newest twenty, unless the file `keep_runs` beside the journals says
//! otherwise.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::{
    base::point::fault,
    model::ids::RunId,
    target::{
        journal::store::{IMAGES, JOURNAL, remove_tree},
        probe::open_regular,
    },
};

/// How many settled runs are kept where nothing is said.
const KEPT_RUNS: usize = 20;

/// The file's longest form.
const WORDS_BYTES_MAX: u64 = 64;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Which settled runs are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    /// The newest ones.
    Runs(usize),
    /// Those that were settled at most so long ago.
    For(Duration),
    /// All: what the file says is not understood, and what was kept for somebody must not go by mistake.
    All,
}

impl Keep {
    /// What the store in `root` is to keep.
    fn of(root: &Path) -> Keep {
        let mut words = String::new();
        match open_regular(&root.join("keep_runs")) {
            Ok(file) => match file.take(WORDS_BYTES_MAX).read_to_string(&mut words) {
                Ok(_) => Keep::parse(words.trim()),
                Err(_) => Keep::All,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Keep::Runs(KEPT_RUNS),
            Err(_) => Keep::All,
        }
    }

    /// `50` runs, or those of `30d`.
    fn parse(words: &str) -> Keep {
        let days = words.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
        match (words.parse(), days) {
            (Ok(runs), _) => Keep::Runs(runs),
            (_, Some(days)) => Keep::For(DAY * days),
            _ => Keep::All,
        }
    }

    /// Those of `runs`, oldest first, that are kept no longer.
    fn surplus(self, runs: &[(PathBuf, SystemTime)], now: SystemTime) -> impl Iterator<Item = &PathBuf> {
        let count = runs.len();
        let goes = move |at: usize, settled: SystemTime| match self {
            Keep::Runs(kept) => at + kept < count,
            Keep::For(time) => now.duration_since(settled).is_ok_and(|age| age > time),
            Keep::All => false,
        };
        runs.iter().enumerate().filter(move |(at, (_, settled))| goes(*at, *settled)).map(|(_, (path, _))| path)
    }
}

/// Removes the settled runs that the store in `root` keeps no longer. Runs that went back by themselves are counted
/// apart: nothing of them is left to undo, so they must not displace those that can be undone.
pub(super) fn collect(root: &Path, runs: &Path) -> io::Result<()> {
    let (mut whole, mut gone_back) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(runs)? {
        let path = entry?.path();
        let is_run = path.file_name().and_then(|name| name.to_str()?.parse::<RunId>().ok()).is_some();
        if is_run {
            let settled = fs::metadata(path.join(JOURNAL)).and_then(|found| found.modified());
            let kind = if path.join(IMAGES).is_dir() { &mut whole } else { &mut gone_back };
            kind.push((path, settled.unwrap_or(SystemTime::UNIX_EPOCH)));
        }
    }
    let (keep, now) = (Keep::of(root), SystemTime::now());
    for mut runs in [whole, gone_back] {
        // Not by their names: these have the clocks of those who ran them.
        runs.sort_unstable_by(|(one, settled), (other, later)| settled.cmp(later).then_with(|| one.cmp(other)));
        keep.surplus(&runs, now).try_for_each(|path| fault!("store.collect", io).and_then(|()| remove_tree(path)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_runs_or_days() {
        assert_eq!(Keep::parse("50"), Keep::Runs(50));
        assert_eq!(Keep::parse("0"), Keep::Runs(0));
        assert_eq!(Keep::parse("30d"), Keep::For(DAY * 30));
        for unclear in ["", "-1", "30 d", "a week", "d", "99999999999d"] {
            assert_eq!(Keep::parse(unclear), Keep::All, "{unclear:?}");
        }
    }

    /// Makes runs with these letters, some of which went back; what is left of them in the end.
    fn left(words: Option<&str>, runs: impl Iterator<Item = (u32, bool)>) -> usize {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let all = folder.path().join("runs");
        for (letter, went_back) in runs {
            let run = all.join(RunId::from_parts(&format!("20261123-0510{:02}", letter / 31), letter % 31).as_str());
            fs::create_dir_all(&run).expect("a folder can be made");
            fs::write(run.join(JOURNAL), "").expect("a file can be made");
            if !went_back {
                fs::create_dir(run.join(IMAGES)).expect("a folder can be made");
            }
        }
        if let Some(words) = words {
            fs::write(folder.path().join("keep_runs"), words).expect("a file can be made");
        }
        collect(folder.path(), &all).expect("what is left over can be removed");
        fs::read_dir(&all).expect("a folder can be read").count()
    }

    #[test]
    fn what_is_kept_no_longer_goes() {
        let runs = |count| (0..count).map(|letter| (letter, false));
        assert_eq!(left(None, runs(25)), 20);
        assert_eq!(left(None, runs(20)), 20);
        assert_eq!(left(Some("3\n"), runs(25)), 3);
        assert_eq!(left(Some("30d\n"), runs(25)), 25);
        assert_eq!(left(Some("0d\n"), runs(25)), 0);
        assert_eq!(left(Some("some\n"), runs(25)), 25);
        let mixed = (0..50).map(|letter| (letter, letter >= 10));
        assert_eq!(left(None, mixed), 30, "forty that went back do not displace ten that can be undone");
    }
}
