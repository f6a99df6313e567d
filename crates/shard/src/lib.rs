//! Hash slots, the consistent-hash ring, the map of slots to shards, and the founding record
