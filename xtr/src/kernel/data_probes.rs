//! How Data-Probes reach an ETR (RFC 6830 3): LISP data packets whose outer destination is an EID of the site.
//!
//! The kernel would forward them to the host. A rule for UDP port 4341 to each local EID-Prefix sends them to a table in
//! which every address is one of this box, so that they arrive at the socket of the data port as all others do.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, IpProtocol, RouteNetlinkMessage,
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange},
};

use super::netlink::Netlink;
use super::{KernelError, PROTOCOL};

/// The rules and routes of this feature. They carry the marks of [`super::policy`], which clears what a killed run left.
#[derive(Debug)]
pub struct DataProbeRules {
    netlink: Netlink,
    table: u32,
    priority: u32,
    rules: BTreeSet<IpNet>,
    /// Families whose table has its route.
    routed: BTreeSet<bool>,
}

impl DataProbeRules {
    /// Starts without a rule. `priority` stands before the rules that lead into the tunnel.
    ///
    /// # Errors
    /// No route netlink socket.
    pub fn new(table: u32, priority: u32) -> Result<Self, KernelError> {
        let netlink =
            Netlink::open().map_err(|e| KernelError::new("opening a route netlink socket", e))?;
        Ok(Self {
            netlink,
            table,
            priority,
            rules: BTreeSet::new(),
            routed: BTreeSet::new(),
        })
    }

    /// Makes Data-Probes to these EID-Prefixes, and to no others, end here.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set(&mut self, prefixes: &BTreeSet<IpNet>) -> Result<(), KernelError> {
        for gone in self.rules.difference(prefixes).copied().collect::<Vec<_>>() {
            self.rules.remove(&gone);
            self.netlink
                .request(RouteNetlinkMessage::DelRule(self.rule(gone)), 0)
                .map_err(|e| {
                    KernelError::new(format!("removing the Data-Probe rule to {gone}"), e)
                })?;
        }
        for new in prefixes
            .difference(&self.rules)
            .copied()
            .collect::<Vec<_>>()
        {
            let v6 = new.addr().is_ipv6();
            if self.routed.insert(v6) {
                let flags = NLM_F_CREATE | NLM_F_REPLACE;
                self.netlink
                    .request(RouteNetlinkMessage::NewRoute(self.route(v6)), flags)
                    .map_err(|e| KernelError::new("adding the table of Data-Probes", e))?;
            }
            self.netlink
                .request(RouteNetlinkMessage::NewRule(self.rule(new)), NLM_F_CREATE)
                .map_err(|e| KernelError::new(format!("adding a Data-Probe rule to {new}"), e))?;
            self.rules.insert(new);
        }
        if self.rules.is_empty() {
            for v6 in std::mem::take(&mut self.routed) {
                // Gone already, by somebody's hand: as good.
                let route = RouteNetlinkMessage::DelRoute(self.route(v6));
                let _ = self.netlink.request(route, 0);
            }
        }
        Ok(())
    }

    /// Data-Probes go their way again, as all else does.
    pub fn remove_all(&mut self) {
        if let Err(error) = self.set(&BTreeSet::new()) {
            tracing::warn!(%error, "could not remove a Data-Probe rule");
        }
    }

    /// Every address is ours.
    fn route(&self, v6: bool) -> RouteMessage {
        /// The loopback device is the first of every network namespace.
        const LOOPBACK: u32 = 1;
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(v6),
            table: RouteHeader::RT_TABLE_UNSPEC,
            protocol: RouteProtocol::from(PROTOCOL),
            scope: RouteScope::Host,
            kind: RouteType::Local,
            ..RouteHeader::default()
        };
        message.attributes.push(RouteAttribute::Table(self.table));
        message.attributes.push(RouteAttribute::Oif(LOOPBACK));
        message
    }

    fn rule(&self, to: IpNet) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = family(to.addr().is_ipv6());
        message.header.dst_len = to.prefix_len();
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Table(self.table),
            RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
            RuleAttribute::IpProtocol(IpProtocol::Udp),
            RuleAttribute::DestinationPortRange(RulePortRange {
                start: lisp::DATA_PORT,
                end: lisp::DATA_PORT,
            }),
        ];
        if to.prefix_len() > 0 {
            let address: IpAddr = to.addr();
            message.attributes.push(RuleAttribute::Destination(address));
        }
        message
    }
}

fn family(v6: bool) -> AddressFamily {
    if v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}
