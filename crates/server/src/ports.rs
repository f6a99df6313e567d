//! Opening the ports: one is required, two are optional.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{PortWish, ServerError};

/// The default cluster port is the plain port and this.
pub const CLUSTER_PORT_DISTANCE: u16 = 1_000;
/// The default HTTP port is the plain port and this.
pub const HTTP_PORT_DISTANCE: u16 = 20_000;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// The open ports of a node.
#[derive(Debug)]
pub(crate) struct Ports {
    /// The required one.
    pub(crate) plain: TcpListener,
    /// The one that `CLUSTER SLOTS` advertises.
    pub(crate) cluster: Option<TcpListener>,
    /// The one of the health checks.
    pub(crate) http: Option<TcpListener>,
    /// What an operator should know about ports that were not opened.
    pub(crate) warnings: Vec<String>,
}

impl Ports {
    /// Opens them; an error names the first that was asked for and can't be had.
    pub(crate) fn open(
        address: SocketAddr,
        cluster: PortWish,
        http: PortWish,
    ) -> Result<Self, ServerError> {
        let plain = listen(address.ip(), address.port())?;
        let mut warnings = Vec::new();
        let cluster = optional(address, cluster, CLUSTER_PORT_DISTANCE, "cluster", &mut warnings)?;
        let http = optional(address, http, HTTP_PORT_DISTANCE, "HTTP", &mut warnings)?;
        Ok(Self { plain, cluster, http, warnings })
    }

    /// The number of an optional port, 0 if it is off.
    pub(crate) fn number(port: Option<&TcpListener>) -> u16 {
        port.and_then(|listener| listener.local_addr().ok()).map_or(0, |address| address.port())
    }
}

fn optional(
    plain: SocketAddr,
    wish: PortWish,
    distance: u16,
    name: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<TcpListener>, ServerError> {
    match wish {
        PortWish::Off => Ok(None),
        PortWish::Asked(port) => listen(plain.ip(), port).map(Some),
        PortWish::Default => {
            let opened = match plain.port().checked_add(distance) {
                Some(port) => listen(plain.ip(), port),
                None => Err(ServerError::Port {
                    ip: plain.ip(),
                    port: u32::from(plain.port()) + u32::from(distance),
                    reason: "ports end at 65535".to_owned(),
                }),
            };
            let flag = name.to_lowercase();
            Ok(opened
                .inspect_err(|error| {
                    warnings.push(format!("no {name} port ({error}); --{flag}-port names another"));
                })
                .ok())
        }
    }
}

/// Listens on a port. `SO_REUSEADDR` lets a node come back while old connections fade away; it
/// does not let two programs listen.
pub fn listen(ip: IpAddr, port: u16) -> Result<TcpListener, ServerError> {
    let address = SocketAddr::new(ip, port);
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    open().map_err(|error: std::io::Error| match error.kind() {
        ErrorKind::AddrInUse => ServerError::PortInUse { ip, port },
        _ => ServerError::Port { ip, port: u32::from(port), reason: error.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn taken() -> (TcpListener, u16) {
        let listener = listen(LOCALHOST, 0).expect("some port is free");
        let port = listener.local_addr().expect("it is bound").port();
        (listener, port)
    }

    #[test]
    fn a_required_or_asked_port_that_is_taken_is_an_error() {
        let (_held, port) = taken();
        let at = SocketAddr::new(LOCALHOST, port);
        let error = Ports::open(at, PortWish::Off, PortWish::Off).expect_err("it is taken");
        assert!(error.to_string().starts_with(&format!("port {port} on 127.0.0.1 is in use")));
        let free = SocketAddr::new(LOCALHOST, 0);
        let error = Ports::open(free, PortWish::Asked(port), PortWish::Off);
        assert!(matches!(error, Err(ServerError::PortInUse { .. })));
    }

    #[test]
    fn a_default_port_that_is_out_of_range_is_a_warning() {
        let mut warnings = Vec::new();
        let plain = SocketAddr::new(LOCALHOST, 60_000);
        let port = optional(plain, PortWish::Default, HTTP_PORT_DISTANCE, "HTTP", &mut warnings);
        assert!(port.expect("no error").is_none());
        assert!(warnings[0].contains("80000"), "{warnings:?}");
        assert!(warnings[0].contains("--http-port"), "{warnings:?}");
    }
}
