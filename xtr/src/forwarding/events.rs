//! What the packet threads report to the control plane: bounded, never waiting.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A packet that waits for its mapping. Give it back with `DataPlane::release`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPacket {
    /// Instance ID of its EIDs.
    pub iid: u32,
    /// The inner packet from its IP header on, checksums complete.
    pub bytes: Vec<u8>,
}

/// Something in a packet that the control plane may want to act on. All of them are rate-limited per kind and key
/// where they arise; the control plane still applies the protocol's own limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataEvent {
    /// No map-cache entry (or one that says send-map-request) for an eligible packet.
    Miss {
        /// Instance ID of the source EID.
        iid: u32,
        /// Inner source.
        source: IpAddr,
        /// Inner destination.
        destination: IpAddr,
        /// The packet itself.
        packet: HeldPacket,
    },
    /// A decapsulated packet's destination is a local EID, but the site has no route to it.
    NoRoute {
        /// Instance ID.
        iid: u32,
        /// Inner source: whose mapping tells to whom a Solicit-Map-Request goes.
        source: IpAddr,
        /// Inner destination.
        eid: IpAddr,
        /// Outer source: who sent it.
        encapsulator: IpAddr,
    },
    /// A data packet for an EID that is not here: away, de-configured, or never local.
    AwayEid {
        /// Instance ID.
        iid: u32,
        /// Inner source.
        source: IpAddr,
        /// Inner destination.
        eid: IpAddr,
        /// Outer source: who sent it.
        encapsulator: IpAddr,
        /// Whether an away entry covers the EID (false: no local EID-Prefix at all).
        known: bool,
    },
    /// A data packet for a local EID-Prefix whose senders are to be reported: one per encapsulator and second.
    Sender {
        /// Instance ID.
        iid: u32,
        /// Inner source.
        source: IpAddr,
        /// Inner destination.
        eid: IpAddr,
        /// Outer source: who sent it.
        encapsulator: IpAddr,
    },
    /// A Data-Probe (RFC 6830 3): inner and outer destinations are equal, which asks for a Map-Reply.
    DataProbe {
        /// Instance ID.
        iid: u32,
        /// The destination.
        eid: IpAddr,
        /// Outer source and UDP source port: where the Map-Reply goes.
        prober: SocketAddr,
        /// 24 bits; 0 without N bit.
        nonce: u32,
    },
    /// Locator-status bits of the sender's site (L bit, RFC 6830 6.3), when they differ from the last ones seen.
    LocatorStatus {
        /// Instance ID.
        iid: u32,
        /// Inner source: an EID of the site whose locators are meant.
        source: IpAddr,
        /// Outer source.
        encapsulator: IpAddr,
        /// Ordinal 0 is the least significant bit.
        bits: u32,
        /// 32, or 8 with an Instance ID.
        width: u8,
    },
    /// N bit without E: an echo of a nonce that we asked for (RFC 6830 6.3.1).
    EchoNonce {
        /// Outer source.
        encapsulator: IpAddr,
        /// 24 bits.
        nonce: u32,
    },
    /// V bit (RFC 6834): versions that differ from ours.
    MapVersion {
        /// Instance ID.
        iid: u32,
        /// Inner source.
        source: IpAddr,
        /// Inner destination.
        destination: IpAddr,
        /// Outer source.
        encapsulator: IpAddr,
        /// Source map-version of the packet.
        source_version: u16,
        /// Destination map-version of the packet.
        destination_version: u16,
    },
    /// The path to a locator carries less than we assumed (RFC 6830 5.4.2). The packet path applies it already.
    TooBig {
        /// The locator.
        rloc: IpAddr,
        /// Octets of the outer packet.
        mtu: u16,
    },
    /// ICMP says that a locator cannot be reached (RFC 6830 6.3): a hint to be verified.
    Unreachable {
        /// The locator.
        rloc: IpAddr,
        /// Who says so.
        reporter: Option<IpAddr>,
        /// ICMP or ICMPv6 type.
        kind: u8,
        /// ICMP or ICMPv6 code.
        code: u8,
    },
    /// An eligible packet from a source EID (host mobility): sent once for each new source.
    SourceSeen {
        /// Instance ID.
        iid: u32,
        /// Inner source.
        source: IpAddr,
    },
}

/// The packet threads' end.
#[derive(Debug, Clone)]
pub struct EventSender {
    queue: SyncSender<DataEvent>,
    wake: Arc<EventFd>,
}

/// The control plane's end. Its descriptor is readable while events wait.
#[derive(Debug)]
pub struct EventReceiver {
    queue: Receiver<DataEvent>,
    wake: Arc<EventFd>,
}

/// A channel that holds at most `capacity` events.
///
/// # Errors
/// No descriptor left for the wake-up.
pub fn event_channel(capacity: usize) -> std::io::Result<(EventSender, EventReceiver)> {
    let wake = Arc::new(EventFd::from_flags(
        EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
    )?);
    let (sender, receiver) = sync_channel(capacity);
    Ok((
        EventSender {
            queue: sender,
            wake: Arc::clone(&wake),
        },
        EventReceiver {
            queue: receiver,
            wake,
        },
    ))
}

impl EventSender {
    /// Queues an event; false when the queue is full or nobody listens any more.
    pub fn send(&self, event: DataEvent) -> bool {
        if self.queue.try_send(event).is_err() {
            return false;
        }
        // Only fails when the counter is about to overflow: the receiver is awake then anyway.
        let _ = self.wake.write(1);
        true
    }
}

impl EventReceiver {
    /// The next event, or none now. Clears the readable state first, so nothing is missed: read until `None`.
    pub fn try_recv(&self) -> Option<DataEvent> {
        match self.queue.try_recv() {
            Ok(event) => Some(event),
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                let _ = self.wake.read();
                self.queue.try_recv().ok()
            }
        }
    }

    /// The next event, waiting at most `timeout`; none: none came.
    pub fn recv_timeout(&self, timeout: Duration) -> Option<DataEvent> {
        self.queue.recv_timeout(timeout).ok()
    }
}

impl AsFd for EventReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
