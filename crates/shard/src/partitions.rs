//! The argument `<partitions>` of `flotilla run`.
