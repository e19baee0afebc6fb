//! Packets by what became of them.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)+) => {
        /// Why a packet was counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Counter {
            $($(#[$doc])* $variant,)+
        }

        impl Counter {
            /// Every counter, in the order in which it is shown.
            pub const ALL: &'static [Counter] = &[$(Counter::$variant,)+];

            /// Its name in `show statistics`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Counter::$variant => $name,)+
                }
            }
        }
    };
}

counters! {
    /// Encapsulated and sent.
    Encapsulated => "encapsulated",
    /// Decapsulated and delivered to the site.
    Decapsulated => "decapsulated",
    /// Decapsulated and encapsulated again by an RTR.
    Reencapsulated => "re-encapsulated",
    /// DF=0 packets split before encapsulation (RFC 6830 5.4.1).
    Fragmented => "fragmented",
    /// Had no map-cache entry.
    Misses => "map-cache-misses",
    /// Misses that were not reported because the same destination, or too many, were already.
    MissesUnreported => "map-cache-misses-unreported",
    /// Handed back by the control plane after a hold.
    Released => "released",
    /// The mapping has no usable locator; the source is told.
    DroppedByMapping => "dropped-by-mapping",
    /// The map-cache says drop (ACT 3, unassigned actions, static entries); the source is told.
    DroppedByAction => "dropped-by-action",
    /// Reached the ITR with a source that is no local EID (RFC 6830 12).
    SourceNotEid => "source-not-local-eid",
    /// Carries two LISP headers already: it gets no third one (RFC 6830 4).
    TooManyHeaders => "too-many-lisp-headers",
    /// The kernel's own multicast on the TUN device (listener reports): ignored.
    Housekeeping => "device-housekeeping",
    /// Natively-forward entry met in the packet path: the kernel route had not taken effect yet.
    NativeInPath => "native-in-packet-path",
    /// Attracted by a PITR, or decapsulated by an RTR, for a destination that is no EID: sent natively it would return.
    NativeAtProxy => "native-destination-at-proxy",
    /// Too large for the locator with DF=1, or IPv6: answered with packet-too-big (RFC 6830 5.4).
    TooBig => "too-big",
    /// "Time exceeded" of the core, passed on to the host that traces (RFC 6830 9).
    TracePassedOn => "traceroute-passed-on",
    /// TTL or hop limit used up before encapsulation.
    TtlExpired => "ttl-expired",
    /// Not an IPv4 or IPv6 packet, or lengths that contradict each other, on the way in from the site.
    SiteMalformed => "site-malformed",
    /// The kernel refused to send.
    SendErrors => "send-errors",
    /// LISP data packet shorter than its header and an IP header.
    Truncated => "truncated",
    /// Inner packet neither IPv4 nor IPv6.
    InnerVersion => "inner-version",
    /// Inner header length or total length contradicts the packet.
    InnerLength => "inner-length",
    /// Inner IPv4 header checksum wrong.
    InnerChecksum => "inner-checksum",
    /// Inner source or destination that never may appear on a wire between sites (loopback, unspecified, multicast source).
    InnerAddress => "inner-address",
    /// Inner destination is no local EID (RFC 6830 12).
    DestinationNotEid => "destination-not-local-eid",
    /// Inner destination is a local EID that is away.
    DestinationAway => "destination-away",
    /// Inner destination is a local EID without a route in the site.
    NoSiteRoute => "no-site-route",
    /// PETR: inner source is no EID of a configured site (RFC 6832 6.1).
    PetrSource => "petr-source",
    /// PETR: outer source is no locator of a configured site.
    PetrLocator => "petr-locator",
    /// Map-versions that forbid the packet: newer than ours, older than the mapping that we have, or none of ours to
    /// compare with (RFC 6834 5, RFC 9302 7).
    MapVersion => "map-version",
    /// Congestion experienced outside over a not ECN-capable inner packet (RFC 6040 4.2, edition 9300).
    EcnDrop => "ecn-drop",
    /// Encrypted payload (KK bits, RFC 8061, edition 9300): not supported.
    Encrypted => "encrypted",
    /// The kernel refused the decapsulated packet.
    DeliveryErrors => "delivery-errors",
    /// Events for the control plane that found its queue full or came too fast.
    EventsSuppressed => "events-suppressed",
}

/// The counters of a data plane. Relaxed atomics: totals are exact, their relation at one instant is not.
#[derive(Debug)]
pub struct Counters([AtomicU64; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Counters {
    /// Counts `n` packets.
    pub fn add(&self, counter: Counter, n: u64) {
        self.0[counter as usize].fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }

    /// All counts, in the order of [`Counter::ALL`].
    pub fn all(&self) -> impl Iterator<Item = (Counter, u64)> {
        Counter::ALL.iter().map(|&c| (c, self.get(c)))
    }
}
