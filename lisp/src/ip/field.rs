//! The headers' bit layouts.

/// Figure of RFC 791 3.1.
pub(crate) mod v4 {
    use crate::wire::bits::Bits;
    pub(crate) const VERSION: Bits = Bits::new("Version", 0, 4);
    pub(crate) const IHL: Bits = Bits::new("IHL", 4, 4);
    pub(crate) const DSCP: Bits = Bits::new("DSCP", 8, 6);
    pub(crate) const ECN: Bits = Bits::new("ECN", 14, 2);
    pub(crate) const TOTAL_LENGTH: Bits = Bits::new("Total Length", 16, 16);
    pub(crate) const IDENTIFICATION: Bits = Bits::new("Identification", 32, 16);
    pub(crate) const RESERVED: Bits = Bits::new("Reserved flag", 48, 1);
    pub(crate) const DF: Bits = Bits::new("DF (don't fragment)", 49, 1);
    pub(crate) const MF: Bits = Bits::new("MF (more fragments)", 50, 1);
    pub(crate) const FRAGMENT_OFFSET: Bits = Bits::new("Fragment Offset", 51, 13);
    pub(crate) const TTL: Bits = Bits::new("TTL", 64, 8);
    pub(crate) const PROTOCOL: Bits = Bits::new("Protocol", 72, 8);
    pub(crate) const CHECKSUM: Bits = Bits::new("Header Checksum", 80, 16);
    pub(crate) const SOURCE: Bits = Bits::new("Source Address", 96, 32);
    pub(crate) const DESTINATION: Bits = Bits::new("Destination Address", 128, 32);
}

/// Figure of RFC 8200 3.
pub(crate) mod v6 {
    use crate::wire::bits::Bits;
    pub(crate) const VERSION: Bits = Bits::new("Version", 0, 4);
    pub(crate) const DSCP: Bits = Bits::new("DSCP", 4, 6);
    pub(crate) const ECN: Bits = Bits::new("ECN", 10, 2);
    pub(crate) const FLOW_LABEL: Bits = Bits::new("Flow Label", 12, 20);
    pub(crate) const PAYLOAD_LENGTH: Bits = Bits::new("Payload Length", 32, 16);
    pub(crate) const NEXT_HEADER: Bits = Bits::new("Next Header", 48, 8);
    pub(crate) const HOP_LIMIT: Bits = Bits::new("Hop Limit", 56, 8);
    pub(crate) const SOURCE: Bits = Bits::new("Source Address", 64, 128);
    pub(crate) const DESTINATION: Bits = Bits::new("Destination Address", 192, 128);
}

/// Figure of RFC 768.
pub(crate) mod udp {
    use crate::wire::bits::Bits;
    pub(crate) const SOURCE_PORT: Bits = Bits::new("Source Port", 0, 16);
    pub(crate) const DESTINATION_PORT: Bits = Bits::new("Destination Port", 16, 16);
    pub(crate) const LENGTH: Bits = Bits::new("Length", 32, 16);
    pub(crate) const CHECKSUM: Bits = Bits::new("Checksum", 48, 16);
}
