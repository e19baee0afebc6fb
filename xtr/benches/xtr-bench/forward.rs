//! A data plane without a control plane: what it forwards is given on the command line.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use lisp::EidPrefix;
use xtr::dataplane::{DataPath, DataPlane, DataPlaneConfig, Offload};
use xtr::forwarding::{Decision, Destination, Forwarding, LocalEid, LocatorSet, Policy};

/// Options of `xtr-bench forward`.
#[derive(Debug, Args)]
pub(crate) struct Forward {
    /// A local EID-Prefix.
    #[arg(long = "local", value_name = "PREFIX")]
    locals: Vec<IpNet>,
    /// A locator of this box.
    #[arg(long = "rloc", value_name = "ADDRESS")]
    rlocs: Vec<IpAddr>,
    /// A mapping: `PREFIX=LOCATOR`, `PREFIX=native` or `PREFIX=drop`.
    #[arg(long = "map", value_name = "MAPPING")]
    maps: Vec<String>,
    /// One packet a message.
    #[arg(long)]
    no_offload: bool,
    /// Turn transmit offloads off on veths toward the locators.
    #[arg(long)]
    wire: bool,
    /// Look this many microseconds for the next packet before sleeping.
    #[arg(long, default_value_t = 0)]
    spin: u64,
    /// Every packet through the TUN device, also where the kernel path can be taken.
    #[arg(long)]
    tun: bool,
    /// TUN queues and pairs of packet threads.
    #[arg(long, default_value_t = 1)]
    queues: u8,
    /// Print what every event is.
    #[arg(long)]
    events: bool,
    /// Print nothing after `ready`.
    #[arg(long)]
    quiet: bool,
    /// End in order as soon as packets flow.
    #[arg(long)]
    end: bool,
}

impl Forward {
    /// Runs until killed, unless it is to end.
    pub(crate) fn run(self) -> Result<(), String> {
        let forwarding = Arc::new(Forwarding::new(Policy::default()));
        let config = DataPlaneConfig {
            path: if self.tun {
                DataPath::Tun
            } else {
                DataPath::Auto
            },
            rlocs: self.rlocs.clone(),
            offload: if self.no_offload {
                Offload::Off
            } else {
                Offload::Auto
            },
            wire_offloads: self.wire,
            spin: Duration::from_micros(self.spin),
            queues: self.queues,
            ..DataPlaneConfig::default()
        };
        let (plane, events) =
            DataPlane::start(&config, Arc::clone(&forwarding)).map_err(|e| e.to_string())?;
        for local in &self.locals {
            let local = LocalEid::new(EidPrefix::new(0, *local));
            plane.add_local(local).map_err(|e| e.to_string())?;
        }
        for map in &self.maps {
            let (prefix, decision) = self.mapping(map, &forwarding)?;
            plane
                .install(prefix, decision, None)
                .map_err(|e| e.to_string())?;
        }
        println!(
            "ready: {}",
            if plane.is_in_kernel() {
                "kernel"
            } else {
                "tun"
            }
        );
        if self.end {
            return Ok(());
        }
        let mut shown: Vec<(String, u64)> = Vec::new();
        loop {
            while let Some(event) = events.recv_timeout(Duration::from_secs(1)) {
                if self.events {
                    println!("{event:?}");
                }
            }
            plane.count();
            let counts: Vec<(String, u64)> = forwarding
                .counters()
                .all()
                .filter(|(_, n)| *n > 0)
                .map(|(c, n)| (c.name().to_owned(), n))
                .collect();
            if !self.quiet && counts != shown {
                println!("{counts:?}");
                shown = counts;
            }
        }
    }

    fn mapping(
        &self,
        text: &str,
        forwarding: &Forwarding,
    ) -> Result<(EidPrefix, Decision), String> {
        let expected = || {
            format!("--map: expected PREFIX=LOCATOR, PREFIX=native or PREFIX=drop, found {text:?}")
        };
        let (prefix, what) = text.split_once('=').ok_or_else(expected)?;
        let prefix = EidPrefix::new(0, prefix.parse().map_err(|_| expected())?);
        let decision = match what {
            "native" => Decision::NativelyForward,
            "drop" => Decision::Drop,
            rloc => {
                let rloc: IpAddr = rloc.parse().map_err(|_| expected())?;
                let same = |a: &&IpAddr| a.is_ipv6() == rloc.is_ipv6();
                Decision::Encapsulate(Arc::new(LocatorSet::new(vec![Destination {
                    rloc,
                    source: self.rlocs.iter().find(same).copied(),
                    priority: 1,
                    weight: 100,
                    usable: true,
                    ordinal: 0,
                    state: forwarding.rlocs().get(rloc),
                }])))
            }
        };
        Ok((prefix, decision))
    }
}
