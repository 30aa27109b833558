//! What a person reads: events as lines and tables, faults as messages with the source line. All output of the
//! program goes through here, and no control byte of a host's passes.
