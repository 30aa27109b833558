//! Which results of steps a text names, told without rendering it.

use crate::{
    base::Place,
    model::{
        node::{Node, Value},
        runbook::Placed,
    },
    render::{Renderer, diagnosis::Source, engine, spot},
};

impl Renderer {
    /// The ids of the steps whose results the texts of a node name, each where it stands. Those that come by way of a
    /// variable or a file show only when it is rendered. `expressions` is as in [`Renderer::node`].
    pub fn results_in(&self, node: &Node, expressions: &[&str]) -> Vec<Placed<String>> {
        match &node.value {
            Value::Text { text, .. } if engine::is_template(text) => self.named(&Source::text(text, &node.place), text),
            Value::List(items) => items.iter().flat_map(|item| self.results_in(item, &[])).collect(),
            Value::Map(entries) => {
                let of_entry = |key: &str, value| match expressions.contains(&key) {
                    true => self.results_in_expressions(value),
                    false => self.results_in(value, &[]),
                };
                entries.iter().flat_map(|entry| of_entry(&entry.key, &entry.value)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The same for an expression.
    pub fn results_in_expression(&self, text: &str, place: &Place) -> Vec<Placed<String>> {
        self.named(&Source::expression(text, place), text)
    }

    /// The same for the items of a loop, as [`Renderer::items`] reads them.
    pub fn results_in_items(&self, each: &Node) -> Vec<Placed<String>> {
        match each.as_text() {
            Some(text) if !engine::is_template(text) => self.results_in_expression(text, &each.place),
            _ => self.results_in(each, &[]),
        }
    }

    /// The same for an expression, or a list of them.
    fn results_in_expressions(&self, node: &Node) -> Vec<Placed<String>> {
        match &node.value {
            Value::Text { text, .. } => self.results_in_expression(text, &node.place),
            Value::List(items) => items.iter().flat_map(|item| self.results_in_expressions(item)).collect(),
            _ => Vec::new(),
        }
    }

    fn named(&self, source: &Source<'_>, text: &str) -> Vec<Placed<String>> {
        if !text.contains("steps") {
            return Vec::new();
        }
        let names = self.engine.paths(&source.name());
        let mut ids: Vec<_> =
            names.filter_map(|name| Some(name.strip_prefix("steps.")?.split('.').next()?.to_owned())).collect();
        ids.sort_unstable();
        ids.dedup();
        let placed = |id: String| {
            let found = spot::find_word(text, &format!("steps.{id}"));
            let place = found.map_or_else(|| source.place.clone(), |bytes| spot::in_text(source.place, text, bytes));
            Placed { value: id, place }
        };
        ids.into_iter().map(placed).collect()
    }
}
