//! `cardsavr-signed`: 500 access keys, each polled every 5 s as the SDK does it: a TLS connection
//! for every request, signed, the reply encrypted.

use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::books::Books;
use super::seal::{Key, Login};
use super::tls::Way;
use super::{
    APP_KEY, KEY_HEADER, KEYS_OF_A_JOB, PASSWORD_PROOF, USER, access_key, broadcasts, ids, jobs,
    publish, registrations, stage,
};
use crate::board::nanoseconds;
use crate::cli::Dialects;
use crate::dialects::share;
use crate::report::Report;

const TOKEN_HEADER: &str = "x-cardsavr-session-jwt";

/// A session that was logged in.
struct Session {
    way: Way,
    key: Key,
    token: String,
}

impl Session {
    async fn log_in(way: Way) -> Result<Self> {
        let integrator = Key::parse(APP_KEY)?;
        let login = Login::begin()?;
        let body = json!({
            "username": USER,
            "client_public_key": login.public()?,
            "password_proof": PASSWORD_PROOF,
        });
        let path = "/session/login";
        let answer = call(&way, &integrator, "null", path, &body).await?;
        let text = |name: &str| answer[name].as_str().with_context(|| format!("no {name}"));
        let key = login.agreed(text("server_public_key")?)?;
        let token = text("session_token")?.to_owned();
        Ok(Self { way, key, token })
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        call(&self.way, &self.key, &self.token, path, body).await
    }

    /// Polls once; what the reply has in clear.
    async fn poll(&self, path: &str, access_key: &str) -> Result<Vec<u8>> {
        let headers = [
            (TOKEN_HEADER, self.token.as_str()),
            (KEY_HEADER, access_key),
        ];
        let request = self.key.request("GET", path, &headers, None, nonce())?;
        let answer = self.way.ask(&request).await?;
        if answer.status != 200 {
            let body = String::from_utf8_lossy(&answer.body);
            bail!("a poll was answered {}: {body}", answer.status);
        }
        self.key.open(&answer.body)
    }
}

async fn call(way: &Way, key: &Key, token: &str, path: &str, body: &Value) -> Result<Value> {
    let headers = [(TOKEN_HEADER, token)];
    let request = key.request("POST", path, &headers, Some(body), nonce())?;
    let answer = way.ask(&request).await?;
    if answer.status >= 300 {
        let body = String::from_utf8_lossy(&answer.body);
        bail!("{path}: {} {body}", answer.status);
    }
    Ok(serde_json::from_slice(&key.open(&answer.body)?)?)
}

/// The client's clock, as a request shows it.
fn nonce() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    nanoseconds(now.unwrap_or_default()) / 1_000_000
}

pub(crate) async fn signed(args: &Dialects) -> Result<Report> {
    let keys = share(500, args).next_multiple_of(KEYS_OF_A_JOB);
    let stage = stage(args, false, true).await?;
    let session = Session::log_in(Way::to(stage.dialect)?).await?;
    let session = Rc::new(session);
    let mut created = Vec::new();
    for body in jobs(keys / KEYS_OF_A_JOB) {
        let path = "/place_card_on_single_site_jobs";
        created.push(session.post(path, &body).await?);
    }
    let jobs = ids(&created)?;
    let mut access_keys = Vec::new();
    for key in 0..keys as usize {
        let job = jobs[key / KEYS_OF_A_JOB as usize];
        let body = json!({"job_id": job});
        let answer = session.post(&registrations(job), &body).await?;
        access_keys.push((job, access_key(&answer)?));
    }
    let quiet = stage.quiet().await?;

    let books = Rc::new(Books::new(keys));
    let mut pollers = JoinSet::new();
    for (key, (job, access_key)) in access_keys.into_iter().enumerate() {
        let (books, session) = (books.clone(), session.clone());
        pollers.spawn_local(async move {
            let path = broadcasts(job);
            let polling = async {
                for round in 0.. {
                    let since = books.turn(key, round).await;
                    let body = session.poll(&path, &access_key).await?;
                    books.answered(key, since, &body)?;
                }
                anyhow::Ok(())
            };
            if let Err(why) = polling.await {
                books.board.fail(&why);
            }
        });
    }
    let mut report = Report::new(format!(
        "cardsavr-signed: {keys} access keys of {} jobs, each polled every 5 s: signed, encrypted, a TLS connection each",
        jobs.len()
    ));
    let publish = async || publish(&stage, &jobs, "UPDATING").await;
    books
        .measure(&stage, &quiet, args.seconds, publish, &mut report)
        .await?;
    books.verdict(&mut report);
    Ok(report)
}
