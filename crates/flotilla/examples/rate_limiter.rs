//! A rate limiter: so many requests of each user in any minute, whichever server they come to.
//!
//! Start a cluster with `cargo run --release -- up`; then, in another terminal,
//! `cargo run --example rate_limiter`. Other nodes than those of `up` are given as `IP:PORT…`.
//!
//! There is a counter for each user and minute. The last minute is estimated from two of them:
//! this one's, and of the one before the part that is not a minute ago yet. A counter's name has
//! its minute in it, so one whose expiry was lost on the way is only litter and stops nobody for
//! ever.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use redis::{Connection, RedisResult};

const NODES: [&str; 3] = ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"];
/// Longer than a node holds a request while a shard elects a leader.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets a user's requests pass or not.
struct Limiter {
    connection: Connection,
    /// How many requests may pass in any window.
    limit: f64,
    window_ms: u64,
}

impl Limiter {
    fn new(node: &str, limit: u32, window: Duration) -> RedisResult<Self> {
        let client = redis::Client::open(format!("redis://{node}"))?;
        let connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        let window_ms = window.as_millis() as u64;
        Ok(Self { connection, limit: f64::from(limit), window_ms })
    }

    /// Counts a request of `user`, and says whether it may pass. One that may not counts as well:
    /// who never stops asking never passes.
    fn allows(&mut self, user: &str) -> RedisResult<bool> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_ms = now.expect("the clock is past 1970").as_millis() as u64;
        let (window, passed_ms) = (now_ms / self.window_ms, now_ms % self.window_ms);
        // By the tag, the part in brackets, both counters are in one shard: the three commands take
        // effect in this order, and cost one round trip.
        let counter = |window: u64| format!("rate:{{{user}}}:{window}");
        let (current, before): (u64, Option<u64>) = redis::pipe()
            .incr(counter(window), 1)
            .pexpire(counter(window), 2 * self.window_ms as i64)
            .ignore()
            .get(counter(window - 1))
            .query(&mut self.connection)?;
        let still_counts = 1.0 - passed_ms as f64 / self.window_ms as f64;
        Ok(current as f64 + before.unwrap_or(0) as f64 * still_counts <= self.limit)
    }
}

/// Two servers, each with another node, share the limit of a user.
pub(crate) fn run(nodes: &[String], out: &mut impl Write) -> RedisResult<()> {
    let user = format!("user-{}", std::process::id());
    let mut servers: Vec<Limiter> = nodes
        .iter()
        .take(2)
        .map(|node| Limiter::new(node, 5, Duration::from_mins(1)))
        .collect::<RedisResult<_>>()?;
    let count = servers.len();
    let mut passed = 0;
    for request in 0..8 {
        let server = request % count;
        let allowed = servers[server].allows(&user)?;
        passed += u32::from(allowed);
        let answer = if allowed { "may pass" } else { "429 Too Many Requests" };
        writeln!(out, "request {request} at server {server}: {answer}")?;
    }
    writeln!(out, "{passed} of 8 have passed")?;
    Ok(())
}

fn main() -> RedisResult<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let nodes = if given.is_empty() { NODES.map(str::to_owned).to_vec() } else { given };
    run(&nodes, &mut io::stdout().lock())
}
