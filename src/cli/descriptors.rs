//! How many hosts at once the limit on open files allows.

use std::sync::Once;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is open beside the hosts: the record, the runtime, standard streams, files that are read.
const OWN: u64 = 64;

/// What one host may have open: a socket, or the system's ssh with its pipes, and a local file that is sent.
const PER_HOST: u64 = 6;

/// How many hosts at once: `wanted`, or as many as the limit on open files has room for, which is said once. The limit
/// itself is raised as far as that may be done without asking anyone.
pub(crate) fn hosts_at_once(wanted: u16) -> usize {
    static SAID: Once = Once::new();
    let limit = raised_to(OWN + PER_HOST * u64::from(wanted));
    let allowed = allowed(u64::from(wanted), limit);
    if allowed < u64::from(wanted) {
        SAID.call_once(|| {
            crate::report::say(&format!(
                "{allowed} hosts at once, not {wanted}: only {} files may be open here (see ulimit -n)",
                limit.unwrap_or_default()
            ));
        });
    }
    usize::try_from(allowed).expect("at most what was wanted")
}

/// The limit on open files, after it was raised as far as needed and allowed; none where there is none.
fn raised_to(needed: u64) -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < needed) {
        let current = Some(maximum.map_or(needed, |maximum| needed.min(maximum)));
        let _stays_as_it_is = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
    getrlimit(Resource::Nofile).current
}

fn allowed(wanted: u64, limit: Option<u64>) -> u64 {
    limit.map_or(wanted, |limit| (limit.saturating_sub(OWN) / PER_HOST).clamp(1, wanted.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_leaves_room_for_fewer_hosts() {
        assert_eq!(allowed(20, None), 20);
        assert_eq!(allowed(20, Some(1024)), 20);
        assert_eq!(allowed(1000, Some(256)), 32);
        assert_eq!(allowed(20, Some(10)), 1);
    }
}
