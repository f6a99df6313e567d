//! The node itself: events in, outputs out, and the order of a turn.
//!
//! A turn is: events are taken (links, clients, writes that became durable), then
//! [`Node::end_turn`] goes round until nothing more follows from anything, and hands out: replies
//! to clients, one row of packets per peer, then the turn's one write. What is due by the clock
//! is run at [`Event::Wake`].

use std::collections::{BTreeMap, BTreeSet};

use flotilla_kv::Machine;
use flotilla_kv::entry::Origin;
use flotilla_raft::{
    Config, Configuration, HardState, Input, Raft, Recovered, ReplicaId, Time, WriteSeq,
};
use flotilla_shard::{FoundingRecord, Layout, META, NodeId, ShardId, SlotMap, StorageId};

use crate::admission::Admissions;
use crate::clock::Clock;
use crate::conns::Conns;
use crate::consensus::APPLIED_PER_TURN;
use crate::founding::{Founding, Here, NodeState};
use crate::gather::Gather;
use crate::io::{ConnId, Event, Notice, Now, Output, WriteBatch};
use crate::leaders::Leaders;
use crate::link::Claims;
use crate::loading::Loading;
use crate::options::Options;
use crate::peers::Peers;
use crate::replica::{Member, Replica};
use crate::replies::Replies;
use crate::snapshots::Snapshots;
use crate::spare::Spare;
use crate::stream::Stream;
use crate::turns::Turns;
use crate::{Boot, Status};

/// While unfounded, the console is told for whom the node waits this often, microseconds.
const WAITING_NOTICE_MICROS: u64 = 2_000_000;

/// A node: one lane's machine.
#[derive(Debug)]
pub struct Node {
    pub(crate) options: Options,
    /// The layout in force: the record's, once there is one.
    pub(crate) layout: Layout,
    /// The id of the disk that this one becomes if it has to become another one.
    pub(crate) fresh_id: StorageId,
    pub(crate) me: NodeId,
    pub(crate) origin: Origin,
    pub(crate) seed: u64,
    pub(crate) started: Now,
    pub(crate) ports: (u16, u16),
    pub(crate) durable_disk: bool,
    /// Whether the log can't grow, since the disk is full.
    pub(crate) lacks_room: bool,
    /// When what is led here is offered to others, since it can't grow.
    pub(crate) offer_at: Time,
    /// Whether this boot's incarnation is durable; before that nothing is sent.
    pub(crate) booted: bool,
    /// Set by a fatal notice: the node takes no part any more.
    pub(crate) stopped: bool,
    pub(crate) founding: Founding,
    /// The shards' state as recovered, until the replicas are made.
    pub(crate) recovered: BTreeMap<ShardId, Recovered>,
    /// Those of them that may have forgotten a promise: what is left of them.
    pub(crate) lost: BTreeSet<ShardId>,
    /// Those of them whose snapshot can't be read.
    stateless: BTreeSet<ShardId>,
    /// Every frame up to this one was found durable at this boot.
    pub(crate) recovered_through: u64,
    /// Every frame up to this one is durable.
    pub(crate) durable_through: u64,
    /// Until then no promise is made, unless all peers have told before what they saw of this disk.
    pub(crate) unsure_until: Option<Time>,
    /// When the replicas here came to life.
    pub(crate) revived_at: Option<Time>,
    /// When what was seen of others was last written down.
    pub(crate) remembered_at: Time,
    pub(crate) admissions: Admissions,
    pub(crate) record: Option<FoundingRecord>,
    pub(crate) map: Option<SlotMap>,
    pub(crate) data_shards: Vec<ShardId>,
    pub(crate) conns: Conns,
    pub(crate) peers: Peers,
    pub(crate) next_dial: u64,
    pub(crate) clock: Clock,
    pub(crate) replicas: BTreeMap<ShardId, Replica>,
    pub(crate) leaders: Leaders,
    pub(crate) claims: Claims,
    pub(crate) streams: BTreeMap<ShardId, Stream>,
    pub(crate) last_seq: u64,
    pub(crate) gathers: BTreeMap<u64, Gather>,
    pub(crate) last_gather: u64,
    pub(crate) snapshots: Snapshots,
    pub(crate) loading: Loading,
    pub(crate) replies: Replies,
    /// Clients with something to decode or to go on with.
    pub(crate) ready: Turns,
    /// Clients that wait for room in a stream.
    pub(crate) held: BTreeSet<ConnId>,
    /// The first of them to be held; its turn comes first.
    pub(crate) first_held: ConnId,
    /// The client that was looked at last for memory it does not need, and when.
    pub(crate) rested: ConnId,
    pub(crate) rested_at: Time,
    /// Memory of commands that are over.
    pub(crate) spare: Spare,
    /// Clients with something to send.
    pub(crate) answered: Turns,
    /// The clocks of the last turn's end.
    pub(crate) last_now: Now,
    /// Whether tables have more to free.
    freeing: bool,
    /// Bytes of entries that may still be applied in this turn as soon as they are committed.
    pub(crate) apply_room: usize,
    /// The shard whose turn it is to apply what earlier turns have left.
    pub(crate) next_backlog: ShardId,
    /// The state of the jitter's generator.
    pub(crate) random: u64,
    pub(crate) writes: Vec<(ShardId, flotilla_raft::Write)>,
    /// Shards to be forgotten, and lost ones that begin anew, with the next write.
    removed: Vec<ShardId>,
    pub(crate) renewed: Vec<ShardId>,
    state_to_write: Option<Vec<u8>>,
    open_write: Option<OpenWrite>,
    last_write: u64,
    waiting_told: Time,
    pub(crate) commands: u64,
    /// Entries repaired since this boot.
    pub(crate) repaired: u64,
    pub(crate) outputs: Vec<Output>,
}

/// The write that the driver has not reported yet.
#[derive(Debug)]
struct OpenWrite {
    sequence: u64,
    node_state: bool,
    seqs: Vec<(ShardId, WriteSeq)>,
}

impl Node {
    /// Starts a node. An error says in words why this disk or layout can't be started with.
    pub fn new(boot: Boot, now: Now) -> Result<Self, String> {
        let address = boot
            .layout
            .address(boot.me)
            .ok_or_else(|| format!("node {} is not in the layout", boot.me))?
            .to_string();
        let mut state = match &boot.node_state {
            Some(bytes) => NodeState::decode(bytes).map_err(|error| error.to_string())?,
            // Who lost all that it was is what a blank disk is; the shards go with it.
            None => NodeState::new(StorageId(boot.storage_id), boot.me, address.clone()),
        };
        let forgotten = boot.node_state.is_none();
        state.forgot |= forgotten && boot.has_past();
        let (unused, removed) = (forgotten || state.clears, std::mem::take(&mut state.clears));
        let found = boot.shards.keys().chain(boot.lost.keys()).copied();
        let removed: Vec<ShardId> = found.filter(|_| removed).collect();
        state.check_sole_replicas(&boot)?;
        if boot.incomplete && !forgotten && !state.founded {
            return Err(
                "the log has lost what this node agreed to while the cluster was founded: \
                 empty its data directory and start it again"
                    .to_string(),
            );
        }
        if state.address != address {
            return Err(format!(
                "the data directory belongs to node {} at {}, and this is {address}: start it \
                 with a directory of its own",
                state.me, state.address
            ));
        }
        // Numbers count by the layout that the disk has agreed to, if it has.
        if state.proposed.is_none() {
            state.me = boot.me;
        }
        let me = state.me;
        state.incarnation += 1;
        let origin =
            Origin { node: me.0, incarnation: state.incarnation, nonce: boot.nonce, lane: 0 };
        state.bury(&boot);
        let state_to_write = Some(state.encode());
        let layout = state.layout_in_force(&boot.layout).clone();
        if layout.address(me) != Some(&address) {
            return Err(format!("node {me} of the list asked for is not {address}"));
        }
        let peers = Peers::of(&layout, me);
        let founding = Founding::new(&boot.layout, me, state);
        let mut node = Self {
            options: boot.options,
            layout,
            fresh_id: StorageId(boot.storage_id),
            me,
            origin,
            seed: boot.seed,
            started: now,
            ports: (boot.cluster_port, boot.http_port),
            durable_disk: boot.durable,
            lacks_room: false,
            offer_at: Time::NEVER,
            booted: false,
            stopped: false,
            founding,
            recovered: BTreeMap::new(),
            lost: BTreeSet::new(),
            stateless: boot.stateless,
            recovered_through: boot.durable_through,
            durable_through: boot.durable_through,
            unsure_until: None,
            revived_at: None,
            remembered_at: now.time,
            admissions: Admissions::default(),
            record: None,
            map: None,
            data_shards: Vec::new(),
            conns: Conns::default(),
            peers,
            next_dial: ConnId::FIRST_DIALED.0,
            clock: Clock::default(),
            replicas: BTreeMap::new(),
            leaders: Leaders::default(),
            claims: Claims { generation: 1, leads: Vec::new() },
            streams: BTreeMap::new(),
            last_seq: 0,
            gathers: BTreeMap::new(),
            last_gather: 0,
            snapshots: Snapshots::default(),
            loading: Loading::default(),
            replies: Replies::default(),
            ready: Turns::default(),
            held: BTreeSet::new(),
            first_held: ConnId(0),
            rested: ConnId(0),
            rested_at: now.time,
            spare: Spare::default(),
            answered: Turns::default(),
            last_now: now,
            freeing: false,
            apply_room: APPLIED_PER_TURN,
            next_backlog: ShardId(0),
            random: boot.seed,
            writes: Vec::new(),
            removed,
            renewed: Vec::new(),
            state_to_write,
            open_write: None,
            last_write: 0,
            waiting_told: Time(0),
            commands: 0,
            repaired: 0,
            outputs: Vec::new(),
        };
        if !unused {
            node.lost = boot.lost.keys().copied().collect();
            node.recovered = boot.shards;
            node.recovered.extend(boot.lost);
        }
        if let Some(record) = node.founding.record().cloned() {
            node.join(record, now);
        }
        node.after_founding(now);
        Ok(node)
    }

    /// Takes one event.
    pub fn handle(&mut self, now: Now, event: Event<'_>) {
        if self.stopped {
            return;
        }
        match event {
            Event::Accepted { conn, face, remote, local } => {
                self.on_accepted(conn, face, remote, local, now);
            }
            Event::Dialed { conn, connected } => self.on_dialed(conn, connected, now),
            Event::Received { conn, bytes } => self.on_received(conn, bytes, now),
            Event::Closed { conn } => self.on_closed(conn, now),
            Event::Ended { conn } => self.on_ended(conn),
            Event::Congested { conn, congested } => self.on_congested(conn, congested),
            Event::Wake => self.run_timers(now),
            Event::Written { sequence, durable_through } => {
                self.durable_through = durable_through;
                self.on_written(sequence, now);
            }
            Event::SnapshotKept { shard, index, slots } => {
                self.on_snapshot_kept(shard, index, &slots);
            }
            Event::Damaged { shard, indexes } => self.step(shard, Input::Damaged { indexes }, now),
            Event::SnapshotDamaged { shard, index } => self.on_snapshot_damaged(shard, index),
            Event::SnapshotAppended { shard } => self.on_snapshot_appended(shard, now),
            Event::SnapshotStored { shard, index } => self.on_snapshot_stored(shard, index, now),
            Event::SnapshotFailed { shard } => self.on_snapshot_failed(shard, now),
            Event::Room { lacks } => self.on_room(lacks, now),
            Event::SnapshotChunk { shard, index, number, result } => {
                self.on_snapshot_chunk(shard, index, number, result, now);
            }
        }
    }

    /// Ends the turn: everything that it decided is appended to `outputs`.
    pub fn end_turn(&mut self, now: Now, outputs: &mut Vec<Output>) {
        self.last_now = now;
        if !self.stopped {
            self.apply_backlog(now);
            self.apply_room = APPLIED_PER_TURN;
            self.watch_loading(now);
            self.settle(now);
            self.walk_snapshot(now);
            self.give_up_late_receivers(now);
            self.send_snapshots_on(now);
            self.free_memory();
            self.rest_idle_clients(now);
            self.flush_clients();
            self.flush_peers(now);
            self.flush_write(now);
        }
        outputs.append(&mut self.outputs);
    }

    /// When [`Event::Wake`] is wanted next.
    pub fn deadline(&self) -> Time {
        if self.stopped {
            return Time::NEVER;
        }
        let rafts = self.replicas.values().filter(|replica| !replica.is_halted());
        let raft = rafts.map(|replica| replica.raft.deadline()).min();
        let stream = self.streams.values().map(Stream::deadline).min();
        let dial = self.next_dial_at();
        let waiting = if self.map.is_none() && self.booted {
            self.waiting_told + WAITING_NOTICE_MICROS
        } else {
            Time::NEVER
        };
        let work = if self.freeing || self.has_work() || self.has_backlog() {
            Time(0)
        } else {
            self.next_walk_at()
        };
        raft.unwrap_or(Time::NEVER)
            .min(stream.unwrap_or(Time::NEVER))
            .min(dial)
            .min(waiting)
            .min(work)
            .min(self.next_sending_at())
            .min(self.offer_at)
            .min(self.next_tick_at())
            .min(self.unsure_until.unwrap_or(Time::NEVER))
            .min(self.next_asking_at())
    }

    /// This node's view of itself and the cluster.
    pub fn status(&self, now: Now) -> Status {
        self.report(now)
    }

    /// Asks the driver to tell the operator something; a fatal notice ends the node.
    pub(crate) fn notice(&mut self, notice: Notice) {
        self.stopped |= matches!(notice, Notice::Fatal(_) | Notice::Restart(_));
        self.outputs.push(Output::Notice(notice));
    }

    /// What the founding has for the disk is part of the turn's write.
    pub(crate) fn log_state(&mut self, state: &NodeState) {
        self.state_to_write = Some(state.encode());
    }

    /// A write of a core is part of the turn's write.
    pub(crate) fn log_write(&mut self, shard: ShardId, write: flotilla_raft::Write) {
        self.writes.push((shard, write));
    }

    /// The cluster is founded, or was: the replicas of this node come to life (P10: only the
    /// record creates them).
    pub(crate) fn join(&mut self, record: FoundingRecord, now: Now) {
        self.notice(Notice::Founded { cluster: record.cluster_id().to_string() });
        self.data_shards = record.shard_ids().filter(|shard| *shard != META).collect();
        let stream = |shard: &ShardId| (*shard, Stream::new(self.options.max_chunk_bytes));
        self.streams = self.data_shards.iter().map(stream).collect();
        self.adopt_layout(&record.layout, now);
        self.map = Some(record.map.clone());
        self.record = Some(record);
        self.begin_asking_peers(now);
        self.hear_earlier_hellos(now);
        self.revive_if_sure(now);
    }

    /// The replicas that live here take part from now on.
    pub(crate) fn revive(&mut self, now: Now) {
        self.unsure_until = None;
        let Some(record) = &self.record else { return };
        let here: Vec<_> = record.replicas_on(self.me).collect();
        for (shard, founder) in here {
            match self.founding.replica(shard) {
                Here::Founder => self.revive_replica(shard, ReplicaId(founder.id), now),
                Here::Later(id) => self.revive_replica(shard, id, now),
                Here::Dead => {}
            }
        }
        self.ask_admission(now);
    }

    /// A replica comes to life, with what the log has of it.
    pub(crate) fn revive_replica(&mut self, shard: ShardId, id: ReplicaId, now: Now) {
        let Some(record) = self.record.take() else { return };
        let replica = self.replica(&record, shard, id, now);
        self.record = Some(record);
        self.replicas.insert(shard, replica);
        if self.stateless.remove(&shard) {
            self.lose_state(shard, "its file can't be used", now);
        }
        self.load_next();
        for peer in self.linked_nodes() {
            self.tell_raft_of_peer(shard, peer, true, now);
        }
    }

    /// From now on the record's layout counts: who was a stranger by another one says hello anew.
    fn adopt_layout(&mut self, layout: &Layout, now: Now) {
        let same = *layout == self.layout;
        for conn in self.conns.links(same) {
            self.outputs.push(Output::Close { conn });
            self.on_closed(conn, now);
        }
        if !same {
            self.layout = layout.clone();
            self.peers = Peers::of(layout, self.me);
        }
    }

    fn replica(
        &mut self,
        record: &FoundingRecord,
        shard: ShardId,
        id: ReplicaId,
        now: Now,
    ) -> Replica {
        let members: Vec<Member> = record
            .replicas_of(shard)
            .iter()
            .map(|member| Member {
                replica: ReplicaId(member.id),
                node: member.node,
                voter: member.voter,
            })
            .collect();
        let mut recovered = self.recovered.remove(&shard).unwrap_or_default();
        if self.lost.remove(&shard) {
            self.renewed.push(shard);
            let last = recovered.entries.last().map(|entry| entry.term);
            let term = last.unwrap_or(recovered.snapshot.term);
            recovered.hard_state = HardState { term, voted_for: None };
        }
        if recovered.snapshot.index.0 == 0 {
            recovered.snapshot.configuration = founding_configuration(&members);
        }
        let mut config = Config::new(id, self.seed ^ u64::from(shard.0) << 32);
        config.election_timeout = self.options.election_timeout_ms * 1_000;
        config.heartbeat_interval = self.options.heartbeat_ms * 1_000;
        config.max_message_bytes = self.options.max_append_bytes;
        // What is kept for those that lag is on the disk of the node, whose shards share that.
        config.max_held_bytes /= record.map.slot_counts().len().max(1);
        let preferred = members.iter().find(|member| member.voter);
        config.campaign_at_start = preferred.is_some_and(|member| member.replica == id);
        let ranges = record.map.ranges_of(shard);
        let machine = Machine::new(record.hash_seed, &ranges);
        let snapshot = recovered.snapshot.clone();
        let raft = Raft::new(config, recovered, now.time);
        Replica::new(shard, id, members, raft, snapshot, machine, record.hash_seed)
    }

    fn on_written(&mut self, sequence: u64, now: Now) {
        let Some(open) = self.open_write.take() else { return };
        assert_eq!(open.sequence, sequence, "writes are reported in order");
        if open.node_state {
            if !self.booted {
                self.booted = true;
                self.begin_asking_peers(now);
            }
            self.founding.on_durable();
            self.after_founding(now);
        }
        for (shard, seq) in open.seqs {
            self.step(shard, Input::Written(seq), now);
        }
    }

    /// One frame of the log for everything of this turn; while one is open the next one gathers.
    fn flush_write(&mut self, now: Now) {
        if self.open_write.is_some() || (self.writes.is_empty() && self.state_to_write.is_none()) {
            return;
        }
        self.remember_sightings(now);
        self.last_write += 1;
        let sequence = self.last_write;
        let node_state = self.state_to_write.take();
        let writes = std::mem::take(&mut self.writes);
        let seqs = writes.iter().map(|(shard, write)| (*shard, write.seq)).collect();
        self.open_write = Some(OpenWrite { sequence, node_state: node_state.is_some(), seqs });
        let (removed, renewed) =
            (std::mem::take(&mut self.removed), std::mem::take(&mut self.renewed));
        let batch = WriteBatch { sequence, node_state, removed, renewed, writes };
        self.outputs.push(Output::Write(batch));
    }

    /// Everything that is due by the clock.
    fn run_timers(&mut self, now: Now) {
        let due: Vec<ShardId> = self
            .replicas
            .values()
            .filter(|replica| !replica.is_halted() && replica.raft.deadline() <= now.time)
            .map(|replica| replica.shard)
            .collect();
        for shard in due {
            self.step(shard, Input::Wake, now);
        }
        self.dial_peers(now);
        self.revive_if_sure(now);
        self.look_for_states(now);
        self.ask_admission(now);
        self.expire_requests(now);
        self.offer_leads(now);
        self.tell_waiting(now);
    }

    fn tell_waiting(&mut self, now: Now) {
        if self.map.is_some() || !self.booted {
            return;
        }
        if now.time.since(self.waiting_told) < WAITING_NOTICE_MICROS && self.waiting_told.0 > 0 {
            return;
        }
        self.waiting_told = now.time;
        let addresses: Vec<String> = self
            .founding
            .waiting_for()
            .into_iter()
            .filter_map(|node| self.layout.address(node).map(ToString::to_string))
            .collect();
        if let Some(obstacle) = self.founding.obstacle() {
            self.notice(Notice::Warning(obstacle));
        } else if !addresses.is_empty() {
            self.notice(Notice::WaitingFor { addresses });
        }
    }

    /// Goes round until nothing more follows: clients' commands, streams, proposals, reads,
    /// answers.
    fn settle(&mut self, now: Now) {
        let mut served = 0;
        for _ in 0..ROUNDS_MAX {
            // The first one is who found a stream full first the last time.
            while let Some(conn) = self.ready.next(self.first_held) {
                self.answered.insert(conn);
                self.drain_client(conn, now);
            }
            self.flush_streams(now);
            self.propose(now);
            self.serve_reads(now);
            served += self.replies.bytes.len();
            self.dispatch(now);
            if !self.has_work() || served >= SERVED_BYTES_PER_TURN {
                break;
            }
        }
    }

    /// Frees a slice of what is no longer part of any table (P15).
    fn free_memory(&mut self) {
        self.freeing = false;
        for replica in self.replicas.values_mut() {
            if let Some(machine) = replica.machine_mut() {
                self.freeing |= !machine.free(FREED_PER_TURN);
            }
        }
    }

    /// Clients that wait for room in a stream may try again.
    pub(crate) fn release_held(&mut self) {
        for conn in std::mem::take(&mut self.held) {
            self.ready.insert(conn);
        }
    }

    /// Whether another round would do something at once.
    fn has_work(&self) -> bool {
        !self.ready.is_empty() || self.has_local_work()
    }

    /// Whether committed entries wait to be applied, for turns to come.
    fn has_backlog(&self) -> bool {
        self.replicas.values().any(Replica::has_backlog)
    }

    fn flush_clients(&mut self) {
        while let Some(conn) = self.answered.next(ConnId(0)) {
            let Some(caller) = self.conns.client_mut(conn) else { continue };
            let mut bytes = Vec::new();
            let close = caller.client.take_output(&mut bytes) || caller.is_over();
            let waits = caller.stalled && caller.client.unread() >= PAUSE_BYTES;
            if waits != caller.paused {
                caller.paused = waits;
                let output = if waits { Output::Pause { conn } } else { Output::Resume { conn } };
                self.outputs.push(output);
            }
            if !bytes.is_empty() {
                if caller.stalled {
                    // Its replies had filled their room, which is free now.
                    self.ready.insert(conn);
                }
                self.outputs.push(Output::Send { conn, bytes });
            }
            if close {
                self.conns.remove(conn);
                self.outputs.push(Output::Close { conn });
            }
        }
    }
}

/// Rounds of one turn; what is left then is for the next, so that sockets get their turn.
const ROUNDS_MAX: usize = 32;

/// A turn whose answers have so many bytes begins no further round: a heartbeat would wait for it.
const SERVED_BYTES_PER_TURN: usize = 16 << 20;

/// Keys freed in a turn, of each table that has some to free.
const FREED_PER_TURN: usize = 256;

/// A client that waits and has sent so much more is not read from, bytes.
const PAUSE_BYTES: usize = 64 << 10;

fn founding_configuration(members: &[Member]) -> Configuration {
    let ids = |voter: bool| {
        let mut ids: Vec<ReplicaId> = members
            .iter()
            .filter(|member| member.voter == voter)
            .map(|member| member.replica)
            .collect();
        ids.sort_unstable();
        ids
    };
    Configuration { voters: ids(true), learners: ids(false), ..Configuration::default() }
}
