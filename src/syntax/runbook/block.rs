//! The work: steps, and blocks of them.

use crate::{
    base::{Fault, Faults},
    model::{
        decode::Fields,
        node::{Node, Value},
        runbook::{KindWord, Mark, Step, Turn},
    },
    syntax::runbook::{ansible, read_vars, step},
};

/// How deep blocks can be nested.
const DEPTH_MAX: usize = 16;

/// The steps in the order of their numbers, and where blocks begin, change and end.
#[derive(Default)]
pub(super) struct Outline {
    pub(super) steps: Vec<Step>,
    pub(super) marks: Vec<(usize, Mark)>,
    depth: usize,
}

impl Outline {
    /// Reads the work; what is wrong is told, and left out.
    pub(super) fn read(node: &Node, kinds: &[KindWord], faults: &mut Faults) -> Outline {
        let mut outline = Outline::default();
        outline.list(node, kinds, faults);
        if matches!(&node.value, Value::List(items) if items.is_empty()) {
            faults.push(Fault::input("a runbook without a step does nothing").at(&node.place));
        }
        outline
    }

    fn list(&mut self, node: &Node, kinds: &[KindWord], faults: &mut Faults) {
        let Some(items) = step::items(node, faults) else { return };
        for item in items {
            let is_block = item.as_map().is_some_and(|entries| entries.iter().any(|entry| entry.key == "block"));
            if is_block {
                faults.keep(self.block(item, kinds));
            } else if let Some(step) = step::read(item, kinds, faults) {
                if self.depth > 0 && step.kind.value == "raw" {
                    let fault = Fault::input("`raw` cannot stand in a block: nothing can undo it");
                    faults.push(fault.at(&step.kind.place).hint("have it before the block or behind it"));
                }
                if let Some(delegate) = step.delegate_to.as_ref().filter(|_| self.depth > 0) {
                    let fault =
                        Fault::input("`delegate_to` cannot stand in a block: that goes back on its own host alone");
                    faults.push(fault.at(&delegate.place).hint("have it before the block or behind it"));
                }
                self.steps.push(step);
            }
        }
    }

    /// Reads a block. What is said of it holds for each of its steps.
    fn block(&mut self, node: &Node, kinds: &[KindWord]) -> Result<(), Faults> {
        let mut fields = Fields::of(node, "a block")?;
        if self.depth == DEPTH_MAX {
            return Err(Fault::input(format!("more than {DEPTH_MAX} blocks in each other")).at(&node.place).into());
        }
        let parts = [
            (Mark::Begin, fields.value("block")),
            (Mark::Rescue, fields.value("rescue")),
            (Mark::Always, fields.value("always")),
        ];
        fields.text("name");
        let when = fields.read("when", step::conditions).unwrap_or_default();
        let environment = fields.read("environment", step::pairs).unwrap_or_default();
        let vars = fields.read("vars", read_vars).unwrap_or_default();
        let sensitive = fields.truth("sensitive");
        let tags = fields.read("tags", step::tags).unwrap_or_default();
        let once = fields.truth("run_once").then_some(Turn::Once);
        let (first, is_broken) = (self.steps.len(), !fields.faults.0.is_empty());
        self.depth += 1;
        for (mark, part) in parts {
            let Some(part) = part else { continue };
            self.marks.push((self.steps.len(), mark));
            if matches!(&part.value, Value::List(items) if items.is_empty()) {
                fields.faults.push(Fault::input("this part of the block has no step").at(&part.place));
            }
            self.list(part, kinds, &mut fields.faults);
        }
        self.depth -= 1;
        self.marks.push((self.steps.len(), Mark::End));
        for step in &mut self.steps[first..] {
            prepend(&mut step.when, &when);
            prepend(&mut step.environment, &environment);
            prepend(&mut step.vars, &vars);
            step.sensitive |= sensitive;
            step.tags.extend_from_slice(&tags);
            step.turn = step.turn.or(once);
            step.is_broken |= is_broken;
        }
        fields.refuse(ansible::instead_of_key);
        fields.finish(Some(()))
    }
}

fn prepend<T: Clone>(list: &mut Vec<T>, first: &[T]) {
    list.splice(0..0, first.iter().cloned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::yaml;

    const KINDS: [KindWord; 2] = [
        KindWord { name: "debug", short: Some("msg"), fields: &["msg"], runs: false },
        KindWord { name: "raw", short: Some("line"), fields: &["line"], runs: false },
    ];

    fn read(text: &str) -> Result<Outline, String> {
        let node = yaml::parse("x.yml", text).map_err(|faults| faults.to_string())?;
        let mut faults = Faults::default();
        let outline = Outline::read(&node, &KINDS, &mut faults);
        faults.or(outline).map_err(|faults| faults.to_string())
    }

    #[test]
    fn blocks_lie_flat_between_their_marks() {
        let outline = read(
            "- debug: a\n\
             - block: [{debug: b}, {block: [{debug: c, when: inner}], when: middle}]\n  \
               rescue: [{debug: d}]\n  always: [{debug: e, tags: own}]\n  when: outer\n  tags: [t]\n\
             - debug: f\n",
        )
        .unwrap();
        use Mark::{Always, Begin, End, Rescue};
        let expected = [(1, Begin), (2, Begin), (3, End), (3, Rescue), (4, Always), (5, End)];
        assert_eq!(outline.marks, expected);
        let conditions: Vec<Vec<&str>> =
            outline.steps.iter().map(|step| step.when.iter().map(|text| text.value.as_str()).collect()).collect();
        let expected: [&[&str]; 6] = [&[], &["outer"], &["outer", "middle", "inner"], &["outer"], &["outer"], &[]];
        assert_eq!(conditions, expected);
        assert_eq!(outline.steps[4].tags, ["own", "t"]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, part) in [
            ("- {debug: a, rescue: [{debug: b}]}\n", "`rescue` stands beside `block`"),
            ("- block: [{raw: ls}]\n", "`raw` cannot stand in a block"),
            ("- block: []\n", "has no step"),
            ("- block: {debug: a}\n", "expected a list of steps"),
            ("- {block: [{debug: a}], notify: x}\n", "there is no key `notify`"),
        ] {
            let told = read(text).map(|_| ()).unwrap_err();
            assert!(told.contains(part), "{text}: {told}");
        }
        let deep = (0..20).fold("{debug: a}".to_owned(), |inner, _| format!("{{block: [{inner}]}}"));
        assert!(read(&format!("- {deep}\n")).map(|_| ()).unwrap_err().contains("more than 16 blocks"));
    }
}
