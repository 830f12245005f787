//! `docs/airsend.md`, followed from an empty folder.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tidings_testkit::servers::{PortLease, RedisServer, wait_for};
use tidings_tests::instance::binary;
use tidings_tests::{SOON, http};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// What stands between a fence of this language and its end, in order.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let parts = document.split(fence.as_str()).skip(1);
    parts
        .filter_map(|part| part.split("\n```").next())
        .collect()
}

/// One `chat.mjs`.
struct Chat {
    _child: Child,
    says: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Chat {
    fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let says = child.stdin.take().context("piped")?;
        let lines = BufReader::new(child.stdout.take().context("piped")?).lines();
        Ok(Self {
            _child: child,
            says,
            lines,
        })
    }

    /// The next line is this one, but for who came and went.
    async fn prints(&mut self, expected: &str) -> Result<()> {
        loop {
            let line = tokio::time::timeout(SOON, self.lines.next_line()).await;
            let line = line.with_context(|| format!("in vain: {expected}"))??;
            let line = line.with_context(|| format!("it has ended; {expected}"))?;
            if line == expected {
                return Ok(());
            }
            ensure!(line.ends_with(" is here"), "{line} instead of {expected}");
        }
    }

    async fn types(&mut self, text: &str) -> Result<()> {
        self.says.write_all(format!("{text}\n").as_bytes()).await?;
        Ok(self.says.flush().await?)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_leads_from_an_empty_folder_to_two_users_who_chat() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let redis = RedisServer::start().await?;
    let ports: Vec<PortLease> = (0..4).map(|_| PortLease::take()).collect::<Result<_>>()?;
    let mut document = std::fs::read_to_string(root.join("docs/airsend.md"))?;
    let document_port = |port: u16| format!("127.0.0.1:{port}");
    for (port, lease) in [8080, 8081, 8090].into_iter().zip(&ports) {
        document = document.replace(&document_port(port), &lease.address().to_string());
    }
    document = document.replace(".com 8081", &format!(".com {}", ports[1].port()));
    document = document.replace(".com 8091", &format!(".com {}", ports[3].port()));
    document = document.replace("127.0.0.1:6379", &redis.address().to_string());
    let commands = blocks(&document, "console");
    let [secret, first, second, publish, ann, ben] = commands[..] else {
        anyhow::bail!("secret, two instances, backend, two clients: {commands:?}");
    };

    let folder = TempDir::new()?;
    let path = binary()?;
    let path = path.parent().context("the binary's folder")?.display();
    let path = format!("{path}:{}", std::env::var("PATH")?);
    let shell = |script: &str, mount: &PortLease| {
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", script])
            .env("PATH", &path)
            // The port after the native one may be somebody else's here.
            .env(
                "TIDINGS_ADAPTERS__AIRSEND__MOUNT__LISTEN",
                mount.address().to_string(),
            )
            .current_dir(folder.path())
            .kill_on_drop(true);
        command
    };
    let made = shell(secret, &ports[1]).output().await?;
    ensure!(made.status.success(), "{made:?}");
    std::fs::create_dir(folder.path().join("config"))?;
    std::fs::write(
        folder.path().join("config/airsend.toml"),
        blocks(&document, "toml")[0],
    )?;
    let mut servers = Vec::new();
    for (serve, at) in [(first, 0), (second, 2)] {
        // Without a shell in between, which would outlive its end.
        let mut command = shell(&format!("exec {serve}"), &ports[at + 1]);
        servers.push(
            command
                .stderr(Stdio::null())
                .stdout(Stdio::null())
                .spawn()?,
        );
        wait_for("the hub to be ready", SOON, || async {
            let answer = http::send(ports[at].address(), "GET", "/readyz", &[], "").await?;
            ensure!(answer.status == 200, "{:?}", answer.body);
            Ok(())
        })
        .await?;
    }

    let published = shell(publish, &ports[1]).output().await?;
    let answers = String::from_utf8(published.stdout)?;
    let good = answers.lines().filter(|line| line.contains("\"ok\":true"));
    ensure!(good.count() == 4, "{answers}");

    std::fs::write(folder.path().join("chat.mjs"), blocks(&document, "js")[0])?;
    let modules = root.join("tests/js/node_modules").canonicalize()?;
    std::os::unix::fs::symlink(modules, folder.path().join("node_modules"))?;
    let mut ann = Chat::start(shell(&format!("exec {ann}"), &ports[1]))?;
    ann.prints("connected").await?;
    let mut ben = Chat::start(shell(&format!("exec {ben}"), &ports[3]))?;
    ben.prints("connected").await?;
    ann.types("Hello").await?;
    ann.prints("Ann: Hello").await?;
    ben.prints("Ann: Hello").await?;
    ben.types("Hello back").await?;
    ann.prints("Ben: Hello back").await?;
    ben.prints("Ben: Hello back").await?;

    // One instance is killed and started again.
    let [_, killed] = &mut servers[..] else {
        anyhow::bail!("two instances");
    };
    killed.kill().await?;
    ben.prints("closed 1006").await?;
    ann.types("Still there?").await?;
    ann.prints("Ann: Still there?").await?;
    let mut command = shell(&format!("exec {second}"), &ports[3]);
    servers[1] = command
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let back = async {
        ben.prints("back again").await?;
        ben.prints("Ann: Still there?").await
    };
    tokio::time::timeout(SOON + Duration::from_secs(10), back).await?
}
