//! The laws of `laws`, on bytes that a small generator makes; `fuzz` has the same targets.

mod laws;

use std::fs;
use std::path::Path;

/// Bytes as a fuzzer would begin with them: short and long, and mostly small numbers.
fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let length = next() % 300;
    let byte = |_| match next() % 3 {
        0 => (next() % 12) as u8,
        1 => 0,
        _ => next() as u8,
    };
    (0..length).map(byte).collect()
}

#[test]
fn any_image_of_a_disk_is_recovered_or_refused() {
    assert!(laws::images(&[]), "what is whole is kept");
    let some = |seed| bytes(seed).into_iter().take(seed as usize % 60).collect::<Vec<u8>>();
    let kept = (0..400).filter(|&seed| laws::images(&some(seed))).count();
    assert!(kept > 100, "{kept}");
}

#[test]
fn any_content_under_right_checksums_is_recovered_or_refused() {
    assert!(laws::segments(&laws::plausible()));
    let mut kept = 0;
    for seed in 0..2_000 {
        laws::segments(&bytes(seed));
        let mut input = laws::plausible();
        for pair in bytes(seed).chunks_exact(2).take(3) {
            let length = input.len();
            input[(usize::from(pair[0]) * 7 + usize::from(pair[1])) % length] ^= pair[1];
        }
        kept += usize::from(laws::segments(&input));
    }
    assert!(kept > 100, "{kept}");
}

#[test]
fn any_snapshot_file_is_read_as_it_was_written_or_refused() {
    (0..4_000).for_each(|seed| laws::snapshots(&bytes(seed)));
}

#[test]
fn any_table_is_read_or_refused() {
    (0..20_000).for_each(|seed| laws::tables(&bytes(seed)));
}

/// Inputs from which fuzzing begins, of one target; some are what it once found.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let files = fs::read_dir(folder).expect("each target has seeds");
    let bytes = files.map(|file| fs::read(file.expect("it lists").path()).expect("it is a file"));
    bytes.collect()
}

#[test]
fn what_fuzzing_found_is_read_or_refused() {
    let mut count = 0;
    for (target, law) in [
        ("images", (|bytes| _ = laws::images(bytes)) as fn(&[u8])),
        ("segments", |bytes| _ = laws::segments(bytes)),
        ("snapshots", laws::snapshots),
        ("tables", laws::tables),
    ] {
        for bytes in seeds(target) {
            law(&bytes);
            count += 1;
        }
    }
    assert!(count > 60, "{count} seeds");
}
