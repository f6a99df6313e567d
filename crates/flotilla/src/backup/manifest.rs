//! The manifest of a backup: what belongs to it, and by what it is known to be whole.
//!
//! It is written last. A directory without one holds no backup, whatever else is in it.

use std::path::Path;

use anyhow::{Context as _, bail};
use flotilla_kv::{Audited, KeySums};
use flotilla_storage::SnapshotFile;
use serde::{Deserialize, Serialize};

use super::instant::utc;

/// The name of its file.
pub(crate) const FILE: &str = "manifest.json";
/// The version of the format of manifests and of which files they name.
const FORMAT: u64 = 1;

/// What a backup is. Numbers of 64 bits that stand for nothing to count are in hex, since many
/// readers of JSON round them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The version of this format.
    pub(crate) format: u64,
    /// Which program wrote it.
    pub(crate) program: String,
    /// The backup's own id: 32 random hex digits.
    pub(crate) id: String,
    /// The id of the cluster.
    pub(crate) cluster: String,
    /// The hash seed of the cluster, by which digests are made.
    pub(crate) hash_seed: String,
    /// When the backup was begun: every write acknowledged before is in it.
    pub(crate) began: String,
    /// When the last shard had been copied.
    pub(crate) ended: String,
    /// The shards, ascending.
    pub(crate) shards: Vec<ShardCopy>,
    /// CRC-64/NVMe of this document without white space and with this field empty.
    pub(crate) checksum: String,
}

/// One shard as it was at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShardCopy {
    /// Its number.
    pub(crate) shard: u32,
    /// Its slots: ranges with a space between them, both ends included.
    pub(crate) slots: String,
    /// The index of the last entry applied.
    pub(crate) index: u64,
    /// The term of that entry.
    pub(crate) term: u64,
    /// The shard's clock at that entry, milliseconds since 1970.
    pub(crate) clock_ms: u64,
    /// The same for people; empty if no entry has set the clock.
    pub(crate) clock: String,
    /// Keys that had not expired by that clock.
    pub(crate) keys: u64,
    /// Keys in the file that had expired and were not yet purged.
    pub(crate) expired_keys: u64,
    /// Lengths of the keys that had not expired and their values, bytes.
    pub(crate) bytes: u64,
    /// Sum of the words of these keys, values and expiries.
    pub(crate) digest: String,
    /// The node it was copied from.
    pub(crate) node: String,
    /// The file.
    pub(crate) file: String,
    /// The size of the file, bytes.
    pub(crate) file_bytes: u64,
    /// CRC-64/NVMe of the file's header and chunks, as its trailer has it.
    pub(crate) file_digest: String,
}

impl ShardCopy {
    /// What is in a file, and where it came from.
    pub(crate) fn new(file: &SnapshotFile, audited: &Audited, node: &str) -> Self {
        let slots = audited.slots.iter().map(|(first, last)| format!("{first}-{last}"));
        Self {
            shard: file.shard.0,
            slots: slots.collect::<Vec<_>>().join(" "),
            index: audited.applied_index,
            term: file.meta.term.0,
            clock_ms: audited.clock_ms,
            clock: if audited.clock_ms > 0 { utc(audited.clock_ms) } else { String::new() },
            keys: audited.live.keys,
            expired_keys: audited.expired_keys,
            bytes: audited.live.bytes,
            digest: hex(audited.live.digest),
            node: node.to_owned(),
            file: file.name.clone(),
            file_bytes: file.bytes,
            file_digest: hex(file.digest),
        }
    }

    /// Its slots one by one.
    pub(crate) fn slots(&self) -> anyhow::Result<Vec<u16>> {
        let mut slots = Vec::new();
        for range in self.slots.split_whitespace() {
            let ends = range.split_once('-').context("a range of slots has two ends")?;
            let (first, last): (u16, u16) = (ends.0.parse()?, ends.1.parse()?);
            slots.extend(first..=last);
        }
        Ok(slots)
    }
}

impl Manifest {
    /// A manifest of these shards, to be sealed.
    pub(crate) fn new(cluster: &str, id: &str, hash_seed: u64, began_ms: u64) -> Self {
        Self {
            format: FORMAT,
            program: format!("flotilla {}", env!("CARGO_PKG_VERSION")),
            id: id.to_owned(),
            cluster: cluster.to_owned(),
            hash_seed: hex(hash_seed),
            began: utc(began_ms),
            ended: String::new(),
            shards: Vec::new(),
            checksum: String::new(),
        }
    }

    /// The seed by which digests are made.
    pub(crate) fn seed(&self) -> anyhow::Result<u64> {
        u64::from_str_radix(&self.hash_seed, 16).context("the hash seed is no number in hex")
    }

    /// The sums over all keys of all shards.
    pub(crate) fn totals(&self) -> anyhow::Result<KeySums> {
        self.shards.iter().try_fold(KeySums::default(), |sum, shard| {
            let digest =
                u64::from_str_radix(&shard.digest, 16).context("a digest is not in hex")?;
            Ok(sum.with(KeySums { keys: shard.keys, bytes: shard.bytes, digest }))
        })
    }

    /// The text of the file, with its checksum.
    pub(crate) fn seal(mut self) -> anyhow::Result<String> {
        self.checksum = self.checksum_now()?;
        Ok(serde_json::to_string_pretty(&self)? + "\n")
    }

    /// Reads the manifest of a directory.
    ///
    /// # Errors
    /// There is none, another version wrote it, or it is not what was written. The error names the
    /// file.
    pub(crate) fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!(
                "{} holds no whole backup: there is no {FILE}, which is written last",
                directory.display()
            ),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Self::parse(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text)?;
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        if let Some(format) = format.filter(|&format| format != FORMAT) {
            bail!("its format is {format}, and this program knows {FORMAT} only");
        }
        let manifest: Self = serde_json::from_value(value)?;
        if manifest.checksum != manifest.checksum_now()? {
            bail!("its checksum is another");
        }
        if let Some(shard) = manifest.shards.iter().find(|shard| shard.file.contains('/')) {
            bail!("'{}' is no name of a file in the same directory", shard.file);
        }
        manifest.totals()?;
        manifest.seed()?;
        Ok(manifest)
    }

    fn checksum_now(&self) -> anyhow::Result<String> {
        let blank = Self { checksum: String::new(), ..self.clone() };
        let text = serde_json::to_string(&blank)?;
        Ok(hex(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, text.as_bytes())))
    }
}

/// 16 hex digits.
pub(crate) fn hex(number: u64) -> String {
    format!("{number:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::new("c0ffee", "1d", 7, 1_700_000_000_000);
        manifest.shards.push(ShardCopy {
            shard: 1,
            slots: "0-16382 16383-16383".into(),
            index: 9,
            term: 2,
            clock_ms: 1_700_000_000_123,
            clock: utc(1_700_000_000_123),
            keys: 3,
            expired_keys: 1,
            bytes: 77,
            digest: hex(u64::MAX),
            node: "127.0.0.1:7001".into(),
            file: "shard-1.snap".into(),
            file_bytes: 500,
            file_digest: hex(1),
        });
        manifest
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let none = Manifest::read(directory.path()).expect_err("there is none").to_string();
        assert!(none.contains("no whole backup"), "{none}");
        let text = manifest().seal().expect("it can be written");
        std::fs::write(directory.path().join(FILE), &text).expect("there is room");
        let read = Manifest::read(directory.path()).expect("it is whole");
        assert_eq!(Manifest { checksum: String::new(), ..read }, manifest());
        assert_eq!(manifest().shards[0].slots().expect("ranges").len(), 16384);
        let totals = manifest().totals().expect("digests are in hex");
        assert_eq!(totals, KeySums { keys: 3, bytes: 77, digest: u64::MAX });
    }

    #[test]
    fn no_letter_or_digit_can_change_unnoticed() {
        let text = manifest().seal().expect("it can be written");
        for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_graphic()) {
            for bit in [1, 2, 16] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= bit;
                let changed = String::from_utf8(bytes).expect("it is still ASCII");
                assert!(Manifest::parse(&changed).is_err(), "{at}: '{}'", char::from(byte));
            }
        }
    }

    #[test]
    fn another_format_and_another_directory_are_refused() {
        let mut other = manifest();
        other.format = 2;
        let error = Manifest::parse(&other.seal().expect("text")).expect_err("a later version");
        assert!(error.to_string().contains("format is 2"), "{error}");
        let mut outside = manifest();
        outside.shards[0].file = "../x".into();
        let error = Manifest::parse(&outside.seal().expect("text")).expect_err("another place");
        assert!(error.to_string().contains("'../x'"), "{error}");
    }
}
