//! The log and snapshots from outside: crashes, damage, recycling.

mod building;
mod crashes;
mod damage;
mod faults;
mod recycling;
mod repair;
mod scrubbing;
mod snapshots;
mod support;
mod twin;
mod world;
