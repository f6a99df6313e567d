//! The log and snapshots from outside: crashes, damage, recycling.

mod damage;
mod recycling;
mod snapshots;
mod support;
mod twin;
