//! Fault points: places where a test can kill, stop or refuse (docs/hacking.md). Without the feature `faults` the macro
//! leaves no code behind.
//!
//! `fault!("name")` is a place where the program can be killed or stopped. `fault!("name", io)` is an
//! `io::Result<()>` that can fail too, as the call beside it can; `fault!("name", sync)` is one that stands for the
//! fsync beside it. `build.rs` lists all of them in [`POINTS`].
//!
//! `ROLLBOOK_FAULT=point:nth:action` plans a fault (`0` for each time), `ROLLBOOK_FAULT=trace` none; the file
//! `ROLLBOOK_FAULT_LOG` gets the name of each point that is passed, or the plan when it fires. On a host of its own, whose
//! programs get no such variables, the file `/etc/rollbook-fault` says the same, and `/etc/rollbook-fault.log` gets it.

#[cfg(not(feature = "faults"))]
macro_rules! fault {
    ($name:literal) => {};
    ($name:literal, $kind:ident) => {
        $crate::base::point::passed()
    };
}

/// Nothing is planned in a program without fault points.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub(crate) const fn passed() -> std::io::Result<()> {
    Ok(())
}

#[cfg(feature = "faults")]
macro_rules! fault {
    ($name:literal) => {
        $crate::base::point::pass($name)
    };
    ($name:literal, $kind:ident) => {
        $crate::base::point::$kind($name)
    };
}

pub(crate) use fault;

#[cfg(feature = "faults")]
pub use armed::{POINTS, PointKind};
#[cfg(feature = "faults")]
pub(crate) use armed::{io, pass, sync};

#[cfg(feature = "faults")]
mod armed {
    use std::{
        env,
        fs::{self, OpenOptions},
        io::{Error, Result, Write},
        sync::{
            OnceLock,
            atomic::{AtomicBool, AtomicU32, Ordering},
        },
    };

    use rustix::{
        io::Errno,
        process::{Signal, getpid, kill_process},
    };

    include!(concat!(env!("OUT_DIR"), "/fault_points.rs"));

    /// What can happen at a point.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum PointKind {
        /// The program can be killed or stopped.
        Pass,
        /// It can be refused with an error or for want of space, too.
        Io,
        /// It can be refused as a sync is, too.
        Sync,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Action {
        Kill,
        Stop,
        /// This one call fails.
        Error,
        /// No call finds space from here on.
        Full,
    }

    struct Plan {
        point: String,
        nth: u32,
        action: Action,
    }

    enum Order {
        Nothing,
        Trace,
        Planned(Plan),
    }

    /// What stands for the variables where there are none.
    const PLAN: &str = "/etc/rollbook-fault";

    /// The place of a plan that fires each time.
    const EVERY: u32 = 0;

    static HITS: AtomicU32 = AtomicU32::new(0);
    static IS_FULL: AtomicBool = AtomicBool::new(false);

    /// What this process was told to do.
    fn order() -> &'static Order {
        static ORDER: OnceLock<Order> = OnceLock::new();
        let told = || env::var("ROLLBOOK_FAULT").or_else(|_| fs::read_to_string(PLAN));
        ORDER.get_or_init(|| match told().as_deref().map(str::trim) {
            Err(_) => Order::Nothing,
            Ok("trace") => Order::Trace,
            Ok(text) => Order::Planned(parse(text).unwrap_or_else(|| panic!("ROLLBOOK_FAULT={text} is no plan"))),
        })
    }

    fn parse(text: &str) -> Option<Plan> {
        let [point, nth, action] = text.split(':').collect::<Vec<_>>()[..] else { return None };
        let action = match action {
            "kill" => Action::Kill,
            "stop" => Action::Stop,
            "error" => Action::Error,
            "full" => Action::Full,
            _ => return None,
        };
        POINTS.iter().any(|(name, _)| *name == point).then_some(())?;
        Some(Plan { point: point.to_owned(), nth: nth.parse().ok()?, action })
    }

    /// Passes a point that cannot fail.
    pub(crate) fn pass(name: &str) {
        let _only_errors_come_back = reach(name);
    }

    /// Passes a point where a call to the system can fail.
    pub(crate) fn io(name: &str) -> Result<()> {
        reach(name)?;
        match IS_FULL.load(Ordering::SeqCst) {
            true => Err(Errno::NOSPC.into()),
            false => Ok(()),
        }
    }

    /// Passes a point where a sync can fail.
    pub(crate) fn sync(name: &str) -> Result<()> {
        reach(name)
    }

    fn reach(name: &str) -> Result<()> {
        let plan = match order() {
            Order::Nothing => return Ok(()),
            Order::Trace => {
                note(name);
                return Ok(());
            }
            Order::Planned(plan) => plan,
        };
        if plan.point != name {
            return Ok(());
        }
        let hit = HITS.fetch_add(1, Ordering::SeqCst) + 1;
        if plan.nth != EVERY && plan.nth != hit {
            return Ok(());
        }
        note(&format!("fired {name}:{hit}"));
        match plan.action {
            Action::Kill => send(Signal::KILL),
            Action::Stop => send(Signal::STOP),
            Action::Error => return Err(Error::from(Errno::IO)),
            Action::Full => IS_FULL.store(true, Ordering::SeqCst),
        }
        Ok(())
    }

    fn send(signal: Signal) {
        kill_process(getpid(), signal).expect("a process may end itself");
    }

    /// Says in the log what has been reached.
    fn note(line: &str) {
        let path = env::var_os("ROLLBOOK_FAULT_LOG").unwrap_or_else(|| format!("{PLAN}.log").into());
        let mut log =
            OpenOptions::new().append(true).create(true).open(path).expect("the log of faults can be written");
        log.write_all(format!("{line}\n").as_bytes()).expect("the log of faults can be written");
    }
}
