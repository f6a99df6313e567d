use std::collections::BTreeMap;

use super::super::digest::of_words;
use super::*;

/// What a sub-table has, as a dumb twin.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

/// A hasher that leaves 16 different hashes.
fn weak_hasher() -> KeyHasher {
    KeyHasher::new(5).masked(0xF << 60)
}

/// A key of 4 or, rarely, of 126 to 129 bytes: around the longest of a small item.
fn key_of(n: u64) -> Vec<u8> {
    let len = if n.is_multiple_of(8) { 126 + (n / 8 % 4) as usize } else { 4 };
    let mut key = n.to_le_bytes().to_vec();
    key.resize(len, b'k');
    key
}

/// A value of up to 39 or, at times, of 230 to 269 bytes: around the longest of a small item.
fn value_of(word: u64) -> Vec<u8> {
    let len = word % 40 + if word.is_multiple_of(5) { 230 } else { 0 };
    vec![word as u8; len as usize]
}

fn contents<'a>(items: impl Iterator<Item = ItemView<'a>>) -> Model {
    items.map(|item| (item.key().to_vec(), (item.value().to_vec(), item.expires_at_ms()))).collect()
}

/// Does one thing, chosen by `word`, to both.
fn change(table: &mut SubTable, model: &mut Model, hasher: &KeyHasher, word: u64) {
    let key = key_of(word % 60);
    let hash = hasher.hash(&key);
    let value = value_of(of_words(word, 1, 0) >> 8);
    let expiry = (word % 7 < 3).then_some(word % 1_000 + 1);
    let found = table.find(hash, &key);
    assert_eq!(found.is_some(), model.contains_key(&key));
    match (of_words(word, 2, 0) % 8, found) {
        (0..4, None) => {
            table.insert(hasher, hash, &key, &value, expiry);
            model.insert(key, (value, expiry));
        }
        (0..3, Some(bucket)) => {
            let left = table.replace(hasher, bucket, &key, &value, expiry);
            let before = model.insert(key.clone(), (value, expiry)).expect("it was there");
            if let Some(left) = left {
                assert_eq!(contents([left.view()].into_iter()), Model::from([(key, before)]));
            }
        }
        (3, Some(bucket)) => {
            table.set_expiry(bucket, expiry);
            model.get_mut(&key).expect("it is there").1 = expiry;
        }
        (4..6, Some(bucket)) => {
            table.append(bucket, &value);
            model.get_mut(&key).expect("it is there").0.extend_from_slice(&value);
        }
        (6.., _) => {
            let gone = table.remove(hasher, hash, &key, |item| {
                contents([item.into_item().view()].into_iter()).pop_first()
            });
            assert_eq!(gone.flatten(), model.remove_entry(&key));
        }
        _ => {}
    }
}

#[test]
fn random_changes_agree_with_a_dumb_twin() {
    let hasher = weak_hasher();
    for seed in 0..40 {
        let (mut table, mut model) = (SubTable::default(), Model::new());
        for step in 0..600 {
            change(&mut table, &mut model, &hasher, of_words(seed, step, 0) >> 8);
            assert!(!table.arena.is_sparse(), "holes are a bounded part");
            assert_eq!(table.len(), model.len());
        }
        assert_eq!(contents(table.iter()), model);
        let hashes = model.keys().map(|key| hasher.hash(key));
        for hash in hashes {
            let expected = model.iter().filter(|(key, _)| hasher.hash(key) == hash);
            let expected = expected.map(|(key, value)| (key.clone(), value.clone())).collect();
            assert_eq!(contents(table.with_hash(&hasher, hash)), expected);
        }
    }
}

#[test]
fn a_table_is_split_by_hash_and_joined_with_small_and_large_items() {
    let hasher = KeyHasher::new(5);
    let (mut table, mut model) = (SubTable::default(), Model::new());
    for step in 0..1_000 {
        change(&mut table, &mut model, &hasher, of_words(9, step, 0) >> 8);
    }
    let large = |table: &SubTable| table.large.len();
    let larges = large(&table);
    let mut upper = table.split_off(&hasher, 1 << 63);
    assert!(large(&table) > 0 && large(&upper) > 0 && large(&table) + large(&upper) == larges);
    let is_low = |key: &Vec<u8>| hasher.hash(key) < 1 << 63;
    let (low, high): (Model, Model) = model.clone().into_iter().partition(|(key, _)| is_low(key));
    assert_eq!((contents(table.iter()), contents(upper.iter())), (low, high));
    for key in model.keys() {
        let half = if is_low(key) { &mut table } else { &mut upper };
        assert!(half.find(hasher.hash(key), key).is_some());
    }
    table.absorb(&hasher, upper);
    assert_eq!(contents(table.iter()), model);
}

#[test]
fn an_item_moves_between_arena_and_memory_of_its_own() {
    let hasher = KeyHasher::new(5);
    let (key, hash) = (b"k", hasher.hash(b"k"));
    let mut table = SubTable::default();
    table.insert(&hasher, hash, key, &[1; 200], Some(7));
    let bucket = table.find(hash, key).expect("inserted");
    table.append(bucket, &[2; 55]);
    assert_eq!((table.large.len(), table.view(bucket).value().len()), (0, 255));
    table.append(bucket, &[3]);
    assert_eq!((table.large.len(), table.arena.used()), (1, 0));
    assert_eq!(table.view(bucket).value(), [&[1; 200][..], &[2; 55], &[3]].concat());
    assert_eq!(table.view(bucket).expires_at_ms(), Some(7));
    let left = table.replace(&hasher, bucket, key, b"small again", None);
    assert_eq!(left.map(|item| item.view().value().len()), Some(256));
    assert_eq!((table.large.len(), table.view(bucket).value()), (0, &b"small again"[..]));
}

#[test]
fn what_ten_million_keys_take_is_in_reach() {
    let hasher = KeyHasher::new(5);
    let mut table = SubTable::default();
    let keys = 10_000_000 / 16_384;
    for n in 0..keys {
        let (key, value) = (format!("key:{n:012}"), format!("value:{n:026}"));
        let hash = hasher.hash(key.as_bytes());
        table.insert(&hasher, hash, key.as_bytes(), value.as_bytes(), None);
    }
    let each = table.allocated() as f64 / f64::from(keys);
    assert!(each < 64.0, "{each} bytes a key");
}
