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
        // It is more than the program that goes: of a database, the data.
        _ if is_clear(after) && !is_clear(before) => add("state", standing(before), "purged, with its data".into()),
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

/// Whether nothing at all is left of it.
fn is_clear(state: &PackageState) -> bool {
    state.version.is_none() && state.unfinished.is_none() && !state.residue
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_a_package_goes_with_its_data_is_said() {
        let none = PackageState { version: None, unfinished: None, held: false, automatic: false, residue: false };
        let installed = PackageState { version: Some("1.0".into()), ..none.clone() };
        let removed = PackageState { residue: true, ..none.clone() };
        let told = |before, after| differences(before, after)[0].after.clone();
        assert_eq!(told(&installed, &none), "purged, with its data");
        assert_eq!(told(&removed, &none), "purged, with its data");
        assert_eq!(told(&installed, &removed), "removed, configuration kept");
        assert_eq!(told(&none, &installed), "installed 1.0");
    }
}
