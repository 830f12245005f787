//! One server: what it keeps, whom it lets in, how it is stopped.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use redis::{Client, FromRedisValue};
use tidings_testkit::servers::{RedisServer, wait_for};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{TEST_DEADLINE, bounded, code, get};

#[tokio::test]
async fn a_restart_keeps_data_with_the_append_only_file_and_loses_it_without() -> Result<()> {
    bounded(async {
        for (server, kept) in [
            (
                RedisServer::builder().append_only().start().await?,
                Some("v".to_owned()),
            ),
            (RedisServer::start().await?, None),
        ] {
            let port = server.port();
            server.command(&["SET", "k", "v"]).await?;
            server.kill().await?;
            ensure!(!server.is_running().await);
            ensure!(server.command(&["PING"]).await.is_err());
            server.restart().await?;
            ensure!(server.port() == port);
            ensure!(get(&server, "k").await? == kept);
            server.stop().await?;
            server.restart().await?;
            server.restart().await?;
            ensure!(get(&server, "k").await? == kept);
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_full_server_refuses_writes() -> Result<()> {
    bounded(async {
        let server = RedisServer::builder()
            .maxmemory(4 * 1024 * 1024)
            .start()
            .await?;
        let value = "v".repeat(1024 * 1024);
        let mut codes = Vec::new();
        for key in ["1", "2", "3", "4", "5"] {
            if let Err(error) = server.command(&["SET", key, &value]).await {
                codes.push(code(&error));
            }
        }
        ensure!(codes.contains(&Some("OOM".to_owned())), "{codes:?}");
        // What shrinks is let through.
        server.command(&["DEL", "1"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn commands_are_counted_and_clients_are_thrown_out() -> Result<()> {
    bounded(async {
        let server = RedisServer::start().await?;
        let mut client = server.connect().await?;
        for _ in 0..3 {
            redis::cmd("SET")
                .arg("k")
                .arg("v")
                .exec_async(&mut client)
                .await?;
        }
        let stats = server.command_stats().await?;
        ensure!(stats.get("set") == Some(&3), "{stats:?}");
        ensure!(!stats.contains_key("xadd"));
        // Connections of earlier questions may still be closing.
        ensure!(server.kill_clients().await? >= 1);
        ensure!(
            redis::cmd("GET")
                .arg("k")
                .exec_async(&mut client)
                .await
                .is_err()
        );
        ensure!(server.command_stats().await?.get("client|kill") == Some(&1));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_paused_server_accepts_and_does_not_answer() -> Result<()> {
    bounded(async {
        let server = RedisServer::start().await?;
        server.pause().await?;
        let mut link = TcpStream::connect(server.address()).await?;
        link.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        ensure!(
            timeout(Duration::from_millis(200), link.read_exact(&mut answer))
                .await
                .is_err()
        );
        server.resume().await?;
        link.read_exact(&mut answer).await?;
        ensure!(&answer == b"+PONG\r\n");

        let before = server.cpu_seconds().await?;
        server
            .command(&[
                "EVAL",
                "local n = 0; for i = 1, 1e7 do n = n + i end; return n",
                "0",
            ])
            .await?;
        let used = server.cpu_seconds().await? - before;
        ensure!(used > 0.0, "ten million additions took {used} s");

        // Neither a stop nor a drop may hang on a paused server.
        server.pause().await?;
        server.stop().await?;
        server.restart().await?;
        server.pause().await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn passwords_and_users_are_required() -> Result<()> {
    bounded(async {
        // Characters that a URL has to escape.
        let password = "p@ss/w:rd?#%";
        let with_password = RedisServer::builder().password(password).start().await?;
        let with_user = RedisServer::builder().user("hub", password).start().await?;
        for server in [&with_password, &with_user] {
            let mut client = Client::open(server.url())?
                .get_multiplexed_async_connection()
                .await?;
            redis::cmd("SET")
                .arg("k")
                .arg("v")
                .exec_async(&mut client)
                .await?;
            let stranger = format!("redis://{}", server.address());
            let refused = match Client::open(stranger)?
                .get_multiplexed_async_connection()
                .await
            {
                Ok(mut client) => redis::cmd("GET")
                    .arg("k")
                    .exec_async(&mut client)
                    .await
                    .is_err(),
                Err(_) => true,
            };
            ensure!(refused);
        }
        let who = String::from_redis_value(with_user.command(&["ACL", "WHOAMI"]).await?)?;
        ensure!(who == "hub");
        ensure!(
            RedisServer::builder()
                .password("two words")
                .start()
                .await
                .is_err()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn tls_needs_the_authority() -> Result<()> {
    bounded(async {
        let server = RedisServer::builder()
            .tls()
            .user("hub", "secret")
            .start()
            .await?;
        ensure!(server.url().starts_with("rediss://hub:secret@127.0.0.1:"));
        // `command` trusts the authority.
        server.command(&["SET", "k", "v"]).await?;
        ensure!(server.dir().join("ca.pem").exists());

        let without = Client::open(server.url())?
            .get_multiplexed_async_connection()
            .await;
        let error = without
            .err()
            .context("it connected without the authority")?;
        ensure!(format!("{error:?}").contains("UnknownIssuer"), "{error:?}");

        let plain = server.url().replace("rediss://", "redis://");
        ensure!(
            Client::open(plain)?
                .get_multiplexed_async_connection()
                .await
                .is_err()
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_cannot_start_says_why() -> Result<()> {
    bounded(async {
        let error = RedisServer::builder()
            .config("no-such-option yes")
            .start()
            .await;
        let error = format!("{:#}", error.err().context("it started")?);
        ensure!(error.contains("no-such-option"), "{error}");

        let taken = TcpListener::bind("127.0.0.1:0").await?;
        let error = RedisServer::builder()
            .port(taken.local_addr()?.port())
            .start()
            .await;
        let error = format!("{:#}", error.err().context("it started")?);
        ensure!(error.contains("is taken"), "{error}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_missing_binary_is_said_how_to_install() -> Result<()> {
    bounded(async {
        // Another process, since the environment is the whole process'.
        let output = Command::new(std::env::current_exe()?)
            .args(["--exact", "single::a_replica_follows"])
            .env("TIDINGS_REDIS_SERVER", "/nonexistent/redis-server")
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(!output.status.success());
        ensure!(text.contains("apt-get install redis-server"), "{text}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_replica_follows() -> Result<()> {
    bounded(async {
        let primary = RedisServer::start().await?;
        let replica = RedisServer::builder()
            .replica_of(primary.address())
            .start()
            .await?;
        ensure!(replica.role().await? == "slave");
        primary.command(&["SET", "k", "v"]).await?;
        primary.wait_for_replica(&replica).await?;
        ensure!(get(&replica, "k").await?.as_deref() == Some("v"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_dropped_server_leaves_nothing_even_while_it_writes() -> Result<()> {
    bounded(async {
        let server = RedisServer::start().await?;
        let dir = server.dir().to_owned();
        server.command(&["DEBUG", "POPULATE", "1000"]).await?;
        // 10 ms for each key: the forked writer has ten seconds to do.
        server
            .command(&["CONFIG", "SET", "rdb-key-save-delay", "10000"])
            .await?;
        server.command(&["BGSAVE"]).await?;
        let writer = wait_for("the writer to begin", Duration::from_secs(10), || async {
            let files = std::fs::read_dir(&dir)?.collect::<Result<Vec<_>, _>>()?;
            let names = files
                .iter()
                .map(|file| file.file_name().to_string_lossy().into_owned());
            let name = names.into_iter().find(|name| name.starts_with("temp-"));
            let pid = name
                .as_deref()
                .and_then(|name| name.split(['-', '.']).nth(1)?.parse().ok());
            pid.context("it has not")
        })
        .await?;
        ensure!(!is_gone(writer));
        drop(server);
        ensure!(!dir.exists());
        wait_for("the writer to be gone", Duration::from_secs(5), || async {
            ensure!(is_gone(writer), "it lives on");
            Ok(())
        })
        .await?;
        ensure!(!dir.exists());
        Ok(())
    })
    .await
}

/// Names the file that the child of the next test writes its server's process id to.
const ORPHAN: &str = "TIDINGS_TEST_ORPHAN";

#[tokio::test]
async fn a_server_does_not_outlive_a_killed_test() -> Result<()> {
    if let Some(path) = std::env::var_os(ORPHAN) {
        return start_and_wait_to_be_killed(Path::new(&path)).await;
    }
    bounded(async {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("pid");
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--exact", "single::a_server_does_not_outlive_a_killed_test"])
            .env(ORPHAN, &file)
            // The killed child leaves its server's directory behind: inside ours, so that it goes with it.
            .env("TMPDIR", dir.path())
            .stdout(Stdio::null())
            .spawn()?;
        let pid = wait_for("the child's server", Duration::from_secs(20), || async {
            Ok(std::fs::read_to_string(&file)?.parse::<u32>()?)
        })
        .await;
        child.kill()?;
        child.wait()?;
        let pid = pid?;
        wait_for("the server to be gone", Duration::from_secs(5), || async {
            ensure!(is_gone(pid), "it lives on");
            Ok(())
        })
        .await
    })
    .await
}

async fn start_and_wait_to_be_killed(file: &Path) -> Result<()> {
    let server = RedisServer::start().await?;
    // The worst case: a paused server acts on nothing but KILL.
    let pid = server
        .info("server")
        .await?
        .remove("process_id")
        .context("INFO names no process")?;
    server.pause().await?;
    let draft = file.with_extension("draft");
    std::fs::write(&draft, pid)?;
    std::fs::rename(draft, file)?;
    timeout(TEST_DEADLINE, std::future::pending::<()>()).await?;
    Ok(())
}

/// Whether a process has ended. In a container its first process may never reap the orphans.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}
