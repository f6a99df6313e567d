//! The log and snapshots from outside: crashes, damage, recycling.

mod building;
mod damage;
mod recycling;
mod repair;
mod snapshots;
mod support;
mod twin;
