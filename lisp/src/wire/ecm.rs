//! Encapsulated Control Message (RFC 6830 6.1.8; RFC 9301 5.8).

use std::net::IpAddr;

use super::ControlMessage;
use super::bits::{Bits, view};
use super::cursor::Writer;
use crate::error::DecodeError;
use crate::ip::{self, IpPacket, UdpDatagram};

/// An Encapsulated Control Message: LISP header, inner IP and UDP headers, and a control message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ecm {
    /// S bit: LISP-SEC authentication data follows the header.
    pub security: bool,
    /// D bit (RFC 8111): DDT-originated.
    pub ddt: bool,
    /// Bits 6 to 31 of the first word.
    pub reserved: u32,
    /// LISP-SEC authentication data (RFC 9303 6.1), verbatim; empty without the S bit.
    pub authentication: Vec<u8>,
    /// The inner IP packet (header, UDP, control message), verbatim. A Map-Server forwards it unaltered (RFC 6833 4.3).
    pub inner: Vec<u8>,
}

/// What stands inside an ECM, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcmInner {
    /// Inner source address.
    pub source: IpAddr,
    /// Inner destination address: the EID asked for.
    pub destination: IpAddr,
    /// Inner UDP source port: the Map-Reply goes there (RFC 6830 6.1.5, ambiguities B4).
    pub source_port: u16,
    /// Inner UDP destination port, 4342.
    pub destination_port: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The inner UDP checksum is zero, which a control message may not have (RFC 6830 6.1.8; ambiguities A11). A
    /// non-zero one was verified.
    pub zero_checksum: bool,
    /// The control message.
    pub message: Box<ControlMessage>,
}

/// Figure of RFC 6830 6.1.8; D is RFC 8111 6.2 and RFC 9301 5.8.
pub(crate) mod field {
    use super::Bits;
    pub(crate) const LEN: usize = 4;
    pub(crate) const TYPE: Bits = Bits::new("Type", 0, 4);
    pub(crate) const SECURITY: Bits = Bits::new("S (security)", 4, 1);
    pub(crate) const DDT: Bits = Bits::new("D (DDT-originated)", 5, 1);
    pub(crate) const RESERVED: Bits = Bits::new("Reserved", 6, 26);
}

view! {
    /// The LISP header of an Encapsulated Control Message; authentication data or the inner packet is its payload.
    EcmPacket, "Encapsulated Control Message", field::LEN, &[8];
    /// Type, 8.
    kind, set_kind: u8 = field::TYPE;
    /// S bit.
    security, set_security: bool = field::SECURITY;
    /// D bit.
    ddt, set_ddt: bool = field::DDT;
    /// Bits 6 to 31.
    reserved, set_reserved: u32 = field::RESERVED;
}

/// What errors call this message.
const NAME: &str = "Encapsulated Control Message";

impl Ecm {
    /// Decodes a whole UDP payload; the inner packet is kept as it is: see [`Ecm::decode_inner`].
    ///
    /// # Errors
    /// When it is cut short, or no IP packet stands where the inner one should.
    pub fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        let fixed = EcmPacket::new_checked(buffer)?;
        let after = &buffer[field::LEN..];
        let authentication = match fixed.security() {
            true => authentication_len(after)?,
            false => 0,
        };
        let (authentication, inner) = after.split_at(authentication);
        match inner.first().map(|octet| octet >> 4) {
            Some(4 | 6) => {}
            found => {
                return Err(DecodeError {
                    message: NAME,
                    field: "inner IP version",
                    offset: buffer.len() - inner.len(),
                    expected: "4 or 6".into(),
                    found: found.map_or("the end of the message".into(), |found| found.to_string()),
                });
            }
        }
        Ok(Ecm {
            security: fixed.security(),
            ddt: fixed.ddt(),
            reserved: fixed.reserved(),
            authentication: authentication.to_vec(),
            inner: inner.to_vec(),
        })
    }

    /// Octets on the wire.
    pub fn buffer_len(&self) -> usize {
        field::LEN + self.authentication.len() + self.inner.len()
    }

    /// Writes the message into a buffer of exactly `buffer_len()` octets, whatever it held before.
    ///
    /// # Panics
    /// When the buffer has another length.
    pub fn emit(&self, buffer: &mut [u8]) {
        let mut writer = Writer::new(buffer);
        let mut fixed = EcmPacket(writer.fixed(field::LEN));
        fixed.set_kind(8);
        fixed.set_security(self.security);
        fixed.set_ddt(self.ddt);
        fixed.set_reserved(self.reserved);
        writer.put(&self.authentication);
        writer.put(&self.inner);
        writer.finish();
    }

    impl_to_vec!();

    /// Encapsulates a control message: inner IP header (DF set over IPv4), inner UDP header, both with checksums.
    ///
    /// `source` and `destination` should be of one family. The inner header can hold but one: a source of the other
    /// family is replaced by the unspecified address of the destination's.
    pub fn wrap(
        source: IpAddr,
        destination: IpAddr,
        source_port: u16,
        destination_port: u16,
        ttl: u8,
        message: &ControlMessage,
    ) -> Ecm {
        let inner = ip::udp_packet(
            source,
            destination,
            source_port,
            destination_port,
            ttl,
            &message.to_vec(),
        );
        Ecm {
            inner,
            ..Ecm::default()
        }
    }

    /// Where the inner IP packet starts, from the message's type octet.
    pub fn inner_offset(&self) -> usize {
        field::LEN + self.authentication.len()
    }

    /// Decodes the inner packet: IP header and its checksum, UDP length and checksum, control message. Offsets in
    /// errors count from the type octet of this message.
    ///
    /// # Errors
    /// When a length or checksum is wrong, it is no UDP, or no control message.
    pub fn decode_inner(&self) -> Result<EcmInner, DecodeError> {
        self.decode_inner_packet()
            .map_err(|error| error.shifted(self.inner_offset()))
    }

    fn decode_inner_packet(&self) -> Result<EcmInner, DecodeError> {
        let packet = IpPacket::parse(&self.inner)?;
        let udp = UdpDatagram::parse(&packet)?;
        let message = ControlMessage::parse(udp.payload)
            .map_err(|error| error.shifted(packet.header.len() + ip::UDP_HEADER_LEN))?;
        Ok(EcmInner {
            source: packet.header.source(),
            destination: packet.header.destination(),
            source_port: udp.source_port,
            destination_port: udp.destination_port,
            ttl: packet.header.ttl(),
            zero_checksum: udp.zero_checksum,
            message: Box::new(message),
        })
    }
}

/// The length of LISP-SEC authentication data (RFC 9303 6.1) at the start of `buffer`.
///
/// The figure counts the 'OTK Length' word itself among the OTK-AD, the text ("contains the OTK Preamble and the OTK")
/// does not. Both are tried, and the one behind which an IP packet of exactly the remaining length starts is right.
fn authentication_len(buffer: &[u8]) -> Result<usize, DecodeError> {
    let u16_at = |at: usize| {
        let octets = buffer.get(at..at + 2)?;
        Some(usize::from(u16::from_be_bytes([octets[0], octets[1]])))
    };
    let candidate = |otk_header: usize| {
        let eid_ad = 4 + otk_header + u16_at(4)?;
        let end = eid_ad + u16_at(eid_ad)?;
        let inner = buffer.get(end..)?;
        (ip::total_len(inner)? == inner.len()).then_some(end)
    };
    candidate(4).or_else(|| candidate(0)).ok_or_else(|| DecodeError {
        message: NAME,
        field: "Authentication Data",
        offset: field::LEN,
        expected: "LISP-SEC authentication data whose lengths end where an IP packet starts, as the S bit says".into(),
        found: format!("{} octets of which none such", buffer.len()),
    })
}
