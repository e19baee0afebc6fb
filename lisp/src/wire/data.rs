//! LISP data header (RFC 6830 5.1, 5.3; RFC 9300 5).

use super::bits::{Bits, view};
use crate::error::DecodeError;

/// The 8 octets between the outer UDP header and the inner packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DataHeader {
    /// N bit: a nonce is present (24 bits).
    pub nonce: Option<u32>,
    /// L bit: locator-status bits are in use; ordinal 0 is the least significant bit.
    /// 32 bits, or 8 when an Instance ID is present.
    pub locator_status: Option<u32>,
    /// E bit: echo the nonce.
    pub echo_request: bool,
    /// V bit: (source, destination) map-version, 12 bits each.
    pub map_version: Option<(u16, u16)>,
    /// I bit: Instance ID, 24 bits.
    pub instance_id: Option<u32>,
    /// The three low flag bits (reserved in RFC 6830; R and KK in RFC 9300).
    pub flags: u8,
    /// Nonce/map-version field as it stood when neither N nor V is set (24 bits), or when both are.
    pub raw_nonce: u32,
    /// Second word as it stood where no flag claims its bits.
    pub raw_lsb: u32,
}

/// Length of the LISP data header in octets.
pub const DATA_HEADER_LEN: usize = 8;

/// Figure of RFC 6830 5.1. The two words are split further by the flags: see the other tables.
pub(crate) mod field {
    use super::Bits;
    pub(crate) const N: Bits = Bits::new("N (nonce-present)", 0, 1);
    pub(crate) const L: Bits = Bits::new("L (locator-status-bits)", 1, 1);
    pub(crate) const E: Bits = Bits::new("E (echo-nonce-request)", 2, 1);
    pub(crate) const V: Bits = Bits::new("V (map-version)", 3, 1);
    pub(crate) const I: Bits = Bits::new("I (instance-id)", 4, 1);
    pub(crate) const FLAGS: Bits = Bits::new("flags (6830: reserved; 9300: R, KK)", 5, 3);
    pub(crate) const NONCE: Bits = Bits::new("Nonce", 8, 24);
    pub(crate) const UNUSED_NONCE: Bits = Bits::new("Nonce/Map-Version (unused)", 8, 24);
    pub(crate) const SOURCE_VERSION: Bits = Bits::new("Source Map-Version", 8, 12);
    pub(crate) const DEST_VERSION: Bits = Bits::new("Dest Map-Version", 20, 12);
    pub(crate) const INSTANCE_ID: Bits = Bits::new("Instance ID", 32, 24);
    pub(crate) const LSBS_8: Bits = Bits::new("LSBs", 56, 8);
    pub(crate) const UNUSED_LSBS_8: Bits = Bits::new("LSBs (unused)", 56, 8);
    pub(crate) const LSBS: Bits = Bits::new("Locator-Status-Bits", 32, 32);
    pub(crate) const UNUSED_LSBS: Bits =
        Bits::new("Instance ID/Locator-Status-Bits (unused)", 32, 32);
}

view! {
    /// The LISP data header; the inner packet is its payload (RFC 6830 5.1).
    DataPacket, "LISP data header", DATA_HEADER_LEN, &[];
    /// N bit.
    has_nonce, set_has_nonce: bool = field::N;
    /// L bit.
    has_locator_status, set_has_locator_status: bool = field::L;
    /// E bit.
    echo_request, set_echo_request: bool = field::E;
    /// V bit.
    has_map_version, set_has_map_version: bool = field::V;
    /// I bit.
    has_instance_id, set_has_instance_id: bool = field::I;
    /// The three low flag bits.
    flags, set_flags: u8 = field::FLAGS;
    /// The 24 bits of the nonce field, whatever they mean.
    nonce, set_nonce: u32 = field::NONCE;
    /// Source map-version, meaningful with the V bit.
    source_map_version, set_source_map_version: u16 = field::SOURCE_VERSION;
    /// Destination map-version, meaningful with the V bit.
    destination_map_version, set_destination_map_version: u16 = field::DEST_VERSION;
    /// The second word, whatever it means.
    second_word, set_second_word: u32 = field::LSBS;
    /// Instance ID, meaningful with the I bit.
    instance_id, set_instance_id: u32 = field::INSTANCE_ID;
}

impl DataHeader {
    /// Decodes the first 8 octets of a UDP payload; the inner packet follows them. Any 8 octets are a header: N and V
    /// together are illegal to send, and then both the nonce and the versions are given (RFC 6830 6.6.3).
    ///
    /// # Errors
    /// When there are fewer than 8 octets.
    #[inline]
    pub fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        let view = DataPacket::new_checked(buffer)?;
        let (n, v) = (view.has_nonce(), view.has_map_version());
        let (l, i) = (view.has_locator_status(), view.has_instance_id());
        let word = view.second_word();
        // With an Instance ID only the low octet is left for locator-status bits.
        let status = if i { word & 0xff } else { word };
        Ok(DataHeader {
            nonce: n.then(|| view.nonce()),
            locator_status: l.then_some(status),
            echo_request: view.echo_request(),
            map_version: v.then(|| (view.source_map_version(), view.destination_map_version())),
            instance_id: i.then(|| view.instance_id()),
            flags: view.flags(),
            raw_nonce: if n == v { view.nonce() } else { 0 },
            raw_lsb: if l { 0 } else { status },
        })
    }

    /// Writes the header. Values wider than their field lose their high bits.
    #[inline]
    pub fn emit(&self, buffer: &mut [u8; DATA_HEADER_LEN]) {
        let mut view = DataPacket(&mut buffer[..]);
        view.set_has_nonce(self.nonce.is_some());
        view.set_has_locator_status(self.locator_status.is_some());
        view.set_echo_request(self.echo_request);
        view.set_has_map_version(self.map_version.is_some());
        view.set_has_instance_id(self.instance_id.is_some());
        view.set_flags(self.flags);
        match (self.nonce, self.map_version) {
            (Some(nonce), None) => view.set_nonce(nonce),
            (None, Some((source, destination))) => {
                view.set_source_map_version(source);
                view.set_destination_map_version(destination);
            }
            (None, None) | (Some(_), Some(_)) => view.set_nonce(self.raw_nonce),
        }
        let status = self.locator_status.unwrap_or(self.raw_lsb);
        view.set_second_word(match self.instance_id {
            Some(iid) => iid << 8 | status & 0xff,
            None => status,
        });
    }
}
