//! At which interfaces the programs run.

use std::collections::HashMap;
use std::io;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage},
};

use super::sys::{Link, Map, Program};
use crate::kernel::netlink::Netlink;
use crate::kernel::read_sysctl;

/// An interface at which packets for this box may arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    index: u32,
    name: String,
    veth: bool,
}

/// The programs at the interfaces of a network namespace.
#[derive(Debug)]
pub(super) struct Links {
    netlink: Netlink,
    attached: HashMap<u32, Link>,
}

impl Links {
    /// # Errors
    /// No netlink socket.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
            attached: HashMap::new(),
        })
    }

    /// Attaches the programs to interfaces that are new, and forgets those that are gone.
    ///
    /// # Errors
    /// The kernel does not list its interfaces, or does not attach the programs.
    pub(super) fn sync(&mut self, program: &Program, virtuals: &Map) -> io::Result<()> {
        let interfaces = self.interfaces()?;
        let known = |index: &u32| interfaces.iter().any(|i| i.index == *index);
        for gone in self.attached.keys().filter(|index| !known(index)) {
            virtuals.remove(&gone.to_ne_bytes())?;
        }
        self.attached.retain(|index, _| known(index));
        for interface in &interfaces {
            if self.attached.contains_key(&interface.index) {
                continue;
            }
            let index = interface.index;
            if interface.veth {
                virtuals.set(&index.to_ne_bytes(), &1u32.to_ne_bytes())?;
            }
            match program.attach(index) {
                Ok(link) => {
                    self.attached.insert(index, link);
                }
                // Gone since it was listed.
                Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Takes the programs away everywhere.
    pub(super) fn detach(&mut self) {
        self.attached.clear();
    }

    /// Interfaces with Ethernet headers that are no part of another one (bridge, bond). Where the kernel checks each
    /// packet's way back strictly, it has to see the packets: the programs would let forgeries pass.
    fn interfaces(&mut self) -> io::Result<Vec<Interface>> {
        let answers = self.netlink.request(
            RouteNetlinkMessage::GetLink(LinkMessage::default()),
            NLM_F_DUMP,
        )?;
        let strict = |name: &str| {
            let own = read_sysctl(&format!("net/ipv4/conf/{name}/rp_filter"));
            own.max(read_sysctl("net/ipv4/conf/all/rp_filter")) == Some(1)
        };
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => interface(&link),
                _ => None,
            })
            .filter(|interface| !strict(&interface.name))
            .collect())
    }
}

fn interface(link: &LinkMessage) -> Option<Interface> {
    if link.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        veth: false,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Controller(master) if *master != 0 => return None,
            LinkAttribute::LinkInfo(info) => {
                interface.veth = info.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            _ => {}
        }
    }
    Some(interface)
}
