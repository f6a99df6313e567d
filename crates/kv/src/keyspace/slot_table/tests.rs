use super::*;

/// A mixer of small numbers to hashes [SplitMix64].
fn hash_of(n: u64) -> u64 {
    let mut z = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn item(n: u64) -> Item {
    Item::new(hash_of(n), &n.to_le_bytes(), b"value", (n.is_multiple_of(3)).then_some(n + 1))
}

/// The sub-tables from the lowest hash to the highest.
fn sub_table_sizes(table: &SlotTable) -> Vec<usize> {
    let (mut sizes, mut from) = (Vec::new(), 0);
    loop {
        let (items, end) = table.sub_table(from);
        let hashes: Vec<u64> = items.map(Item::hash).collect();
        assert!(hashes.iter().all(|&hash| (from..=end).contains(&hash)));
        sizes.push(hashes.len());
        match end.checked_add(1) {
            Some(next) => from = next,
            None => return sizes,
        }
    }
}

#[test]
fn a_large_slot_is_split_and_a_small_one_joined() {
    let mut table = SlotTable::default();
    for n in 0..10_000 {
        table.insert(item(n));
    }
    let sizes = sub_table_sizes(&table);
    assert!(sizes.len() > 8 && sizes.iter().all(|&size| size <= KEYS_PER_TABLE), "{sizes:?}");
    assert_eq!(sizes.iter().sum::<usize>(), table.len());
    for n in 0..9_990 {
        assert_eq!(
            table.remove(hash_of(n), &n.to_le_bytes()).map(|item| item.hash()),
            Some(hash_of(n))
        );
    }
    assert_eq!(sub_table_sizes(&table).len(), 1);
    for n in 0..10_000 {
        assert_eq!(table.find(hash_of(n), &n.to_le_bytes()).is_some(), n >= 9_990);
    }
}

#[test]
fn the_sums_end_where_they_began() {
    let mut table = SlotTable::default();
    for n in 0..3_000 {
        table.insert(item(n));
    }
    assert_eq!(table.earliest_expiry().map(|at| at.0), Some(1));
    assert!(table.expires_between(0, 1) && !table.expires_between(1, 3));
    for n in 0..3_000 {
        table.remove(hash_of(n), &n.to_le_bytes()).expect("inserted above");
    }
    assert_eq!((table.len(), table.bytes(), table.digest()), (0, 0, 0));
    assert_eq!(table.earliest_expiry(), None);
}

#[test]
fn keys_of_one_hash_are_told_apart() {
    let mut table = SlotTable::default();
    for n in 0..(KEYS_PER_TABLE as u64 + 200) {
        table.insert(Item::new(5, &n.to_le_bytes(), b"", Some(10)));
    }
    assert_eq!(sub_table_sizes(&table).iter().max(), Some(&(KEYS_PER_TABLE + 200)));
    assert!(table.remove(5, &7_u64.to_le_bytes()).is_some());
    assert!(table.find(5, &7_u64.to_le_bytes()).is_none());
    assert!(table.find(5, &8_u64.to_le_bytes()).is_some());
    assert_eq!(table.earliest_expiry(), Some((10, 5)), "others of the hash still expire then");
}
