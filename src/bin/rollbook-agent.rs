//! The agent: speaks over its own stdin and stdout.

fn main() {}
