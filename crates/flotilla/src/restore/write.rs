//! Writing a batch of keys into the cluster, and comparing what the cluster has with a batch.

use anyhow::{Context as _, bail};
use flotilla_kv::{ItemDigest, KeySums, SnapshotKey};
use flotilla_resp::Value;

use super::batch::Batch;
use super::pipe::Pipe;
use crate::backup::now_ms;

/// The clocks of the cluster and of this machine may differ by so much, milliseconds. A key that
/// expires so close to now is written and may be gone: the cluster's clock decides.
const CLOCK_SKEW_MS: u64 = 10_000;

/// What has become of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Written, or found as they should be.
    pub(crate) there: KeySums,
    /// Those of them that expire some time.
    pub(crate) expiring_keys: u64,
    /// Not written or not found, since they had expired.
    pub(crate) expired: KeySums,
}

impl Tally {
    /// Both together.
    pub(crate) fn with(self, other: Self) -> Self {
        Self {
            there: self.there.with(other.there),
            expiring_keys: self.expiring_keys + other.expiring_keys,
            expired: self.expired.with(other.expired),
        }
    }

    fn add(&mut self, item: &SnapshotKey<'_>, digest: ItemDigest) {
        self.there.add(item, digest);
        self.expiring_keys += u64::from(item.expires_at_ms.is_some());
    }
}

/// Writes the keys that have not expired. It does no harm to do it twice.
pub(crate) fn write(pipe: &mut Pipe, batch: &Batch, digest: ItemDigest) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let certain_ms = now_ms().saturating_sub(CLOCK_SKEW_MS);
    let (expired, wanted): (Vec<usize>, Vec<usize>) =
        (0..batch.len()).partition(|&at| has_expired(&batch.item(at), certain_ms));
    for at in expired {
        tally.expired.add(&batch.item(at), digest);
    }
    pipe.settle(
        wanted.len(),
        &mut |at, requests| {
            let item = batch.item(wanted[at]);
            match item.expires_at_ms {
                None => requests.push(&[b"SET", item.key, item.value]),
                Some(at) => {
                    let at = at.to_string();
                    requests.push(&[b"SET", item.key, item.value, b"PXAT", at.as_bytes()]);
                }
            }
        },
        &mut |at, replies| {
            let item = batch.item(wanted[at]);
            match &replies[0] {
                Value::Simple(text) if text == "OK" => tally.add(&item, digest),
                other => bail!("the cluster refuses the key {}: {}", shown(item.key), text(other)),
            }
            Ok(())
        },
    )?;
    Ok(tally)
}

/// Reads the keys back and compares. The sums are of what the cluster answers.
///
/// # Errors
/// A key is not there, or is another.
pub(crate) fn compare(pipe: &mut Pipe, batch: &Batch, digest: ItemDigest) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    pipe.settle(
        batch.len(),
        &mut |at, requests| {
            let key = batch.item(at).key;
            requests.push(&[b"GET", key]);
            requests.push(&[b"PEXPIRETIME", key]);
        },
        &mut |at, replies| {
            let item = batch.item(at);
            let found = found(&item, replies)
                .with_context(|| format!("the key {} was not restored", shown(item.key)))?;
            match found {
                Some(found) => tally.add(&found, digest),
                None => tally.expired.add(&item, digest),
            }
            Ok(())
        },
    )?;
    Ok(tally)
}

/// The key as the cluster has it, from the replies to GET and PEXPIRETIME; `None` if it has
/// expired.
fn found<'a>(
    wanted: &SnapshotKey<'a>,
    replies: &'a [Value],
) -> anyhow::Result<Option<SnapshotKey<'a>>> {
    let (value, expiry) = (&replies[0], &replies[1]);
    let Value::Integer(expiry) = expiry else { bail!("its expiry is {}", text(expiry)) };
    let value = match value {
        Value::Bulk(value) => value,
        Value::Null if has_expired(wanted, now_ms() + CLOCK_SKEW_MS) => return Ok(None),
        Value::Null => bail!("it is not there"),
        other => bail!("its value is {}", text(other)),
    };
    let expires_at_ms = match *expiry {
        -1 => None,
        -2 if has_expired(wanted, now_ms() + CLOCK_SKEW_MS) => return Ok(None),
        at => Some(u64::try_from(at).context("it went away while it was read")?),
    };
    let found = SnapshotKey { value, expires_at_ms, ..*wanted };
    if found.value != wanted.value {
        bail!("it has another value, of {} bytes for {}", found.value.len(), wanted.value.len());
    }
    if found.expires_at_ms != wanted.expires_at_ms {
        bail!("it expires at {:?} and not at {:?}", found.expires_at_ms, wanted.expires_at_ms);
    }
    Ok(Some(found))
}

fn has_expired(item: &SnapshotKey<'_>, now_ms: u64) -> bool {
    item.expires_at_ms.is_some_and(|at| at <= now_ms)
}

fn text(reply: &Value) -> String {
    crate::print::for_people(reply)
}

/// A key for people, cut if it is long.
fn shown(key: &[u8]) -> String {
    const MOST: usize = 100;
    let dots = if key.len() > MOST { "…" } else { "" };
    format!("'{}{dots}'", key[..key.len().min(MOST)].escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_shard::slot_of;

    fn item(value: &'static [u8], expires_at_ms: Option<u64>) -> SnapshotKey<'static> {
        SnapshotKey { slot: slot_of(b"k"), key: b"k", value, expires_at_ms }
    }

    #[test]
    fn only_what_the_backup_has_counts_as_restored() {
        let later = now_ms() + 1_000_000;
        let (bulk, there) =
            (|text: &str| Value::Bulk(text.as_bytes().to_vec()), Value::Integer(-1));
        let found_with = |wanted: SnapshotKey<'static>, replies: [Value; 2]| {
            found(&wanted, &replies).map(|found| found.map(|found| found.value.to_vec()))
        };
        let plain = item(b"x", None);
        let value = found_with(plain, [bulk("x"), there.clone()]).expect("it is as it should be");
        assert_eq!(value, Some(b"x".to_vec()));
        for (wanted, replies) in [
            (plain, [bulk("y"), there.clone()]),
            (plain, [Value::Null, Value::Integer(-2)]),
            (plain, [bulk("x"), Value::Integer(5)]),
            (plain, [bulk("x"), Value::Integer(-2)]),
            (plain, [Value::Error("ERR no".into()), there.clone()]),
            (item(b"x", Some(later)), [bulk("x"), there.clone()]),
            (item(b"x", Some(later)), [bulk("x"), Value::Integer(later as i64 + 1)]),
            (item(b"x", Some(later)), [Value::Null, Value::Integer(-2)]),
        ] {
            assert!(found_with(wanted, replies.clone()).is_err(), "{replies:?}");
        }
        for replies in [[Value::Null, Value::Integer(-2)], [bulk("x"), Value::Integer(-2)]] {
            let found = found_with(item(b"x", Some(now_ms())), replies).expect("it has expired");
            assert_eq!(found, None);
        }
    }
}
