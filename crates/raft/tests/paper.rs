//! The safety sentences of the papers, each as the shortest run that a core without it would fail.

mod cluster;

use cluster::alone::{Alone, append, change, entries, matched, request_vote, sent};
use cluster::{Cluster, id, voters};
use flotilla_raft::{
    AppendOutcome, Body, Config, Configuration, Effect, Entry, EntryKind, Index, Input, Message,
    Note, Payload, Recovered, Refusal, ReplicaId, RequestId, RoleName, SnapshotMeta, Term, Time,
};

/// "Each server will vote for at most one candidate in a given term" [Raft §5.2].
#[test]
fn one_vote_per_term_also_after_a_crash() {
    let mut replica = Alone::new(&[], 1);
    replica.hear(2, 2, request_vote((0, 0)));
    assert_eq!(sent(&replica.written()), [(2, Body::VoteReply { granted: true })]);
    let refused = replica.hear(3, 2, request_vote((9, 1)));
    assert_eq!(sent(&refused), [(3, Body::VoteReply { granted: false })]);
    let again = replica.hear(2, 2, request_vote((0, 0)));
    assert_eq!(sent(&again), [(2, Body::VoteReply { granted: true })]);

    let mut cluster = Cluster::new(&voters(3), 1);
    cluster.elect(id(1));
    let kept = cluster.host(id(2)).disk.hard_state;
    assert_eq!(kept.voted_for, Some(id(1)));
    cluster.crash(id(2), 0);
    cluster.restart(id(2));
    assert_eq!(cluster.raft(id(2)).status().voted_for, Some(id(1)));
}

/// A pre-vote is no vote, and asking for one does not take a vote back [Thesis §9.6].
#[test]
fn pre_votes_leave_term_and_vote_alone() {
    let mut replica = Alone::new(&[], 1);
    replica.hear(2, 2, request_vote((0, 0)));
    replica.written();
    replica.wake();
    assert_eq!(replica.raft.status().role, RoleName::PreCandidate);
    let refused = replica.hear(3, 2, request_vote((9, 1)));
    assert_eq!(sent(&refused), [(3, Body::VoteReply { granted: false })]);

    let (last_index, last_term) = (Index(0), Term(0));
    let granted = replica.hear(3, 3, Body::RequestPreVote { last_index, last_term });
    assert_eq!(sent(&granted), [(3, Body::PreVoteReply { granted: true })]);
    assert_eq!(replica.raft.term(), Term(2));
}

/// "The voter denies its vote if its own log is more up-to-date" [Raft §5.4.1].
#[test]
fn a_vote_goes_to_logs_at_least_as_up_to_date() {
    for (last, granted) in
        [((2, 2), false), ((9, 1), false), ((3, 2), true), ((4, 2), true), ((1, 3), true)]
    {
        let mut replica = Alone::new(&[1, 2, 2], 3);
        let mut effects = replica.hear(2, 4, request_vote(last));
        effects.extend(replica.written());
        assert_eq!(sent(&effects), [(2, Body::VoteReply { granted })], "last entry {last:?}");
    }
}

/// Only the leader of the term and a vote given reset the timer [Raft §5.2].
#[test]
fn a_hopeless_candidate_does_not_delay_others() {
    let mut replica = Alone::new(&[1], 1);
    let deadline = replica.raft.deadline();
    replica.now = Time(deadline.0 - 1);
    replica.hear(2, 5, request_vote((0, 0)));
    replica.hear(3, 4, append((0, 0), 0, Vec::new()));
    assert_eq!(replica.raft.deadline(), deadline);
    replica.hear(3, 5, append((0, 0), 0, Vec::new()));
    assert!(replica.raft.deadline() > deadline);
}

/// Votes and answers of an older term say nothing about this one [Raft §5.1].
#[test]
fn answers_of_older_terms_do_not_count() {
    let mut candidate = Alone::new(&[], 1);
    candidate.wake();
    candidate.hear(2, 2, Body::PreVoteReply { granted: true });
    candidate.written();
    assert_eq!(candidate.raft.status().role, RoleName::Candidate);
    candidate.hear(2, 1, Body::VoteReply { granted: true });
    assert!(!candidate.raft.is_leader());

    let mut leader = Alone::new(&[1, 1], 1);
    let term = leader.lead();
    leader.hear(2, term - 1, matched(3));
    leader.hear(3, term - 1, matched(3));
    assert_eq!(leader.raft.commit_index(), Index(0));
    leader.hear(2, term, matched(3));
    leader.hear(3, term, matched(3));
    assert_eq!(leader.raft.commit_index(), Index(3));
}

/// Late grants of a pre-vote find a leader, and start nothing.
#[test]
fn late_pre_votes_do_not_unseat_their_winner() {
    let mut leader = Alone::new(&[], 1);
    let term = leader.lead();
    leader.hear(3, term, Body::PreVoteReply { granted: true });
    leader.hear(3, term + 1, Body::PreVoteReply { granted: true });
    assert!(leader.raft.is_leader());
    assert_eq!(leader.raft.term(), Term(term));
}

/// "Raft never commits log entries from previous terms by counting replicas" [Raft §5.4.2].
#[test]
fn only_entries_of_the_own_term_are_committed_by_counting() {
    let mut leader = Alone::new(&[1, 1], 1);
    let term = leader.lead();
    leader.written();
    leader.hear(2, term, matched(2));
    leader.hear(3, term, matched(2));
    assert_eq!(leader.raft.commit_index(), Index(0));
    leader.hear(3, term, matched(3));
    assert_eq!(leader.raft.commit_index(), Index(3));
}

/// A leader's own disk counts when it is done, and is not waited for if others are
/// [Thesis §10.2.1].
#[test]
fn the_leaders_disk_is_one_of_many() {
    let mut leader = Alone::new(&[], 1);
    let term = leader.lead();
    leader.hear(2, term, matched(1));
    assert_eq!(leader.raft.commit_index(), Index(0));
    leader.hear(3, term, matched(1));
    assert_eq!(leader.raft.commit_index(), Index(1));
    leader.step(Input::Propose { id: RequestId(1), payload: Payload::default() });
    leader.hear(2, term, matched(2));
    assert_eq!(leader.raft.commit_index(), Index(1));
    leader.written();
    assert_eq!(leader.raft.commit_index(), Index(2));
}

/// "If an existing entry conflicts with a new one, delete it and all that follow it": and only
/// then [Raft Figure 2, AppendEntries 3].
#[test]
fn an_old_append_does_not_truncate() {
    let mut follower = Alone::new(&[1, 1, 1], 1);
    follower.hear(2, 2, append((3, 1), 0, entries(4, &[2, 2])));
    follower.hear(2, 2, append((1, 1), 0, entries(2, &[1])));
    assert_eq!(follower.raft.last_index(), Index(5));
    follower.hear(2, 2, append((0, 0), 0, Vec::new()));
    assert_eq!(follower.raft.last_index(), Index(5));
    follower.hear(3, 3, append((2, 1), 0, entries(3, &[3])));
    assert_eq!(follower.raft.last_index(), Index(3));
}

/// "Set commitIndex = min(leaderCommit, index of last new entry)" [Raft Figure 2,
/// AppendEntries 5]: what lies behind it may not be the leader's.
#[test]
fn a_follower_commits_only_what_it_knows_to_agree() {
    let mut follower = Alone::new(&[1, 1, 1], 1);
    follower.hear(2, 2, append((1, 1), 3, Vec::new()));
    assert_eq!(follower.raft.commit_index(), Index(1));
    follower.hear(2, 2, append((1, 1), 3, entries(2, &[2])));
    assert_eq!(follower.raft.commit_index(), Index(2));
}

/// An append that no leader would send is ignored as a whole.
#[test]
fn malformed_appends_change_nothing() {
    let unreadable = |index| Entry {
        index: Index(index),
        term: Term(2),
        kind: EntryKind::Configuration,
        payload: Payload::new(vec![1, 2, 3]),
    };
    for body in [
        append((1, 1), 1, entries(3, &[2])),
        append((1, 1), 1, entries(2, &[2, 1])),
        append((1, 1), 1, entries(2, &[3])),
        append((1, 1), 1, vec![unreadable(2)]),
    ] {
        let mut follower = Alone::new(&[1], 1);
        follower.hear(2, 2, body);
        assert_eq!(follower.raft.last_index(), Index(1));
        assert_eq!(follower.raft.commit_index(), Index(0));
    }
    let mut follower = Alone::new(&[1], 1);
    let elsewhere =
        Message { from: id(2), to: id(3), term: Term(9), body: append((0, 0), 0, Vec::new()) };
    assert_eq!(follower.step(Input::Message(elsewhere)), []);
}

/// A configuration counts from its append on, and no more once it is truncated [Raft §6].
#[test]
fn truncated_configurations_are_rolled_back() {
    let mut follower = Alone::new(&[1], 1);
    let two = vec![change(2, 2, &[1, 2]), change(3, 2, &[1])];
    follower.hear(2, 2, append((1, 1), 1, two));
    assert_eq!(follower.raft.configuration().voters, [id(1)]);
    follower.hear(3, 3, append((1, 1), 1, entries(2, &[3])));
    assert_eq!(*follower.raft.configuration(), voters(3));

    follower.hear(3, 3, append((2, 3), 3, vec![change(3, 3, &[2, 3])]));
    assert!(!follower.raft.is_voter());
    assert_eq!(follower.raft.deadline(), Time::NEVER);
    let meta = follower.raft.snapshot_meta(Index(2));
    assert_eq!(meta.configuration, voters(3), "a snapshot has the configuration of its index");
}

/// A read of a follower sees all that was committed when it was registered, also if an answer to
/// its life before a crash comes late [Thesis §6.4].
#[test]
fn a_follower_takes_no_answer_to_an_earlier_life() {
    let asks = |seed| {
        let mut follower = Alone::with_seed(&[1], 1, seed);
        follower.hear(2, 1, append((1, 1), 0, Vec::new()));
        let asked = sent(&follower.step(Input::Read { id: RequestId(1) }));
        let [(2, Body::ReadIndex { nonce, number })] = asked[..] else {
            panic!("the leader is asked")
        };
        (follower, Body::ReadIndexReply { nonce, number, index: Index(1) })
    };
    let (mut before, late) = asks(1);
    let ready = Effect::ReadReady { id: RequestId(1), index: Index(1), by_lease: false };
    assert!(before.hear(2, 1, late.clone()).contains(&ready));
    let (mut after, answer) = asks(2);
    assert_eq!(after.hear(2, 1, late), []);
    assert!(after.hear(2, 1, answer).contains(&ready));
}

/// Snapshots never go back: neither a leader's below the commit index, nor an older own one after
/// a newer [Raft §7].
#[test]
fn older_snapshots_are_ignored() {
    let meta = |index, term| {
        let (index, term) = (Index(index), Term(term));
        Box::new(SnapshotMeta { index, term, configuration: voters(3) })
    };
    let received = |term, meta| Input::SnapshotReceived { from: id(2), term: Term(term), meta };
    let mut follower = Alone::new(&[1, 1, 1], 1);
    follower.hear(2, 2, append((3, 1), 2, Vec::new()));
    assert_eq!(follower.raft.commit_index(), Index(2));

    let restores =
        |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Restore(_)));
    assert!(!restores(&follower.step(received(2, meta(1, 1)))));
    assert!(!restores(&follower.step(received(1, meta(9, 1)))), "it is of an older term");
    assert!(!restores(&follower.step(received(2, meta(3, 1)))), "the log has its entry");
    assert_eq!(follower.raft.commit_index(), Index(3));
    assert!(restores(&follower.step(received(2, meta(9, 2)))));
    assert!(!restores(&follower.step(received(2, meta(4, 1)))), "it is under the last one");
    follower.step(Input::Compact { meta: meta(3, 1) });
    assert_eq!(follower.raft.status().snapshot_index, Index(9));
    assert_eq!(follower.raft.commit_index(), Index(9));
}

/// A leader that steps down keeps its log: it was perhaps one of a majority [Raft §5.3].
#[test]
fn a_deposed_leader_keeps_what_it_acknowledged() {
    let mut leader = Alone::new(&[1], 1);
    let term = leader.lead();
    leader.step(Input::Propose { id: RequestId(1), payload: Payload::default() });
    let refused = leader.hear(2, term + 1, append((9, term + 1), 0, Vec::new()));
    assert!(refused.contains(&Effect::Note(Note::SteppedDown { term: Term(term) })));
    assert_eq!(leader.raft.last_index(), Index(3));
    let after = leader.step(Input::Propose { id: RequestId(2), payload: Payload::default() });
    assert_eq!(after, [Effect::Refuse { id: RequestId(2), reason: Refusal::NotLeader }]);
}

/// The limits on what is open count nothing twice and forget nothing, over changes of leader.
#[test]
fn admission_recovers_from_every_change_of_leader() {
    let config = |id| Config { max_uncommitted_bytes: 200, ..Config::new(id, 3) };
    let mut cluster = Cluster::with(&voters(3), |_| Recovered::default(), config);
    for round in 0..6 {
        let leader = id(1 + round % 3);
        cluster.elect(leader);
        for _ in 0..20 {
            cluster.propose(leader, "0123456789");
        }
        // The followers never hear of it: it is replaced by the next leader's log.
        cluster.sent.clear();
        assert!(cluster.raft(leader).status().uncommitted_bytes <= 200);
    }
    cluster.elect(id(1));
    for id in cluster.ids() {
        assert!(cluster.raft(id).status().uncommitted_bytes <= 200);
    }
    assert_eq!(cluster.raft(id(1)).status().uncommitted_bytes, 0);
    let before = cluster.raft(id(1)).last_index();
    cluster.propose(id(1), "again");
    assert_eq!(cluster.raft(id(1)).last_index(), before.next());
}

/// "A leader never overwrites or deletes entries in its log; it only appends" [Raft Figure 3].
#[test]
fn a_leader_only_appends() {
    let mut leader = Alone::new(&[1, 1], 1);
    let term = leader.lead();
    leader.hear(2, term - 1, append((1, 1), 0, entries(2, &[1, 1])));
    let conflict = |hint| AppendOutcome::Conflict {
        prev_index: Index(2),
        hint_index: Index(hint),
        hint_term: Term(1),
    };
    for hint in [0, 1, 2, 9] {
        leader.hear(3, term, Body::AppendReply { round: 0, outcome: conflict(hint) });
    }
    assert_eq!(leader.raft.last_index(), Index(3));
    assert!(leader.raft.is_leader());
}

/// "If the term is smaller than the candidate's current term, it rejects the RPC" [Raft §5.2]; and
/// the sender learns the term.
#[test]
fn requests_of_older_terms_are_refused() {
    let mut follower = Alone::new(&[1], 5);
    for body in [append((1, 1), 1, entries(2, &[2])), request_vote((9, 4))] {
        let answer = follower.hear(2, 4, body);
        let [Effect::Send(message)] = &answer[..] else { panic!("it answers, and does nothing") };
        assert_eq!(message.term, Term(5));
    }
    assert_eq!(follower.raft.last_index(), Index(1));
    assert_eq!(follower.raft.commit_index(), Index(0));
}

/// A vote is asked for, and given, once it is on disk [Raft Figure 2, persistent state].
#[test]
fn nothing_is_promised_before_it_is_durable() {
    let mut candidate = Alone::new(&[], 1);
    candidate.wake();
    let campaigns = candidate.hear(2, 2, Body::PreVoteReply { granted: true });
    assert_eq!(sent(&campaigns), []);
    assert_eq!(sent(&candidate.written()).len(), 2);

    let mut voter = Alone::new(&[], 1);
    assert_eq!(sent(&voter.hear(2, 2, request_vote((0, 0)))), []);
    assert_eq!(sent(&voter.written()), [(2, Body::VoteReply { granted: true })]);

    let mut follower = Alone::new(&[], 1);
    assert_eq!(sent(&follower.hear(2, 2, append((0, 0), 0, entries(1, &[2])))), []);
    assert_eq!(sent(&follower.written()), [(2, matched(1))]);
}

/// A learner neither campaigns nor counts, for commits, elections or reads [Thesis §4.2.1].
#[test]
fn a_learner_counts_for_nothing() {
    let configuration = Configuration { learners: vec![id(4), id(5)], ..voters(3) };
    let mut cluster = Cluster::new(&configuration, 1);
    cluster.elect(id(1));
    cluster.crash(id(2), 0);
    cluster.crash(id(3), 0);
    let committed = cluster.raft(id(1)).commit_index();
    cluster.propose(id(1), "a");
    let read = cluster.read(id(1));
    cluster.settle_all();
    assert_eq!(cluster.raft(id(4)).last_index(), Index(2), "it has the entry");
    assert_eq!(cluster.raft(id(1)).commit_index(), committed);
    assert!(!cluster.judge.served.contains_key(&read));
    assert_eq!(cluster.raft(id(4)).deadline(), Time::NEVER);
}

/// "The leader must not serve a read before it has committed an entry in its term" [Raft §8].
#[test]
fn reads_wait_for_an_entry_of_the_term() {
    let mut leader = Alone::new(&[1, 1], 1);
    let term = leader.lead();
    leader.step(Input::Read { id: RequestId(1) });
    let answer =
        Body::AppendReply { round: 1, outcome: AppendOutcome::Matched { index: Index(2) } };
    let early = leader.hear(2, term, answer);
    assert!(!early.iter().any(|effect| matches!(effect, Effect::ReadReady { .. })));
    leader.hear(2, term, matched(3));
    leader.written();
    let round = Body::AppendReply { round: 1, outcome: AppendOutcome::Matched { index: Index(3) } };
    let ready = Effect::ReadReady { id: RequestId(1), index: Index(3), by_lease: false };
    assert!(leader.hear(2, term, round).contains(&ready));
}

/// A leader changes the configuration only once an entry of its term is committed, and one step at
/// a time [Raft §6, and the correction of Thesis §4.1].
#[test]
fn configurations_change_one_step_at_a_time() {
    let mut leader = Alone::new(&[1], 1);
    let term = leader.lead();
    let change = |voters: &[u64]| Input::ChangeMembership {
        id: RequestId(9),
        voters: voters.iter().copied().map(ReplicaId).collect(),
        learners: Vec::new(),
    };
    let too_early = Effect::Refuse { id: RequestId(9), reason: Refusal::NotYet };
    assert_eq!(leader.step(change(&[1, 2])), std::slice::from_ref(&too_early));
    leader.hear(2, term, matched(2));
    leader.hear(3, term, matched(2));
    leader.step(change(&[1, 2]));
    assert!(leader.raft.configuration().is_joint());
    assert_eq!(leader.step(change(&[1, 3])), [too_early]);
    assert_eq!(leader.raft.last_index(), Index(3), "only the joint configuration was appended");

    // Both halves have to have it: 3 votes in the old one only.
    leader.hear(3, term, matched(3));
    assert!(leader.raft.configuration().is_joint());
    leader.written();
    assert!(leader.raft.configuration().is_joint(), "the new half is not there yet");
    leader.hear(2, term, matched(3));
    assert_eq!(leader.raft.configuration().voters, [id(1), id(2)]);
    assert!(!leader.raft.configuration().is_joint());
}

/// "A leader that is removed does not count itself in majorities" and leads on until that is
/// committed [Raft §6, Thesis §4.2.2].
#[test]
fn a_removed_leader_does_not_count_itself() {
    let mut leader = Alone::new(&[1], 1);
    let term = leader.lead();
    leader.hear(2, term, matched(2));
    leader.hear(3, term, matched(2));
    let (voters, learners) = (vec![id(2), id(3)], Vec::new());
    leader.step(Input::ChangeMembership { id: RequestId(9), voters, learners });
    leader.hear(2, term, matched(3));
    leader.hear(3, term, matched(3));
    leader.written();
    assert_eq!(leader.raft.configuration().voters, [id(2), id(3)]);
    leader.hear(2, term, matched(4));
    assert!(leader.raft.is_leader(), "one of two is no majority, whatever its own disk has");
    let last = leader.hear(3, term, matched(4));
    assert!(last.contains(&Effect::Completed { id: RequestId(9) }));
    assert!(!leader.raft.is_leader());
}

/// A transfer asks a voter that has the whole log, and no proposal gets in between [Thesis §3.10].
#[test]
fn leadership_goes_to_a_whole_log_only() {
    let mut leader = Alone::new(&[1], 1);
    let term = leader.lead();
    leader.hear(2, term, matched(2));
    leader.hear(3, term, matched(2));
    leader.step(Input::Propose { id: RequestId(1), payload: Payload::default() });
    let begun = leader.step(Input::TransferLeadership { id: RequestId(2), to: id(2) });
    assert_eq!(sent(&begun), []);
    let refused = leader.step(Input::Propose { id: RequestId(3), payload: Payload::default() });
    assert_eq!(refused, [Effect::Refuse { id: RequestId(3), reason: Refusal::Busy }]);
    assert!(sent(&leader.hear(2, term, matched(3))).contains(&(2, Body::TimeoutNow)));
    let given_up = leader.hear(
        2,
        term + 1,
        Body::RequestVote { last_index: Index(3), last_term: Term(term), transfer: true },
    );
    assert!(given_up.contains(&Effect::Completed { id: RequestId(2) }));
}

/// While a leader is heard, "servers disregard RequestVote RPCs" [Raft §6], unless that leader
/// asked for it [Thesis §4.2.3].
#[test]
fn a_living_leader_is_not_disturbed() {
    let mut follower = Alone::new(&[1], 1);
    follower.hear(2, 1, append((1, 1), 0, Vec::new()));
    assert_eq!(follower.hear(3, 9, request_vote((9, 8))), []);
    assert_eq!(follower.raft.term(), Term(1));
    let transfer = Body::RequestVote { last_index: Index(9), last_term: Term(8), transfer: true };
    follower.hear(3, 9, transfer);
    assert_eq!(sent(&follower.written()), [(3, Body::VoteReply { granted: true })]);
}

/// A leader counts only promises of voters that know of leases: the others gave none
/// [Thesis §6.4.1].
#[test]
fn a_lease_rests_on_those_who_know_of_it() {
    let answer = |round, index| Body::AppendReply {
        round,
        outcome: AppendOutcome::Matched { index: Index(index) },
    };
    let mut leader = Alone::new(&[1], 1);
    let term = leader.lead();
    leader.written();
    leader.hear(2, term, matched(2));
    leader.hear(3, term, matched(2));
    leader.step(Input::SetLease { id: RequestId(1), lease: 200_000 });
    leader.written();
    leader.hear(2, term, matched(3));
    assert_eq!(leader.raft.commit_index(), Index(3));
    leader.wake();
    leader.hear(3, term, answer(1, 2));
    assert_eq!(leader.raft.lease_until(), None, "3 has not got the entry yet");
    leader.hear(2, term, answer(1, 3));
    let until = leader.raft.lease_until().expect("a quorum promised");
    assert_eq!(until.since(leader.now), 175_000, "an eighth less, since it was sent");
}

/// A damaged entry is replaced by one of its very index and term [PAR FAST'18]: another term's may
/// be another command.
#[test]
fn a_hole_is_filled_by_its_own_identity_only() {
    let config = Config::new(id(1), 1);
    let mut follower = Alone::with(&[1, 2, 2], 2, &[2], config);
    let fetched = |term| Body::FetchedEntries { entries: entries(2, &[term]), missing: vec![] };
    follower.hear(2, 2, append((3, 2), 3, Vec::new()));
    for term in [1, 3] {
        assert_eq!(follower.hear(3, 2, fetched(term)), [], "term {term} is another entry");
    }
    let repaired = follower.hear(3, 2, fetched(2));
    assert_eq!(repaired[0], Effect::Repair { entries: entries(2, &[2]) });
    assert_eq!(repaired[1], Effect::Apply { entries: entries(2, &[2, 2]) });
}

/// Entries that left memory come back by index and term, whatever the disk says meanwhile; and a
/// follower that waits for them is not left to a shared heartbeat.
#[test]
fn what_is_loaded_is_what_the_log_says() {
    let config = Config { max_window_bytes: 0, shares_heartbeats: true, ..Config::new(id(1), 1) };
    let mut leader = Alone::with(&[1], 1, &[], config);
    let term = leader.lead();
    leader.written();
    leader.hear(2, term, matched(2));
    leader.step(Input::Applied(Index(2)));
    let asked = leader.hear(3, term, matched(1));
    assert!(asked.iter().any(|effect| matches!(effect, Effect::Load { from: Index(2), .. })));
    assert_eq!(leader.raft.claims(), [id(2)]);
    let wrong = Input::Loaded { from: Index(2), entries: entries(2, &[term - 1]) };
    assert!(!sent(&leader.step(wrong)).iter().any(|(_, body)| has_entries(body)));
}

fn has_entries(body: &Body) -> bool {
    matches!(body, Body::AppendEntries { entries, .. } if !entries.is_empty())
}

/// A claim is upheld by who has committed what that leader has: otherwise an idle group would never
/// tell it.
#[test]
fn a_claim_is_not_upheld_by_who_has_to_learn() {
    let mut follower = Alone::new(&[2, 2], 2);
    follower.step(Input::Claim { from: id(2), term: Term(2), commit: Index(2) });
    assert_eq!(follower.raft.leader(), Some(id(2)));
    assert!(!follower.raft.upholds(id(2), Term(2), Index(2)));
    follower.hear(2, 2, append((2, 2), 2, Vec::new()));
    assert!(follower.raft.upholds(id(2), Term(2), Index(2)));
    assert!(!follower.raft.upholds(id(3), Term(2), Index(2)));
    assert!(!follower.raft.upholds(id(2), Term(1), Index(2)));
    follower.step(Input::Claim { from: id(3), term: Term(1), commit: Index(0) });
    assert_eq!(follower.raft.leader(), Some(id(2)));
}

/// "If one server's current term is smaller than the other's, then it updates its current term to
/// the larger value"; "if a candidate or leader discovers that its term is out of date, it
/// immediately reverts to follower state" [Raft §5.1].
#[test]
fn a_later_term_makes_a_follower() {
    let mut leader = Alone::new(&[1], 1);
    let term = leader.lead();
    let later = Body::AppendReply {
        round: 0,
        outcome: AppendOutcome::Conflict {
            prev_index: Index(1),
            hint_index: Index(0),
            hint_term: Term(0),
        },
    };
    let heard = leader.hear(3, term + 3, later.clone());
    assert!(heard.contains(&Effect::Note(Note::SteppedDown { term: Term(term) })));
    assert_eq!(leader.raft.term(), Term(term + 3));

    for body in [later, Body::VoteReply { granted: false }, Body::PreVoteReply { granted: false }] {
        let mut candidate = Alone::new(&[1], 1);
        candidate.wake();
        candidate.hear(2, 2, Body::PreVoteReply { granted: true });
        candidate.written();
        candidate.hear(3, 7, body);
        let status = candidate.raft.status();
        assert_eq!((status.role, status.term), (RoleName::Follower, Term(7)));
        assert_eq!(status.voted_for, None);
    }
}

/// "If the leader's term is at least as large as the candidate's current term, then the candidate
/// recognizes the leader as legitimate"; if it is smaller, "the candidate rejects the RPC and
/// continues in candidate state" [Raft §5.2].
#[test]
fn a_candidate_yields_to_a_leader_of_its_term() {
    let mut candidate = Alone::new(&[1], 1);
    candidate.wake();
    candidate.hear(2, 2, Body::PreVoteReply { granted: true });
    candidate.written();
    candidate.hear(3, 1, append((1, 1), 1, Vec::new()));
    assert_eq!(candidate.raft.status().role, RoleName::Candidate);
    candidate.hear(3, 2, append((1, 1), 1, Vec::new()));
    assert_eq!(candidate.raft.status().role, RoleName::Follower);
    assert_eq!(candidate.raft.leader(), Some(id(3)));
    assert_eq!(candidate.raft.status().voted_for, Some(id(1)), "its vote stays given");
}

/// "A candidate wins an election if it receives votes from a majority of the servers in the full
/// cluster for the same term" [Raft §5.2]: each counts once, and a refusal for nothing.
#[test]
fn a_majority_elects() {
    let snapshot = SnapshotMeta { configuration: voters(5), ..SnapshotMeta::default() };
    let recovered = Recovered { snapshot, ..Recovered::default() };
    let mut candidate = Alone::recovered(Config::new(id(1), 1), recovered);
    candidate.wake();
    for (from, asks) in [(2, false), (2, false), (3, true)] {
        assert_eq!(candidate.raft.status().role, RoleName::PreCandidate);
        candidate.hear(from, 1, Body::PreVoteReply { granted: true });
        assert_eq!(candidate.raft.status().role == RoleName::Candidate, asks);
    }
    candidate.written();
    candidate.hear(2, 1, Body::VoteReply { granted: true });
    candidate.hear(2, 1, Body::VoteReply { granted: true });
    candidate.hear(3, 1, Body::VoteReply { granted: false });
    candidate.hear(9, 1, Body::VoteReply { granted: true });
    assert!(!candidate.raft.is_leader(), "9 is no member");
    candidate.hear(5, 1, Body::VoteReply { granted: true });
    assert!(candidate.raft.is_leader());
}

/// "Raft handles this by having each leader commit a blank no-op entry into the log at the start of
/// its term" [Raft §8].
#[test]
fn a_term_opens_with_a_no_op() {
    let mut candidate = Alone::new(&[1], 1);
    candidate.wake();
    candidate.hear(2, 2, Body::PreVoteReply { granted: true });
    candidate.written();
    let led = candidate.hear(2, 2, Body::VoteReply { granted: true });
    let no_op = Entry {
        index: Index(2),
        term: Term(2),
        kind: EntryKind::Empty,
        payload: Payload::default(),
    };
    let opens = append((1, 1), 0, vec![no_op]);
    assert_eq!(sent(&led), [(2, opens.clone()), (3, opens)]);
}

/// "If the follower does not find an entry in its log with the same index and term, then it refuses
/// the new entries" [Raft §5.3, the consistency check].
#[test]
fn entries_follow_only_what_is_there() {
    let mut follower = Alone::new(&[1, 1, 3], 3);
    for (prev, hint) in [((3, 2), (2, 1)), ((5, 3), (3, 3)), ((9, 1), (2, 1)), ((2, 3), (1, 1))] {
        let effects = follower.hear(2, 4, append(prev, 0, entries(prev.0 + 1, &[4])));
        let outcome = AppendOutcome::Conflict {
            prev_index: Index(prev.0),
            hint_index: Index(hint.0),
            hint_term: Term(hint.1),
        };
        assert_eq!(sent(&effects), [(2, Body::AppendReply { round: 0, outcome })], "at {prev:?}");
        assert_eq!(follower.raft.last_index(), Index(3));
    }
}

/// "Raft RPCs are idempotent, so this causes no harm" [Raft §5.5].
#[test]
fn repeated_messages_change_nothing() {
    let mut follower = Alone::new(&[1], 1);
    let body = append((1, 1), 2, entries(2, &[2, 2]));
    let first = follower.hear(2, 2, body.clone());
    assert!(first.contains(&Effect::Apply { entries: entries(1, &[1, 2]) }));
    follower.written();
    assert_eq!(sent(&follower.hear(2, 2, body.clone())), [(2, matched(3))]);
    assert_eq!(follower.hear(2, 2, body).len(), 1, "nothing is written or applied again");

    let mut voter = Alone::new(&[1], 1);
    voter.hear(2, 2, request_vote((1, 1)));
    assert_eq!(voter.hear(2, 2, request_vote((1, 1))), [], "one vote is written, and answered");
    assert_eq!(sent(&voter.written()), [(2, Body::VoteReply { granted: true })]);
}

/// "If existing log entry has same index and term as snapshot's last included entry, retain log
/// entries following it"; else "discard the entire log" [Raft Figure 13].
#[test]
fn a_snapshot_keeps_the_log_that_it_is_part_of() {
    let received = |term, index, entry_term| {
        let configuration = voters(3);
        let meta = SnapshotMeta { index: Index(index), term: Term(entry_term), configuration };
        Input::SnapshotReceived { from: id(2), term: Term(term), meta: Box::new(meta) }
    };
    let mut follower = Alone::new(&[1, 1, 1], 1);
    follower.step(received(2, 2, 1));
    assert_eq!((follower.raft.last_index(), follower.raft.commit_index()), (Index(3), Index(2)));
    let mut follower = Alone::new(&[1, 1, 1], 1);
    follower.step(received(2, 2, 2));
    assert_eq!((follower.raft.last_index(), follower.raft.commit_index()), (Index(2), Index(2)));
}

/// "A leader steps down if an election timeout elapses without a successful round of heartbeats to
/// a majority of its cluster" [Thesis §6.2].
#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut leader = Alone::new(&[1], 1);
    let term = leader.lead();
    leader.written();
    let mut end = leader.now + 250_000;
    leader.wake();
    leader.hear(2, term, matched(2));
    end = end.max(leader.now + 250_000);
    while leader.now < end {
        assert!(leader.raft.is_leader(), "it was heard less than a timeout ago");
        leader.wake();
    }
    assert!(!leader.raft.is_leader());
}
