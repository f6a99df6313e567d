//! The HTTP port: is the node alive, is it ready, what does it say of itself. On a thread of its
//! own, so that nobody who asks takes time from the lane.

use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::config::ServerError;
use crate::console::{Level, say};
use crate::watch::{Watched, spawn};

/// Serves the port until the process ends.
pub(crate) fn start(listener: TcpListener, watched: Arc<Watched>) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::system("can't start the admin thread"))?;
    spawn("admin", move || {
        if let Err(error) = runtime.block_on(serve(listener, watched)) {
            say(Level::Warning, format_args!("the HTTP port is closed: {error}"));
        }
    })
}

async fn serve(listener: TcpListener, watched: Arc<Watched>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/status.json", get(status_json))
        .with_state(watched);
    axum::serve(listener, routes).await
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
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting\n".to_owned()),
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
