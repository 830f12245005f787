//! A crowd of users' clients: each gets its token, authenticates, answers pings, and books what it
//! is told of posts; a stuck one reads nothing until it is let go.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::board::{Board, Seat};
use crate::dialects::requests::ask;
use crate::http::{Exchange, Head, connect, get};
use crate::readers::head;
use crate::stamp::Stamp;
use crate::websocket::{Frames, Message, pong, text};

/// One read takes as much as this; see the readers of the native API.
const READ: usize = 256 * 1024;

/// Clients on their way in at a time, so that the hub's time goes into connections and not into a
/// backlog of half of them.
const ENTERING: usize = 64;

/// What says that a client is served.
const HELLO: &[u8] = b"\"system.hello\"";

/// The clients. Dropping it hangs up.
#[derive(Debug)]
pub(super) struct Crowd {
    room: Rc<Room>,
    pub(super) seats: Vec<Rc<Seat>>,
    release: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// One client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) user: u32,
    /// Reads nothing from its hello on.
    pub(super) stuck: bool,
}

#[derive(Debug)]
struct Room {
    address: SocketAddr,
    board: Rc<Board>,
    entering: Semaphore,
    buffer: RefCell<Vec<u8>>,
    pings: Cell<u64>,
    /// With which codes the hub closed connections; `None` where it said none.
    closes: RefCell<Vec<Option<u16>>>,
}

/// What one read brought.
#[derive(Debug, Default)]
struct Taken {
    hello: bool,
    pings: u64,
    /// The hub closes, with this code.
    close: Option<Option<u16>>,
    replies: Vec<u8>,
}

impl Crowd {
    /// Lets them enter; those who are not stuck book what they hear on the board's topic 0.
    pub(super) fn enter(address: SocketAddr, board: &Rc<Board>, clients: Vec<Client>) -> Self {
        let room = Rc::new(Room {
            address,
            board: board.clone(),
            entering: Semaphore::new(ENTERING),
            buffer: RefCell::new(vec![0; READ]),
            pings: Cell::default(),
            closes: RefCell::default(),
        });
        let (release, released) = watch::channel(false);
        let (mut tasks, mut seats) = (JoinSet::new(), Vec::new());
        for client in clients {
            // What a stuck one reads in the end is nobody's delivery.
            let seat = (!client.stuck).then(|| Rc::new(board.seat(0, None, None)));
            seats.extend(seat.clone());
            let (room, mut released) = (room.clone(), released.clone());
            tasks.spawn_local(async move {
                let attended = room.attend(client, seat.as_deref(), &mut released).await;
                if let Err(why) = attended {
                    room.board
                        .fail(&why.context(format!("the client of user {}", client.user)));
                }
            });
        }
        Self {
            room,
            seats,
            release,
            _tasks: tasks,
        }
    }

    /// Pings answered.
    pub(super) fn pings(&self) -> u64 {
        self.room.pings.get()
    }

    /// The codes of those that were closed.
    pub(super) fn closes(&self) -> Vec<Option<u16>> {
        self.room.closes.borrow().clone()
    }

    /// Lets the stuck read on.
    pub(super) fn release(&self) {
        self.release.send_replace(true);
    }
}

impl Room {
    async fn attend(
        &self,
        client: Client,
        seat: Option<&Seat>,
        released: &mut watch::Receiver<bool>,
    ) -> Result<()> {
        let entering = self.entering.acquire().await?;
        let token = self.token(client.user).await?;
        let since = self.board.now();
        let mut stream = self.upgraded().await?;
        let auth = json!({"command": "ws_auth", "auth_token": token, "ack": true}).to_string();
        stream.write_all(&text(auth.as_bytes())).await?;
        let mut frames = Frames::default();
        loop {
            stream.readable().await?;
            let Some(taken) = self.read(&stream, &mut frames, seat)? else {
                continue;
            };
            if let Some(code) = taken.close {
                bail!("closed with {code:?} before it was served");
            }
            stream.write_all(&taken.replies).await?;
            if taken.hello {
                break;
            }
        }
        self.board.ready(since);
        drop(entering);
        if client.stuck {
            released.wait_for(|released| *released).await?;
        }
        loop {
            stream.readable().await?;
            let taken = match self.read(&stream, &mut frames, seat) {
                Ok(Some(taken)) => taken,
                Ok(None) => continue,
                // The hub has given it up, as it must.
                Err(_) if client.stuck => {
                    self.closes.borrow_mut().push(None);
                    return Ok(());
                }
                Err(why) => return Err(why),
            };
            self.pings.set(self.pings.get() + taken.pings);
            if let Some(code) = taken.close {
                self.closes.borrow_mut().push(code);
                if client.stuck {
                    return Ok(());
                }
                bail!("closed with {code:?}");
            }
            if !taken.replies.is_empty() {
                stream.write_all(&taken.replies).await?;
            }
        }
    }

    /// Asks for a token, as a client does before every connection.
    async fn token(&self, user: u32) -> Result<String> {
        let mut exchange = Exchange::open(self.address).await?;
        let bearer = format!("Bearer u{user}");
        let request = get("/api/v1/rtm.connect", &[("authorization", &bearer)]);
        let answer: Value = ask(&mut exchange, &request).await?;
        let token = answer["rtm"]["ws_token"].as_str();
        Ok(token.context("an answer without a token")?.to_owned())
    }

    async fn upgraded(&self) -> Result<TcpStream> {
        let mut stream = connect(self.address).await?;
        let request = get(
            "/",
            &[
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                // Any 16 bytes; these are RFC 6455's own example.
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ],
        );
        stream.write_all(&request).await?;
        let first = head(&mut stream).await?;
        let (head, length) = Head::parse(&first)?.context("the head was there before")?;
        if head.status != 101 || length != first.len() {
            bail!("no websocket, but {}", head.status);
        }
        Ok(stream)
    }

    /// Takes what has arrived; `None` when nothing had.
    fn read(
        &self,
        stream: &TcpStream,
        frames: &mut Frames,
        seat: Option<&Seat>,
    ) -> Result<Option<Taken>> {
        let mut buffer = self.buffer.borrow_mut();
        let count = match stream.try_read(&mut buffer) {
            // Without a close frame.
            Ok(0) => {
                let close = Some(None);
                return Ok(Some(Taken {
                    close,
                    ..Taken::default()
                }));
            }
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let now = self.board.now();
        self.board.read(count as u64);
        let mut taken = Taken::default();
        frames.feed(&buffer[..count], |message| match message {
            Message::Data(data) => {
                if let Some(seat) = seat
                    && let Some((stamp, _)) = Stamp::find(data)
                {
                    self.board.receive(seat, stamp, now);
                } else if memchr::memmem::find(data, HELLO).is_some() {
                    taken.hello = true;
                }
            }
            Message::Ping(payload) => {
                taken.pings += 1;
                taken.replies.extend(pong(payload));
            }
            Message::Close(code) => taken.close = Some(code),
        })?;
        Ok(Some(taken))
    }
}
