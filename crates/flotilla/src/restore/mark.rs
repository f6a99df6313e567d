//! The mark that stands in a cluster while it is being filled from a backup.
//!
//! It is a key that names the backup, made first and removed last, and only if every key was found
//! as the backup has it. So a cluster that is not whole can be told by it, an interrupted restore
//! can be repeated, and anything else in a cluster is a reason to refuse.

use anyhow::bail;
use flotilla_resp::Value;

use super::pipe::Pipe;
use crate::backup::{Manifest, RESTORE_MARK, now_ms, utc};

/// The mark of this process in a cluster.
#[derive(Debug)]
pub(crate) struct Mark {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Mark {
    /// Claims a cluster for the backup.
    ///
    /// # Errors
    /// It has keys; or a restore of this backup was begun, and `again` was not asked for.
    pub(crate) fn set(pipe: &mut Pipe, manifest: &Manifest, again: bool) -> anyhow::Result<Self> {
        let key = [RESTORE_MARK, manifest.id.as_bytes()].concat();
        let process = std::process::id();
        let value = format!("begun {} by process {process}", utc(now_ms())).into_bytes();
        let mark = Self { key, value };
        let keys = key_count(pipe)?;
        match mark.found(pipe)? {
            Some(other) if !again => bail!(
                "a restore of this backup was {} and has not ended. If it does not run any more, \
                 repeat it with --again: it writes every key anew",
                String::from_utf8_lossy(&other)
            ),
            Some(_) => {
                expect_ok(&pipe.ask(&[b"SET", &mark.key, &mark.value])?)?;
                return Ok(mark);
            }
            None if keys > 0 => bail!(
                "the cluster holds {keys} keys: a backup is restored into a new, empty cluster only"
            ),
            None => {}
        }
        pipe.ask(&[b"SET", &mark.key, &mark.value, b"NX"])?;
        // The reply does not say whose mark it is if the request was sent twice.
        mark.check(pipe)?;
        if key_count(pipe)? != 1 {
            mark.remove(pipe)?;
            bail!("somebody else writes into the cluster: keep clients away until it is restored");
        }
        Ok(mark)
    }

    /// Fails if another process has claimed the cluster since.
    pub(crate) fn check(&self, pipe: &mut Pipe) -> anyhow::Result<()> {
        match self.found(pipe)? {
            Some(value) if value == self.value => Ok(()),
            _ => bail!("another process has begun to restore into this cluster"),
        }
    }

    /// Removes it: the cluster is whole.
    pub(crate) fn remove(&self, pipe: &mut Pipe) -> anyhow::Result<()> {
        match pipe.ask(&[b"DEL", &self.key])? {
            Value::Integer(_) => Ok(()),
            other => bail!("the mark can't be removed: {}", crate::print::for_people(&other)),
        }
    }

    fn found(&self, pipe: &mut Pipe) -> anyhow::Result<Option<Vec<u8>>> {
        match pipe.ask(&[b"GET", &self.key])? {
            Value::Null => Ok(None),
            Value::Bulk(value) => Ok(Some(value)),
            other => bail!("GET is answered with {}", crate::print::for_people(&other)),
        }
    }
}

/// How many keys the cluster has.
pub(crate) fn key_count(pipe: &mut Pipe) -> anyhow::Result<u64> {
    match pipe.ask(&[b"DBSIZE"])? {
        Value::Integer(count) => Ok(u64::try_from(count)?),
        other => bail!("DBSIZE is answered with {}", crate::print::for_people(&other)),
    }
}

fn expect_ok(reply: &Value) -> anyhow::Result<()> {
    match reply {
        Value::Simple(text) if text == "OK" => Ok(()),
        other => bail!("the mark can't be set: {}", crate::print::for_people(other)),
    }
}
