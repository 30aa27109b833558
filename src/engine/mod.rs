//! Which hosts, in which order; one state machine per host.
