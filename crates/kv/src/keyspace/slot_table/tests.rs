use super::*;

/// A table with its hasher.
struct Hashed {
    table: SlotTable,
    hasher: KeyHasher,
}

impl Hashed {
    fn new() -> Self {
        Self { table: SlotTable::default(), hasher: KeyHasher::new(3) }
    }

    fn hash(&self, n: u64) -> u64 {
        self.hasher.hash(&n.to_le_bytes())
    }

    fn set(&mut self, n: u64, value: &[u8], expires_at_ms: Option<u64>) {
        let hash = self.hash(n);
        self.table.set(&self.hasher, hash, &n.to_le_bytes(), value, expires_at_ms);
    }

    fn remove(&mut self, n: u64) -> bool {
        let hash = self.hash(n);
        self.table.remove(&self.hasher, hash, &n.to_le_bytes(), |_| ()).is_some()
    }

    fn has(&self, n: u64) -> bool {
        self.table.find(self.hash(n), &n.to_le_bytes()).is_some()
    }

    /// The sub-tables from the lowest hash to the highest.
    fn sub_table_sizes(&self) -> Vec<usize> {
        let (mut sizes, mut from) = (Vec::new(), 0);
        loop {
            let (items, end) = self.table.sub_table(from);
            let hashes: Vec<u64> = items.map(|item| self.hasher.hash(item.key())).collect();
            assert!(hashes.iter().all(|&hash| (from..=end).contains(&hash)));
            sizes.push(hashes.len());
            match end.checked_add(1) {
                Some(next) => from = next,
                None => return sizes,
            }
        }
    }
}

/// Every third key expires, at its number and 1.
fn expiry(n: u64) -> Option<u64> {
    n.is_multiple_of(3).then_some(n + 1)
}

#[test]
fn a_large_slot_is_split_and_a_small_one_joined() {
    let mut slot = Hashed::new();
    for n in 0..10_000 {
        slot.set(n, &[b'v'; 300][..if n % 10 == 0 { 300 } else { 5 }], expiry(n));
    }
    let sizes = slot.sub_table_sizes();
    assert!(sizes.len() > 8 && sizes.iter().all(|&size| size <= KEYS_PER_TABLE), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), slot.table.len());
    assert!((0..9_990).all(|n| slot.remove(n)));
    assert_eq!(slot.sub_table_sizes().len(), 1);
    assert!((0..10_000).all(|n| slot.has(n) == (n >= 9_990)));
}

#[test]
fn the_sums_end_where_they_began() {
    let mut slot = Hashed::new();
    for n in 0..3_000 {
        slot.set(n, b"value", expiry(n));
    }
    assert_eq!(slot.table.earliest_expiry().map(|at| at.0), Some(1));
    assert!(slot.table.expires_between(0, 1) && !slot.table.expires_between(1, 3));
    for n in 0..3_000 {
        slot.set(n, &[0; 400][..n as usize % 400], None);
        slot.table.append(slot.hash(n), &n.to_le_bytes(), b"tail");
        slot.table.set_expiry(
            &slot.hasher,
            slot.hasher.hash(&n.to_le_bytes()),
            &n.to_le_bytes(),
            expiry(n + 1),
        );
    }
    assert_eq!(slot.table.earliest_expiry().map(|at| at.0), Some(4));
    assert!((0..3_000).all(|n| slot.remove(n)));
    assert_eq!((slot.table.len(), slot.table.bytes(), slot.table.digest()), (0, 0, 0));
    assert_eq!(slot.table.earliest_expiry(), None);
}

#[test]
fn keys_of_one_hash_are_told_apart() {
    let mut slot = Hashed::new();
    slot.hasher = slot.hasher.masked(0);
    for n in 0..(KEYS_PER_TABLE as u64 + 200) {
        slot.set(n, b"", Some(10));
    }
    assert_eq!(slot.sub_table_sizes().iter().max(), Some(&(KEYS_PER_TABLE + 200)));
    assert!(slot.remove(7) && !slot.has(7) && slot.has(8));
    assert_eq!(slot.table.earliest_expiry(), Some((10, 0)), "others of the hash still expire then");
}
