//! The admin socket: a Unix stream socket on which a line of JSON asks and a line of JSON answers.
//!
//! A request is `{"command": "sites", ...}`, a reply `{"ok": ...}` or `{"error": "text"}`. A client may send many.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Longest request line in octets.
const MAX_REQUEST: u64 = 16 << 20;
/// Clients that are served at once; more are told to come back.
const MAX_CLIENTS: usize = 64;
/// A client that does not take or send anything for this long is let go.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);

/// A question or an order to a daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// What is wanted, in the daemon's words.
    pub command: String,
    /// Arguments by name.
    #[serde(flatten)]
    pub arguments: Map<String, Value>,
}

impl Request {
    /// A request without arguments.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            command: command.into(),
            arguments: Map::new(),
        }
    }

    /// The same with one more argument.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.arguments.insert(name.into(), value.into());
        self
    }

    /// A text argument, when it is there.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.arguments.get(name).and_then(Value::as_str)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Reply {
    Ok(Value),
    Error(String),
}

/// Why there is no admin socket, or no answer from one.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// A living daemon answers there already.
    #[error(
        "admin socket {path}: another running daemon listens there; stop it, or set another `admin-socket`"
    )]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Something that is not a socket is in the way.
    #[error(
        "admin socket {path}: expected a free path or a dead daemon's socket, found another kind of file; remove it or set another `admin-socket`"
    )]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The system refused.
    #[error("admin socket {path}: {doing}: {error}")]
    System {
        /// Where.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Its answer.
        error: io::Error,
    },
    /// Nobody listens.
    #[error("admin socket {path}: {error}; is the daemon running with this `admin-socket`?")]
    NoDaemon {
        /// Where.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// The daemon answered with an error.
    #[error("{0}")]
    Refused(String),
    /// The answer is not one.
    #[error("admin socket {path}: expected a reply as a line of JSON, found {found}")]
    NotAReply {
        /// Where.
        path: PathBuf,
        /// What came.
        found: String,
    },
}

impl From<AdminError> for crate::Failure {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Refused(text) => Self::Usage(text),
            other => Self::Host(other.to_string()),
        }
    }
}

/// A listening admin socket. Dropping it removes the socket's file.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
}

impl Server {
    /// Binds `path` (mode 0600, its directory is made) and answers every client on threads of its own.
    ///
    /// A dead daemon's socket is replaced; a living one's is refused.
    pub fn start<H>(path: &Path, handler: H) -> Result<Self, AdminError>
    where
        H: Fn(Request) -> Result<Value, String> + Send + Sync + 'static,
    {
        let listener = bind(path)?;
        let stopping = Arc::new(AtomicBool::new(false));
        let server = Self {
            path: path.to_path_buf(),
            stopping: stopping.clone(),
        };
        std::thread::Builder::new()
            .name("admin".into())
            .spawn(move || accept(&listener, &Arc::new(handler), &stopping))
            .map_err(|error| system(path, "starting its thread", error))?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // The connection wakes the accepting thread; the file goes first, so that nobody else meets a dying daemon.
        let wake = UnixStream::connect(&self.path);
        let removed = fs::remove_file(&self.path);
        if wake.is_err() || removed.is_err() {
            tracing::debug!("admin socket {} was gone already", self.path.display());
        }
    }
}

fn system(path: &Path, doing: &'static str, error: io::Error) -> AdminError {
    AdminError::System {
        path: path.to_path_buf(),
        doing,
        error,
    }
}

fn bind(path: &Path) -> Result<UnixListener, AdminError> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .map_err(|error| system(path, "making its directory", error))?;
    }
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system(path, "looking at it", error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(AdminError::NotASocket {
                path: path.to_path_buf(),
            });
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path)
                    .map_err(|error| system(path, "removing a dead daemon's socket", error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) => {
                return Err(AdminError::InUse {
                    path: path.to_path_buf(),
                });
            }
            Err(error) => return Err(system(path, "trying whether a daemon lives there", error)),
        },
    }
    let listener = UnixListener::bind(path).map_err(|error| system(path, "binding it", error))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(|error| system(path, "restricting its mode", error))?;
    Ok(listener)
}

fn accept<H>(listener: &UnixListener, handler: &Arc<H>, stopping: &AtomicBool)
where
    H: Fn(Request) -> Result<Value, String> + Send + Sync + 'static,
{
    let clients = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        if stopping.load(Ordering::Relaxed) {
            return;
        }
        let client = match client {
            Ok(client) => client,
            Err(error) => {
                tracing::warn!("admin socket: a client could not be accepted: {error}");
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if clients.fetch_add(1, Ordering::Relaxed) >= MAX_CLIENTS {
            clients.fetch_sub(1, Ordering::Relaxed);
            let text = format!("{MAX_CLIENTS} clients are served at once; come back later");
            drop(write_line(&client, &Reply::Error(text)));
            continue;
        }
        let (of_client, handler) = (clients.clone(), handler.clone());
        let started = std::thread::Builder::new()
            .name("admin-client".into())
            .spawn(move || {
                if let Err(error) = serve(&client, &*handler) {
                    tracing::debug!("admin socket: a client went away: {error}");
                }
                of_client.fetch_sub(1, Ordering::Relaxed);
            });
        if let Err(error) = started {
            clients.fetch_sub(1, Ordering::Relaxed);
            tracing::warn!("admin socket: no thread for a client: {error}");
        }
    }
}

fn serve(
    client: &UnixStream,
    handler: &dyn Fn(Request) -> Result<Value, String>,
) -> io::Result<()> {
    client.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    client.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let mut reader = BufReader::new(client);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader)
            .take(MAX_REQUEST)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if !line.ends_with(b"\n") && read as u64 == MAX_REQUEST {
            let text = format!("expected a request of at most {MAX_REQUEST} octets, found more");
            return write_line(client, &Reply::Error(text));
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => match handler(request) {
                Ok(value) => Reply::Ok(value),
                Err(text) => Reply::Error(text),
            },
            Err(error) => Reply::Error(format!(
                "expected a request such as {{\"command\": \"statistics\"}}, found: {error}"
            )),
        };
        write_line(client, &reply)?;
    }
}

fn write_line(mut stream: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Asks a running daemon.
pub fn ask(path: &Path, request: &Request) -> Result<Value, AdminError> {
    let stream = UnixStream::connect(path).map_err(|error| AdminError::NoDaemon {
        path: path.to_path_buf(),
        error,
    })?;
    let exchange = || -> io::Result<Vec<u8>> {
        stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
        stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
        write_line(&stream, request)?;
        let mut line = Vec::new();
        BufReader::new(&stream).read_until(b'\n', &mut line)?;
        Ok(line)
    };
    let line = exchange().map_err(|error| system(path, "asking", error))?;
    match serde_json::from_slice(&line) {
        Ok(Reply::Ok(value)) => Ok(value),
        Ok(Reply::Error(text)) => Err(AdminError::Refused(text)),
        Err(error) => Err(AdminError::NotAReply {
            path: path.to_path_buf(),
            found: if line.is_empty() {
                "the end of the connection".into()
            } else {
                error.to_string()
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn echo(request: Request) -> Result<Value, String> {
        match request.command.as_str() {
            "echo" => Ok(Value::Object(request.arguments)),
            other => Err(format!("no command `{other}`")),
        }
    }

    #[test]
    fn asks_and_answers_many_clients() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/admin.sock");
        let server = Server::start(&path, echo).unwrap();
        let idle: Vec<_> = (0..5)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        let reply = ask(&path, &Request::new("echo").with("name", "a")).unwrap();
        assert_eq!(reply, json!({"name": "a"}));
        let refused = ask(&path, &Request::new("else")).unwrap_err();
        assert_eq!(refused.to_string(), "no command `else`");
        drop(idle);
        drop(server);
        assert!(!path.exists());
        assert!(matches!(
            ask(&path, &Request::new("echo")),
            Err(AdminError::NoDaemon { .. })
        ));
    }

    #[test]
    fn a_living_daemon_is_refused_and_a_dead_one_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let server = Server::start(&path, echo).unwrap();
        let second = Server::start(&path, echo).unwrap_err();
        assert!(matches!(second, AdminError::InUse { .. }), "{second}");
        drop(server);
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead daemon leaves its socket");
        let _server = Server::start(&path, echo).unwrap();
        ask(&path, &Request::new("echo")).unwrap();
    }

    #[test]
    fn other_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        let refused = Server::start(&path, echo).unwrap_err();
        assert!(
            matches!(refused, AdminError::NotASocket { .. }),
            "{refused}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn broken_requests_get_an_error_and_the_connection_lives_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let _server = Server::start(&path, echo).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        (&stream)
            .write_all(b"not json\n{\"command\":\"echo\",\"x\":1}\n")
            .unwrap();
        let mut lines = BufReader::new(&stream).lines();
        assert!(lines.next().unwrap().unwrap().starts_with("{\"error\""));
        assert_eq!(lines.next().unwrap().unwrap(), "{\"ok\":{\"x\":1}}");
    }
}
