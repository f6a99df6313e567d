//! The replicated key-value machine: commands, per-slot tables, sessions and expiry
