//! YAML to model, every value with its place. The only place that names the YAML crate.

pub mod inventory;
pub mod pattern;
pub mod runbook;
pub mod yaml;
