//! Starts what a row needs, and has `flotilla bench` measure it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::options::Options;
use super::peers::{Kind, Peer};
use super::points::{Clients, Group, Point, Setup};
use super::servers::{OURS, Ours};
use super::snapshots;
use crate::cluster::{flotilla, json_of};

/// How long there is load before and after a leader is killed.
const BEFORE_KILL: Duration = Duration::from_secs(2);
const AFTER_KILL: Duration = Duration::from_secs(8);

/// What a row gave: beside a peer, or alone.
#[derive(Clone, Debug)]
pub(super) struct Measurement {
    pub(super) point: Point,
    /// Who `theirs` is.
    pub(super) peer: Option<Kind>,
    /// The row of ours and, if there is one, that of the peer.
    pub(super) ours: Value,
    pub(super) theirs: Option<Value>,
    /// What speaks against quoting it.
    pub(super) caveats: Vec<String>,
}

/// A run of this verb.
pub(super) struct Run<'a> {
    pub(super) options: &'a Options,
    data: PathBuf,
    /// Sets of servers that were started.
    sets: u16,
}

/// A number in a row.
pub(super) fn number(row: &Value, path: &str) -> Option<f64> {
    row.pointer(path).and_then(Value::as_f64)
}

impl<'a> Run<'a> {
    /// Below the directory all servers keep their data.
    pub(super) fn new(options: &'a Options, data: &Path) -> Self {
        Self { options, data: data.to_owned(), sets: 0 }
    }

    /// Measures a group. Rows that follow each other and want the same servers share them.
    pub(super) fn measure(&mut self, group: Group) -> anyhow::Result<Vec<Measurement>> {
        let points = group.points(self.options);
        let mut all = Vec::new();
        for points in points.chunk_by(|a, b| a.setup == b.setup) {
            if group == Group::LeaderKilled {
                for point in points {
                    all.extend(self.kill_leaders(point)?);
                }
            } else {
                all.extend(self.measure_together(points)?);
            }
        }
        Ok(all)
    }

    /// Peers take turns too: while ours is measured beside one, no other one runs.
    fn measure_together(&mut self, points: &[Point]) -> anyhow::Result<Vec<Measurement>> {
        let setup = points[0].setup;
        let directory = self.next_directory()?;
        let mut ours = self.start_ours(setup, &directory)?;
        if setup.follower_dead {
            ours.kill(false)?;
        }
        let mut all: Vec<Vec<Measurement>> = vec![Vec::new(); points.len()];
        for &kind in &self.options.peers {
            if !points.iter().any(|point| point.peers.contains(&kind)) {
                continue;
            }
            let mut peer = Peer::start(kind, &directory, setup.snapshots)?;
            if setup.follower_dead && peer.is_cluster() {
                peer.kill(false)?;
            }
            for (point, all) in points.iter().zip(&mut all) {
                if point.peers.contains(&kind) {
                    eprintln!("- {}, beside {}", point.title, kind.name());
                    let since = SystemTime::now();
                    let mut one = self.bench(point, &ours, Some((kind, &peer)))?;
                    if setup.snapshots {
                        for of in [OURS, kind.name()] {
                            one.caveats.extend(snapshots::caveat(of, &directory.join(of), since));
                        }
                    }
                    all.push(one);
                }
            }
        }
        for (point, all) in points.iter().zip(&mut all).filter(|(_, all)| all.is_empty()) {
            eprintln!("- {}", point.title);
            all.push(self.bench(point, &ours, None)?);
        }
        drop(ours);
        fs::remove_dir_all(&directory).context("the servers' data")?;
        Ok(all.concat())
    }

    /// Starts a cluster of ours.
    pub(super) fn start_ours(&self, setup: Setup, directory: &Path) -> anyhow::Result<Ours> {
        Ours::start(setup, directory, self.sets)
    }

    /// A new directory for the data of a set of servers.
    pub(super) fn next_directory(&mut self) -> anyhow::Result<PathBuf> {
        self.sets += 1;
        let directory = self.data.join(self.sets.to_string());
        fs::create_dir(&directory).context("a directory for the servers' data")?;
        Ok(directory)
    }

    fn bench(
        &self,
        point: &Point,
        ours: &Ours,
        peer: Option<(Kind, &Peer)>,
    ) -> anyhow::Result<Measurement> {
        let Options { seconds, rounds, quick, .. } = *self.options;
        let mut bench = flotilla();
        bench.args(["bench", "--json", "--at", &ours.addresses(point.clients)?]);
        bench.args(["--pids", &joined(&ours.pids())]).args(&point.arguments);
        bench.args(["--seconds", &seconds.to_string(), "--rounds", &rounds.to_string()]);
        if quick {
            bench.args(["--warmup", "0.2"]);
        } else {
            bench.arg("--gate").arg("--redis-data").arg(&self.data);
        }
        if let Some((_, peer)) = peer {
            bench.args(["--vs", &peer.addresses(), "--vs-pids", &joined(&peer.pids())]);
        }
        let mut report = json_of(bench).with_context(|| format!("bench, {}", point.title))?;
        let rows = report["results"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let mut rows = rows.into_iter();
        Ok(Measurement {
            point: point.clone(),
            peer: peer.map(|(kind, _)| kind),
            ours: rows.next().context("bench measured nothing")?,
            theirs: rows.next(),
            caveats: caveats(&report, point.setup),
        })
    }

    /// Kills leaders under load: ours, then the peer's, then the other way round. The row is that
    /// of the median gap.
    fn kill_leaders(&mut self, point: &Point) -> anyhow::Result<Vec<Measurement>> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..self.options.rounds {
            eprintln!("- {}, round {}", point.title, round + 1);
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    ours.push(self.kill_ours(point)?);
                } else if let Some(&kind) = point.peers.first() {
                    theirs.push(self.kill_theirs(point, kind)?);
                }
            }
        }
        let ours = median_gap(ours).context("a round of ours")?;
        let theirs = median_gap(theirs);
        let peer = theirs.as_ref().and(point.peers.first().copied());
        Ok(vec![Measurement { point: point.clone(), peer, ours, theirs, caveats: vec![] }])
    }

    fn kill_ours(&mut self, point: &Point) -> anyhow::Result<Value> {
        let directory = self.next_directory()?;
        let mut ours = self.start_ours(point.setup, &directory)?;
        let addresses = ours.addresses(Clients::AllNodes)?;
        let row = Self::bench_while(point, &addresses, || ours.kill(true))?;
        drop(ours);
        fs::remove_dir_all(&directory).context("the servers' data")?;
        Ok(row)
    }

    fn kill_theirs(&mut self, point: &Point, kind: Kind) -> anyhow::Result<Value> {
        let directory = self.next_directory()?;
        let mut peer = Peer::start(kind, &directory, point.setup.snapshots)?;
        let row = Self::bench_while(point, &peer.addresses(), || peer.kill(true))?;
        drop(peer);
        fs::remove_dir_all(&directory).context("the servers' data")?;
        Ok(row)
    }

    /// The row of a load in whose midst something happens.
    fn bench_while(
        point: &Point,
        addresses: &str,
        act: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Value> {
        let seconds = (BEFORE_KILL + AFTER_KILL).as_secs().to_string();
        let mut bench = flotilla();
        bench.args(["bench", "--json", "--at", addresses, "--seconds", &seconds]);
        bench.args(&point.arguments).args(["--warmup", "0"]);
        let bench = bench.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let bench = bench.context("flotilla bench")?;
        // The load is a matter of time: nothing tells when enough of it has been.
        thread::sleep(BEFORE_KILL);
        let acted = act();
        let output = bench.wait_with_output().context("flotilla bench")?;
        acted?;
        ensure!(output.status.success(), "flotilla bench has failed ({})", output.status);
        let report: Value = serde_json::from_slice(&output.stdout).context("its JSON")?;
        let row = report["results"][0].clone();
        let broken = number(&row, "/broken_connections").unwrap_or_default();
        ensure!(
            broken > 0.0,
            "no connection broke: the leader was killed before or after the load"
        );
        Ok(row)
    }
}

/// The row with the median of the longest times in which nothing was done.
fn median_gap(mut rows: Vec<Value>) -> Option<Value> {
    let gap = |row: &Value| number(row, "/longest_gap_millis").unwrap_or_default();
    rows.sort_by(|a, b| gap(a).total_cmp(&gap(b)));
    let gaps: Vec<Value> = rows.iter().map(|row| row["longest_gap_millis"].clone()).collect();
    let middle = rows.len().checked_sub(1)? / 2;
    let mut row = rows.swap_remove(middle);
    row["gaps_millis"] = Value::Array(gaps);
    Some(row)
}

/// What speaks against quoting a report, but for what was done on purpose.
fn caveats(report: &Value, setup: Setup) -> Vec<String> {
    let caveats = report["caveats"].as_array().map_or(&[][..], Vec::as_slice);
    let caveats = caveats.iter().filter_map(Value::as_str);
    let is_meant = |caveat: &&str| setup.follower_dead && caveat.ends_with("does not answer");
    caveats.filter(|caveat| !is_meant(caveat)).map(str::to_owned).collect()
}

/// Numbers with commas, as command lines take them.
pub(super) fn joined(pids: &[u32]) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Runs a load of so many SETs on one connection to the first of these addresses' servers.
pub(super) fn load_one(addresses: &str, requests: u32) -> Command {
    let mut bench = flotilla();
    bench.args(["bench", "--json", "--at", addresses, "--connections", "1", "--keys", "1"]);
    bench.args(["--workload", "set", "--warmup", "0", "--requests", &requests.to_string()]);
    bench
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_that_was_killed_is_no_caveat() {
        let gone = "the node at 127.0.0.1:7302 does not answer";
        let report = json!({ "caveats": [gone, "this program is a debug build"] });
        let mut setup = Setup { shards: 1, snapshots: false, follower_dead: true };
        assert_eq!(caveats(&report, setup), ["this program is a debug build"]);
        setup.follower_dead = false;
        assert_eq!(caveats(&report, setup).len(), 2);
    }

    #[test]
    fn the_median_gap_stands_for_all() {
        let rows = [30.0, 10.0, 20.0].map(|gap| json!({ "longest_gap_millis": gap })).to_vec();
        let row = median_gap(rows).expect("there are three");
        assert_eq!(row["longest_gap_millis"], 20.0);
        assert_eq!(row["gaps_millis"], json!([10.0, 20.0, 30.0]));
        assert!(median_gap(vec![]).is_none());
    }
}
