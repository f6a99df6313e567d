//! Full disks, one after the other and all at once: no node ends, no acknowledged write is lost,
//! none that was refused is applied, and when there is room all is well again.

use flotilla_sim::{Fault, Mark, Planned, Script, run};

fn script(seed: u64, every: u64) -> Script {
    let planned = |number: u64| Planned {
        at: 1_500_000 + number * every,
        fault: if number % 16 == 15 { Fault::Crash } else { Fault::NoSpace },
        word: seed.wrapping_mul(0x9e37_79b9).wrapping_add(number),
    };
    let count = 8_000_000 / every;
    let plan = Some((0..count).map(planned).collect());
    Script { plan, layout: Some([3, 1, 3]), ..Script::of("failing disks", seed) }
}

#[test]
fn a_node_lives_through_a_full_disk() {
    let mut total = flotilla_sim::Marks::default();
    for seed in 0..12 {
        let every = if seed % 2 == 0 { 60_000 } else { 400_000 };
        let report = run(seed, script(seed, every).config(), None);
        let report = report.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        total.add(&report.counters.marks);
    }
    let count = |mark| total.count(mark);
    assert_eq!(count(Mark::DiskDeath), 0, "a full disk is no failed one");
    for mark in [Mark::LacksRoom, Mark::RoomAgain, Mark::FrameWaits, Mark::NoRoom] {
        assert!(count(mark) > 0, "{}: {}", mark.name(), count(mark));
    }
    assert!(count(Mark::SnapshotWithoutRoom) > 0);
}
