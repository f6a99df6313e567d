//! Where two features meet: claims, leases, changes of membership and repairs, each in the moment
//! in which another one is under way.

mod cluster;

use cluster::alone::{Alone, append, change, entries, matched, propose, request_vote, sent};
use cluster::{id, voters};
use flotilla_raft::host::{Claim, GroupId, HeartbeatReply, Heartbeats, HostId};
use flotilla_raft::{
    AppendOutcome, Body, Config, Configuration, Effect, Entry, EntryKind, HardState, Index, Input,
    Note, Payload, Recovered, Refusal, ReplicaId, RequestId, RoleName, SnapshotMeta, Stall, Term,
    Time,
};

const TIMEOUT: u64 = 250_000;
const HEARTBEAT: u64 = 50_000;

/// A leader of three in which all is said: its log is everywhere, committed and applied.
fn quiet_leader(config: Config) -> (Alone, u64) {
    let mut leader = Alone::with(&[1], 1, &[], config);
    let term = leader.lead();
    leader.written();
    leader.hear(2, term, matched(2));
    leader.hear(3, term, matched(2));
    leader.step(Input::Applied(Index(2)));
    (leader, term)
}

fn sharing() -> Config {
    Config { shares_heartbeats: true, ..Config::new(id(1), 1) }
}

fn answer(round: u64, index: u64) -> Body {
    Body::AppendReply { round, outcome: AppendOutcome::Matched { index: Index(index) } }
}

fn refused(effects: &[Effect]) -> Vec<Refusal> {
    let refusals = effects.iter().filter_map(|effect| match effect {
        Effect::Refuse { reason, .. } => Some(*reason),
        _ => None,
    });
    refusals.collect()
}

fn membership(voters: &[u64]) -> Input {
    let voters = voters.iter().copied().map(ReplicaId).collect();
    Input::ChangeMembership { id: RequestId(9), voters, learners: Vec::new() }
}

/// Heartbeats until `end`, which these answer; and what was refused meanwhile.
fn beat(leader: &mut Alone, term: u64, heard: &[(u64, u64)], end: Time) -> Vec<Effect> {
    let mut effects = Vec::new();
    while leader.raft.is_leader() && leader.raft.deadline() <= end {
        effects.extend(leader.wake());
        for &(from, index) in heard {
            effects.extend(leader.hear(from, term, matched(index)));
        }
    }
    effects
}

/// A leader that waits for something speaks for itself.
#[test]
fn a_leader_claims_nobody_while_it_asks_for_something() {
    let (mut leader, term) = quiet_leader(sharing());
    assert_eq!(leader.raft.claims(), [id(2), id(3)]);
    assert_eq!(sent(&leader.wake()), []);
    let far = leader.raft.deadline();
    assert!(far > leader.now + HEARTBEAT, "it wakes only to see whether a quorum is there");
    leader.step(Input::Read { id: RequestId(1) });
    assert_eq!(leader.raft.claims(), []);
    assert_eq!(leader.raft.deadline(), leader.now + HEARTBEAT, "it has something to repeat");
    leader.hear(2, term, answer(1, 2));
    assert_eq!(leader.raft.claims(), [id(2), id(3)]);

    let transfer = Input::TransferLeadership { id: RequestId(2), to: id(2) };
    leader.step(transfer);
    assert_eq!(leader.raft.claims(), []);

    // While a newcomer catches up, everybody else has all there is.
    let (mut leader, term) = quiet_leader(sharing());
    leader.step(membership(&[1, 2, 3, 4]));
    leader.written();
    leader.hear(2, term, matched(3));
    leader.hear(3, term, matched(3));
    assert_eq!(leader.raft.commit_index(), Index(3));
    assert_eq!(leader.raft.claims(), []);
}

/// A follower that refuses a claim is spoken to until it has answered.
#[test]
fn a_refused_claim_is_not_made_again_unheard() {
    let (mut leader, term) = quiet_leader(sharing());
    let said = sent(&leader.step(Input::ClaimRefused { peer: id(2) }));
    assert_eq!(said, [(2, append((2, term), 2, Vec::new()))]);
    assert_eq!(leader.raft.claims(), [id(3)]);
    leader.hear(2, term, matched(2));
    assert_eq!(leader.raft.claims(), [id(2), id(3)]);
    // Nobody leads this leader, whatever another host claims.
    let claim = Input::Claim { from: id(2), term: Term(term), commit: Index(2) };
    assert_eq!(leader.step(claim), []);
    assert!(leader.raft.is_leader());
}

/// What a host was heard to say counts for the leader it speaks for, if it is news, and if the link
/// did not break since.
#[test]
fn a_contact_is_news_of_the_leader_only() {
    let follower = || {
        let mut follower = Alone::new(&[1], 1);
        follower.now = Time(1000);
        follower.hear(2, 1, append((1, 1), 1, Vec::new()));
        follower
    };
    let deadline_after = |mut follower: Alone, peer, at| {
        let before = follower.raft.deadline();
        follower.now = Time(9000);
        follower.step(Input::Contact { peer: id(peer), at: Time(at) });
        (before, follower.raft.deadline())
    };
    for (peer, at) in [(3, 5000), (2, 1000), (2, 999)] {
        let (before, after) = deadline_after(follower(), peer, at);
        assert_eq!(before, after, "{peer} at {at}");
    }
    let (before, after) = deadline_after(follower(), 2, 5000);
    assert!(after != before && after >= Time(5000 + TIMEOUT));

    let broken = || {
        let mut follower = follower();
        follower.now = Time(4000);
        follower.step(Input::PeerGone(id(2)));
        follower
    };
    for at in [3999, 4000] {
        let (before, after) = deadline_after(broken(), 2, at);
        assert_eq!(before, after, "it was said before the link broke");
    }
    let (before, after) = deadline_after(broken(), 2, 4001);
    assert!(after > before);
}

/// The link to somebody else says nothing about the leader.
#[test]
fn only_the_leaders_link_hastens_an_election() {
    let mut follower = Alone::new(&[1], 1);
    follower.hear(2, 1, append((1, 1), 1, Vec::new()));
    let before = follower.raft.deadline();
    follower.step(Input::PeerGone(id(3)));
    assert_eq!(follower.raft.deadline(), before);
    follower.step(Input::PeerGone(id(2)));
    assert!(follower.raft.deadline() < Time(TIMEOUT));
}

/// Answers between hosts count for what was claimed when they were asked for.
#[test]
fn an_answer_is_of_its_generation() {
    let claim = |group| Claim {
        group: GroupId(group),
        from: id(1),
        to: id(2),
        term: Term(1),
        commit: Index(1),
    };
    let peer = HostId(2);
    let reply = |generation, known, refused: &[u64]| {
        let refused = refused.iter().copied().map(GroupId).collect();
        HeartbeatReply { incarnation: 1, generation, known, refused }
    };
    let mut hosts = Heartbeats::new(1, HEARTBEAT);
    let mut now = Time(0);
    let mut wake = |hosts: &mut Heartbeats| {
        now = now + HEARTBEAT;
        let mut beats = hosts.wake(now);
        let (_, beat) = beats.pop().expect("there is a claim");
        (beat.generation, beat.claims.map(|claims| claims.len()))
    };
    hosts.set_claim(peer, GroupId(1), Some(claim(1)));
    assert_eq!(wake(&mut hosts), (1, Some(1)));
    hosts.set_claim(peer, GroupId(2), Some(claim(2)));
    assert_eq!(hosts.on_reply(peer, reply(9, true, &[1]), Time(0)), [], "it was never said");
    assert_eq!(hosts.on_reply(peer, reply(1, true, &[1, 2]), Time(0)), [claim(1)]);
    assert_eq!(wake(&mut hosts), (3, Some(1)), "one claim less is another list");
    assert_eq!(hosts.on_reply(peer, reply(3, true, &[]), Time(0)), []);
    assert_eq!(wake(&mut hosts), (3, None), "it is known");
    hosts.on_reply(peer, reply(1, true, &[]), Time(0));
    assert_eq!(wake(&mut hosts), (3, None), "an older answer says nothing new");
    hosts.on_reply(peer, reply(3, false, &[]), Time(0));
    assert_eq!(wake(&mut hosts), (3, Some(1)), "it was forgotten");
}

/// A configuration with a lease, of three.
fn leased(lease: u64) -> SnapshotMeta {
    let configuration = Configuration { lease, ..voters(3) };
    SnapshotMeta { configuration, ..SnapshotMeta::default() }
}

fn lease_entry(index: u64, lease: u64) -> Entry {
    let configuration = Configuration { lease, ..voters(3) };
    let payload = Payload::new(configuration.encode());
    let (index, term, kind) = (Index(index), Term(1), EntryKind::Configuration);
    Entry { index, term, kind, payload }
}

/// A promise that may have been made before a restart binds, whatever the mode is by now.
#[test]
fn an_old_promise_outlives_the_mode() {
    for (after, bound) in [(199_999, true), (200_000, false)] {
        let hard_state = HardState { term: Term(1), voted_for: None };
        let (snapshot, entries) = (leased(200_000), vec![lease_entry(1, 0)]);
        let recovered = Recovered { hard_state, snapshot, entries, ..Recovered::default() };
        let mut voter = Alone::recovered(Config::new(id(1), 1), recovered);
        voter.hear(2, 1, append((1, 1), 1, Vec::new()));
        voter.step(Input::PeerGone(id(2)));
        voter.now = Time(after);
        let ignores = voter.hear(3, 2, request_vote((1, 1))).is_empty();
        assert_eq!(ignores, bound, "after {after} us");
    }
}

/// A shorter lease does not shorten a promise that was made.
#[test]
fn a_longer_promise_stays() {
    let recovered = Recovered { snapshot: leased(200_000), ..Recovered::default() };
    let mut voter = Alone::recovered(Config::new(id(1), 1), recovered);
    voter.now = Time(300_000);
    voter.hear(2, 1, append((0, 0), 0, Vec::new()));
    voter.now = Time(310_000);
    voter.hear(2, 1, append((0, 0), 0, vec![lease_entry(1, 50_000)]));
    voter.step(Input::PeerGone(id(2)));
    voter.now = Time(509_999);
    assert_eq!(voter.hear(3, 2, request_vote((1, 1))), []);
    voter.now = Time(510_000);
    assert!(!voter.hear(3, 2, request_vote((1, 1))).is_empty());
}

/// A leader of a group with a lease of 200 ms that holds it.
fn lease_holder() -> (Alone, u64) {
    let recovered = Recovered { snapshot: leased(200_000), ..Recovered::default() };
    let mut leader = Alone::recovered(Config::new(id(1), 1), recovered);
    let term = leader.lead();
    leader.written();
    leader.wake();
    (leader, term)
}

/// No lease before an entry of the term is committed: who led before may have committed more.
#[test]
fn no_lease_before_an_entry_of_the_term() {
    let (mut leader, term) = lease_holder();
    leader.hear(2, term, answer(1, 0));
    assert_eq!(leader.raft.lease_until(), None);
    leader.hear(2, term, answer(1, 1));
    assert_eq!(leader.raft.lease_until(), Some(leader.now + 175_000));
}

/// A read by lease is for before its end; at its end, and once the mode is off, a round decides.
#[test]
fn a_lease_ends() {
    let (mut leader, term) = lease_holder();
    leader.hear(2, term, answer(1, 1));
    let until = leader.raft.lease_until().expect("it holds the lease");
    let by_lease = |effects: &[Effect]| {
        effects.iter().any(|effect| matches!(effect, Effect::ReadReady { by_lease: true, .. }))
    };
    leader.now = Time(until.0 - 1);
    assert!(by_lease(&leader.step(Input::Read { id: RequestId(1) })));
    leader.now = until;
    assert!(!by_lease(&leader.step(Input::Read { id: RequestId(2) })));
    // The round of a read prolongs the lease too, from when it was sent.
    let sent_at = leader.now;
    leader.now = leader.now + 1000;
    leader.hear(2, term, answer(2, 1));
    assert_eq!(leader.raft.lease_until(), Some(sent_at + 175_000));

    leader.step(Input::SetLease { id: RequestId(3), lease: 0 });
    leader.written();
    leader.hear(2, term, answer(2, 2));
    assert_eq!(leader.raft.commit_index(), Index(2));
    assert_eq!(leader.raft.lease_until(), None);
}

/// A lease may be as long as the election timeout, and outlives a change of members.
#[test]
fn a_lease_is_at_most_an_election_timeout() {
    let (mut leader, term) = quiet_leader(Config::new(id(1), 1));
    let set = |lease| Input::SetLease { id: RequestId(1), lease };
    assert_eq!(refused(&leader.step(set(TIMEOUT + 1))), [Refusal::Invalid]);
    assert_eq!(refused(&leader.step(set(TIMEOUT))), []);
    leader.written();
    leader.hear(2, term, matched(3));
    leader.step(membership(&[1, 2]));
    leader.written();
    leader.hear(2, term, matched(4));
    assert_eq!(leader.raft.configuration().voters, [id(1), id(2)]);
    assert_eq!(leader.raft.configuration().lease, TIMEOUT);
}

/// Ids that were used are known where they matter: who left may not come back.
#[test]
fn the_last_who_left_does_not_come_back() {
    let (mut leader, term) = quiet_leader(Config::new(id(1), 1));
    leader.step(membership(&[1, 2]));
    leader.written();
    leader.hear(2, term, matched(3));
    leader.written();
    leader.hear(2, term, matched(4));
    assert_eq!(refused(&leader.step(membership(&[1, 2, 3]))), [Refusal::IdUsed]);
    assert_eq!(refused(&leader.step(membership(&[1, 2, 4]))), []);
}

/// A replica that is dead counts for no quorum from the moment that this is known.
#[test]
fn the_dead_do_not_vouch_for_a_leader() {
    for replaces in [false, true] {
        let (mut leader, term) = quiet_leader(Config::new(id(1), 1));
        let end = leader.now + 2 * TIMEOUT;
        beat(&mut leader, term, &[(2, 2)], end);
        if replaces {
            let (dead, by) = (id(2), id(4));
            leader.step(Input::ReplaceReplica { id: RequestId(1), dead, by });
        }
        leader.wake();
        assert_eq!(leader.raft.is_leader(), !replaces);
    }
}

/// One thing at a time: neither while the leadership is handed over nor while somebody catches up.
#[test]
fn a_change_waits_for_what_is_under_way() {
    let (mut leader, term) = quiet_leader(Config::new(id(1), 1));
    leader.step(Input::TransferLeadership { id: RequestId(1), to: id(2) });
    assert_eq!(refused(&leader.step(membership(&[1, 2]))), [Refusal::NotYet]);

    let (mut other, _) = quiet_leader(Config::new(id(1), 1));
    other.step(membership(&[1, 2, 3, 4]));
    other.written();
    other.hear(2, term, matched(3));
    assert_eq!(refused(&other.step(membership(&[1, 2]))), [Refusal::NotYet]);
    // Whoever asked for it hears that it ended with its leader.
    let ended = other.hear(3, term + 1, Body::VoteReply { granted: false });
    let unfinished = Effect::Refuse { id: RequestId(9), reason: Refusal::NotLeader };
    assert!(ended.contains(&unfinished));
}

/// A leader that has just taken up a newcomer, and 2 with it.
fn with_newcomer() -> (Alone, u64) {
    let (mut leader, term) = quiet_leader(Config::new(id(1), 1));
    leader.step(membership(&[1, 2, 4]));
    leader.written();
    leader.hear(2, term, matched(3));
    leader.step(Input::Applied(Index(3)));
    (leader, term)
}

/// The round of a newcomer ends where the log ended when it began.
#[test]
fn a_newcomer_has_caught_up_with_what_there_was() {
    let (mut leader, term) = with_newcomer();
    leader.hear(4, term, matched(1));
    assert!(!leader.raft.configuration().is_joint());
    leader.hear(4, term, matched(2));
    assert!(leader.raft.configuration().is_joint());
    assert_eq!(leader.raft.configuration().voters, [id(1), id(2), id(4)]);
}

/// A newcomer that needs longer than an election timeout for each round is given up after ten.
#[test]
fn a_slow_newcomer_has_ten_rounds() {
    let (mut leader, term) = with_newcomer();
    leader.hear(4, term, matched(1));
    let mut rounds = 0;
    loop {
        let last = leader.raft.last_index().0;
        leader.step(propose(1));
        leader.written();
        let end = leader.now + TIMEOUT;
        leader.hear(2, term, matched(last + 1));
        leader.step(Input::Applied(leader.raft.commit_index()));
        let quiet = beat(&mut leader, term, &[(2, last + 1), (4, 1)], end);
        assert_eq!(refused(&quiet), []);
        rounds += 1;
        match refused(&leader.hear(4, term, matched(last))).as_slice() {
            [] => assert!(rounds < 10, "it is given up"),
            [reason] => {
                assert_eq!(*reason, Refusal::NotCaughtUp);
                break;
            }
            others => panic!("one call is refused once: {others:?}"),
        }
        assert!(!leader.raft.configuration().is_joint());
    }
    assert_eq!(rounds, 10);
}

/// A newcomer that is silent for ten election timeouts is given up, and no sooner.
#[test]
fn a_silent_newcomer_has_ten_timeouts() {
    let (mut leader, term) = with_newcomer();
    let began = leader.now;
    let quiet = beat(&mut leader, term, &[(2, 3)], began + 10 * TIMEOUT);
    assert_eq!(refused(&quiet), []);
    let given_up = beat(&mut leader, term, &[(2, 3)], began + (10 * TIMEOUT + HEARTBEAT));
    assert_eq!(refused(&given_up), [Refusal::NotCaughtUp]);
}

/// Once a change is joint it is finished, however long a newcomer is silent by then.
#[test]
fn a_joint_change_is_not_given_up() {
    let (mut leader, term) = with_newcomer();
    leader.hear(4, term, matched(2));
    leader.written();
    assert!(leader.raft.configuration().is_joint());
    let end = leader.now + 12 * TIMEOUT;
    let quiet = beat(&mut leader, term, &[(2, 3)], end);
    assert_eq!(refused(&quiet), []);
    leader.hear(2, term, matched(4));
    assert!(!leader.raft.configuration().is_joint());
}

/// A handover under way is not repeated to who lacks what came meanwhile.
#[test]
fn a_takeover_is_asked_of_a_whole_log_each_time() {
    let asks = |effects: &[Effect]| sent(effects).contains(&(2, Body::TimeoutNow));
    let (mut leader, term) = quiet_leader(Config::new(id(1), 1));
    leader.step(propose(1));
    leader.written();
    leader.hear(2, term, matched(3));
    leader.step(membership(&[1, 2]));
    leader.hear(2, term, matched(4));
    assert!(leader.raft.configuration().is_joint(), "its own disk is needed too");
    let began = leader.now;
    let effects = beat(&mut leader, term, &[(2, 4)], began + 1_050_000);
    let stalled = |effect: &Effect| matches!(effect, Effect::Note(Note::Stalled { .. }));
    assert!(effects.iter().any(stalled) && asks(&effects));
    assert!(asks(&leader.wake()), "it may have got lost");
    leader.written();
    assert_eq!(leader.raft.last_index(), Index(5), "the plain configuration follows");
    assert!(!asks(&leader.wake()));
    assert!(asks(&leader.hear(2, term, matched(5))) || asks(&leader.wake()));
}

/// A machine that says the same again has applied nothing.
#[test]
fn an_old_report_is_no_progress() {
    let (mut leader, term) = quiet_leader(Config::new(id(1), 1));
    leader.step(propose(1));
    leader.written();
    leader.hear(2, term, matched(3));
    let end = leader.now + 1_050_000;
    let mut stalled = false;
    while leader.now < end {
        leader.step(Input::Applied(Index(2)));
        let effects = leader.wake();
        leader.hear(2, term, matched(3));
        stalled |= effects.contains(&Effect::Note(Note::Stalled { what: Stall::Apply }));
    }
    assert!(stalled);
}

/// Reads of a follower are counted, asked and waiting.
#[test]
fn a_followers_reads_are_counted() {
    let mut follower = Alone::new(&[1], 1);
    follower.hear(2, 1, append((1, 1), 1, Vec::new()));
    for id in 1..=3 {
        follower.step(Input::Read { id: RequestId(id) });
    }
    assert_eq!(follower.raft.status().pending_reads, 3, "one is asked, two wait");
}

/// What a forced recovery writes knows all ids that were used, and keeps the mode.
#[test]
fn a_forced_group_remembers() {
    let hard_state = HardState { term: Term(1), voted_for: None };
    let configuration = Configuration { lease: 9, retired: ReplicaId(4), ..voters(3) };
    let snapshot = SnapshotMeta { configuration, ..SnapshotMeta::default() };
    for (survivor, wider, retired) in [(2, vec![], 4), (2, vec![change(1, 1, &[2, 7])], 7)] {
        let entries = wider.clone();
        let snapshot = snapshot.clone();
        let recovered = Recovered { hard_state, snapshot, entries, ..Recovered::default() };
        let forced = recovered.force_sole_voter(ReplicaId(survivor), Term(5));
        let entry = forced.write.entries.last().expect("one supersedes all");
        let known = Configuration::decode(entry.payload.bytes()).expect("it can be read");
        assert_eq!(known.voters, [ReplicaId(survivor)]);
        assert_eq!(known.retired, ReplicaId(retired));
        assert_eq!(known.lease, if wider.is_empty() { 9 } else { 0 });
        assert_eq!(entry.term, Term(6));
    }
}

/// A replica with a hole asks everybody it can reach, members or not.
#[test]
fn whoever_is_found_is_asked() {
    let mut replica = Alone::with(&[1, 1], 1, &[2], Config::new(id(1), 1));
    for _ in 0..2 {
        replica.step(Input::PeerAlive(id(9)));
    }
    let mut asked: Vec<u64> = Vec::new();
    for _ in 0..3 {
        replica.now = replica.now + HEARTBEAT;
        let said = sent(&replica.step(Input::Wake)).into_iter();
        let fetches = said.filter(|(_, body)| matches!(body, Body::FetchEntries { .. }));
        asked.extend(fetches.map(|(to, _)| to));
    }
    asked.sort_unstable();
    assert_eq!(asked, [2, 3, 9]);
}

fn fetch(places: &[(u64, u64)]) -> Body {
    let places = places.iter().map(|&(index, term)| (Index(index), Term(term))).collect();
    Body::FetchEntries { places }
}

fn asked_for(effects: &[Effect]) -> Vec<String> {
    let draw = |effect: &Effect| match effect {
        Effect::Send(message) => match &message.body {
            Body::FetchedEntries { entries, missing } => {
                let whole: Vec<u64> = entries.iter().map(|entry| entry.index.0).collect();
                let missing: Vec<u64> = missing.iter().map(|index| index.0).collect();
                Some(format!("{} whole {whole:?} missing {missing:?}", message.to))
            }
            _ => None,
        },
        Effect::Load { from, .. } => Some(format!("load {from}")),
        Effect::SendSnapshot { to, at_least, .. } => Some(format!("snapshot {to} {at_least}")),
        _ => None,
    };
    effects.iter().filter_map(draw).collect()
}

/// Who has damage gets entries from memory, from disk, or under a snapshot: wherever they are.
#[test]
fn damage_is_mended_from_wherever_the_entry_is() {
    // Under the snapshot, but still in memory.
    let (mut leader, _) = quiet_leader(Config::new(id(1), 1));
    leader.step(propose(1));
    let meta = Box::new(leader.raft.snapshot_meta(Index(2)));
    leader.step(Input::Compact { meta });
    let said = leader.hear(2, 1, fetch(&[(1, 1)]));
    assert_eq!(leader.raft.status().snapshot_index, Index(2));
    let trails = leader.raft.status().first_index <= Index(1);
    let expected = if trails { "2 whole [1] missing []" } else { "2 whole [] missing []" };
    assert_eq!(asked_for(&said)[0], expected);

    // On disk only, above the snapshot.
    let config = Config { max_window_bytes: 0, ..Config::new(id(1), 1) };
    let (mut leader, term) = quiet_leader(config);
    let none = "2 whole [] missing []".to_owned();
    assert_eq!(asked_for(&leader.hear(2, 1, fetch(&[(1, 1)]))), [none.clone(), "load 1".into()]);
    let other = Input::Loaded { from: Index(2), entries: entries(2, &[term]) };
    assert_eq!(asked_for(&leader.step(other)), [] as [String; 0], "nobody waits for that");
    // A newer wish of the same replica stands for it; another's is another.
    assert_eq!(asked_for(&leader.hear(2, 1, fetch(&[(2, term)]))), [none, "load 2".into()]);
    leader.hear(3, 1, fetch(&[(2, term)]));
    let loaded = Input::Loaded { from: Index(1), entries: entries(1, &[1]) };
    assert_eq!(asked_for(&leader.step(loaded)), [] as [String; 0]);
    let loaded = Input::Loaded { from: Index(2), entries: entries(2, &[term]) };
    let both = ["2 whole [2] missing []", "3 whole [2] missing []"];
    assert_eq!(asked_for(&leader.step(loaded)), both);
    leader.hear(2, 1, fetch(&[(1, 1)]));
    let lost = Input::Loaded { from: Index(1), entries: Vec::new() };
    assert_eq!(asked_for(&leader.step(lost)), [] as [String; 0]);

    // Under the snapshot only: one is sent at a time.
    let meta = Box::new(leader.raft.snapshot_meta(Index(2)));
    leader.step(Input::Compact { meta });
    let asks = |leader: &mut Alone| asked_for(&leader.hear(2, 1, fetch(&[(1, 1)])));
    assert_eq!(asks(&mut leader)[1..], ["snapshot 2 1"]);
    assert_eq!(asks(&mut leader)[1..], [] as [String; 0]);
    leader.step(Input::SnapshotSent { to: id(2), delivered: None });
    assert_eq!(asks(&mut leader)[1..], ["snapshot 2 1"]);
}

/// An answer to who asks for payloads is not larger than a message.
#[test]
fn fetched_payloads_fit_into_a_message() {
    let config = Config { max_message_bytes: 10, ..Config::new(id(1), 1) };
    let mut follower = Alone::with(&[], 1, &[], config);
    let large =
        |index| Entry { payload: Payload::new(vec![7; 10]), ..entries(index, &[1]).remove(0) };
    follower.hear(2, 1, append((0, 0), 0, vec![large(1), large(2)]));
    let said = follower.hear(3, 1, fetch(&[(1, 1), (2, 1)]));
    assert_eq!(asked_for(&said), ["3 whole [1] missing []"]);
}

fn missing(index: u64) -> Body {
    Body::FetchedEntries { entries: Vec::new(), missing: vec![Index(index)] }
}

/// What the dead say they never had proves nothing, nor what is said to who does not lead.
#[test]
fn only_the_living_give_an_entry_up_and_only_to_a_leader() {
    let campaigns = || {
        let mut candidate = Alone::with(&[1, 1], 1, &[2], Config::new(id(1), 1));
        while candidate.raft.status().role == RoleName::Follower {
            candidate.wake();
        }
        candidate.hear(2, 2, Body::PreVoteReply { granted: true });
        candidate.written();
        candidate
    };
    let leads = |dead: bool| {
        let mut leader = campaigns();
        let term = 2;
        leader.hear(2, term, Body::VoteReply { granted: true });
        assert!(leader.raft.is_leader());
        if dead {
            let (dead, by) = (id(2), id(4));
            leader.step(Input::ReplaceReplica { id: RequestId(1), dead, by });
        }
        leader.hear(2, term, missing(2));
        leader.hear(3, term, missing(2));
        leader.raft.last_index()
    };
    assert_eq!(leads(false), Index(1), "two of three lack it");
    assert_eq!(leads(true), Index(2));

    let mut candidate = campaigns();
    assert_eq!(candidate.raft.status().role, RoleName::Candidate);
    candidate.hear(2, 2, missing(2));
    candidate.hear(3, 2, missing(2));
    assert_eq!(candidate.raft.last_index(), Index(2));
    assert_eq!(candidate.raft.status().role, RoleName::Candidate);
}

/// What was answered in full is not answered again by whatever the disk does next.
#[test]
fn an_answer_is_owed_once() {
    let mut follower = Alone::new(&[1], 1);
    follower.hear(2, 2, append((1, 1), 2, entries(2, &[2])));
    assert_eq!(sent(&follower.written()), [(2, matched(2))]);
    follower.step(Input::Applied(Index(2)));
    let meta = Box::new(follower.raft.snapshot_meta(Index(2)));
    follower.step(Input::Compact { meta });
    assert_eq!(follower.written(), []);
}

/// A leader that fell silent speaks as soon as there is something to say.
#[test]
fn a_silent_leader_wakes_up() {
    let (mut leader, _) = quiet_leader(sharing());
    leader.wake();
    assert!(leader.raft.deadline() > leader.now + HEARTBEAT);
    leader.step(propose(1));
    assert_eq!(leader.raft.deadline(), leader.now + HEARTBEAT);
}

/// A disk that has lost what a follower needs: one snapshot is asked for, however often it says so.
#[test]
fn a_lost_load_asks_for_one_snapshot() {
    let config = Config { max_window_bytes: 0, ..Config::new(id(1), 1) };
    let mut leader = Alone::with(&[1, 1], 1, &[], config);
    let term = leader.lead();
    leader.written();
    leader.hear(2, term, matched(3));
    leader.step(Input::Applied(Index(3)));
    let (prev_index, hint_index, hint_term) = (Index(2), Index(1), Term(1));
    let outcome = AppendOutcome::Conflict { prev_index, hint_index, hint_term };
    let asked = leader.hear(3, term, Body::AppendReply { round: 0, outcome });
    assert_eq!(asked_for(&asked), ["load 2"]);
    let lost = Input::Loaded { from: Index(2), entries: Vec::new() };
    assert_eq!(asked_for(&leader.step(lost.clone())), ["snapshot 3 2"]);
    assert_eq!(asked_for(&leader.step(lost)), [] as [String; 0]);
}

/// Compactions of a leader whose window is small; 3 has matched so much. Whether it waits.
fn waits(window: usize, trailing: usize, matched_by_3: u64, log: u64, compact_at: u64) -> bool {
    let config =
        Config { max_window_bytes: window, max_trailing_bytes: trailing, ..Config::new(id(1), 1) };
    let mut leader = Alone::with(&[1], 1, &[], config);
    let term = leader.lead();
    for _ in 2..log {
        leader.written();
        leader.hear(2, term, matched(leader.raft.last_index().0));
        leader.step(propose(1));
    }
    leader.written();
    leader.hear(2, term, matched(log));
    leader.hear(3, term, matched(matched_by_3));
    leader.step(Input::Applied(Index(log)));
    let meta = Box::new(leader.raft.snapshot_meta(Index(compact_at)));
    leader.step(Input::Compact { meta });
    leader.raft.status().held_index.is_some()
}

/// A compaction waits for what has left memory, and for nothing that nobody needs.
#[test]
fn a_compaction_waits_for_what_only_the_disk_has() {
    assert!(waits(0, 1000, 1, 2, 2), "entry 2 has left memory");
    assert!(!waits(32, 32, 1, 2, 2), "it has not, and trails");
    assert!(!waits(0, 0, 2, 3, 2), "nothing up to 2 is needed");
    assert!(waits(0, 0, 1, 3, 2));
}

/// While a snapshot travels its receiver may be busy and silent: the log waits all the same.
#[test]
fn a_compaction_waits_for_a_silent_receiver() {
    let config = Config { max_trailing_bytes: 0, max_held_bytes: 1000, ..Config::new(id(1), 1) };
    let (mut leader, term) = quiet_leader(config);
    let meta = Box::new(leader.raft.snapshot_meta(Index(2)));
    leader.step(Input::Compact { meta });
    // 3 has lost its log, and says so.
    leader.step(Input::PeerAlive(id(3)));
    leader.step(propose(1));
    leader.written();
    leader.hear(2, term, matched(3));
    leader.step(Input::Applied(Index(3)));
    leader.step(membership(&[1, 2, 3, 4]));
    leader.written();
    leader.hear(2, term, matched(4));
    leader.step(Input::Applied(Index(4)));
    let (prev_index, hint_index, hint_term) = (Index(3), Index(0), Term(0));
    let outcome = AppendOutcome::Conflict { prev_index, hint_index, hint_term };
    let asked = leader.hear(4, term, Body::AppendReply { round: 0, outcome });
    assert_eq!(asked_for(&asked), ["snapshot 4 2"]);
    let end = leader.now + TIMEOUT;
    beat(&mut leader, term, &[(2, 4), (3, 4)], end);
    let meta = Box::new(leader.raft.snapshot_meta(Index(4)));
    leader.step(Input::Compact { meta });
    assert_eq!(leader.raft.status().held_index, Some(Index(4)));
    leader.step(Input::SnapshotSent { to: id(4), delivered: None });
    assert_eq!(leader.raft.status().held_index, None, "it is not on its way any more");
}

/// A snapshot that no leader would send is not followed.
#[test]
fn nonsense_snapshots_are_ignored() {
    let meta = |term, configuration| {
        Box::new(SnapshotMeta { index: Index(5), term: Term(term), configuration })
    };
    let mut follower = Alone::new(&[1], 2);
    for (from, meta) in
        [(2, meta(3, voters(3))), (2, meta(2, Configuration::default())), (1, meta(2, voters(3)))]
    {
        let received = Input::SnapshotReceived { from: id(from), term: Term(2), meta };
        assert_eq!(follower.step(received), []);
    }
    assert_eq!(follower.raft.leader(), None);
    let received = Input::SnapshotReceived { from: id(2), term: Term(2), meta: meta(2, voters(3)) };
    assert!(!follower.step(received).is_empty());
}

/// A configuration of numbers that make no sense is the host's error.
#[test]
fn senseless_numbers_are_refused() {
    let sensible = Config::new(id(1), 1);
    let refuses = |config: Config| {
        std::panic::catch_unwind(|| {
            Alone::recovered(config, Recovered { snapshot: leased(0), ..Recovered::default() })
        })
        .is_err()
    };
    assert!(!refuses(sensible.clone()));
    assert!(refuses(Config { election_timeout: 0, ..sensible.clone() }));
    assert!(refuses(Config { heartbeat_interval: 0, ..sensible.clone() }));
    assert!(refuses(Config { heartbeat_interval: TIMEOUT, ..sensible.clone() }));
    assert!(!refuses(Config { heartbeat_interval: TIMEOUT - 1, ..sensible.clone() }));
    assert!(refuses(Config { max_inflight_messages: 0, ..sensible }));
}
