//! `collage monitor --prometheus ADDR`: the snapshot over HTTP, for Prometheus to scrape.
//!
//! GPUs are read at each interval whether anybody scrapes or not, because verdicts and shares need a window; engines are
//! asked once a scrape.

mod metrics;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tiny_http::{Header, Method, Request, Response, Server};

use super::super::console::Console;
use super::super::failure::Failure;
use super::snapshot::Sampler;

/// What Prometheus calls its text format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
const INDEX: &str = "collage monitor: the metrics are at /metrics\n";

/// Serves until it is interrupted.
pub fn run(
    console: &Console,
    sampler: Sampler,
    interval: Duration,
    address: &str,
) -> Result<(), Failure> {
    let server = listen(address)?;
    let host = host_name();
    let at = server.server_addr();
    console.say(&format!("metrics at http://{at}/metrics"))?;
    let sampler = Arc::new(Mutex::new(sampler));
    let reading = sampler.clone();
    thread::spawn(move || read_on(&reading, interval));
    for request in server.incoming_requests() {
        let answered = answer(request, &sampler, &host);
        if let Err(error) = answered {
            tracing::debug!(%error, "a scrape was not taken");
        }
    }
    Ok(())
}

/// The address is one to listen at, or it is said why not.
fn listen(address: &str) -> Result<Server, Failure> {
    let expected = "expected HOST:PORT, such as 127.0.0.1:9835";
    let addresses: Vec<SocketAddr> = address
        .to_socket_addrs()
        .map_err(|error| Failure::usage(format!("--prometheus {address}: {error}; {expected}")))?
        .collect();
    let Some(&first) = addresses.first() else {
        return Err(Failure::usage(format!(
            "--prometheus {address}: names no address; {expected}"
        )));
    };
    Server::http(first)
        .map_err(|error| Failure::other(format!("--prometheus {address}: cannot listen: {error}")))
}

/// Reads the GPUs at each interval, for ever.
fn read_on(sampler: &Mutex<Sampler>, interval: Duration) {
    let mut next = Instant::now();
    loop {
        lock(sampler).read();
        next = (next + interval).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn answer(request: Request, sampler: &Mutex<Sampler>, host: &str) -> io::Result<()> {
    let path = request.url().split('?').next().unwrap_or_default();
    match (request.method(), path) {
        (Method::Get | Method::Head, "/metrics") => {
            let snapshot = lock(sampler).snapshot();
            let format = Header::from_bytes("Content-Type", FORMAT)
                .unwrap_or_else(|()| unreachable!("a header of ASCII"));
            let text = metrics::text(&snapshot, host);
            request.respond(Response::from_string(text).with_header(format))
        }
        (Method::Get | Method::Head, "/") => request.respond(Response::from_string(INDEX)),
        (Method::Get | Method::Head, _) => {
            request.respond(Response::from_string(INDEX).with_status_code(404))
        }
        _ => request.respond(Response::from_string("only GET\n").with_status_code(405)),
    }
}

/// A reading that panicked left nothing half done that the next one would not do again.
fn lock(sampler: &Mutex<Sampler>) -> std::sync::MutexGuard<'_, Sampler> {
    sampler.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As DCGM's exporter labels it.
fn host_name() -> String {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    name
}
