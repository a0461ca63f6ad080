//! The CPU backend: the specification of every op, and a fast path that is tested against it.
