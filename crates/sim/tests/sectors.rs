//! A sample of what `cargo xtask sectors` does with every sector; and sectors of every log at once.

use flotilla_sim::{Change, Healing, Scattered, sectors, try_scattered, try_sector};

/// One of so many sectors is taken.
const EVERY: usize = 23;

#[test]
fn a_spoiled_sector_heals_without_an_operator() {
    let all = sectors(1).expect("the data set is made");
    assert!(all.len() > 300, "{} sectors", all.len());
    let mut seen = [0_u32; 4];
    for (number, sector) in all.iter().step_by(EVERY).enumerate() {
        let change = match number % 3 {
            0 => Change::Flip(number as u16 * 37 % 4096),
            1 => Change::Zeros,
            _ => Change::Noise(number as u64),
        };
        let healing = try_sector(1, sector, change).unwrap_or_else(|error| panic!("{error}"));
        let Healing { changed, payloads, state, lost, .. } = healing;
        for (count, has) in seen.iter_mut().zip([changed, payloads, state, lost]) {
            *count += u32::from(has);
        }
    }
    let [changed, payloads, ..] = seen;
    assert!(changed > 10 && payloads > 0, "changed, payloads, states, lost: {seen:?}");
}

#[test]
fn logs_that_are_all_damaged_heal_each_other() {
    let mut seen = Scattered::default();
    let mut all = 0;
    for word in 0..24 {
        let Scattered { machines, damaged, in_one_place } =
            try_scattered(1 + word % 4, word).unwrap_or_else(|error| panic!("{error}"));
        all += u32::from(machines == 3);
        seen.damaged += damaged;
        seen.in_one_place += in_one_place;
    }
    assert!(all > 12 && seen.damaged > 200 && seen.in_one_place > 10, "{all} trials, {seen:?}");
}
