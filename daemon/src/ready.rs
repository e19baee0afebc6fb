//! Telling the world that a daemon serves.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Logs the line `ready` and, when a service manager set `NOTIFY_SOCKET`, tells it too.
///
/// Call it once sockets and devices are in place.
pub fn notify() {
    tracing::info!("ready");
    if let Err(error) = tell_service_manager("READY=1") {
        tracing::warn!("the service manager was not told that this daemon is ready: {error}");
    }
}

/// Sends a state line of the `sd_notify` protocol; without `NOTIFY_SOCKET` it does nothing.
pub fn tell_service_manager(state: &str) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return Ok(());
    };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}
