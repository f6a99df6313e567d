//! Limits and timeouts at their very edge, and the corners between two features: what the stories
//! in `scripts` and the sentences in `paper` pass by.

mod cluster;

use cluster::alone::{
    Alone, append, change, entries, matched, pre_vote, propose, request_vote, sent,
};
use cluster::{id, voters};
use flotilla_raft::{
    AppendOutcome, Body, Config, Configuration, Effect, HardState, Index, Input, Note, Payload,
    Recovered, Refusal, RequestId, RoleName, SnapshotMeta, Stall, Term, Time,
};

const TIMEOUT: u64 = 250_000;
const HEARTBEAT: u64 = 50_000;

fn granted(to: u64) -> [(u64, Body); 1] {
    [(to, Body::VoteReply { granted: true })]
}

/// Loyalty to a leader ends with the timeout, not a moment later.
#[test]
fn stickiness_lasts_an_election_timeout() {
    let mut follower = Alone::new(&[1], 1);
    follower.hear(2, 1, append((1, 1), 0, Vec::new()));
    follower.now = Time(TIMEOUT - 1);
    assert_eq!(follower.hear(3, 2, request_vote((1, 1))), []);
    follower.now = Time(TIMEOUT);
    follower.hear(3, 2, request_vote((1, 1)));
    assert_eq!(sent(&follower.written()), granted(3));
}

/// Who has this replica's vote in a term may have its pre-vote there too, and nobody else.
#[test]
fn a_pre_vote_respects_the_vote_of_its_term() {
    let mut voter = Alone::new(&[1], 1);
    voter.hear(2, 2, request_vote((1, 1)));
    voter.written();
    for (from, is_granted) in [(3, false), (2, true)] {
        let answer = sent(&voter.hear(from, 2, pre_vote((1, 1))));
        assert_eq!(answer, [(from, Body::PreVoteReply { granted: is_granted })]);
    }
    // In a term in which it has not voted, anybody may.
    voter.hear(2, 3, Body::VoteReply { granted: false });
    let answer = sent(&voter.hear(3, 3, pre_vote((1, 1))));
    assert_eq!(answer, [(3, Body::PreVoteReply { granted: true })]);
}

/// A new link to a voter is worth another request; one to anybody else is not.
#[test]
fn only_voters_are_asked_once_more() {
    let configuration = Configuration { learners: vec![id(4)], ..voters(3) };
    let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
    let recovered = Recovered { snapshot, ..Recovered::default() };
    let mut candidate = Alone::recovered(Config::new(id(1), 1), recovered);
    assert_eq!(candidate.step(Input::PeerAlive(id(2))), []);
    candidate.wake();
    for peer in [1, 4, 9] {
        assert_eq!(candidate.step(Input::PeerAlive(id(peer))), []);
    }
    let again = [(2, pre_vote((0, 0)))];
    assert_eq!(sent(&candidate.step(Input::PeerAlive(id(2)))), again);
    candidate.hear(2, 1, Body::PreVoteReply { granted: true });
    assert_eq!(candidate.step(Input::PeerAlive(id(2))), [], "its own vote is not durable");
    candidate.written();
    assert_eq!(candidate.step(Input::PeerAlive(id(4))), []);
    let again = [(3, request_vote((0, 0)))];
    assert_eq!(sent(&candidate.step(Input::PeerAlive(id(3)))), again);
}

/// Who may not know its configuration does not take over, whoever asks.
#[test]
fn an_unknown_configuration_takes_over_nothing() {
    let asked = |damaged: Vec<Index>| {
        let snapshot = SnapshotMeta { configuration: voters(3), ..SnapshotMeta::default() };
        let hard_state = HardState { term: Term(1), voted_for: None };
        let entries = vec![change(1, 1, &[1, 2, 3, 4])];
        let recovered = Recovered { hard_state, snapshot, entries, damaged };
        let mut replica = Alone::recovered(Config::new(id(1), 1), recovered);
        replica.hear(2, 1, append((1, 1), 1, Vec::new()));
        replica.hear(2, 1, Body::TimeoutNow);
        replica.raft.status().role
    };
    assert_eq!(asked(vec![]), RoleName::Candidate);
    assert_eq!(asked(vec![Index(1)]), RoleName::Follower);
}

/// What is damaged is an entry of the log: the snapshot's is not.
#[test]
#[should_panic(expected = "what is damaged is an entry of the log")]
fn the_snapshot_is_no_damaged_entry() {
    Alone::with(&[1, 1], 1, &[0], Config::new(id(1), 1));
}

/// Nor is one that never was.
#[test]
#[should_panic(expected = "what is damaged is an entry of the log")]
fn the_next_entry_is_no_damaged_one() {
    Alone::with(&[1, 1], 1, &[3], Config::new(id(1), 1));
}

/// A leader of three, its own disk and 2 up to date, that has applied everything.
fn settled_leader() -> (Alone, u64) {
    let mut leader = Alone::new(&[1], 1);
    let term = leader.lead();
    leader.written();
    leader.hear(2, term, matched(2));
    leader.step(Input::Applied(Index(2)));
    (leader, term)
}

/// Lets time go on by heartbeats that 2 answers, up to `end`; what was noted meanwhile.
fn beat(leader: &mut Alone, term: u64, index: u64, end: Time) -> Vec<Note> {
    let mut notes = Vec::new();
    while leader.raft.is_leader() && leader.raft.deadline() <= end {
        let mut effects = leader.wake();
        effects.extend(leader.hear(2, term, matched(index)));
        notes.extend(effects.into_iter().filter_map(|effect| match effect {
            Effect::Note(note) => Some(note),
            _ => None,
        }));
    }
    notes
}

/// A machine stalls if nothing is applied for longer than the limit while something is there: idle
/// time does not count, and what is handed out meanwhile is no news of it.
#[test]
fn an_apply_stall_is_counted_from_the_first_that_waits() {
    let (mut leader, term) = settled_leader();
    let idle = leader.now + 5_000_000;
    assert_eq!(beat(&mut leader, term, 2, idle), []);
    leader.step(propose(1));
    leader.written();
    leader.hear(2, term, matched(3));
    assert_eq!(leader.raft.commit_index(), Index(3));
    let began = leader.now;
    assert_eq!(beat(&mut leader, term, 3, began + 600_000), []);
    leader.step(propose(2));
    leader.written();
    leader.hear(2, term, matched(4));
    assert_eq!(beat(&mut leader, term, 4, began + 1_000_000), []);
    let stalled = Note::Stalled { what: Stall::Apply };
    assert_eq!(beat(&mut leader, term, 4, began + 1_050_000)[0], stalled);
}

/// A disk stalls if no write ends for longer than the limit; one that ends, though late, is news.
#[test]
fn a_log_stall_is_counted_from_the_last_write_that_ended() {
    let (mut leader, term) = settled_leader();
    leader.step(propose(1));
    let first = leader.seq;
    leader.step(propose(2));
    leader.hear(2, term, matched(2));
    let began = leader.now;
    assert_eq!(beat(&mut leader, term, 2, began + 900_000), []);
    leader.step(Input::Written(first));
    let ended = leader.now;
    leader.step(Input::Applied(Index(2)));
    assert_eq!(beat(&mut leader, term, 2, ended + 1_000_000), []);
    let stalled = Note::Stalled { what: Stall::Log };
    assert_eq!(beat(&mut leader, term, 2, ended + 1_050_000)[0], stalled);
}

/// An entry is admitted up to the limit and not a byte beyond: 32 beside its payload.
#[test]
fn admission_is_counted_to_the_byte() {
    for (bytes, admitted) in [(28, true), (29, false)] {
        let config = Config { max_uncommitted_bytes: 92, ..Config::new(id(1), 1) };
        let mut leader = Alone::with(&[1], 1, &[], config);
        let term = leader.lead();
        leader.hear(2, term, matched(2));
        leader.hear(3, term, matched(2));
        leader.step(propose(1));
        let payload = Payload::new(vec![0; bytes]);
        let effects = leader.step(Input::Propose { id: RequestId(2), payload });
        let refused = Effect::Refuse { id: RequestId(2), reason: Refusal::Busy };
        assert_eq!(!effects.contains(&refused), admitted, "{bytes} bytes");
    }
}

/// A held compaction ends with the last byte that it may wait for.
#[test]
fn a_compaction_waits_for_so_many_bytes_and_no_more() {
    let config = Config { max_held_bytes: 64, max_trailing_bytes: 0, ..Config::new(id(1), 1) };
    let mut leader = Alone::with(&[1], 1, &[], config);
    let term = leader.lead();
    leader.written();
    leader.hear(2, term, matched(2));
    leader.hear(3, term, matched(1));
    leader.step(Input::Applied(Index(2)));
    let bytes = leader.raft.log_bytes();
    let meta = Box::new(leader.raft.snapshot_meta(Index(2)));
    assert_eq!(leader.step(Input::Compact { meta: meta.clone() }), []);
    assert_eq!(leader.raft.status().held_index, Some(Index(2)));
    assert_eq!((bytes, leader.raft.log_bytes()), (64, 0), "it counts from the host's snapshot");
    // Told again, or of an older one.
    leader.step(Input::Compact { meta });
    let older = SnapshotMeta { index: Index(1), term: Term(1), configuration: voters(3) };
    let older = Box::new(older);
    leader.step(Input::Compact { meta: older });
    assert_eq!(leader.raft.status().held_index, Some(Index(2)));
    for (id, held) in [(1, Some(Index(2))), (2, None)] {
        leader.step(propose(id));
        leader.written();
        leader.hear(3, term, matched(1));
        leader.hear(2, term, matched(1));
        leader.wake();
        assert_eq!(leader.raft.status().held_index, held);
    }
    assert_eq!(leader.raft.status().snapshot_index, Index(2));
    assert_eq!(leader.raft.status().first_index, Index(3));
}

/// Nobody is waited for who needs only what stays in memory anyway.
#[test]
fn a_compaction_does_not_wait_where_memory_suffices() {
    for (trailing, held) in [(31, Some(Index(2))), (32, None)] {
        let config = Config { max_trailing_bytes: trailing, ..Config::new(id(1), 1) };
        let mut leader = Alone::with(&[1], 1, &[], config);
        let term = leader.lead();
        leader.written();
        leader.hear(2, term, matched(2));
        leader.hear(3, term, matched(1));
        leader.step(Input::Applied(Index(2)));
        let meta = Box::new(leader.raft.snapshot_meta(Index(2)));
        leader.step(Input::Compact { meta });
        assert_eq!(leader.raft.status().held_index, held, "{trailing} bytes trail");
    }
}

/// An answer to heartbeats that were asked of a read is asked again a heartbeat later, not before.
#[test]
fn a_followers_read_is_asked_again_in_time() {
    let mut follower = Alone::new(&[1], 1);
    follower.hear(2, 1, append((1, 1), 0, Vec::new()));
    let asks = |effects: &[Effect]| {
        sent(effects).iter().any(|(_, body)| matches!(body, Body::ReadIndex { .. }))
    };
    assert!(asks(&follower.step(Input::Read { id: RequestId(1) })));
    follower.now = Time(HEARTBEAT - 1);
    assert!(!asks(&follower.hear(2, 1, append((1, 1), 0, Vec::new()))));
    follower.now = Time(HEARTBEAT);
    assert!(asks(&follower.hear(2, 1, append((1, 1), 0, Vec::new()))));
    follower.now = Time(2 * HEARTBEAT - 1);
    assert!(!asks(&follower.hear(2, 1, append((1, 1), 0, Vec::new()))));
}

/// Entries that follow a hole are handed out with it, at once.
#[test]
fn what_waits_behind_a_hole_is_handed_out_with_it() {
    let mut follower = Alone::with(&[1, 1, 1], 1, &[2], Config::new(id(1), 1));
    let first = follower.hear(2, 1, append((3, 1), 3, Vec::new()));
    assert!(first.contains(&Effect::Apply { entries: entries(1, &[1]) }));
    let fetched = Body::FetchedEntries { entries: entries(2, &[1]), missing: vec![] };
    let filled = follower.hear(3, 1, fetched);
    assert!(filled.contains(&Effect::Apply { entries: entries(2, &[1, 1]) }));
}

/// What the host finds damaged while the replica runs is written anew as far as memory has it; what
/// the host brings is not.
#[test]
fn damage_under_a_living_replica_is_mended_from_memory() {
    let mut follower = Alone::with(&[1, 1, 1], 1, &[2], Config::new(id(1), 1));
    let indexes = [1, 2, 3, 4].map(Index).to_vec();
    let whole: Vec<_> = [1, 3].iter().flat_map(|&at| entries(at, &[1])).collect();
    let mended = follower.step(Input::Damaged { indexes });
    assert_eq!(mended, [Effect::Repair { entries: whole }]);
    assert_eq!(follower.step(Input::Damaged { indexes: vec![Index(2), Index(9)] }), []);

    follower.hear(2, 1, append((3, 1), 3, Vec::new()));
    let brought = follower.step(Input::Repaired { entries: entries(2, &[1]) });
    assert_eq!(brought, [Effect::Apply { entries: entries(2, &[1, 1]) }]);
    assert_eq!(follower.step(Input::Repaired { entries: entries(2, &[1]) }), []);
}

/// A hint never lies below what is committed: there all logs agree, whatever terms are named.
#[test]
fn a_conflict_is_never_below_the_commit_index() {
    let mut follower = Alone::new(&[3, 3], 3);
    follower.hear(2, 4, append((2, 3), 2, Vec::new()));
    follower.written();
    let answer = sent(&follower.hear(2, 4, append((5, 1), 2, Vec::new())));
    let (prev_index, hint_index, hint_term) = (Index(5), Index(2), Term(3));
    let outcome = AppendOutcome::Conflict { prev_index, hint_index, hint_term };
    assert_eq!(answer, [(2, Body::AppendReply { round: 0, outcome })]);
}

/// A leader that stalls asks somebody to take over, and goes also if that does not come of it.
#[test]
fn a_stalled_leader_goes_whoever_comes() {
    let (mut leader, term) = settled_leader();
    leader.step(propose(1));
    leader.written();
    leader.hear(2, term, matched(3));
    let began = leader.now;
    let notes = beat(&mut leader, term, 3, began + 1_050_000);
    assert_eq!(notes, [Note::Stalled { what: Stall::Apply }]);
    let asked = leader.now;
    assert_eq!(beat(&mut leader, term, 3, asked + (TIMEOUT - HEARTBEAT)), []);
    assert!(leader.raft.is_leader());
    let notes = beat(&mut leader, term, 3, asked + TIMEOUT);
    assert_eq!(notes[0], Note::SteppedDown { term: Term(term) });
}

/// A configuration that comes while a stalled leader hands over does not end that, as long as the
/// receiver keeps its vote.
#[test]
fn a_handover_survives_a_change_that_keeps_the_receiver() {
    let (mut leader, term) = settled_leader();
    leader.hear(3, term, matched(2));
    leader.step(propose(1));
    leader.written();
    leader.hear(2, term, matched(3));
    let (voters, learners) = (vec![id(1), id(2)], Vec::new());
    leader.step(Input::ChangeMembership { id: RequestId(9), voters, learners });
    leader.written();
    let began = leader.now;
    let notes = beat(&mut leader, term, 3, began + 1_050_000);
    assert_eq!(notes, [Note::Stalled { what: Stall::Apply }]);
    assert!(leader.raft.configuration().is_joint());
    leader.hear(2, term, matched(4));
    assert!(!leader.raft.configuration().is_joint());
    leader.written();
    assert!(sent(&leader.hear(2, term, matched(5))).contains(&(2, Body::TimeoutNow)));
}

/// A replica that is alone with its damage has nobody to ask, and does not spin.
#[test]
fn nobody_is_asked_where_nobody_is() {
    let snapshot = SnapshotMeta { configuration: voters(1), ..SnapshotMeta::default() };
    let hard_state = HardState { term: Term(1), voted_for: None };
    let (entries, damaged) = (entries(1, &[1, 1]), vec![Index(2)]);
    let recovered = Recovered { hard_state, snapshot, entries, damaged };
    let mut alone = Alone::recovered(Config::new(id(1), 1), recovered);
    alone.wake();
    let before = alone.now;
    assert_eq!(sent(&alone.wake()), []);
    assert_eq!(sent(&alone.wake()), []);
    assert!(alone.now > before);
}

/// Claims and contacts say nothing to who waits for a leader by itself.
#[test]
fn a_contact_is_for_those_who_follow() {
    let mut candidate = Alone::new(&[1], 1);
    candidate.wake();
    let before = candidate.raft.deadline();
    candidate.now = candidate.now + 1000;
    candidate.step(Input::Contact { peer: id(2), at: candidate.now });
    assert_eq!(candidate.raft.deadline(), before);
    assert_eq!(candidate.raft.status().role, RoleName::PreCandidate);
}

/// What a replica shows of itself is its status.
#[test]
fn a_replica_can_be_printed() {
    let replica = Alone::new(&[1], 1);
    let text = format!("{:?}", replica.raft);
    assert_eq!(text, format!("Raft({:?})", replica.raft.status()));
}

/// The numbers of a status are those of the replica at that moment.
#[test]
fn a_status_counts() {
    let (mut leader, term) = settled_leader();
    let counts = |leader: &Alone| {
        let status = leader.raft.status();
        (status.writes_in_flight, status.uncommitted_bytes, status.pending_reads)
    };
    assert_eq!(counts(&leader), (0, 0, 0));
    leader.step(propose(1));
    leader.step(propose(2));
    leader.step(Input::Read { id: RequestId(3) });
    leader.step(Input::Read { id: RequestId(4) });
    assert_eq!(counts(&leader), (2, 64, 2));
    leader.written();
    leader.hear(2, term, matched(4));
    assert_eq!(counts(&leader), (0, 0, 2));
    let status = leader.raft.status();
    let silence = |at: usize| status.followers[at].silence;
    assert_eq!((silence(0), silence(1)), (Some(0), None), "3 was never heard");
    assert_eq!((status.voter, status.leader, status.held_index), (true, Some(id(1)), None));
}
