//! Founding a cluster (P1): how nodes that were given the same list agree, once, on one record.
//!
//! A node is *blank*, then *proposed*, then *founded*; each step is durable before anybody hears of
//! it, and none is ever taken back. R is the record that follows from the list and all storage ids:
//! a pure function of these.
//!
//! | is | and | becomes |
//! |---|---|---|
//! | blank | all nodes of its list are there, and each is blank or has proposed R | proposed, R |
//! | proposed | all nodes of its list have proposed R | founded, by R |
//! | unfounded | a founded peer's record names its disk under its number | founded, by that |
//! | unfounded | a founded peer's record names its address with another disk | founded, by that, with all its replicas dead (P4) |
//!
//! Invariants:
//! - A disk agrees to one record at most. As a record needs the agreement of every disk in it, two
//!   clusters can't have one disk, and a wiped node can't found a second cluster: the disks that
//!   remember the first never agree to it.
//! - What [`Founding::message`] gives is durable, so nothing is told that a crash takes back.
//! - Node numbers mean something only between nodes whose layouts are the same; to others a node
//!   is a [`Standing::Stranger`], from whom a founded record is taken, by address, and no more.
//!
//! Differs: in one point from P1. A blank node that hears of a proposal with another disk than
//! those that are there stays blank instead of adding a second proposal that can never found
//! either.
//!
//! The host logs the state that it hands to [`Founding::new`], calls the inputs, and carries out
//! the [`Output`]s after each.

mod describe;
mod disks;
mod message;
mod state;

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::collections::{BTreeMap, VecDeque};

use flotilla_shard::{ClusterId, FoundingRecord, Layout, NodeId, StorageId};

use crate::link::{Hello, Sighting};

pub(crate) use disks::{Here, Verdict};
pub(crate) use message::FoundingMessage;
pub(crate) use state::NodeState;

/// A warning that is among the last so many is not repeated.
const REMEMBERED_WARNINGS: usize = 16;

/// The founding, as one node sees it.
#[derive(Clone, Debug)]
pub(crate) struct Founding {
    /// What is to be durable.
    state: NodeState,
    /// What is durable of this boot.
    durable: Option<NodeState>,
    /// What is being made durable.
    logging: Option<NodeState>,
    /// The layout in force: that of the record, once there is one.
    layout: Layout,
    /// The other nodes of the layout.
    peers: BTreeMap<NodeId, Peer>,
    stopped: bool,
    /// The newest that was seen of the other nodes' disks; the state has it from time to time.
    sightings: BTreeMap<NodeId, Sighting>,
    /// This disk has become another one, which is to be durable before anything else is done.
    renewing: Option<String>,
    /// The founded record's name, once somebody has asked: every hello and every packet of a link
    /// is admitted by it, and it is a hash of the whole record.
    cluster: OnceCell<ClusterId>,
    outputs: Vec<Output>,
    warned: VecDeque<String>,
}

/// What the host has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Make this durable in place of the last, then call [`Founding::on_durable`]. Another one
    /// comes only after that.
    Log(NodeState),
    /// Send this over every link whose hellos have been said.
    Announce(FoundingMessage),
    /// The cluster is founded, and this node durably knows it.
    Founded(FoundingRecord),
    /// An operator should know.
    Warning(String),
    /// This node must not go on.
    Fatal(String),
    /// This disk is durably another one now: the node has to begin anew.
    Renewed(String),
}

/// What may pass over a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The other end is the node it says it is. Founding messages may pass, and everything else as
    /// soon as [`Founding::admits`] says so.
    Peer,
    /// The other end is none of this node's list or cluster: this node's message is sent to it, so
    /// that it knows, its founding messages are taken, and nothing else.
    Stranger,
}

/// Another node of the layout.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// How many of its links are up.
    links: u32,
    /// The disk it last said hello with.
    storage_id: Option<StorageId>,
    /// What that disk has told of itself.
    claim: Option<Claim>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Claim {
    Blank,
    Proposed(FoundingRecord),
}

impl Peer {
    /// Its disk, if the node is there now and has told how far it is.
    fn answered(&self) -> Option<StorageId> {
        self.storage_id.filter(|_| self.links > 0 && self.claim.is_some())
    }

    fn proposal(&self) -> Option<&FoundingRecord> {
        match &self.claim {
            Some(Claim::Proposed(record)) => Some(record),
            Some(Claim::Blank) | None => None,
        }
    }
}

/// Inputs.
impl Founding {
    /// Node `me` of `layout`, with `state`, which the host is making durable as it is here.
    ///
    /// Panics if `state` is of another node than the layout's `me`.
    pub(crate) fn new(layout: &Layout, me: NodeId, state: NodeState) -> Self {
        assert!(state.me == me, "a node is started with its own state");
        let in_force = state.layout_in_force(layout).clone();
        assert!(in_force.address(me) == Some(&state.address), "a node has one address");
        let others = in_force.node_ids().filter(|&node| node != me);
        let mut founding = Self {
            logging: Some(state.clone()),
            durable: None,
            peers: others.map(|node| (node, Peer::default())).collect(),
            stopped: false,
            sightings: state.seen.clone(),
            renewing: None,
            cluster: OnceCell::new(),
            outputs: Vec::new(),
            warned: VecDeque::new(),
            state,
            layout: in_force,
        };
        if founding.layout != *layout {
            founding.warn(describe::other_arguments(&founding.layout, layout));
        }
        founding
    }

    /// The last state that was to be logged is durable.
    pub(crate) fn on_durable(&mut self) {
        let Some(state) = self.logging.take() else { return };
        let before = self.message();
        let was_founded = self.durable.as_ref().map_or(state.founded, |durable| durable.founded);
        let newly_founded = state.record().filter(|_| !was_founded).cloned();
        self.durable = Some(state);
        if let Some(message) = self.message().filter(|now| before.as_ref() != Some(now)) {
            self.outputs.push(Output::Announce(message));
        }
        let newly_founded = newly_founded.filter(|_| self.renewing.is_none());
        self.outputs.extend(newly_founded.map(Output::Founded));
        let is_durable = self.durable.as_ref() == Some(&self.state);
        self.outputs.extend(self.renewing.take_if(|_| is_durable).map(Output::Renewed));
        self.log();
        self.advance();
    }

    /// The first packet of a link has arrived. An error says why the link must be closed.
    pub(crate) fn on_hello(&mut self, hello: &Hello) -> Result<Standing, String> {
        self.take_newer_disk(hello);
        let standing = self.standing(hello)?;
        if standing == Standing::Stranger && self.record().is_some() {
            self.warn(describe::stranger(&self.layout, hello));
        }
        if standing == Standing::Peer
            && let Some(peer) = self.peers.get_mut(&hello.from)
        {
            peer.links += 1;
            if peer.storage_id != Some(hello.storage_id) {
                peer.storage_id = Some(hello.storage_id);
                peer.claim = None;
            }
            self.advance();
        }
        Ok(standing)
    }

    /// A link that [`Founding::on_hello`] took with this hello is gone.
    pub(crate) fn on_link_down(&mut self, hello: &Hello) {
        if hello.layout_digest == self.layout_digest()
            && let Some(peer) = self.peers.get_mut(&hello.from)
        {
            peer.links = peer.links.saturating_sub(1);
        }
    }

    /// A founding packet has arrived over a link that began with this hello.
    pub(crate) fn on_message(&mut self, hello: &Hello, message: FoundingMessage) {
        if self.stopped || self.record().is_some() {
            return;
        }
        if let FoundingMessage::Founded(record) = message {
            self.meet_founded(hello, record);
            return;
        }
        if *message.layout() != self.layout {
            self.warn(describe::other_list(&self.layout, message.layout(), hello));
            return;
        }
        let Some(peer) = self.peers.get_mut(&hello.from) else { return };
        let claim = match message {
            FoundingMessage::Proposed(record) => Claim::Proposed(record),
            FoundingMessage::Blank(_) | FoundingMessage::Founded(_) => Claim::Blank,
        };
        let of_its_disk = match &claim {
            Claim::Proposed(record) => record.storage_id(hello.from) == Some(hello.storage_id),
            Claim::Blank => true,
        };
        // A link that a disk since replaced has left behind tells nothing of the present one.
        if of_its_disk && peer.storage_id == Some(hello.storage_id) {
            peer.claim = Some(claim);
            self.advance();
        }
    }

    /// What there is to do since the last call, in order.
    pub(crate) fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }
}

/// Getters.
impl Founding {
    /// What this node tells over a link, right after its hello. `None` before its state is durable,
    /// when it must not send a byte, and when it has stopped.
    pub(crate) fn message(&self) -> Option<FoundingMessage> {
        let durable = self.durable.as_ref().filter(|state| !self.stopped && !state.forgot)?;
        Some(match (&durable.proposed, durable.founded) {
            (None, _) => FoundingMessage::Blank(self.layout.clone()),
            (Some(record), false) => FoundingMessage::Proposed(record.clone()),
            (Some(record), true) => FoundingMessage::Founded(record.clone()),
        })
    }

    /// The record, once the cluster is founded and this node durably knows it: at once after a boot
    /// of a founded node, else from [`Output::Founded`] on.
    pub(crate) fn record(&self) -> Option<&FoundingRecord> {
        // Before the first write of this boot is durable, what was read from the disk counts.
        self.durable.as_ref().or(self.logging.as_ref()).and_then(NodeState::record)
    }

    /// The digest of the layout in force, for the hello.
    pub(crate) fn layout_digest(&self) -> [u8; 32] {
        self.layout.digest()
    }

    /// Whether what is no founding message may pass over a link that began with this hello: both
    /// ends are nodes of one founded cluster, on the newest disks that are known of them.
    pub(crate) fn admits(&self, hello: &Hello) -> bool {
        self.record().is_some_and(|record| {
            self.disk_of(hello.from) == Some((hello.disk, hello.storage_id))
                && hello.cluster.is_none_or(|cluster| cluster == self.cluster_of(record))
        })
    }

    /// The name of the founded record, computed once.
    fn cluster_of(&self, record: &FoundingRecord) -> ClusterId {
        *self.cluster.get_or_init(|| record.cluster_id())
    }

    /// The nodes that have not answered yet; none once founded.
    pub(crate) fn waiting_for(&self) -> Vec<NodeId> {
        if self.state.founded {
            return Vec::new();
        }
        let own = self.state.proposed.as_ref();
        let waits = self.peers.iter().filter(|(_, peer)| {
            let agreed = own.is_some() && peer.proposal() == own;
            !agreed && peer.answered().is_none()
        });
        waits.map(|(&node, _)| node).collect()
    }

    /// Why the cluster can't be founded although every node is there, and what to do, for the
    /// console. It may be over in a moment, when a peer that is founded already has told so.
    pub(crate) fn obstacle(&self) -> Option<String> {
        if self.state.founded || self.durable.is_none() {
            return None;
        }
        if self.state.forgot {
            return Some(describe::forgot(&self.layout, self.state.me));
        }
        let ids = self.storage_ids()?;
        if let Some(twins) = twins(&ids) {
            return Some(describe::twins(&self.layout, twins));
        }
        let peers = self.peers.iter().filter_map(|(&node, peer)| Some((node, peer.proposal()?)));
        let own = self.state.proposed.as_ref().map(|record| (self.state.me, record));
        let proposals: BTreeMap<NodeId, &FoundingRecord> = peers.chain(own).collect();
        let first = *proposals.values().next()?;
        let contradict = |record: &&FoundingRecord| record.storage_ids != ids || **record != *first;
        let contradicted = proposals.values().any(contradict);
        contradicted.then(|| describe::obstacle(&self.layout, &ids, &proposals))
    }
}

impl Founding {
    /// Takes every step that is possible now.
    fn advance(&mut self) {
        if self.stopped || self.durable.is_none() || self.state.founded || self.state.forgot {
            return;
        }
        if self.state.proposed.is_none()
            && let Some(ids) = self.storage_ids().filter(|ids| twins(ids).is_none())
        {
            let record = FoundingRecord::build(self.layout.clone(), ids);
            let proposals = self.peers.values().filter_map(Peer::proposal);
            if proposals.into_iter().all(|proposal| *proposal == record) {
                self.state.proposed = Some(record);
            }
        }
        if let Some(own) = &self.state.proposed
            && self.peers.values().all(|peer| peer.proposal() == Some(own))
        {
            self.state.founded = true;
        }
        self.log();
    }

    /// A founded peer's record counts, if it names this disk.
    fn meet_founded(&mut self, hello: &Hello, record: FoundingRecord) {
        let state = &self.state;
        let Some(me) = record.layout.node_at(&state.address) else {
            let text = describe::not_a_member(&record, &state.address);
            self.warn(text);
            return;
        };
        let known = record.storage_id(me).expect("a record has an id for every node");
        if known != state.storage_id {
            self.replace_wiped(me, hello, record);
        } else if me != state.me {
            self.stop(describe::renumbered(&record, me));
        } else if state.proposed.as_ref().is_some_and(|own| *own != record) {
            self.stop(describe::other_promise(&record, hello.from));
        } else if !state.founded || state.proposed.as_ref() != Some(&record) {
            if record.layout != self.layout {
                let text = describe::other_arguments(&record.layout, &self.layout);
                self.warn(text);
            }
            self.layout = record.layout.clone();
            self.state.proposed = Some(record);
            self.state.founded = true;
            self.log();
        }
    }

    /// Every node's disk, in the layout's order, if all nodes are there and have told.
    fn storage_ids(&self) -> Option<Vec<StorageId>> {
        let id = |node: NodeId| match self.peers.get(&node) {
            Some(peer) => peer.answered(),
            None => Some(self.state.storage_id),
        };
        self.layout.node_ids().map(id).collect()
    }

    /// Who is at the other end of a link, or why it must be closed.
    fn standing(&self, hello: &Hello) -> Result<Standing, String> {
        if hello.storage_id == self.state.storage_id {
            return Err(describe::own_disk(&self.layout, hello));
        }
        if let (Some(record), Some(cluster)) = (self.record(), hello.cluster)
            && self.cluster_of(record) != cluster
        {
            return Err(describe::other_cluster(self.cluster_of(record), cluster, hello));
        }
        if hello.layout_digest != self.layout_digest() {
            return Ok(Standing::Stranger);
        }
        if hello.to != self.state.me || !self.peers.contains_key(&hello.from) {
            return Err(describe::wrong_number(self.state.me, hello));
        }
        let known = self.record().and_then(|_| self.disk_of(hello.from));
        match known {
            Some(known) if known != (hello.disk, hello.storage_id) => Ok(Standing::Stranger),
            Some(_) if self.is_older_boot(hello) => Ok(Standing::Stranger),
            _ => Ok(Standing::Peer),
        }
    }

    /// Logs the state if it changed; one at a time, so that it is clear which one is durable.
    fn log(&mut self) {
        if self.logging.is_none() && self.durable.as_ref() != Some(&self.state) {
            self.logging = Some(self.state.clone());
            self.outputs.push(Output::Log(self.state.clone()));
        }
    }

    fn stop(&mut self, reason: String) {
        self.stopped = true;
        self.outputs.push(Output::Fatal(reason));
    }

    fn warn(&mut self, text: String) {
        if self.warned.contains(&text) {
            return;
        }
        self.warned.truncate(REMEMBERED_WARNINGS - 1);
        self.warned.push_front(text.clone());
        self.outputs.push(Output::Warning(text));
    }
}

/// Two nodes with one disk: somebody copied a folder.
fn twins(ids: &[StorageId]) -> Option<(NodeId, NodeId)> {
    let mut seen = BTreeMap::new();
    ids.iter().enumerate().find_map(|(position, &id)| {
        let node = NodeId::at(position);
        seen.insert(id, node).map(|first| (first, node))
    })
}
