//! The golden scripts below `tests/scripts`: whole groups, step by step, with every effect drawn.
//!
//! | command | does |
//! |---|---|
//! | `group 1 2 3 [learners=4] [outgoing=5] [lease=ms]` | blank replicas |
//! | `group … [message=n] [window=n] [inflight=n] [uncommitted=n] [undurable=n] [memory=n] [trailing=n] [held=n] [stall=ms]` | with these limits |
//! | `group … [chunk=n]` | whose snapshots travel in chunks of n bytes |
//! | `group … logs=1:1,1,2;2:1 terms=1:3` | with logs (terms of their entries), in these terms |
//! | `wake n` / `campaign n` | its deadline comes (time goes there) / until it campaigns |
//! | `elect n` | it campaigns, everything else works; nothing is drawn |
//! | `deadline n` | draws when it wants to be woken |
//! | `pass ms` | time goes on, no timer fires |
//! | `propose n text` / `propose-batch n text …` / `read n` | of a client |
//! | `deliver [a>b …]` | the oldest message of each pair given, or all that are under way, once |
//! | `drop [a>b …]` | loses them |
//! | `copy a>b` / `paste` | keeps a copy of the oldest message of that pair / sends it again |
//! | `flip a>b` | the oldest chunk of that pair gets a wrong byte on its way |
//! | `cut a-b …` / `heal` | what goes between these is lost from now on / no more |
//! | `settle [but=n,m]` | everything is delivered and written, except to, from and by those |
//! | `resend n` | its senders' deadline comes: time goes there |
//! | `rot-file n m` | a byte of the snapshot that n sends to m rots on n's disk |
//! | `write n` | its oldest open write becomes durable |
//! | `crash n [kept=k]` / `restart n [forgets=yes]` | loses its open writes, or all after the first k |
//! | `compact n` | it makes a snapshot of what it has applied |
//! | `gone n peer` / `alive n peer` | its link |
//! | `timeout-now a b` | leader a asks b to take over |
//! | `beat n ms [but=m]` | n wakes until so much time is gone, the others answer; drawn from n's side |
//! | `hold n` / `unhold n` | its machine stops applying / goes on |
//! | `load n [lost=yes]` | its disk answers the oldest load |
//! | `hang n` / `unhang n` | its disk ends no write / goes on |
//! | `damage n i,j` | the payloads of these entries can't be read on n's disk any more |
//! | `lose-state n` | the snapshot that n's log begins at can't be read any more |
//! | `find-state n` | the snapshot that n's log begins at can be read again |
//! | `replace n dead by` | asks n to replace a dead replica |
//! | `force n [seen=term]` | makes n, which is down, the only voter |
//! | `join n` | a blank replica, not yet a member |
//! | `change n voters=1,2 [learners=3]` | asks n for this membership |
//! | `lease n ms` | asks n for leases of this length |
//! | `transfer a b` | asks a to hand over to b |
//! | `configuration` | draws what each replica goes by |
//! | `status` / `logs` / `flight` | draws the replicas, their logs, what is under way |
//!
//! Any command with `quiet=yes` draws no effects.

mod cluster;

use std::collections::BTreeMap;
use std::fmt::Write;

use cluster::host::Host;
use cluster::{Cluster, Parcel, id, transfer};
use flotilla_raft::chunks::ChunkMessage;
use flotilla_raft::{
    AppendOutcome, Body, Config, Configuration, Effect, Entry, EntryKind, HardState, Index, Input,
    Message, Note, Payload, Recovered, ReplicaId, RoleName, SnapshotMeta, Term, Time,
};
use flotilla_script::Command;

#[test]
fn scripts() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    flotilla_script::run(directory, || {
        let mut group = None;
        move |command| run(&mut group, command)
    });
}

/// A story that needs more than a page is two stories.
#[test]
fn scripts_are_short() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let topics = std::fs::read_dir(directory).expect("there are scripts");
    let mut count = 0;
    for topic in topics {
        let cases = topic.and_then(|topic| std::fs::read_dir(topic.path()));
        for case in cases.expect("a topic is a directory") {
            let path = case.expect("a case is a file").path();
            let text = std::fs::read_to_string(&path).expect("a case is text");
            assert!(text.lines().count() <= 60, "{} is too long", path.display());
            assert!(text.starts_with("# "), "{} says what it shows", path.display());
            count += 1;
        }
    }
    assert!(count >= 80, "{count} scripts are few");
}

fn run(group: &mut Option<Cluster>, command: &Command) -> Result<String, String> {
    if command.name == "group" {
        *group = Some(new_group(command)?);
        return Ok(String::new());
    }
    let cluster = group.as_mut().ok_or("there is no group yet")?;
    let silent = command.named("quiet").is_some() || command.name == "elect";
    let drawn = act(cluster, command)?;
    for id in cluster.ids() {
        cluster.report_applied(id);
    }
    let effects = std::mem::take(&mut cluster.effects);
    cluster.judge.check_logs(&cluster.hosts);
    if silent {
        return Ok(drawn);
    }
    let lines: Vec<String> = effects.iter().map(|(id, effect)| draw_effect(*id, effect)).collect();
    Ok(lines.join("\n") + &drawn)
}

fn act(cluster: &mut Cluster, command: &Command) -> Result<String, String> {
    let replica = || command.parsed(0).map(ReplicaId);
    match command.name.as_str() {
        "campaign" => cluster.campaign(replica()?),
        "wake" => cluster.wake(replica()?),
        "elect" => cluster.elect(replica()?),
        "pass" => cluster.now = cluster.now + 1000 * command.parsed::<u64>(0)?,
        "propose" => cluster.propose(replica()?, command.argument(1)?),
        "propose-batch" => cluster.propose_batch(replica()?, &command.arguments[1..]),
        "read" => {
            cluster.read(replica()?);
        }
        "deliver" => {
            for parcel in take(cluster, command)? {
                if !cluster.is_cut(&parcel) {
                    cluster.deliver(parcel);
                }
            }
        }
        "copy" => {
            cluster.copied = take(cluster, command)?;
            let copied = cluster.copied.clone();
            cluster.sent.splice(0..0, copied);
        }
        "paste" => {
            let copied = cluster.copied.clone();
            cluster.sent.extend(copied);
        }
        "drop" => {
            take(cluster, command)?;
        }
        "flip" => {
            let mut taken = take(cluster, command)?;
            taken.iter_mut().for_each(flip);
            cluster.sent.splice(0..0, taken);
        }
        "cut" => {
            for pair in &command.arguments {
                let (one, other) = pair.split_once('-').ok_or("a-b names two replicas")?;
                let ends = [one, other].map(|word| word.parse().map(ReplicaId));
                let [Ok(one), Ok(other)] = ends else { return Err("a-b names replicas".into()) };
                cluster.cut.extend([(one, other), (other, one)]);
            }
        }
        "heal" => cluster.cut.clear(),
        "resend" => {
            let deadline = cluster.host(replica()?).transfers.deadline();
            if deadline == Time::NEVER {
                return Err("it sends no snapshot".into());
            }
            cluster.now = cluster.now.max(deadline);
            cluster.pump(replica()?);
        }
        "rot-file" => {
            let to = ReplicaId(command.parsed(1)?);
            let sending = &mut cluster.host_mut(replica()?).transfers.sending;
            let (_, file) = sending.get_mut(&to).ok_or("nothing is sent there")?;
            *file.last_mut().ok_or("the file is empty")? ^= 1;
        }
        "settle" => settle(cluster, command)?,
        "write" => cluster.finish_write(replica()?),
        "crash" => {
            let kept = command.named("kept").map_or(Ok(0), str::parse);
            cluster.crash(replica()?, kept.map_err(|_| "kept is a number")?);
        }
        "restart" => {
            cluster.host_mut(replica()?).keeps_notes = command.named("forgets").is_none();
            cluster.restart(replica()?);
        }
        "compact" => cluster.compact(replica()?),
        "gone" => cluster.step(replica()?, Input::PeerGone(ReplicaId(command.parsed(1)?))),
        "alive" => cluster.step(replica()?, Input::PeerAlive(ReplicaId(command.parsed(1)?))),
        "timeout-now" => {
            let (from, to) = (replica()?, ReplicaId(command.parsed(1)?));
            let term = cluster.raft(from).term();
            let message = Message { from, to, term, body: Body::TimeoutNow };
            cluster.deliver(Parcel::Message(message));
        }
        "beat" => beat(cluster, command)?,
        "hold" => cluster.host_mut(replica()?).holds_applying = true,
        "damage" => {
            for index in numbers(command.argument(1)?)? {
                cluster.host_mut(replica()?).disk.damage(Index(index));
                cluster.host_mut(replica()?).asked.damage(Index(index));
            }
        }
        "lose-state" => cluster.step(replica()?, Input::StateLost),
        "find-state" => cluster.step(replica()?, Input::StateFound),
        "replace" => {
            let (dead, by) = (ReplicaId(command.parsed(1)?), ReplicaId(command.parsed(2)?));
            cluster.replace(replica()?, dead, by);
        }
        "load" => cluster.finish_load(replica()?, command.named("lost").is_some()),
        "hang" => cluster.host_mut(replica()?).disk_hangs = true,
        "unhang" => cluster.host_mut(replica()?).disk_hangs = false,
        "unhold" => cluster.host_mut(replica()?).holds_applying = false,
        "force" => {
            let seen = command.named("seen").map_or(Ok(0), str::parse);
            let forced = cluster.force(replica()?, Term(seen.map_err(|_| "seen is a term")?));
            let (before, after) = (draw_members(&forced.before), forced.doubtful_after);
            return Ok(format!(
                "instead of {before}; doubtful after {after}; {} dropped; writes term {}{}",
                forced.dropped,
                forced.write.hard_state.term,
                draw_entries(&forced.write.entries),
            ));
        }
        "join" => cluster.join(replica()?),
        "change" => {
            let list = |name| ids(command.named(name).unwrap_or(""));
            cluster.change(replica()?, &list("voters")?, &list("learners")?);
        }
        "lease" => cluster.set_lease(replica()?, 1000 * command.parsed::<u64>(1)?),
        "transfer" => {
            cluster.transfer(replica()?, ReplicaId(command.parsed(1)?));
        }
        "deadline" => {
            let (id, now) = (replica()?, cluster.now);
            let wait = cluster.host(id).deadline();
            return Ok(match wait {
                Time::NEVER => format!("{id} waits for nothing"),
                wait => format!("{id} wakes in {} ms", wait.since(now) / 1000),
            });
        }
        "configuration" => {
            let draw = |&id: &ReplicaId| draw_configuration(cluster, id);
            return Ok(lines(cluster.ids().iter().map(draw)));
        }
        "status" => return Ok(lines(cluster.ids().iter().map(|&id| draw_status(cluster, id)))),
        "logs" => return Ok(lines(cluster.ids().iter().map(|&id| draw_log(cluster, id)))),
        "flight" => return Ok(lines(cluster.sent.iter().map(draw_parcel))),
        other => return Err(format!("no command {other}")),
    }
    Ok(String::new())
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

/// `a>b` words; the oldest parcel under way of each, or all without any.
fn take(cluster: &mut Cluster, command: &Command) -> Result<Vec<Parcel>, String> {
    let pairs: Vec<&String> = command.arguments.iter().filter(|word| word.contains('>')).collect();
    if pairs.is_empty() {
        return Ok(std::mem::take(&mut cluster.sent));
    }
    let mut taken = Vec::new();
    for pair in pairs {
        let (from, to) = pair.split_once('>').expect("it was filtered by this");
        let number = |text: &str| text.parse().map(ReplicaId).map_err(|_| "a>b names replicas");
        let ends = (number(from)?, number(to)?);
        let place = cluster.sent.iter().position(|parcel| parcel.ends() == ends);
        taken.push(
            cluster.sent.remove(place.ok_or_else(|| format!("nothing is under way {pair}"))?),
        );
    }
    Ok(taken)
}

fn settle(cluster: &mut Cluster, command: &Command) -> Result<(), String> {
    let but = ids(command.named("but").unwrap_or(""))?;
    let cut = cluster.cut.clone();
    let passes = |parcel: &Parcel| {
        let (from, to) = parcel.ends();
        !but.contains(&from) && !but.contains(&to) && !cut.contains(&(from, to))
    };
    let hang: Vec<ReplicaId> =
        cluster.hosts.values().filter(|host| host.disk_hangs).map(Host::id).collect();
    cluster.settle(passes, |id| !but.contains(&id) && !hang.contains(&id));
    Ok(())
}

/// The heartbeats of one replica over some time; what is said meanwhile goes without saying, but
/// for what matters to who asked.
fn beat(cluster: &mut Cluster, command: &Command) -> Result<(), String> {
    let id = ReplicaId(command.parsed(0)?);
    let end = cluster.now + 1000 * command.parsed::<u64>(1)?;
    let mut drawn = std::mem::take(&mut cluster.effects);
    while cluster.is_up(id) && cluster.raft(id).is_leader() && cluster.host(id).deadline() <= end {
        cluster.wake(id);
        settle(cluster, command)?;
        let news = |effect: &Effect| {
            matches!(effect, Effect::Note(_) | Effect::Completed { .. } | Effect::Refuse { .. })
        };
        drawn.extend(cluster.effects.drain(..).filter(|(at, effect)| *at == id && news(effect)));
    }
    cluster.now = cluster.now.max(end);
    cluster.effects = drawn;
    Ok(())
}

fn ids(text: &str) -> Result<Vec<ReplicaId>, String> {
    numbers(text).map(|list| list.into_iter().map(ReplicaId).collect())
}

fn numbers(text: &str) -> Result<Vec<u64>, String> {
    let words = text.split(',').filter(|word| !word.is_empty());
    words.map(|word| word.parse().map_err(|_| format!("{word} is no number"))).collect()
}

/// `1:3,4;2:5` as a map.
fn by_replica(text: Option<&str>) -> Result<BTreeMap<u64, Vec<u64>>, String> {
    let mut map = BTreeMap::new();
    for part in text.unwrap_or("").split(';').filter(|part| !part.is_empty()) {
        let (id, list) = part.split_once(':').ok_or("replica:numbers;…")?;
        map.insert(id.parse().map_err(|_| format!("{id} is no replica"))?, numbers(list)?);
    }
    Ok(map)
}

fn new_group(command: &Command) -> Result<Cluster, String> {
    let plain = command.arguments.iter().filter(|word| !word.contains('='));
    let voters = plain.map(|word| word.parse().map(id).map_err(|_| format!("{word}: no replica")));
    let mut configuration = Configuration::of_voters(voters.collect::<Result<Vec<_>, _>>()?);
    configuration.learners = ids(command.named("learners").unwrap_or(""))?;
    configuration.outgoing = ids(command.named("outgoing").unwrap_or(""))?;
    let lease = command.named("lease").map_or(Ok(0), str::parse::<u64>);
    configuration.lease = 1000 * lease.map_err(|_| "lease is a number")?;
    let (logs, terms) = (by_replica(command.named("logs"))?, by_replica(command.named("terms"))?);
    let recovered = |id: ReplicaId| {
        let entries: Vec<Entry> = (1..)
            .zip(logs.get(&id.0).into_iter().flatten())
            .map(|(index, &term)| Entry {
                index: Index(index),
                term: Term(term),
                kind: EntryKind::Normal,
                payload: Payload::default(),
            })
            .collect();
        let logged = entries.last().map_or(Term(0), |entry| entry.term);
        let term = terms.get(&id.0).map_or(logged, |list| Term(list[0]));
        let hard_state = HardState { term, voted_for: None };
        Recovered { hard_state, entries, ..Recovered::default() }
    };
    let limit = |name: &str, default: usize| {
        command
            .named(name)
            .map_or(Ok(default), str::parse)
            .map_err(|_| format!("{name} is a number"))
    };
    let base = Config::new(id(0), 1);
    let base = Config {
        max_trailing_bytes: limit("trailing", 0)?,
        max_held_bytes: limit("held", 0)?,
        max_inflight_bytes: limit("inflight", base.max_inflight_bytes)?,
        max_message_bytes: limit("message", base.max_message_bytes)?,
        max_inflight_messages: limit("window", base.max_inflight_messages)?,
        max_uncommitted_bytes: limit("uncommitted", base.max_uncommitted_bytes)?,
        max_undurable_bytes: limit("undurable", base.max_undurable_bytes)?,
        max_window_bytes: limit("memory", base.max_window_bytes)?,
        stall_timeout: 1000 * limit("stall", 10_000)? as u64,
        ..base
    };
    let mut cluster = Cluster::with(&configuration, recovered, |id| Config { id, ..base.clone() });
    let chunk_bytes = limit("chunk", 0)? as u32;
    for host in cluster.hosts.values_mut() {
        host.transfers.chunking.chunk_bytes = chunk_bytes;
    }
    Ok(cluster)
}

/// A byte changes on its way.
fn flip(parcel: &mut Parcel) {
    if let Parcel::Chunk { message: ChunkMessage::Chunk { bytes, .. }, .. } = parcel {
        let mut flipped = bytes.bytes().to_vec();
        flipped[0] ^= 1;
        *bytes = Payload::new(flipped);
    }
}

fn draw_effect(id: ReplicaId, effect: &Effect) -> String {
    match effect {
        Effect::Write(write) => {
            let vote = write.hard_state.voted_for.map(|vote| format!(" vote {vote}"));
            let snapshot =
                write.snapshot.as_ref().map(|meta| format!(" snapshot {}", draw_snapshot(meta)));
            format!(
                "{id} writes #{} term {}{}{}{}",
                write.seq,
                write.hard_state.term,
                vote.unwrap_or_default(),
                snapshot.unwrap_or_default(),
                draw_entries(&write.entries),
            )
        }
        Effect::Send(message) => draw_message(message),
        Effect::Apply { entries } => format!("{id} applies{}", draw_entries(entries)),
        Effect::Proposed { index, term, .. } => format!("{id} proposes {index}.{term}"),
        Effect::ReadReady { id: read, index, by_lease } => {
            let by_lease = if *by_lease { " by lease" } else { "" };
            format!("{id} reads #{read} at {index}{by_lease}")
        }
        Effect::Refuse { id: request, reason } => format!("{id} refuses #{request}: {reason:?}"),
        Effect::SendSnapshot { to, at_least, .. } => {
            format!("{id} asks for a snapshot to {to}, {at_least} or later")
        }
        Effect::Restore(meta) => format!("{id} restores {}", draw_snapshot(meta)),
        Effect::Note(Note::BecameLeader { term }) => format!("{id} leads term {term}"),
        Effect::Note(Note::SteppedDown { term }) => format!("{id} steps down from term {term}"),
        Effect::Repair { entries } => format!("{id} repairs{}", draw_entries(entries)),
        Effect::Load { from, bytes } => format!("{id} loads from {from}, {bytes} bytes"),
        Effect::Completed { id: request } => format!("{id} completes #{request}"),
        Effect::Note(Note::Stalled { what }) => format!("{id} stalls: {what:?}"),
        Effect::Note(Note::LeaderChanged { term, leader: Some(leader) }) => {
            format!("{id} knows the leader of term {term}: {leader}")
        }
        Effect::Note(Note::LeaderChanged { term, leader: None }) => {
            format!("{id} knows no leader in term {term}")
        }
    }
}

/// Entries as `index.term`, with their text.
fn draw_entries(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let draw = |entry: &Entry| {
        let text = match entry.kind {
            EntryKind::Normal if entry.payload.is_empty() => String::new(),
            EntryKind::Empty => "=no-op".to_owned(),
            EntryKind::Normal => format!("={}", String::from_utf8_lossy(entry.payload.bytes())),
            EntryKind::Configuration => {
                let readable = Configuration::decode(entry.payload.bytes());
                format!("={}", draw_members(&readable.expect("it can be read")))
            }
        };
        format!("{}.{}{text}", entry.index, entry.term)
    };
    format!(" [{}]", entries.iter().map(draw).collect::<Vec<_>>().join(" "))
}

fn draw_snapshot(meta: &SnapshotMeta) -> String {
    format!("{}.{}{}", meta.index, meta.term, draw_members(&meta.configuration))
}

/// Voters, while joint also the outgoing ones, and learners.
fn draw_members(configuration: &Configuration) -> String {
    let list = |ids: &[ReplicaId]| {
        let words: Vec<String> = ids.iter().map(ToString::to_string).collect();
        words.join(",")
    };
    let part = |sign: &str, ids: &[ReplicaId]| {
        if ids.is_empty() { String::new() } else { format!("{sign}{}", list(ids)) }
    };
    let (outgoing, learners) =
        (part("<-", &configuration.outgoing), part("+", &configuration.learners));
    let lease = match configuration.lease {
        0 => String::new(),
        lease => format!(" lease {} ms", lease / 1000),
    };
    format!("({}{outgoing}{learners}{lease})", list(&configuration.voters))
}

fn draw_configuration(cluster: &Cluster, id: ReplicaId) -> String {
    match &cluster.host(id).raft {
        Some(raft) => format!("{id}: {}", draw_members(raft.configuration())),
        None => format!("{id}: down"),
    }
}

fn draw_message(message: &Message) -> String {
    let body = match &message.body {
        Body::RequestPreVote { last_index, last_term } => {
            format!("RequestPreVote last {last_index}.{last_term}")
        }
        Body::PreVoteReply { granted } => format!("PreVoteReply {}", yes(*granted)),
        Body::RequestVote { last_index, last_term, transfer } => {
            let transfer = if *transfer { " transfer" } else { "" };
            format!("RequestVote last {last_index}.{last_term}{transfer}")
        }
        Body::VoteReply { granted } => format!("VoteReply {}", yes(*granted)),
        Body::AppendEntries { prev_index, prev_term, commit, round, entries } => {
            let round = if *round > 0 { format!(" round {round}") } else { String::new() };
            let entries = draw_entries(entries);
            format!("AppendEntries after {prev_index}.{prev_term}{entries} commit {commit}{round}")
        }
        Body::AppendReply { round, outcome } => {
            let round = if *round > 0 { format!(" round {round}") } else { String::new() };
            match outcome {
                AppendOutcome::Matched { index } => format!("AppendReply matched {index}{round}"),
                AppendOutcome::Conflict { prev_index, hint_index, hint_term } => format!(
                    "AppendReply conflict at {prev_index}, try {hint_index}.{hint_term}{round}"
                ),
            }
        }
        Body::TimeoutNow => "TimeoutNow".to_owned(),
        Body::FetchEntries { places } => {
            let draw = |(index, term): &(Index, Term)| format!("{index}.{term}");
            format!("FetchEntries {}", places.iter().map(draw).collect::<Vec<_>>().join(" "))
        }
        Body::FetchSnapshot { at_least } => format!("FetchSnapshot from {at_least}"),
        Body::FetchedEntries { entries, missing } => {
            let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
            let missing = if missing.is_empty() {
                String::new()
            } else {
                format!(" missing {}", missing.join(" "))
            };
            format!("FetchedEntries{}{missing}", draw_entries(entries))
        }
        Body::ReadIndex { number, .. } => format!("ReadIndex {number}"),
        Body::ReadIndexReply { number, index, .. } => format!("ReadIndexReply {number} at {index}"),
    };
    format!("{}>{} t{} {body}", message.from, message.to, message.term)
}

fn yes(granted: bool) -> &'static str {
    if granted { "granted" } else { "refused" }
}

fn draw_parcel(parcel: &Parcel) -> String {
    match parcel {
        Parcel::Message(message) => draw_message(message),
        Parcel::Snapshot { from, to, term, snapshot } => {
            format!("{from}>{to} t{term} snapshot {}.{}", snapshot.meta.index, snapshot.meta.term)
        }
        Parcel::Chunk { from, to, message } => format!("{from}>{to} {}", draw_chunk(message)),
        Parcel::SnapshotReport { from, to, delivered } => {
            let delivered =
                delivered.map_or("lost".to_owned(), |index| format!("delivered {index}"));
            format!("{from}>{to} snapshot {delivered}")
        }
    }
}

fn draw_chunk(message: &ChunkMessage) -> String {
    match message {
        ChunkMessage::Offer { term, manifest } => {
            let place = transfer::place(&manifest.meta);
            format!("t{term} offers {place} in {} chunks", manifest.chunks())
        }
        ChunkMessage::Chunk { name, number, bytes, .. } => {
            format!("chunk {} of {}.{}, {} bytes", number.0, name.index, name.term, bytes.len())
        }
        ChunkMessage::Have { name, first_missing, above, .. } => {
            let named = (0..64).filter(|bit| above >> bit & 1 == 1);
            let named: Vec<u32> = named.map(|bit| first_missing.0 + 1 + bit).collect();
            let named = if named.is_empty() { String::new() } else { format!(" and {named:?}") };
            format!("has {}.{} below {}{named}", name.index, name.term, first_missing.0)
        }
        ChunkMessage::Durable { name } => format!("durable {}.{}", name.index, name.term),
        ChunkMessage::Refused { name } => format!("refuses {}.{}", name.index, name.term),
    }
}

fn draw_status(cluster: &Cluster, id: ReplicaId) -> String {
    let host = cluster.host(id);
    let Some(raft) = &host.raft else { return format!("{id}: down") };
    let status = raft.status();
    let role = match status.role {
        RoleName::Follower if !status.voter => "learner",
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
    };
    let mut text = format!(
        "{id}: {role} term {} commit {} last {} durable {} log from {}",
        status.term, status.commit, status.last_index, status.durable_index, status.first_index,
    );
    if let Some(held) = status.held_index {
        let _ = write!(text, ", keeps it under snapshot {held}");
    }
    for follower in &status.followers {
        let state = format!("{:?}", follower.state).to_lowercase();
        let (matched, next) = (follower.matched, follower.next);
        let _ = write!(text, "\n   {} {state} matched {matched} next {next}", follower.id);
    }
    text
}

fn draw_log(cluster: &Cluster, id: ReplicaId) -> String {
    let log = &cluster.host(id).asked;
    let entries = draw_entries(&log.entries);
    let damaged: Vec<String> = log.damaged.iter().map(ToString::to_string).collect();
    let damaged =
        if damaged.is_empty() { String::new() } else { format!(" damaged {}", damaged.join(" ")) };
    format!("{id}: after {}.{}{entries}{damaged}", log.snapshot.index, log.snapshot.term)
}
