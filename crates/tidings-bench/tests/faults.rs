//! The program against a hub that errs on purpose: what it reports is what was done to it.
//!
//! The hub here is a few threads over plain sockets. It knows nothing of this workspace either, so
//! that a mistake in the real hub's protocol cannot hide in both.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// What happens to the event of this number on its way to the first reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Lose(usize),
    Double(usize),
    /// It comes after the next one.
    Swap(usize),
    /// The hub says in band that something may have been missed.
    Reset(usize),
}

struct Reader {
    stream: TcpStream,
    websocket: bool,
    sent: usize,
    held: Option<String>,
}

struct Hub {
    fault: Fault,
    readers: Mutex<Vec<Reader>>,
}

/// Starts a hub that serves until the test ends.
fn hub(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let hub = Arc::new(Hub {
        fault,
        readers: Mutex::default(),
    });
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let hub = hub.clone();
            thread::spawn(move || hub.converse(stream));
        }
    });
    address
}

impl Hub {
    /// Serves one connection until its client hangs up.
    fn converse(&self, stream: TcpStream) -> Option<()> {
        let mut requests = BufReader::new(stream.try_clone().ok()?);
        loop {
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                let start = head.len();
                if requests.read_line(&mut head).ok()? == 0 {
                    return None;
                }
                if let Some(value) = head[start..].strip_prefix("content-length: ") {
                    length = value.trim().parse().ok()?;
                }
            }
            if head.starts_with("GET") {
                return self.subscribe(stream, head.contains("upgrade: websocket"));
            }
            let mut body = vec![0; length];
            requests.read_exact(&mut body).ok()?;
            let event: Value = serde_json::from_slice(&body).ok()?;
            self.publish(&event["data"].to_string());
            (&stream)
                .write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\n{}")
                .ok()?;
        }
    }

    fn subscribe(&self, mut stream: TcpStream, websocket: bool) -> Option<()> {
        let opening: &[u8] = if websocket {
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n\x81\x04here"
        } else {
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n7\r\nid: 0\n\n\r\n"
        };
        // Under the lock: what is published once the client knows of its place must reach it.
        let mut readers = self.readers.lock().ok()?;
        stream.write_all(opening).ok()?;
        readers.push(Reader {
            stream,
            websocket,
            sent: 0,
            held: None,
        });
        Some(())
    }

    fn publish(&self, data: &str) {
        let Ok(mut readers) = self.readers.lock() else {
            return;
        };
        for (index, reader) in readers.iter_mut().enumerate() {
            let fault = if index == 0 { self.fault } else { Fault::None };
            let number = reader.sent;
            reader.sent += 1;
            match fault {
                Fault::Lose(at) if at == number => {}
                Fault::Swap(at) if at == number => reader.held = Some(data.to_owned()),
                Fault::Double(at) if at == number => {
                    reader.send(data);
                    reader.send(data);
                }
                Fault::Reset(at) if at == number => {
                    reader.raw("event: reset\ndata: {}\n\n");
                    reader.send(data);
                }
                _ => reader.send(data),
            }
            if matches!(fault, Fault::Swap(at) if at + 1 == number)
                && let Some(held) = reader.held.take()
            {
                reader.send(&held);
            }
        }
    }
}

impl Reader {
    fn send(&mut self, data: &str) {
        if !self.websocket {
            return self.raw(&format!("id: 1\nevent: bench\ndata: {data}\n\n"));
        }
        let length = u16::try_from(data.len()).expect("payloads are small");
        let mut frame = vec![0x81, 126];
        frame.extend(length.to_be_bytes());
        frame.extend(data.as_bytes());
        // A reader that has gone away is the program's affair.
        let _ = self.stream.write_all(&frame);
    }

    fn raw(&mut self, block: &str) {
        let _ = self
            .stream
            .write_all(format!("{:x}\r\n{block}\r\n", block.len()).as_bytes());
    }
}

/// Runs the program with two readers at a fixed rate; answers with its exit code and its report.
fn bench(fault: Fault, more: &[&str]) -> (Option<i32>, Value) {
    let url = format!("http://{}", hub(fault));
    let output = Command::new(env!("CARGO_BIN_EXE_tidings-bench"))
        .args(["fan-out", "--readers", "2", "--rate", "100", "--json"])
        .args(["--warmup", "0.05", "--seconds", "0.3", "--url", &url])
        .args(more)
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let report = serde_json::from_str(&text).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("{error}: {text}{said}")
    });
    (output.status.code(), report)
}

/// Everything that a report counts as wrong.
fn wrong(report: &Value) -> Vec<(&str, u64)> {
    [
        "lost",
        "duplicated",
        "reordered",
        "strayed",
        "resets",
        "disagreeing_readers",
        "failed",
    ]
    .into_iter()
    .map(|name| (name, report[name].as_u64().expect("a count")))
    .filter(|(_, count)| *count > 0)
    .collect()
}

#[test]
fn a_hub_that_does_right_is_said_to() {
    let (code, report) = bench(Fault::None, &[]);
    assert_eq!((code, wrong(&report)), (Some(0), vec![]), "{report}");
    let deliveries = report["deliveries"].as_f64().expect("a count");
    assert!(deliveries >= 2.0 * 20.0, "{report}");
    assert!(report["latency_p99"].as_f64() > Some(0.0), "{report}");
    assert!(report["hub_cpu"].as_f64() >= Some(0.0), "{report}");
}

#[test]
fn a_lost_event_is_found() {
    let (code, report) = bench(Fault::Lose(7), &[]);
    assert_eq!((code, wrong(&report)), (Some(1), vec![("lost", 1)]));
}

#[test]
fn an_event_that_comes_twice_is_found() {
    let (code, report) = bench(Fault::Double(7), &[]);
    assert_eq!((code, wrong(&report)), (Some(1), vec![("duplicated", 1)]));
}

#[test]
fn events_in_the_wrong_order_are_found() {
    let (code, report) = bench(Fault::Swap(7), &[]);
    assert_eq!((code, wrong(&report)), (Some(1), vec![("reordered", 1)]));
}

#[test]
fn a_hub_that_admits_a_gap_is_not_let_off() {
    let (code, report) = bench(Fault::Reset(7), &[]);
    assert_eq!((code, wrong(&report)), (Some(1), vec![("resets", 1)]));
}

#[test]
fn websockets_are_read_too() {
    let more = [
        "--transport",
        "ws",
        "--subscribe",
        "{topic}",
        "--ready",
        "here",
    ];
    let (code, report) = bench(Fault::None, &more);
    assert_eq!((code, wrong(&report)), (Some(0), vec![]), "{report}");
    let (code, report) = bench(Fault::Double(3), &more);
    assert_eq!((code, wrong(&report)), (Some(1), vec![("duplicated", 1)]));
}
