//! `flotilla restore`: a new, empty cluster gets the keys of a backup.
//!
//! It goes in by the front door, as requests over many connections, so the new cluster may have any
//! number of nodes and shards. The backup is checked whole first; a mark in the cluster says that
//! it is being filled; every key is read back and compared; only then the mark goes.

mod batch;
mod mark;
mod pipe;
mod write;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, anyhow, bail};
use flotilla_kv::ItemDigest;

use self::batch::Batch;
use self::mark::{Mark, key_count};
use self::pipe::Pipe;
use self::write::{Tally, compare, write};
use crate::arguments::Restore;
use crate::backup::{Manifest, check, read_through};
use crate::progress::Progress;
use crate::status::look_at_founded;

/// What is done with a batch.
type Work = fn(&mut Pipe, &Batch, ItemDigest) -> anyhow::Result<Tally>;

/// Runs the verb.
pub(crate) fn run(restore: &Restore) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::new();
    let manifest = check(&restore.from, &mut progress)?;
    let totals = manifest.totals()?;
    progress.say(&format!("the backup is whole: {} keys", totals.keys));
    let addresses = addresses(&restore.at)?;
    let mut pipe = Pipe::new(addresses.clone(), 0);
    let mark = Mark::set(&mut pipe, &manifest, restore.again)?;
    let task = Task {
        manifest: &manifest,
        directory: &restore.from,
        addresses: &addresses,
        connections: restore.connections.into(),
        digest: ItemDigest::new(manifest.seed()?),
    };
    let written = task.pass("written", write, &mut progress)?;
    progress.say(&format!("written: {} keys", written.there.keys));
    let found = task.pass("compared", compare, &mut progress)?;
    if found.there.with(found.expired) != totals {
        bail!("what the cluster has does not have the digest of the backup");
    }
    mark.check(&mut pipe)?;
    check_count(&mut pipe, found)?;
    mark.remove(&mut pipe)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "restored backup {} of cluster {}: {} keys, each read back and compared; {} have expired \
         since",
        manifest.id, manifest.cluster, found.there.keys, found.expired.keys
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The nodes of the cluster that can be asked.
fn addresses(at: &str) -> anyhow::Result<Vec<String>> {
    let view = look_at_founded(at)?;
    let up = view.nodes.iter().filter(|node| node.up);
    let addresses: Vec<String> = up.map(|node| node.address.clone()).collect();
    if addresses.is_empty() {
        bail!("no node of the cluster answers");
    }
    Ok(addresses)
}

/// The cluster has the keys of the backup, the mark, and nothing else. Keys that have expired may
/// be counted or not: it depends on whether they were purged.
fn check_count(pipe: &mut Pipe, found: Tally) -> anyhow::Result<()> {
    let count = key_count(pipe)?.saturating_sub(1);
    let least = found.there.keys - found.expiring_keys;
    let most = found.there.keys + found.expired.keys;
    if !(least..=most).contains(&count) {
        bail!(
            "the cluster has {count} keys, and the backup {}: somebody else writes into it. Keep \
             clients away until it is restored",
            found.there.keys
        );
    }
    Ok(())
}

/// A restore into a cluster that was claimed.
struct Task<'a> {
    manifest: &'a Manifest,
    directory: &'a Path,
    addresses: &'a [String],
    connections: usize,
    digest: ItemDigest,
}

impl Task<'_> {
    /// Reads the backup once, and has the work done on all its keys by many connections.
    fn pass(&self, what: &str, work: Work, progress: &mut Progress) -> anyhow::Result<Tally> {
        // Of a batch each for the workers and as many ahead of them: memory is bounded.
        let (batches, to_do) = sync_channel(self.connections);
        let to_do = Mutex::new(to_do);
        let (sum, failed) = (Mutex::new(Tally::default()), AtomicBool::new(false));
        let all = self.manifest.totals()?.keys;
        thread::scope(|scope| {
            let workers: Vec<_> = (0..self.connections)
                .map(|first| {
                    let (to_do, sum, failed) = (&to_do, &sum, &failed);
                    scope.spawn(move || {
                        let worked = self.work(first, work, to_do, sum);
                        // What is on its way is taken all the same, or the feeder would wait.
                        failed.fetch_or(worked.is_err(), Ordering::Relaxed);
                        while lock(to_do).recv().is_ok() {}
                        worked
                    })
                })
                .collect();
            let fed = self.feed(&mut |batch| {
                progress.show(|| format!("{what}: {} of {all} keys", lock(&sum).there.keys));
                anyhow::ensure!(!failed.load(Ordering::Relaxed), "a connection has given up");
                batches.send(batch).context("no connection is left to work")
            });
            drop(batches);
            for worker in workers {
                let worked = worker.join().map_err(|_| anyhow!("a connection's thread broke"))?;
                worked?;
            }
            fed
        })?;
        Ok(*lock(&sum))
    }

    /// Works on batches until there are no more.
    fn work(
        &self,
        first: usize,
        work: Work,
        to_do: &Mutex<Receiver<Batch>>,
        sum: &Mutex<Tally>,
    ) -> anyhow::Result<()> {
        let mut pipe = Pipe::new(self.addresses.to_vec(), first);
        loop {
            let Ok(batch) = lock(to_do).recv() else { return Ok(()) };
            let tally = work(&mut pipe, &batch, self.digest)?;
            let mut sum = lock(sum);
            *sum = sum.with(tally);
        }
    }

    /// Reads all shards and hands out their keys in batches.
    fn feed(&self, send: &mut dyn FnMut(Batch) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut batch = Batch::default();
        for shard in &self.manifest.shards {
            read_through(self.directory, &shard.file, &mut |_, _| (), &mut |item| {
                if batch.push(item) { send(std::mem::take(&mut batch)) } else { Ok(()) }
            })?;
        }
        if batch.len() > 0 { send(batch) } else { Ok(()) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
