//! The real binary: configuration commands, publishing, following, exit codes, signals.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use crate::common::{KEY, SOON, Server, start};
use tidings_testkit::servers::{Certificates, RedisServer};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) async fn tidings(arguments: &[&str], environment: &[(&str, &str)], input: &str) -> Said {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = command(arguments, folder.path())
        .envs(environment.iter().copied())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    // A command that does not read its input may be gone before all of it is written.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(SOON, child.wait_with_output())
        .await
        .expect("it ends")
        .expect("it ran");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

fn command(arguments: &[&str], folder: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidings"));
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for (name, _) in std::env::vars() {
        if name.starts_with("TIDINGS_") {
            command.env_remove(name);
        }
    }
    command
}

#[tokio::test]
async fn help_teaches() {
    for (arguments, taught) in [
        (&["--help"][..], "tidings serve --dev"),
        (&["serve", "--help"], "tidings config show"),
        (&["publish", "--help"], "--ndjson"),
        (&["tail", "--help"], "--since"),
        (&["config", "--help"], "check"),
        (&["doctor", "--help"], "4 warnings, 5 problems"),
        (&["health", "--help"], "--ready"),
    ] {
        let said = tidings(arguments, &[], "").await;
        assert_eq!(said.code, Some(0));
        assert!(said.out.contains(taught), "{arguments:?}: {}", said.out);
    }
    assert_eq!(tidings(&["--lisen", "x"], &[], "").await.code, Some(2));
}

#[tokio::test]
async fn the_configuration_is_checked_and_shown() {
    let good = tidings(&["config", "check"], &[], "").await;
    assert_eq!(
        (good.code, good.out.as_str()),
        (Some(0), "the configuration is good\n")
    );
    let environment = [
        ("TIDINGS_REDIS__URL", "redis://u:hunter2@h"),
        ("TIDINGS_LOG__RETENTION", "2h"),
    ];
    let shown = tidings(&["config", "show"], &environment, "").await;
    assert!(
        shown.out.contains("log.retention = \"2h\""),
        "{}",
        shown.out
    );
    assert!(
        shown.out.contains("# TIDINGS_LOG__RETENTION"),
        "{}",
        shown.out
    );
    assert!(!shown.out.contains("hunter2"), "{}", shown.out);
    let environment = [
        ("TIDINGS_SERVER__LISTEN", "nowhere"),
        ("TIDINGS_REDIS_URL", "redis://h"),
    ];
    for arguments in [&["config", "check"][..], &["serve"]] {
        let bad = tidings(arguments, &environment, "").await;
        assert_eq!(bad.code, Some(2), "{}", bad.err);
        for part in [
            "server.listen = \"nowhere\" (from TIDINGS_SERVER__LISTEN): an address",
            "TIDINGS_REDIS__URL",
        ] {
            assert!(bad.err.contains(part), "{part}: {}", bad.err);
        }
    }
}

fn client<'a>(server: &Server, url: &'a mut String) -> [(&'a str, &'a str); 2] {
    *url = format!("http://{}", server.address);
    [("TIDINGS_URL", url), ("TIDINGS_KEY", KEY)]
}

#[tokio::test]
async fn publish_says_what_is_stored_and_exits_by_what_went_wrong() {
    let server = start("").await;
    let mut url = String::new();
    let environment = client(&server, &mut url);
    let said = tidings(
        &[
            "publish",
            "demo/a",
            "t",
            "{\"n\" :1}",
            "--source",
            "/s",
            "--id",
            "7",
        ],
        &environment,
        "",
    )
    .await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("\"topic\":\"demo/a\""), "{}", said.out);
    let said = tidings(&["publish", "demo/a", "t", "-"], &environment, "[2]\n").await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let lines = "{\"topic\":\"demo/a\",\"type\":\"t\",\"data\":3}\n{\"topic\":\"demo/a\",\"type\":\"t\",\"data\":4}\n";
    let said = tidings(&["publish", "--ndjson"], &environment, lines).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.contains("\"count\":2"), "{}", said.out);
    assert_eq!(server.data("demo/a").await, "[{\"n\" :1},[2],3,4]");

    let code = async |arguments: &[&str]| tidings(arguments, &environment, "").await.code;
    assert_eq!(code(&["publish", "demo a", "t"]).await, Some(1), "refused");
    assert_eq!(
        code(&["publish", "a", "t", "--key", "x"]).await,
        Some(1),
        "no right"
    );
    assert_eq!(code(&["publish", "a", "t", "{"]).await, Some(2), "no JSON");
    assert_eq!(code(&["publish", "a"]).await, Some(2), "no type");
    assert_eq!(
        code(&["publish", "a", "t", "--url", "nowhere"]).await,
        Some(2),
        "no URL"
    );
    assert_eq!(
        code(&["publish", "a", "t", "--url", "http://127.0.0.1:1"]).await,
        Some(3),
        "nobody there"
    );
    server.log.set(crate::moody::Mood::Unavailable);
    assert_eq!(code(&["publish", "a", "t"]).await, Some(3), "no log");
}

#[tokio::test]
async fn tail_follows_and_resumes_after_a_lost_connection() {
    let server = start("[api]\nsse_retry = \"10ms\"\n").await;
    let mut url = String::new();
    let environment = client(&server, &mut url);
    server.publish_one("demo/a", "{\"n\":\n1}").await;
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = tidings_testkit::servers::TcpProxy::start(server.address)
        .await
        .expect("a proxy");
    let through = format!("http://{}", proxy.address());
    let arguments = [
        "tail", "demo/a", "demo/b", "--from", "-1", "--format", "data", "--url", &through,
    ];
    let mut child = command(&arguments, folder.path())
        .envs(environment)
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut line = async || {
        tokio::time::timeout(SOON, lines.next_line())
            .await
            .expect("a line in time")
            .expect("read")
            .expect("more")
    };
    assert_eq!(line().await, "{\"n\": 1}", "one event a line");
    server.publish_one("demo/b", "2").await;
    assert_eq!(line().await, "2");
    proxy.cut().await.expect("cut");
    server.publish_one("demo/a", "3").await;
    server.publish_one("demo/a", "4").await;
    proxy.heal().await.expect("healed");
    assert_eq!(
        (line().await, line().await),
        ("3".to_owned(), "4".to_owned())
    );
    child.kill().await.expect("killed");

    let refused = tidings(&["tail", "demo a"], &environment, "").await;
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    let unreachable = tidings(
        &["tail", "a", "--url", "http://127.0.0.1:1"],
        &environment,
        "",
    )
    .await;
    assert_eq!(unreachable.code, Some(3), "{}", unreachable.err);
}

#[tokio::test]
async fn serve_says_how_it_stands_and_leaves_on_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, warned) in [
        (
            &["--listen", "127.0.0.1:0"][..],
            "nobody may publish or read",
        ),
        (
            &["serve", "--dev", "--listen", "127.0.0.1:0"],
            "DEVELOPMENT MODE",
        ),
    ] {
        let mut child = command(arguments, folder.path())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = String::new();
        let ready = async {
            while !said.contains("server::app: ready") {
                said.push_str(&lines.next_line().await.expect("read").expect("more"));
                said.push('\n');
            }
        };
        tokio::time::timeout(SOON, ready)
            .await
            .expect("it becomes ready");
        assert!(
            said.contains(warned) && said.contains("in memory"),
            "{said}"
        );
        let pid = child.id().expect("it runs").to_string();
        let killed = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .expect("kill");
        assert!(killed.success());
        let status = tokio::time::timeout(SOON, child.wait())
            .await
            .expect("it leaves")
            .expect("it ran");
        assert_eq!(status.code(), Some(0));
    }
}

/// Takes TLS off connections and passes them on.
async fn tls_front(certificates: &Certificates, server: &Server) -> SocketAddr {
    let chain = CertificateDer::pem_slice_iter(certificates.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .expect("a chain");
    let key = PrivateKeyDer::from_pem_slice(certificates.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they fit");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let behind = server.address;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut near = acceptor.accept(stream).await?;
                let mut far = TcpStream::connect(behind).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    address
}

#[tokio::test]
async fn the_client_speaks_tls_to_whom_it_trusts() {
    let server = start("").await;
    let certificates = Certificates::generate().expect("certificates");
    let folder = tempfile::tempdir().expect("a folder");
    certificates.write_to(folder.path()).expect("written");
    let authority = folder.path().join("ca.pem").display().to_string();
    let url = format!("https://{}", tls_front(&certificates, &server).await);
    let publish = ["publish", "demo/a", "t", "1", "--url", &url, "--key", KEY];
    let trusted = [("SSL_CERT_FILE", authority.as_str())];
    let said = tidings(&publish, &trusted, "").await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let stranger = Certificates::generate().expect("certificates");
    std::fs::write(&authority, stranger.ca).expect("written");
    let said = tidings(&publish, &trusted, "").await;
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert_eq!(server.data("demo/a").await, "[1]");
}

#[tokio::test]
async fn publish_says_beside_the_answer_when_less_was_reached() {
    let server = start("").await;
    let mut url = String::new();
    let environment = client(&server, &mut url);
    let publish = async |level: &str| {
        let arguments = ["publish", "demo/a", "t", "1", "--durability", level];
        tidings(&arguments, &environment, "").await
    };
    let said = publish("stored").await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(
        said.out.contains("\"durability\":\"stored\""),
        "{}",
        said.out
    );
    let said = publish("replicated").await;
    assert_eq!(said.code, Some(0), "it is stored");
    assert!(
        said.out.contains("\"wanted\":\"replicated\""),
        "{}",
        said.out
    );
    assert!(
        said.err.contains("not known to be replicated"),
        "{}",
        said.err
    );
    assert_eq!(publish("safe").await.code, Some(2));
}

#[tokio::test]
async fn health_is_an_exit_code() {
    let server = start("").await;
    let url = format!("http://{}", server.address);
    let environment = [("TIDINGS_URL", url.as_str())];
    let health = async |arguments: &[&str]| {
        let said = tidings(&[&["health"], arguments].concat(), &environment, "").await;
        assert_eq!(said.err.is_empty(), said.code == Some(0), "{}", said.err);
        said.code
    };
    assert_eq!(health(&[]).await, Some(0));
    assert_eq!(health(&["--ready"]).await, Some(0));
    server.instance.hub().retire();
    assert_eq!(health(&[]).await, Some(0), "alive");
    assert_eq!(health(&["--ready"]).await, Some(1), "leaving");
    assert_eq!(health(&["--url", "http://127.0.0.1:1"]).await, Some(1));
    assert_eq!(health(&["--url", "nowhere"]).await, Some(1));
    // One that takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    assert_eq!(health(&["--url", &url]).await, Some(1));
}

#[tokio::test]
async fn the_doctor_tells_by_its_exit_code_how_bad_it_is() {
    let well = RedisServer::builder().append_only().maxmemory(1 << 28);
    let well = well.start().await.expect("Redis");
    let said = tidings(&["doctor", "--redis", &well.url()], &[], "").await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.out.contains("note     replicas"), "{}", said.out);
    assert!(said.out.contains("ok       append-only"), "{}", said.out);
    let set = async |name, value| {
        let words = ["CONFIG", "SET", name, value];
        well.command(&words).await.expect("taken");
    };
    set("maxmemory", "0").await;
    let environment = [("TIDINGS_REDIS__URL", well.url())];
    let environment = environment
        .each_ref()
        .map(|(name, url)| (*name, url.as_str()));
    let said = tidings(&["doctor"], &environment, "").await;
    assert_eq!(said.code, Some(4), "{}{}", said.out, said.err);
    assert!(said.err.contains("1 warnings, 0 problems"), "{}", said.err);
    set("maxmemory", "100mb").await;
    set("maxmemory-policy", "allkeys-lru").await;
    let said = tidings(&["doctor", "--json"], &environment, "").await;
    assert_eq!(said.code, Some(5), "{}{}", said.out, said.err);
    let report: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(report["level"], "problem");
    let first = &report["findings"][0];
    assert_eq!(first["check"], "eviction", "the worst comes first");
    assert_eq!(first["remedy"], "maxmemory-policy noeviction");

    let code = async |arguments: &[&str]| tidings(arguments, &[], "").await;
    let nowhere = "redis://user:s3cret@127.0.0.1:1";
    let said = code(&["doctor", "--redis", nowhere]).await;
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(!said.err.contains("s3cret"), "{}", said.err);
    assert_eq!(code(&["doctor"]).await.code, Some(2), "no Redis is named");
    assert_eq!(code(&["doctor", "--redis", "http://x"]).await.code, Some(1));
}
