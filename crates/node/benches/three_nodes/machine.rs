//! One node with its log and its disk, and what happens to it.

use flotilla_node::{Boot, ConnId, Event, Face, Node, Now, Options, Output};
use flotilla_shard::{Layout, NodeId};
use flotilla_storage::{AlignedBuffer, Disk as _, FrameWrite, Log, MemoryDisk};

/// No run is so long that a snapshot is due: what they cost is another measure.
const NO_SNAPSHOT_BYTES: u64 = 1 << 40;

/// What has happened since the last turn.
pub(super) enum Incoming {
    Accepted { conn: ConnId, face: Face, remote: String, local: String },
    Dialed { conn: ConnId },
    Closed { conn: ConnId },
    Received { conn: ConnId, bytes: Vec<u8> },
    Written { batch: u64, frame: u64, data: AlignedBuffer },
}

/// A node and what it runs on.
pub(super) struct Machine {
    pub(super) node: Node,
    log: Log,
    disk: MemoryDisk,
    pub(super) inbox: Vec<Incoming>,
    pub(super) outputs: Vec<Output>,
    /// The frame of the last turn, and the number of the batch in it.
    frame: Option<(u64, FrameWrite)>,
    accepted: u64,
}

impl Machine {
    /// A node with a blank disk.
    pub(super) fn new(layout: Layout, me: NodeId, now: Now) -> Self {
        Self::start(MemoryDisk::new(), layout, me, now)
    }

    /// A node with what there is on its disk.
    pub(super) fn start(mut disk: MemoryDisk, layout: Layout, me: NodeId, now: Now) -> Self {
        let seed = u64::from(me.0);
        let recovered = Log::recover(&mut disk, flotilla_storage::Options::default(), seed);
        let (log, lane) = recovered.expect("nothing has damaged the disk");
        let options = Options { snapshot_log_bytes: NO_SNAPSHOT_BYTES, ..Options::default() };
        let boot = Boot {
            layout,
            me,
            node_state: lane.node_state,
            lost: lane.lost,
            shards: lane.shards,
            incomplete: lane.incomplete,
            durable_through: lane.durable_through,
            stateless: [].into(),
            storage_id: [me.0 as u8; 16],
            nonce: seed,
            seed,
            cluster_port: 0,
            http_port: 0,
            durable: true,
            options,
        };
        Self {
            node: Node::new(boot, now).expect("the disk is this node's"),
            log,
            disk,
            inbox: Vec::new(),
            outputs: Vec::new(),
            frame: None,
            accepted: 0,
        }
    }

    /// Ends at once, as if its process were killed; what was written stays.
    #[allow(dead_code, reason = "only one of the benches starts a node again")]
    pub(super) fn into_disk(self) -> MemoryDisk {
        self.disk
    }

    /// The number of the next connection that is accepted here.
    pub(super) fn next_accepted(&mut self) -> ConnId {
        self.accepted += 1;
        ConnId(self.accepted)
    }

    /// One turn, as a lane of the server takes it: this is what is measured. The bytes that have
    /// arrived belong to the caller, as they do to the server's one buffer for all sockets.
    pub(super) fn turn(&mut self, now: Now) {
        self.outputs.clear();
        for incoming in &mut self.inbox {
            let event = match incoming {
                Incoming::Received { conn, bytes } => Event::Received { conn: *conn, bytes },
                Incoming::Written { batch, frame, data } => {
                    self.log.reuse(std::mem::take(data));
                    self.log.written(*frame);
                    let durable_through = self.log.durable_through();
                    Event::Written { sequence: *batch, durable_through }
                }
                Incoming::Dialed { conn } => Event::Dialed { conn: *conn, connected: true },
                Incoming::Closed { conn } => Event::Closed { conn: *conn },
                Incoming::Accepted { conn, face, remote, local } => {
                    let (remote, local) = (std::mem::take(remote), std::mem::take(local));
                    Event::Accepted { conn: *conn, face: *face, remote, local }
                }
            };
            self.node.handle(now, event);
        }
        if self.node.deadline() <= now.time {
            self.node.handle(now, Event::Wake);
        }
        self.node.end_turn(now, &mut self.outputs);
        let write = self.outputs.pop_if(|output| matches!(output, Output::Write(_)));
        if let Some(Output::Write(batch)) = write {
            self.log.begin_anew(&batch.removed, &batch.renewed);
            let frame = self.log.append(batch.node_state.as_deref(), &batch.writes);
            self.frame = Some((batch.sequence, frame));
        }
    }

    /// The disk makes the frame of the last turn durable, if there was one.
    pub(super) fn write_frame(&mut self) {
        let Some((batch, frame)) = self.frame.take() else { return };
        if let Some(bytes) = frame.create {
            self.disk.create(&frame.file, bytes).expect("memory has room");
        }
        let written = self.disk.write_durable(&frame.file, frame.offset, &frame.data);
        written.expect("memory has room");
        let (frame, data) = (frame.sequence, frame.data);
        self.inbox.push(Incoming::Written { batch, frame, data });
    }

    /// What the server's helper thread does.
    pub(super) fn do_chores(&mut self) {
        for mut chore in self.log.housekeeping() {
            chore.run(&mut self.disk).expect("memory has room");
            self.log.chore_done(&chore);
        }
    }
}
