//! From a client's command to requests of shards.
//!
//! A command with one key is one request. One over several slots is split by slot (P8), its parts
//! for one shard joined into one atomic entry, and its replies combined. Keyless commands go to
//! every shard on the plain port and to the shards led here on the cluster port.
//!
//! Order (P8): a write waits at its client's head of line while a read of the same client in the
//! same shard is open; a read carries the last open write of its client in that shard.

use flotilla_kv::args::{Args, ArgsBuf};
use flotilla_kv::command::{Combine, Part, Reach, Spec, split};
use flotilla_kv::entry::WHOLE_SHARD;
use flotilla_kv::keyspace::{cursor_at, cursor_slot};
use flotilla_shard::{META, SLOTS, ShardId, Slot, SlotMap};
use smallvec::{SmallVec, smallvec};

use crate::client::Next;
use crate::forward::NOT_SERVED;
use crate::gather::Gather;
use crate::io::{ConnId, Face, Now};
use crate::node::Node;
use crate::spare::Spare;
use crate::stream::{Read, ReplyTo};

/// One request that a command becomes.
#[derive(Debug)]
struct Request {
    shard: ShardId,
    slot: u16,
    args: ArgsBuf,
    positions: Vec<u32>,
}

type Requests = SmallVec<[Request; 1]>;

impl Request {
    /// All of a command.
    fn whole(shard: ShardId, slot: u16, args: ArgsBuf) -> Self {
        Self { shard, slot, args, positions: Vec::new() }
    }
}

/// What a command becomes.
enum Plan {
    /// Requests, and how their replies combine; `None` for a single one.
    Requests(Requests, Option<Combine>),
    /// A reply at once.
    Reply(Vec<u8>),
}

impl Node {
    /// Executes the commands a client has sent, until it has none or must wait.
    pub(crate) fn drain_client(&mut self, conn: ConnId, now: Now) {
        loop {
            let Some(caller) = self.conns.client_mut(conn) else { return };
            caller.stalled = caller.congested;
            if caller.congested {
                return;
            }
            let spec = match caller.parked.take() {
                Some(spec) => spec,
                None => match caller.client.next(&self.options) {
                    Next::Command(spec) => {
                        self.commands += 1;
                        spec
                    }
                    Next::Full => {
                        caller.stalled = true;
                        return;
                    }
                    Next::Idle | Next::Closing => return,
                },
            };
            if !self.start_command(conn, spec, now) {
                if let Some(caller) = self.conns.client_mut(conn) {
                    caller.parked = Some(spec);
                    caller.stalled = true;
                }
                return;
            }
        }
    }

    /// Starts one command; false if its client must wait first.
    fn start_command(&mut self, conn: ConnId, spec: &'static Spec, now: Now) -> bool {
        if spec.reach == Reach::Node {
            self.execute_local(conn, spec, now);
            return true;
        }
        let mut spare = std::mem::take(&mut self.spare);
        let plan = self.plan(conn, spec, &mut spare);
        self.spare = spare;
        match plan {
            Plan::Reply(reply) => {
                if let Some(caller) = self.conns.client_mut(conn) {
                    caller.client.reply(&reply);
                }
                true
            }
            Plan::Requests(requests, combine) => {
                if self.must_wait(conn, spec, &requests) {
                    return false;
                }
                self.send_requests(conn, spec, requests, combine, now);
                true
            }
        }
    }

    /// Which requests a command becomes.
    fn plan(&self, conn: ConnId, spec: &'static Spec, spare: &mut Spare) -> Plan {
        let Some(caller) = self.conns.client(conn) else { return Plan::Reply(Vec::new()) };
        let (args, face) = (caller.client.args(), caller.client.face());
        let Some(map) = &self.map else {
            return Plan::Reply(b"-LOADING the cluster is not founded yet\r\n".to_vec());
        };
        match spec.reach {
            Reach::Node => Plan::Reply(Vec::new()),
            Reach::EveryShardRead(combine) | Reach::EveryShardWrite(combine) => {
                self.plan_every_shard(args, face, combine)
            }
            Reach::Scan => self.plan_scan(args, face, map),
            Reach::Read | Reach::Write => self.plan_keyed(spec, args, face, map, spare),
        }
    }

    /// A keyless command: to every shard, or on the cluster port to those led here.
    fn plan_every_shard(&self, args: Args<'_>, face: Face, combine: Combine) -> Plan {
        let shards = match face {
            Face::Plain => self.data_shards.clone(),
            Face::Cluster => self.shards_led_here(),
        };
        let copy = || ArgsBuf::from(args);
        let requests = shards.into_iter().map(|shard| Request::whole(shard, WHOLE_SHARD, copy()));
        Plan::Requests(requests.collect(), Some(combine))
    }

    /// `SCAN`: to the shard that owns the cursor's slot, or the next slot that is served here.
    fn plan_scan(&self, args: Args<'_>, face: Face, map: &SlotMap) -> Plan {
        let cursor = args.get(1).and_then(parse_cursor).unwrap_or(0);
        let from = cursor_slot(cursor).unwrap_or(Slot(0));
        let led = self.shards_led_here();
        let owner = |slot: u16| {
            let shard = map.owner(Slot(slot))?;
            (face == Face::Plain || led.contains(&shard)).then_some((Slot(slot), shard))
        };
        let Some((slot, shard)) = (from.0..SLOTS).find_map(owner) else {
            return Plan::Reply(b"*2\r\n$1\r\n0\r\n*0\r\n".to_vec());
        };
        let mut request = Request::whole(shard, WHOLE_SHARD, args.into());
        if slot != from {
            let first = cursor_at(slot).to_string();
            let mut words: Vec<&[u8]> = args.iter().collect();
            words[1] = first.as_bytes();
            request.args = ArgsBuf::from_slices(&words);
        }
        Plan::Requests(smallvec![request], None)
    }

    /// A command with keys: one request where they share a slot, else one for each slot.
    fn plan_keyed(
        &self,
        spec: &'static Spec,
        args: Args<'_>,
        face: Face,
        map: &SlotMap,
        spare: &mut Spare,
    ) -> Plan {
        let one_slot = match spec.one_slot(args) {
            Ok(one_slot) => one_slot,
            Err(error) => return Plan::Reply(format!("-{error}\r\n").into_bytes()),
        };
        if let Some(slot) = one_slot {
            let Some(shard) = map.owner(slot) else { return Plan::Reply(NOT_SERVED.to_vec()) };
            if face == Face::Cluster
                && let Some(moved) = self.moved(slot, shard)
            {
                return Plan::Reply(moved);
            }
            let request = Request::whole(shard, slot.0, spare.copy(args));
            return Plan::Requests(smallvec![request], None);
        }
        let Some(combine) = spec.combine.filter(|_| face == Face::Plain) else {
            return Plan::Reply(
                b"-CROSSSLOT Keys in request don't hash to the same slot\r\n".to_vec(),
            );
        };
        let parts = split(spec, args).unwrap_or_default();
        let request = |part: Part| {
            let (slot, args, positions) = (part.slot.0, part.args, part.positions);
            Some(Request { shard: map.owner(part.slot)?, slot, args, positions })
        };
        let Some(mut requests) = parts.into_iter().map(request).collect::<Option<Requests>>()
        else {
            return Plan::Reply(NOT_SERVED.to_vec());
        };
        // The parts of a shard stand together, to be joined into one entry.
        requests.sort_by_key(|request| request.shard);
        Plan::Requests(requests, Some(combine))
    }

    /// Whether a command can't go yet: a shard has too much open, or it is a write behind reads.
    fn must_wait(&mut self, conn: ConnId, spec: &Spec, requests: &[Request]) -> bool {
        let (commands, bytes) =
            (self.options.max_unsettled_commands, self.options.max_unsettled_bytes);
        let full = requests.iter().any(|request| {
            self.streams.get(&request.shard).is_some_and(|stream| stream.is_full(commands, bytes))
        });
        if full {
            if self.held.is_empty() {
                self.first_held = conn;
            }
            self.held.insert(conn);
        }
        let Some(caller) = self.conns.client(conn) else { return false };
        let behind_reads = spec.is_write()
            && requests
                .iter()
                .any(|request| caller.open.get(request.shard).is_some_and(|open| open.reads > 0));
        full || behind_reads
    }

    fn send_requests(
        &mut self,
        conn: ConnId,
        spec: &Spec,
        requests: Requests,
        combine: Option<Combine>,
        now: Now,
    ) {
        let Some(caller) = self.conns.client_mut(conn) else { return };
        if requests.is_empty() && spec.is_write() {
            caller.client.reply(b"-READONLY You can't write against a read only replica.\r\n");
            return;
        }
        if requests.is_empty() {
            let mut reply = Vec::new();
            combine.unwrap_or(Combine::Concat).replies(&[], &mut reply);
            caller.client.reply(&reply);
            return;
        }
        let place = caller.client.defer();
        let deadline = now.time + self.options.hold_ms * 1_000;
        let mut gather = None;
        if let Some(combine) = combine {
            let positions = requests.iter().map(|request| request.positions.clone()).collect();
            self.last_gather += 1;
            gather = Some(self.last_gather);
            self.gathers
                .insert(self.last_gather, Gather::new(place, spec.is_write(), combine, positions));
        }
        let shards: SmallVec<[ShardId; 1]> = requests.iter().map(|request| request.shard).collect();
        for (part, request) in requests.into_iter().enumerate() {
            let Request { shard, slot, args, .. } = request;
            let reply_to = match gather {
                Some(gather) => ReplyTo::Part { conn, gather, part },
                None => ReplyTo::Client { conn, place },
            };
            let Some(caller) = self.conns.client_mut(conn) else { return };
            let open = caller.open.of(shard);
            let Some(stream) = self.streams.get_mut(&shard) else { continue };
            let generation = 0;
            if spec.is_write() {
                self.last_seq += 1;
                let seq = self.last_seq;
                open.writes += 1;
                open.last_write = seq;
                let joined = shards.get(part + 1) == Some(&shard);
                stream.push_write(seq, (slot, generation), joined, args, reply_to, deadline);
            } else {
                open.reads += 1;
                let after_seq = if open.writes > 0 { open.last_write } else { 0 };
                stream.push_read(Read { slot, generation, after_seq, args, reply_to, deadline });
            }
        }
    }

    /// A request of a client has its reply, or will never have one.
    pub(crate) fn deliver(&mut self, shard: ShardId, to: ReplyTo, write: bool, reply: &[u8]) {
        let conn = to.conn();
        if let Some(caller) = self.conns.client_mut(conn) {
            if let Some(open) = caller.open.get_mut(shard) {
                let count = if write { &mut open.writes } else { &mut open.reads };
                *count = count.saturating_sub(1);
            }
            if let ReplyTo::Client { place, .. } = to {
                caller.client.fill(place, reply);
            }
            self.answered.insert(conn);
            if caller.may_go_on() {
                self.ready.insert(conn);
            }
        }
        if let ReplyTo::Part { gather: id, part, .. } = to
            && let Some(gather) = self.gathers.get_mut(&id)
            && gather.answer(part, reply)
        {
            let mut whole = Vec::new();
            gather.combined(&mut whole);
            let place = gather.place;
            self.gathers.remove(&id);
            if let Some(caller) = self.conns.client_mut(conn) {
                caller.client.fill(place, &whole);
            }
        }
    }

    /// The redirection to the leader of a slot's shard, if that is known to be another node, and
    /// one within reach: else the request is held here.
    fn moved(&self, slot: Slot, shard: ShardId) -> Option<Vec<u8>> {
        let leader = self.leaders.get(shard).1.filter(|leader| self.peers.is_linked(*leader))?;
        let (ip, port) = self.cluster_address(leader)?;
        Some(format!("-MOVED {slot} {ip}:{port}\r\n").into_bytes())
    }

    /// The data shards that this node leads.
    pub(crate) fn shards_led_here(&self) -> Vec<ShardId> {
        let led = self.replicas.values().filter(|replica| replica.lead.is_some());
        led.map(|replica| replica.shard).filter(|shard| *shard != META).collect()
    }
}

fn parse_cursor(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}
