//! `docs/burokratt.md`, followed from an empty folder; its page in Chromium, through a restart of the hub.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tidings_testkit::servers::{PortLease, RedisServer};
use tidings_tests::Guide;

use crate::client::Client;

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_leads_to_a_chat_that_survives_a_restart() -> Result<()> {
    let redis = RedisServer::start().await?;
    let (mount, native) = (PortLease::take()?, PortLease::take()?);
    let addresses = [
        ("127.0.0.1:8083", mount.address().to_string()),
        ("redis://127.0.0.1:6379", redis.url()),
    ];
    let guide = Guide::open("burokratt.md", &addresses)?;
    let [serve, conversation] = guide.blocks("console")[..] else {
        bail!("serve and a conversation");
    };
    guide.save("toml", "config/burokratt.toml")?;
    let mut hub = guide.serve(serve, &native, &[]).await?;

    // From a terminal; curl ends with 28 when its time is over, as it should here.
    let script = format!("{conversation} || [ $? = 28 ]");
    let printed = guide.run(&script).await?;
    for part in [
        "retry: ",
        r#""content":"Hello""#,
        r#""content":"Good day""#,
        "event: ready",
    ] {
        ensure!(printed.contains(part), "{part} is missing: {printed}");
    }

    let mut browser = Client::chromium(PortLease::take()?).await?;
    let demo = format!("http://{}/demo", mount.address());
    chats(&mut browser, &demo).await?;
    hub.kill().await?;
    for side in ["visitor", "agent"] {
        browser.see(side, "#line", "connecting").await?;
    }
    hub = guide.serve(serve, &native, &[]).await?;
    for side in ["visitor", "agent"] {
        browser.see(side, "#line", "connected").await?;
    }
    goes_on(&mut browser).await?;
    ensure!(browser.count("threw") == 0, "{:?}", browser.last());
    hub.kill().await?;
    Ok(())
}

async fn open(browser: &mut Client, tab: &str, url: &str) -> Result<()> {
    browser
        .tell(json!({"do": "tab", "tab": tab, "url": url}))
        .await?;
    browser.about("tab", tab).await?;
    Ok(())
}

async fn write(browser: &mut Client, tab: &str, text: &str) -> Result<()> {
    let command =
        json!({"do": "fill", "tab": tab, "selector": "#text", "text": text, "enter": true});
    browser.perform(command, text).await?;
    Ok(())
}

/// All that a side shows, once it shows this.
async fn shown(browser: &mut Client, tab: &str, text: &str) -> Result<Vec<String>> {
    let line = browser.see(tab, "#messages li", text).await?;
    let texts = line["texts"].as_array().context("texts")?;
    Ok(texts
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}

/// An end user asks, an agent answers.
async fn chats(browser: &mut Client, demo: &str) -> Result<()> {
    open(browser, "agent", &format!("{demo}?as=agent")).await?;
    open(browser, "visitor", &format!("{demo}?as=visitor")).await?;
    browser.see("agent", "#health", "TIM").await?;
    write(browser, "visitor", "Where is my parcel?").await?;
    shown(browser, "visitor", "Where is my parcel?").await?;
    browser.see("visitor", "#hint", "You are number").await?;
    browser
        .see("agent", "#chats button", "Where is my parcel?")
        .await?;
    let choose = json!({"do": "click", "tab": "agent", "selector": "#chats button:has-text('Where is my parcel?')"});
    browser.perform(choose, "choose").await?;
    shown(browser, "agent", "Where is my parcel?").await?;
    write(browser, "agent", "Let me see.").await?;
    let both = shown(browser, "visitor", "Let me see.").await?;
    ensure!(both == ["Where is my parcel?", "Let me see."], "{both:?}");
    Ok(())
}

/// After the restart, and after a reload: everything is there, once.
async fn goes_on(browser: &mut Client) -> Result<()> {
    write(browser, "agent", "It is in Tartu.").await?;
    let all = ["Where is my parcel?", "Let me see.", "It is in Tartu."];
    for side in ["visitor", "agent"] {
        let texts = shown(browser, side, "It is in Tartu.").await?;
        ensure!(texts == all, "{side}: {texts:?}");
    }
    browser
        .perform(json!({"do": "reload", "tab": "visitor"}), "visitor")
        .await?;
    let texts = shown(browser, "visitor", "It is in Tartu.").await?;
    ensure!(texts == all, "{texts:?}");
    browser
        .perform(
            json!({"do": "click", "tab": "agent", "selector": "#end"}),
            "end",
        )
        .await?;
    browser.see("visitor", "#line", "ended").await?;
    Ok(())
}
