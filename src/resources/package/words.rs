//! What differs between two states of a package, in people's words.

use crate::model::state::{Difference, PackageState};

/// What differs.
pub(super) fn differences(before: &PackageState, after: &PackageState) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut add = |attribute: &str, before: String, after: String| {
        if before != after {
            found.push(Difference { attribute: attribute.into(), before, after });
        }
    };
    match (&before.version, &after.version) {
        (Some(old), Some(new)) => add("version", old.clone(), new.clone()),
        _ => add("state", standing(before), standing(after)),
    }
    let yes_no = |truth: bool| if truth { "yes" } else { "no" }.to_owned();
    add("held", yes_no(before.held), yes_no(after.held));
    // Whether a package that is not there is automatic means nothing.
    if before.version.is_some() && after.version.is_some() {
        add("automatic", yes_no(before.automatic), yes_no(after.automatic));
    }
    found
}

fn standing(state: &PackageState) -> String {
    let PackageState { version, unfinished, residue, held: _, automatic } = state;
    match (version, unfinished) {
        (_, Some(word)) => word.clone(),
        (Some(version), None) if *automatic => format!("installed {version} as a dependency"),
        (Some(version), None) => format!("installed {version}"),
        (None, None) if *residue => "removed, configuration kept".into(),
        (None, None) => "absent".into(),
    }
}
