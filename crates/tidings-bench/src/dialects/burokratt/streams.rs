//! Event streams that are held: what each is sent is counted, and looked at for the mark of a change.

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::board::Board;
use crate::chunked::Chunked;
use crate::http::{Head, connect, get};
use crate::readers::head;

/// One read takes as much as this; see the readers of the native API.
const READ: usize = 256 * 1024;

/// Streams being opened at a time.
const OPENING: usize = 64;

/// What a change's mark begins with: a number of [`DIGITS`] follows. JSON escapes none of it.
const MARK: &[u8] = b"~ch~";
const DIGITS: usize = 6;

/// The longest frame that is looked at: a list of some hundred chats has a hundred kilobytes.
const FRAME_MAX: usize = 8 * 1024 * 1024;

/// Streams. Dropping it hangs up.
#[derive(Debug)]
pub(super) struct Streams {
    hall: Rc<Hall>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Hall {
    address: SocketAddr,
    board: Rc<Board>,
    opening: Semaphore,
    buffer: RefCell<Vec<u8>>,
    heartbeats: Cell<u64>,
    frames: Cell<u64>,
    bytes: Cell<u64>,
    /// Streams that have shown each change, by its number.
    shown: RefCell<Vec<u32>>,
    news: Notify,
}

/// The text of the change of this number.
pub(super) fn mark(number: u32) -> String {
    format!("~ch~{number:0DIGITS$}")
}

impl Streams {
    /// Opens a stream at each of these paths. Those of changes up to `changes` are told apart.
    pub(super) fn open(
        address: SocketAddr,
        board: &Rc<Board>,
        paths: impl Iterator<Item = String>,
        changes: u32,
    ) -> Self {
        let hall = Rc::new(Hall {
            address,
            board: board.clone(),
            opening: Semaphore::new(OPENING),
            buffer: RefCell::new(vec![0; READ]),
            heartbeats: Cell::default(),
            frames: Cell::default(),
            bytes: Cell::default(),
            shown: RefCell::new(vec![0; changes as usize]),
            news: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        for path in paths {
            let hall = hall.clone();
            tasks.spawn_local(async move {
                if let Err(why) = hall.listen(&path).await {
                    hall.board.fail(&why.context(path));
                }
            });
        }
        Self {
            hall,
            _tasks: tasks,
        }
    }

    pub(super) fn heartbeats(&self) -> u64 {
        self.hall.heartbeats.get()
    }

    /// Frames with data.
    pub(super) fn frames(&self) -> u64 {
        self.hall.frames.get()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.hall.bytes.get()
    }

    /// Waits until so many streams have shown a change.
    pub(super) async fn shown(&self, change: u32, streams: u32) {
        let so_many = || self.hall.shown.borrow().get(change as usize).copied();
        while so_many().is_some_and(|count| count < streams) {
            self.hall.news.notified().await;
        }
    }
}

impl Hall {
    async fn listen(&self, path: &str) -> Result<()> {
        let opening = self.opening.acquire().await?;
        let since = self.board.now();
        let mut stream = connect(self.address).await?;
        let request = get(path, &[("accept", "text/event-stream")]);
        stream.write_all(&request).await?;
        let mut first = head(&mut stream).await?;
        let (head, length) = Head::parse(&first)?.context("the head was there before")?;
        if head.status != 200 {
            let body = String::from_utf8_lossy(&first[length..]);
            bail!("the hub answered {}: {}", head.status, body.trim());
        }
        let mut chunked = head.is_chunked().then(Chunked::default);
        first.drain(..length);
        let mut events = Events::default();
        self.take(&first, &mut chunked, &mut events)?;
        drop(first);
        let mut opening = Some((opening, since));
        loop {
            if events.count > 0
                && let Some((_, since)) = opening.take()
            {
                self.board.ready(since);
            }
            stream.readable().await?;
            let mut buffer = self.buffer.borrow_mut();
            match stream.try_read(&mut buffer) {
                Ok(0) => bail!("the hub ended the stream"),
                Ok(count) => self.take(&buffer[..count], &mut chunked, &mut events)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&self, bytes: &[u8], chunked: &mut Option<Chunked>, events: &mut Events) -> Result<()> {
        self.bytes.set(self.bytes.get() + bytes.len() as u64);
        let Some(chunked) = chunked else {
            return events.feed(bytes, |seen| self.see(seen));
        };
        let mut fed = Ok(());
        let decoded = chunked.feed(bytes, |data| {
            if fed.is_ok() {
                fed = events.feed(data, |seen| self.see(seen));
            }
        });
        fed?;
        if decoded.is_err() || chunked.is_over() {
            bail!("the stream's coding is malformed, or over");
        }
        Ok(())
    }

    fn see(&self, seen: Seen) {
        match seen {
            Seen::Heartbeat => self.heartbeats.set(self.heartbeats.get() + 1),
            Seen::Data(newest) => {
                self.frames.set(self.frames.get() + 1);
                if let Some(newest) = newest {
                    let mut shown = self.shown.borrow_mut();
                    // A value that several changes have led to shows them all.
                    let upto = shown.len().min(newest.end as usize);
                    for count in &mut shown[newest.start as usize..upto] {
                        *count += 1;
                    }
                    drop(shown);
                    self.news.notify_waiters();
                }
            }
        }
    }
}

/// One block of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A comment and nothing else.
    Heartbeat,
    /// Data; and which changes it shows that none of the stream's frames before had shown.
    Data(Option<std::ops::Range<u32>>),
}

/// The parser of one stream: blocks, wherever they are cut.
#[derive(Debug, Default)]
struct Events {
    cut: Vec<u8>,
    /// Blocks so far.
    count: u64,
    /// Changes below this were shown.
    known: u32,
}

impl Events {
    fn feed(&mut self, bytes: &[u8], mut see: impl FnMut(Seen)) -> Result<()> {
        // Only a block that is cut by a read is copied.
        let joined = (!self.cut.is_empty()).then(|| {
            let mut joined = std::mem::take(&mut self.cut);
            joined.extend(bytes);
            joined
        });
        let mut rest = joined.as_deref().unwrap_or(bytes);
        while let Some(end) = memchr::memmem::find(rest, b"\n\n") {
            let block = &rest[..end];
            rest = &rest[end + 2..];
            self.count += 1;
            if block.starts_with(b":") {
                see(Seen::Heartbeat);
            } else if memchr::memmem::find(block, b"data:").is_some() {
                see(Seen::Data(self.newly(block)));
            }
        }
        if rest.len() > FRAME_MAX {
            bail!("a frame is longer than {FRAME_MAX} bytes");
        }
        self.cut = rest.to_vec();
        Ok(())
    }

    /// The changes from the first unknown one to the newest that a frame shows.
    fn newly(&mut self, block: &[u8]) -> Option<std::ops::Range<u32>> {
        let numbers = memchr::memmem::find_iter(block, MARK).filter_map(|at| {
            let digits = block.get(at + MARK.len()..)?.get(..DIGITS)?;
            std::str::from_utf8(digits).ok()?.parse::<u32>().ok()
        });
        let end = numbers.max()?.saturating_add(1);
        let newly = self.known..end;
        (newly.end > newly.start).then(|| {
            self.known = end;
            newly
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wherever_a_read_cuts_the_blocks_the_same_is_seen() {
        let text = format!(
            "retry: 3000\n\n: hb\n\ndata: {{\"a\":\"{}\",\"b\":\"{}\"}}\n\ndata: {}\n\nid: 1\ndata: {}\n\ndata: cut",
            mark(1),
            mark(0),
            mark(1),
            mark(4),
        );
        let expected = [
            Seen::Heartbeat,
            Seen::Data(Some(0..2)),
            Seen::Data(None),
            Seen::Data(Some(2..5)),
        ];
        for size in 1..text.len() {
            let (mut events, mut seen) = (Events::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                events.feed(piece, |one| seen.push(one)).expect("in bounds");
            }
            assert_eq!(seen, expected, "pieces of {size}");
            assert_eq!(events.count, 5);
        }
    }
}
