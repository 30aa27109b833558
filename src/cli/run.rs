//! What `plan` and `apply` share: options, loading, the stream of events, the way out.
