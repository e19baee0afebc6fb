//! A whole LISP packet, from the outer IP header on, in semantic form.

use crate::error::DecodeError;
use crate::ip::{IpHeader, IpPacket, UDP_HEADER_LEN, UdpDatagram};
use crate::wire::data::DATA_HEADER_LEN;
use crate::wire::{ControlMessage, DataHeader, Ecm};
use crate::{CONTROL_PORT, DATA_PORT};

/// How many Encapsulated Control Messages may stand inside each other. The RFCs know one; the bound keeps the decoder's
/// stack use independent of what it is fed.
pub const MAX_ECM_DEPTH: usize = 4;

/// A LISP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// IP header.
    pub header: IpHeader,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// The UDP checksum field is zero: none was computed.
    pub zero_checksum: bool,
    /// What the datagram holds.
    pub payload: Payload,
}

/// What a LISP packet holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// An encapsulated packet (destination port 4341).
    Data {
        /// LISP data header.
        header: DataHeader,
        /// IP header of the inner packet.
        inner: IpHeader,
        /// What follows the inner IP header, verbatim.
        inner_payload: Vec<u8>,
    },
    /// A control message (port 4342), but not an encapsulated one.
    Control(ControlMessage),
    /// An Encapsulated Control Message.
    Encapsulated {
        /// Its header and authentication data; `inner` is empty here.
        ecm: Ecm,
        /// The packet inside.
        packet: Box<Packet>,
    },
}

/// What a UDP datagram holds, by its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    Data,
    Control,
}

/// What a UDP datagram holds, by its ports; inside `depth` Encapsulated Control Messages it is a control message whatever
/// its ports, because RFC 6830 6.1.8 leaves them to the message. Offsets count from the UDP header.
pub(crate) fn carried(datagram: &UdpDatagram<'_>, depth: usize) -> Result<Carried, DecodeError> {
    let (source, destination) = (datagram.source_port, datagram.destination_port);
    if depth > 0
        || source == CONTROL_PORT && destination != DATA_PORT
        || destination == CONTROL_PORT
    {
        return Ok(Carried::Control);
    }
    if destination == DATA_PORT {
        return Ok(Carried::Data);
    }
    Err(DecodeError {
        message: "UDP header",
        field: "Destination Port",
        offset: 2,
        expected: "LISP: to port 4341 (data), or from or to port 4342 (control)".into(),
        found: format!("from port {source} to port {destination}"),
    })
}

/// The error of one Encapsulated Control Message too many.
pub(crate) fn too_deep(offset: usize) -> DecodeError {
    DecodeError {
        message: "Encapsulated Control Message",
        field: "inner packet",
        offset,
        expected: format!("at most {MAX_ECM_DEPTH} of them inside each other"),
        found: "another one".into(),
    }
}

impl Packet {
    /// Decodes a packet that fills `buffer` exactly, from the outer IP header to the innermost control message or to the
    /// inner packet's IP header. Lengths and checksums are verified.
    ///
    /// # Errors
    /// Whatever is wrong first, with its offset from the outer IP header.
    pub fn parse(buffer: &[u8]) -> Result<Self, DecodeError> {
        Self::parse_at(buffer, 0)
    }

    fn parse_at(buffer: &[u8], depth: usize) -> Result<Self, DecodeError> {
        let packet = IpPacket::parse(buffer)?;
        let datagram = UdpDatagram::parse(&packet)?;
        let udp_at = packet.header.len();
        let payload_at = udp_at + UDP_HEADER_LEN;
        let carried = carried(&datagram, depth).map_err(|error| error.shifted(udp_at))?;
        let payload = match carried {
            Carried::Data => parse_data(datagram.payload),
            Carried::Control => parse_control(datagram.payload, depth),
        };
        Ok(Packet {
            source_port: datagram.source_port,
            destination_port: datagram.destination_port,
            zero_checksum: datagram.zero_checksum,
            payload: payload.map_err(|error| error.shifted(payload_at))?,
            header: packet.header,
        })
    }

    /// The packet as octets; lengths and checksums computed.
    ///
    /// # Panics
    /// As the `emit` of what it holds, when something does not fit its field.
    pub fn to_vec(&self) -> Vec<u8> {
        let payload = match &self.payload {
            Payload::Data {
                header,
                inner,
                inner_payload,
            } => {
                let mut octets = [0; DATA_HEADER_LEN];
                header.emit(&mut octets);
                [&octets[..], &inner.emit(inner_payload)].concat()
            }
            Payload::Control(message) => message.to_vec(),
            Payload::Encapsulated { ecm, packet } => Ecm {
                inner: packet.to_vec(),
                ..ecm.clone()
            }
            .to_vec(),
        };
        let datagram = UdpDatagram {
            source_port: self.source_port,
            destination_port: self.destination_port,
            zero_checksum: self.zero_checksum,
            payload: &payload,
        };
        self.header
            .emit(&datagram.emit(self.header.source(), self.header.destination()))
    }
}

fn parse_data(payload: &[u8]) -> Result<Payload, DecodeError> {
    let header = DataHeader::parse(payload)?;
    let inner = IpPacket::parse(&payload[DATA_HEADER_LEN..])
        .map_err(|error| error.shifted(DATA_HEADER_LEN))?;
    Ok(Payload::Data {
        header,
        inner_payload: inner.payload.to_vec(),
        inner: inner.header,
    })
}

fn parse_control(payload: &[u8], depth: usize) -> Result<Payload, DecodeError> {
    let mut ecm = match ControlMessage::parse(payload)? {
        ControlMessage::Encapsulated(ecm) => ecm,
        message => return Ok(Payload::Control(message)),
    };
    let inner_at = ecm.inner_offset();
    if depth == MAX_ECM_DEPTH {
        return Err(too_deep(inner_at));
    }
    let inner = std::mem::take(&mut ecm.inner);
    let packet = Packet::parse_at(&inner, depth + 1).map_err(|error| error.shifted(inner_at))?;
    Ok(Payload::Encapsulated {
        ecm,
        packet: Box::new(packet),
    })
}

/// Decodes a packet to its semantic form and emits that: the same octets, for every valid packet.
///
/// # Errors
/// When it is not valid: see [`Packet::parse`].
pub fn reencode(packet: &[u8]) -> Result<Vec<u8>, DecodeError> {
    Packet::parse(packet).map(|packet| packet.to_vec())
}
