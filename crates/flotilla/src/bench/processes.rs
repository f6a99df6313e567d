//! What processes cost: the CPU time of servers, of this process and of the whole machine.
//!
//! A server's own time is not all it costs: the kernel completes writes and journals in threads of
//! its own. So the machine's time beside the generator's is measured too, which is an upper bound
//! and true only while nothing else runs.
//!
//! Sources: `/proc/PID/task/*/schedstat` (nanoseconds), `/proc/stat` (ticks), `/proc/net/tcp`.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

/// A tick of `/proc/stat`: Linux tells a hundred a second, whatever its own are.
const TICK_MILLIS: u64 = 10;
/// The state of a socket that listens.
const LISTENS: &str = "0A";

/// CPU times at one moment, each since some moment in the past.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Of all servers; `None` if one can't be seen.
    pub(crate) servers: Option<Duration>,
    /// Of this process.
    pub(crate) generator: Option<Duration>,
    /// Of everything on this machine.
    pub(crate) machine: Option<Duration>,
    /// What the machine wanted and its host did not give.
    pub(crate) stolen: Option<Duration>,
    /// Of programs that are neither known nor this one; `None` if the servers are not known.
    pub(crate) foreign: Option<Duration>,
}

impl Sample {
    /// Looks now. Known are the programs that belong here: the servers, and those that wait.
    pub(crate) fn take(servers: &[u32], known: &[u32]) -> Self {
        let time = |pid: &u32| process_time(Path::new(&format!("/proc/{pid}/task")));
        let (machine, stolen) = machine_time().unzip();
        Self {
            servers: if servers.is_empty() { None } else { servers.iter().map(time).sum() },
            generator: process_time(Path::new("/proc/self/task")),
            machine,
            stolen,
            foreign: if servers.is_empty() { None } else { foreign_time(known) },
        }
    }
}

/// The time of all programs but these and this one. The kernel's threads are no programs: they work
/// for the servers too.
fn foreign_time(known: &[u32]) -> Option<Duration> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let is_foreign = |pid: &u32| *pid != std::process::id() && !known.contains(pid);
        if pid.as_ref().is_some_and(is_foreign) {
            // A program that has just ended is no reason to know nothing.
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            ticks += program_ticks(&stat).unwrap_or_default();
        }
    }
    Some(Duration::from_millis(ticks * TICK_MILLIS))
}

/// What a program took, and its children that have ended; `None` for a thread of the kernel.
fn program_ticks(stat: &str) -> Option<u64> {
    /// The bit of a thread of the kernel among the flags [proc(5)].
    const KERNEL_THREAD: u64 = 0x0020_0000;
    // After the name, which may hold anything, come the state and six numbers, then the flags, and
    // four further the times: user, system, and those of the children.
    let (_, fields) = stat.rsplit_once(") ")?;
    let numbers: Vec<u64> =
        fields.split(' ').skip(6).take(9).map(|field| field.parse().ok()).collect::<Option<_>>()?;
    let [flags, _, _, _, _, times @ ..] = &numbers[..] else { return None };
    (*flags & KERNEL_THREAD == 0).then(|| times.iter().sum())
}

fn process_time(tasks: &Path) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    for task in fs::read_dir(tasks).ok()? {
        // A thread that has just ended is no reason to know nothing.
        if let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) {
            sum += Duration::from_nanos(text.split(' ').next()?.parse().ok()?);
        }
    }
    // A process that has never run has not asked: its kernel does not count.
    Some(sum).filter(|sum| !sum.is_zero())
}

fn machine_time() -> Option<(Duration, Duration)> {
    busy_and_stolen(&fs::read_to_string("/proc/stat").ok()?)
}

fn busy_and_stolen(stat: &str) -> Option<(Duration, Duration)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let &[user, nice, system, _idle, _waits, interrupts, soft_interrupts, stolen, ..] = &ticks[..]
    else {
        return None;
    };
    let time = |ticks: u64| Duration::from_millis(ticks * TICK_MILLIS);
    Some((time(user + nice + system + interrupts + soft_interrupts), time(stolen)))
}

/// The processes on this machine that listen on all these addresses; `None` if one of them listens
/// elsewhere, or belongs to somebody whose files this user may not see.
pub(crate) fn listeners(addresses: &[SocketAddr]) -> Option<Vec<u32>> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let tables: String =
        tables.into_iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let sockets: Vec<String> = addresses
        .iter()
        .map(|&address| {
            let is_local = UdpSocket::bind((address.ip(), 0)).is_ok();
            let socket = is_local.then(|| socket_of(&tables, address)).flatten();
            socket.map(|inode| format!("socket:[{inode}]"))
        })
        .collect::<Option<_>>()?;
    let mut owners = vec![None; sockets.len()];
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        for target in files.flatten().filter_map(|file| fs::read_link(file.path()).ok()) {
            let is_target = |socket: &String| target.to_str() == Some(socket);
            if let Some(at) = sockets.iter().position(is_target) {
                owners[at] = Some(pid);
            }
        }
    }
    let owners: BTreeSet<u32> = owners.into_iter().collect::<Option<_>>()?;
    Some(owners.into_iter().collect())
}

/// The inode of the socket that listens there, from the kernel's tables.
fn socket_of(tables: &str, address: SocketAddr) -> Option<&str> {
    tables.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let (local, state) = (fields.nth(1)?, fields.nth(1)?);
        let (ip, port) = local.split_once(':')?;
        let (ip, port) = (ip_of(ip)?, u16::from_str_radix(port, 16).ok()?);
        let matches = port == address.port() && (ip == address.ip() || ip.is_unspecified());
        (state == LISTENS && matches).then(|| fields.nth(5)).flatten()
    })
}

/// An address as the kernel writes it: words of 32 bits, each in the machine's order of bytes.
fn ip_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(8 * at..8 * (at + 1))?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            let bytes: [u8; 16] = words.try_into().expect("four words of four bytes");
            Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Instant;

    #[test]
    fn a_listener_is_found_by_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        assert_eq!(listeners(&[address]), Some(vec![std::process::id()]));
        let everywhere = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0"));
        let everywhere = everywhere.expect("a port").local_addr();
        let port = everywhere.expect("it is bound").port();
        drop(listener);
        assert_eq!(listeners(&[address]), None);
        // An address kept for documentation, so never this machine's [RFC 5737].
        assert_eq!(listeners(&[SocketAddr::from(([192, 0, 2, 1], port))]), None);
    }

    #[test]
    fn tables_of_sockets_are_understood() {
        // Only the columns of the addresses, the state and the inode are looked at.
        let tables = "sl local_address rem_address st queues tr tm retrnsmt uid timeout inode\n\
            0: 0100007F:1B59 00000000:0000 01 0:0 00:0 0 0 0 11 1\n\
            1: 0100007F:1B59 00000000:0000 0A 0:0 00:0 0 0 0 12 1\n\
            2: 00000000000000000000000000000000:1B5A 00000000000000000000000000000000:0000 \
            0A 0:0 00:0 0 0 0 13 1\n";
        let of = |text: &str| socket_of(tables, text.parse().expect("an address"));
        if cfg!(target_endian = "little") {
            assert_eq!(of("127.0.0.1:7001"), Some("12"));
            assert_eq!(of("127.0.0.2:7001"), None);
        }
        assert_eq!(of("127.0.0.1:7002"), Some("13"));
        assert_eq!(of("127.0.0.1:7003"), None);
    }

    #[test]
    fn cpu_times_grow_with_work() {
        let me = [std::process::id()];
        let before = Sample::take(&me, &[]).servers.expect("this kernel counts");
        let until = Instant::now() + Duration::from_secs(20);
        // To look is work too.
        while Sample::take(&me, &[]).servers <= Some(before) {
            assert!(Instant::now() < until, "20 s of work took no CPU time");
        }
        assert_eq!(Sample::take(&[], &[]).servers, None);
        assert_eq!(Sample::take(&[u32::MAX], &[]).servers, None);
    }

    #[test]
    fn programs_are_told_from_threads_of_the_kernel() {
        let program = "1 (a (b) c) S 0 1 1 0 -1 4194560 9 9 9 9 10 20 3 4 20 0 1 0 5 6 7";
        assert_eq!(program_ticks(program), Some(37));
        let thread = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 5 0 0 20 0 1 0 5 6 7";
        assert_eq!(program_ticks(thread), None);
        assert_eq!(program_ticks(""), None);
        let me = fs::read_to_string("/proc/self/stat").expect("this is Linux");
        assert!(program_ticks(&me).is_some(), "{me}");
        assert!(Sample::take(&[std::process::id()], &[]).foreign.is_some());
        assert_eq!(Sample::take(&[], &[]).foreign, None);
    }

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let stat = "cpu  100 10 20 9000 800 3 4 5 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let busy = Duration::from_millis(1_370);
        assert_eq!(busy_and_stolen(stat), Some((busy, Duration::from_millis(50))));
        assert_eq!(busy_and_stolen("cpu 1 2"), None);
    }
}
