//! Load: bulk TCP by iperf3, small packets and echo requests by ourselves.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use nix::unistd::Pid;
use socket2::{Domain, Protocol, Socket, Type};

/// Addresses of the two hosts of every chain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hosts {
    source: IpAddr,
    target: IpAddr,
}

impl Hosts {
    /// Of one family.
    pub(crate) fn new(v6: bool) -> Self {
        if v6 {
            let host = |site| Ipv6Addr::new(site, 0, 0, 0, 0, 0, 0, 2).into();
            Self {
                source: host(0xfd01),
                target: host(0xfd02),
            }
        } else {
            Self {
                source: Ipv4Addr::new(10, 1, 0, 2).into(),
                target: Ipv4Addr::new(10, 2, 0, 2).into(),
            }
        }
    }
}

/// What one iperf3 run moved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bulk {
    pub(crate) gbits_per_second: f64,
    pub(crate) gbits: f64,
}

/// One TCP stream from `from` to `to`.
pub(crate) fn tcp(from: &str, to: &str, hosts: Hosts, seconds: u32) -> Result<Bulk, String> {
    let missing = |e| format!("iperf3: {e}; install it (Debian: apt install iperf3)");
    let mut server = Command::new("ip")
        .args([
            "netns",
            "exec",
            to,
            "iperf3",
            "-s",
            "-1",
            "-p",
            "5301",
            "--forceflush",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(missing)?;
    // Its first lines say that it listens.
    if let Some(output) = &mut server.stdout {
        use std::io::{BufRead, BufReader};
        let listening = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("listening"));
        if !listening {
            return Err(
                "iperf3 does not listen; install it (Debian: apt install iperf3)".to_owned(),
            );
        }
    }
    let output = Command::new("ip")
        .args([
            "netns",
            "exec",
            from,
            "iperf3",
            "-c",
            &hosts.target.to_string(),
        ])
        .args(["-p", "5301", "-J", "-t", &seconds.to_string()])
        .output()
        .map_err(missing)?;
    let _ = server.kill();
    let _ = server.wait();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("iperf3's report cannot be read: {e}"))?;
    let received = &report["end"]["sum_received"];
    let number = |name: &str| received[name].as_f64();
    match (number("bits_per_second"), number("bytes")) {
        (Some(rate), Some(bytes)) => Ok(Bulk {
            gbits_per_second: rate / 1e9,
            gbits: bytes * 8.0 / 1e9,
        }),
        _ => Err(format!("iperf3 failed: {}", report["error"])),
    }
}

fn enter(namespace: &str) -> Result<(), String> {
    let file = File::open(format!("/run/netns/{namespace}"))
        .map_err(|e| format!("namespace {namespace}: {e}"))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|e| format!("entering {namespace}: {e}"))
}

/// Runs `body` on a thread inside a namespace.
fn inside<T: Send>(
    namespace: &str,
    body: impl FnOnce() -> Result<T, String> + Send,
) -> Result<T, String> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| enter(namespace).and_then(|()| body()))
            .join()
            .map_err(|_| "a load thread panicked".to_owned())?
    })
}

fn pin(processor: usize) {
    let mut set = CpuSet::new();
    // On a machine with one processor both ends share it.
    if set.set(processor).is_ok() {
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

/// Octets of UDP payload of the small packets.
const SMALL: usize = 64;
const SINK_PORT: u16 = 7777;
/// Packets sent in one system call.
const BURST: usize = 32;

/// Highest rate, in packets a second, at which at most one packet in a thousand is lost; found by halving the
/// interval between `low` and `high` (on a logarithmic scale).
pub(crate) fn loss_free_rate(
    from: &str,
    to: &str,
    hosts: Hosts,
    flows: u16,
    step: Duration,
) -> Result<f64, String> {
    let (mut low, mut high) = (5_000.0f64, 1_500_000.0f64);
    let mut best = 0.0;
    while high / low > 1.05 {
        let rate = (low * high).sqrt();
        let (sent, received) = burst(from, to, hosts, flows, rate, step)?;
        let offered = sent as f64 / step.as_secs_f64();
        // What the generator cannot offer, nobody can forward.
        let carried = received as f64 >= sent as f64 * 0.999 && offered >= rate * 0.97;
        if carried {
            low = rate;
            best = offered;
        } else {
            high = rate;
        }
    }
    Ok(best)
}

/// Sends at a rate for a time; packets sent and received.
fn burst(
    from: &str,
    to: &str,
    hosts: Hosts,
    flows: u16,
    rate: f64,
    time: Duration,
) -> Result<(u64, u64), String> {
    let received = AtomicU64::new(0);
    let ready = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sink = scope.spawn(|| {
            let outcome = enter(to).and_then(|()| count(hosts, &received, &ready, &done));
            ready.store(true, Ordering::Release);
            outcome
        });
        let source = scope.spawn(|| {
            while !ready.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            enter(from).and_then(|()| send(hosts, flows, rate, time))
        });
        let sent = source.join().map_err(|_| "the packet source panicked")?;
        // What is still on its way arrives: until nothing has come for 50 ms.
        let mut last = u64::MAX;
        while last != received.load(Ordering::Relaxed) {
            last = received.load(Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(50));
        }
        done.store(true, Ordering::Release);
        sink.join().map_err(|_| "the packet sink panicked")??;
        Ok((sent?, received.load(Ordering::Relaxed)))
    })
}

fn failed(what: &str) -> impl Fn(std::io::Error) -> String + '_ {
    move |e| format!("{what}: {e}")
}

fn count(
    hosts: Hosts,
    received: &AtomicU64,
    ready: &AtomicBool,
    done: &AtomicBool,
) -> Result<(), String> {
    pin(1);
    let socket = Socket::new(
        Domain::for_address(SocketAddr::new(hosts.target, 0)),
        Type::DGRAM,
        None,
    )
    .map_err(failed("the packet sink's socket"))?;
    let _ =
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(64 << 20));
    socket
        .bind(&SocketAddr::new(hosts.target, SINK_PORT).into())
        .map_err(failed("binding the packet sink"))?;
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .map_err(failed("the packet sink's time limit"))?;
    ready.store(true, Ordering::Release);
    let mut buffers = vec![[0u8; 2048]; 64];
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(64, None);
    while !done.load(Ordering::Acquire) {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
        let flags = MsgFlags::from_bits_retain(libc::MSG_WAITFORONE);
        if let Ok(messages) = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, flags, None) {
            received.fetch_add(messages.count() as u64, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// One packet of each flow, from its IP header on; flows differ in their source port.
fn packets(hosts: Hosts, flows: u16) -> Vec<Vec<u8>> {
    (0..flows)
        .map(|flow| {
            lisp::ip::udp_packet(
                hosts.source,
                hosts.target,
                20_000 + flow,
                SINK_PORT,
                64,
                &[0x5a; SMALL],
            )
        })
        .collect()
}

fn send(hosts: Hosts, flows: u16, rate: f64, time: Duration) -> Result<u64, String> {
    pin(0);
    let target = SocketAddr::new(hosts.target, 0);
    let raw = Protocol::from(libc::IPPROTO_RAW);
    let socket = Socket::new(Domain::for_address(target), Type::RAW, Some(raw))
        .map_err(failed("the packet source's socket"))?;
    let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SndBuf, &(8 << 20));
    let packets = packets(hosts, flows);
    let burst = ((rate * 50e-6) as usize).clamp(1, BURST);
    let addresses = vec![Some(SockaddrStorage::from(target)); burst];
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(burst, None);
    let mut next = 0usize;
    let mut sent = 0u64;
    let start = Instant::now();
    while start.elapsed() < time {
        let due = (start.elapsed().as_secs_f64() * rate) as u64;
        if sent >= due {
            std::hint::spin_loop();
            continue;
        }
        let slices: Vec<[IoSlice<'_>; 1]> = (0..burst)
            .map(|n| [IoSlice::new(&packets[(next + n) % packets.len()])])
            .collect();
        next = (next + burst) % packets.len();
        match sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices,
            &addresses,
            [],
            MsgFlags::empty(),
        ) {
            Ok(results) => sent += results.count() as u64,
            Err(nix::errno::Errno::ENOBUFS | nix::errno::Errno::EAGAIN) => {}
            Err(e) => return Err(format!("sending packets: {e}")),
        }
    }
    Ok(sent)
}

/// Median round-trip time of `count` echo requests, one after the other, in microseconds.
pub(crate) fn echo(from: &str, hosts: Hosts, count: u16) -> Result<f64, String> {
    inside(from, || {
        let v6 = hosts.target.is_ipv6();
        let (protocol, request, reply) = if v6 {
            (Protocol::ICMPV6, 128, 129)
        } else {
            (Protocol::ICMPV4, 8, 0)
        };
        let target = SocketAddr::new(hosts.target, 0);
        let socket = Socket::new(Domain::for_address(target), Type::RAW, Some(protocol))
            .map_err(failed("the echo socket"))?;
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .map_err(failed("the echo socket's time limit"))?;
        let mut times = Vec::with_capacity(usize::from(count));
        for sequence in 0..count {
            let mut message = [0u8; 64];
            message[0] = request;
            message[4..6].copy_from_slice(&0x4c49u16.to_be_bytes());
            message[6..8].copy_from_slice(&sequence.to_be_bytes());
            let checksum = lisp::ip::checksum(&message);
            // Over IPv6 the kernel fills it in.
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
            let start = Instant::now();
            socket
                .send_to(&message, &target.into())
                .map_err(failed("sending an echo request"))?;
            if await_reply(&socket, v6, reply, sequence) {
                times.push(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        if times.len() * 10 < usize::from(count) * 9 {
            return Err(format!(
                "only {} of {count} echo requests were answered",
                times.len()
            ));
        }
        // The first ones warm neighbours and caches up.
        Ok(median(times.split_off(times.len() / 4)))
    })
}

fn await_reply(socket: &Socket, v6: bool, reply: u8, sequence: u16) -> bool {
    use std::io::Read;
    let mut buffer = [0u8; 256];
    loop {
        let Ok(length) = (&mut &*socket).read(&mut buffer) else {
            return false;
        };
        let message = buffer.get(if v6 { 0 } else { 20 }..length).unwrap_or(&[]);
        if let [kind, _, _, _, 0x4c, 0x49, a, b, ..] = *message
            && kind == reply
            && u16::from_be_bytes([a, b]) == sequence
        {
            return true;
        }
    }
}

/// The middle one, or the mean of the middle two; 0 for nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}
