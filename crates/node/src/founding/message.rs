//! What nodes tell each other about the founding.

use flotilla_shard::{FoundingRecord, Layout};

use crate::link::LinkError;

const BLANK: u8 = 1;
const PROPOSED: u8 = 2;
const FOUNDED: u8 = 3;

/// How far the sender is; durable before it is sent. Sent when a link comes up and whenever it
/// changes; to hear one twice does no harm. Whose disk it speaks of, the link's hello has said.
///
/// | bytes | field | |
/// |---|---|---|
/// | 0 | phase | u8: 1 blank, 2 proposed, 3 founded |
/// | 1.. | | JSON: of the layout if blank, else of the founding record |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FoundingMessage {
    /// It agreed to nothing yet, and was started with this layout.
    Blank(Layout),
    /// It agreed to this record and will never agree to another.
    Proposed(FoundingRecord),
    /// Its cluster is founded with this record.
    Founded(FoundingRecord),
}

impl FoundingMessage {
    /// Appends the body of a packet.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (phase, json) = match self {
            Self::Blank(layout) => (BLANK, layout.canonical_bytes()),
            Self::Proposed(record) => (PROPOSED, record.encode()),
            Self::Founded(record) => (FOUNDED, record.encode()),
        };
        out.push(phase);
        out.extend_from_slice(&json);
    }

    /// Reads the body of a packet.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, LinkError> {
        let (&phase, json) = body.split_first().ok_or(LinkError::Short { field: "phase" })?;
        let record = || {
            let record = FoundingRecord::decode(json);
            record.map_err(|_| LinkError::Value { field: "founding record" })
        };
        match phase {
            BLANK => {
                let wrong = LinkError::Value { field: "layout" };
                let layout: Layout = serde_json::from_slice(json).map_err(|_| wrong)?;
                layout.validate().map_err(|_| wrong)?;
                Ok(Self::Blank(layout))
            }
            PROPOSED => record().map(Self::Proposed),
            FOUNDED => record().map(Self::Founded),
            _ => Err(LinkError::Value { field: "phase" }),
        }
    }

    /// The layout that the sender has in force.
    pub(crate) fn layout(&self) -> &Layout {
        match self {
            Self::Blank(layout) => layout,
            Self::Proposed(record) | Self::Founded(record) => &record.layout,
        }
    }
}
