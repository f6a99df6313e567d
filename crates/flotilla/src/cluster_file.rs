//! `cluster.json` in the directory of `up`: which cluster the data belongs to.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use flotilla_shard::Layout;
use serde::{Deserialize, Serialize};

/// The name of the file.
pub(crate) const CLUSTER_FILE: &str = "cluster.json";

/// The version of the file's form.
const FORMAT: u32 = 1;

/// The numbers `up` was given, and the layout they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbers {
    /// How many nodes.
    pub(crate) nodes: usize,
    /// How many shards.
    pub(crate) shards: usize,
    /// Replicas of each shard.
    pub(crate) replicas: usize,
    /// The first node's port.
    pub(crate) port: u16,
}

/// What the file says. The layout is kept, not computed again: a later version of this program
/// might compute another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterFile {
    format: u32,
    /// The numbers asked for at the first start.
    pub(crate) numbers: Numbers,
    /// What they stand for.
    pub(crate) layout: Layout,
}

impl ClusterFile {
    /// A cluster of these numbers on this host.
    pub(crate) fn new(numbers: Numbers) -> anyhow::Result<Self> {
        let last = numbers.nodes.checked_sub(1).context("a cluster needs at least one node")?;
        if usize::from(numbers.port) + last > usize::from(u16::MAX) || numbers.port == 0 {
            bail!(
                "--port {}: {} nodes need as many ports from there on, and ports are 1 to 65535",
                numbers.port,
                numbers.nodes
            );
        }
        let addresses: Vec<_> = (0..numbers.nodes)
            .map(|node| format!("127.0.0.1:{}", usize::from(numbers.port) + node))
            .collect();
        let layout = Layout::local(&addresses, numbers.shards, numbers.replicas)?;
        Ok(Self { format: FORMAT, numbers, layout })
    }

    /// Reads the file; `None` if there is none.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let file: Self = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what `flotilla up` wrote", path.display()))?;
        if file.format != FORMAT {
            bail!(
                "{} has format {}; this program knows {FORMAT}: start it with the version that \
                 wrote it",
                path.display(),
                file.format
            );
        }
        Ok(Some(file))
    }

    /// Writes the file so that it is there whole or not at all.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let path = directory.join(CLUSTER_FILE);
        let temporary = directory.join("cluster.json.tmp");
        let text = serde_json::to_string_pretty(self)?;
        let write = || {
            let mut file = std::fs::File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            std::fs::File::open(directory)?.sync_all()
        };
        write().with_context(|| format!("can't write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Numbers = Numbers { nodes: 3, shards: 2, replicas: 3, port: 7001 };

    #[test]
    fn what_was_written_is_read_back() {
        let directory = tempfile::tempdir().expect("a directory for the test");
        let path = directory.path().join(CLUSTER_FILE);
        assert_eq!(ClusterFile::read(&path).expect("no error"), None);
        let file = ClusterFile::new(NUMBERS).expect("the numbers are right");
        file.write(directory.path()).expect("there is room");
        assert_eq!(ClusterFile::read(&path).expect("no error"), Some(file));
        std::fs::write(&path, "{}").expect("there is room");
        assert!(ClusterFile::read(&path).is_err());
    }

    #[test]
    fn numbers_that_make_no_cluster_are_refused() {
        for numbers in [
            Numbers { nodes: 0, ..NUMBERS },
            Numbers { shards: 0, ..NUMBERS },
            Numbers { replicas: 4, ..NUMBERS },
            Numbers { replicas: 0, ..NUMBERS },
            Numbers { port: 65534, ..NUMBERS },
            Numbers { port: 0, ..NUMBERS },
        ] {
            assert!(ClusterFile::new(numbers).is_err(), "{numbers:?}");
        }
    }
}
