//! Entries whose payload was damaged on disk while their identity (index and term) was not
//! [Protocol-Aware Recovery, FAST'18].
//!
//! Such a replica keeps its vote and answers appends by identity, since it can still get the
//! payload: from any replica that has that entry whole, leader or not. It applies nothing past a
//! hole, sends nothing past it, and opens no term over it: a leader with holes first asks around.
//!
//! | who is asked | answers |
//! |---|---|
//! | has the entry whole | with it, from memory or from disk |
//! | has it damaged as well | nothing about it |
//! | has it under a snapshot | with the snapshot |
//! | has another entry there, or none | "missing", once its term is durable |
//!
//! A leader gives an entry up once so many voters lack it, answering in its own term, that no
//! quorum can have it, in no configuration that may have been in force: they can't get it any more
//! from leaders of older terms, so it is not committed. It truncates there and campaigns anew,
//! which voids every answer that named what it truncated; so leaders stay append-only.
//!
//! Who may not know its configuration, since that is in a hole, can't campaign. If it would win by
//! the configurations it knows, it inquires: it enters a term without asking for votes, only to
//! find out in that term whether its hole can be given up. What hangs on the hole is at most one
//! step away from what it knows, so the quorums of both meet.
//!
//! Invariants: nothing past a hole is handed out; a hole is filled by an entry of its very index
//! and term only; nobody leads who may not know its configuration.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};

use crate::digest::Ages;
use crate::raft::Raft;
use crate::role::Role;
use crate::{
    Body, Configuration, Effect, Entry, EntryKind, Index, ReplicaId, SnapshotMeta, Term, Time,
};

/// Marks the term of whoever sends a snapshot that repairs: it is of committed entries, whoever
/// that is, but what is committed may be beyond what a leader of an older term knows of. So it is
/// taken in the sender's term at least.
const REPAIRS: u64 = 1 << 63;

impl Term {
    /// Whether this is the term in [`Effect::SendSnapshot`] of a snapshot that repairs, which
    /// anybody sends and which takes no leadership for granted.
    pub fn is_of_repair(self) -> bool {
        self.0 & REPAIRS != 0
    }

    fn of_repair(self) -> Self {
        Self(self.0 | REPAIRS)
    }

    fn without_mark(self) -> Self {
        Self(self.0 & !REPAIRS)
    }
}

/// So many entries are asked for in one message.
const PLACES_MAX: usize = 64;

/// How the search for whole entries goes.
#[derive(Clone, Default)]
pub(crate) struct Search {
    /// When to ask again.
    at: Time,
    /// Whom to ask next, counted over all members.
    turn: usize,
    /// Who waits for an entry that is on disk only.
    serving: Vec<(Index, ReplicaId)>,
    /// To whom a snapshot is on its way that repairs.
    sending: Vec<ReplicaId>,
    /// Who is there beside the members that are known: the one that has it may be named in a hole.
    peers: Vec<ReplicaId>,
    /// Who lacks which damaged entry, by what was said in the term beside.
    missing: (Term, Vec<(Index, ReplicaId)>),
    /// The state is lost and another one did not come yet.
    pub(crate) state_lost: bool,
}

impl Search {
    /// Feeds what decides who is asked and given what; `holes` tells whether payloads are lost.
    pub(crate) fn digest<H: Hasher>(&self, ages: Ages, holes: bool, hasher: &mut H) {
        let Self { at, turn, serving, sending, peers, missing, state_lost } = self;
        (serving, sending, holes, state_lost).hash(hasher);
        if holes || *state_lost {
            (ages.until(*at), turn, peers, missing).hash(hasher);
        }
    }
}

impl Raft {
    /// When to look for whole entries again.
    pub(crate) fn search_deadline(&self) -> Time {
        if self.is_whole() { Time::NEVER } else { self.search.at }
    }

    /// Whether neither payloads nor the state are lost.
    fn is_whole(&self) -> bool {
        self.log.holes().is_empty() && !self.search.state_lost
    }

    /// How many entries of the log lack their payload.
    pub fn damaged(&self) -> usize {
        self.log.holes().len()
    }

    /// A replica of the group can be reached.
    pub(crate) fn on_peer_found(&mut self, peer: ReplicaId) {
        if !self.is_whole() && !self.search.peers.contains(&peer) {
            self.search.peers.push(peer);
        }
    }

    /// Asks the next member for what is damaged here.
    pub(crate) fn search(&mut self, effects: &mut Vec<Effect>) {
        self.search.at = self.now + self.config.heartbeat_interval;
        let mut others = self.configuration().members();
        others.extend(self.leader());
        others.extend(&self.search.peers);
        others.sort_unstable();
        others.dedup();
        others.retain(|&id| id != self.config.id);
        if others.is_empty() {
            return;
        }
        let to = others[self.search.turn % others.len()];
        self.search.turn += 1;
        self.fetch_state_from(to, effects);
        if !self.log.holes().is_empty() {
            self.fetch_from(to, effects);
        }
    }

    /// Asks `to` for what is damaged here.
    fn fetch_from(&self, to: ReplicaId, effects: &mut Vec<Effect>) {
        let place = |&index: &Index| {
            let term = self.log.term_at(index).expect("a hole is an entry of the log");
            (index, term)
        };
        let places = self.log.holes().iter().take(PLACES_MAX).map(place).collect();
        self.send(to, Body::FetchEntries { places }, effects);
    }

    /// Somebody lacks the payloads of these entries.
    pub(crate) fn on_fetch(
        &mut self,
        from: ReplicaId,
        places: Vec<(Index, Term)>,
        effects: &mut Vec<Effect>,
    ) {
        let (mut entries, mut missing) = (Vec::new(), Vec::new());
        let mut room = self.config.max_message_bytes;
        let (mut covered, mut on_disk) = (None, None);
        for (index, term) in places.into_iter().take(PLACES_MAX) {
            if index <= self.log.snapshot().index && index <= self.log.base() {
                covered = covered.max(Some(index));
            } else if self.log.term_at(index) != Some(term) {
                missing.push(index);
            } else if index <= self.log.base() {
                on_disk = on_disk.or(Some(index));
            } else if let Some(entry) = self.log.whole_entry(index).filter(|_| room > 0) {
                room = room.saturating_sub(entry.payload.len());
                entries.push(entry.clone());
            }
        }
        // A crash must not take it back to a term in which it could still get them.
        if !self.log.writes().holds_term(self.hard_state.term) {
            missing.clear();
        }
        self.send(from, Body::FetchedEntries { entries, missing }, effects);
        if let Some(first) = on_disk {
            self.load_for(from, first, effects);
        }
        if let Some(at_least) = covered {
            self.send_repair(from, at_least, effects);
        }
    }

    /// Sends a snapshot that repairs, unless one is on its way.
    pub(crate) fn send_repair(
        &mut self,
        to: ReplicaId,
        at_least: Index,
        effects: &mut Vec<Effect>,
    ) {
        if !self.search.sending.contains(&to) {
            self.search.sending.push(to);
            let term = self.hard_state.term.of_repair();
            effects.push(Effect::SendSnapshot { to, at_least, term });
        }
    }

    /// A snapshot arrived, or not: another may follow.
    pub(crate) fn on_repair_sent(&mut self, to: ReplicaId) {
        self.search.sending.retain(|&id| id != to);
    }

    /// A snapshot that repairs has come, from somebody in that term.
    pub(crate) fn on_repair_received(
        &mut self,
        term: Term,
        meta: &SnapshotMeta,
        effects: &mut Vec<Effect>,
    ) {
        let term = term.without_mark();
        if meta.term > term {
            return;
        }
        if term > self.hard_state.term {
            self.enter_term(term, effects);
        }
        self.repair_by_snapshot(meta, effects);
    }

    /// A snapshot of entries that this log has too, some of them damaged: it stands in for them.
    /// What the log has behind it stays, since it may have been acknowledged. One that goes beyond
    /// the log stands in for all of it, whoever it comes from.
    pub(crate) fn repair_by_snapshot(&mut self, meta: &SnapshotMeta, effects: &mut Vec<Effect>) {
        let index = meta.index;
        if self.is_beyond_what_lacks(meta) {
            return self.restore(meta.clone(), effects);
        }
        let fills = self.log.holes().first().is_some_and(|&hole| hole <= index);
        let replaces = self.search.state_lost && index > self.log.snapshot().index;
        if !(fills || replaces) || self.log.term_at(index) != Some(meta.term) {
            return;
        }
        self.search.state_lost = false;
        self.log.compact(meta.clone());
        self.log.release(index, 0);
        self.configurations.begin_at(index, meta.configuration.clone());
        self.commit_index = self.commit_index.max(index);
        self.emitted_index = index;
        self.applied_index = index;
        self.applied_at = self.now;
        effects.push(Effect::Restore(Box::new(meta.clone())));
        self.hand_out(effects);
        self.open_term(effects);
    }

    fn load_for(&mut self, to: ReplicaId, from: Index, effects: &mut Vec<Effect>) {
        self.search.serving.retain(|(_, waiting)| *waiting != to);
        self.search.serving.push((from, to));
        effects.push(Effect::Load { from, bytes: self.config.max_message_bytes });
    }

    /// Gives what was read from disk to those who asked for it because theirs is damaged.
    pub(crate) fn serve_loaded(
        &mut self,
        from: Index,
        entries: &[Entry],
        effects: &mut Vec<Effect>,
    ) {
        let mut serving = core::mem::take(&mut self.search.serving);
        serving.retain(|(index, to)| {
            if *index == from && !entries.is_empty() {
                let (entries, missing) = (entries.to_vec(), Vec::new());
                self.send(*to, Body::FetchedEntries { entries, missing }, effects);
            }
            *index != from
        });
        self.search.serving = serving;
    }

    /// What was asked for, as far as `from` has it.
    pub(crate) fn on_fetched(
        &mut self,
        from: ReplicaId,
        entries: Vec<Entry>,
        missing: Vec<Index>,
        effects: &mut Vec<Effect>,
    ) {
        let holes = self.log.holes().len();
        self.fill(entries, true, effects);
        // Who had some may have more, which did not fit into one answer.
        if (1..holes).contains(&self.log.holes().len()) {
            self.fetch_from(from, effects);
        }
        match &self.role {
            Role::Leader(leader) if !leader.dead.contains(&from) => {}
            Role::Candidate(candidate) if candidate.inquires => {}
            _ => return,
        }
        let (term, known) = &mut self.search.missing;
        if *term != self.hard_state.term {
            (*term, *known) = (self.hard_state.term, Vec::new());
        }
        for index in missing {
            if self.log.holes().contains(&index) && !known.contains(&(index, from)) {
                known.push((index, from));
            }
        }
        let given_up = self.log.holes().iter().find(|&&hole| self.nobody_can_have(hole)).copied();
        if let Some(hole) = given_up {
            self.give_up(hole, effects);
        }
    }

    /// The host has read payloads after all, or got them by other means.
    pub(crate) fn on_repaired(&mut self, entries: Vec<Entry>, effects: &mut Vec<Effect>) {
        self.fill(entries, false, effects);
    }

    /// The disk is damaged under a living replica: what memory still has is written anew.
    pub(crate) fn on_damaged(&self, indexes: &[Index], effects: &mut Vec<Effect>) {
        let whole = |&index: &Index| self.log.whole_entry(index).cloned();
        let entries: Vec<Entry> = indexes.iter().filter_map(whole).collect();
        if !entries.is_empty() {
            effects.push(Effect::Repair { entries });
        }
    }

    /// Puts whole entries where holes of their identity are; says so to the host if `repairs`.
    pub(crate) fn fill(&mut self, entries: Vec<Entry>, repairs: bool, effects: &mut Vec<Effect>) {
        let mut filled = Vec::new();
        for entry in entries {
            let readable = entry.kind != EntryKind::Configuration
                || Configuration::decode(entry.payload.bytes()).is_some();
            if readable && self.log.fill(&entry) {
                self.configurations.repaired(&entry);
                filled.push(entry);
            }
        }
        if filled.is_empty() {
            return;
        }
        if repairs {
            effects.push(Effect::Repair { entries: filled });
        }
        self.hand_out(effects);
        if self.is_leader() {
            self.open_term(effects);
            self.broadcast_appends(effects);
        }
    }

    /// Whether the configuration in force may be in a hole.
    pub(crate) fn is_configuration_unknown(&self) -> bool {
        let is_configuration = |&index: &Index| {
            self.log.entry(index).is_some_and(|entry| entry.kind == EntryKind::Configuration)
        };
        self.log.holes().iter().any(is_configuration)
    }

    /// Enters a term only to ask what can be given up.
    pub(crate) fn inquire(&mut self, effects: &mut Vec<Effect>) {
        self.become_candidate(false, effects);
        if let Role::Candidate(candidate) = &mut self.role {
            candidate.inquires = true;
        }
    }

    /// Whether so many voters lack `hole` that it is not committed, whichever of the
    /// configurations since was in force.
    fn nobody_can_have(&self, hole: Index) -> bool {
        let (term, known) = &self.search.missing;
        let lacks = |id: &ReplicaId| known.contains(&(hole, *id));
        let blocked = |voters: &[ReplicaId]| {
            // A quorum is more than half, so half of them, rounded up, leave none.
            voters.iter().filter(|id| lacks(id)).count() >= voters.len().div_ceil(2)
        };
        // What is committed in a joint configuration is on a quorum of both halves, and what comes
        // after it is the new half alone: without a quorum of that it is committed in neither.
        let mut configurations = self.configurations.since(hole);
        *term == self.hard_state.term && configurations.all(|known| blocked(&known.voters))
    }

    /// Truncates what can't be committed, and campaigns anew.
    fn give_up(&mut self, hole: Index, effects: &mut Vec<Effect>) {
        assert!(hole > self.commit_index, "what is committed is never given up");
        let led = self.is_leader();
        self.become_follower(None, effects);
        self.log.truncate_from(hole);
        self.configurations.truncate_from(hole);
        if led {
            // Until now it led, so nobody else has to be heard first.
            self.become_candidate(true, effects);
        } else {
            self.become_pre_candidate(effects);
        }
    }
}
