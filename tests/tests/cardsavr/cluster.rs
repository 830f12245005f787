//! Two instances with the dialect over TLS, one Redis, and a balancer in front: the SDK opens a connection for every
//! request, so its requests go to the one and the other in turn.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::servers::{PortLease, RedisServer};
use tidings_tests::instance::binary;
use tidings_tests::{Balancer, Instance};
use tokio::process::{Child, Command};

use crate::sdk::Sdk;

pub(crate) const APP: &str = "acme-app";
pub(crate) const KEY: &str = "KQY1TrLsywrPWEg65VcCn8Ww8F4/G3Z6kGc2wxsCjaQ=";

/// Who may log in, with `pw-` and the name. Agent 1 is the customer agent's.
const PEOPLE: &str = r#"
[adapters.cardsavr.integrators.acme-app]
key = "KQY1TrLsywrPWEg65VcCn8Ww8F4/G3Z6kGc2wxsCjaQ="
[adapters.cardsavr.users.admin1]
id = 1
role = "admin"
password_key = "3A/gpVM93fKBIAF+cOi3mz8/MTv0Pp6HqHcKmaTzBNI="
[adapters.cardsavr.users.customer1]
id = 10
role = "customer_agent"
password_key = "V/Mx6mQlBqeeHsI3ztUTt5IKK/QNPuEDGIXzhGy6ZnY="
[adapters.cardsavr.users.agent1]
id = 11
role = "cardholder_agent"
password_key = "ZyktYWyGXo3GSfuLaJtWRMEZ0I/C2oXzaCXLii7MVy0="
parent = 10
[adapters.cardsavr.users.agent2]
id = 12
role = "cardholder_agent"
password_key = "s7ZznDsBiH4zQJDR1vUHD4dv8juLzl4v2poeag6f8A8="
[adapters.cardsavr.users.browser1]
id = 13
role = "virtual_browser"
password_key = "FdV/Qd2f59H+cLuoF6jsYcsauy37njoJt4K2NXb/62s="
"#;

pub(crate) struct Cluster {
    pub(crate) redis: RedisServer,
    pub(crate) instances: [Instance; 2],
    mounts: [PortLease; 2],
    pub(crate) balancer: Balancer,
    folder: TempDir,
    certificate: Option<String>,
    made: AtomicU64,
}

impl Cluster {
    /// Over TLS; `options` are lines for `[adapters.cardsavr]`, and tables behind them.
    pub(crate) async fn start(options: &str) -> Result<Self> {
        Self::launch(options, true).await
    }

    /// In clear, and without signatures: for clients that are many.
    pub(crate) async fn unsigned(options: &str) -> Result<Self> {
        Self::launch(&format!("unsigned = true\n{options}"), false).await
    }

    async fn launch(options: &str, tls: bool) -> Result<Self> {
        let folder = TempDir::new()?;
        let certificate = if tls {
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let pair = rcgen::generate_simple_self_signed(names)?;
            std::fs::write(folder.path().join("cert.pem"), pair.cert.pem())?;
            std::fs::write(
                folder.path().join("key.pem"),
                pair.signing_key.serialize_pem(),
            )?;
            Some(pair.cert.pem())
        } else {
            None
        };
        let path = |name: &str| folder.path().join(name).display().to_string();
        let shown = match tls {
            true => format!(
                "tls_cert = {:?}\ntls_key = {:?}\n",
                path("cert.pem"),
                path("key.pem")
            ),
            false => String::new(),
        };
        let redis = RedisServer::start().await?;
        let config = |mount| {
            format!(
                "[adapters.cardsavr]\n{options}\n{PEOPLE}\n\
                 [adapters.cardsavr.mount]\nlisten = \"{mount}\"\n{shown}"
            )
        };
        let (instances, mounts) = Instance::mounted(&["--redis", &redis.url()], config).await?;
        let balancer = Balancer::start(vec![mounts[0].address(), mounts[1].address()]).await?;
        Ok(Self {
            redis,
            instances,
            mounts,
            balancer,
            folder,
            certificate,
            made: AtomicU64::new(0),
        })
    }

    /// Where the dialect of an instance listens.
    pub(crate) fn address(&self, at: usize) -> SocketAddr {
        self.mounts[at].address()
    }

    /// The base URL of both, in turn.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.balancer.address())
    }

    /// What an SDK needs to know of the hub.
    pub(crate) fn hub(&self) -> Value {
        let mut hub = json!({"url": self.url(), "app": APP, "key": KEY});
        if let Some(certificate) = &self.certificate {
            hub["cert"] = certificate.as_str().into();
        }
        hub
    }

    /// The PEM file of the certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// A session that nobody has logged in with, with other words where `change` has them.
    pub(crate) async fn session(&self, sdk: &mut Sdk, name: &str, change: Value) -> Result<()> {
        let mut command = self.hub();
        command["do"] = "session".into();
        command["as"] = name.into();
        for (word, value) in change.as_object().into_iter().flatten() {
            command[word] = value.clone();
        }
        sdk.done(command).await.map(drop)
    }

    /// Logs somebody in, as a session of his own name.
    pub(crate) async fn log_in(&self, sdk: &mut Sdk, who: &str) -> Result<()> {
        self.log_in_as(sdk, who, who).await
    }

    /// Logs somebody in, as a session of this name.
    pub(crate) async fn log_in_as(&self, sdk: &mut Sdk, name: &str, who: &str) -> Result<()> {
        self.session(sdk, name, json!({})).await?;
        let answer = sdk.call(name, "init", json!([who, format!("pw-{who}")]));
        let answer = answer.await.with_context(|| self.printed())?;
        ensure!(answer["status"] == 200, "{answer}");
        Ok(())
    }

    /// The customer key of a cardholder that nobody else has.
    pub(crate) fn cuid(&self) -> String {
        format!("c{}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// A job as the contract's transcript T2 creates it.
    pub(crate) fn job(&self, cuid: &str, username: &str, password: &str) -> Value {
        let cardholder = json!({ "cuid": cuid });
        json!({
            "cardholder": cardholder,
            "card": {
                "cardholder_ref": cardholder, "pan": "4111111111111111", "expiration_month": "12",
                "expiration_year": "34", "name_on_card": "Jane Smith", "par": "C0123456789",
                "address": {
                    "cardholder_ref": cardholder, "address1": "1 Main St", "city": "Seattle", "subnational": "WA",
                    "postal_code": "98177", "country": "USA", "is_primary": true,
                },
            },
            "account": {
                "cardholder_ref": cardholder, "merchant_site_id": 1,
                "account_link": {"username": username, "password": password},
            },
        })
    }

    /// Creates a job of a cardholder of its own with a session; answers with the job's body.
    pub(crate) async fn create(&self, sdk: &mut Sdk, session: &str) -> Result<Value> {
        let job = self.job(&self.cuid(), "good_email", "good_password");
        sdk.body(session, "createSingleSiteJob", json!([job])).await
    }

    /// The simulator, as a process; dropping it kills it.
    pub(crate) fn simulator(&self, more: &[&str]) -> Result<Child> {
        let password = self.folder.path().join("browser1");
        std::fs::write(&password, "pw-browser1\n")?;
        let key = self.folder.path().join("app-key");
        std::fs::write(&key, format!("{KEY}\n"))?;
        let log = std::fs::File::create(self.folder.path().join("simulator"))?;
        Command::new(binary()?)
            .args(["cardsavr", "simulate", "--url", &self.url(), "--app", APP])
            .args([
                "--username",
                "browser1",
                "--pace",
                "50ms",
                "--every",
                "200ms",
            ])
            .arg("--app-key-file")
            .arg(key)
            .arg("--password-file")
            .arg(password)
            .arg("--ca")
            .arg(self.certificate())
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("the simulator")
    }

    /// What both instances and the simulator have printed, for a failure.
    pub(crate) fn printed(&self) -> String {
        let [a, b] = &self.instances;
        let simulator = std::fs::read_to_string(self.folder.path().join("simulator"));
        format!(
            "{}\n{}\n{}",
            a.printed(),
            b.printed(),
            simulator.unwrap_or_default()
        )
    }
}
