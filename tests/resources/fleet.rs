//! The other tests of this program, on hosts of a fleet.

use std::{path::Path, process::Command};

use crate::support::{Kind, host};

#[test]
#[ignore = "needs the fleet: tests/run"]
fn all_of_them_on_systemd() {
    let host = host(Kind::Systemd);
    let program = host.outside("/root/resources");
    // Without what only a debugger needs: the host's disk is in memory.
    let own = std::env::current_exe().unwrap();
    assert!(Command::new("strip").arg("-o").arg(&program).arg(own).status().unwrap().success());
    let said = host.sh(
        "systemctl is-system-running --wait || true; \
         ROLLBOOK_THROW_AWAY_HOST=1 CARGO_TARGET_TMPDIR=/tmp /root/resources --ignored --test-threads=1 --skip fleet:: 2>&1 \
         || echo 'some failed'",
    );
    println!("{said}");
    let passed = said.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse().ok());
    assert!(passed >= Some(20), "{passed:?} passed");
    assert!(Path::new("/root/resources").symlink_metadata().is_err(), "nothing of it was for this machine");
}
