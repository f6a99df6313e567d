//! Is a backup what was written? Each byte of it is under a checksum, and each shard as a whole
//! under the hash that the machine itself gave it.

use std::path::Path;

use anyhow::{Context as _, bail};
use flotilla_kv::{Audit, Audited, SnapshotKey};
use flotilla_shard::SLOTS;
use flotilla_storage::{SnapshotFile, SnapshotReader};

use super::manifest::{Manifest, ShardCopy};
use crate::progress::Progress;
use crate::read_only::ReadOnly;

/// Reads a copy of a shard through and gives its keys to `on_key`; after each chunk `on_chunk` is
/// told how many there were, of how many.
///
/// # Errors
/// The file is damaged, which the error says with its name, or `on_key` failed.
pub(crate) fn read_through(
    directory: &Path,
    name: &str,
    on_chunk: &mut dyn FnMut(u32, u32),
    on_key: &mut dyn FnMut(&SnapshotKey<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<(SnapshotFile, Audited)> {
    let mut disk = ReadOnly::new(directory);
    let (_, reader) = SnapshotReader::open(&mut disk, name)
        .with_context(|| directory.join(name).display().to_string())?;
    let mut audit = Audit::new();
    let mut number = 0;
    while let Some(chunk) = reader.read(&mut disk, number)? {
        let mut outcome = Ok(());
        audit
            .chunk(&chunk, &mut |item| {
                if outcome.is_ok() {
                    outcome = on_key(item);
                }
            })
            .with_context(|| format!("{name} is damaged in chunk {number}"))?;
        outcome?;
        number += 1;
        on_chunk(number, reader.chunks());
    }
    let audited = audit.finish().with_context(|| format!("{name} is damaged"))?;
    if audited.applied_index != reader.index().0 {
        bail!("{name} is damaged: it is of index {}", audited.applied_index);
    }
    Ok((reader.file(), audited))
}

/// Reads a whole backup through. Each error names the file.
pub(crate) fn check(directory: &Path, progress: &mut Progress) -> anyhow::Result<Manifest> {
    let manifest = Manifest::read(directory)?;
    for shard in &manifest.shards {
        let name = &shard.file;
        let mut on_chunk = |read, all| {
            progress.show(|| format!("{name}: chunk {read} of {all} is whole"));
        };
        let (file, audited) = read_through(directory, name, &mut on_chunk, &mut |_| Ok(()))?;
        let found = ShardCopy::new(&file, &audited, &shard.node);
        if found != *shard || audited.hash_seed != manifest.seed()? {
            bail!("{name} is whole, but is not the file that the manifest names");
        }
    }
    check_slots(&manifest.shards)?;
    Ok(manifest)
}

/// Every slot is in one shard.
pub(crate) fn check_slots(shards: &[ShardCopy]) -> anyhow::Result<()> {
    let mut owners = vec![0_u32; usize::from(SLOTS)];
    for shard in shards {
        for slot in shard.slots()? {
            let owners = owners.get_mut(usize::from(slot));
            *owners.context("a shard owns a slot that there is not")? += 1;
        }
    }
    match owners.iter().position(|&owners| owners != 1) {
        None => Ok(()),
        Some(slot) => bail!("slot {slot} is in {} shards of the backup", owners[slot]),
    }
}
