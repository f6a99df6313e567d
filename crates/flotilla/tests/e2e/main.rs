//! Real processes, real disks, stock Redis clients: what only the whole can show.

mod arguments;
mod bench;
mod clients;
mod durability;
mod failover;
mod serving;
mod stopping;
mod support;
