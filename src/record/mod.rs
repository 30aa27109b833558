//! The record: an embedded store whose entries are a hash chain. The only place that names rusqlite.
