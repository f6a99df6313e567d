//! The driver of a real node: sockets, threads and the disk
