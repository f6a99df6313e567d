//! Snapshots that are torn on their way, directed: somebody lags until it needs one, and while that
//! arrives its connections break, or its sender is cut off and another one leads, again and again.
//!
//! Chance alone seldom gets there: a transfer takes a fraction of a second, and then a newer one
//! soon takes its place. So in most of these plays clients keep quiet until it has arrived, or the
//! play is over: who has begun it in a wrong way is saved by nothing new.

use flotilla_raft::Term;
use flotilla_shard::ShardId;

use super::World;
use crate::fault::Fault;
use crate::queue::Micros;
use crate::random::Random;

/// A play that takes longer will come to nothing.
const PLAY_MAX: Micros = 6_000_000;
/// A transfer is torn after at most so many more of its chunks.
const MORE_MAX: u64 = 12;

/// How far a play is.
#[derive(Clone, Debug)]
pub(crate) struct TornTransfer {
    shard: ShardId,
    straggler: usize,
    /// When it began.
    since: Micros,
    /// Whether the straggler is still cut off.
    lags: bool,
    /// Whether clients wait meanwhile.
    quiet: bool,
    /// How often it is to be torn yet.
    tears: u64,
    /// How many chunks had been stored when it was torn last, and how many more are to come first.
    torn_at: usize,
    more: usize,
    /// Until when a leader is cut off.
    apart_until: Option<Micros>,
    random: Random,
}

impl World {
    /// Cuts somebody off who will need a snapshot, if some data shard has a leader and others.
    pub(super) fn begin_torn_transfer(&mut self, random: &mut Random) -> bool {
        if self.figure_8.is_some() || self.torn_transfer.is_some() {
            return false;
        }
        let shards: Vec<ShardId> = self.config.layout.shard_ids().collect();
        let shard = *random.pick(&shards);
        let Some(leader) = self.leads(shard, Term(0)) else { return false };
        let others: Vec<usize> =
            self.checkers.voters[&shard].iter().copied().filter(|at| *at != leader).collect();
        if others.len() < 2 {
            return false;
        }
        let straggler = *random.pick(&others);
        self.torn_transfer = Some(TornTransfer {
            shard,
            straggler,
            since: self.now,
            lags: true,
            quiet: random.chance(75),
            tears: random.between(2, 5),
            torn_at: 0,
            more: 0,
            apart_until: None,
            random: Random::new(random.word()),
        });
        self.keep_together(&[&[straggler]]);
        false
    }

    /// Whether clients keep quiet, since a snapshot is to arrive.
    pub(super) fn waits_for_transfer(&self) -> bool {
        self.torn_transfer.as_ref().is_some_and(|play| play.quiet && !play.lags)
    }

    /// Looks whether something is to be done.
    pub(crate) fn direct_torn_transfer(&mut self) {
        let Some(mut play) = self.torn_transfer.take() else { return };
        if !self.troubled || self.is_calm() || self.now > play.since + PLAY_MAX {
            return self.keep_together(&[]);
        }
        if play.apart_until.is_some_and(|until| self.now >= until) {
            play.apart_until = None;
            self.keep_together(&[]);
        }
        let goes_on = if play.lags { self.let_lag(&mut play) } else { self.tear(&mut play) };
        if goes_on {
            self.torn_transfer = Some(play);
        } else {
            self.keep_together(&[]);
        }
    }

    /// Where a leader's log on disk begins.
    fn snapshot_of(&self, at: usize, shard: ShardId) -> Option<u64> {
        let core = self.machines[at].process.as_ref()?.node.core(shard)?;
        Some(core.status().snapshot_index.0)
    }

    /// The straggler comes back once a leader has a snapshot of what it lacks.
    fn let_lag(&mut self, play: &mut TornTransfer) -> bool {
        let Some(leader) = self.leads(play.shard, Term(0)) else { return true };
        let last = self.replica(play.straggler, play.shard).map(|replica| replica.last.0);
        let begins = self.snapshot_of(leader, play.shard);
        if leader != play.straggler && begins.zip(last).is_some_and(|(begins, last)| begins > last)
        {
            self.keep_together(&[]);
            play.lags = false;
            play.torn_at = self.transfers.stored(play.straggler, play.shard);
            play.more = play.random.between(1, MORE_MAX) as usize;
        }
        true
    }

    /// Tears the transfer once enough more of it has come; false if there is nothing to be torn.
    fn tear(&mut self, play: &mut TornTransfer) -> bool {
        let Some(replica) = self.replica(play.straggler, play.shard) else { return true };
        let Some(leader) = self.leads(play.shard, Term(0)) else { return true };
        if self.snapshot_of(leader, play.shard).is_some_and(|index| replica.applied.0 >= index) {
            return false;
        }
        let stored = self.transfers.stored(play.straggler, play.shard);
        // Another file may have been begun since.
        let came = if stored < play.torn_at { stored } else { stored - play.torn_at };
        if play.tears == 0 || came < play.more || leader == play.straggler {
            return true;
        }
        play.tears -= 1;
        (play.torn_at, play.more) = (stored, play.random.between(1, MORE_MAX) as usize);
        self.counters.fired(Fault::TornTransfer);
        let straggler = play.straggler;
        self.tell(|| format!("fault TornTransfer: node {} has {stored} chunks", straggler + 1));
        if play.random.chance(50) {
            self.silence(straggler);
        } else {
            self.keep_together(&[&[leader]]);
            self.silence(leader);
            let timeout = self.config.node.election_timeout_ms * 1_000;
            play.apart_until = Some(self.now + play.random.between(timeout, 6 * timeout));
        }
        true
    }
}
