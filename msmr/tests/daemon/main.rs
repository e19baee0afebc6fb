//! The daemon as its users meet it: a process, a configuration file, datagrams, `show`.
//!
//! Everything is on loopback addresses with a port of its own, so that no rights are needed.

// The helpers here are tests too: a failure is a failed test.
#![allow(clippy::unwrap_used)]

mod changes;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use lisp::auth::{AuthKey, MacAlgorithm, verify};
use lisp::wire::{
    Action, Ecm, EidQuery, Locator, MapNotify, MapRecord, MapRegister, MapReply, MapRequest,
};
use lisp::{Address, EidPrefix};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_msmr");
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon with its directory; killed when dropped.
struct Daemon {
    directory: tempfile::TempDir,
    child: Option<Child>,
    server: SocketAddr,
}

impl Daemon {
    /// Starts with `more` added to a configuration with one site, 10.0.0.0/8 and its more-specifics.
    ///
    /// Map-Notifies go to the control port of the register's source, so ETRs are on other loopback addresses.
    fn start(number: u8, more: &str) -> Self {
        Self::start_at(SocketAddr::from(([127, 80, number, 1], 14342)), more)
    }

    fn start_at(server: SocketAddr, more: &str) -> Self {
        let mut daemon = Self::prepared_at(server, more);
        daemon.run();
        daemon
    }

    /// Configured as by [`Daemon::start`], and not running.
    fn prepared(number: u8, more: &str) -> Self {
        Self::prepared_at(SocketAddr::from(([127, 80, number, 1], 14342)), more)
    }

    fn prepared_at(server: SocketAddr, more: &str) -> Self {
        let daemon = Self {
            directory: tempfile::tempdir().unwrap(),
            child: None,
            server,
        };
        daemon.configure(more);
        daemon
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn configure(&self, more: &str) {
        let text = format!(
            "admin-socket: admin.sock\naddresses: [{}]\nport: {}\nstate-dir: state\n\
             limits: {{map-requests-per-source: 0, map-reply-interval: 0s}}\n{more}\n\
             sites:\n  - name: a\n    keys: [{{key: secret}}]\n    eid-prefixes:\n      \
             - {{prefix: 10.0.0.0/8, accept-more-specifics: true}}\n",
            self.server.ip(),
            self.server.port(),
        );
        std::fs::write(self.path("msmr.yaml"), text).unwrap();
    }

    fn run(&mut self) {
        let mut command = Command::new(BINARY);
        command.arg("--config").arg(self.path("msmr.yaml"));
        self.run_as(command);
    }

    fn run_as(&mut self, mut command: Command) {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        while !seen.ends_with("ready\n") {
            let read = log.read_line(&mut seen).unwrap();
            assert!(read > 0, "it ended before it was ready:\n{seen}");
        }
        // The pipe is read to its end, or the daemon would block on it.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        self.child = Some(child);
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = self.child.as_ref().unwrap().id();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id as i32), signal).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY)
            .args(arguments)
            .arg("--socket")
            .arg(self.path("admin.sock"))
            .output()
            .unwrap()
    }

    fn show(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["show"];
        all.extend(arguments);
        all.push("--json");
        let output = self.command(&all);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn registered(&self) -> Vec<String> {
        let shown = self.show(&["registrations", "--limit", "1000000"]);
        let list = shown.as_array().unwrap();
        let prefix = |view: &Value| view["eid-prefix"].as_str().unwrap().to_owned();
        list.iter().map(prefix).collect()
    }

    /// Waits until `wanted` holds.
    fn wait_until(&self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !wanted(self) {
            assert!(start.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

fn key() -> AuthKey {
    AuthKey::new(0, MacAlgorithm::HmacSha256_128, b"secret")
}

fn register(eid: &str, nonce: u64) -> MapRegister {
    let locator = Locator {
        priority: 1,
        weight: 100,
        reachable: true,
        rloc: Address::from(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        ..Locator::default()
    };
    MapRegister {
        want_map_notify: true,
        proxy_reply: true,
        nonce,
        records: vec![MapRecord {
            locators: vec![locator],
            ..MapRecord::negative(eid.parse().unwrap(), 1440, Action::NoAction)
        }],
        ..MapRegister::default()
    }
}

/// The ETR's socket: where Map-Notifies arrive, whatever port the register came from.
fn etr(number: u8) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 80, number, 2], 4342))).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 9000];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(length);
    (buffer, from)
}

#[test]
fn registers_answers_and_shows() {
    let daemon = Daemon::start(1, "");
    let etr = etr(1);
    etr.send_to(
        &register("10.1.0.0/16", 1).to_signed_vec(&key()),
        daemon.server,
    )
    .unwrap();
    let (notify, from) = receive(&etr);
    assert_eq!(
        from, daemon.server,
        "the answer comes from the address that was asked"
    );
    verify(&notify, &key(), &[]).unwrap();
    assert_eq!(MapNotify::parse(&notify).unwrap().nonce, 1);

    let itr = UdpSocket::bind("127.80.1.3:0").unwrap();
    itr.set_read_timeout(Some(PATIENCE)).unwrap();
    let itr_address = itr.local_addr().unwrap();
    let elsewhere = UdpSocket::bind("127.80.1.4:0").unwrap();
    let sent = encapsulated(itr_address, "10.1.2.3", 77);
    elsewhere.send_to(&sent, daemon.server).unwrap();
    let (reply, from) = receive(&itr);
    assert_eq!(from, daemon.server);
    let reply = MapReply::parse(&reply).unwrap();
    assert_eq!(reply.nonce, 77);
    assert_eq!(
        reply.records[0].eid_prefix().unwrap().to_string(),
        "10.1.0.0/16"
    );

    let site = &daemon.show(&["sites", "a"])[0];
    assert_eq!(site["registered"], 1);
    assert_eq!(site["last-registered-by"], "127.80.1.2");
    assert_eq!(site["counters"]["proxy-replies"], 1);
    // What never happened is told as well.
    assert_eq!(site["counters"]["authentication-failures"], 0);
    assert_eq!(site["counters"]["locator-mismatches"], 0);
    assert_eq!(daemon.show(&["requests"])["proxy-replies"], 1);
    let registration = &site["registrations"][0];
    assert_eq!(registration["eid-prefix"], "10.1.0.0/16");
    assert_eq!(registration["etrs"][0]["source"], "127.80.1.2");
    let statistics = daemon.show(&["statistics"]);
    assert_eq!(statistics["counters"]["map-registers"], 1);
    assert_eq!(statistics["counters"]["malformed"], 0);
    let text = String::from_utf8(daemon.command(&["show", "sites", "a"]).stdout).unwrap();
    assert!(text.contains("192.0.2.1  up     1/100"), "{text}");
    for what in ["sites", "registrations"] {
        let unknown = daemon.command(&["show", what, "nobody"]);
        assert_eq!(unknown.status.code(), Some(2));
    }
    let one = daemon.command(&["show", "registrations", "--limit", "1"]);
    let text = String::from_utf8(one.stdout).unwrap();
    assert!(
        text.ends_with("registrations --after 10.1.0.0/16\n"),
        "{text}"
    );
}

#[test]
fn what_a_map_notify_acknowledged_survives_a_kill_at_any_moment() {
    let mut daemon = Daemon::start(2, "edition: 9300");
    let etr = etr(2);
    etr.set_nonblocking(true).unwrap();
    let mut acknowledged: Vec<u64> = Vec::new();
    let mut nonce = 0;
    let eid = |n: u64| format!("10.{}.{}.{}/32", n >> 16 & 255, n >> 8 & 255, n & 255);
    for round in 0..50 {
        // Registers go out as fast as they can while the daemon is killed under them.
        let wait = Duration::from_millis(2 + 37 * round % 40);
        let start = Instant::now();
        let mut buffer = [0; 2000];
        let mut take = |acknowledged: &mut Vec<u64>| {
            while let Ok((length, _)) = etr.recv_from(&mut buffer) {
                acknowledged.push(MapNotify::parse(&buffer[..length]).unwrap().nonce);
            }
        };
        while start.elapsed() < wait {
            nonce += 1;
            let message = register(&eid(nonce), nonce).to_signed_vec(&key());
            drop(etr.send_to(&message, daemon.server));
            take(&mut acknowledged);
        }
        daemon.kill();
        take(&mut acknowledged);
        daemon.run();
        if round % 25 != 24 {
            // What is lost stays lost: nobody registers it again.
            continue;
        }
        let registered: std::collections::HashSet<_> = daemon.registered().into_iter().collect();
        for nonce in &acknowledged {
            let eid = eid(*nonce);
            assert!(
                registered.contains(&eid),
                "after {} kills: {eid} was acknowledged and is lost",
                round + 1
            );
        }
    }
    assert!(
        acknowledged.len() > 100,
        "only {} were acknowledged",
        acknowledged.len()
    );
    // The highest nonce is remembered too: a replay of an acknowledged register is dropped.
    let last = *acknowledged.iter().max().unwrap();
    etr.send_to(
        &register(&eid(last), last).to_signed_vec(&key()),
        daemon.server,
    )
    .unwrap();
    daemon.wait_until("the replay is counted", |daemon| {
        daemon.show(&["statistics"])["counters"]["replay"] == 1
    });
    let shown = daemon.show(&["registrations", "--limit", "1"]);
    assert_eq!(shown[0]["etrs"][0]["restored"], true);
}

#[test]
fn sighup_reads_the_configuration_and_a_broken_one_changes_nothing() {
    let daemon = Daemon::start(3, "");
    let sites = |daemon: &Daemon| daemon.show(&["sites"]).as_array().unwrap().len();
    let more = "  - {name: b, keys: [{key: x}], eid-prefixes: [{prefix: 192.168.0.0/16}]}\n";
    let path = daemon.path("msmr.yaml");
    let good = std::fs::read_to_string(&path).unwrap() + more;
    std::fs::write(&path, &good).unwrap();
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    daemon.wait_until("the second site is there", |daemon| sites(daemon) == 2);
    std::fs::write(
        &path,
        good.replace("eid-prefixes: [{prefix: 192", "eid-prefix: [{prefix: 192"),
    )
    .unwrap();
    let refused = daemon.command(&["reload"]);
    assert_eq!(refused.status.code(), Some(2));
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert!(
        errors.contains("msmr.yaml:") && errors.contains("did you mean `eid-prefixes`?"),
        "{errors}"
    );
    assert_eq!(sites(&daemon), 2);
}

#[test]
fn a_second_daemon_and_a_broken_configuration_end_with_their_codes() {
    let daemon = Daemon::start(4, "");
    let run = |path: &Path| {
        let output = Command::new(BINARY)
            .arg("--config")
            .arg(path)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, errors) = run(&daemon.path("msmr.yaml"));
    assert_eq!(code, Some(3), "{errors}");
    assert!(errors.contains("in use"), "{errors}");
    let broken = daemon.path("broken.yaml");
    for (text, expected) in [
        ("sites: [{name: a}]", "`keys`"),
        ("registration-timeout: 0s", "longer than zero"),
        ("roles: [map-servers]", "did you mean `map-server`?"),
        (
            "sites: [{name: a, keys: [{key: x}], eid-prefixes: [{prefix: 10.0.0.0/8}]}, \
             {name: b, keys: [{key: x}], eid-prefixes: [{prefix: 10.0.0.0/8}]}]",
            "site `a`",
        ),
        (
            "sites: [{name: a, keys: [{key: x}], eid-prefixes: [{prefix: 10.0.0.0/8, instance-id: 16777216}]}]",
            "24 bits",
        ),
    ] {
        std::fs::write(&broken, text).unwrap();
        let (code, errors) = run(&broken);
        assert_eq!(code, Some(2), "{errors}");
        assert!(
            errors.contains("broken.yaml:1:") && errors.contains(expected),
            "{errors}"
        );
    }
}

#[test]
fn sigterm_ends_it_cleanly() {
    let mut daemon = Daemon::start(5, "");
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let status = daemon.child.take().unwrap().wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!daemon.path("admin.sock").exists());
}

/// A request of `itr` about an EID, encapsulated.
fn encapsulated(itr: SocketAddr, eid: &str, nonce: u64) -> Vec<u8> {
    let eid = eid.parse().unwrap();
    let request = MapRequest {
        nonce,
        itr_rlocs: vec![Address::from(itr.ip())],
        records: vec![EidQuery::new(EidPrefix::host(0, eid))],
        ..MapRequest::default()
    };
    let message = lisp::wire::ControlMessage::MapRequest(request);
    Ecm::wrap(itr.ip(), eid, itr.port(), 4342, 64, &message).to_vec()
}

#[test]
fn two_servers_and_a_resolver_and_each_may_die_under_traffic() {
    let at = |host| SocketAddr::from(([127, 80, 6, host], 4342));
    let mut servers = [Daemon::start_at(at(11), ""), Daemon::start_at(at(12), "")];
    let mut resolver = Daemon::start_at(
        at(20),
        "roles: [map-resolver]\nmap-servers:\n\
         \x20 - {address: 127.80.6.11, eid-prefixes: [{prefix: 11.0.0.0/8}, {prefix: 10.0.0.0/9}]}\n\
         \x20 - {address: 127.80.6.12, eid-prefixes: [{prefix: 11.0.0.0/8}, {prefix: 10.0.0.0/9}]}",
    );
    let etr = etr(6);
    for server in &servers {
        let mut sent = register("10.1.0.0/16", 1);
        sent.proxy_reply = false;
        sent.records[0].locators[0].rloc = Address::from(std::net::Ipv4Addr::new(127, 80, 6, 2));
        etr.send_to(&sent.to_signed_vec(&key()), server.server)
            .unwrap();
        receive(&etr);
    }
    let itr = UdpSocket::bind("127.80.6.3:0").unwrap();
    let itr_address = itr.local_addr().unwrap();
    let mut nonce = 0;
    let mut ask = |resolver: &Daemon| {
        nonce += 1;
        let sent = encapsulated(itr_address, "10.1.2.3", nonce);
        itr.send_to(&sent, resolver.server).unwrap();
        let (arrived, from) = receive(&etr);
        assert_eq!(
            arrived[4..],
            sent[4..],
            "the inner packet is as the ITR made it"
        );
        assert_ne!(
            from.port(),
            4342,
            "an encapsulated message leaves from a random port"
        );
        from.ip()
    };
    assert_ne!(ask(&resolver), ask(&resolver), "the servers take turns");
    // A restarted server and resolver answer at once: from the state, without a new register.
    for server in &mut servers {
        server.kill();
        server.run();
        assert_ne!(ask(&resolver), ask(&resolver));
    }
    resolver.kill();
    resolver.run();
    ask(&resolver);
    // While one is dead, every other question finds the other.
    servers[0].kill();
    let etr_hears = |resolver: &Daemon| {
        etr.set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        (0..4)
            .filter(|n| {
                let sent = encapsulated(itr_address, "10.1.2.3", 1000 + n);
                itr.send_to(&sent, resolver.server).unwrap();
                etr.recv_from(&mut [0; 2000]).is_ok()
            })
            .count()
    };
    assert_eq!(etr_hears(&resolver), 2);
    servers[0].run();
    assert_eq!(etr_hears(&resolver), 4);
}
