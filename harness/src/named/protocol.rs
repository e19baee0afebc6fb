//! What is said over a holder's admin socket: one request and one answer per connection, each one line of JSON; some answers
//! carry descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use super::Status;

/// The longest line: a status of some thousand nodes fits.
const LONGEST: usize = 8 << 20;

/// What a holder is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Request {
    Status,
    /// The namespaces of a node: user, network, mount, PID.
    Enter {
        node: String,
    },
    /// The network namespaces of the capturing ends of links.
    Tap {
        links: Vec<String>,
    },
    Link {
        link: String,
        change: LinkChange,
    },
    Kill {
        node: String,
        signal: i32,
    },
    Restart {
        node: String,
    },
    Down,
}

/// What is to become of a link.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LinkChange {
    /// Plug the cable in (true) or pull it (false).
    pub up: Option<bool>,
    /// Damage to set, in the words of the topology's `impair`: `loss`, `delay`, `jitter`, `duplicate`, `reorder`, `corrupt`,
    /// `rate`, `seed`, each with its value. What is not named keeps its value; `none` as value takes it back.
    pub set: Vec<(String, String)>,
}

/// What a holder answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Answer {
    Done,
    Status(Box<Status>),
    Doors,
    Taps(Vec<TapPlace>),
    Failed { message: String, exit_code: u8 },
}

/// Where a link is captured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TapPlace {
    pub(crate) link: String,
    pub(crate) near: String,
    pub(crate) far: String,
    pub(crate) index: u32,
    pub(crate) large: bool,
}

/// Sends a line, with descriptors.
pub(crate) fn send(
    socket: &UnixStream,
    message: &impl Serialize,
    descriptors: &[OwnedFd],
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let raw: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    // The kernel takes 253 descriptors per message (SCM_MAX_FD): they travel with one octet of the line each time.
    let mut sent = 0;
    for part in raw.chunks(200) {
        let rights = [ControlMessage::ScmRights(part)];
        let octet = [IoSlice::new(&line[sent..sent + 1])];
        sent += sendmsg::<()>(
            socket.as_raw_fd(),
            &octet,
            &rights,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
    }
    while sent < line.len() {
        let rest = [IoSlice::new(&line[sent..])];
        sent += sendmsg::<()>(socket.as_raw_fd(), &rest, &[], MsgFlags::MSG_NOSIGNAL, None)?;
    }
    Ok(())
}

/// Receives a line and its descriptors.
pub(crate) fn receive<T: for<'a> Deserialize<'a>>(
    socket: &UnixStream,
) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut line = Vec::new();
    let mut descriptors = Vec::new();
    let mut buffer = vec![0u8; 64 << 10];
    while line.last() != Some(&b'\n') {
        let mut space = cmsg_space!([i32; 253]);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel has just put these descriptors into this process; nobody else owns them.
                descriptors.extend(
                    raw.into_iter()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                );
            }
        }
        let length = message.bytes;
        if length == 0 || line.len() + length > LONGEST {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend_from_slice(&buffer[..length]);
    }
    Ok((serde_json::from_slice(&line)?, descriptors))
}
