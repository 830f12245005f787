//! `docs/airsend.md`, followed from an empty folder.

use anyhow::{Result, bail, ensure};
use tidings_testkit::servers::{PortLease, RedisServer};
use tidings_tests::Guide;
use tidings_tests::guide::Program;

/// The next line of a `chat.mjs` is this one, but for who came and went.
async fn prints(chat: &mut Program, expected: &str) -> Result<()> {
    loop {
        let line = chat.line().await?;
        if line == expected {
            return Ok(());
        }
        ensure!(line.ends_with(" is here"), "{line} instead of {expected}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_leads_from_an_empty_folder_to_two_users_who_chat() -> Result<()> {
    let redis = RedisServer::start().await?;
    let ports: Vec<PortLease> = (0..4).map(|_| PortLease::take()).collect::<Result<_>>()?;
    let at = |port: usize| ports[port].address().to_string();
    let addresses = [
        ("127.0.0.1:8080", at(0)),
        ("127.0.0.1:8081", at(1)),
        ("127.0.0.1:8090", at(2)),
        (".com 8081", format!(".com {}", ports[1].port())),
        (".com 8091", format!(".com {}", ports[3].port())),
        ("127.0.0.1:6379", redis.address().to_string()),
    ];
    let guide = Guide::open("airsend.md", &addresses)?;
    let [secret, first, second, publish, ann, ben] = guide.blocks("console")[..] else {
        bail!("secret, two instances, backend, two clients");
    };
    guide.run(secret).await?;
    guide.save("toml", "config/airsend.toml")?;
    // The port after the native one may be somebody else's here.
    let mount = |port| [("TIDINGS_ADAPTERS__AIRSEND__MOUNT__LISTEN", at(port))];
    let _stays = guide.serve(first, &ports[0], &mount(1)).await?;
    let mut killed = guide.serve(second, &ports[2], &mount(3)).await?;

    let answers = guide.run(publish).await?;
    let good = answers.lines().filter(|line| line.contains("\"ok\":true"));
    ensure!(good.count() == 4, "{answers}");

    guide.save("js", "chat.mjs")?;
    guide.modules()?;
    let mut ann = guide.start(ann)?;
    prints(&mut ann, "connected").await?;
    let mut ben = guide.start(ben)?;
    prints(&mut ben, "connected").await?;
    ann.types("Hello").await?;
    prints(&mut ann, "Ann: Hello").await?;
    prints(&mut ben, "Ann: Hello").await?;
    ben.types("Hello back").await?;
    prints(&mut ann, "Ben: Hello back").await?;
    prints(&mut ben, "Ben: Hello back").await?;

    // One instance is killed and started again.
    killed.kill().await?;
    prints(&mut ben, "closed 1006").await?;
    ann.types("Still there?").await?;
    prints(&mut ann, "Ann: Still there?").await?;
    let _back = guide.serve(second, &ports[2], &mount(3)).await?;
    prints(&mut ben, "back again").await?;
    prints(&mut ben, "Ann: Still there?").await
}
