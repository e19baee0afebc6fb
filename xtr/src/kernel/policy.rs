//! Policy routing: which packets reach the TUN device.
//!
//! Three kinds of rules, at consecutive priorities, per local EID-Prefix:
//!
//! 1. `from EID-PREFIX to AWAY-PREFIX lookup TABLE`: hosts that moved away are reached through the tunnel, although the
//!    site's own route would lead into the subnet that they left;
//! 2. `from EID-PREFIX lookup main suppress_prefixlength 0`: what the box has a route for, other than the default
//!    route, needs no mapping (RFC 6830 4.1);
//! 3. `from EID-PREFIX lookup TABLE`: the rest.
//!
//! One table per Instance ID. In it: a default route into the TUN device; `throw` for what the kernel forwards itself
//! (natively-forward entries, multicast and link-local destinations), so that the lookup goes on in the main table as
//! if the rule were not there; and routes into the TUN device for more specific EIDs under a throw.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use lisp::EidPrefix;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
    rule::{RuleAction, RuleAttribute, RuleMessage},
};

use super::netlink::Netlink;
use super::{KernelError, PROTOCOL};

/// How many Instance IDs, hence tables, a router may use.
pub const MAX_INSTANCES: u32 = 256;

/// Where a route of our tables leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Into the packet path.
    Tunnel,
    /// Out of the table: the kernel looks on in the next one.
    Throw,
}

/// One policy rule. Its kind is also its distance from the first priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    kind: RuleKind,
    from: IpNet,
    to: Option<IpNet>,
    table: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RuleKind {
    ToAway = 0,
    SpecificRoutes = 1,
    Rest = 2,
}

/// Priorities that the rules take, from the configured one on.
const PRIORITIES: u32 = 3;

/// The rules and routes of one router.
#[derive(Debug)]
pub struct PolicyRouting {
    netlink: Netlink,
    device: u32,
    first_table: u32,
    priority: u32,
    tables: BTreeMap<u32, u32>,
    locals: BTreeMap<EidPrefix, bool>,
    rules: BTreeSet<Rule>,
    routes: BTreeMap<(u32, IpNet), Via>,
}

impl PolicyRouting {
    /// Clears what an earlier run left, and starts with no rule.
    ///
    /// # Errors
    /// Not allowed to change routing here.
    pub fn new(device: u32, first_table: u32, priority: u32) -> Result<Self, KernelError> {
        let netlink =
            Netlink::open().map_err(|e| KernelError::new("opening a route netlink socket", e))?;
        let mut routing = Self {
            netlink,
            device,
            first_table,
            priority,
            tables: BTreeMap::new(),
            locals: BTreeMap::new(),
            rules: BTreeSet::new(),
            routes: BTreeMap::new(),
        };
        routing.clear_leftovers()?;
        Ok(routing)
    }

    fn table(&mut self, iid: u32) -> Result<u32, KernelError> {
        if let Some(&table) = self.tables.get(&iid) {
            return Ok(table);
        }
        let used = self.tables.len() as u32;
        if used >= MAX_INSTANCES {
            return Err(KernelError::new(
                format!("more than {MAX_INSTANCES} Instance IDs on one router"),
                std::io::Error::from_raw_os_error(libc::ENOSPC),
            ));
        }
        let table = self.first_table + used;
        self.tables.insert(iid, table);
        for (prefix, via) in standing_routes() {
            self.add_route(table, prefix, via)?;
        }
        Ok(table)
    }

    /// Packets with a source in `prefix` become the packet path's; those to it stay the kernel's.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn add_local(&mut self, prefix: EidPrefix, away: bool) -> Result<(), KernelError> {
        let table = self.table(prefix.iid)?;
        let via = if away { Via::Tunnel } else { Via::Throw };
        self.add_route(table, prefix.prefix, via)?;
        self.locals.insert(prefix, away);
        self.sync_rules()
    }

    /// Packets with a source in `prefix` are the kernel's again.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn remove_local(&mut self, prefix: EidPrefix) -> Result<(), KernelError> {
        let table = self.table(prefix.iid)?;
        self.locals.remove(&prefix);
        self.sync_rules()?;
        self.remove_route(table, prefix.prefix)
    }

    /// The rules that the local EID-Prefixes ask for.
    fn wanted_rules(&self) -> BTreeSet<Rule> {
        let mut rules = BTreeSet::new();
        let away = |(prefix, away): (&EidPrefix, &bool)| away.then_some(*prefix);
        let away: Vec<EidPrefix> = self.locals.iter().filter_map(away).collect();
        for local in self.locals.keys() {
            let Some(&table) = self.tables.get(&local.iid) else {
                continue;
            };
            let from = local.prefix;
            let rule = |kind, to, table| Rule {
                kind,
                from,
                to,
                table,
            };
            let main = u32::from(RouteHeader::RT_TABLE_MAIN);
            rules.insert(rule(RuleKind::SpecificRoutes, None, main));
            rules.insert(rule(RuleKind::Rest, None, table));
            let same_family = |p: &EidPrefix| family(p.prefix.addr()) == family(from.addr());
            for away in &away {
                if away.iid == local.iid && same_family(away) {
                    rules.insert(rule(RuleKind::ToAway, Some(away.prefix), table));
                }
            }
        }
        rules
    }

    fn sync_rules(&mut self) -> Result<(), KernelError> {
        let wanted = self.wanted_rules();
        for rule in wanted.difference(&self.rules.clone()) {
            self.rule(rule, true).map_err(|e| {
                KernelError::new(format!("adding the rule `from {}`", rule.from), e)
            })?;
            self.rules.insert(*rule);
        }
        for rule in self.rules.clone().difference(&wanted) {
            self.rules.remove(rule);
            self.rule(rule, false).map_err(|e| {
                KernelError::new(format!("removing the rule `from {}`", rule.from), e)
            })?;
        }
        Ok(())
    }

    /// Makes the kernel (throw) or the packet path (tunnel) handle a destination.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn set(&mut self, prefix: EidPrefix, via: Via) -> Result<(), KernelError> {
        let table = self.table(prefix.iid)?;
        self.add_route(table, prefix.prefix, via)
    }

    /// Takes a destination's route out of the table.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn unset(&mut self, prefix: EidPrefix) -> Result<(), KernelError> {
        let table = self.table(prefix.iid)?;
        self.remove_route(table, prefix.prefix)
    }

    /// The table of an Instance ID, where it has one.
    pub fn table_of(&self, iid: u32) -> Option<u32> {
        self.tables.get(&iid).copied()
    }

    /// The route that stands for exactly this prefix.
    pub fn get(&self, prefix: &EidPrefix) -> Option<Via> {
        let table = self.tables.get(&prefix.iid)?;
        self.routes.get(&(*table, prefix.prefix)).copied()
    }

    fn add_route(&mut self, table: u32, prefix: IpNet, via: Via) -> Result<(), KernelError> {
        if self.routes.get(&(table, prefix)) == Some(&via) {
            return Ok(());
        }
        self.route(table, prefix, via, true).map_err(|e| {
            KernelError::new(format!("adding a route for {prefix} to table {table}"), e)
        })?;
        self.routes.insert((table, prefix), via);
        Ok(())
    }

    fn remove_route(&mut self, table: u32, prefix: IpNet) -> Result<(), KernelError> {
        let Some(via) = self.routes.remove(&(table, prefix)) else {
            return Ok(());
        };
        if let Some((_, standing)) = standing_routes().find(|(p, _)| *p == prefix) {
            return self.add_route(table, prefix, standing);
        }
        match self.route(table, prefix, via, false) {
            // Gone already, with the device or by somebody's hand.
            Err(e) if !matches!(e.raw_os_error(), Some(libc::ESRCH | libc::ENOENT)) => {
                Err(KernelError::new(
                    format!("removing the route for {prefix} from table {table}"),
                    e,
                ))
            }
            _ => Ok(()),
        }
    }

    /// Removes every rule and route of ours.
    pub fn remove_all(&mut self) {
        self.locals.clear();
        for rule in std::mem::take(&mut self.rules) {
            if let Err(error) = self.rule(&rule, false) {
                tracing::warn!(from = %rule.from, %error, "could not remove a policy rule");
            }
        }
        for ((table, prefix), via) in std::mem::take(&mut self.routes) {
            // Routes into a device that is gone went with it.
            let _ = self.route(table, prefix, via, false);
        }
        self.tables.clear();
    }

    fn route(&mut self, table: u32, prefix: IpNet, via: Via, add: bool) -> std::io::Result<()> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(prefix.addr()),
            destination_prefix_length: prefix.prefix_len(),
            table: RouteHeader::RT_TABLE_UNSPEC,
            protocol: RouteProtocol::from(PROTOCOL),
            scope: match via {
                Via::Tunnel => RouteScope::Link,
                Via::Throw => RouteScope::Universe,
            },
            kind: match via {
                Via::Tunnel => RouteType::Unicast,
                Via::Throw => RouteType::Throw,
            },
            ..RouteHeader::default()
        };
        message.attributes.push(RouteAttribute::Table(table));
        if prefix.prefix_len() > 0 {
            message
                .attributes
                .push(RouteAttribute::Destination(match prefix.addr() {
                    IpAddr::V4(a) => RouteAddress::Inet(a),
                    IpAddr::V6(a) => RouteAddress::Inet6(a),
                }));
        }
        if via == Via::Tunnel {
            message.attributes.push(RouteAttribute::Oif(self.device));
        }
        if add {
            let flags = NLM_F_CREATE | NLM_F_REPLACE;
            self.netlink
                .request(RouteNetlinkMessage::NewRoute(message), flags)?;
        } else {
            self.netlink
                .request(RouteNetlinkMessage::DelRoute(message), 0)?;
        }
        Ok(())
    }

    fn rule(&mut self, rule: &Rule, add: bool) -> std::io::Result<()> {
        let mut message = RuleMessage::default();
        message.header.family = family(rule.from.addr());
        message.header.src_len = rule.from.prefix_len();
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Priority(self.priority + rule.kind as u32),
            RuleAttribute::Table(rule.table),
            RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)),
        ];
        if rule.from.prefix_len() > 0 {
            message
                .attributes
                .push(RuleAttribute::Source(rule.from.addr()));
        }
        if let Some(to) = rule.to {
            message.header.dst_len = to.prefix_len();
            message
                .attributes
                .push(RuleAttribute::Destination(to.addr()));
        }
        if rule.kind == RuleKind::SpecificRoutes {
            message.attributes.push(RuleAttribute::SuppressPrefixLen(0));
        }
        if add {
            self.netlink
                .request(RouteNetlinkMessage::NewRule(message), NLM_F_CREATE)?;
        } else {
            self.netlink
                .request(RouteNetlinkMessage::DelRule(message), 0)?;
        }
        Ok(())
    }

    /// Removes rules of our priorities and protocol number, and routes of our protocol number in our tables.
    fn clear_leftovers(&mut self) -> Result<(), KernelError> {
        let refused = |e| KernelError::new("clearing the rules and routes of an earlier run", e);
        let mut cleared = 0;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RuleMessage::default();
            question.header.family = family;
            let rules = self
                .netlink
                .request(RouteNetlinkMessage::GetRule(question), NLM_F_DUMP)
                .map_err(refused)?;
            for rule in rules {
                if let RouteNetlinkMessage::NewRule(rule) = rule
                    && self.is_our_rule(&rule)
                {
                    self.netlink
                        .request(RouteNetlinkMessage::DelRule(rule), 0)
                        .map_err(refused)?;
                    cleared += 1;
                }
            }
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            let routes = self
                .netlink
                .request(RouteNetlinkMessage::GetRoute(question), NLM_F_DUMP)
                .map_err(refused)?;
            for route in routes {
                if let RouteNetlinkMessage::NewRoute(route) = route
                    && self.is_our_route(&route)
                {
                    match self
                        .netlink
                        .request(RouteNetlinkMessage::DelRoute(route), 0)
                    {
                        Ok(_) => cleared += 1,
                        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                        Err(e) => return Err(refused(e)),
                    }
                }
            }
        }
        if cleared > 0 {
            tracing::info!(cleared, "cleared rules and routes that an earlier run left");
        }
        Ok(())
    }

    fn is_our_rule(&self, rule: &RuleMessage) -> bool {
        let ours = self.priority..self.priority + PRIORITIES;
        rule.attributes
            .iter()
            .any(|a| matches!(a, RuleAttribute::Priority(priority) if ours.contains(priority)))
            && rule
                .attributes
                .contains(&RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL)))
    }

    fn is_our_route(&self, route: &RouteMessage) -> bool {
        // The last one is that of the Data-Probes.
        let ours = self.first_table..=self.first_table + MAX_INSTANCES;
        route.header.protocol == RouteProtocol::from(PROTOCOL)
            && route
                .attributes
                .iter()
                .any(|a| matches!(a, RouteAttribute::Table(table) if ours.contains(table)))
    }
}

impl Drop for PolicyRouting {
    fn drop(&mut self) {
        self.remove_all();
    }
}

/// Routes of every table: everything into the tunnel, but nothing that may never leave the link or the site.
fn standing_routes() -> impl Iterator<Item = (IpNet, Via)> {
    let net = |a: IpAddr, len| IpNet::new_assert(a, len);
    [
        (net(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0), Via::Tunnel),
        (net(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0), Via::Tunnel),
        (
            net(IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
            Via::Throw,
        ),
        (net(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4), Via::Throw),
        (net(IpAddr::V4(Ipv4Addr::BROADCAST), 32), Via::Throw),
        (
            net(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
            Via::Throw,
        ),
        (
            net(IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
            Via::Throw,
        ),
    ]
    .into_iter()
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
