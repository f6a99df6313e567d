//! Snapshots: compaction of the own log, and what replaces a log that lags too far [Raft §7].
//!
//! Invariants: a snapshot never moves the commit index down; an older one never replaces a newer
//! one; a log that contains a snapshot's entry is kept; a received snapshot is acknowledged only
//! after the write that names it is durable.
//!
//! A leader's own compaction waits for those who need the log that would go: while a snapshot is on
//! its way the log goes on, and who installs it needs that log next; if it were gone by then, it
//! would be sent a snapshot for ever. [`Config::max_held_bytes`] ends the wait: one that can't keep
//! up must not fill the disks of those who can.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::config::Config;
use crate::configuration::ConfigurationHistory;
use crate::progress::{Flow, Progress};
use crate::raft::Raft;
use crate::role::{Leader, Role};
use crate::sending::trailing_floor;
use crate::{Effect, Index, ReplicaId, SnapshotMeta, Term, Time};

/// A compaction that waits, since somebody needs the log that would go.
#[derive(Clone)]
pub(crate) struct Held {
    pub(crate) meta: SnapshotMeta,
    /// The bytes ever appended when it began to wait.
    appended: u64,
}

impl Held {
    /// Feeds what decides how long it waits, given the bytes ever appended.
    pub(crate) fn digest<H: Hasher>(&self, now_appended: u64, hasher: &mut H) {
        let Self { meta, appended } = self;
        (meta, now_appended - appended).hash(hasher);
    }
}

impl Raft {
    /// The host has made a durable snapshot of its own.
    pub(crate) fn on_compact(&mut self, meta: SnapshotMeta) {
        // It was begun before a leader's snapshot came, or is told twice.
        if meta.index <= self.log.snapshot().index || Some(meta.index) <= self.held_index() {
            return;
        }
        assert!(meta.index <= self.emitted_index, "a snapshot is of applied entries");
        let appended = self.log.appended_bytes();
        let Role::Leader(leader) = &mut self.role else { return self.compact(meta) };
        let appended = leader.held.as_ref().map_or(appended, |held| held.appended);
        leader.held = Some(Held { meta, appended });
        self.compact_if_free();
    }

    /// Lets a compaction that waits happen once nobody needs the log, or it has waited for long.
    pub(crate) fn compact_if_free(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(held) = &leader.held else { return };
        let grown = self.log.appended_bytes() - held.appended;
        let waits = grown < self.config.max_held_bytes as u64;
        if waits && self.is_log_needed(leader, held.meta.index) {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(held) = leader.held.take() {
            self.compact(held.meta);
        }
    }

    /// Whether somebody needs more of the log up to `index` than would stay in memory: because a
    /// snapshot is on its way there, behind which the log goes on, or because it is catching up.
    fn is_log_needed(&self, leader: &Leader, index: Index) -> bool {
        let needs = |progress: &&Progress| match progress.flow {
            Flow::Snapshot { retry_at: Time::NEVER, .. } => true,
            _ => progress.is_active(self.now, self.config.election_timeout),
        };
        let floors = leader.progress.iter().filter(needs).map(Progress::floor);
        let Some(floor) = floors.min().map(|floor| floor.max(self.log.start().index)) else {
            return false;
        };
        let trailing = self.config.max_trailing_bytes as u64;
        floor < index
            && (floor < self.log.base() || self.log.bytes_between(floor, index) > trailing)
    }

    /// The snapshot of a compaction that waits.
    pub(crate) fn held_index(&self) -> Option<Index> {
        let Role::Leader(leader) = &self.role else { return None };
        leader.held.as_ref().map(|held| held.meta.index)
    }

    /// The log begins at `meta` from now on, but for what trails in memory.
    pub(crate) fn compact(&mut self, meta: SnapshotMeta) {
        // A leader's snapshot that repairs may have come meanwhile.
        if meta.index <= self.log.snapshot().index {
            return;
        }
        self.configurations.compact(meta.index);
        self.log.compact(meta);
        let snapshot = self.log.snapshot().index;
        let Config { election_timeout, max_trailing_bytes, .. } = self.config;
        let floor = match &self.role {
            Role::Leader(leader) => trailing_floor(leader, snapshot, self.now, election_timeout),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => snapshot,
        };
        self.log.release(floor, max_trailing_bytes);
    }

    /// A leader's snapshot is durable here [Raft Figure 13].
    pub(crate) fn on_snapshot_received(
        &mut self,
        from: ReplicaId,
        term: Term,
        meta: SnapshotMeta,
        effects: &mut Vec<Effect>,
    ) {
        let readable = meta.configuration.is_well_formed();
        if term.is_of_repair() {
            if readable && from != self.config.id {
                self.on_repair_received(term, &meta, effects);
            }
            return;
        }
        if readable {
            self.repair_by_snapshot(&meta, effects);
        }
        let nonsense = meta.term > term || !readable;
        if term < self.hard_state.term || from == self.config.id || nonsense {
            return;
        }
        if term > self.hard_state.term {
            self.enter_term(term, effects);
        }
        // It may have travelled for long, so it does not reset the timer.
        self.follow(from, effects);
        let (index, known) = (meta.index, self.log.term_at(meta.index));
        if index > self.commit_index {
            if known == Some(meta.term) {
                self.commit_to(index, effects);
            } else {
                self.restore(meta, effects);
            }
        }
        self.promise(from);
        if let Role::Follower(follower) = &mut self.role {
            follower.agreed = follower.agreed.max(index);
            follower.ack_owed = true;
        }
        if self.log.durable_index() >= index {
            self.send_owed_ack(effects);
        }
    }

    pub(crate) fn restore(&mut self, meta: SnapshotMeta, effects: &mut Vec<Effect>) {
        let index = meta.index;
        self.search.state_lost = false;
        // What was committed here is part of the snapshot; of the rest, nothing is known to be.
        self.log.restore(meta.clone(), self.commit_index);
        self.configurations = ConfigurationHistory::new(index, meta.configuration.clone());
        self.commit_index = index;
        self.emitted_index = index;
        self.applied_index = index;
        self.applied_at = self.now;
        effects.push(Effect::Restore(Box::new(meta)));
    }

    /// The host has delivered a snapshot, or given up.
    pub(crate) fn on_snapshot_sent(
        &mut self,
        to: ReplicaId,
        delivered: Option<Index>,
        effects: &mut Vec<Effect>,
    ) {
        self.on_repair_sent(to);
        let retry = self.now + self.config.heartbeat_interval;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress_mut(to) else { return };
        let Flow::Snapshot { retry_at, .. } = &mut progress.flow else { return };
        match delivered {
            Some(index) => progress.probe_from(index.min(self.log.last_index()).next()),
            None => *retry_at = retry,
        }
        self.send_appends(to, effects);
        self.compact_if_free();
    }
}
