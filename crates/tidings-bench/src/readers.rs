//! Readers: connections that take events off the hub as cheaply as they can and book each of them.
//!
//! Whatever a reader spends the hub cannot have on a small machine, so there is one thread, one
//! buffer that all reads go into, one look at the clock per read, and no allocation per event.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::board::{Board, Seat};
use crate::http::{Exchange, Head, connect, get};
use crate::intake::Intake;
use crate::site::{Site, Transport};
use crate::stamp::Stamp;
use crate::target::Target;
use crate::websocket::text;

/// One read takes as much as this: more than a socket's receive buffer holds at first, so that one
/// read empties it and the kernel need not be asked whether there is more.
const READ: usize = 256 * 1024;

/// Connections on their way at a time: far below a listener's backlog, so that what is measured is
/// the hub and not the kernel's retransmission of a dropped SYN.
const CONNECTING: usize = 256;

/// Seats and the tasks that read for them. Dropping it hangs up.
#[derive(Debug)]
pub(crate) struct Readers {
    pub(crate) seats: Vec<Rc<Seat>>,
    _tasks: JoinSet<()>,
}

/// What the tasks share.
#[derive(Debug)]
struct Room {
    site: Rc<Site>,
    board: Rc<Board>,
    connecting: Semaphore,
    buffer: RefCell<Vec<u8>>,
}

impl Readers {
    /// Seats them all and lets them connect.
    pub(crate) fn start(site: &Rc<Site>, board: &Rc<Board>, seats: Vec<Seat>) -> Self {
        let room = Rc::new(Room {
            site: site.clone(),
            board: board.clone(),
            connecting: Semaphore::new(CONNECTING),
            buffer: RefCell::new(vec![0; READ]),
        });
        let seats: Vec<Rc<Seat>> = seats.into_iter().map(Rc::new).collect();
        let mut tasks = JoinSet::new();
        for (index, seat) in seats.iter().enumerate() {
            let (room, seat) = (room.clone(), seat.clone());
            tasks.spawn_local(async move {
                let target = &room.site.readers[index % room.site.readers.len()];
                let ended = match room.site.transport {
                    Transport::LongPoll => room.poll(&seat, target).await,
                    Transport::Sse | Transport::Ws => room.stream(&seat, target).await,
                };
                if let Err(why) = ended {
                    room.board.fail(&why);
                }
            });
        }
        Self {
            seats,
            _tasks: tasks,
        }
    }
}

impl Room {
    /// Reads an event stream or a websocket until the seat has what it wants.
    async fn stream(&self, seat: &Seat, target: &Target) -> Result<()> {
        let topic = self.site.topic(self.board.run, seat.topic);
        let frames = self.site.frames(&topic);
        let mut intake = match self.site.transport {
            Transport::Ws => Intake::websocket(self.site.ready.clone(), frames.len()),
            _ => Intake::events(),
        };
        let connecting = self.connecting.acquire().await?;
        let since = self.board.now();
        let mut stream = connect(target.address).await?;
        stream
            .write_all(&self.opening(seat, target, &topic))
            .await?;
        let mut first = head(&mut stream).await?;
        let (head, length) = Head::parse(&first)?.context("the head was there before")?;
        let expected = intake.status();
        if head.status != expected {
            let body = String::from_utf8_lossy(&first[length..]);
            bail!("the hub answered {}: {}", head.status, body.trim());
        }
        intake.decode(head.is_chunked());
        first.drain(..length);
        drop(connecting);
        for frame in &frames {
            intake.replies.extend(text(frame.as_bytes()));
        }
        self.take(seat, &mut intake, &first, since)?;
        drop(first);
        loop {
            if !intake.replies.is_empty() {
                let replies = std::mem::take(&mut intake.replies);
                stream.write_all(&replies).await?;
            }
            if seat.done.get().is_some() {
                return Ok(());
            }
            stream.readable().await?;
            let mut buffer = self.buffer.borrow_mut();
            match stream.try_read(&mut buffer) {
                Ok(0) => bail!("the hub ended the stream"),
                Ok(count) => self.take(seat, &mut intake, &buffer[..count], since)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The request that opens a stream.
    fn opening(&self, seat: &Seat, target: &Target, topic: &str) -> Vec<u8> {
        let mut headers = self.site.headers();
        if self.site.transport == Transport::Ws {
            headers.extend([
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                // Any 16 bytes; these are RFC 6455's own example.
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ]);
            let path = match target.path.as_str() {
                "" => "/",
                path => path,
            };
            return get(path, &headers);
        }
        headers.push(("accept", "text/event-stream"));
        if let Some(cursor) = &seat.cursor {
            headers.push(("last-event-id", cursor));
        }
        let view = self.site.view.as_str();
        let path = format!("{}/v1/events?topic={topic}&view={view}", target.path);
        get(&path, &headers)
    }

    /// Books what a read brought.
    fn take(&self, seat: &Seat, intake: &mut Intake, bytes: &[u8], since: u64) -> Result<()> {
        let stood = intake.is_ready();
        let now = self.board.now();
        self.board.read(bytes.len() as u64);
        intake.take(bytes, |stamp| match stamp {
            Some(stamp) => self.board.receive(seat, stamp, now),
            None => self.board.reset(seat),
        })?;
        if !stood && intake.is_ready() {
            *seat.placed.borrow_mut() = intake.id().to_vec();
            self.board.ready(since);
        }
        Ok(())
    }

    /// Asks for a topic's next events again and again, until the seat has what it wants.
    async fn poll(&self, seat: &Seat, target: &Target) -> Result<()> {
        let topic = self.site.topic(self.board.run, seat.topic);
        let path = format!("{}/v1/topics/{topic}", target.path);
        let (headers, view) = (self.site.headers(), self.site.view.as_str());
        let connecting = self.connecting.acquire().await?;
        let since = self.board.now();
        let mut exchange = Exchange::open(target.address).await?;
        let mut offset = match &seat.cursor {
            Some(cursor) => cursor.clone(),
            None => {
                let answer = exchange
                    .ask(&get(&format!("{path}?offset=now"), &headers))
                    .await?;
                next_offset(&answer.head)?
            }
        };
        drop(connecting);
        *seat.placed.borrow_mut() = offset.clone().into_bytes();
        self.board.ready(since);
        while seat.done.get().is_none() {
            let request = format!("{path}?offset={offset}&live=long-poll&view={view}");
            let before = exchange.received;
            let answer = exchange.ask(&get(&request, &headers)).await?;
            let now = self.board.now();
            match answer.head.status {
                200 | 204 => offset = next_offset(&answer.head)?,
                410 => {
                    self.board.reset(seat);
                    "-1".clone_into(&mut offset);
                }
                status => {
                    let body = String::from_utf8_lossy(answer.body);
                    bail!("the hub answered {status}: {}", body.trim());
                }
            }
            let mut rest = answer.body;
            while let Some((stamp, after)) = Stamp::find(rest) {
                self.board.receive(seat, stamp, now);
                rest = after;
            }
            self.board.read(exchange.received - before);
        }
        Ok(())
    }
}

fn next_offset(head: &Head<'_>) -> Result<String> {
    let value = head
        .header("stream-next-offset")
        .with_context(|| format!("an answer ({}) without a next offset", head.status))?;
    Ok(std::str::from_utf8(value)?.to_owned())
}

/// Everything up to and including an answer's head, and what came with it.
pub(crate) async fn head(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1024);
    while Head::parse(&bytes)?.is_none() {
        if stream.read_buf(&mut bytes).await? == 0 {
            bail!("the hub closed the connection");
        }
    }
    Ok(bytes)
}
