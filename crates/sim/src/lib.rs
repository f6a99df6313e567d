//! The deterministic world in which whole nodes are tested: clock, network, disks, faults, checkers
