//! Sites that come, change and go while the daemon runs.

use super::*;

/// A daemon of edition 9300 whose ETR holds 10.1.0.0/16 for ever.
fn for_ever(number: u8) -> (Daemon, UdpSocket) {
    let daemon = Daemon::start(number, "edition: 9300");
    let etr = etr(number);
    let message = MapRegister {
        use_ttl: true,
        records: register("10.1.0.0/16", 1)
            .records
            .into_iter()
            .map(|record| MapRecord {
                ttl: u32::MAX,
                ..record
            })
            .collect(),
        ..register("10.1.0.0/16", 1)
    };
    etr.send_to(&message.to_signed_vec(&key()), daemon.server)
        .unwrap();
    receive(&etr);
    let shown = daemon.show(&["sites", "a"]);
    assert_eq!(
        shown[0]["registrations"][0]["etrs"][0]["expires"],
        Value::Null
    );
    (daemon, etr)
}

/// Changes the configuration file and sends SIGHUP.
fn edit(daemon: &Daemon, from: &str, to: &str) {
    let path = daemon.path("msmr.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
}

#[test]
fn a_key_that_goes_takes_what_asked_to_live_for_ever_along_and_no_kill_brings_it_back() {
    let (mut daemon, etr) = for_ever(11);
    edit(&daemon, "key: secret", "key: another");
    daemon.wait_until("the registration is gone", |daemon| {
        daemon.registered().is_empty()
    });
    assert_eq!(
        daemon.show(&["sites", "a"])[0]["counters"]["revocations"],
        1
    );
    daemon.kill();
    daemon.run();
    assert!(daemon.registered().is_empty());
    // Neither does the old key after the kill, when a new one is there.
    let old = register("10.1.0.0/16", 2).to_signed_vec(&key());
    etr.send_to(&old, daemon.server).unwrap();
    let new = AuthKey::new(0, MacAlgorithm::HmacSha256_128, b"another");
    let fence = register("10.2.0.0/16", 3).to_signed_vec(&new);
    etr.send_to(&fence, daemon.server).unwrap();
    assert_eq!(MapNotify::parse(&receive(&etr).0).unwrap().nonce, 3);
    assert_eq!(daemon.registered(), ["10.2.0.0/16"]);
}

#[test]
fn locators_prefixes_and_sites_that_go_take_their_registrations_along() {
    let (daemon, etr) = for_ever(12);
    let again = |nonce: u64| {
        let message = register("10.1.0.0/16", nonce).to_signed_vec(&key());
        etr.send_to(&message, daemon.server).unwrap();
        receive(&etr);
        assert_eq!(daemon.registered(), ["10.1.0.0/16"]);
    };
    let put = |site: &str| {
        let file = daemon.path("site.yaml");
        std::fs::write(&file, site).unwrap();
        daemon.command(&["site", "put", file.to_str().unwrap()])
    };
    let with = |more: &str, prefix: &str| {
        format!(
            "{{name: a, keys: [{{key: secret}}], eid-prefixes: [{{prefix: {prefix}, accept-more-specifics: true}}]{more}}}"
        )
    };
    let narrow = with(", allowed-locators: [198.51.100.0/24]", "10.0.0.0/8");
    assert!(put(&narrow).status.success());
    assert!(daemon.registered().is_empty());
    assert!(put(&with("", "10.0.0.0/8")).status.success());
    again(2);
    assert!(put(&with("", "10.128.0.0/9")).status.success());
    assert!(daemon.registered().is_empty());
    assert!(put(&with("", "10.0.0.0/8")).status.success());
    again(3);
    assert!(daemon.command(&["site", "remove", "a"]).status.success());
    assert!(daemon.registered().is_empty());
    let twice = daemon.command(&["site", "remove", "a"]);
    assert_eq!(twice.status.code(), Some(2));
}

#[test]
fn no_more_sites_than_the_limit_allows_by_whatever_way() {
    let daemon = Daemon::start(13, "");
    edit(&daemon, "limits: {", "limits: {sites: 1, ");
    daemon.wait_until("the limit holds", |daemon| {
        let file = daemon.path("site.yaml");
        let site = "{name: b, keys: [{key: x}], eid-prefixes: [{prefix: 192.168.0.0/16}]}";
        std::fs::write(&file, site).unwrap();
        let put = daemon.command(&["site", "put", file.to_str().unwrap()]);
        let errors = String::from_utf8(put.stderr).unwrap();
        // Before the signal was heard there was room.
        let refused = put.status.code() == Some(2);
        assert!(!refused || errors.contains("at most 1 sites"), "{errors}");
        refused || {
            daemon.command(&["site", "remove", "b"]);
            false
        }
    });
    edit(
        &daemon,
        "sites:\n",
        "sites:\n  - {name: b, keys: [{key: x}], eid-prefixes: [{prefix: 192.168.0.0/16}]}\n",
    );
    let refused = daemon.command(&["reload"]);
    assert_eq!(refused.status.code(), Some(2));
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert!(errors.contains("at most 1 sites"), "{errors}");
    assert_eq!(daemon.show(&["sites"]).as_array().unwrap().len(), 1);
}

#[test]
fn commands_find_the_daemon_by_its_configuration() {
    let daemon = Daemon::start(14, "");
    let by = |arguments: &[&str]| {
        let path = daemon.path("msmr.yaml");
        let output = Command::new(BINARY)
            .arg("--config")
            .arg(path)
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(by(&["show", "sites"]).contains("\na "));
    assert!(by(&["reload"]).contains("1 sites configured"));
    assert!(by(&["check"]).contains("1 sites"));
}

/// The daemon in a mount namespace where its state directory is a small file system of its own, nearly full.
fn on_a_small_disk(number: u8) -> Daemon {
    let mut daemon = Daemon::prepared(number, "");
    let state = daemon.path("state");
    std::fs::create_dir(&state).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=128k none {0} && head -c 100k /dev/zero > {0}/ballast && exec {BINARY} --config {1}",
        state.display(),
        daemon.path("msmr.yaml").display()
    );
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
    daemon.run_as(command);
    daemon
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_until_there_is_room_and_all_else_goes_on() {
    let daemon = on_a_small_disk(15);
    let etr = etr(15);
    etr.set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let mut buffer = [0; 2000];
    let mut registers = |nonce: u64| {
        let eid = format!("10.1.{}.{}/32", nonce >> 8, nonce & 255);
        let message = register(&eid, nonce).to_signed_vec(&key());
        etr.send_to(&message, daemon.server).unwrap();
        match etr.recv_from(&mut buffer) {
            Ok((length, _)) => MapNotify::parse(&buffer[..length]).unwrap().nonce == nonce,
            Err(_) => false,
        }
    };
    let full = (0..2000).find(|nonce| !registers(*nonce)).unwrap();
    assert!(full > 50, "{full} were kept");
    assert!(!registers(full + 1));
    // Questions and operators are still answered.
    let itr = UdpSocket::bind("127.80.15.3:0").unwrap();
    itr.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = encapsulated(itr.local_addr().unwrap(), "10.1.0.1", 77);
    itr.send_to(&asked, daemon.server).unwrap();
    assert_eq!(MapReply::parse(&receive(&itr).0).unwrap().nonce, 77);
    // Room again: what waited is kept, and the ETR's next Map-Register is acknowledged.
    let child = daemon.child.as_ref().unwrap().id();
    let state = daemon.path("state");
    let inside = format!("/proc/{child}/root{}", state.display());
    std::fs::remove_file(format!("{inside}/ballast")).unwrap();
    assert!(registers(full));
    let kept: u64 = std::fs::read_dir(&inside)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(kept > full * 100, "{kept} octets of {full} registrations");
}
