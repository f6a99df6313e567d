//! `flotilla backup`: a copy of each shard of a cluster that goes on serving.
//!
//! A shard is copied from any replica, as that replica's snapshot file: its state at one applied
//! index, so nothing uncommitted. That index is at least every index that a majority of the
//! shard's voters had in their logs after the backup was begun; what had been acknowledged by then
//! was in the log of one of them, so it is in the copy. Each copy is read back from disk and
//! checked before the next shard is asked for.

mod check;
mod fetch;
mod folder;
mod instant;
mod manifest;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use self::fetch::{Refused, Wanted, fetch};
use self::folder::{Folder, settle};
use crate::arguments::Backup;
use crate::progress::{Progress, mib};
use crate::status::{look_at_founded, table};
use crate::view::{ClusterView, NodeView, ReplicaView, ShardView};

pub(crate) use self::check::{check, read_through};
pub(crate) use self::instant::{now_ms, utc};
pub(crate) use self::manifest::{Manifest, ShardCopy};

/// How long no replica of a shard may have a copy to give, before the backup is given up.
const PATIENCE: Duration = Duration::from_mins(1);
/// The time between two attempts.
const ATTEMPT_EVERY: Duration = Duration::from_millis(300);

/// What the name of the key begins with that stands in a cluster while a restore fills it. Its end
/// is the id of the backup.
pub(crate) const RESTORE_MARK: &[u8] = b"flotilla.restore:";

/// Runs the verb.
pub(crate) fn run(backup: &Backup) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::new();
    if let Some(directory) = &backup.verify {
        let manifest = check(directory, &mut progress)?;
        print(&manifest, directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    let to = backup.to.as_deref().context("--to is missing")?;
    let view = look_at_founded(&backup.at)?;
    let folder = Folder::begin(to)?;
    let task =
        Task { at: &backup.at, folder: &folder, bytes_per_second: backup.mib_per_second << 20 };
    let manifest = task.copy_all(&view, &mut progress)?;
    print(&manifest, to)?;
    let directory = to.to_owned();
    folder.finish(&manifest.seal()?)?;
    progress.say(&format!("the backup in {} is whole", directory.display()));
    Ok(ExitCode::SUCCESS)
}

/// A backup being taken.
struct Task<'a> {
    at: &'a str,
    folder: &'a Folder,
    bytes_per_second: u64,
}

impl Task<'_> {
    /// Copies all data shards, one after the other.
    fn copy_all(&self, view: &ClusterView, progress: &mut Progress) -> anyhow::Result<Manifest> {
        let began_ms = now_ms();
        let mut manifest = Manifest::new(&view.cluster, &random_id()?, 0, began_ms);
        let mut seeds = Vec::new();
        for shard in view.shards.iter().filter(|shard| shard.id != 0) {
            let (copy, seed) = self.copy(&view.cluster, shard.id, progress)?;
            progress.say(&format!(
                "shard {}: {} keys at index {}, {}, from {}",
                copy.shard,
                copy.keys,
                copy.index,
                moment(&copy),
                copy.node
            ));
            seeds.push(seed);
            manifest.shards.push(copy);
        }
        let seed = *seeds.first().context("the cluster has no shard with keys")?;
        if seeds.iter().any(|other| *other != seed) {
            bail!("the shards' copies have different hash seeds: they are of different clusters");
        }
        check::check_slots(&manifest.shards)?;
        manifest.hash_seed = manifest::hex(seed);
        manifest.ended = utc(now_ms());
        Ok(manifest)
    }

    /// Copies a shard from the first replica that has a copy which turns out whole.
    fn copy(
        &self,
        cluster: &str,
        shard: u32,
        progress: &mut Progress,
    ) -> anyhow::Result<(ShardCopy, u64)> {
        let until = Instant::now() + PATIENCE;
        let mut from = u64::MAX;
        loop {
            let (busy, reasons) = match self.attempt(cluster, shard, &mut from, progress)? {
                Attempt::Copied(copied) => return Ok(*copied),
                Attempt::NotNow { busy, reasons } => (busy, reasons.join("; ")),
            };
            if busy || Instant::now() >= until {
                bail!("shard {shard} can't be copied: {reasons}");
            }
            progress.show(|| format!("shard {shard}: waiting, since {reasons}"));
            std::thread::sleep(ATTEMPT_EVERY);
        }
    }

    /// Asks each replica once. Of the indexes that such attempts find a copy must have, the lowest
    /// will do, since each of them would: a log may lose what it had and was never committed.
    fn attempt(
        &self,
        cluster: &str,
        shard: u32,
        from: &mut u64,
        progress: &mut Progress,
    ) -> anyhow::Result<Attempt> {
        let not_now = |reasons| Ok(Attempt::NotNow { busy: false, reasons });
        let view = match look_at_founded(self.at) {
            Ok(view) => view,
            Err(error) => return not_now(vec![format!("{error:#}")]),
        };
        if view.cluster != cluster {
            bail!("{} is of another cluster now", self.at);
        }
        let sources = match Sources::of(&view, shard) {
            Ok(sources) => sources,
            Err(reason) => return not_now(vec![reason]),
        };
        *from = sources.from.min(*from);
        let (mut busy, mut reasons) = (false, Vec::new());
        for node in sources.nodes {
            match self.copy_from(node, shard, *from, progress)? {
                Ok(copied) => return Ok(Attempt::Copied(Box::new(copied))),
                Err(Refused::Busy) => {
                    busy = true;
                    reasons.push(format!("another backup is taken from {}", node.address));
                }
                Err(Refused::Failed(why)) => reasons.push(format!("{}: {why}", node.address)),
            }
        }
        Ok(Attempt::NotNow { busy, reasons })
    }

    /// Copies a shard from a node and checks the copy. The inner error says why there is none; the
    /// outer one is final.
    fn copy_from(
        &self,
        node: &NodeView,
        shard: u32,
        from: u64,
        progress: &mut Progress,
    ) -> anyhow::Result<Result<(ShardCopy, u64), Refused>> {
        let name = format!("shard-{shard}.snap");
        let mut file = self.folder.create(&name)?;
        let at = node.http_address();
        let wanted = Wanted { at: &at, shard, from, bytes_per_second: self.bytes_per_second };
        let address = &node.address;
        progress.begin(&format!("shard {shard}: {address} makes a snapshot"));
        let fetched = fetch(wanted, &mut file, &mut |come, all| {
            progress.show(|| {
                format!("shard {shard}: {} of at most {}, {address}", mib(come), mib(all))
            });
        })?;
        if let Err(refused) = fetched {
            return Ok(Err(refused));
        }
        let part = settle(&name, file)?;
        let mut mark = None;
        let mut on_chunk = |read, all| {
            progress.show(|| format!("shard {shard}: chunk {read} of {all} is whole"));
        };
        let read = read_through(self.folder.path(), &part, &mut on_chunk, &mut |item| {
            if item.key.starts_with(RESTORE_MARK) {
                mark = Some(String::from_utf8_lossy(item.key).into_owned());
            }
            Ok(())
        });
        let (mut file, audited) = match read {
            Ok(read) => read,
            Err(error) => return Ok(Err(Refused::Failed(format!("{error:#}")))),
        };
        if let Some(mark) = mark {
            bail!(
                "a restore has not finished filling this cluster: finish it first, or, if the \
                 cluster is right as it is, remove the key '{mark}'"
            );
        }
        if file.shard.0 != shard || audited.applied_index < from {
            let other = format!("it sent shard {} at index {}", file.shard, audited.applied_index);
            return Ok(Err(Refused::Failed(other)));
        }
        self.folder.keep(&name)?;
        file.name = name;
        Ok(Ok((ShardCopy::new(&file, &audited, address), audited.hash_seed)))
    }
}

/// What came of asking each replica of a shard.
enum Attempt {
    /// What was copied, and the hash seed of the cluster.
    Copied(Box<(ShardCopy, u64)>),
    NotNow {
        /// Whether a node has another backup taken of it.
        busy: bool,
        reasons: Vec<String>,
    },
}

/// Where a shard can be copied from.
struct Sources<'a> {
    /// The nodes of its replicas, those that lead last.
    nodes: Vec<&'a NodeView>,
    /// The least index that a copy must have.
    from: u64,
}

impl<'a> Sources<'a> {
    /// What the nodes say now; an error says in words why that is not enough.
    fn of(view: &'a ClusterView, shard: u32) -> Result<Self, String> {
        let found = view.shards.iter().find(|found| found.id == shard);
        let found = found.ok_or("no node that answered knows the shard")?;
        let answered = |replica: &&ReplicaView| replica.role != "unknown";
        let voters = found.replicas.iter().filter(|replica| replica.voter);
        let heard = voters.clone().filter(answered).count();
        if heard <= voters.count() / 2 {
            return Err(format!("only {heard} of the shard's voters answer, not a majority"));
        }
        let logs = found.replicas.iter().filter(answered).map(|replica| replica.durable);
        let from = logs.max().unwrap_or(0);
        let mut nodes: Vec<_> = found
            .replicas
            .iter()
            .filter(answered)
            .filter_map(|replica| view.nodes.iter().find(|node| node.id == replica.node))
            .filter(|node| node.http_port != 0)
            .collect();
        if nodes.is_empty() {
            return Err("no replica is on a node with an HTTP port, which copies go by".to_owned());
        }
        nodes.sort_by_key(|node| leads(found, node));
        Ok(Self { nodes, from })
    }
}

fn leads(shard: &ShardView, node: &NodeView) -> bool {
    shard.leader == Some(node.id)
}

fn random_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("can't get random numbers")?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

fn moment(copy: &ShardCopy) -> &str {
    if copy.clock.is_empty() { "nothing written yet" } else { &copy.clock }
}

/// Shows what is in a backup.
fn print(manifest: &Manifest, directory: &Path) -> anyhow::Result<()> {
    let mut table = table(["shard", "slots", "index", "clock", "keys", "bytes", "file", "size"]);
    for shard in &manifest.shards {
        table.add_row([
            shard.shard.to_string(),
            shard.slots()?.len().to_string(),
            shard.index.to_string(),
            moment(shard).to_owned(),
            shard.keys.to_string(),
            shard.bytes.to_string(),
            shard.file.clone(),
            mib(shard.file_bytes),
        ]);
    }
    let totals = manifest.totals()?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "backup {} of cluster {}, begun {}, in {}\n\n{table}\n\n{} keys, {} of keys and values, \
         digest {}",
        manifest.id,
        manifest.cluster,
        manifest.began,
        directory.display(),
        totals.keys,
        mib(totals.bytes),
        manifest::hex(totals.digest),
    )?;
    Ok(())
}
