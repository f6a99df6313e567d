//! What a leader sends to each follower: appends within its window, heartbeats, and what is needed
//! when the log in memory does not suffice [Raft §5.3, §7].
//!
//! Invariants: nothing is sent past a hole; an append leaves only if its place in the log is known;
//! each gap is loaded once, however many followers need it, and each snapshot asked for once.

use alloc::vec::Vec;

use crate::log::{Log, Position, entry_bytes};
use crate::progress::{Flow, Progress};
use crate::raft::Raft;
use crate::role::{Leader, Role};
use crate::{Body, Config, Configuration, Effect, Entry, Index, Message, ReplicaId, Term, Time};

impl Raft {
    /// Sends `to` what it lacks, within its window.
    pub(crate) fn send_appends(&mut self, to: ReplicaId, effects: &mut Vec<Effect>) {
        let Some((sender, leader)) = self.sender() else { return };
        let Leader { progress, loads, .. } = leader;
        if let Some(progress) = progress.iter_mut().find(|known| known.id == to) {
            sender.send_appends(progress, loads, effects);
        }
    }

    /// Sends everybody what they lack.
    pub(crate) fn broadcast_appends(&mut self, effects: &mut Vec<Effect>) {
        let Some((sender, leader)) = self.sender() else { return };
        for progress in &mut leader.progress {
            sender.send_appends(progress, &mut leader.loads, effects);
        }
    }

    /// The host has read entries from its disk, or none if it has not got them any more.
    pub(crate) fn on_loaded(
        &mut self,
        from: Index,
        mut entries: Vec<Entry>,
        effects: &mut Vec<Effect>,
    ) {
        self.serve_loaded(from, &entries, effects);
        let Some((sender, leader)) = self.sender() else { return };
        leader.loads.retain(|&asked| asked != from);
        // What was read may have been replaced since; an entry is what its index and term say.
        let expected = (from.0..).map(Index);
        let fitting = entries.iter().zip(expected).take_while(|(entry, index)| {
            entry.index == *index && sender.log.term_at(*index) == Some(entry.term)
        });
        let fitting = fitting.count();
        entries.truncate(fitting);
        let prev_index = from.previous();
        let prev_term = sender.log.term_at(prev_index);
        for progress in leader.progress.iter_mut().filter(|known| known.next == from) {
            match prev_term {
                Some(term) if !entries.is_empty() => {
                    let prev = Position { index: prev_index, term };
                    sender.send_loaded(progress, prev, &entries, effects);
                }
                _ => sender.send_unloadable(progress, from, effects),
            }
        }
        self.broadcast_appends(effects);
    }

    /// Tells every voter the newest read round.
    pub(crate) fn broadcast_round(&mut self, effects: &mut Vec<Effect>) {
        let Some((sender, leader)) = self.sender() else { return };
        for progress in &leader.progress {
            if sender.configuration.is_voter(progress.id) {
                sender.send_heartbeat(progress, effects);
            }
        }
    }

    /// What sending needs, beside the leader's progress.
    pub(crate) fn sender(&mut self) -> Option<(Sender<'_>, &mut Leader)> {
        let held = self.held_index().unwrap_or_default();
        let Role::Leader(leader) = &mut self.role else { return None };
        let sender = Sender {
            config: &self.config,
            configuration: self.configurations.current(),
            log: &self.log,
            term: self.hard_state.term,
            commit: self.commit_index,
            round: leader.reads.round(),
            newest_snapshot: self.log.snapshot().index.max(held),
            now: self.now,
        };
        Some((sender, leader))
    }
}

/// Below this index, no follower that is alive needs an entry that the snapshot covers.
pub(crate) fn trailing_floor(
    leader: &Leader,
    snapshot: Index,
    now: Time,
    election_timeout: u64,
) -> Index {
    let needs = |progress: &&Progress| {
        matches!(progress.flow, Flow::Snapshot { .. }) || progress.is_active(now, election_timeout)
    };
    let floors = leader.progress.iter().filter(needs).map(Progress::floor);
    floors.fold(snapshot, Index::min)
}

/// The leader's side of a message to one follower.
pub(crate) struct Sender<'a> {
    config: &'a Config,
    configuration: &'a Configuration,
    log: &'a Log,
    term: Term,
    commit: Index,
    round: u64,
    /// What the host would send, at least.
    newest_snapshot: Index,
    now: Time,
}

impl Sender<'_> {
    /// The configuration in force.
    pub(crate) fn configuration(&self) -> &Configuration {
        self.configuration
    }

    /// Sends entries until there is nothing more, or the window is full.
    fn send_appends(
        &self,
        progress: &mut Progress,
        loads: &mut Vec<Index>,
        effects: &mut Vec<Effect>,
    ) {
        let last = self.log.last_index();
        while progress.next <= last {
            if matches!(progress.flow, Flow::Snapshot { .. }) {
                return;
            }
            // Before the window: what is in flight can't fill a gap that the log has no more.
            let prev_index = progress.next.previous();
            let Some(prev_term) = self.log.term_at(prev_index) else {
                return self.ask_for_snapshot(progress, self.log.start().index, effects);
            };
            let (messages_max, bytes_max) =
                (self.config.max_inflight_messages, self.config.max_inflight_bytes);
            if !progress.has_room(messages_max, bytes_max) {
                return;
            }
            if progress.next <= self.log.base() {
                return self.ask_to_load(progress.next, loads, effects);
            }
            let prev = Position { index: prev_index, term: prev_term };
            let entries = self.log.batch(progress.next, self.config.max_message_bytes);
            if entries.is_empty() {
                // A hole is next, which it may have whole.
                break;
            }
            self.send_entries(progress, prev, entries, effects);
        }
        // A probe is worth sending without entries too: it may find that all is well.
        if matches!(progress.flow, Flow::Probe { paused: false }) {
            self.send_heartbeat(progress, effects);
            progress.on_sent(progress.next.previous(), 0);
        }
    }

    fn send_entries(
        &self,
        progress: &mut Progress,
        prev: Position,
        entries: Vec<Entry>,
        effects: &mut Vec<Effect>,
    ) {
        let sent = Index(prev.index.0 + entries.len() as u64);
        let bytes = entries.iter().map(|entry| entry_bytes(entry.payload.len())).sum();
        self.send(progress.id, prev, entries, effects);
        progress.on_sent(sent, bytes);
    }

    fn send_loaded(
        &self,
        progress: &mut Progress,
        prev: Position,
        entries: &[Entry],
        effects: &mut Vec<Effect>,
    ) {
        if progress.has_room(self.config.max_inflight_messages, self.config.max_inflight_bytes) {
            self.send_entries(progress, prev, entries.to_vec(), effects);
        }
    }

    /// The disk has not got what this follower needs: only a snapshot helps.
    fn send_unloadable(&self, progress: &mut Progress, from: Index, effects: &mut Vec<Effect>) {
        if from <= self.log.base() && !matches!(progress.flow, Flow::Snapshot { .. }) {
            self.ask_for_snapshot(progress, from, effects);
        }
    }

    /// Asks the host for entries that left memory, once however many followers need them.
    fn ask_to_load(&self, from: Index, loads: &mut Vec<Index>, effects: &mut Vec<Effect>) {
        if !loads.contains(&from) {
            loads.push(from);
            effects.push(Effect::Load { from, bytes: self.config.max_message_bytes });
        }
    }

    /// Says that the leader lives. The empty prefix, which all logs share, stands in for a place
    /// that the log has no more.
    pub(crate) fn send_heartbeat(&self, progress: &Progress, effects: &mut Vec<Effect>) {
        let index = progress.next.previous();
        let known = match progress.flow {
            Flow::Snapshot { .. } => None,
            Flow::Probe { .. } | Flow::Replicate { .. } => self.log.term_at(index),
        };
        let prev = match known {
            Some(term) => Position { index, term },
            None => Position { index: Index(0), term: Term(0) },
        };
        self.send(progress.id, prev, Vec::new(), effects);
    }

    /// Asks the host for a snapshot, once, if the follower is there to receive it.
    fn ask_for_snapshot(
        &self,
        progress: &mut Progress,
        at_least: Index,
        effects: &mut Vec<Effect>,
    ) {
        if !progress.is_active(self.now, self.config.election_timeout) {
            return;
        }
        let pending = self.newest_snapshot;
        progress.flow = Flow::Snapshot { pending, at_least, retry_at: Time::NEVER };
        effects.push(Effect::SendSnapshot { to: progress.id, at_least, term: self.term });
    }

    pub(crate) fn retry_snapshot(&self, progress: &mut Progress, effects: &mut Vec<Effect>) {
        match progress.flow {
            Flow::Snapshot { retry_at, at_least, .. } if self.now >= retry_at => {
                let at_least = at_least.max(self.log.start().index);
                self.ask_for_snapshot(progress, at_least, effects);
            }
            _ => {}
        }
    }

    fn send(&self, to: ReplicaId, prev: Position, entries: Vec<Entry>, effects: &mut Vec<Effect>) {
        let body = Body::AppendEntries {
            prev_index: prev.index,
            prev_term: prev.term,
            commit: self.commit,
            round: self.round,
            entries,
        };
        let from = self.config.id;
        effects.push(Effect::Send(Message { from, to, term: self.term, body }));
    }
}
