//! Log replication [Raft §5.3]: proposals, appends and their answers, heartbeats, CheckQuorum
//! [Thesis §6.2].
//!
//! Invariants: an answer claims durable entries only, in a durable term; a log is truncated only
//! where a leader's entry conflicts, never at or below the commit index; an answer counts only in
//! the term it was made in; a leader that no quorum answered for an election timeout steps down.
//!
//! A heartbeat is an append without entries at the place where sending has come to, so it also
//! finds out what was lost.

use alloc::vec::Vec;

use crate::configuration::are_well_formed;
use crate::log::{Position, entry_bytes};
use crate::raft::Raft;
use crate::role::Role;
use crate::sending::trailing_floor;
use crate::{
    AppendOutcome, Body, Effect, Entry, EntryKind, Index, Payload, Refusal, ReplicaId, RequestId,
    Time, quorum,
};

impl Raft {
    /// Appends the payload if this replica leads and has room.
    pub(crate) fn on_propose(
        &mut self,
        id: RequestId,
        payload: Payload,
        effects: &mut Vec<Effect>,
    ) {
        if self.accept(id, payload, effects) {
            self.broadcast_appends(effects);
        }
    }

    /// Appends what there is room for, if this replica leads.
    pub(crate) fn on_propose_batch(
        &mut self,
        proposals: Vec<(RequestId, Payload)>,
        effects: &mut Vec<Effect>,
    ) {
        let mut accepted = false;
        for (id, payload) in proposals {
            accepted |= self.accept(id, payload, effects);
        }
        if accepted {
            self.broadcast_appends(effects);
        }
    }

    /// Appends the payload and says where, or refuses it. Whether it was appended.
    fn accept(&mut self, id: RequestId, payload: Payload, effects: &mut Vec<Effect>) -> bool {
        if let Some(reason) = self.reason_to_refuse(payload.len()) {
            Self::refuse(id, reason, effects);
            return false;
        }
        let Position { index, term } = self.append_own(EntryKind::Normal, payload);
        effects.push(Effect::Proposed { id, index, term });
        true
    }

    fn reason_to_refuse(&self, payload_bytes: usize) -> Option<Refusal> {
        let Role::Leader(leader) = &self.role else { return Some(Refusal::NotLeader) };
        let opened = leader.first_index <= self.log.last_index();
        let admits = opened && leader.transfer.is_none() && self.has_room_for(payload_bytes);
        (!admits).then_some(Refusal::Busy)
    }

    /// Whether the limits on what is uncommitted and what is not durable admit another entry. The
    /// first is always admitted, whatever its size.
    fn has_room_for(&self, payload_bytes: usize) -> bool {
        let fits =
            |open: u64, max: usize| open == 0 || open + entry_bytes(payload_bytes) <= max as u64;
        fits(self.log.bytes_above(self.commit_index), self.config.max_uncommitted_bytes)
            && fits(self.log.bytes_above(self.log.durable_index()), self.config.max_undurable_bytes)
    }

    /// The leader of the present term appends, or says that it lives [Raft Figure 2,
    /// AppendEntries RPC].
    pub(crate) fn on_append_entries(
        &mut self,
        from: ReplicaId,
        prev: Position,
        commit: Index,
        round: u64,
        entries: Vec<Entry>,
        effects: &mut Vec<Effect>,
    ) {
        if !are_well_formed(&entries, prev.index, prev.term, self.hard_state.term) {
            return;
        }
        self.follow(from, effects);
        self.on_leader_heard(from, effects);
        if let Some(outcome) = self.conflict_at(prev) {
            // The read round is answered by any answer.
            return self.send(from, Body::AppendReply { round, outcome }, effects);
        }
        let is_heartbeat = entries.is_empty();
        let last = Index(prev.index.0 + entries.len() as u64);
        self.append_new(entries, effects);
        // A mode that has just come counts at once, since the answer says that it is known.
        self.promise(from);
        let Role::Follower(follower) = &mut self.role else {
            unreachable!("who heard its leader follows it")
        };
        follower.agreed = follower.agreed.max(last);
        follower.ack_owed = true;
        let round_is_news = round > follower.round;
        follower.round = follower.round.max(round);
        let agreed = follower.agreed;
        self.commit_to(commit.min(agreed), effects);
        // Entries are answered once they are durable; a heartbeat or a read round does not wait
        // for a disk.
        if is_heartbeat || round_is_news || last <= self.log.durable_index() {
            self.send_owed_ack(effects);
        }
    }

    /// Follows `leader`. Panics if the present term has another one.
    pub(crate) fn follow(&mut self, leader: ReplicaId, effects: &mut Vec<Effect>) {
        assert!(self.leader().is_none_or(|known| known == leader), "a term has at most one leader");
        match &mut self.role {
            Role::Follower(follower) => {
                follower.leader = Some(leader);
                follower.vote_owed = false;
            }
            Role::PreCandidate(_) | Role::Candidate(_) => {
                self.become_follower(Some(leader), effects);
            }
            Role::Leader(_) => unreachable!("a leader sends nothing to itself"),
        }
    }

    fn on_leader_heard(&mut self, leader: ReplicaId, effects: &mut Vec<Effect>) {
        if let Role::Follower(follower) = &mut self.role {
            follower.heard_at = Some(self.now);
        }
        self.reset_election_timer();
        self.promise(leader);
        self.repeat_read_index(effects);
    }

    /// Why entries behind `prev` can't be appended, if they can't.
    fn conflict_at(&self, prev: Position) -> Option<AppendOutcome> {
        // What is committed agrees with every later leader's log [Raft §5.4.3].
        if prev.index <= self.commit_index {
            let known = self.log.term_at(prev.index);
            assert!(
                prev.index < self.log.start().index || known == Some(prev.term),
                "a leader has every committed entry"
            );
            return None;
        }
        if self.log.term_at(prev.index) == Some(prev.term) {
            return None;
        }
        let limit = prev.index.previous().min(self.log.last_index());
        let hint = self
            .log
            .last_at_most(limit, prev.term)
            .filter(|place| place.index >= self.commit_index)
            .unwrap_or_else(|| self.committed_position());
        Some(AppendOutcome::Conflict {
            prev_index: prev.index,
            hint_index: hint.index,
            hint_term: hint.term,
        })
    }

    /// Appends what the log lacks of these entries. Only an entry that conflicts truncates: an
    /// old or repeated append must not remove what came after it.
    fn append_new(&mut self, entries: Vec<Entry>, effects: &mut Vec<Effect>) {
        let mut whole = Vec::new();
        for entry in entries {
            if entry.index <= self.log.start().index
                || self.log.term_at(entry.index) == Some(entry.term)
            {
                if self.log.holes().contains(&entry.index) {
                    whole.push(entry);
                }
                continue;
            }
            if entry.index <= self.log.last_index() {
                assert!(entry.index > self.commit_index, "a committed entry is never replaced");
                self.log.truncate_from(entry.index);
                self.configurations.truncate_from(entry.index);
            }
            self.configurations.appended(&entry);
            self.log.append(entry);
        }
        self.fill(whole, true, effects);
    }

    /// Answers the leader, if it waits: with what is durable, in a durable term.
    pub(crate) fn send_owed_ack(&mut self, effects: &mut Vec<Effect>) {
        let Role::Follower(follower) = &mut self.role else { return };
        let Some(leader) = follower.leader else { return };
        if !follower.ack_owed || !self.log.writes().holds_term(self.hard_state.term) {
            return;
        }
        let agreed = follower.agreed.max(self.commit_index);
        let index = agreed.min(self.log.durable_index());
        follower.ack_owed = agreed > index;
        let round = follower.round;
        let outcome = AppendOutcome::Matched { index };
        self.send(leader, Body::AppendReply { round, outcome }, effects);
    }

    /// A follower answered in the present term.
    pub(crate) fn on_append_reply(
        &mut self,
        from: ReplicaId,
        round: u64,
        outcome: AppendOutcome,
        effects: &mut Vec<Effect>,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        let newest_round = leader.reads.round();
        if leader.dead.contains(&from) {
            return;
        }
        let Some(progress) = leader.progress_mut(from) else { return };
        progress.on_heard(self.now, round.min(newest_round));
        let mut news = false;
        match outcome {
            AppendOutcome::Matched { index } => {
                assert!(index <= self.log.last_index(), "nobody agrees with more than the log");
                news = progress.on_matched(index, self.log.start().index);
            }
            AppendOutcome::Conflict { prev_index, hint_index, hint_term } => {
                progress.on_conflict(prev_index, hint_index, hint_term, &self.log);
            }
        }
        if news {
            self.advance_commit(effects);
            self.check_newcomers(effects);
            self.advance_transfer(effects);
        }
        self.finish_round(effects);
        self.extend_lease();
        self.send_appends(from, effects);
    }

    /// Says that this leader lives, unless no quorum says that it does.
    pub(crate) fn on_heartbeat_due(&mut self, effects: &mut Vec<Effect>) {
        if !self.is_heard_by_quorum() {
            return self.become_follower(None, effects);
        }
        self.start_lease_round();
        let silent = self.claims();
        let next = self.next_heartbeat();
        let (now, timeout) = (self.now, self.config.election_timeout);
        let snapshot = self.log.snapshot().index;
        let Some((sender, leader)) = self.sender() else { return };
        leader.heartbeat_deadline = next;
        for progress in &mut leader.progress {
            sender.retry_snapshot(progress, effects);
            if !silent.contains(&progress.id) {
                sender.send_heartbeat(progress, effects);
            }
        }
        let floor = trailing_floor(leader, snapshot, now, timeout);
        self.log.release(floor, self.config.max_trailing_bytes);
        self.compact_if_free();
        self.shrink_window();
        self.check_newcomers(effects);
        self.check_stall(effects);
        self.check_transfer(effects);
    }

    /// Lets entries leave memory that were applied and are durable, beyond the limit.
    pub(crate) fn shrink_window(&mut self) {
        let limit = self.applied_index.min(self.log.durable_index());
        self.log.evict(limit, self.config.max_window_bytes);
    }

    fn is_heard_by_quorum(&self) -> bool {
        self.now.since(self.quorum_heard_at()) < self.config.election_timeout
    }

    /// A leader that was silent has something to say again.
    pub(crate) fn hasten_heartbeat(&mut self) {
        if self.config.shares_heartbeats && self.is_leader() {
            let next = self.next_heartbeat();
            let Role::Leader(leader) = &mut self.role else { return };
            leader.heartbeat_deadline = leader.heartbeat_deadline.min(next);
        }
    }

    /// When a quorum was last heard, this replica included.
    pub(crate) fn quorum_heard_at(&self) -> Time {
        let Role::Leader(leader) = &self.role else { return Time(0) };
        let heard_at = quorum::reached(self.configuration(), |id| {
            if id == self.config.id {
                return self.now.0;
            }
            leader.value_of(id, |progress| progress.heard_at.0)
        });
        Time(heard_at)
    }
}
