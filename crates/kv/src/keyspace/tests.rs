use std::collections::{BTreeMap, BTreeSet};

use super::*;

type Model = BTreeMap<(u16, Vec<u8>), (Vec<u8>, Option<u64>)>;

/// A small generator of numbers for schedules [SplitMix64].
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// The tables and a dumb twin of them.
struct Pair {
    keys: Keyspace,
    model: Model,
    now_ms: u64,
}

impl Pair {
    fn new() -> Self {
        Self { keys: Keyspace::new(3), model: Model::new(), now_ms: 1 }
    }

    /// With 16 different hashes in all, so that keys share them.
    fn with_weak_hashes() -> Self {
        let mut pair = Self::new();
        pair.keys.hasher = pair.keys.hasher.masked(0xF << 60);
        pair
    }

    /// One random change of both; `keys` different keys in four slots.
    fn change(&mut self, numbers: &mut Numbers, keys: u64) {
        let slot = [0, 1, 700, 16383][numbers.next(4) as usize];
        let mut key = numbers.next(keys).to_le_bytes().to_vec();
        // Around the longest key and value that are small.
        key.resize(if key[0] % 8 == 7 { 126 + usize::from(key[0] / 8) % 4 } else { 8 }, 0);
        let more = if numbers.next(6) == 0 { 220 } else { 0 };
        let value = vec![numbers.next(256) as u8; (numbers.next(60) + more) as usize];
        let expiry = (numbers.next(3) == 0).then(|| self.now_ms + numbers.next(200));
        let at = (slot, key.clone());
        let alive = self.model.get(&at).is_some_and(|(_, at)| at.is_none_or(|at| at > self.now_ms));
        match numbers.next(100) {
            0..40 => {
                self.keys.set(Slot(slot), &key, &value, expiry);
                self.model.insert(at, (value, expiry));
            }
            40..55 => {
                let entry = self.model.entry(at).or_default();
                if !alive {
                    *entry = (Vec::new(), None);
                }
                entry.0.extend_from_slice(&value);
                let len = self.keys.append(Slot(slot), &key, &value, self.now_ms);
                assert_eq!(len, entry.0.len());
            }
            55..70 => {
                assert_eq!(self.keys.set_expiry(Slot(slot), &key, expiry, self.now_ms), alive);
                if alive {
                    self.model.entry(at).or_default().1 = expiry;
                }
            }
            70..90 => {
                assert_eq!(self.keys.remove(Slot(slot), &key, self.now_ms), alive);
                self.model.remove(&at);
            }
            90..95 => self.advance(numbers.next(20), numbers.next(10) as usize),
            95..98 => assert!(self.keys.free(100) || !self.keys.graveyard.is_empty()),
            98 => {
                self.keys.clear_slot(Slot(slot));
                self.model.retain(|(other, _), _| *other != slot);
            }
            _ if numbers.next(20) == 0 => {
                self.keys.clear_all();
                self.model.clear();
            }
            _ => {}
        }
    }

    /// Lets time pass and purges; the model loses the earliest expired keys in any order of equals.
    fn advance(&mut self, by_ms: u64, at_most: usize) {
        self.now_ms += by_ms;
        let due = |entry: &(Vec<u8>, Option<u64>)| entry.1.is_some_and(|at| at <= self.now_ms);
        let expired = self.model.values().filter(|entry| due(entry)).count();
        assert_eq!(self.keys.purge(self.now_ms, at_most), expired.min(at_most));
        let present: BTreeSet<(u16, Vec<u8>)> = contents(&self.keys).into_keys().collect();
        assert!(self.model.iter().all(|(key, entry)| present.contains(key) || due(entry)));
        self.model.retain(|key, _| present.contains(key));
    }

    fn compare(&self) {
        assert_eq!(contents(&self.keys), self.model);
        assert_eq!(self.keys.len(), self.model.len() as u64);
        let earliest = self.model.values().filter_map(|entry| entry.1).map(|at| at.max(1)).min();
        assert_eq!(self.keys.next_expiry_ms(), earliest);
        let mut rebuilt = Keyspace::new(3);
        rebuilt.hasher = self.keys.hasher;
        for ((slot, key), (value, expiry)) in self.model.iter().rev() {
            rebuilt.set(Slot(*slot), key, value, *expiry);
        }
        assert_eq!(rebuilt.digest(), self.keys.digest(), "the digest is of the contents alone");
        assert_eq!(rebuilt.bytes(), self.keys.bytes());
        let mut listed = [Vec::new(), Vec::new()];
        rebuilt.keys(self.now_ms, &mut |key| listed[0].push(key.to_vec()));
        self.keys.keys(self.now_ms, &mut |key| listed[1].push(key.to_vec()));
        assert_eq!(listed[0], listed[1], "the order is of the contents alone");
    }
}

/// All items that are in the tables, expired or not.
fn contents(keys: &Keyspace) -> Model {
    let mut model = Model::new();
    let mut from = 0;
    while let Some(slot) = keys.slots.next_used(from) {
        let table = keys.slots.get(slot).expect("a used slot has a page");
        let mut hash = Some(0);
        while let Some(at) = hash {
            let (items, end) = table.sub_table(at);
            for item in items {
                let value = (item.value().to_vec(), item.expires_at_ms());
                model.insert((slot, item.key().to_vec()), value);
            }
            hash = end.checked_add(1);
        }
        from = slot + 1;
    }
    model
}

/// Walks a part of the cut, at most `budget` bytes, into `written`.
fn walk(keys: &mut Keyspace, budget: usize, written: &mut Vec<(u16, Vec<u8>, usize, u64)>) -> bool {
    let mut left = budget;
    keys.walk_cut(&mut |old, so_far| {
        let start = so_far.unwrap_or(0);
        if so_far.is_none() {
            let expiry = old.expires_at_ms.unwrap_or(0);
            written.push((old.slot.0, Vec::new(), old.key_len, expiry));
        }
        let taken = left.min(old.body.len() - start);
        left -= taken;
        let (_, body, ..) = written.last_mut().expect("a body follows its key");
        body.extend_from_slice(&old.body[start..start + taken]);
        Some(start + taken)
    })
}

#[test]
fn a_set_key_is_found_until_it_expires() {
    let mut keys = Keyspace::new(1);
    keys.set(Slot(9), b"a", b"1", Some(100));
    assert_eq!(keys.get(Slot(9), b"a", 99).map(|found| found.value), Some(&b"1"[..]));
    assert_eq!(keys.get(Slot(9), b"a", 100), None);
    assert_eq!(keys.get(Slot(8), b"a", 0), None);
}

#[test]
fn random_changes_agree_with_a_dumb_twin() {
    for seed in 0..60 {
        let mut numbers = Numbers(seed);
        let mut pair = Pair::new();
        for _ in 0..300 {
            pair.change(&mut numbers, 20);
        }
        pair.compare();
    }
}

#[test]
fn keys_that_share_a_hash_agree_with_a_dumb_twin() {
    for seed in 0..20 {
        let mut numbers = Numbers(seed);
        let mut pair = Pair::with_weak_hashes();
        for _ in 0..1_000 {
            pair.change(&mut numbers, 60);
        }
        pair.compare();
    }
}

#[test]
fn a_cut_shows_the_keys_as_they_were_whatever_happens_during_the_walk() {
    for seed in 0..300 {
        let mut numbers = Numbers(seed);
        let mut pair = if seed % 3 == 0 { Pair::with_weak_hashes() } else { Pair::new() };
        for _ in 0..numbers.next(200) {
            pair.change(&mut numbers, 25);
        }
        let expected = contents(&pair.keys);
        pair.keys.begin_cut();
        let mut written = Vec::new();
        while !walk(&mut pair.keys, numbers.next(120) as usize, &mut written) {
            for _ in 0..numbers.next(40) {
                pair.change(&mut numbers, 25);
            }
        }
        pair.keys.end_cut();
        let model: Model = written
            .iter()
            .map(|(slot, body, key_len, expiry)| {
                let (key, value) = body.split_at(*key_len);
                ((*slot, key.to_vec()), (value.to_vec(), Some(*expiry).filter(|&at| at != 0)))
            })
            .collect();
        assert_eq!(model, expected, "seed {seed}");
        assert_eq!(written.len(), model.len(), "seed {seed}: each key once");
        pair.compare();
    }
}

#[test]
fn a_cut_of_a_large_slot_survives_splits_joins_and_a_clear() {
    for (seed, cleared) in [(1, false), (2, true)] {
        let mut numbers = Numbers(seed);
        let mut keys = Keyspace::new(seed);
        for n in 0..5_000_u64 {
            keys.set(Slot(5), &n.to_le_bytes(), b"old", None);
        }
        keys.begin_cut();
        let mut written = Vec::new();
        let mut next = 5_000_u64;
        let mut calls = 0;
        while !walk(&mut keys, 2_000, &mut written) {
            calls += 1;
            for _ in 0..50 {
                keys.remove(Slot(5), &numbers.next(5_000).to_le_bytes(), 0);
                keys.append(Slot(5), &numbers.next(5_000).to_le_bytes(), b"tail", 0);
            }
            for _ in 0..if calls < 10 { 500 } else { 0 } {
                keys.set(Slot(5), &next.to_le_bytes(), b"new", None);
                next += 1;
            }
            if calls == 12 {
                (5_000..next).for_each(|n| {
                    keys.remove(Slot(5), &n.to_le_bytes(), 0);
                });
            }
            if cleared && calls == 14 {
                keys.clear_all();
            }
        }
        assert!(calls > 20);
        assert_eq!(written.len(), 5_000);
        let distinct: BTreeSet<&Vec<u8>> = written.iter().map(|(_, body, ..)| body).collect();
        assert_eq!(distinct.len(), 5_000);
        assert!(written.iter().all(|(slot, body, ..)| *slot == 5 && body.ends_with(b"old")));
    }
}

#[test]
fn a_cut_of_a_large_slot_survives_the_removal_of_nearly_all_its_keys() {
    let mut keys = Keyspace::new(1);
    (0..5_000_u64).for_each(|n| keys.set(Slot(5), &n.to_le_bytes(), b"v", None));
    keys.begin_cut();
    let mut written = Vec::new();
    walk(&mut keys, 100, &mut written);
    (0..4_990_u64).for_each(|n| assert!(keys.remove(Slot(5), &n.to_le_bytes(), 0)));
    while !walk(&mut keys, 2_000, &mut written) {}
    let distinct: BTreeSet<&Vec<u8>> = written.iter().map(|(_, body, ..)| body).collect();
    assert_eq!((written.len(), distinct.len()), (5_000, 5_000));
}

#[test]
fn one_call_of_a_walk_gives_a_bounded_number_of_keys() {
    let mut keys = Keyspace::new(1);
    for n in 0..20_000_u64 {
        keys.set(Slot((n % 7) as u16 * (n % 2) as u16), &n.to_le_bytes(), b"v", None);
    }
    keys.begin_cut();
    let (mut given, mut complete) = (Vec::new(), false);
    while !complete {
        let mut written = Vec::new();
        complete = walk(&mut keys, usize::MAX, &mut written);
        given.push(written.len());
    }
    assert_eq!(given.iter().sum::<usize>(), 20_000);
    assert!(given.iter().all(|&keys| keys <= 1_000), "{given:?}");
}

#[test]
fn what_was_cleared_is_freed_a_part_at_a_time() {
    let mut keys = Keyspace::new(1);
    for n in 0..10_000_u64 {
        keys.set(Slot((n % 200) as u16), &n.to_le_bytes(), b"v", Some(n + 1));
    }
    keys.clear_all();
    assert_eq!((keys.len(), keys.bytes(), keys.digest()), (0, 0, 0));
    assert_eq!(keys.next_expiry_ms(), None);
    let mut calls = 1;
    while !keys.free(500) {
        calls += 1;
    }
    assert!((20..200).contains(&calls), "{calls} calls");
}

#[test]
fn purging_goes_by_expiry_then_slot_and_stops_at_its_limit() {
    let mut keys = Keyspace::new(1);
    for (slot, expiry) in [(3, 20), (1, 20), (2, 10), (4, 30)] {
        keys.set(Slot(slot), b"k", b"v", Some(expiry));
    }
    assert_eq!(keys.purge(9, 10), 0);
    assert_eq!(keys.purge(25, 2), 2);
    let left: Vec<u16> = contents(&keys).into_keys().map(|(slot, _)| slot).collect();
    assert_eq!(left, [3, 4]);
    assert!(keys.expires_between(25, 30) && !keys.expires_between(20, 29));
    assert_eq!(keys.purge(25, 10), 1);
    assert_eq!(keys.next_expiry_ms(), Some(30));
}

/// Scans in pages of `count` and gives the keys with the number of pages; `between` is called
/// between pages.
fn scan_all(
    keys: &mut Keyspace,
    count: usize,
    mut between: impl FnMut(&mut Keyspace),
) -> (Vec<Vec<u8>>, usize) {
    let (mut found, mut cursor, mut pages) = (Vec::new(), 0, 0);
    loop {
        cursor = keys.scan(cursor, count, 0, |_| true, &mut |key| found.push(key.to_vec()));
        assert!(cursor < 1 << 63);
        pages += 1;
        if cursor == 0 {
            return (found, pages);
        }
        between(keys);
    }
}

#[test]
fn a_quiet_scan_visits_each_key_once_in_pages_of_about_the_count() {
    let mut keys = Keyspace::new(1);
    for n in 0..5_000_u64 {
        keys.set(Slot([0, 5, 5, 5, 16383][n as usize % 5]), &n.to_le_bytes(), b"v", None);
    }
    let (found, pages) = scan_all(&mut keys, 10, |_| {});
    assert_eq!(found.len(), 5_000);
    assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), 5_000);
    assert!((500..=503).contains(&pages), "{pages} pages");
    let mut listed = Vec::new();
    keys.keys(0, &mut |key| listed.push(key.to_vec()));
    assert_eq!(listed, found, "KEYS and SCAN have one order");
}

#[test]
fn a_key_present_during_the_whole_scan_is_visited_however_tables_change() {
    let mut keys = Keyspace::new(1);
    for n in 0..800_u64 {
        keys.set(Slot(5), &n.to_le_bytes(), b"v", None);
    }
    let (mut next, mut gone) = (1_000_000_u64, 1_000_000_u64);
    let (found, _) = scan_all(&mut keys, 7, |keys| {
        if next < 1_006_000 {
            (0..200).for_each(|n| keys.set(Slot(5), &(next + n).to_le_bytes(), b"v", None));
            next += 200;
        } else {
            for n in gone..(gone + 200).min(next) {
                keys.remove(Slot(5), &n.to_le_bytes(), 0);
            }
            gone += 200;
        }
    });
    let found: BTreeSet<u64> = found
        .iter()
        .filter_map(|key| key[..].try_into().ok().map(u64::from_le_bytes))
        .filter(|&n| n < 800)
        .collect();
    assert_eq!(found.len(), 800);
}

#[test]
fn a_scan_stops_at_the_first_slot_of_another_shard() {
    let mut keys = Keyspace::new(1);
    keys.set(Slot(3), b"a", b"", None);
    keys.set(Slot(9), b"b", b"", None);
    let mut found = Vec::new();
    let owned = |slot: Slot| slot.0 < 7;
    let cursor = keys.scan(0, 100, 0, owned, &mut |key| found.push(key.to_vec()));
    assert_eq!((found, cursor_slot(cursor)), (vec![b"a".to_vec()], Some(Slot(7))));
    assert_eq!(keys.scan(cursor, 100, 0, owned, &mut |_| unreachable!()), cursor);
    assert_eq!(keys.scan(u64::MAX, 100, 0, |_| true, &mut |_| unreachable!()), 0);
    assert_eq!(cursor_slot(cursor_at(Slot(16383))), Some(Slot(16383)));
}
