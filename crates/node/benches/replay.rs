//! `cargo bench -p flotilla-node --bench replay [ENTRIES] [SHARDS]`: how fast a node that starts
//! again replays its log, in entries of one command each.
//!
//! One node, the only voter of its shards. Clients fill its log, a SET for each shard a turn; then
//! it is started from what is on its disk, which is memory here, and takes turns until it
//! serves all that it had. Told is the CPU time of the two steps of that: recovery of the log,
//! which hands out entries, and applying them.
//!
//! Memory that a virtual machine has given back to its host costs more to touch than all that is
//! measured here, so another process touches enough of it right before, and leaves it.
#![expect(clippy::print_stdout, reason = "what was measured is what was asked for")]

#[path = "three_nodes/machine.rs"]
#[expect(dead_code, reason = "one node alone dials nobody")]
mod machine;

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla_node::{ConnId, Face, Now, Output};
use flotilla_raft::Time;
use flotilla_shard::{FoundingRecord, Layout, META, NodeId, StorageId, slot_of};
use machine::{Incoming, Machine};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keys that are set, at random.
const KEYS: u64 = 1_000_000;
/// Files of the log are prepared before every so many turns.
const CHORES_EVERY: u64 = 32;
/// A turn takes so long, microseconds.
const TURN_MICROS: u64 = 50;
/// Time begins here, milliseconds since 1970.
const WALL_MS: u64 = 1_800_000_000_000;

/// One node, and the time it lives in.
struct Alone {
    machine: Machine,
    micros: u64,
}

impl Alone {
    fn turn(&mut self) {
        self.micros += TURN_MICROS;
        self.machine.turn(now(self.micros));
        self.machine.inbox.clear();
        self.machine.write_frame();
        for output in &self.machine.outputs {
            let expected = matches!(output, Output::Send { .. } | Output::Notice(_));
            assert!(expected, "so short a run asks for nothing else: {output:?}");
        }
    }

    fn serves(&self) -> bool {
        let mut seen = self.machine.node.inspect().peekable();
        seen.peek().is_some() && seen.all(|seen| seen.leads && seen.applied == seen.last)
    }

    fn turn_until_it_serves(&mut self) {
        while !self.serves() {
            self.turn();
        }
    }

    fn entries(&self) -> u64 {
        let data = self.machine.node.inspect().filter(|seen| seen.shard != META);
        data.map(|seen| seen.last.0).sum()
    }
}

fn now(micros: u64) -> Now {
    Now { time: Time(micros), wall_ms: WALL_MS + micros / 1_000 }
}

/// The keys of each shard.
fn keys_by_shard(layout: &Layout) -> Vec<Vec<u64>> {
    let map = FoundingRecord::build(layout.clone(), vec![StorageId([0; 16])]).map;
    let mut keys: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for key in 0..KEYS {
        let owner = map.owner(slot_of(format!("{key:016}").as_bytes()));
        keys.entry(owner.expect("every slot is somebody's")).or_default().push(key);
    }
    keys.into_values().collect()
}

/// User's and system's time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").expect("Linux tells it");
    let nanos = stat.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanos.expect("the first number is time on the CPU"))
}

/// The word that makes this program touch memory and end.
const TOUCH: &str = "touch";
/// So much of it, bytes.
const TOUCHED_BYTES: usize = 2 << 30;

fn touch_memory() {
    let program = std::env::current_exe().expect("this program has a path");
    let status = std::process::Command::new(program).arg(TOUCH).status().expect("it runs");
    assert!(status.success(), "there are 2 GiB of memory");
}

fn main() {
    if std::env::args().any(|word| word == TOUCH) {
        std::hint::black_box(vec![1_u8; TOUCHED_BYTES]);
        return;
    }
    let mut numbers = std::env::args().filter_map(|word| word.parse::<u64>().ok());
    let wanted = numbers.next().unwrap_or(1_000_000);
    let shards = numbers.next().unwrap_or(64) as usize;
    let layout = Layout::local(&["127.0.0.1:7001".to_owned()], shards, 1);
    let layout = layout.expect("one node can hold shards");
    let machine = Machine::new(layout.clone(), NodeId(1), now(0));
    let mut node = Alone { machine, micros: 0 };
    node.turn_until_it_serves();
    let keys = keys_by_shard(&layout);
    let clients: Vec<ConnId> = keys.iter().map(|_| node.machine.next_accepted()).collect();
    for (number, &conn) in clients.iter().enumerate() {
        let remote = format!("127.0.0.1:{}", 50_000 + number);
        let local = "127.0.0.1:7001".to_owned();
        node.machine.inbox.push(Incoming::Accepted { conn, face: Face::Plain, remote, local });
    }
    let (mut commands, mut random, mut turns) = (0_u64, 1_u64, 0_u64);
    while node.entries() < wanted {
        if turns.is_multiple_of(CHORES_EVERY) {
            node.machine.do_chores();
        }
        turns += 1;
        for (&conn, keys) in clients.iter().zip(&keys) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = keys[(random >> 32) as usize % keys.len()];
            let bytes = format!("*3\r\n$3\r\nSET\r\n$16\r\n{key:016}\r\n$32\r\n{turns:032}\r\n")
                .into_bytes();
            node.machine.inbox.push(Incoming::Received { conn, bytes });
            commands += 1;
        }
        node.turn();
    }
    node.turn_until_it_serves();
    let (entries, micros) = (node.entries(), node.micros);
    let disk = node.machine.into_disk();

    touch_memory();
    let began = cpu();
    let machine = Machine::start(disk, layout, NodeId(1), now(micros));
    let recovered = cpu();
    let mut node = Alone { machine, micros };
    node.turn_until_it_serves();
    let applied = cpu();
    assert!(node.entries() >= entries, "nothing is lost");
    let [recovery, apply] = [recovered.saturating_sub(began), applied.saturating_sub(recovered)]
        .map(|time| time.as_secs_f64());
    println!("{entries} entries, {commands} commands, {shards} shards");
    println!(
        "recovery of the log: {recovery:.2} s, {:.2} M entries/s",
        entries as f64 / recovery / 1e6
    );
    println!("applying: {apply:.2} s, {:.2} M entries/s", entries as f64 / apply / 1e6);
    println!("both: {:.2} M entries/s", entries as f64 / (recovery + apply) / 1e6);
}
