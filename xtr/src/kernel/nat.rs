//! LISP-NAT (RFC 6832 7): the kernel's own address translation, set up by `nft`, between addresses that the Internet
//! cannot route back and those that it can. One address for one, so that ports stay and a host keeps its translation.
//!
//! EIDs that are not routable (LISP-NR) are translated only where they leave natively; what goes into a tunnel keeps
//! its address, and leaves no state that a later native packet of the same flow would run into. Private addresses are
//! no EIDs at all: they are translated before encapsulation too (RFC 6832 7.3), and what the packet path gives back to
//! the kernel has been through that already.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use ipnet::Ipv4Net;

use super::KernelError;

/// One prefix for another of the same length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    /// What the site's hosts have.
    pub inside: Ipv4Net,
    /// What the Internet sees: routable.
    pub routable: Ipv4Net,
    /// `inside` is an EID-Prefix, not a private one: inside a tunnel its addresses stay.
    pub inside_is_eid: bool,
}

/// The translation of a running router. Dropping it ends it.
#[derive(Debug)]
pub struct Nat {
    table: String,
    device: String,
    translations: Vec<Translation>,
}

impl Nat {
    /// Clears what an earlier run left, and translates from now on. `device` is the TUN device.
    ///
    /// # Errors
    /// No `nft` program although there is something to translate, or it refuses.
    pub fn start(device: &str, translations: &[Translation]) -> Result<Self, KernelError> {
        let mut nat = Self {
            table: format!("lisp-nat-{device}"),
            device: device.to_owned(),
            translations: Vec::new(),
        };
        match nat.run(&nat.clearing()) {
            Ok(()) => {}
            // Without nftables nothing can have been left.
            Err(error) if translations.is_empty() => {
                tracing::debug!(%error, "nftables was not asked for leftovers");
            }
            Err(error) => return Err(error),
        }
        nat.set(translations)?;
        Ok(nat)
    }

    /// Makes these the translations. Flows under way keep the one they have.
    ///
    /// # Errors
    /// As [`Nat::start`].
    pub fn set(&mut self, translations: &[Translation]) -> Result<(), KernelError> {
        if self.translations == translations {
            return Ok(());
        }
        let mut script = self.clearing();
        if !translations.is_empty() {
            script += &ruleset(&self.table, &self.device, translations);
        }
        self.run(&script)?;
        self.translations = translations.to_vec();
        Ok(())
    }

    /// Adding first makes deleting succeed whether or not the table was there.
    fn clearing(&self) -> String {
        format!("add table ip {0}\ndelete table ip {0}\n", self.table)
    }

    fn run(&self, script: &str) -> Result<(), KernelError> {
        let refused = |source| KernelError {
            what: format!(
                "setting up address translation in the table `ip {}`",
                self.table
            ),
            source,
            hint: "LISP-NAT needs the `nft` program and a kernel with nf_tables, NAT and `fib`",
        };
        let mut nft = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(refused)?;
        if let Some(mut stdin) = nft.stdin.take() {
            stdin.write_all(script.as_bytes()).map_err(refused)?;
        }
        let output = nft.wait_with_output().map_err(refused)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().next().unwrap_or("nft failed").to_owned();
        Err(refused(io::Error::other(said)))
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        if let Err(error) = self.set(&[]) {
            tracing::warn!(%error, "could not end the address translation");
        }
    }
}

fn ruleset(table: &str, device: &str, translations: &[Translation]) -> String {
    let mut before = String::new();
    let mut out = String::new();
    for t in translations {
        let (inside, routable) = (t.inside, t.routable);
        let snat = format!("snat ip prefix to ip saddr map {{ {inside} : {routable} }}");
        // Writing into a String cannot fail.
        let _ = if t.inside_is_eid {
            writeln!(
                before,
                "iifname != \"{device}\" ip saddr {inside} fib daddr oifname \"{device}\" notrack"
            )
            .and_then(|()| writeln!(out, "oifname != \"{device}\" ip saddr {inside} {snat}"))
        } else {
            writeln!(before, "iifname \"{device}\" ip saddr {routable} notrack")
                .and_then(|()| writeln!(out, "ip saddr {inside} ip daddr != {inside} {snat}"))
        };
    }
    format!(
        "table ip {table} {{\n\
         chain before {{\ntype filter hook prerouting priority raw; policy accept;\n{before}}}\n\
         chain out {{\ntype nat hook postrouting priority srcnat; policy accept;\n{out}}}\n\
         }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translation(inside: &str, routable: &str, inside_is_eid: bool) -> Translation {
        Translation {
            inside: inside.parse().expect("a prefix"),
            routable: routable.parse().expect("a prefix"),
            inside_is_eid,
        }
    }

    #[test]
    fn eids_are_translated_outside_of_tunnels_only() {
        let rules = ruleset(
            "t",
            "lisp0",
            &[translation("10.1.0.0/24", "192.0.2.0/24", true)],
        );
        assert!(rules.contains("oifname != \"lisp0\" ip saddr 10.1.0.0/24 snat ip prefix to"));
        assert!(rules.contains("fib daddr oifname \"lisp0\" notrack"));
    }

    #[test]
    fn private_addresses_are_translated_everywhere_and_once() {
        let rules = ruleset(
            "t",
            "lisp0",
            &[translation("192.168.1.0/24", "192.0.2.0/24", false)],
        );
        assert!(rules.contains("\nip saddr 192.168.1.0/24 ip daddr != 192.168.1.0/24 snat"));
        assert!(rules.contains("iifname \"lisp0\" ip saddr 192.0.2.0/24 notrack"));
    }
}
