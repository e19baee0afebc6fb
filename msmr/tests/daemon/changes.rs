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
