//! Batches of rtnetlink requests over one blocking socket per namespace.
//!
//! A socket stays in the namespace in which it was opened, so one thread can configure all namespaces without ever
//! entering them again. Only the last request of a batch asks for an acknowledgement; errors come back for each.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, InfoVrf, InfoVxlan, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::topology::{Neighbour, Route, RouteAction, Rule};

/// The kernel refused a request.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}{}", .detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default())]
pub(crate) struct NetlinkError {
    /// What was being done.
    pub(crate) what: String,
    /// What the kernel said in words.
    pub(crate) detail: Option<String>,
    #[source]
    pub(crate) source: io::Error,
}

/// One end of a veth pair that is to be made.
pub(crate) struct VethEnd<'a> {
    pub(crate) name: &'a str,
    pub(crate) index: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: Option<u32>,
}

/// An rtnetlink socket and the requests that wait to be sent.
pub(crate) struct Netlink {
    socket: Socket,
    batch: Vec<u8>,
    what: Vec<String>,
    last: usize,
}

/// Requests are sent when the batch reaches this many octets: well below the socket's send buffer.
const BATCH: usize = 48 << 10;

impl Netlink {
    /// Opens a socket in the calling thread's namespace, for good.
    pub(crate) fn open() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Errors quote only the header of the refused request, and say in words what was wrong.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        Ok(Netlink {
            socket,
            batch: Vec::new(),
            what: Vec::new(),
            last: 0,
        })
    }

    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: String,
    ) -> Result<(), NetlinkError> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.what.len() as u32 + 1;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        self.last = self.batch.len();
        self.batch
            .resize(self.last + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut self.batch[self.last..]);
        self.what.push(what);
        if self.batch.len() > BATCH {
            return self.flush();
        }
        Ok(())
    }

    /// Sends what waits and reports the first refusal.
    pub(crate) fn flush(&mut self) -> Result<(), NetlinkError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        // Octets 6 and 7 of a netlink header are its flags.
        let flags = u16::from_ne_bytes([self.batch[self.last + 6], self.batch[self.last + 7]]);
        self.batch[self.last + 6..self.last + 8]
            .copy_from_slice(&(flags | NLM_F_ACK).to_ne_bytes());
        let batch = std::mem::take(&mut self.batch);
        let what = std::mem::take(&mut self.what);
        let failed = |source| NetlinkError {
            what: format!("talking to the kernel about: {}", what.join(", ")),
            detail: None,
            source,
        };
        self.socket.send(&batch, 0).map_err(failed)?;
        let mut first = None;
        loop {
            let (answers, _) = self.socket.recv_from_full().map_err(failed)?;
            let mut rest = answers.as_slice();
            while let Some(answer) = Answer::split(&mut rest) {
                if answer.code != 0 && first.is_none() {
                    let request = (answer.sequence as usize).wrapping_sub(1);
                    first = Some(NetlinkError {
                        what: what.get(request).cloned().unwrap_or_default(),
                        detail: answer.words,
                        source: io::Error::from_raw_os_error(-answer.code),
                    });
                }
                if answer.sequence as usize == what.len() {
                    return first.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Makes a veth pair: one end here, the other directly in `peer_namespace`. (A pair that is made in one namespace
    /// and moved costs an RCU grace period, some 16 ms. IFF_UP on the peer is refused at this point.)
    pub(crate) fn add_veth(
        &mut self,
        here: &VethEnd<'_>,
        peer: &VethEnd<'_>,
        peer_namespace: BorrowedFd<'_>,
        what: String,
    ) -> Result<(), NetlinkError> {
        let mut there = veth_end(peer);
        there
            .attributes
            .push(LinkAttribute::NetNsFd(peer_namespace.as_raw_fd()));
        let mut message = veth_end(here);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(there))),
        ]));
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            what,
        )
    }

    /// Makes a bridge. It learns at once and speaks no spanning tree.
    pub(crate) fn add_bridge(
        &mut self,
        name: &str,
        index: u32,
        what: String,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![
                    InfoBridge::ForwardDelay(0),
                    InfoBridge::MulticastSnooping(false),
                ])),
            ]),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            what,
        )
    }

    /// Makes an interface of a kind that may not exist in this kernel.
    pub(crate) fn add_kind(
        &mut self,
        name: &str,
        kind: &str,
        what: String,
    ) -> Result<(), NetlinkError> {
        let kind = match kind {
            "bridge" => InfoKind::Bridge,
            "dummy" => InfoKind::Dummy,
            "vrf" => InfoKind::Vrf,
            "gre" => InfoKind::GreTun,
            "vxlan" => InfoKind::Vxlan,
            other => InfoKind::Other(other.to_owned()),
        };
        let mut info = vec![LinkInfo::Kind(kind.clone())];
        match kind {
            InfoKind::Vrf => {
                info.push(LinkInfo::Data(InfoData::Vrf(vec![InfoVrf::TableId(10)])));
            }
            InfoKind::Vxlan => {
                let data = vec![InfoVxlan::Id(1), InfoVxlan::Port(4789)];
                info.push(LinkInfo::Data(InfoData::Vxlan(data)));
            }
            _ => {}
        }
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(info),
        ];
        self.request(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
            what,
        )
    }

    /// Brings an interface up or down, and makes it a port of a bridge if one is named.
    pub(crate) fn set_link(
        &mut self,
        index: u32,
        up: bool,
        bridge: Option<u32>,
        what: String,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        if up {
            message.header.flags = LinkFlags::Up;
        }
        message
            .attributes
            .extend(bridge.map(LinkAttribute::Controller));
        self.request(RouteNetlinkMessage::SetLink(message), 0, what)
    }

    /// Has the kernel finish what a change of carrier set off.
    ///
    /// The end of a veth pair that came up first gets its carrier when the other one comes up, but a work queue has to run
    /// before it can send: until then, its packets are dropped. Asking for the interface runs that work at once
    /// (`rtnl_getlink` calls `linkwatch_sync_dev`).
    pub(crate) fn settle_link(&mut self, index: u32, what: String) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let skip = vec![LinkExtentMask::SkipStats];
        message.attributes.push(LinkAttribute::ExtMask(skip));
        self.request(RouteNetlinkMessage::GetLink(message), 0, what)?;
        // Answers are much longer than requests: a whole batch would not fit into the receive buffer.
        if self.what.len() >= 16 {
            return self.flush();
        }
        Ok(())
    }

    /// Moves an interface to another namespace. It arrives there down, with its name and Ethernet address.
    pub(crate) fn move_link(
        &mut self,
        index: u32,
        to: &impl AsFd,
        what: String,
    ) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message
            .attributes
            .push(LinkAttribute::NetNsFd(to.as_fd().as_raw_fd()));
        self.request(RouteNetlinkMessage::SetLink(message), 0, what)
    }

    /// Gives an interface an address. `at_once`: it can be used when this returns, even where detection of duplicates is off
    /// otherwise: that is found out by a worker of the kernel, which a busy host may let wait.
    pub(crate) fn add_address(
        &mut self,
        index: u32,
        net: IpNet,
        at_once: bool,
        what: String,
    ) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.family = family(net.addr());
        message.header.prefix_len = net.prefix_len();
        message.header.index = index;
        if at_once && net.addr().is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes = vec![
            AddressAttribute::Local(net.addr()),
            AddressAttribute::Address(net.addr()),
        ];
        if let IpNet::V4(v4) = net
            && v4.prefix_len() < 31
        {
            message
                .attributes
                .push(AddressAttribute::Broadcast(v4.broadcast()));
        }
        self.request(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
            what,
        )
    }

    /// Adds a route; `device` is the index of the interface that the route names.
    pub(crate) fn add_route(
        &mut self,
        route: &Route,
        device: Option<u32>,
        what: String,
    ) -> Result<(), NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(route.to.addr());
        message.header.destination_prefix_length = route.to.prefix_len();
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        let table = route.table.unwrap_or(254);
        match u8::try_from(table) {
            Ok(table) => message.header.table = table,
            Err(_) => message.attributes.push(RouteAttribute::Table(table)),
        }
        if route.to.prefix_len() > 0 {
            message
                .attributes
                .push(RouteAttribute::Destination(route.to.addr().into()));
        }
        match &route.action {
            RouteAction::Forward { via, onlink, .. } => {
                message.header.kind = RouteType::Unicast;
                match via {
                    Some(via) => message
                        .attributes
                        .push(RouteAttribute::Gateway((*via).into())),
                    None => message.header.scope = RouteScope::Link,
                }
                if *onlink {
                    message.header.flags = RouteFlags::Onlink;
                }
                message.attributes.extend(device.map(RouteAttribute::Oif));
            }
            RouteAction::Blackhole => message.header.kind = RouteType::BlackHole,
            RouteAction::Unreachable => message.header.kind = RouteType::Unreachable,
        }
        let metric = route.metric.map(RouteAttribute::Priority);
        let source = route.source.map(|ip| RouteAttribute::PrefSource(ip.into()));
        message.attributes.extend(metric.into_iter().chain(source));
        self.request(
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_EXCL,
            what,
        )
    }

    /// Adds a policy routing rule. A rule without addresses is added for one family: the caller repeats it for the other.
    pub(crate) fn add_rule(
        &mut self,
        rule: &Rule,
        ipv6: bool,
        what: String,
    ) -> Result<(), NetlinkError> {
        let mut message = RuleMessage::default();
        message.header.family = if ipv6 {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Table(rule.table),
            RuleAttribute::Priority(rule.priority),
        ];
        if let Some(from) = rule.from {
            message.header.src_len = from.prefix_len();
            message.attributes.push(RuleAttribute::Source(from.addr()));
        }
        if let Some(to) = rule.to {
            message.header.dst_len = to.prefix_len();
            message
                .attributes
                .push(RuleAttribute::Destination(to.addr()));
        }
        let iif = rule.iif.clone().map(RuleAttribute::Iifname);
        let mark = rule.mark.map(RuleAttribute::FwMark);
        message.attributes.extend(iif.into_iter().chain(mark));
        self.request(
            RouteNetlinkMessage::NewRule(message),
            NLM_F_CREATE | NLM_F_EXCL,
            what,
        )
    }

    /// Adds a static neighbour entry.
    pub(crate) fn add_neighbour(
        &mut self,
        neighbour: &Neighbour,
        index: u32,
        what: String,
    ) -> Result<(), NetlinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(neighbour.address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes = vec![
            NeighbourAttribute::Destination(neighbour.address.into()),
            NeighbourAttribute::LinkLayerAddress(neighbour.mac.to_vec()),
        ];
        self.request(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
            what,
        )
    }
}

fn veth_end(end: &VethEnd<'_>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = end.index;
    message.attributes = vec![
        LinkAttribute::IfName(end.name.to_owned()),
        LinkAttribute::Address(end.mac.to_vec()),
        // One queue each: the kernel's default, one per processor, costs objects and wins nothing without NAPI.
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ];
    message.attributes.extend(end.mtu.map(LinkAttribute::Mtu));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// An acknowledgement or a refusal.
struct Answer {
    sequence: u32,
    code: i32,
    words: Option<String>,
}

impl Answer {
    /// Takes the next NLMSG_ERROR off a buffer; other messages are skipped.
    fn split(rest: &mut &[u8]) -> Option<Answer> {
        const NLMSG_ERROR: u16 = 2;
        const NLM_F_ACK_TLVS: u16 = 0x200;
        const NLMSGERR_ATTR_MSG: u16 = 1;
        loop {
            let word = |at: usize| -> Option<u32> {
                let bytes = rest.get(at..at + 4)?;
                Some(u32::from_ne_bytes(bytes.try_into().ok()?))
            };
            let length = (word(0)? as usize).clamp(16, rest.len());
            let kind_and_flags = word(4)?;
            // Little or big endian, the two halves are read as the kernel wrote them: two native 16-bit words.
            let halves = kind_and_flags.to_ne_bytes();
            let kind = u16::from_ne_bytes([halves[0], halves[1]]);
            let flags = u16::from_ne_bytes([halves[2], halves[3]]);
            let sequence = word(8)?;
            let code = word(16);
            let message = &rest[..length];
            *rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            if kind != NLMSG_ERROR {
                continue;
            }
            let mut words = None;
            if flags & NLM_F_ACK_TLVS != 0 {
                // Behind the code stands the header of the refused request (CAP_ACK), then the attributes.
                let mut attributes = message.get(36..).unwrap_or_default();
                while attributes.len() >= 4 {
                    let size = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
                    let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
                    let size = size.clamp(4, attributes.len());
                    if kind == NLMSGERR_ATTR_MSG {
                        let text = String::from_utf8_lossy(&attributes[4..size]);
                        words = Some(text.trim_end_matches('\0').to_owned());
                    }
                    attributes = &attributes[size.next_multiple_of(4).min(attributes.len())..];
                }
            }
            return Some(Answer {
                sequence,
                code: code? as i32,
                words,
            });
        }
    }
}
