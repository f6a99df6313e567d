//! The HTTP port: is the node alive, is it ready, what does it say of itself, and copies of its
//! shards for backups. On a thread of its own, so that nobody who asks takes time from the lane.

use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use flotilla_raft::Index;
use flotilla_shard::ShardId;

use crate::backup::{AdminEnd, Refusal};
use crate::config::ServerError;
use crate::console::{Level, say};
use crate::watch::Watched;
use crate::worker::spawn;

/// The header that says about how long a copy is at most, bytes.
const BYTES_AT_MOST: &str = "flotilla-bytes-at-most";

/// Serves the port until the process ends.
pub(crate) fn start(
    listener: TcpListener,
    watched: Arc<Watched>,
    backups: AdminEnd,
) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::system("can't start the admin thread"))?;
    spawn("admin", move || {
        if let Err(error) = runtime.block_on(serve(listener, watched, backups)) {
            say(Level::Warning, format_args!("the HTTP port is closed: {error}"));
        }
    })
}

async fn serve(
    listener: TcpListener,
    watched: Arc<Watched>,
    backups: AdminEnd,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status_json))
        .with_state(watched);
    let copies = Router::new()
        .route("/backup/{shard}/{from}/{bytes_per_second}", post(backup))
        .with_state(Arc::new(backups));
    axum::serve(listener, routes.merge(copies)).await
}

/// 200 while the lane turns.
async fn healthz(State(watched): State<Arc<Watched>>) -> impl IntoResponse {
    if watched.is_alive() {
        (StatusCode::OK, "alive\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the lane has not turned for 30 seconds\n")
    }
}

/// 200 when every shard with a replica here has a leader and can be read, else the reasons.
async fn readyz(State(watched): State<Arc<Watched>>) -> impl IntoResponse {
    match watched.status() {
        _ if watched.is_stopping() => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned()),
        None => {
            let percent = watched.recovered();
            let starting = format!("starting: {percent} % of the log is read\n");
            (StatusCode::SERVICE_UNAVAILABLE, starting)
        }
        Some(status) if status.ready => (StatusCode::OK, "ready\n".to_owned()),
        Some(status) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", status.waiting_for.join("\n")))
        }
    }
}

/// Everything the node says of itself.
async fn status_json(State(watched): State<Arc<Watched>>) -> impl IntoResponse {
    let body = serde_json::to_string(&watched.status().unwrap_or_default())
        .expect("a status has only strings, numbers and lists");
    ([(header::CONTENT_TYPE, "application/json")], body)
}

/// The snapshot file of a shard that has the entry at index `from` in it; else why not: 404 for no
/// replica here, 409 for another copy under way, 503 for one that can't be made now.
async fn backup(
    State(backups): State<Arc<AdminEnd>>,
    Path((shard, from, bytes_per_second)): Path<(u32, u64, u64)>,
) -> Response {
    match backups.copy(ShardId(shard), Index(from), bytes_per_second).await {
        Ok(copy) => {
            let headers = [
                (header::CONTENT_TYPE.as_str(), "application/octet-stream".to_owned()),
                (BYTES_AT_MOST, copy.bytes_at_most.to_string()),
            ];
            (headers, Body::new(copy.body)).into_response()
        }
        Err(refusal) => refused(&refusal).into_response(),
    }
}

fn refused(refusal: &Refusal) -> (StatusCode, String) {
    match refusal {
        Refusal::NotHere(shard) => {
            (StatusCode::NOT_FOUND, format!("no replica of shard {shard} is here\n"))
        }
        Refusal::Busy => {
            (StatusCode::CONFLICT, "another backup is being taken from this node\n".to_owned())
        }
        Refusal::NotNow(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}
