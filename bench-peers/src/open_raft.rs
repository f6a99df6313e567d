//! `openraft` with a log and a state machine in memory.
//!
//! Settings: one thread (`singlethreaded`), no snapshots, no ticks (nothing here needs a clock once
//! there is a leader), no limit on the entries of a message that matters. A call of a peer's
//! function stands in for an RPC. A batch is always proposed in a call for each payload, without
//! waiting for one answer before the next (`client_write_ff`): there is no call for many. The
//! leader tells at once what is committed. The log is a vector, and payloads are reference-counted.
//! Logging is compiled out. All of a group's work is within one run of the runtime.

mod store;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use openraft::error::{
    Fatal, NetworkError, RPCError, RaftError, ReplicationClosed, StreamingError,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{Config, EmptyNode, Raft, Snapshot, SnapshotPolicy, Vote};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use crate::work::{Group, REPLICAS, Work, payload};
use store::{Log, StateMachine, Watch};

openraft::declare_raft_types!(
    /// Payloads are shared bytes, answers are empty.
    pub(crate) Types:
        D = Bytes,
        R = (),
        NodeId = u64,
        Node = EmptyNode,
        SnapshotData = Vec<u8>,
);

/// Every replica that has started.
type Peers = Rc<RefCell<BTreeMap<u64, Raft<Types>>>>;

/// The replica that leads: it founds the group.
const LEADER: u64 = 1;

/// A group and the runtime it lives in.
pub(crate) struct Cluster {
    runtime: Runtime,
    tasks: LocalSet,
    peers: Peers,
    logs: Vec<Log>,
    watch: Rc<Watch>,
    acknowledged: u64,
}

impl Group for Cluster {
    fn elected() -> Self {
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime can be made");
        let (tasks, peers, watch) = (LocalSet::new(), Peers::default(), Rc::<Watch>::default());
        let mut logs = Vec::new();
        tasks.block_on(&runtime, async {
            for id in 1..=REPLICAS as u64 {
                let log = Log::default();
                let machine = StateMachine::new(&watch);
                let network = Network { peers: Rc::clone(&peers) };
                let raft = Raft::new(id, config(), network, log.clone(), machine).await;
                peers.borrow_mut().insert(id, raft.expect("a replica starts"));
                logs.push(log);
            }
            let leader = peers.borrow()[&LEADER].clone();
            let voters: BTreeSet<u64> = (1..=REPLICAS as u64).collect();
            leader.initialize(voters).await.expect("a group is founded");
            let leads = |metrics: &openraft::RaftMetrics<u64, EmptyNode>| {
                metrics.current_leader == Some(LEADER) && metrics.last_applied.is_some()
            };
            leader.wait(None).metrics(leads, "a leader").await.expect("it is elected");
        });
        Self { runtime, tasks, peers, logs, watch, acknowledged: 0 }
    }

    fn run(&mut self, work: Work) {
        let leader = self.peers.borrow()[&LEADER].clone();
        let (watch, acknowledged) = (&self.watch, &mut self.acknowledged);
        self.tasks.block_on(&self.runtime, async {
            let mut answers = Vec::new();
            for batch in 0..work.batches {
                let first = batch * work.batch_size;
                let end = first + work.batch_size;
                for number in first..end {
                    let payload = Bytes::from(payload(number).to_vec());
                    answers.push(leader.client_write_ff(payload).await.expect("it runs"));
                }
                for answer in answers.drain(..) {
                    let answer = answer.await.expect("an answer comes");
                    answer.expect("a leader takes proposals");
                    *acknowledged += 1;
                }
                watch.all_have_applied(end).await;
            }
        });
    }

    fn check(self, work: Work) {
        let applied = work.applied();
        assert_eq!(self.acknowledged, work.commits(), "all are acknowledged");
        for replica in 0..REPLICAS {
            let what = self.watch.applied(replica);
            assert_eq!(what, applied, "every replica applies all payloads in order");
            assert_eq!(self.logs[replica].payloads(), applied, "every replica's log has them");
        }
        self.tasks.block_on(&self.runtime, async {
            let peers: Vec<_> = self.peers.borrow().values().cloned().collect();
            for raft in peers {
                raft.shutdown().await.expect("a replica ends");
            }
        });
    }
}

fn config() -> Arc<Config> {
    let config = Config {
        enable_tick: false,
        max_payload_entries: 4096,
        replication_lag_threshold: u64::MAX,
        snapshot_policy: SnapshotPolicy::Never,
        ..Config::default()
    };
    Arc::new(config.validate().expect("the configuration is right"))
}

/// Makes the links of one replica.
struct Network {
    peers: Peers,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Link {
        Link { peers: Rc::clone(&self.peers), target, peer: None }
    }
}

/// Calls one peer.
struct Link {
    peers: Peers,
    target: u64,
    /// The peer, once it has started and was found.
    peer: Option<Raft<Types>>,
}

impl Link {
    fn peer(&mut self) -> &Raft<Types> {
        let (peers, target) = (&self.peers, &self.target);
        self.peer.get_or_insert_with(|| peers.borrow()[target].clone())
    }
}

type RpcResult<T> = Result<T, RPCError<u64, EmptyNode, RaftError<u64>>>;

/// Nothing here fails but on the way to the end, when a peer is gone already.
fn gone(error: &RaftError<u64>) -> RPCError<u64, EmptyNode, RaftError<u64>> {
    RPCError::Network(NetworkError::new(error))
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<u64>> {
        self.peer().append_entries(request).await.map_err(|error| gone(&error))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _option: RPCOption,
    ) -> RpcResult<VoteResponse<u64>> {
        self.peer().vote(request).await.map_err(|error| gone(&error))
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote<u64>,
        _snapshot: Snapshot<Types>,
        _cancel: impl Future<Output = ReplicationClosed> + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<Types, Fatal<u64>>> {
        unreachable!("there are no snapshots")
    }
}
