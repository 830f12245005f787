//! The adapter sits the exam of `tidings-testkit`, once for each format that has cursors; its
//! session has transcripts; and it is as small as the README says.

use std::net::SocketAddr;

use tidings_adapter::serde_json::{self, Value};
use tidings_adapter::{Adapter, BoxFuture, Draft, Now, Topic, Verdict};
use tidings_ntfy::Ntfy;
use tidings_ntfy::subscription::Subscription;
use tidings_testkit::adapter_exam::wire::{Frame, Line, Message, Request, Stream, WebSocket, send};
use tidings_testkit::adapter_exam::{
    Bad, Client, Dialect, Features, Heard, Place, Published, refused,
};
use tidings_testkit::transcript;

mod json {
    tidings_testkit::adapter_exam!(super::Format::Json);
}

mod sse {
    tidings_testkit::adapter_exam!(super::Format::Sse);
}

mod ws {
    tidings_testkit::adapter_exam!(super::Format::Ws);
}

/// ntfy's clients, by the format that they read.
#[derive(Debug, Clone, Copy)]
enum Format {
    Json,
    Sse,
    Ws,
}

impl Dialect for Format {
    fn features(&self) -> Features {
        Features {
            publishes: true,
            greets: true,
            history: true,
            resumes: true,
            several: true,
            // Nobody listens to what a client sends. A websocket is told to come back by its close
            // code; a stream just ends.
            frames: false,
            farewell: matches!(self, Self::Ws),
        }
    }

    fn adapter(&self) -> Box<dyn Adapter> {
        Box::new(Ntfy)
    }

    fn topic(&self, name: &str) -> Topic {
        Topic::parse(&format!("ntfy/{name}")).expect("a topic")
    }

    fn draft(&self, name: &str, text: &str) -> Draft {
        let data = serde_json::json!({ "message": text });
        Draft::new(self.topic(name), "message", data.to_string())
    }

    fn publish<'a>(
        &'a self,
        at: SocketAddr,
        name: &'a str,
        text: &'a str,
    ) -> BoxFuture<'a, anyhow::Result<Published>> {
        Box::pin(async move {
            let request = Request::post(format!("/{name}"), text.to_owned());
            let answer = send(at, &request).await?;
            Ok(match answer.status {
                200 => Published::Stored,
                _ => Published::Refused {
                    retry: !answer.header("retry-after").is_empty(),
                    words: answer.text(),
                },
            })
        })
    }

    fn follow<'a>(
        &'a self,
        at: SocketAddr,
        names: &'a [&'a str],
        from: &'a Place,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>> {
        Box::pin(async move {
            let since = match from {
                Place::Newest => String::new(),
                Place::Oldest => "?since=all".to_owned(),
                Place::After(id) => format!("?since={id}"),
            };
            let format = match self {
                Self::Json => "json",
                Self::Sse => "sse",
                Self::Ws => "ws",
            };
            let request = Request::get(format!("/{}/{format}{since}", names.join(",")));
            if let Self::Ws = self {
                return Ok(match WebSocket::open(at, &request).await? {
                    Ok(socket) => Box::new(Socket(socket)),
                    Err(answer) => refused(answer.text()),
                });
            }
            let stream = Stream::open(at, &request).await?;
            if stream.status != 200 {
                let words = stream.rest().await?;
                return Ok(refused(String::from_utf8_lossy(&words)));
            }
            Ok(Box::new(Reader(stream)) as Box<dyn Client>)
        })
    }

    fn bad(&self) -> Vec<Bad> {
        let post = |target: &str, body: &str| Request::post(target, body.to_owned());
        let long = "x".repeat(4097);
        vec![
            Bad::request("a bad topic", post("/a.b", "x"), 400, "40009"),
            Bad::request("a slash in a topic", post("/a%2Fb", "x"), 400, "40009"),
            Bad::request(
                "a long topic",
                post(&format!("/{}", &long[..65]), "x"),
                400,
                "40009",
            ),
            Bad::request("a long message", post("/a", &long), 413, "41301"),
            Bad::request(
                "a body over the limit",
                post("/a", &long.repeat(3)),
                413,
                "41300",
            ),
            Bad::request("no UTF-8", Request::post("/a", &b"\xff"[..]), 400, "40000"),
            Bad::request("no JSON", post("/", "{"), 400, "40024"),
            Bad::request("no topic", post("/", "{\"message\":\"x\"}"), 400, "40009"),
            Bad::request(
                "no list",
                post("/", "{\"topic\":\"a\",\"tags\":3}"),
                400,
                "tags",
            ),
            Bad::request("no priority", post("/a?priority=6", "x"), 400, "40007"),
            Bad::request("later", post("/a", "x").header("delay", "1h"), 400, "delay"),
            Bad::request(
                "mail",
                post("/a", "x").header("x-email", "a@b"),
                400,
                "email",
            ),
            Bad::request("no format", Request::get("/a/xml"), 404, "40401"),
            Bad::request("no name", Request::get("/a,,b/json"), 400, "40009"),
            Bad::request(
                "no place",
                Request::get("/a/json?since=yesterday"),
                400,
                "40008",
            ),
            Bad::request("no upgrade", Request::get("/a/ws"), 400, "40016"),
            Bad::request(
                "too many topics",
                Request::get(format!("/{}/json", many().join(","))),
                400,
                "40009",
            ),
        ]
    }

    fn requests(&self) -> Vec<Request> {
        let json = r#"{"topic":"fuzz","message":"m","title":"t","tags":["a"],"priority":4}"#;
        vec![
            Request::post("/fuzz?priority=high&tags=a,b", "a message"),
            Request::new("PUT", "/fuzz")
                .header("title", "Grüße")
                .header("x-tags", "warning,skull"),
            Request::post("/", json),
            Request::get("/fuzz,other/json?poll=1&since=1767225600000-0000"),
            Request::get("/fuzz/sse?since=10m"),
            Request::get("/fuzz/raw?since=latest&poll=yes"),
        ]
    }
}

/// More topics than one subscription may have.
fn many() -> Vec<String> {
    (0..101).map(|number| format!("a{number}")).collect()
}

struct Reader(Stream);

impl Client for Reader {
    fn next(&mut self) -> BoxFuture<'_, anyhow::Result<Heard>> {
        Box::pin(async move {
            Ok(match self.0.line().await {
                Line::Text(line) => match line.strip_prefix("data: ").unwrap_or(&line) {
                    json if json.starts_with('{') => heard(json)?,
                    _ => Heard::Nothing,
                },
                Line::Ended { clean } => Heard::Ended { clean },
            })
        })
    }
}

struct Socket(WebSocket);

impl Client for Socket {
    fn next(&mut self) -> BoxFuture<'_, anyhow::Result<Heard>> {
        Box::pin(async move {
            Ok(match self.0.next().await {
                Frame::Message(Message::Text(line)) => heard(&line)?,
                Frame::Message(Message::Binary(_)) => Heard::Nothing,
                Frame::Close(1001, _) => Heard::ComeBack,
                Frame::Close(..) => Heard::Ended { clean: true },
                Frame::Ended => Heard::Ended { clean: false },
            })
        })
    }
}

fn heard(line: &str) -> anyhow::Result<Heard> {
    let line: Value = serde_json::from_str(line)?;
    let member = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    Ok(match member("event").as_str() {
        "open" => Heard::Open(Some(member("id"))),
        "message" => Heard::Event {
            name: member("topic"),
            text: member("message"),
            cursor: member("id"),
        },
        // ntfy's clients are not told why.
        "poll_request" => Heard::Lost(None::<Verdict>),
        _ => Heard::Nothing,
    })
}

#[test]
fn the_session_s_transcripts() {
    // When every transcript begins.
    let now = Now {
        uptime: std::time::Duration::ZERO,
        unix_ms: 1_767_225_600_000,
    };
    for (name, topics, format, since, poll) in [
        ("json", "alerts", "json", "", false),
        ("sse-several", "alerts,backups", "sse", "10m", false),
        ("raw", "alerts", "raw", "all", false),
        ("poll-latest", "alerts,backups", "json", "latest", true),
        ("ws-lost", "alerts", "ws", "0000000000005-0000", false),
    ] {
        let session = Subscription::new(topics, format, since, poll, now).expect("well formed");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/transcripts");
        transcript::check(format!("{folder}/{name}.txt"), session);
    }
}

#[test]
fn the_library_stays_below_250_lines() {
    let files = [
        include_str!("../src/lib.rs"),
        include_str!("../src/subscription.rs"),
    ];
    let code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let lines = files
        .iter()
        .flat_map(|text| text.lines())
        .filter(code)
        .count();
    assert!(lines < 250, "{lines} lines of code");
}
