//! The schedule of Figure 8 [Raft §5.4.2], directed: an entry of an old term comes to stand on a
//! majority of disks without being committed, its leader is cut off at that moment, and another
//! leader replaces it. Whoever commits by counting replicas of old terms loses what it has
//! acknowledged.
//!
//! Chance alone hardly ever gets there, since every step has to come within a few milliseconds:
//!
//! 1. A leader is cut off together with one follower, and goes on appending.
//! 2. Another node is elected by the rest, and cut off before anybody has its first entry.
//! 3. It stays away; the old pair comes back, and one of the two is elected again. As soon as a
//!    third node has old entries of the pair, but nothing of the new term, the leader is muted.
//! 4. The pair is cut off. The other leader of step 2 comes back, with the later term in its log;
//!    it is elected, and what it has replaces what stood on three of five disks.

use flotilla_node::Inspection;
use flotilla_raft::Term;
use flotilla_shard::ShardId;

use super::World;
use crate::fault::Fault;
use crate::queue::Micros;
use crate::random::Random;

/// A step that takes longer will not come any more.
const STEP_MAX: Micros = 3_000_000;

/// How far the schedule is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure8 {
    shard: ShardId,
    step: Step,
    /// When the step began.
    since: Micros,
    /// The first leader, and who is cut off with it.
    pair: [usize; 2],
    /// Where the log was cut off from the rest.
    committed: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The pair is alone; the rest elects somebody.
    Apart,
    /// Who was elected is alone, and has written its first entry of that term, or will.
    Elected { rival: usize, term: Term },
    /// One of the pair leads again, and nothing that it says arrives any more.
    Muted { rival: usize, until: Micros },
    /// The rival is with the two that may elect it.
    Replaced { rival: usize, term: Term },
}

impl World {
    /// Begins the schedule, if some data shard has five voters and a leader.
    pub(super) fn begin_figure_8(&mut self, random: &mut Random) -> bool {
        if self.figure_8.is_some() || self.torn_transfer.is_some() {
            return false;
        }
        let voters = |shard: &ShardId| self.checkers.voters[shard].len() == 5;
        let Some(shard) = self.config.layout.shard_ids().find(voters) else { return false };
        let Some(leader) = self.leads(shard, Term(0)) else { return false };
        let others: Vec<usize> =
            self.checkers.voters[&shard].iter().copied().filter(|at| *at != leader).collect();
        let pair = [leader, *random.pick(&others)];
        let committed = self.checkers.last_committed(shard);
        self.figure_8 =
            Some(Figure8 { shard, step: Step::Apart, since: self.now, pair, committed });
        self.keep_together(&[&pair]);
        false
    }

    /// Looks whether the next step has come.
    pub(crate) fn direct_figure_8(&mut self) {
        let Some(play) = self.figure_8 else { return };
        if !self.troubled || self.now > play.since + STEP_MAX {
            return self.end_figure_8();
        }
        let next = match play.step {
            Step::Apart => self.after_apart(play),
            Step::Elected { rival, term } => self.after_elected(play, rival, term),
            Step::Muted { rival, until } => self.after_muted(play, rival, until),
            Step::Replaced { rival, term } => {
                if self.leads(play.shard, term) == Some(rival) {
                    self.counters.fired(Fault::Figure8);
                    return self.end_figure_8();
                }
                None
            }
        };
        if let Some(step) = next {
            self.tell(|| format!("fault Figure8: {step:?}"));
            self.figure_8 = Some(Figure8 { step, since: self.now, ..play });
        }
    }

    fn after_apart(&mut self, play: Figure8) -> Option<Step> {
        let term = self.replica(play.pair[0], play.shard)?.term;
        let rival = self.leads(play.shard, term.next())?;
        if play.pair.contains(&rival) {
            return None;
        }
        let alone = |at: &usize| self.checkers.durable_last(*at, play.shard) > play.committed;
        if !play.pair.iter().all(alone) {
            // The pair has appended nothing meanwhile.
            self.end_figure_8();
            return None;
        }
        let term = self.replica(rival, play.shard)?.term;
        self.keep_together(&[&[rival]]);
        self.silence(rival);
        Some(Step::Elected { rival, term })
    }

    fn after_elected(&mut self, play: Figure8, rival: usize, term: Term) -> Option<Step> {
        let leader = self.leads(play.shard, term.next())?;
        let first = play.committed + 1;
        let own = self.replica(leader, play.shard)?.term;
        let old = self.checkers.given_term(leader, play.shard, first)?;
        let voters = self.checkers.voters[&play.shard].clone();
        let third = voters.into_iter().find(|at| {
            let within = !play.pair.contains(at) && *at != rival;
            within && self.checkers.given_term(*at, play.shard, first) == Some(old)
        })?;
        if self.checkers.given_last_term(third, play.shard) == Some(own.0) {
            // It has taken all at once, or too quickly.
            self.end_figure_8();
            return None;
        }
        let nodes = self.machines.len();
        for other in (0..nodes).filter(|other| *other != leader) {
            self.network.cut.insert((leader, other));
        }
        self.drop_from(leader);
        let wait = 8 * self.config.latency + 6 * self.config.disk_latency + 2_000;
        Some(Step::Muted { rival, until: self.now + wait })
    }

    fn after_muted(&mut self, play: Figure8, rival: usize, until: Micros) -> Option<Step> {
        if self.now < until {
            return None;
        }
        let term = self.replica(play.pair[0], play.shard)?.term;
        let [one, other] = play.pair;
        self.keep_together(&[&[one], &[other]]);
        self.silence(one);
        self.silence(other);
        Some(Step::Replaced { rival, term })
    }

    fn end_figure_8(&mut self) {
        self.figure_8 = None;
        self.keep_together(&[]);
    }

    pub(super) fn replica(&self, at: usize, shard: ShardId) -> Option<Inspection> {
        let process = self.machines[at].process.as_ref()?;
        process.node.inspect().find(|replica| replica.shard == shard)
    }

    /// Who leads a shard in that term or a later one.
    pub(super) fn leads(&self, shard: ShardId, term: Term) -> Option<usize> {
        let nodes = 0..self.machines.len();
        let leads = nodes.filter_map(|at| Some((self.replica(at, shard)?, at)));
        let leads = leads.filter(|(replica, _)| replica.leads && replica.term >= term);
        leads.max_by_key(|(replica, _)| replica.term).map(|(_, at)| at)
    }

    /// Cuts these groups off from each other and from the rest.
    pub(super) fn keep_together(&mut self, groups: &[&[usize]]) {
        let nodes = self.machines.len();
        let group = |at: usize| groups.iter().position(|group| group.contains(&at));
        self.network.cut.clear();
        for from in 0..nodes {
            for to in (0..nodes).filter(|&to| to != from && group(from) != group(to)) {
                self.network.cut.insert((from, to));
            }
        }
        // What would end an earlier partition does not end this one.
        self.partition += 1;
        self.release();
    }

    /// Nothing of what a node has under way to others arrives.
    fn drop_from(&mut self, at: usize) {
        let ways = self.network.ways_from(at);
        for (id, side) in ways {
            self.network.lose(id, side, 0);
            self.disown(id, side);
        }
    }

    /// A node's links break, with everything that is under way.
    pub(super) fn silence(&mut self, at: usize) {
        for (id, side) in self.network.ways_from(at) {
            for side in [side, 1 - side] {
                self.network.lose(id, side, 0);
                self.disown(id, side);
            }
        }
    }
}
