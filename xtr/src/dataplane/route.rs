//! What becomes of an inner packet: a pure look at the tables.

use std::sync::Arc;

use lisp::wire::DataHeader;

use super::inner::Inner;
use crate::forwarding::{
    Counter, Decision, Destination, Entry, LocalEid, LocatorSet, Role, Tables,
};

/// The fate of a packet on its way out of the site.
#[derive(Debug)]
pub(crate) enum Fate<'t> {
    Encapsulate {
        iid: u32,
        local: Option<&'t Arc<LocalEid>>,
        /// None toward a PETR.
        entry: Option<&'t Arc<Entry>>,
        destination: &'t Destination,
    },
    /// Back to the kernel, which forwards it itself.
    Native,
    /// No mapping: to be asked for.
    Miss {
        iid: u32,
    },
    Drop(Counter),
}

/// Decides by source and destination EID (RFC 6830 5, 12; RFC 6832 5.2, 6.1).
///
/// `instance` is the Instance ID that a packet brought along: what an RTR decapsulated, or what was held.
pub(crate) fn fate<'t>(
    tables: &'t Tables,
    inner: &Inner,
    instance: Option<u32>,
    flow_hash: u32,
) -> Fate<'t> {
    let local = tables.local_source(inner.source);
    if local.is_none() && inner.destination.is_multicast() {
        return Fate::Drop(Counter::Housekeeping);
    }
    if local.is_none() && !tables.policy.role.encapsulates_foreign_sources() {
        return Fate::Drop(Counter::SourceNotEid);
    }
    if !inner.addresses_are_plausible() {
        return Fate::Drop(Counter::InnerAddress);
    }
    let iid = local.map(|l| l.prefix.iid).or(instance).unwrap_or(0);
    if tables
        .local_destination(iid, inner.destination)
        .is_some_and(|l| !l.away)
    {
        return Fate::Native;
    }
    let petr = tables.policy.petr.as_deref();
    let to = |set: &'t LocatorSet, entry| match set.pick(flow_hash) {
        Some(destination) => Fate::Encapsulate {
            iid,
            local,
            entry,
            destination,
        },
        None => Fate::Drop(Counter::DroppedByMapping),
    };
    let Some(entry) = tables.longest_match(iid, inner.destination) else {
        return match petr {
            Some(petr) if tables.policy.misses_to_petr => to(petr, None),
            _ => Fate::Miss { iid },
        };
    };
    match &entry.decision {
        Decision::Encapsulate(set) => to(set, Some(entry)),
        Decision::NativelyForward => match petr {
            Some(petr) => to(petr, None),
            // A PITR attracted the packet by its aggregate, and would do so again; what an RTR decapsulated may only
            // leave for the instance that the kernel routes (RFC 6832 5.2).
            None if local.is_none() && (tables.policy.role != Role::Rtr || iid != 0) => {
                Fate::Drop(Counter::NativeAtProxy)
            }
            None => Fate::Native,
        },
        Decision::Drop => Fate::Drop(Counter::DroppedByAction),
        Decision::SendMapRequest => Fate::Miss { iid },
    }
}

/// The LISP header of a packet (RFC 6830 5.3): nonce bits by the locator's state, locator-status bits and map-version
/// by the source's site, the Instance ID where there is one.
pub(crate) fn header(
    tables: &Tables,
    iid: u32,
    local: Option<&LocalEid>,
    entry: Option<&Entry>,
    destination: &Destination,
) -> DataHeader {
    let mut header = DataHeader {
        instance_id: (iid != 0).then_some(iid),
        ..DataHeader::default()
    };
    if tables.policy.locator_status_bits {
        header.locator_status = local.and_then(|l| l.locator_status);
    }
    if let Some(nonce) = destination.state.take_owed_echo() {
        header.nonce = Some(nonce);
    } else if let Some(nonce) = destination.state.requested_echo() {
        header.nonce = Some(nonce);
        header.echo_request = true;
    } else if let Some(version) = entry.and_then(|e| e.map_version) {
        // N and V share their bits (RFC 6834 3). Source version 0 is "none" (RFC 6834 8.2.1).
        let source = local.and_then(|l| l.map_version).unwrap_or(0);
        header.map_version = Some((source, version));
    }
    header
}
