//! Frames that do not come as they were sent.

use super::{Case, Kind, Suite, settle};
use crate::{
    judge::{Judge, Standing},
    scenario::{Ending, Scenario},
};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Garble {
    /// It comes twice.
    Doubled,
    /// It comes behind the next one.
    Swapped,
    /// It does not come.
    Lost,
}

impl Suite<'_> {
    /// Each frame of two runs comes twice, behind the next one, or not at all.
    pub(crate) fn frames(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (at, own) in
            Scenario::ALL.iter().enumerate().filter(|(_, own)| ["all-kinds", "fails-last"].contains(&own.name))
        {
            let count = own.lines(&self.ground.host(own)).2.len();
            let of = |garble, count| (0..count).map(move |nth| Case::of(at, Kind::Frame(garble, nth)));
            cases.extend(
                of(Garble::Doubled, count).chain(of(Garble::Lost, count)).chain(of(Garble::Swapped, count - 1)),
            );
        }
        cases
    }

    /// A frame does not come as it was sent: nothing is done that was not meant, and what was done goes back.
    pub(super) fn garbled(&self, judge: &Judge<'_>, garble: Garble, nth: usize) -> Result<(), String> {
        let host = self.ground.host(judge.scenario);
        let lines = judge.scenario.lines(&host);
        let begins = |nth: usize| if nth == 0 { 0 } else { lines.2[nth - 1] };
        let frame = |nth: usize| &lines.0[begins(nth)..lines.2[nth]];
        let count = lines.2.len();
        let order: Vec<usize> = match garble {
            Garble::Doubled => (0..=nth).chain(nth..count).collect(),
            Garble::Swapped => (0..nth).chain([nth + 1, nth]).chain(nth + 2..count).collect(),
            Garble::Lost => (0..count).filter(|own| *own != nth).collect(),
        };
        let agent = host.start(judge.scenario, None);
        agent.send_and_hang_up(order.into_iter().flat_map(frame).copied().collect());
        agent.wait();
        let (standing, _) = judge.run(&host, &agent.said())?;
        // A last word that comes twice is heard at its first time, or the second is found to be wrong before that.
        let may_stay = garble == Garble::Doubled && nth + 1 == count && judge.scenario.ending == Ending::Stays;
        if standing != Standing::Before && !(may_stay && standing == Standing::After) {
            return Err(format!("the host stands {standing:?}"));
        }
        settle(judge, &host, standing, 0)
    }
}
