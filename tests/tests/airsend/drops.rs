//! S03: clients that are cut off again and again while four publish, against one that is not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tidings_testkit::servers::RedisServer;

use crate::backend::{Backend, USUAL};
use crate::client::Rtm;

const CLIENTS: u64 = 16;
const DROPS: usize = 15;
const CHANNELS: [u64; 4] = [11, 12, 13, 14];
const OBSERVER: u64 = CLIENTS + 1;
/// Posts; he is connected nowhere.
const AUTHOR: u64 = CLIENTS + 2;

/// What was heard of each channel, in order: message ids and texts.
type Story = BTreeMap<u64, Vec<(u64, String)>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_drops_loses_doubles_and_reorders_nothing() -> Result<()> {
    let redis = RedisServer::start().await?;
    let backend = Backend::start(&redis.url(), USUAL).await?;
    let done = storm(&backend).await;
    done.with_context(|| backend.printed())
}

async fn storm(backend: &Backend) -> Result<()> {
    backend.users(AUTHOR).await?;
    let everybody: Vec<u64> = (1..=AUTHOR).collect();
    for channel in CHANNELS {
        backend.channel(channel, &everybody).await?;
    }
    let mut observer = Rtm::user(backend, 0, OBSERVER).await?;
    // Memberships are where they belong when the last channel's last member hears it.
    for channel in CHANNELS {
        backend.post(0, channel, AUTHOR, "first").await?;
    }
    let mut observed = Story::new();
    while observed.values().map(Vec::len).sum::<usize>() < CHANNELS.len() {
        note(&mut observed, &observer.hear().await?)?;
    }

    let cut_off = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let publishers = (0..4).map(async |publisher: usize| {
        let mut n = 0;
        while !over.load(Ordering::Relaxed) {
            // Each channel has two publishers, one on each instance.
            let channel = CHANNELS[(publisher / 2 * 2 + n % 2) % 4];
            let text = format!("{publisher}-{n}");
            backend.post(publisher % 2, channel, AUTHOR, &text).await?;
            n += 1;
        }
        anyhow::Ok(n)
    });
    let clients = (1..=CLIENTS).map(async |user: u64| {
        let client = Dropped::start(backend, user).await?;
        let story = client.through(backend, &cut_off, &over).await;
        story.with_context(|| format!("user {user}"))
    });
    let publishing = try_join_all(publishers);
    let (posted, stories) = tokio::try_join!(
        async {
            let posted = publishing.await?;
            for channel in CHANNELS {
                backend.post(0, channel, AUTHOR, "last").await?;
            }
            anyhow::Ok(posted)
        },
        try_join_all(clients)
    )?;
    while !is_whole(&observed) {
        note(&mut observed, &observer.hear().await?)?;
    }
    let count: usize = observed.values().map(Vec::len).sum();
    ensure!(count == posted.iter().sum::<usize>() + 2 * CHANNELS.len());
    for (publisher, n) in posted.iter().enumerate() {
        let of = format!("{publisher}-");
        for channel in CHANNELS {
            let told = observed[&channel]
                .iter()
                .filter_map(|(_, text)| text.strip_prefix(&of));
            let told: Vec<usize> = told.map(str::parse).collect::<Result<_, _>>()?;
            ensure!(
                told.is_sorted() && told.iter().all(|one| one < n),
                "{told:?}"
            );
        }
    }
    println!("{count} posts, {} drops", cut_off.load(Ordering::Relaxed));
    for (user, story) in (1..).zip(&stories) {
        for channel in CHANNELS {
            let (heard, whole) = (&story[&channel], &observed[&channel]);
            let from = whole
                .iter()
                .position(|one| one == &heard[0])
                .context("its first")?;
            let differs = heard.iter().zip(&whole[from..]).position(|(a, b)| a != b);
            ensure!(
                differs.is_none() && heard.len() == whole.len() - from,
                "user {user}, channel {channel}: {} of {} heard, different at {differs:?}",
                heard.len(),
                whole.len() - from,
            );
        }
    }
    Ok(())
}

/// A client that is cut off.
struct Dropped {
    user: u64,
    token: String,
    client: Rtm,
    story: Story,
}

impl Dropped {
    async fn start(backend: &Backend, user: u64) -> Result<Self> {
        let at = user as usize % 2;
        let token = backend.token(at, user).await?;
        let (client, _) = Rtm::hello(backend, at, user, &token, None).await?;
        Ok(Self {
            user,
            token,
            client,
            story: Story::new(),
        })
    }

    /// Is cut off, comes back and reads, and so on; then reads to the end.
    async fn through(
        mut self,
        backend: &Backend,
        cut_off: &AtomicUsize,
        over: &AtomicBool,
    ) -> Result<Story> {
        for drop in 0..DROPS {
            // A few events, another number each time; sometimes none.
            for _ in 0..(self.user as usize + drop) % 4 {
                note(&mut self.story, &self.client.hear().await?)?;
            }
            let at = (self.user as usize + drop) % 2;
            if drop % 5 == 4 {
                // One that is gone again before it is answered.
                let mut hasty = Rtm::open("a hasty one", backend.address(1 - at)).await?;
                hasty
                    .say(&json!({
                        "command": "ws_auth", "auth_token": self.token,
                        "resume": {"last_event_id": self.client.cursor},
                    }))
                    .await?;
            }
            // What the old one has heard beyond what it has read is gone with it.
            let cursor = self.client.cursor.clone();
            let (client, hello) =
                Rtm::hello(backend, at, self.user, &self.token, Some(&cursor)).await?;
            ensure!(hello["resumed"] == true && hello["gap"] == false, "{hello}");
            self.client = client;
            let all = cut_off.fetch_add(1, Ordering::Relaxed) + 1;
            if all == CLIENTS as usize * DROPS {
                over.store(true, Ordering::Relaxed);
            }
        }
        while !is_whole(&self.story) {
            note(&mut self.story, &self.client.hear().await?)?;
        }
        self.client.expect_nothing().await?;
        Ok(self.story)
    }
}

fn is_whole(story: &Story) -> bool {
    let last = |channel: &u64| {
        let last = story.get(channel).and_then(|all| all.last());
        last.is_some_and(|(_, text)| text == "last")
    };
    CHANNELS.iter().all(last)
}

fn note(story: &mut Story, frame: &Value) -> Result<()> {
    ensure!(frame["event"] == "chat.postMessage", "{frame}");
    let message = &frame["payload"]["message"];
    let number = |name: &str| message[name].as_u64().context("an id");
    let text = message["content"].as_str().context("a text")?.to_owned();
    let channel = story.entry(number("channel_id")?).or_default();
    channel.push((number("id")?, text));
    Ok(())
}
