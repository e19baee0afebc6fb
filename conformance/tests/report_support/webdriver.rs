//! A browser that a test drives: chromedriver, spoken to in plain HTTP on the loopback interface (W3C WebDriver).

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What WebDriver calls the reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// A page that takes longer than this is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A headless browser with one window.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one; `None`, with the reason printed, where the host has none and `LISPLAB_REQUIRE_CHROMIUM` is not 1.
    pub(crate) fn start(scripts: bool) -> Option<Browser> {
        let missing: Vec<&str> = ["chromium", "chromedriver"]
            .into_iter()
            .filter(|program| !is_installed(program))
            .collect();
        if !missing.is_empty() {
            let reason = format!(
                "{} not installed (Debian: apt-get install chromium chromium-driver)",
                missing.join(" and ")
            );
            assert!(
                std::env::var_os("LISPLAB_REQUIRE_CHROMIUM").is_none_or(|value| value != "1"),
                "{reason}"
            );
            eprintln!("skipped: {reason}");
            return None;
        }
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let port = port_of(&mut driver);
        let profile = tempfile::tempdir().expect("a temporary folder can be made");
        let mut browser = Browser {
            driver,
            port,
            session: String::new(),
            _profile: profile,
        };
        let mut arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1400,1000",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(format!(
            "--user-data-dir={}",
            browser._profile.path().display()
        ));
        let mut options = json!({"args": arguments});
        if !scripts {
            options["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
        }
        let capabilities = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let session = browser.call("POST", "/session", Some(&capabilities));
        browser.session = session["sessionId"]
            .as_str()
            .expect("a session has an id")
            .to_owned();
        Some(browser)
    }

    /// Opens a file.
    pub(crate) fn open(&self, file: &Path) {
        self.post("/url", json!({"url": format!("file://{}", file.display())}));
    }

    /// Runs JavaScript in the page and returns what it returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({"script": script, "args": []}))
    }

    /// Clicks the first element of a CSS selector, as a person would: it must be visible and not covered.
    pub(crate) fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.post(&format!("/element/{element}/click"), json!({}));
    }

    /// Types into an element.
    pub(crate) fn type_into(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.post(&format!("/element/{element}/value"), json!({"text": text}));
    }

    /// Whether an element is to be seen.
    pub(crate) fn shows(&self, selector: &str) -> bool {
        let element = self.find(selector);
        let path = format!("/session/{}/element/{element}/displayed", self.session);
        self.call("GET", &path, None)
            .as_bool()
            .expect("displayed is true or false")
    }

    /// What the page complained about: script errors and blocked content.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({"type": "browser"}));
        log.as_array()
            .into_iter()
            .flatten()
            .map(|entry| entry["message"].to_string())
            .collect()
    }

    fn find(&self, selector: &str) -> String {
        let found = self.post(
            "/element",
            json!({"using": "css selector", "value": selector}),
        );
        found[ELEMENT]
            .as_str()
            .unwrap_or_else(|| panic!("{selector}: {found}"))
            .to_owned()
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.call(
            "POST",
            &format!("/session/{}{path}", self.session),
            Some(&body),
        )
    }

    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.port)).expect("chromedriver listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout can be set");
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .expect("chromedriver reads");
        let mut reader = BufReader::new(stream);
        let mut length = None;
        let mut line = String::new();
        loop {
            line.clear();
            reader.read_line(&mut line).expect("chromedriver answers");
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        let mut text = vec![0; length.expect("chromedriver says how long its answer is")];
        reader
            .read_exact(&mut text)
            .expect("chromedriver finishes its answer");
        let answer: Value = serde_json::from_slice(&text).expect("chromedriver answers in JSON");
        assert!(
            answer["value"]["error"].is_null(),
            "{method} {path} {body}: {}",
            answer["value"]
        );
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Without the session's end the browser outlives its driver. Nothing here may panic: the test may be panicking.
        if !self.session.is_empty()
            && let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port))
        {
            let _ = stream.set_read_timeout(Some(PATIENCE));
            let _ = write!(
                stream,
                "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                self.session
            );
            let _ = stream.read(&mut [0; 512]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|paths| {
        std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
    })
}

fn port_of(driver: &mut Child) -> u16 {
    let output = driver.stdout.take().expect("its output is a pipe");
    let mut lines = BufReader::new(output).lines();
    let port = lines.by_ref().map_while(Result::ok).find_map(|line| {
        line.split_once("started successfully on port ")
            .map(|(_, port)| port.trim_end_matches('.').to_owned())
    });
    // Read on, so that it never waits for a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    port.and_then(|port| port.parse().ok())
        .expect("chromedriver says its port")
}
