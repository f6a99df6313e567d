//! Clients and strangers that mean no good, or know no better (P15): each gets a clear error or
//! the end of its connection, the node's memory stays bounded, and another client of the same node
//! hardly notices.

mod arrays;
mod bytes;
mod crowd;
mod peers;
mod readers;
mod scene;
