//! A session store: a token for each login, which ends when nobody has used it for a while.
//!
//! Start a cluster with `cargo run --release -- up`; then, in another terminal,
//! `cargo run --example session_store`. Other nodes than those of `up` are given as `IP:PORT…`.
//!
//! Any node serves any session, so a store that loses its node goes on with another one. It may
//! then do again what it was doing, since each of its three operations has the same effect done
//! twice.

use std::io::{self, Read as _, Write};
use std::time::Duration;

use redis::{Commands, Connection, Expiry, RedisResult, SetExpiry, SetOptions};

const NODES: [&str; 3] = ["127.0.0.1:7001", "127.0.0.1:7002", "127.0.0.1:7003"];
/// Longer than a node holds a request while a shard elects a leader.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sessions, by token.
struct Sessions {
    /// The nodes; the first is the one in use.
    nodes: Vec<String>,
    connection: Option<Connection>,
    /// How long a session lasts that nobody uses.
    idle_ms: u64,
}

impl Sessions {
    fn new(nodes: &[String], idle: Duration) -> Self {
        Self { nodes: nodes.to_vec(), connection: None, idle_ms: idle.as_millis() as u64 }
    }

    /// Begins a session of `user` and gives its token.
    fn open(&mut self, user: &str) -> RedisResult<String> {
        let token = token()?;
        let expiry = SetExpiry::PX(self.idle_ms);
        let options = SetOptions::default().with_expiration(expiry);
        let () = self.with_node(|node| node.set_options(key(&token), user, options.clone()))?;
        Ok(token)
    }

    /// The user of a session, which lasts a while longer from here on; `None` if it has ended.
    fn user(&mut self, token: &str) -> RedisResult<Option<String>> {
        let idle_ms = self.idle_ms;
        self.with_node(|node| node.get_ex(key(token), Expiry::PX(idle_ms)))
    }

    /// Ends a session.
    fn close(&mut self, token: &str) -> RedisResult<()> {
        self.with_node(|node| node.del(key(token)))
    }

    /// Does something on the node in use; when the connection breaks, on the next one.
    fn with_node<T>(
        &mut self,
        mut what: impl FnMut(&mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        for _ in 1..self.nodes.len() {
            match self.try_node(&mut what) {
                Err(error) if error.is_io_error() => self.nodes.rotate_left(1),
                outcome => return outcome,
            }
        }
        self.try_node(&mut what)
    }

    fn try_node<T>(
        &mut self,
        what: &mut impl FnMut(&mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.nodes[0])?,
        };
        let outcome = what(&mut connection);
        if !outcome.as_ref().is_err_and(redis::RedisError::is_io_error) {
            self.connection = Some(connection);
        }
        outcome
    }
}

fn connect(node: &str) -> RedisResult<Connection> {
    let client = redis::Client::open(format!("redis://{node}"))?;
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(connection)
}

fn key(token: &str) -> String {
    format!("session:{token}")
}

/// 128 random bits: nobody guesses a token, and no two are the same.
fn token() -> io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

/// Shows the life of two sessions.
pub(crate) fn run(nodes: &[String], out: &mut impl Write) -> RedisResult<()> {
    let mut sessions = Sessions::new(nodes, Duration::from_mins(30));
    let token = sessions.open("alice")?;
    writeln!(out, "opened:  {:?}", sessions.user(&token)?)?;
    sessions.close(&token)?;
    writeln!(out, "closed:  {:?}", sessions.user(&token)?)?;

    let mut hasty = Sessions::new(nodes, Duration::from_millis(100));
    let token = hasty.open("bob")?;
    std::thread::sleep(Duration::from_millis(500));
    writeln!(out, "expired: {:?}", hasty.user(&token)?)?;
    Ok(())
}

fn main() -> RedisResult<()> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let nodes = if given.is_empty() { NODES.map(str::to_owned).to_vec() } else { given };
    run(&nodes, &mut io::stdout().lock())
}
