//! What may be written of the machine.

use std::marker::PhantomData;

/// Everything that can change the machine. Minted by the journal alone, for entries that are already durable.
#[derive(Debug)]
pub struct Tools<'journal> {
    journal: PhantomData<&'journal ()>,
}
