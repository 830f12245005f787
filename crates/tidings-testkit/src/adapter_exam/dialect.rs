//! A dialect as the exam sees it: how its clients connect, publish and resume, what they hear, and
//! what a refusal looks like.

use std::net::SocketAddr;

use tidings_adapter::Adapter;
use tidings_core::{BoxFuture, Draft, Topic, Verdict};

use super::cluster::Logs;
use super::wire;

/// A dialect that sits the exam.
///
/// The exam's clients speak of a topic by a name of small letters, digits and hyphens, and publish
/// short texts there; what those become in the dialect is the dialect's affair.
pub trait Dialect: Send + Sync {
    /// What its clients can do.
    fn features(&self) -> Features;

    /// The adapter, once for each instance.
    fn adapter(&self) -> Box<dyn Adapter>;

    /// The topic behind a client's name for it.
    fn topic(&self, name: &str) -> Topic;

    /// What stands in the log when somebody has published this text under this name.
    fn draft(&self, name: &str, text: &str) -> Draft;

    /// A client publishes. Only with [`Features::publishes`].
    fn publish<'a>(
        &'a self,
        _at: SocketAddr,
        _name: &'a str,
        _text: &'a str,
    ) -> BoxFuture<'a, anyhow::Result<Published>> {
        Box::pin(async { anyhow::bail!("clients of this dialect do not publish") })
    }

    /// A client connects and follows these topics (one, unless [`Features::several`]). A refusal
    /// is something that the client hears, not an error.
    fn follow<'a>(
        &'a self,
        at: SocketAddr,
        names: &'a [&'a str],
        from: &'a Place,
    ) -> BoxFuture<'a, anyhow::Result<Box<dyn Client>>>;

    /// Requests and frames that must be refused, and in which words.
    fn bad(&self) -> Vec<Bad>;

    /// Good requests, as many kinds as there are: what is sent at random is made from these.
    fn requests(&self) -> Vec<wire::Request>;

    /// Where the clusters keep their events.
    fn logs(&self) -> Logs {
        Logs::from_env()
    }
}

/// What a dialect's clients can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// They publish: [`Dialect::publish`].
    pub publishes: bool,
    /// They hear [`Heard::Open`] when their subscription stands: what is published from then on
    /// reaches them.
    pub greets: bool,
    /// They can start at the oldest retained event: [`Place::Oldest`].
    pub history: bool,
    /// They come back with a cursor: [`Place::After`].
    pub resumes: bool,
    /// One client can follow several topics.
    pub several: bool,
    /// They send frames: [`Client::send`].
    pub frames: bool,
    /// They are told to come back in words ([`Heard::ComeBack`]); without it a connection that
    /// ends in good order says so.
    pub farewell: bool,
}

/// Where a client starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// With the oldest retained event.
    Oldest,
    /// With what comes from now on.
    Newest,
    /// After what it has, by the cursor it was given last.
    After(String),
}

/// One connected client.
pub trait Client: Send {
    /// The next thing that it hears. A client that polls asks again until there is something.
    fn next(&mut self) -> BoxFuture<'_, anyhow::Result<Heard>>;

    /// Sends a frame. Only with [`Features::frames`].
    fn send(&mut self, _frame: wire::Message) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async { anyhow::bail!("clients of this dialect send no frames") })
    }
}

/// A client that was refused before it was connected: it hears so, and then the end.
#[must_use]
pub fn refused(words: impl Into<String>) -> Box<dyn Client> {
    struct TurnedAway(Option<String>);

    impl Client for TurnedAway {
        fn next(&mut self) -> BoxFuture<'_, anyhow::Result<Heard>> {
            let heard = match self.0.take() {
                Some(words) => Heard::Refused(words),
                None => Heard::Ended { clean: true },
            };
            Box::pin(std::future::ready(Ok(heard)))
        }
    }

    Box::new(TurnedAway(Some(words.into())))
}

/// What a client hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Its subscription stands; with the cursor to come back with, if it was given one.
    Open(Option<String>),
    /// An event.
    Event {
        /// The name of its topic.
        name: String,
        /// What was published.
        text: String,
        /// The cursor to come back with; empty without [`Features::resumes`].
        cursor: String,
    },
    /// Its cursor is not good; with the verdict, if the dialect tells them apart. What comes next
    /// is all that is retained, or the end, upon which it starts from the oldest.
    Lost(Option<Verdict>),
    /// It was refused, in these words.
    Refused(String),
    /// It is told to come back: the instance is leaving.
    ComeBack,
    /// A sign of life, or anything else that is of no account.
    Nothing,
    /// The connection has ended; in good order, or broken off.
    Ended {
        /// In good order.
        clean: bool,
    },
}

/// What a publishing client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It is stored.
    Stored,
    /// It is not, or nobody knows.
    Refused {
        /// Whether and how the client is told to try again later.
        retry: bool,
        /// The words.
        words: String,
    },
}

/// Something that must be refused.
#[derive(Debug, Clone)]
pub struct Bad {
    /// What is wrong with it.
    pub what: &'static str,
    /// What is sent.
    pub sent: Sent,
    /// What the refusal's body (or the words of [`Heard::Refused`]) must contain.
    pub says: String,
}

/// What a bad client sends.
#[derive(Debug, Clone)]
pub enum Sent {
    /// A request, which must be answered with this status.
    Request(wire::Request, u16),
    /// A frame, by a client that follows a topic.
    Frame(wire::Message),
}

impl Bad {
    /// A request that must be refused with this status, in words that contain `says`.
    #[must_use]
    pub fn request(
        what: &'static str,
        request: wire::Request,
        status: u16,
        says: impl Into<String>,
    ) -> Self {
        Self {
            what,
            sent: Sent::Request(request, status),
            says: says.into(),
        }
    }

    /// A frame that must be refused, in words that contain `says`.
    #[must_use]
    pub fn frame(what: &'static str, frame: wire::Message, says: impl Into<String>) -> Self {
        Self {
            what,
            sent: Sent::Frame(frame),
            says: says.into(),
        }
    }
}
