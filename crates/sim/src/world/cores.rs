//! What the consensus cores do, as lines of the story that leave nothing out: every write when its
//! core asks for it, what of them is on disk, and what a node comes up with. From these lines, and
//! those of states, `cargo xtask spec --traces` makes traces that the specification must allow.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use flotilla_node::Output;
use flotilla_raft::{Configuration, Entry, EntryKind, HardState, Recovered, Write, WriteSeq};
use flotilla_shard::ShardId;

use super::World;

impl World {
    /// Tells what the cores of a node want written since the last turn, whether the node gives it
    /// out already or not.
    pub(crate) fn tell_writes(&mut self, at: usize, boot: u64, outputs: &[Output]) {
        let machine = &mut self.machines[at];
        if machine.boots != boot {
            return;
        }
        let Some(process) = machine.process.as_mut() else { return };
        let given = outputs.iter().filter_map(|output| match output {
            Output::Write(batch) => Some(&batch.writes),
            _ => None,
        });
        let mut lines = Vec::new();
        for (shard, write) in given.flatten().chain(process.node.unwritten()) {
            let told = process.told_writes.get(shard).copied();
            if told.is_none()
                && let Some(core) = process.node.core(*shard)
            {
                let (id, voters) = (core.id(), ids(&core.configuration().voters));
                lines.push(format!("group {} {shard} replica={id} voters={voters}", at + 1));
                machine.told_cores.insert(*shard);
            }
            if told < Some(write.seq) {
                process.told_writes.insert(*shard, write.seq);
                lines.push(write_line(at, *shard, write));
            }
        }
        for line in lines {
            self.tell(|| line);
        }
    }

    /// Tells what of that is on disk.
    pub(crate) fn tell_disk(&mut self, at: usize, boot: u64) {
        let durable = self.checkers.logs[at].durable_through.clone();
        let Some(process) = self.machines[at].process_of(boot) else { return };
        let told = std::mem::replace(&mut process.told_disk, durable.clone());
        let logs = &self.checkers.logs[at].durable;
        let news = |(shard, seq): (ShardId, WriteSeq)| {
            let log = logs.get(&shard).filter(|_| told.get(&shard) != Some(&seq))?;
            let (promise, base, last) = (promise(log.hard_state), log.base, log.last());
            let line =
                format!("disk {} {shard} seq={seq} {promise} base={base} last={last}", at + 1);
            Some(line)
        };
        let lines: Vec<String> = durable.into_iter().filter_map(news).collect();
        for line in lines {
            self.tell(|| line);
        }
    }

    /// Tells what a node comes up with. A core whose first write the crash has prevented comes to
    /// life later, with nothing: it is told of here all the same, or it would seem to forget.
    pub(crate) fn tell_boot(&mut self, at: usize, shards: &BTreeMap<ShardId, Recovered>) {
        for shard in std::mem::take(&mut self.machines[at].told_cores) {
            if !shards.contains_key(&shard) {
                self.tell(|| {
                    let promise = promise(HardState::default());
                    format!("boot {} {shard} {promise} base=0 last=0 entries=", at + 1)
                });
            }
        }
        for (shard, recovered) in shards {
            let Recovered { hard_state, snapshot, entries, .. } = recovered;
            self.tell(|| {
                let (base, last) = (snapshot.index, recovered.last().1);
                let (promise, entries) = (promise(*hard_state), terms(entries));
                let node = at + 1;
                format!("boot {node} {shard} {promise} base={base} last={last} entries={entries}")
            });
        }
    }
}

fn write_line(at: usize, shard: ShardId, write: &Write) -> String {
    let Write { seq, hard_state, snapshot, entries } = write;
    let mut line = format!("write {} {shard} seq={seq} {}", at + 1, promise(*hard_state));
    if let Some(meta) = snapshot {
        write!(line, " snapshot={} of={}", meta.index, meta.term).expect("a string takes all");
    }
    if let Some(first) = entries.first() {
        write!(line, " first={} entries={}", first.index, terms(entries))
            .expect("a string takes all");
    }
    line
}

fn promise(state: HardState) -> String {
    format!("term={} vote={}", state.term, state.voted_for.unwrap_or_default())
}

/// The entries' terms; with a configuration, where one is carried.
fn terms(entries: &[Entry]) -> String {
    let entry = |entry: &Entry| {
        let carried = (entry.kind == EntryKind::Configuration)
            .then(|| Configuration::decode(entry.payload.bytes()))
            .flatten();
        let Some(Configuration { voters, outgoing, learners, .. }) = carried else {
            return entry.term.to_string();
        };
        format!("{}:{}/{}/{}", entry.term, ids(&voters), ids(&outgoing), ids(&learners))
    };
    entries.iter().map(entry).collect::<Vec<_>>().join(",")
}

fn ids(list: &[flotilla_raft::ReplicaId]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}
