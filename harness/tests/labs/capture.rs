//! The capture: nothing is lost, times and directions are right, files are read back as they were written.

use std::net::UdpSocket;
use std::time::Duration;

use harness::{Direction, Lab, LabOptions, Packet, Ping, Topology, pcapng};

pub(crate) const TESTS: &[crate::Test] = &[
    (
        "capture::nothing_is_lost_on_64_links",
        nothing_is_lost_on_64_links,
    ),
    (
        "capture::every_packet_of_a_burst_is_there",
        every_packet_of_a_burst_is_there,
    ),
    (
        "capture::packets_are_waited_for_and_have_directions",
        packets_are_waited_for_and_have_directions,
    ),
    (
        "capture::files_are_read_back_as_written",
        files_are_read_back_as_written,
    ),
    (
        "capture::foreign_and_hostile_files",
        foreign_and_hostile_files,
    ),
];

const LONG: Duration = Duration::from_secs(10);

/// `links` hosts around one router.
fn star(links: usize) -> Topology {
    let mut text = String::from("format: 1\nname: star\nnodes:\n  core: {kind: router}\n");
    for i in 0..links {
        text += &format!("  h{i}: {{kind: host, routes: [{{to: default, via: 10.0.{i}.1}}]}}\n");
    }
    text += "links:\n";
    for i in 0..links {
        text += &format!(
            "  l{i}: {{ends: {{core: {{addresses: [10.0.{i}.1/24]}}, h{i}: {{addresses: [10.0.{i}.2/24]}}}}}}\n"
        );
    }
    Topology::parse("star.yaml", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn up(topology: &Topology) -> Lab {
    Lab::up(topology, LabOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The payload of a UDP packet to a port, if it is one.
fn udp_payload(packet: &Packet, port: u16) -> Option<&[u8]> {
    let data = &packet.data;
    let is_udp = data.get(12..14)? == [8, 0] && *data.get(23)? == 17;
    (is_udp && data.get(36..38)? == port.to_be_bytes()).then(|| &data[42..])
}

fn nothing_is_lost_on_64_links() {
    const LINKS: usize = 64;
    const EACH: u32 = 500;
    let topology = star(LINKS);
    let lab = up(&topology);
    let sockets: Vec<UdpSocket> = (0..LINKS)
        .map(|i| {
            lab.run_in(&format!("h{i}"), || UdpSocket::bind("0.0.0.0:0").unwrap())
                .unwrap()
        })
        .collect();
    for n in 0..EACH {
        for (i, socket) in sockets.iter().enumerate() {
            // The router answers "port unreachable" to some, which the next send reports.
            let _ = socket.send_to(&n.to_be_bytes(), format!("10.0.{i}.1:9999"));
        }
    }
    let mut sent = 0;
    for (i, socket) in sockets.iter().enumerate() {
        let _ = socket.take_error();
        socket.send_to(b"last", format!("10.0.{i}.1:9998")).unwrap();
        sent += 1;
    }
    let recording = lab.finish();
    assert_eq!(recording.drops, []);
    let fences = recording
        .packets
        .iter()
        .filter(|p| udp_payload(p, 9998).is_some());
    assert_eq!(
        fences.count(),
        sent,
        "the last packets are there without waiting"
    );
    for i in 0..LINKS {
        let link = format!("l{i}");
        let mut numbers: Vec<u32> = recording
            .packets
            .iter()
            .filter(|p| p.link() == link)
            .filter_map(|p| {
                Some(u32::from_be_bytes(
                    udp_payload(p, 9999)?.try_into().unwrap(),
                ))
            })
            .collect();
        // A send that reported an earlier ICMP error was not sent; all others are there, in order.
        assert!(numbers.is_sorted());
        numbers.dedup();
        assert!(numbers.len() as u32 > EACH / 2, "{link}: {}", numbers.len());
    }
    assert!(recording.packets.is_sorted_by_key(|p| p.time_ns));
    assert!(
        recording
            .packets
            .iter()
            .zip(1..)
            .all(|(p, n)| p.number == n)
    );
}

fn every_packet_of_a_burst_is_there() {
    const COUNT: u32 = 20_000;
    let topology = star(2);
    let lab = up(&topology);
    let receiver = lab
        .run_in("h1", || UdpSocket::bind("10.0.1.2:9999").unwrap())
        .unwrap();
    let sender = lab
        .run_in("h0", || UdpSocket::bind("0.0.0.0:0").unwrap())
        .unwrap();
    for n in 0..COUNT {
        sender.send_to(&n.to_be_bytes(), "10.0.1.2:9999").unwrap();
    }
    let recording = lab.finish();
    drop(receiver);
    assert_eq!(recording.drops, []);
    for link in ["l0", "l1"] {
        let numbers: Vec<u32> = recording
            .packets
            .iter()
            .filter(|p| p.link() == link)
            .filter_map(|p| {
                Some(u32::from_be_bytes(
                    udp_payload(p, 9999)?.try_into().unwrap(),
                ))
            })
            .collect();
        assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>(), "{link}");
    }
}

fn packets_are_waited_for_and_have_directions() {
    let topology = star(2);
    let lab = up(&topology);
    let before = lab.now_ns();
    let mut watch = lab.watch();
    lab.ping("h0", "10.0.1.2".parse().unwrap(), &Ping::default())
        .unwrap();
    let is_icmp =
        |p: &Packet, kind: u8| p.data.get(23) == Some(&1) && p.data.get(34) == Some(&kind);
    let request = watch
        .wait_for("an echo request on l1", LONG, |p| {
            p.link() == "l1" && is_icmp(p, 8)
        })
        .unwrap();
    assert_eq!(request.direction, Direction::Out);
    assert_eq!(
        (request.from_node(), request.to_node()),
        (Some("core"), Some("h1"))
    );
    assert!(request.time_ns >= before && request.time_ns <= lab.now_ns());
    let reply = lab
        .wait_for("an echo reply on l0", LONG, |p| {
            p.link() == "l0" && is_icmp(p, 0)
        })
        .unwrap();
    assert_eq!(
        (reply.from_node(), reply.to_node()),
        (Some("core"), Some("h0"))
    );
    let error = lab
        .wait_for("a unicorn", Duration::from_millis(20), |_| false)
        .unwrap_err();
    assert!(error.to_string().contains("a unicorn"), "{error}");

    // What is not there after catching up did not happen.
    lab.catch_up();
    let replies = lab.packets().iter().filter(|p| is_icmp(p, 0)).count();
    assert_eq!(replies, 2);
    lab.mark("the end");
    let recording = lab.finish();
    assert_eq!(recording.marks[0].text, "the end");
}

fn files_are_read_back_as_written() {
    let topology = star(1);
    let lab = up(&topology);
    lab.ping("h0", "10.0.0.1".parse().unwrap(), &Ping::default())
        .unwrap();
    let mut recording = lab.finish();
    recording.packets[0].comments =
        vec!["expected: a ping. ünïcödé".to_owned(), "second".to_owned()];
    let mut file = Vec::new();
    recording.write_pcapng(&mut file).unwrap();
    let read = pcapng::read(&file).unwrap();
    assert_eq!(read.interfaces, recording.interfaces);
    assert_eq!(read.packets.len(), recording.packets.len());
    for (a, b) in read.packets.iter().zip(&recording.packets) {
        assert_eq!(
            (a.number, a.time_ns, &a.interface, a.direction),
            (b.number, b.time_ns, &b.interface, b.direction)
        );
        assert_eq!(
            (&a.data, a.original_len, &a.comments),
            (&b.data, b.original_len, &b.comments)
        );
    }
    assert_eq!(read.packets[0].interface.far, "h0");

    // Whatever is cut off or changed: an answer, never a panic; and a cut inside of a block is an error.
    for cut in 0..file.len() {
        if let Ok(part) = pcapng::read(&file[..cut]) {
            assert!(part.packets.len() < read.packets.len());
        }
    }
    for at in 0..file.len().min(2000) {
        for flip in [0x01, 0x80, 0xff] {
            let mut broken = file.clone();
            broken[at] ^= flip;
            let _ = pcapng::read(&broken);
        }
    }
}

fn foreign_and_hostile_files() {
    // Classic pcap, big endian, microseconds, one packet of two octets.
    let mut pcap = vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4];
    pcap.extend([0; 8]);
    pcap.extend([0, 0, 0xff, 0xff, 0, 0, 0, 1]);
    pcap.extend([0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 2, 0, 0, 0, 9, 0xab, 0xcd]);
    let file = pcapng::read(&pcap).unwrap();
    assert_eq!(file.packets[0].time_ns, 1_000_005_000);
    assert_eq!(
        (file.packets[0].original_len, &*file.packets[0].data),
        (9, &[0xab, 0xcd][..])
    );
    assert_eq!(file.packets[0].from_node(), None);

    let huge = [
        &[
            0x0a, 0x0d, 0x0d, 0x0a, 0xfc, 0xff, 0xff, 0xff, 0x4d, 0x3c, 0x2b, 0x1a,
        ][..],
        &[0; 16],
    ]
    .concat();
    for (bytes, words) in [
        (&b""[..], "octet 0: expected a capture file"),
        (b"hello world", "begins with"),
        (
            &pcap[..pcap.len() - 1],
            "octet 40: expected 2 octets of packet, found 1",
        ),
        (&huge, "octet 0: expected 4294967292 octets"),
    ] {
        let error = pcapng::read(bytes).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("hint:"), "{error}");
    }
}
