//! From nodes to typed values: the one place where a file's wrong key or wrong type becomes a fault with a place.
