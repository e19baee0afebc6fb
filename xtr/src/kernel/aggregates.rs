//! The EID aggregates that a PITR attracts (RFC 6832 5.2): routes into the TUN device, in the main table, where
//! routing daemons find them and announce them to networks without LISP.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};

use super::netlink::Netlink;
use super::{AGGREGATE_PROTOCOL, KernelError};

/// The aggregates' routes. Dropping it does not remove them: [`AggregateRoutes::remove_all`] does, and so does the end
/// of the TUN device.
#[derive(Debug)]
pub struct AggregateRoutes {
    netlink: Netlink,
    device: u32,
    routes: BTreeSet<IpNet>,
}

impl AggregateRoutes {
    /// Clears what an earlier run left, and starts without an aggregate.
    ///
    /// # Errors
    /// Not allowed to change routing here.
    pub fn new(device: u32) -> Result<Self, KernelError> {
        let netlink =
            Netlink::open().map_err(|e| KernelError::new("opening a route netlink socket", e))?;
        let mut aggregates = Self {
            netlink,
            device,
            routes: BTreeSet::new(),
        };
        aggregates
            .clear_leftovers()
            .map_err(|e| KernelError::new("clearing the aggregates of an earlier run", e))?;
        Ok(aggregates)
    }

    /// Makes these the aggregates. Those that stay are not touched: a routing daemon sees no flap.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set(&mut self, aggregates: &[IpNet]) -> Result<(), KernelError> {
        let wanted: BTreeSet<IpNet> = aggregates.iter().map(IpNet::trunc).collect();
        for gone in self.routes.difference(&wanted).copied().collect::<Vec<_>>() {
            self.request(gone, false)
                .map_err(|e| KernelError::new(format!("removing the aggregate {gone}"), e))?;
            self.routes.remove(&gone);
        }
        for new in wanted.difference(&self.routes).copied().collect::<Vec<_>>() {
            self.request(new, true).map_err(|e| {
                KernelError::new(format!("adding a route for the aggregate {new}"), e)
            })?;
            self.routes.insert(new);
        }
        Ok(())
    }

    /// Attracts nothing any more.
    pub fn remove_all(&mut self) {
        if let Err(error) = self.set(&[]) {
            tracing::warn!(%error, "could not remove an aggregate");
        }
    }

    fn request(&mut self, prefix: IpNet, add: bool) -> std::io::Result<()> {
        let message = route(prefix, self.device);
        if add {
            let flags = NLM_F_CREATE | NLM_F_REPLACE;
            self.netlink
                .request(RouteNetlinkMessage::NewRoute(message), flags)?;
            return Ok(());
        }
        match self
            .netlink
            .request(RouteNetlinkMessage::DelRoute(message), 0)
        {
            // Gone already, by somebody's hand.
            Err(e) if !matches!(e.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => Err(e),
            _ => Ok(()),
        }
    }

    /// A TUN device takes its routes with it; what is left was changed by hand, or is the routes of a device that
    /// another program keeps open.
    fn clear_leftovers(&mut self) -> std::io::Result<()> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let routes = self
                .netlink
                .request(RouteNetlinkMessage::GetRoute(question), NLM_F_DUMP)?;
            for route in routes {
                if let RouteNetlinkMessage::NewRoute(route) = route
                    && route.header.protocol == RouteProtocol::from(AGGREGATE_PROTOCOL)
                {
                    self.netlink
                        .request(RouteNetlinkMessage::DelRoute(route), 0)?;
                }
            }
        }
        Ok(())
    }
}

fn route(prefix: IpNet, device: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: match prefix {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        },
        destination_prefix_length: prefix.prefix_len(),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::from(AGGREGATE_PROTOCOL),
        scope: RouteScope::Link,
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    if prefix.prefix_len() > 0 {
        let destination = match prefix.addr() {
            IpAddr::V4(a) => RouteAddress::Inet(a),
            IpAddr::V6(a) => RouteAddress::Inet6(a),
        };
        message
            .attributes
            .push(RouteAttribute::Destination(destination));
    }
    message.attributes.push(RouteAttribute::Oif(device));
    message
}
