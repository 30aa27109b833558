//! YAML to model, every value with its place.
