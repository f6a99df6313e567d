//! What is measured: the rows of the page, in groups that can be chosen.

use anyhow::Context as _;

use super::options::Options;
use super::peers::Kind;

/// Shards of a cluster where nothing else is asked for: what `flotilla up` founds.
const SHARDS: u32 = 3;
/// Connections where the row is not about their number.
const CONNECTIONS: u32 = 64;
/// With larger values there are fewer keys, so that filling takes no longer than measuring.
const FILL_BYTES: u64 = 64 << 20;
const KEYS: u64 = 100_000;
/// Where no number is asked for, to see that everything works.
const QUICK_KEYS: u64 = 2_000;
/// Shares of the peak at which an open loop asks, in percent.
const LOADS: [u32; 4] = [25, 50, 75, 90];

/// Rows that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Closed loop: numbers of connections, with and without a pipeline.
    Closed,
    /// Where clients connect.
    Placing,
    /// Open loop at shares of each system's peak.
    Open,
    /// Sizes of values.
    Sizes,
    /// Workloads of YCSB.
    Ycsb,
    /// Numbers of shards.
    Shards,
    /// While snapshots are written.
    Snapshot,
    /// With a node dead that leads nothing.
    FollowerDead,
    /// The leader is killed under load.
    LeaderKilled,
}

/// To which of our nodes clients connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clients {
    AllNodes,
    /// That of shard 1.
    Leader,
    Followers,
}

/// What our cluster and the peers are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) shards: u32,
    /// Whether snapshots are written all the time.
    pub(super) snapshots: bool,
    /// Whether a node is killed before.
    pub(super) follower_dead: bool,
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) group: Group,
    pub(super) title: String,
    pub(super) setup: Setup,
    pub(super) clients: Clients,
    /// For `flotilla bench`.
    pub(super) arguments: Vec<String>,
    /// Whom to measure beside.
    pub(super) peers: Vec<Kind>,
}

impl Group {
    pub(super) const ALL: [Self; 9] = [
        Self::Closed,
        Self::Placing,
        Self::Open,
        Self::Sizes,
        Self::Ycsb,
        Self::Shards,
        Self::Snapshot,
        Self::FollowerDead,
        Self::LeaderKilled,
    ];

    pub(super) fn of_name(name: &str) -> anyhow::Result<Self> {
        let known = Self::ALL.into_iter().find(|group| group.name() == name);
        let names = || Self::ALL.map(Self::name).join(", ");
        known.with_context(|| format!("'{name}' are no rows: there are {}", names()))
    }

    /// As on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Placing => "placing",
            Self::Open => "open",
            Self::Sizes => "sizes",
            Self::Ycsb => "ycsb",
            Self::Shards => "shards",
            Self::Snapshot => "snapshot",
            Self::FollowerDead => "follower-dead",
            Self::LeaderKilled => "leader-killed",
        }
    }

    /// As on the page.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Closed => "Closed loop",
            Self::Placing => "Closed loop, one shard: where clients connect",
            Self::Open => {
                "Open loop: latency from when a request was due, at a share of each \
                           system's own peak"
            }
            Self::Sizes => "Sizes of values",
            Self::Ycsb => "YCSB, scrambled zipfian keys",
            Self::Shards => "Numbers of shards",
            Self::Snapshot => "While snapshots are written",
            Self::FollowerDead => "With a follower dead",
            Self::LeaderKilled => {
                "The leader's process is killed, so that its connections close at once: the \
                 longest time without a reply"
            }
        }
    }

    /// Its rows.
    pub(super) fn points(self, options: &Options) -> Vec<Point> {
        let points = match self {
            Self::Closed => closed(),
            Self::Placing => placing(),
            Self::Open => open(),
            Self::Sizes => sizes(),
            Self::Ycsb => ycsb(options.quick),
            Self::Shards => shards(),
            Self::Snapshot => snapshot(),
            Self::FollowerDead => follower_dead(),
            Self::LeaderKilled => leader_killed(),
        };
        let mut points: Vec<Point> = points
            .into_iter()
            .map(|mut point| {
                point.peers.retain(|kind| options.peers.contains(kind));
                point
            })
            .collect();
        if options.quick {
            // No group is without rows. The first and the last: the ends of what is varied.
            let last = points.len() - 1;
            let mut at = 0..;
            points.retain(|_| at.next().is_some_and(|at| at == 0 || at == last));
            for Point { arguments, .. } in &mut points {
                if !arguments.iter().any(|argument| argument == "--keys") {
                    arguments.extend(["--keys".to_owned(), QUICK_KEYS.to_string()]);
                }
            }
        }
        points
    }
}

impl Point {
    fn new(group: Group, title: String, arguments: &str) -> Self {
        Self {
            group,
            title,
            setup: Setup { shards: SHARDS, snapshots: false, follower_dead: false },
            clients: Clients::AllNodes,
            arguments: arguments.split_whitespace().map(str::to_owned).collect(),
            peers: Kind::ALL.to_vec(),
        }
    }
}

/// SET and GET.
const WORKLOADS: [(&str, &str); 2] = [("set", "SET"), ("get", "GET")];

fn closed() -> Vec<Point> {
    let mut points = Vec::new();
    // One connection comes last: it has a cluster of its own shape.
    for connections in [16, 64, 256, 1] {
        for pipeline in [1, 16] {
            for (workload, name) in WORKLOADS {
                let title = match pipeline {
                    1 => format!("{name}, {connections} connections"),
                    _ => format!("{name}, {connections} connections, {pipeline} requests at once"),
                };
                let arguments = format!(
                    "--connections {connections} --pipeline {pipeline} --workload {workload}"
                );
                let mut point = Point::new(Group::Closed, title, &arguments);
                if connections == 1 {
                    point.title = point.title.replace("connections", "connection");
                    point.setup.shards = 1;
                    point.clients = Clients::Leader;
                }
                points.push(point);
            }
        }
    }
    points
}

fn placing() -> Vec<Point> {
    let mut points = Vec::new();
    for (clients, place) in
        [(Clients::Leader, "on the leader"), (Clients::Followers, "on the followers")]
    {
        for (workload, name) in WORKLOADS {
            let arguments = format!("--connections {CONNECTIONS} --workload {workload}");
            let title = format!("{name}, {CONNECTIONS} connections {place}");
            let mut point = Point::new(Group::Placing, title, &arguments);
            point.setup.shards = 1;
            point.clients = clients;
            points.push(point);
        }
    }
    points
}

fn open() -> Vec<Point> {
    let mut points = Vec::new();
    for (workload, name) in WORKLOADS {
        for percent in LOADS {
            let arguments =
                format!("--connections {CONNECTIONS} --workload {workload} --rate {percent}%");
            let title = format!("{name}, {CONNECTIONS} connections, {percent} % of the peak");
            points.push(Point::new(Group::Open, title, &arguments));
        }
    }
    points
}

fn sizes() -> Vec<Point> {
    let mut points = Vec::new();
    for bytes in [16, 256, 1 << 10, 16 << 10, 64 << 10] {
        let keys = (FILL_BYTES / bytes).min(KEYS);
        for (workload, name) in WORKLOADS {
            let arguments = format!(
                "--connections {CONNECTIONS} --workload {workload} --value-bytes {bytes} --keys \
                 {keys}"
            );
            let title = format!("{name}, values of {bytes} bytes");
            points.push(Point::new(Group::Sizes, title, &arguments));
        }
    }
    points
}

fn ycsb(quick: bool) -> Vec<Point> {
    let keys = if quick { QUICK_KEYS } else { 10 * KEYS };
    let workloads = [
        ("ycsb-a", "A: half reads, half updates"),
        ("ycsb-b", "B: 95 % reads"),
        ("ycsb-c", "C: reads only"),
        ("ycsb-f", "F: half reads, half read-modify-write"),
    ];
    let point = |(workload, title): (&str, &str)| {
        let arguments = format!("--connections {CONNECTIONS} --workload {workload} --keys {keys}");
        Point::new(Group::Ycsb, title.to_owned(), &arguments)
    };
    workloads.into_iter().map(point).collect()
}

fn shards() -> Vec<Point> {
    let mut points = Vec::new();
    for shards in [1, 8, 64, 1_024] {
        for (workload, name) in WORKLOADS {
            let arguments = format!("--connections {CONNECTIONS} --workload {workload}");
            let plural = if shards == 1 { "" } else { "s" };
            let title = format!("{name}, {shards} shard{plural}");
            let mut point = Point::new(Group::Shards, title, &arguments);
            point.setup.shards = shards;
            point.peers = vec![Kind::Redis];
            points.push(point);
        }
    }
    points
}

fn snapshot() -> Vec<Point> {
    let point = |(workload, name): (&str, &str)| {
        let arguments = format!("--connections {CONNECTIONS} --workload {workload}");
        let title = format!("{name}, {CONNECTIONS} connections");
        let mut point = Point::new(Group::Snapshot, title, &arguments);
        point.setup.snapshots = true;
        point
    };
    [("set", "SET"), ("mixed", "half GET, half SET")].into_iter().map(point).collect()
}

fn follower_dead() -> Vec<Point> {
    let point = |(workload, name): (&str, &str)| {
        let arguments = format!("--connections {CONNECTIONS} --workload {workload}");
        let title = format!("{name}, {CONNECTIONS} connections");
        let mut point = Point::new(Group::FollowerDead, title, &arguments);
        point.setup = Setup { shards: 1, snapshots: false, follower_dead: true };
        point
    };
    WORKLOADS.into_iter().map(point).collect()
}

/// Few requests, at a rate that every system keeps up with, so that what is missing is missing for
/// want of a leader.
fn leader_killed() -> Vec<Point> {
    let arguments = "--connections 16 --workload set --rate 500 --keys 1000";
    let title = "SET, 500 a second on all nodes".to_owned();
    let mut point = Point::new(Group::LeaderKilled, title, arguments);
    point.setup.shards = 1;
    point.peers = vec![Kind::Etcd];
    vec![point]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .expect("they are right")
    }

    #[test]
    fn every_group_has_a_name_and_rows() {
        for group in Group::ALL {
            assert_eq!(Group::of_name(group.name()).expect("its own"), group);
            let all = group.points(&options(""));
            assert!(!all.is_empty() && all.iter().all(|point| point.group == group));
            let quick = group.points(&options("--quick --peers redis"));
            assert!((1..=2).contains(&quick.len()), "{quick:?}");
            assert!(quick.iter().all(|point| !point.peers.contains(&Kind::Etcd)));
        }
    }

    #[test]
    fn large_values_have_few_keys() {
        let points = Group::Sizes.points(&options(""));
        let last = points.last().expect("there are some");
        let keys = last.arguments.last().and_then(|keys| keys.parse::<u64>().ok());
        assert_eq!(keys, Some(1_024));
    }
}
