use super::*;

#[test]
fn a_set_key_is_found_until_it_expires() {
    let mut keys = Keyspace::new(1);
    keys.set(Slot(9), b"a", b"1", Some(100));
    assert_eq!(keys.get(Slot(9), b"a", 99).map(|found| found.value), Some(&b"1"[..]));
    assert_eq!(keys.get(Slot(9), b"a", 100), None);
    assert_eq!(keys.get(Slot(8), b"a", 0), None);
}
