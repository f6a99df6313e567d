//! `raft` (raft-rs) with its own `MemStorage`.
//!
//! Settings: appends to one follower that are not sent yet are merged (`batch_append`), messages
//! are not limited in size, and the default window of 256 messages is not reached. Hosts commit in
//! groups: they take all messages that are there before they ask for what is ready. In one call, a
//! batch is proposed as one message of many entries, which its API allows though it has no method
//! for it. The leader tells at once what is committed, by its default, so that followers apply
//! without a heartbeat. No ticks: nothing here needs a clock once there is a leader. Logging is
//! compiled out.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, GetEntriesContext, RawNode, StateRole, Storage as _};
use slog::{Discard, Logger, o};

use crate::work::{Applied, Calls, Group, REPLICAS, Work, payload};

/// The replica that leads: it campaigns first.
const LEADER: usize = 0;

/// A group and what is under way in it. The replica of id n is at place n - 1.
pub(crate) struct Cluster {
    hosts: Vec<Host>,
    network: Vec<Message>,
}

/// One replica and what it needs around it.
struct Host {
    node: RawNode<MemStorage>,
    applied: Applied,
    /// The places, index and term, of the proposals that are not committed yet.
    open: VecDeque<(u64, u64)>,
    acknowledged: u64,
}

impl Group for Cluster {
    fn elected() -> Self {
        let hosts = (1..=REPLICAS as u64).map(Host::new).collect();
        let mut cluster = Self { hosts, network: Vec::new() };
        cluster.hosts[LEADER].node.campaign().expect("it may campaign");
        cluster.hosts[LEADER].on_ready(&mut cluster.network);
        cluster.settle();
        assert!(cluster.hosts[LEADER].node.raft.state == StateRole::Leader, "it was elected");
        cluster
    }

    fn run(&mut self, work: Work) {
        for batch in 0..work.batches {
            let first = batch * work.batch_size;
            let end = first + work.batch_size;
            match work.calls {
                Calls::One => self.hosts[LEADER].propose_batch(first..end),
                Calls::Each => (first..end).for_each(|one| self.hosts[LEADER].propose(one)),
            }
            self.hosts[LEADER].on_ready(&mut self.network);
            self.settle();
            let done = self.hosts.iter().all(|host| host.applied.count == end);
            assert!(done, "a group that is quiet has applied everything");
        }
    }

    fn check(self, work: Work) {
        let applied = work.applied();
        assert_eq!(self.hosts[LEADER].acknowledged, work.commits(), "all are acknowledged");
        for host in &self.hosts {
            assert_eq!(host.applied, applied, "every replica applies all payloads in order");
            let storage = host.node.store();
            let (first, last) = (storage.first_index(), storage.last_index());
            let (first, last) = (first.expect("it is kept"), last.expect("it is kept"));
            let context = GetEntriesContext::empty(false);
            let entries = storage.entries(first, last + 1, None, context).expect("they are kept");
            let mut kept = Applied::default();
            for entry in entries.iter().filter(|entry| is_payload(entry)) {
                kept.apply(&entry.data);
            }
            assert_eq!(kept, applied, "every replica's log has all payloads");
        }
    }
}

impl Cluster {
    /// Delivers and writes until nothing is under way.
    fn settle(&mut self) {
        while !self.network.is_empty() {
            for message in self.network.drain(..) {
                let host = &mut self.hosts[message.to as usize - 1];
                host.node.step(message).expect("it is for this replica");
            }
            for host in &mut self.hosts {
                host.on_ready(&mut self.network);
            }
        }
    }
}

impl Host {
    fn new(id: u64) -> Self {
        let voters: Vec<u64> = (1..=REPLICAS as u64).collect();
        let storage = MemStorage::new_with_conf_state((voters, vec![]));
        let config =
            Config { id, max_size_per_msg: u64::MAX, batch_append: true, ..Config::default() };
        let logger = Logger::root(Discard, o!());
        let node = RawNode::new(&config, storage, &logger).expect("the configuration is right");
        Self { node, applied: Applied::default(), open: VecDeque::new(), acknowledged: 0 }
    }

    fn propose(&mut self, number: u64) {
        let (index, term) = (self.node.raft.raft_log.last_index() + 1, self.node.raft.term);
        self.open.push_back((index, term));
        let proposed = self.node.propose(Vec::new(), payload(number).to_vec());
        proposed.expect("a leader takes proposals");
    }

    fn propose_batch(&mut self, numbers: Range<u64>) {
        let (next, term) = (self.node.raft.raft_log.last_index() + 1, self.node.raft.term);
        let entry =
            |number| Entry { data: Bytes::from(payload(number).to_vec()), ..Entry::default() };
        let entries: Vec<Entry> = numbers.map(entry).collect();
        self.open.extend((next..).take(entries.len()).map(|index| (index, term)));
        let mut proposal = Message::default();
        proposal.set_msg_type(MessageType::MsgPropose);
        proposal.from = self.node.raft.id;
        proposal.set_entries(entries.into());
        self.node.step(proposal).expect("a leader takes proposals");
    }

    /// Does what the core wants done, until it wants nothing.
    fn on_ready(&mut self, network: &mut Vec<Message>) {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            network.extend(ready.take_messages());
            self.apply(&ready.take_committed_entries());
            {
                let mut disk = self.node.store().wl();
                if !ready.entries().is_empty() {
                    disk.append(ready.entries()).expect("they follow the log");
                }
                if let Some(hard_state) = ready.hs() {
                    disk.set_hardstate(hard_state.clone());
                }
            }
            network.extend(ready.take_persisted_messages());
            let mut light = self.node.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.node.store().wl().mut_hard_state().set_commit(commit);
            }
            network.extend(light.take_messages());
            self.apply(&light.take_committed_entries());
            self.node.advance_apply();
        }
    }

    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| is_payload(entry)) {
            self.applied.apply(&entry.data);
            if self.open.pop_front_if(|open| *open == (entry.index, entry.term)).is_some() {
                self.acknowledged += 1;
            }
        }
    }
}

/// The first entry of a term carries nothing.
fn is_payload(entry: &Entry) -> bool {
    entry.entry_type == EntryType::EntryNormal && !entry.data.is_empty()
}
