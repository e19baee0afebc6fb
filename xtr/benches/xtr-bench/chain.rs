//! host - router - core - router - host, each in a namespace of its own.
//!
//! Only plain routing gives the core routes to the hosts: with any other design a broken tunnel carries nothing,
//! instead of being measured as plain routing.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// What joins the two sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Design {
    Plain,
    Vxlan,
    Ours {
        /// Microseconds.
        spin: u64,
        /// Through the TUN device, also where the kernel path can be taken.
        tun: bool,
    },
}

/// One chain, up until dropped.
#[derive(Debug)]
pub(crate) struct Chain {
    prefix: String,
    forwarders: Vec<Child>,
    path: String,
}

const NODES: [&str; 5] = ["h1", "x1", "c", "x2", "h2"];

impl Chain {
    /// Builds a chain. With `wire`, the locator interfaces leave checksums and segmentation to nobody else, as on a
    /// real wire.
    /// Tunnels run over IPv6 with `v6`.
    pub(crate) fn up(name: &str, design: Design, wire: bool, v6: bool) -> Result<Self, String> {
        let mut chain = Self {
            prefix: format!("xtrb{}-{name}", std::process::id()),
            forwarders: Vec::new(),
            path: String::new(),
        };
        chain.build()?;
        match design {
            Design::Plain => chain.plain()?,
            Design::Vxlan => chain.vxlan(v6)?,
            Design::Ours { spin, tun } => chain.ours(spin, tun, v6)?,
        }
        if wire {
            for router in ["x1", "x2"] {
                chain.exec(router, "ethtool -K rloc tx off tx-udp-segmentation off")?;
            }
        }
        Ok(chain)
    }

    /// Name of a node's namespace.
    pub(crate) fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// Process ids of our routers.
    pub(crate) fn routers(&self) -> Vec<u32> {
        self.forwarders.iter().map(Child::id).collect()
    }

    /// Which path plain packets take through our routers: `kernel` or `tun`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn exec(&self, node: &str, command: &str) -> Result<(), String> {
        let namespace = self.namespace(node);
        run(&format!("ip netns exec {namespace} {command}"))
    }

    fn ip(&self, node: &str, arguments: &str) -> Result<(), String> {
        let namespace = self.namespace(node);
        run(&format!("ip -n {namespace} {arguments}"))
    }

    fn link(&self, a: (&str, &str), b: (&str, &str)) -> Result<(), String> {
        let peer = self.namespace(b.0);
        self.ip(
            a.0,
            &format!("link add {} type veth peer name {} netns {peer}", a.1, b.1),
        )?;
        self.ip(a.0, &format!("link set {} up", a.1))?;
        self.ip(b.0, &format!("link set {} up", b.1))
    }

    fn build(&self) -> Result<(), String> {
        for node in NODES {
            run(&format!("ip netns add {}", self.namespace(node)))?;
            self.exec(
                node,
                "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
                 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0",
            )?;
            self.ip(node, "link set lo up")?;
        }
        for node in ["x1", "c", "x2"] {
            self.exec(
                node,
                "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
            )?;
        }
        self.link(("h1", "eth0"), ("x1", "site"))?;
        self.link(("x1", "rloc"), ("c", "c1"))?;
        self.link(("c", "c2"), ("x2", "rloc"))?;
        self.link(("x2", "site"), ("h2", "eth0"))?;
        for (node, interface, addresses) in [
            ("h1", "eth0", ["10.1.0.2/24", "fd01::2/64"]),
            ("x1", "site", ["10.1.0.1/24", "fd01::1/64"]),
            ("x1", "rloc", ["172.16.1.2/24", "2001:db8:1::2/64"]),
            ("c", "c1", ["172.16.1.1/24", "2001:db8:1::1/64"]),
            ("c", "c2", ["172.16.2.1/24", "2001:db8:2::1/64"]),
            ("x2", "rloc", ["172.16.2.2/24", "2001:db8:2::2/64"]),
            ("x2", "site", ["10.2.0.1/24", "fd02::1/64"]),
            ("h2", "eth0", ["10.2.0.2/24", "fd02::2/64"]),
        ] {
            for address in addresses {
                self.ip(node, &format!("addr add {address} dev {interface}"))?;
            }
        }
        for (node, v4, v6) in [
            ("h1", "10.1.0.1", "fd01::1"),
            ("h2", "10.2.0.1", "fd02::1"),
            ("x1", "172.16.1.1", "2001:db8:1::1"),
            ("x2", "172.16.2.1", "2001:db8:2::1"),
        ] {
            self.ip(node, &format!("route add default via {v4}"))?;
            self.ip(node, &format!("-6 route add default via {v6}"))?;
        }
        Ok(())
    }

    fn plain(&self) -> Result<(), String> {
        self.ip("c", "route add 10.1.0.0/24 via 172.16.1.2")?;
        self.ip("c", "route add 10.2.0.0/24 via 172.16.2.2")?;
        self.ip("c", "-6 route add fd01::/64 via 2001:db8:1::2")?;
        self.ip("c", "-6 route add fd02::/64 via 2001:db8:2::2")
    }

    fn vxlan(&self, v6: bool) -> Result<(), String> {
        for (router, sites) in [
            ("x1", ["10.2.0.0/24", "fd02::/64"]),
            ("x2", ["10.1.0.0/24", "fd01::/64"]),
        ] {
            let [own, other] = locators(router, v6);
            let (number, peer) = if router == "x1" { (1, 2) } else { (2, 1) };
            // No checksums that LISP does not have either.
            let sums = if v6 {
                "udp6zerocsumtx udp6zerocsumrx"
            } else {
                ""
            };
            self.ip(
                router,
                &format!(
                    "link add vx type vxlan id 1 local {own} remote {other} dstport 4789 {sums}"
                ),
            )?;
            let mtu = if v6 { 1430 } else { 1450 };
            self.ip(router, &format!("link set vx mtu {mtu} up"))?;
            self.ip(router, &format!("addr add 192.168.9.{number}/30 dev vx"))?;
            self.ip(router, &format!("addr add fd09::{number}/64 dev vx"))?;
            self.ip(
                router,
                &format!("route add {} via 192.168.9.{peer}", sites[0]),
            )?;
            self.ip(
                router,
                &format!("-6 route add {} via fd09::{peer}", sites[1]),
            )?;
        }
        Ok(())
    }

    fn ours(&mut self, spin: u64, tun: bool, v6: bool) -> Result<(), String> {
        let program = std::env::current_exe().map_err(|e| format!("finding this program: {e}"))?;
        for (node, locals, remotes) in [
            (
                "x1",
                ["10.1.0.0/24", "fd01::/64"],
                ["10.2.0.0/24", "fd02::/64"],
            ),
            (
                "x2",
                ["10.2.0.0/24", "fd02::/64"],
                ["10.1.0.0/24", "fd01::/64"],
            ),
        ] {
            let [own, other] = locators(node, v6);
            let mut command = Command::new("ip");
            command
                .args(["netns", "exec", &self.namespace(node)])
                .arg(&program)
                .args(["forward", "--quiet", "--spin", &spin.to_string()]);
            if tun {
                command.arg("--tun");
            }
            command.args(["--rloc", own]);
            for (local, remote) in locals.iter().zip(remotes) {
                command.args(["--local", local, "--map", &format!("{remote}={other}")]);
            }
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|e| format!("starting our router: {e}"))?;
            let output = child.stdout.take();
            self.forwarders.push(child);
            let mut line = String::new();
            if let Some(output) = output {
                BufReader::new(output)
                    .read_line(&mut line)
                    .map_err(|e| format!("our router's notice: {e}"))?;
            }
            self.path = match line.trim().strip_prefix("ready: ") {
                Some(path) => path.to_owned(),
                None => return Err("our router did not start: its message is above".to_owned()),
            };
        }
        Ok(())
    }
}

/// Locators of a router and of the other one.
fn locators(router: &str, v6: bool) -> [&'static str; 2] {
    let all = if v6 {
        ["2001:db8:1::2", "2001:db8:2::2"]
    } else {
        ["172.16.1.2", "172.16.2.2"]
    };
    if router == "x1" {
        all
    } else {
        [all[1], all[0]]
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        for child in &mut self.forwarders {
            let _ = child.kill();
            let _ = child.wait();
        }
        for node in NODES {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.namespace(node)])
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn run(command: &str) -> Result<(), String> {
    let mut words = command.split_whitespace();
    let program = words.next().unwrap_or_default();
    let output = Command::new(program)
        .args(words)
        .output()
        .map_err(|e| format!("`{command}`: {e}; install iproute2, procps and ethtool"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "`{command}` failed: {} Run as root.",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
