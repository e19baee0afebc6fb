//! Which EIDs the site has a route to.
//!
//! A route of the site is one that does not merely exist because everything has a default route, and does not lead
//! into the tunnel. A decapsulated packet without one would be sent back toward the core.

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType},
};

use super::KernelError;
use super::netlink::Netlink;
use crate::forwarding::Prefixes;

/// Multicast groups that announce changes of routes, links and addresses.
const GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
];

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Sends it on into the site.
    Forwards,
    /// Delivers it on this box.
    Delivers,
    /// Refuses it.
    Refuses,
}

/// Routes of the main and local tables.
#[derive(Debug, Default)]
pub struct SiteRoutes(Prefixes<(IpNet, Kind)>);

impl SiteRoutes {
    /// Whether a packet to `eid` would stay in the site.
    pub fn has_route(&self, eid: IpAddr) -> bool {
        self.0
            .longest_match(eid)
            .is_some_and(|(_, kind)| *kind != Kind::Refuses)
    }

    /// Whether packets to some part of `prefix` would be sent on into the site. This box's own addresses do not
    /// count: they stay when the interface into the site goes down.
    pub fn reaches(&self, prefix: &IpNet) -> bool {
        let forwards = |route: &&(IpNet, Kind)| route.1 == Kind::Forwards;
        let covered = self.0.covering(prefix).last().copied();
        covered.as_ref().is_some_and(forwards) || self.0.inside(prefix).iter().any(forwards)
    }

    /// The routes that matter for packets to some part of `prefix`, and whether such a packet would stay in the site.
    pub(crate) fn about(&self, prefix: &IpNet) -> impl Iterator<Item = (IpNet, bool)> {
        let covering = self.0.covering(prefix).last().copied();
        covering
            .into_iter()
            .chain(self.0.inside(prefix))
            .map(|(route, kind)| (*route, *kind != Kind::Refuses))
    }

    fn read(netlink: &mut Netlink, tunnel: u32) -> std::io::Result<Self> {
        let mut routes = Self::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let answers = netlink.request(RouteNetlinkMessage::GetRoute(question), NLM_F_DUMP)?;
            for answer in answers {
                if let RouteNetlinkMessage::NewRoute(route) = answer {
                    routes.note(&route, tunnel);
                }
            }
        }
        Ok(routes)
    }

    fn note(&mut self, route: &RouteMessage, tunnel: u32) {
        let table = route
            .attributes
            .iter()
            .find_map(|a| match a {
                RouteAttribute::Table(table) => Some(*table),
                _ => None,
            })
            .unwrap_or(u32::from(route.header.table));
        let known = [RouteHeader::RT_TABLE_MAIN, 255].map(u32::from);
        let length = route.header.destination_prefix_length;
        if !known.contains(&table) || length == 0 {
            return;
        }
        let kind = match route.header.kind {
            RouteType::Unicast => {
                let tunneled = route
                    .attributes
                    .iter()
                    .any(|a| matches!(a, RouteAttribute::Oif(index) if *index == tunnel));
                if tunneled {
                    Kind::Refuses
                } else {
                    Kind::Forwards
                }
            }
            RouteType::Local => Kind::Delivers,
            RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Kind::Refuses,
            _ => return,
        };
        let address = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Destination(RouteAddress::Inet(a)) => Some(IpAddr::V4(*a)),
            RouteAttribute::Destination(RouteAddress::Inet6(a)) => Some(IpAddr::V6(*a)),
            _ => None,
        });
        if let Some(prefix) = address.and_then(|a| IpNet::new(a, length).ok()) {
            self.0.insert(prefix.trunc(), (prefix.trunc(), kind));
        }
    }
}

/// The routes as they stand, renewed by whoever watches the kernel's announcements.
#[derive(Debug)]
pub struct SiteMonitor {
    announcements: Netlink,
    requests: Netlink,
    tunnel: u32,
    current: Arc<RwLock<Arc<SiteRoutes>>>,
}

/// A reader's handle on the routes.
#[derive(Debug, Clone)]
pub struct SiteView(Arc<RwLock<Arc<SiteRoutes>>>);

impl SiteView {
    /// The routes as they stand now.
    pub fn current(&self) -> Arc<SiteRoutes> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SiteMonitor {
    /// Reads the routes of the calling thread's network namespace and listens for changes.
    ///
    /// # Errors
    /// No netlink socket, or the kernel does not list routes.
    pub fn new(tunnel: u32) -> Result<Self, KernelError> {
        let failed = |e| KernelError::new("reading the kernel's routes", e);
        let announcements = Netlink::listen(&GROUPS).map_err(failed)?;
        let mut requests = Netlink::open().map_err(failed)?;
        let routes = SiteRoutes::read(&mut requests, tunnel).map_err(failed)?;
        Ok(Self {
            announcements,
            requests,
            tunnel,
            current: Arc::new(RwLock::new(Arc::new(routes))),
        })
    }

    /// A handle for readers.
    pub fn view(&self) -> SiteView {
        SiteView(Arc::clone(&self.current))
    }

    /// The socket that becomes readable when something changed.
    pub fn announcements(&self) -> &Netlink {
        &self.announcements
    }

    /// Reads the routes again if anything was announced; whether it was.
    pub fn refresh(&mut self) -> bool {
        if !self.announcements.drain() {
            return false;
        }
        match SiteRoutes::read(&mut self.requests, self.tunnel) {
            Ok(routes) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
            }
            Err(error) => tracing::warn!(%error, "could not read the kernel's routes"),
        }
        true
    }
}
