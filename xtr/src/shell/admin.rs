//! The admin socket's orders, brought to the thread that drives the core.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use daemon::admin::{Request, Server};
use daemon::{Failure, Time};
use ipnet::IpNet;
use lisp::EidPrefix;
use nix::sys::eventfd::{EfdFlags, EventFd};
use serde_json::{Map, Value, json};

use super::path::PacketPath;
use crate::core::settings::{LocalLocator, LocalMapping};
use crate::core::{Change, Core};

/// Orders that may wait.
const QUEUE: usize = 64;
/// Longest wait for the core's thread.
const PATIENCE: Duration = Duration::from_secs(10);

/// The listening admin socket.
pub(super) struct Admin {
    _server: Server,
}

/// Where the core's thread finds orders. Its descriptor is readable while there are any.
pub(super) struct Orders {
    queue: Receiver<Order>,
    wake: Arc<EventFd>,
}

/// One order and where its answer goes.
pub(super) struct Order {
    request: Request,
    answer: Sender<Result<Value, String>>,
}

impl Admin {
    pub(super) fn start(path: &Path) -> Result<(Self, Orders), Failure> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|e| Failure::host("making a wake-up descriptor", e))?;
        let wake = Arc::new(wake);
        let (sender, queue) = sync_channel(QUEUE);
        let waker = Arc::clone(&wake);
        let server = Server::start(path, move |request| bring(&sender, &waker, request))?;
        Ok((Self { _server: server }, Orders { queue, wake }))
    }
}

fn bring(queue: &SyncSender<Order>, wake: &EventFd, request: Request) -> Result<Value, String> {
    let (answer, answered) = channel();
    queue
        .try_send(Order { request, answer })
        .map_err(|error| match error {
            TrySendError::Full(_) => "too many requests at once; come back later".to_owned(),
            TrySendError::Disconnected(_) => "the daemon is stopping".to_owned(),
        })?;
    wake.write(1).map_err(|error| error.to_string())?;
    answered
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| Err("the daemon did not answer; it is overloaded or stopping".into()))
}

impl Orders {
    pub(super) fn try_next(&self) -> Option<Order> {
        if let Ok(order) = self.queue.try_recv() {
            return Some(order);
        }
        // Cleared only when the queue was empty; an order that came in between is taken by the second look.
        let _ = self.wake.read();
        self.queue.try_recv().ok()
    }
}

impl AsFd for Orders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl Order {
    pub(super) fn request(&self) -> &Request {
        &self.request
    }

    pub(super) fn answer(self, answer: Result<Value, String>) {
        // The client may have gone away: its answer is nobody's loss then.
        let _ = self.answer.send(answer);
    }

    /// The change that is ordered; none: it is a question.
    pub(super) fn change(&self) -> Result<Option<Change>, String> {
        let request = &self.request;
        Ok(Some(match request.command.as_str() {
            "database-add" => Change::Add(mapping(request)?),
            "database-remove" => Change::Remove(prefix(request, "prefix")?),
            "database-move" => Change::Move {
                from: prefix(request, "from")?,
                to: prefix(request, "to")?,
            },
            "locator" => Change::Locator {
                address: address(request.text("address"))?,
                up: match request.text("state") {
                    Some("up") => true,
                    Some("down") => false,
                    other => return Err(expected("`state` up or down", other)),
                },
            },
            "clear-map-cache" => Change::ClearMapCache(match request.text("prefix") {
                Some(_) => Some(prefix(request, "prefix")?),
                None => None,
            }),
            _ => return Ok(None),
        }))
    }
}

fn expected(what: &str, found: Option<&str>) -> String {
    match found {
        Some(found) => format!("expected {what}, found `{found}`"),
        None => format!("expected {what}, found nothing"),
    }
}

fn address(text: Option<&str>) -> Result<IpAddr, String> {
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| expected("an IPv4 or IPv6 address", text))
}

fn prefix(request: &Request, name: &str) -> Result<EidPrefix, String> {
    let text = request.text(name);
    let what = "an EID-Prefix such as 10.1.0.0/24 or [7]10.1.0.0/24";
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| expected(what, text))
}

fn mapping(request: &Request) -> Result<LocalMapping, String> {
    let number = |map: &Map<String, Value>, name: &str, default: u64| match map.get(name) {
        None => Ok(default),
        Some(value) => value
            .as_u64()
            .ok_or_else(|| format!("expected `{name}` as a number, found {value}")),
    };
    let small = |map: &Map<String, Value>, name: &str, default: u64| {
        number(map, name, default).and_then(|n| {
            u8::try_from(n).map_err(|_| format!("expected `{name}` from 0 to 255, found {n}"))
        })
    };
    let listed = request.arguments.get("locators").and_then(Value::as_array);
    let mut locators = Vec::new();
    for locator in listed.into_iter().flatten() {
        let Value::Object(fields) = locator else {
            return Err(format!("expected a locator as an object, found {locator}"));
        };
        locators.push(LocalLocator {
            address: address(fields.get("address").and_then(Value::as_str))?,
            priority: small(fields, "priority", 1)?,
            weight: small(fields, "weight", 100)?,
            mpriority: 255,
            mweight: 0,
            up: true,
        });
    }
    if locators.is_empty() {
        return Err("expected at least one locator, found none".into());
    }
    let ttl = number(&request.arguments, "ttl", 1440)?;
    Ok(LocalMapping {
        first_version: 1,
        prefix: prefix(request, "prefix")?,
        ttl: u32::try_from(ttl).map_err(|_| format!("expected `ttl` in minutes, found {ttl}"))?,
        locators,
        dynamic: false,
        policies: Vec::new(),
    })
}

/// Answers a question.
pub(super) fn show(
    request: &Request,
    now: Time,
    core: &Core,
    path: &PacketPath,
) -> Result<Value, String> {
    let value = match request.command.as_str() {
        "map-cache" => {
            let mut rows = core.show_map_cache(now);
            let tables = path.counted();
            for row in &mut rows {
                let used = row
                    .prefix
                    .parse::<IpNet>()
                    .ok()
                    .and_then(|prefix| tables.get(&EidPrefix::new(row.instance_id, prefix)));
                if let Some(entry) = used {
                    row.packets = entry.packets();
                    row.bytes = entry.bytes();
                }
            }
            serde_json::to_value(rows)
        }
        "database" => serde_json::to_value(core.show_database(now)),
        "away" => serde_json::to_value(core.show_away(now)),
        "rlocs" => serde_json::to_value(core.show_rlocs(now)),
        "petr" => serde_json::to_value(core.show_proxy(now)),
        "neighbors" => serde_json::to_value(core.show_neighbors(now)),
        "statistics" => {
            let data: Map<String, Value> = path
                .counted()
                .counters()
                .all()
                .map(|(counter, count)| (counter.name().to_owned(), count.into()))
                .collect();
            let control: Map<String, Value> = core
                .counters()
                .iter()
                .map(|(reason, count)| (reason.to_owned(), count.into()))
                .collect();
            Ok(json!({ "data": data, "control": control }))
        }
        other => {
            return Err(format!(
                "expected map-cache, database, away, rlocs, neighbors, petr, statistics, database-add, \
                 database-remove, database-move, locator or clear-map-cache, found `{other}`"
            ));
        }
    };
    value.map_err(|error| error.to_string())
}
