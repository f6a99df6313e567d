//! What nobody in the cluster knows: who led which term, what was committed and by whom, and what
//! a read must see. Against this the claims are judged that span replicas and steps.

use flotilla_raft::{Configuration, Entry, Index, ReplicaId, RequestId, SnapshotMeta, Term};

use crate::replica::{Image, Replica};
use crate::word_of;

/// The history, as far as a claim needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Witness {
    /// Who led, ascending by term.
    leaders: Vec<(Term, ReplicaId)>,
    /// Everything that was ever committed, from index 1.
    committed: Vec<Committed>,
    /// Reads that are open, with the least index that they may be served at.
    reads: Vec<(RequestId, Index)>,
    /// What was committed by the present step, to be looked for on the disks.
    fresh: Vec<(Index, Term, Configuration)>,
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Committed {
    term: Term,
    /// Stands for the whole entry.
    word: u64,
    /// The term of the leader that committed it.
    by: Term,
    configuration: Option<Configuration>,
}

impl Witness {
    /// The last index that was ever committed.
    pub(crate) fn last_committed(&self) -> Index {
        Index(self.committed.len() as u64)
    }

    /// A read is asked for now.
    pub(crate) fn on_read_asked(&mut self, id: RequestId) {
        self.reads.push((id, self.last_committed()));
    }

    /// A read is to be served at `index`.
    pub(crate) fn on_read(&mut self, id: RequestId, index: Index) -> Result<(), String> {
        let place = self.reads.iter().position(|(known, _)| *known == id);
        let Some(place) = place else { return Err(format!("read {id} is answered twice")) };
        let (_, floor) = self.reads.remove(place);
        if index < floor {
            return Err(format!(
                "read {id} is served at {index}, but {floor} was committed before"
            ));
        }
        Ok(())
    }

    /// A replica in `term` applies an entry [Raft §5.4.3, state machine safety].
    pub(crate) fn on_applied(
        &mut self,
        by: ReplicaId,
        term: Term,
        entry: &Entry,
        configuration: &Configuration,
    ) -> Result<(), String> {
        let word = word_of(entry);
        let place = usize::try_from(entry.index.0).expect("few entries are explored") - 1;
        if let Some(known) = self.committed.get(place) {
            if (known.term, known.word) != (entry.term, word) {
                return Err(format!("{by} applies another entry at {}", entry.index));
            }
            return Ok(());
        }
        if place > self.committed.len() {
            return Err(format!("{by} applies {} before those below it", entry.index));
        }
        let is_configuration = entry.kind == flotilla_raft::EntryKind::Configuration;
        let carried =
            is_configuration.then(|| Configuration::decode(entry.payload.bytes())).flatten();
        let committed = Committed { term: entry.term, word, by: term, configuration: carried };
        self.committed.push(committed);
        self.fresh.push((entry.index, entry.term, configuration.clone()));
        Ok(())
    }

    /// A snapshot takes the place of a state: it is of what was committed.
    pub(crate) fn on_restored(&self, meta: &SnapshotMeta) -> Result<(), String> {
        let place = usize::try_from(meta.index.0).expect("few entries are explored");
        let known = place.checked_sub(1).and_then(|place| self.committed.get(place));
        if known.is_none_or(|known| known.term != meta.term) {
            return Err(format!("a snapshot at {} is not of what was committed", meta.index));
        }
        let carried = |known: &Committed| known.configuration.clone();
        let newest = self.committed[..place].iter().rev().find_map(carried);
        if newest.is_some_and(|newest| newest != meta.configuration) {
            return Err(format!("a snapshot at {} has another configuration", meta.index));
        }
        Ok(())
    }

    /// Looks at `replica` after its step.
    pub(crate) fn check(&mut self, replica: &Replica, all: &[&Replica]) -> Result<(), String> {
        if replica.raft.is_leader() {
            self.check_leader(replica)?;
        }
        for (index, term, configuration) in std::mem::take(&mut self.fresh) {
            check_durable(index, term, &configuration, all)?;
        }
        for other in all.iter().filter(|other| other.raft.id() != replica.raft.id()) {
            check_matching(&replica.memory, &other.memory)?;
        }
        if replica.raft.commit_index() > self.last_committed() {
            return Err(format!("{} commits what nobody applied", replica.raft.id()));
        }
        Ok(())
    }

    /// One leader a term [Raft §5.2], which has all that was committed before [Raft §5.4].
    fn check_leader(&mut self, replica: &Replica) -> Result<(), String> {
        let (id, term) = (replica.raft.id(), replica.raft.term());
        match self.leaders.binary_search_by_key(&term, |(term, _)| *term) {
            Ok(place) if self.leaders[place].1 == id => return Ok(()),
            Ok(place) => {
                return Err(format!(
                    "term {term} has the leaders {} and {id}",
                    self.leaders[place].1
                ));
            }
            Err(place) => self.leaders.insert(place, (term, id)),
        }
        let before = self.committed.iter().zip(1..).filter(|(known, _)| known.by < term);
        for (known, index) in before {
            let index = Index(index);
            let covered = index <= replica.memory.snapshot.index;
            let same = |entry: &Entry| word_of(entry) == known.word;
            if !covered && !replica.memory.entry(index).is_some_and(same) {
                return Err(format!("{id} leads {term} without {index}, which was committed"));
            }
        }
        Ok(())
    }
}

/// What is committed is on the disks of a quorum of each half.
fn check_durable(
    index: Index,
    term: Term,
    configuration: &Configuration,
    all: &[&Replica],
) -> Result<(), String> {
    let holds = |id: &ReplicaId| {
        let disk = all.iter().find(|known| known.raft.id() == *id).map(|known| &known.disk);
        disk.is_some_and(|disk| index <= disk.snapshot.index || disk.term_at(index) == Some(term))
    };
    for half in [&configuration.voters, &configuration.outgoing] {
        let count = half.iter().filter(|id| holds(id)).count();
        if !half.is_empty() && 2 * count <= half.len() {
            return Err(format!("{index} is committed and on {count} of the disks of {half:?}"));
        }
    }
    Ok(())
}

/// Logs that agree at a place agree below it [Raft §5.3].
fn check_matching(one: &Image, other: &Image) -> Result<(), String> {
    let mut agree = false;
    let mut index = one.last().min(other.last());
    let bottom = one.snapshot.index.max(other.snapshot.index);
    while index > bottom {
        let (mine, theirs) = (one.entry(index), other.entry(index));
        if agree && mine != theirs {
            return Err(format!("two logs differ at {index} and agree above"));
        }
        let same_term = |(mine, theirs): (&Entry, &Entry)| mine.term == theirs.term;
        agree |= mine.zip(theirs).is_some_and(same_term);
        if agree && mine != theirs {
            return Err(format!("two entries at {index} have one term"));
        }
        index = index.previous();
    }
    Ok(())
}
