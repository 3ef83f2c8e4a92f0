//! A page in a browser without a window, by the protocol of its developer tools over a pipe
//! (chromedevtools.github.io/devtools-protocol).

use std::{
    env,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

/// What a browser says of a page.
#[derive(Debug, Default)]
pub struct Page {
    /// Errors that it wrote to the console.
    pub errors: Vec<String>,
    /// Addresses that it asked for, besides its own and those that hold what they are.
    pub requests: Vec<String>,
    /// Role and name of each node of the accessibility tree that has both.
    pub accessible: Vec<(String, String)>,
}

impl Page {
    /// Opens a file. `None` where there is no browser and none is required (GABOR_TEST_BROWSER=required).
    pub fn open(path: &Path) -> Option<Self> {
        let is_there =
            |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|found| found.status.success());
        let Some(browser) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(is_there) else {
            let required = env::var("GABOR_TEST_BROWSER").is_ok_and(|value| value == "required");
            assert!(!required, "there is no Chromium, and GABOR_TEST_BROWSER requires one");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let [to, from] = ["to", "from"].map(|name| folder.path().join(name));
        assert!(Command::new("mkfifo").args([&to, &from]).status().unwrap().success());
        // It reads what it is to do from descriptor 3 and answers on 4.
        let script = format!(
            "exec {browser} --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
             --user-data-dir=\"$1\" --remote-debugging-pipe about:blank 3<\"$2\" 4>\"$3\""
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).arg(folder.path().join("profile")).args([&to, &from]);
        let child = Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let to = OpenOptions::new().write(true).open(&to).unwrap();
        let from = BufReader::new(File::open(&from).unwrap());
        let mut browser = Browser { to, from, session: None, asked: 0, events: Vec::new() };
        let page = browser.look_at(path);
        drop(child);
        Some(page)
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Browser {
    to: File,
    from: BufReader<File>,
    session: Option<String>,
    asked: u64,
    events: Vec<Value>,
}

impl Browser {
    /// The next thing that it says.
    fn next(&mut self) -> Value {
        let mut message = Vec::new();
        self.from.read_until(0, &mut message).unwrap();
        assert_eq!(message.pop(), Some(0), "the browser has ended");
        serde_json::from_slice(&message).unwrap()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let mut message = json!({"id": self.asked, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.next();
            if answer["id"] == self.asked {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    fn look_at(&mut self, path: &Path) -> Page {
        let target = self.ask("Target.createTarget", json!({"url": "about:blank"}));
        let attached = self.ask("Target.attachToTarget", json!({"targetId": target["targetId"], "flatten": true}));
        self.session = attached["sessionId"].as_str().map(String::from);
        for domain in ["Log", "Runtime", "Network", "Page", "Accessibility"] {
            self.ask(&format!("{domain}.enable"), json!({}));
        }
        self.ask("Page.navigate", json!({"url": format!("file://{}", path.display())}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.next();
            self.events.push(event);
        }
        let tree = self.ask("Accessibility.getFullAXTree", json!({}));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let mut page = Page::default();
        for node in tree["nodes"].as_array().unwrap() {
            let (role, name) = (text(&node["role"]["value"]), text(&node["name"]["value"]));
            if !name.is_empty() {
                page.accessible.push((role, name));
            }
        }
        for event in &self.events {
            let params = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Log.entryAdded" if params["entry"]["level"] == "error" => page.errors.push(params.to_string()),
                "Runtime.exceptionThrown" => page.errors.push(params.to_string()),
                "Runtime.consoleAPICalled" if params["type"] == "error" => page.errors.push(params.to_string()),
                "Network.requestWillBeSent" => page.requests.push(text(&params["request"]["url"])),
                _ => {}
            }
        }
        page.requests.retain(|url| !url.starts_with("data:") && !url.ends_with(&path.display().to_string()));
        page
    }
}
