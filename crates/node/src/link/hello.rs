//! The first packet of either side of a link: who is there.

use flotilla_shard::{ClusterId, NodeId, StorageId};
use serde::{Deserialize, Serialize};

use super::LinkError;
use super::wire::Reader;

/// The version of the link's format that this code speaks.
pub(crate) const FORMAT: u16 = 3;

/// No node ever has more disks.
const DISKS_MAX: u64 = 1 << 24;

/// Who is on this end of a link, and whom it believes on the other.
///
/// All integers have a fixed width, and the format comes first in every version of it.
///
/// | bytes | field | |
/// |---|---|---|
/// | 0..2 | format | u16 |
/// | 2 | purpose | u8: 0 turns, 1 snapshots |
/// | 3..35 | layout_digest | 32 bytes |
/// | 35..39 | from | u32, at least 1 |
/// | 39..43 | to | u32, at least 1 |
/// | 43..59 | storage_id | 16 bytes |
/// | 59..67 | incarnation | u64 |
/// | 67..75 | nonce | u64 |
/// | 75..77 | lane | u16 |
/// | 77..79 | cluster_port | u16 |
/// | 79..81 | http_port | u16 |
/// | 81 | cluster follows | flag |
/// | 82..98 | cluster | 16 bytes, only after the flag |
/// | then | disk | u64 |
/// | | known follows | flag |
/// | | known: number, storage_id, alive | u64, 16 bytes, flag, only after the flag |
/// | | seen follows | flag, only if known follows |
/// | | seen: incarnation, nonce, durable_through, earlier | u64 each, only after the flag |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The version of the link's format the sender speaks; [`FORMAT`] in all that is decoded.
    pub(crate) format: u16,
    /// What the connection is for.
    pub(crate) purpose: Purpose,
    /// Of the layout in force at the sender; node numbers compare only where these are equal.
    pub(crate) layout_digest: [u8; 32],
    /// The sender.
    pub(crate) from: NodeId,
    /// Whom it believes to speak to.
    pub(crate) to: NodeId,
    /// The id of the sender's disk.
    pub(crate) storage_id: StorageId,
    /// The boots of the sender's disk.
    pub(crate) incarnation: u64,
    /// Random per boot: with the incarnation it names the boot.
    pub(crate) nonce: u64,
    /// The sender's lane.
    pub(crate) lane: u16,
    /// The cluster it is a member of, once founded.
    pub(crate) cluster: Option<ClusterId>,
    /// The sender's cluster port, 0 if off.
    pub(crate) cluster_port: u16,
    /// The sender's HTTP port, 0 if off.
    pub(crate) http_port: u16,
    /// Which of the sender's disks this is: 0 is the one it was founded with, and each that takes
    /// the place of another has a higher number.
    pub(crate) disk: u64,
    /// What the sender knows of the receiver, once founded.
    pub(crate) known: Option<KnownDisk>,
}

/// The newest disk of a node, as one of its peers knows it (P4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownDisk {
    /// Its number.
    pub(crate) number: u64,
    /// Its id.
    pub(crate) storage_id: StorageId,
    /// Whether a link with it is up right now.
    pub(crate) alive: bool,
    /// The newest that was seen of it.
    pub(crate) seen: Option<Sighting>,
}

/// The newest that a node has seen of a peer's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sighting {
    /// Of its latest boot.
    pub(crate) incarnation: u64,
    /// Of that boot.
    pub(crate) nonce: u64,
    /// It said in that boot that its log was durable up to this frame.
    pub(crate) durable_through: u64,
    /// The highest of these of all boots before.
    pub(crate) earlier: u64,
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    /// What a turn has for a peer: everything but snapshots.
    Turns,
    /// Snapshots, which must not hold up the turns (P15).
    Snapshots,
}

impl Hello {
    /// Appends the body of a packet.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.format.to_le_bytes());
        out.push(match self.purpose {
            Purpose::Turns => 0,
            Purpose::Snapshots => 1,
        });
        out.extend_from_slice(&self.layout_digest);
        out.extend_from_slice(&self.from.0.to_le_bytes());
        out.extend_from_slice(&self.to.0.to_le_bytes());
        out.extend_from_slice(&self.storage_id.0);
        out.extend_from_slice(&self.incarnation.to_le_bytes());
        out.extend_from_slice(&self.nonce.to_le_bytes());
        for small in [self.lane, self.cluster_port, self.http_port] {
            out.extend_from_slice(&small.to_le_bytes());
        }
        out.push(u8::from(self.cluster.is_some()));
        if let Some(cluster) = self.cluster {
            out.extend_from_slice(&cluster.0);
        }
        out.extend_from_slice(&self.disk.to_le_bytes());
        out.push(u8::from(self.known.is_some()));
        if let Some(known) = &self.known {
            known.encode(out);
        }
    }

    /// Reads the body of a packet. Another format than [`FORMAT`] is an error of its own.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, LinkError> {
        let mut reader = Reader::new(body);
        let format = u16::from_le_bytes(reader.array("format")?);
        if format != FORMAT {
            return Err(LinkError::Format { found: format });
        }
        let purpose = match reader.byte("purpose")? {
            0 => Purpose::Turns,
            1 => Purpose::Snapshots,
            _ => return Err(LinkError::Value { field: "purpose" }),
        };
        let hello = Self {
            format,
            purpose,
            layout_digest: reader.array("layout digest")?,
            from: node(&mut reader, "sender")?,
            to: node(&mut reader, "receiver")?,
            storage_id: StorageId(reader.array("storage id")?),
            incarnation: u64::from_le_bytes(reader.array("incarnation")?),
            nonce: u64::from_le_bytes(reader.array("nonce")?),
            lane: u16::from_le_bytes(reader.array("lane")?),
            cluster_port: u16::from_le_bytes(reader.array("cluster port")?),
            http_port: u16::from_le_bytes(reader.array("HTTP port")?),
            cluster: cluster(&mut reader)?,
            disk: u64::from_le_bytes(reader.array("disk")?),
            known: known(&mut reader)?,
        };
        reader.finish()?;
        let numbers = hello.known.as_ref().map_or(0, |known| known.number).max(hello.disk);
        if numbers > DISKS_MAX {
            return Err(LinkError::Value { field: "disk" });
        }
        Ok(hello)
    }
}

fn cluster(reader: &mut Reader<'_>) -> Result<Option<ClusterId>, LinkError> {
    let follows = reader.flag("cluster")?;
    follows.then(|| reader.array("cluster").map(ClusterId)).transpose()
}

impl KnownDisk {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.storage_id.0);
        out.push(u8::from(self.alive));
        out.push(u8::from(self.seen.is_some()));
        if let Some(seen) = self.seen {
            let Sighting { incarnation, nonce, durable_through, earlier } = seen;
            for number in [incarnation, nonce, durable_through, earlier] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
}

fn known(reader: &mut Reader<'_>) -> Result<Option<KnownDisk>, LinkError> {
    if !reader.flag("known disk")? {
        return Ok(None);
    }
    let mut known = KnownDisk {
        number: u64::from_le_bytes(reader.array("number of the known disk")?),
        storage_id: StorageId(reader.array("id of the known disk")?),
        alive: reader.flag("life of the known disk")?,
        seen: None,
    };
    if reader.flag("sighting")? {
        let mut number = || reader.array("sighting").map(u64::from_le_bytes);
        known.seen = Some(Sighting {
            incarnation: number()?,
            nonce: number()?,
            durable_through: number()?,
            earlier: number()?,
        });
    }
    Ok(Some(known))
}

fn node(reader: &mut Reader<'_>, field: &'static str) -> Result<NodeId, LinkError> {
    match u32::from_le_bytes(reader.array(field)?) {
        0 => Err(LinkError::Value { field }),
        number => Ok(NodeId(number)),
    }
}
