//! Secrets, hidden by value from whoever looks at events.

use crate::{
    base::{Fault, Masker},
    model::event::{Sink, Stamped},
};

/// Hides secrets in every text of every event before another sink sees it.
pub struct Masked<S> {
    inner: S,
    masker: Masker,
}

impl<S: Sink> Masked<S> {
    /// A sink that hides what `masker` knows.
    pub fn new(inner: S, masker: Masker) -> Self {
        Masked { inner, masker }
    }

    /// The sink behind it.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: Sink> Sink for Masked<S> {
    fn take(&mut self, event: &Stamped) -> Result<(), Fault> {
        if self.masker.is_empty() {
            return self.inner.take(event);
        }
        let mut data = serde_json::to_value(event).expect("an event is plain data");
        hide(&self.masker, &mut data);
        let hidden = serde_json::from_value(data)
            .map_err(|error| Fault::internal("hiding secrets in an event broke it").because(&error))?;
        self.inner.take(&hidden)
    }
}

fn hide(masker: &Masker, data: &mut serde_json::Value) {
    match data {
        serde_json::Value::String(text) if masker.finds(text) => *text = masker.hide(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| hide(masker, item)),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(|field| hide(masker, field)),
        _ => {}
    }
}
