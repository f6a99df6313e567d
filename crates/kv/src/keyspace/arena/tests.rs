use super::*;

/// An arena with these items, and their offsets.
fn filled(items: &[(&[u8], &[u8], Option<u64>)]) -> (Arena, Vec<u32>) {
    let mut arena = Arena::default();
    let push = |&(key, value, at): &_| arena.push(key, value, at).expect("it is small");
    let offsets = items.iter().map(push).collect();
    (arena, offsets)
}

#[test]
fn an_item_is_what_was_pushed_up_to_the_largest_that_is_small() {
    let (key, value) = ([b'k'; KEY_MAX], [b'v'; VALUE_MAX]);
    let items: [(&[u8], &[u8], Option<u64>); 5] = [
        (b"", b"", None),
        (b"a", b"1", Some(u64::MAX)),
        (&key, &value, Some(1)),
        (&key, b"", None),
        (b"", &value, None),
    ];
    let (arena, offsets) = filled(&items);
    for (&(key, value, expires_at_ms), &offset) in items.iter().zip(&offsets) {
        let view = arena.view(offset);
        assert_eq!((view.key(), view.value(), view.expires_at_ms), (key, value, expires_at_ms));
    }
    assert_eq!(arena.used(), 5 * 2 + 2 * 8 + (1 + 127 + 127) + (1 + 255 + 255));
}

#[test]
fn what_is_not_small_is_refused() {
    let mut arena = Arena::default();
    assert_eq!(arena.push(&[0; KEY_MAX + 1], b"", None), None);
    assert_eq!(arena.push(b"", &[0; VALUE_MAX + 1], None), None);
    assert_eq!((arena.used(), arena.allocated()), (0, 0));
}

#[test]
fn an_arena_has_an_end() {
    let mut arena = Arena::default();
    let pushed =
        (0..BYTES_MAX).take_while(|_| arena.push(&[0; 100], &[0; 154], None).is_some()).count();
    assert_eq!(pushed, BYTES_MAX / 256);
    assert!(arena.push(b"", b"", None).is_none());
}

#[test]
fn a_shorter_value_overwrites_a_longer_one_does_not() {
    let (mut arena, offsets) = filled(&[(b"a", b"12345", None), (b"b", b"67", Some(9))]);
    assert!(arena.overwrite(offsets[0], b"abc", None));
    assert!(!arena.overwrite(offsets[0], b"abcd", None), "its room is a hole already");
    assert!(!arena.overwrite(offsets[0], b"x", Some(5)), "it has no field for that");
    assert!(arena.overwrite(offsets[1], b"de", None));
    assert!(arena.overwrite(offsets[1], b"fg", Some(7)), "the field stays");
    assert_eq!(
        (arena.view(offsets[0]).body, arena.view(offsets[0]).expires_at_ms),
        (&b"aabc"[..], None)
    );
    assert_eq!(
        (arena.view(offsets[1]).body, arena.view(offsets[1]).expires_at_ms),
        (&b"bfg"[..], Some(7))
    );
    assert_eq!(arena.used(), (2 + 1 + 3) + (2 + 8 + 1 + 2));
}

#[test]
fn packing_leaves_the_items_and_no_hole() {
    let keys: Vec<[u8; 8]> = (0..200_u64).map(u64::to_le_bytes).collect();
    let items: Vec<(&[u8], &[u8], Option<u64>)> =
        keys.iter().map(|key| (&key[..], &key[..3], Some(5).filter(|_| key[0] % 2 == 0))).collect();
    let (mut arena, mut offsets) = filled(&items);
    let mut left = keys.clone();
    while !arena.is_sparse() {
        // From the middle, so that none is the last, whose bytes would be cut off.
        left.remove(left.len() / 2);
        arena.remove(offsets.remove(offsets.len() / 2));
    }
    assert!((40..80).contains(&(keys.len() - left.len())), "{} holes", keys.len() - left.len());
    offsets.reverse();
    left.reverse();
    arena.pack(offsets.iter_mut());
    assert_eq!((arena.holes, arena.bytes.len()), (0, arena.used()));
    assert!(!arena.is_sparse());
    for (key, &offset) in left.iter().zip(&offsets) {
        let view = arena.view(offset);
        assert_eq!((view.key(), view.value()), (&key[..], &key[..3]));
        assert_eq!(view.expires_at_ms, Some(5).filter(|_| key[0] % 2 == 0));
    }
}

#[test]
fn what_was_allocated_for_items_that_have_left_is_given_back() {
    let (mut arena, offsets) = filled(&[(&b"k"[..], &[0; 200][..], None); 100]);
    for &offset in offsets.iter().skip(1).rev() {
        arena.remove(offset);
    }
    assert_eq!((arena.bytes.len(), arena.holes), (203, 0), "the last one leaves no hole");
    assert!(arena.is_sparse());
    arena.pack([0].iter_mut());
    assert!(!arena.is_sparse() && arena.allocated() < 300);
}

#[test]
fn allocations_have_four_sizes_to_each_doubling() {
    assert_eq!([0, 1, 64, 65, 512, 513].map(capacity_for), [0, 64, 64, 128, 512, 640]);
    assert_eq!([31_000, 32_768, 32_769].map(capacity_for), [32_768, 32_768, 40_960]);
}
