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
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType},
    rule::{RuleAttribute, RuleMessage},
};

use super::netlink::Netlink;
use super::{KernelError, PROTOCOL};
use crate::forwarding::Prefixes;

/// Multicast groups that announce changes of routes, links and addresses.
const GROUPS: [u32; 6] = [
    libc::RTNLGRP_IPV6_RULE,
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
    /// Leads it into the tunnel.
    Tunnel,
}

impl Kind {
    /// Whether the packet stays in the site.
    fn stays(self) -> bool {
        matches!(self, Self::Forwards | Self::Delivers)
    }
}

/// Routes of the main and local tables.
#[derive(Debug, Default)]
pub struct SiteRoutes {
    routes: Prefixes<(IpNet, Kind)>,
    /// Rules for IPv6 beside those that every box and our policy routing have.
    foreign_rules_v6: bool,
}

impl SiteRoutes {
    /// Whether a packet to `eid` would stay in the site.
    pub fn has_route(&self, eid: IpAddr) -> bool {
        self.routes
            .longest_match(eid)
            .is_some_and(|(_, kind)| kind.stays())
    }

    /// Whether packets to some part of `prefix` would be sent on into the site. This box's own addresses do not
    /// count: they stay when the interface into the site goes down.
    pub fn reaches(&self, prefix: &IpNet) -> bool {
        let forwards = |route: &&(IpNet, Kind)| route.1 == Kind::Forwards;
        let covered = self.routes.covering(prefix).last().copied();
        covered.as_ref().is_some_and(forwards) || self.routes.inside(prefix).iter().any(forwards)
    }

    /// The routes that matter for packets to some part of `prefix`, and whether such a packet would stay in the site.
    pub(crate) fn about(&self, prefix: &IpNet) -> impl Iterator<Item = (IpNet, bool)> {
        let covering = self.routes.covering(prefix).last().copied();
        covering
            .into_iter()
            .chain(self.routes.inside(prefix))
            .map(|(route, kind)| (*route, kind.stays()))
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
        let mut question = RuleMessage::default();
        question.header.family = AddressFamily::Inet6;
        let answers = netlink.request(RouteNetlinkMessage::GetRule(question), NLM_F_DUMP)?;
        routes.foreign_rules_v6 = answers.iter().any(|answer| match answer {
            RouteNetlinkMessage::NewRule(rule) => is_foreign(rule),
            _ => false,
        });
        Ok(routes)
    }

    /// Routes of IPv6, and whether packets that they lead to leave otherwise than by the tunnel.
    pub(crate) fn before_tunnel(&self) -> impl Iterator<Item = (IpNet, bool)> {
        self.routes
            .values()
            .filter(|(prefix, _)| prefix.addr().is_ipv6())
            .map(|(prefix, kind)| (*prefix, *kind != Kind::Tunnel))
    }

    /// Whether our own rules alone decide which packets of IPv6 are the tunnel's.
    pub(crate) fn rules_are_plain_v6(&self) -> bool {
        !self.foreign_rules_v6
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
                    Kind::Tunnel
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
            self.routes.insert(prefix.trunc(), (prefix.trunc(), kind));
        }
    }
}

/// Whether a rule is neither ours nor one of those with which every network namespace begins.
fn is_foreign(rule: &RuleMessage) -> bool {
    const FROM_THE_START: [u32; 3] = [0, 32_766, 32_767];
    let priority = rule.attributes.iter().find_map(|a| match a {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    let ours = RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL));
    !FROM_THE_START.contains(&priority.unwrap_or(0)) && !rule.attributes.contains(&ours)
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
