//! The site of a run: where the hub is, how it is spoken to, and which processes are measured.

use std::rc::Rc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::cli::HubArgs;
use crate::process::{Processes, listening_on};
use crate::target::Target;

/// What brings events to readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// `GET /v1/events`
    Sse,
    /// `GET /v1/topics/<topic>?live=long-poll`
    LongPoll,
    /// A websocket of any adapter: give its frames with --subscribe
    Ws,
}

/// What readers get of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum View {
    /// The payload
    Data,
    /// The whole CloudEvent: some 300 bytes more
    Event,
}

/// A hub, ready to be loaded.
#[derive(Debug)]
pub(crate) struct Site {
    /// Instances that readers are spread over.
    pub(crate) readers: Vec<Target>,
    /// Instances that publishers are spread over.
    pub(crate) publishers: Vec<Target>,
    pub(crate) transport: Transport,
    pub(crate) view: View,
    /// What a message that confirms a websocket's subscription has in it.
    pub(crate) ready: Option<Rc<str>>,
    /// Bytes of an event's data.
    pub(crate) payload: usize,
    pub(crate) publish_path: String,
    pub(crate) hub: Processes,
    pub(crate) redis: Processes,
    /// Where Redis says what its commands took.
    pub(crate) redis_port: Option<u16>,
    headers: Vec<(String, String)>,
    topics_under: String,
    subscribe: Vec<String>,
    publish_body: String,
}

impl Transport {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::LongPoll => "long-poll",
            Self::Ws => "ws",
        }
    }
}

impl View {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Event => "event",
        }
    }
}

impl Site {
    /// Looks at what was asked for and finds the processes.
    ///
    /// # Errors
    /// When something is contradictory, or a process is not found.
    pub(crate) fn find(args: &HubArgs) -> Result<Self> {
        let publishers = if args.publish_url.is_empty() {
            let bare = |target: &Target| Target {
                // A websocket's path is not the API's.
                path: match args.transport {
                    Transport::Ws => String::new(),
                    _ => target.path.clone(),
                },
                ..target.clone()
            };
            args.url.iter().map(bare).collect()
        } else {
            args.publish_url.clone()
        };
        let mut hub = args.hub_pid.clone();
        if hub.is_empty() {
            for target in &args.url {
                let pid =
                    listening_on(target.address.port()).context("which process is the hub?")?;
                if !hub.contains(&pid) {
                    hub.push(pid);
                }
            }
        }
        let mut redis = args.redis_pid.clone();
        if let Some(port) = args.redis_port {
            redis.push(listening_on(port).context("which process is Redis?")?);
        }
        let mut headers = Vec::new();
        if let Some(key) = &args.key {
            headers.push(("authorization".to_owned(), format!("Bearer {key}")));
        }
        for header in &args.header {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("`{header}` is not a header"))?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        Ok(Self {
            readers: args.url.clone(),
            publishers,
            transport: args.transport,
            view: args.view,
            ready: args.ready.as_deref().map(Rc::from),
            payload: args.payload as usize,
            publish_path: args.publish_path.clone(),
            hub: Processes::new(hub)?,
            redis: Processes::new(redis)?,
            redis_port: args.redis_port,
            headers,
            topics_under: args.topics_under.clone(),
            subscribe: args.subscribe.clone(),
            publish_body: args.publish_body.clone(),
        })
    }

    /// Headers that every request carries.
    pub(crate) fn headers(&self) -> Vec<(&str, &str)> {
        self.headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }

    /// A topic's name: another one for each run, so that no run meets another's events.
    pub(crate) fn topic(&self, run: u32, topic: u32) -> String {
        format!("{}/{run:08x}/{topic:05}", self.topics_under)
    }

    /// What a websocket says to subscribe to a topic.
    pub(crate) fn frames(&self, topic: &str) -> Vec<String> {
        self.subscribe
            .iter()
            .map(|frame| frame.replace("{topic}", topic))
            .collect()
    }

    /// The body of a publish.
    pub(crate) fn body(&self, topic: &str, data: &str) -> String {
        self.publish_body
            .replace("{topic}", topic)
            .replace("{data}", data)
    }
}
