//! Real processes, real disks, stock Redis clients: what only the whole can show.

mod arguments;
mod backup;
mod bench;
mod chaos;
mod clients;
mod disks;
mod durability;
mod examples;
mod failover;
mod full_disk;
mod hostile;
mod inspect;
mod placing;
mod serving;
mod stopping;
mod support;
mod text;
mod together;
