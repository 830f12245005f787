//! The curl lines of the documents, run as they are printed, in development mode: the contract's check 27.
//!
//! Where they are run stands in curl's own configuration file, so that only what the reader has to put in (the job's
//! number, the key, the envelope) differs from the print. Two of the printed lines make no sense:
//!
//! * "Get Credential Requests" asks at `/broadcasts` and has a `-H` without a value, which takes the next `-H` for one and
//!   the trace for an address. What its text says, a read of `/credential_requests`, is run instead.
//! * the comment above "Get Status Updates" speaks of an old password; the line below it is run.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidings_testkit::servers::{PortLease, RedisServer};
use tidings_tests::{Balancer, Instance};
use tokio::process::Command;

/// "Subscribe to Status Updates".
const REGISTER: &str = r#"curl -iv
  -H "Content-Type: application/json" "https://api.INSTANCE.cardsavr.io/messages/place_card_on_single_site_jobs/123/broadcasts/registrations"
  -H "trace: {\"key\": \"my_trace\"}" -b ~/_cookies -c ~/_cookies"#;

/// "Get Status Updates".
const POLL: &str = r#"curl -iv -H "Content-Type: application/json"
  "https://api.INSTANCE.cardsavr.io/messages/place_card_on_single_site_jobs/123/broadcasts/"
  -H "cardsavr-messaging-access-key: erz5nk219FPZNWGv3AbHdA=="
  -H "trace: {\"key\": \"my_trace\"}" -b ~/_cookies -c ~/_cookies"#;

/// "Get Credential Requests", with the path of its text and without the empty `-H`.
const REQUESTS: &str = r#"curl -iv "https://api.INSTANCE.cardsavr.io/messages/place_card_on_single_site_jobs/123/credential_requests"
  -H "trace: {\"key\": \"my_trace\"}" -b ~/_cookies -c ~/_cookies"#;

/// "Post Credential Response".
const RESPOND: &str = r#"curl -iv -X POST -d "{\"envelope_id\": \"uHsa6mI3GYO2ZwOf82SuaA==\", \"type\": \"tfa_request\", \"message\": \"1234\"}"
  -H "Content-Type: application/json" "https://api.INSTANCE.cardsavr.io/messages/place_card_on_single_site_jobs/123/credential_responses"
  -H "trace: {\"key\": \"my_trace\"}" -b ~/_cookies -c ~/_cookies"#;

/// What the documents leave to the reader: the session that the lines need.
const START: &str = r#"curl -iv "https://api.INSTANCE.cardsavr.io/session/start" -c ~/_cookies"#;
const LOGIN: &str = r#"curl -iv -X POST -d "{\"password\": \"pw-agent1\", \"userName\": \"agent1\"}"
  -H "Content-Type: application/json" "https://api.INSTANCE.cardsavr.io/session/login"
  -H "trace: {\"key\": \"my_trace\"}" -b ~/_cookies -c ~/_cookies"#;

struct Shell {
    home: TempDir,
}

struct Printed {
    status: u16,
    body: Value,
}

impl Shell {
    /// Somebody whose curl finds the host of the documents at this address.
    fn new(balancer: &Balancer) -> Result<Self> {
        let home = TempDir::new()?;
        let rules = format!(
            "insecure\nsilent\nconnect-to = \"api.INSTANCE.cardsavr.io:443:{}\"\n",
            balancer.address()
        );
        std::fs::write(home.path().join(".curlrc"), rules)?;
        Ok(Self { home })
    }

    /// Runs a line; the documents break them without saying so to the shell.
    async fn run(&self, line: &str) -> Result<Printed> {
        let line = line.replace('\n', " ");
        let output = Command::new("bash")
            .args(["-c", &line])
            .env("HOME", self.home.path())
            .env_remove("CURL_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .stdin(Stdio::null())
            .output()
            .await?;
        ensure!(output.status.success(), "{line}: {output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").context(text.clone())?;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        Ok(Printed {
            status: status.with_context(|| text.clone())?,
            body: serde_json::from_str(body).unwrap_or(Value::Null),
        })
    }

    async fn succeeds(&self, line: &str) -> Result<Value> {
        let printed = self.run(line).await?;
        let good = (200..300).contains(&printed.status);
        ensure!(good, "{line}: {} {}", printed.status, printed.body);
        Ok(printed.body)
    }

    fn home(&self) -> &Path {
        self.home.path()
    }
}

struct Hub {
    _redis: RedisServer,
    _instances: [Instance; 2],
    _mounts: [PortLease; 2],
    balancer: Balancer,
}

async fn hub(options: &str) -> Result<Hub> {
    let redis = RedisServer::start().await?;
    // What `--dev` opens besides is at ports that may be somebody else's here.
    let others = ["zaikio", "airsend", "burokratt"]
        .map(|name| format!("[adapters.{name}.mount]\nlisten = \"127.0.0.1:0\"\n"))
        .concat();
    let config = |mount| {
        format!(
            "[adapters.cardsavr]\n{options}\n[adapters.cardsavr.mount]\nlisten = \"{mount}\"\n{others}"
        )
    };
    let arguments = ["--dev", "--redis", &redis.url()];
    let (instances, mounts) = Instance::mounted(&arguments, config).await?;
    let balancer = Balancer::start(vec![mounts[0].address(), mounts[1].address()]).await?;
    Ok(Hub {
        _redis: redis,
        _instances: instances,
        _mounts: mounts,
        balancer,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documents_lines_work_as_printed() -> Result<()> {
    let hub = hub("").await?;
    let shell = Shell::new(&hub.balancer)?;
    let salt = shell.succeeds(START).await?;
    // 32 bytes in base64
    ensure!(
        salt["sessionSalt"]
            .as_str()
            .is_some_and(|salt| salt.len() == 44),
        "{salt}"
    );
    let login = shell.succeeds(LOGIN).await?;
    ensure!(
        login["user_id"] == 11 && login["session_token"].is_string(),
        "{login}"
    );
    let cookies = std::fs::read_to_string(shell.home().join("_cookies"))?;
    ensure!(
        cookies
            .lines()
            .any(|line| line.contains("#HttpOnly_") && line.contains("cardsavr_session")),
        "{cookies}"
    );

    let browser = Browser::log_in(&shell).await?;
    let job = json!({"cardholder": {"cuid": "c1"}, "account": {"merchant_site_id": 1}});
    let made = shell
        .succeeds(&post("place_card_on_single_site_jobs", &job))
        .await?;
    let id = made["id"].as_u64().with_context(|| made.to_string())?;
    let of_job = |line: &str| line.replace("/123/", &format!("/{id}/"));

    let registered = shell.succeeds(&of_job(REGISTER)).await?;
    let key = registered["access_key"]
        .as_str()
        .context("a key")?
        .to_owned();
    let with_key = of_job(POLL).replace("erz5nk219FPZNWGv3AbHdA==", &key);
    ensure!(shell.succeeds(&with_key).await? == json!([]));
    for status in ["AUTH", "UPDATING"] {
        browser.say(&shell, id, status).await?;
    }
    let polled = shell.succeeds(&with_key).await?;
    let statuses = ["AUTH", "UPDATING"];
    for (at, status) in statuses.iter().enumerate() {
        let item = &polled[at];
        ensure!(
            item["message"]["status"] == *status && item["job_id"] == id,
            "{polled}"
        );
        ensure!(item["type"] == "job_status", "{polled}");
    }
    ensure!(
        polled.as_array().is_some_and(|all| all.len() == 2),
        "{polled}"
    );
    // A new instance of the same request with each of the other names of the header.
    for name in [
        "x-cardsavr-messaging-access-key",
        "x-cardsavr-cardsavr-messaging-access-key",
    ] {
        browser.say(&shell, id, "UPDATING").await?;
        let line = with_key.replace("\"cardsavr-messaging-access-key:", &format!("\"{name}:"));
        let polled = shell.succeeds(&line).await?;
        ensure!(
            polled[0]["message"]["status"] == "UPDATING",
            "{name}: {polled}"
        );
    }
    // The key as it is printed is nobody's.
    let wrong = shell.run(&of_job(POLL)).await?;
    ensure!(
        wrong.status == 401 && wrong.body["_errors"].is_array(),
        "{}",
        wrong.body
    );

    ensure!(shell.succeeds(&of_job(REQUESTS)).await?.is_null());
    browser.ask(&shell, id).await?;
    let asked = shell.succeeds(&of_job(REQUESTS)).await?;
    ensure!(
        asked["type"] == "tfa_request" && asked["job_id"] == id,
        "{asked}"
    );
    let envelope = asked["envelope_id"].as_str().context("an envelope")?;
    let respond = of_job(RESPOND).replace("uHsa6mI3GYO2ZwOf82SuaA==", envelope);
    let answer = shell.succeeds(&respond).await?;
    ensure!(
        answer["envelope_id"] == envelope && answer["message"] == "submitted",
        "{answer}"
    );
    ensure!(answer["job_id"] == id, "{answer}");
    let again = shell.run(&respond).await?;
    ensure!(
        matches!(again.status, 404 | 409),
        "{} {}",
        again.status,
        again.body
    );

    let list = "curl -i https://api.INSTANCE.cardsavr.io/messages/cardholders/ID -b ~/_cookies";
    let cardholder = made["cardholder_id"].to_string();
    let list = shell.succeeds(&list.replace("ID", &cardholder)).await?;
    ensure!(list.as_array().is_some_and(|all| all.len() >= 4), "{list}");

    // The token goes in its header as well as in the cookie; without either there is no session.
    let token = login["session_token"].as_str().context("a token")?;
    let read =
        format!("curl -i https://api.INSTANCE.cardsavr.io/place_card_on_single_site_jobs/{id}");
    let with = format!("{read} -H 'x-cardsavr-session-jwt: {token}'");
    ensure!(shell.succeeds(&with).await?["id"] == id);
    ensure!(shell.run(&read).await?.status == 401);
    let end = "curl -i https://api.INSTANCE.cardsavr.io/session/end -b ~/_cookies";
    ensure!(shell.succeeds(end).await?.is_null());
    ensure!(shell.run(&with).await?.status == 401);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn in_production_none_of_them_does() -> Result<()> {
    let hub = hub("unsigned = false").await?;
    let shell = Shell::new(&hub.balancer)?;
    for line in [START, LOGIN, REGISTER, POLL, REQUESTS, RESPOND] {
        let printed = shell.run(line).await?;
        ensure!(
            printed.status == 401,
            "{line}: {} {}",
            printed.status,
            printed.body
        );
        ensure!(
            printed.body["_errors"][0]["message"].is_string(),
            "{line}: {}",
            printed.body
        );
    }
    Ok(())
}

/// A line that posts JSON as the one who is logged in.
fn post(path: &str, body: &Value) -> String {
    format!(
        "curl -i -X POST -d '{body}' -H 'Content-Type: application/json' \
         https://api.INSTANCE.cardsavr.io/{path} -b ~/_cookies"
    )
}

/// The virtual browser, by its token.
struct Browser {
    token: String,
}

impl Browser {
    async fn log_in(shell: &Shell) -> Result<Self> {
        let body = json!({"username": "browser1", "password": "pw-browser1"});
        let line = post("session/login", &body).replace(" -b ~/_cookies", "");
        let login = shell.succeeds(&line).await?;
        let token = login["session_token"].as_str().context("a token")?;
        Ok(Self {
            token: token.to_owned(),
        })
    }

    fn line(&self, method: &str, path: &str, body: &Value) -> String {
        let token = &self.token;
        post(path, body)
            .replace("-X POST", &format!("-X {method}"))
            .replace(
                " -b ~/_cookies",
                &format!(" -H 'x-cardsavr-session-jwt: {token}'"),
            )
    }

    async fn say(&self, shell: &Shell, job: u64, status: &str) -> Result<()> {
        let path = format!("place_card_on_single_site_jobs/{job}");
        let line = self.line("PUT", &path, &json!({ "status": status }));
        shell.succeeds(&line).await.map(drop)
    }

    async fn ask(&self, shell: &Shell, job: u64) -> Result<()> {
        let path = format!("messages/place_card_on_single_site_jobs/{job}/credential_requests");
        let body =
            json!({"jobId": job, "type": "tfa_request", "message": "Code?", "account_link": []});
        shell
            .succeeds(&self.line("POST", &path, &body))
            .await
            .map(drop)
    }
}
