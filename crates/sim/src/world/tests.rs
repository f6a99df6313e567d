//! What becomes of a node whose disk has suffered.

use flotilla_storage::{Disk as _, MemoryDisk};

use super::World;
use crate::config::Config;
use crate::queue::Micros;
use crate::scenario::family;

const SECOND: Micros = 1_000_000;

/// A founded cluster of three in which nothing goes wrong by itself, after two seconds of work.
fn well() -> World {
    let config = (0..100)
        .map(|seed| family("partitions", seed))
        .find(|config| config.layout.nodes.len() == 3)
        .expect("many have three nodes");
    let mut world = World::new(1, Config { plan: Vec::new(), ..config }, None);
    world.run_until(3 * SECOND).expect("nothing goes wrong");
    assert!(world.machines.iter().all(|machine| machine.founded), "founded by now");
    world
}

/// Takes a node down, lets its disk suffer, starts it again; it must come back whole.
fn suffer(world: &mut World, at: usize, suffering: impl FnOnce(&mut MemoryDisk)) {
    world.power_goes(at);
    suffering(&mut world.machines[at].disk);
    world.machines[at].ever_spoiled = true;
    world.checkers.trust_disk(at);
    world.switch_on(at);
    world.run_until(6 * SECOND).expect("it comes back by itself");
    // A frame that carries old entries may be due at any moment.
    while !world.is_whole(at) && world.now() < 7 * SECOND {
        let next = world.now() + SECOND / 100;
        world.run_until(next).expect("nothing goes wrong");
    }
    assert!(world.is_whole(at), "with all its replicas");
}

#[test]
fn a_wiped_disk_comes_back_as_another_one() {
    let mut world = well();
    suffer(&mut world, 1, |disk| *disk = MemoryDisk::new());
    assert_eq!(world.counters().disks_renewed, 1);
}

#[test]
fn an_older_disk_comes_back_as_another_one() {
    let mut world = well();
    let image = world.machines[1].disk.clone();
    world.run_until(4 * SECOND).expect("nothing goes wrong");
    suffer(&mut world, 1, |disk| *disk = image);
    assert_eq!(world.counters().disks_renewed, 1);
}

#[test]
fn rot_all_over_the_log_is_survived() {
    let mut world = well();
    suffer(&mut world, 2, |disk| {
        let names = disk.list().expect("a disk in memory lists");
        let segment = names.iter().find(|name| name.starts_with("segment")).expect("a segment");
        // One bad block would cost payloads at most: the next frame repeats what else was in it. So
        // many cost replicas, and, if they reach to the end of the log, the disk.
        for block in 3..20 {
            assert!(disk.flip(segment, block * 4_096 + 60, 3), "the segment is longer");
        }
    });
}

#[test]
fn a_cluster_goes_on_without_a_minority() {
    let mut world = well();
    world.power_goes(0);
    let before = world.counters().completed;
    world.run_until(6 * SECOND).expect("two of three go on");
    assert!(world.counters().completed > before + 50);
}
