//! The connections of a node: clients, links to other nodes, and those that have not said yet.

use std::collections::BTreeMap;

use flotilla_kv::command::Spec;
use flotilla_shard::{NodeId, ShardId};

use crate::client::{Client, Connected};
use crate::io::ConnId;
use crate::link::{FrameNumber, FrameReader, Hello, Purpose};

/// One connection.
#[derive(Debug)]
pub(crate) enum Conn {
    /// Accepted on the plain port; its first bytes will tell what it is.
    Unknown(Box<Newcomer>),
    /// A client.
    Client(Box<Caller>),
    /// A link to another node.
    Link(Box<Link>),
}

/// A connection that has not said yet what it is. It is boxed as the others are: there are many
/// connections, and a place in their map is as large as the largest kind.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// What is known of it.
    pub(crate) connected: Connected,
    /// What it sent so far.
    pub(crate) buffer: Vec<u8>,
}

/// A client and what it waits for.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Its front end.
    pub(crate) client: Client,
    /// A command that must wait for earlier ones.
    pub(crate) parked: Option<&'static Spec>,
    /// What it has open, by shard.
    pub(crate) open: OpenByShard,
    /// Whether it waits for replies before it may go on.
    pub(crate) stalled: bool,
    /// Whether the driver was asked to stop reading from it.
    pub(crate) paused: bool,
    /// Whether it sends no more.
    pub(crate) ended: bool,
    /// Whether replies pile up that it does not read.
    pub(crate) congested: bool,
}

impl Caller {
    /// Gives back the memory that an idle client does not need. One with a parked command is not
    /// idle, however long it has been silent: the command's arguments are in those buffers.
    pub(crate) fn rest(&mut self) {
        if self.parked.is_none() && !self.stalled {
            self.client.rest();
            self.open.rest();
        }
    }

    /// Whether a reply may let it go on: a command waits, or bytes that were not looked at.
    pub(crate) fn may_go_on(&self) -> bool {
        self.stalled || self.parked.is_some() || self.client.unread() > 0
    }

    /// Whether it sends no more and waits for nothing: half a request is none.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && !self.stalled && self.parked.is_none() && self.client.pending() == 0
    }
}

/// What a client has open, by shard. Most clients speak of few, and of many clients most do
/// nothing: a short list is found through faster than a tree, and takes a tenth of its memory.
#[derive(Debug, Default)]
pub(crate) struct OpenByShard(Vec<(ShardId, OpenRequests)>);

impl OpenByShard {
    /// What is open in a shard, if anything was.
    pub(crate) fn get(&self, shard: ShardId) -> Option<&OpenRequests> {
        let place = self.place(shard).ok()?;
        Some(&self.0[place].1)
    }

    /// What is open in a shard, if anything was.
    pub(crate) fn get_mut(&mut self, shard: ShardId) -> Option<&mut OpenRequests> {
        let place = self.place(shard).ok()?;
        Some(&mut self.0[place].1)
    }

    /// What is open in a shard, or will be.
    pub(crate) fn of(&mut self, shard: ShardId) -> &mut OpenRequests {
        let place = self.place(shard).unwrap_or_else(|place| {
            if self.0.is_empty() {
                self.0.reserve_exact(1);
            }
            self.0.insert(place, (shard, OpenRequests::default()));
            place
        });
        &mut self.0[place].1
    }

    /// Forgets all shards, if nothing is open in any.
    pub(crate) fn rest(&mut self) {
        if self.0.iter().all(|(_, open)| open.reads + open.writes == 0) {
            self.0 = Vec::new();
        }
    }

    /// Where a shard is, or belongs.
    fn place(&self, shard: ShardId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&shard, |(shard, _)| *shard)
    }
}

/// What a client has open in one shard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenRequests {
    /// Reads not answered.
    pub(crate) reads: u32,
    /// Writes not settled.
    pub(crate) writes: u32,
    /// The last of those writes.
    pub(crate) last_write: u64,
}

/// A connection with another node.
#[derive(Debug)]
pub(crate) struct Link {
    /// Puts its packets together.
    pub(crate) reader: FrameReader,
    /// The number of the frame that this side sends next.
    pub(crate) next_frame: FrameNumber,
    /// To which node: known at once where this node dialled, else from its hello.
    pub(crate) node: Option<NodeId>,
    /// What it is for.
    pub(crate) purpose: Purpose,
    /// The other side's hello.
    pub(crate) hello: Option<Hello>,
    /// Whether the other side is no node of this node's list or cluster.
    pub(crate) stranger: bool,
    /// Bytes that came before its hello was whole.
    pub(crate) unproven: usize,
    /// Whether this node dialled.
    pub(crate) dialed: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    map: BTreeMap<ConnId, Conn>,
    clients: u64,
}

impl Conns {
    /// Adds a connection.
    pub(crate) fn insert(&mut self, id: ConnId, conn: Conn) {
        self.clients += u64::from(matches!(conn, Conn::Client(_)));
        if let Some(Conn::Client(_)) = self.map.insert(id, conn) {
            self.clients -= 1;
        }
    }

    /// Forgets a connection.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let conn = self.map.remove(&id);
        self.clients -= u64::from(matches!(conn, Some(Conn::Client(_))));
        conn
    }

    /// Any connection.
    pub(crate) fn any_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.map.get_mut(&id)
    }

    /// A client.
    pub(crate) fn client(&self, id: ConnId) -> Option<&Caller> {
        match self.map.get(&id) {
            Some(Conn::Client(caller)) => Some(caller),
            _ => None,
        }
    }

    /// A client.
    pub(crate) fn client_mut(&mut self, id: ConnId) -> Option<&mut Caller> {
        match self.map.get_mut(&id) {
            Some(Conn::Client(caller)) => Some(caller),
            _ => None,
        }
    }

    /// A link.
    pub(crate) fn link(&self, id: ConnId) -> Option<&Link> {
        match self.map.get(&id) {
            Some(Conn::Link(link)) => Some(link),
            _ => None,
        }
    }

    /// A link.
    pub(crate) fn link_mut(&mut self, id: ConnId) -> Option<&mut Link> {
        match self.map.get_mut(&id) {
            Some(Conn::Link(link)) => Some(link),
            _ => None,
        }
    }

    /// The links: all, or those to strangers only.
    pub(crate) fn links(&self, strangers_only: bool) -> Vec<ConnId> {
        let wanted = |(id, conn): (&ConnId, &Conn)| match conn {
            Conn::Link(link) => (link.stranger || !strangers_only).then_some(*id),
            Conn::Client(_) | Conn::Unknown(_) => None,
        };
        self.map.iter().filter_map(wanted).collect()
    }

    /// The links with a node that are for snapshots.
    pub(crate) fn snapshot_links(&self, node: NodeId) -> Vec<ConnId> {
        let wanted = |(id, conn): (&ConnId, &Conn)| match conn {
            Conn::Link(link) => {
                (link.node == Some(node) && link.purpose == Purpose::Snapshots).then_some(*id)
            }
            Conn::Client(_) | Conn::Unknown(_) => None,
        };
        self.map.iter().filter_map(wanted).collect()
    }

    /// The connections before `last`, the newest first and so many at most, for those of them that
    /// are clients; and which the last one was, `None` if there was none. Against the order of
    /// their numbers, since newcomers would keep a walk along it from ever ending.
    pub(crate) fn earlier_clients(
        &mut self,
        last: ConnId,
        count: usize,
        mut each: impl FnMut(&mut Caller),
    ) -> Option<ConnId> {
        let mut reached = None;
        for (id, conn) in self.map.range_mut(..last).rev().take(count) {
            reached = Some(*id);
            if let Conn::Client(caller) = conn {
                each(caller);
            }
        }
        reached
    }

    /// Every client.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &Caller> {
        self.map.values().filter_map(|conn| match conn {
            Conn::Client(caller) => Some(caller.as_ref()),
            Conn::Unknown(_) | Conn::Link(_) => None,
        })
    }

    /// How many clients there are.
    pub(crate) fn client_count(&self) -> u64 {
        self.clients
    }
}

#[cfg(test)]
mod tests {
    use flotilla_raft::Time;

    use super::*;
    use crate::client::Next;
    use crate::{Face, Now, Options};

    /// A client that has just connected.
    fn caller() -> Caller {
        let now = Now { time: Time(0), wall_ms: 0 };
        let (remote, local) = (String::new(), String::new());
        let connected = Connected { id: 1, face: Face::Plain, remote, local };
        Caller {
            client: Client::new(connected, &Options::default(), now),
            parked: None,
            open: OpenByShard::default(),
            stalled: false,
            paused: false,
            ended: false,
            congested: false,
        }
    }

    #[test]
    fn a_parked_command_keeps_its_arguments() {
        let (options, now) = (Options::default(), Now { time: Time(0), wall_ms: 0 });
        let mut caller = caller();
        caller.client.feed(b"GET key\r\n", now);
        let Next::Command(spec) = caller.client.next(&options) else { panic!("a whole command") };
        (caller.parked, caller.stalled) = (Some(spec), true);
        caller.rest();
        assert_eq!(caller.client.args().get(1), Some(&b"key"[..]));
        (caller.parked, caller.stalled) = (None, false);
        caller.rest();
        assert_eq!(caller.client.args().len(), 0);
    }

    #[test]
    fn a_walk_over_all_clients_ends_however_many_come_meanwhile() {
        let mut conns = Conns::default();
        let mut newest = 0;
        let mut connect = |conns: &mut Conns, count| {
            for _ in 0..count {
                newest += 1;
                conns.insert(ConnId(newest), Conn::Client(Box::new(caller())));
            }
        };
        connect(&mut conns, 10);
        let mut last = ConnId(u64::MAX);
        let mut seen = 0;
        for _ in 0..5 {
            let reached = conns.earlier_clients(last, 2, |_| seen += 1);
            last = reached.expect("not all were seen yet");
            connect(&mut conns, 3);
        }
        assert_eq!((seen, last), (10, ConnId(1)));
        assert_eq!(conns.earlier_clients(last, 2, |_| seen += 1), None);
        assert_eq!(seen, 10);
    }

    #[test]
    fn what_is_open_is_found_by_shard_and_forgotten_when_nothing_is() {
        let mut open = OpenByShard::default();
        for shard in [3, 1, 2, 1] {
            open.of(ShardId(shard)).reads += 1;
        }
        assert_eq!(open.get(ShardId(1)).map(|open| open.reads), Some(2));
        assert!(open.get(ShardId(4)).is_none() && open.get_mut(ShardId(0)).is_none());
        open.rest();
        for (shard, reads) in [(1, 2), (2, 1), (3, 1)] {
            open.get_mut(ShardId(shard)).expect("something is open").reads -= reads;
        }
        open.rest();
        assert!(open.get(ShardId(1)).is_none());
    }
}
