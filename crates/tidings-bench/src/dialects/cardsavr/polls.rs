//! `cardsavr-polls`: 10,000 access keys, each polled every 5 s on a connection of its own that
//! stays, in the development mode without signatures: what an empty poll costs.

use std::rc::Rc;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::books::Books;
use super::{
    KEY_HEADER, KEYS_OF_A_JOB, PASSWORD, USER, access_key, broadcasts, ids, jobs, publish,
    registrations, stage,
};
use crate::cli::Dialects;
use crate::dialects::requests::ask_all;
use crate::dialects::share;
use crate::http::{Exchange, post};
use crate::report::Report;

/// Sessions that the keys are spread over, as a bank's servers have them.
const SESSIONS: usize = 20;

pub(crate) async fn polls(args: &Dialects) -> Result<Report> {
    let keys = share(10_000, args).next_multiple_of(KEYS_OF_A_JOB);
    let stage = stage(args, true, false).await?;
    let at = stage.dialect;
    let login = json!({"username": USER, "password": PASSWORD}).to_string();
    let login = post("/session/login", &[], &login);
    let sessions = ask_all(at, vec![login; SESSIONS]).await?;
    let sessions: Vec<&str> = sessions
        .iter()
        .map(|answer| answer["session_token"].as_str().context("no session"))
        .collect::<Result<_>>()?;
    let session = |index: usize| ("x-cardsavr-session-jwt", sessions[index % SESSIONS]);
    let create = |body: &Value| {
        let headers = [session(0)];
        post(
            "/place_card_on_single_site_jobs",
            &headers,
            &body.to_string(),
        )
    };
    let bodies = jobs(keys / KEYS_OF_A_JOB);
    let jobs = ids(&ask_all(at, bodies.iter().map(create).collect()).await?)?;
    let job_of = |key: usize| jobs[key / KEYS_OF_A_JOB as usize];
    let register = |key: usize| {
        let job = job_of(key);
        let body = json!({"job_id": job}).to_string();
        post(&registrations(job), &[session(key)], &body)
    };
    let registered = ask_all(at, (0..keys as usize).map(register).collect()).await?;
    let quiet = stage.quiet().await?;

    let books = Rc::new(Books::new(keys));
    let before = stage.hub.resident_kib()?;
    let mut pollers = JoinSet::new();
    for (key, registration) in registered.iter().enumerate() {
        let access_key = access_key(registration)?;
        let headers = [
            session(key),
            (KEY_HEADER, &access_key),
            ("x-cardsavr-trace", "{\"key\":\"bench\"}"),
        ];
        let request = crate::http::get(&broadcasts(job_of(key)), &headers);
        let books = books.clone();
        pollers.spawn_local(async move {
            if let Err(why) = poll(&books, key, at, &request).await {
                books.board.fail(&why);
            }
        });
    }
    let mut report = Report::new(format!(
        "cardsavr-polls: {keys} access keys of {} jobs, each polled every 5 s in clear over a connection that stays",
        jobs.len()
    ));
    let publish = async || publish(&stage, &jobs, "UPDATING").await;
    books
        .measure(&stage, &quiet, args.seconds, publish, &mut report)
        .await?;
    let after = stage.hub.resident_kib()?;
    report.figure("hub_grew", (after - before) / 1024.0, "MiB");
    books.verdict(&mut report);
    Ok(report)
}

/// Polls a key for as long as it is let.
async fn poll(books: &Books, key: usize, at: std::net::SocketAddr, request: &[u8]) -> Result<()> {
    let mut exchange = None;
    for round in 0.. {
        let since = books.turn(key, round).await;
        let exchange = match &mut exchange {
            Some(exchange) => exchange,
            none => none.insert(Exchange::open(at).await?),
        };
        let answer = exchange.ask(request).await?;
        if answer.head.status != 200 {
            let body = String::from_utf8_lossy(answer.body);
            anyhow::bail!("a poll was answered {}: {body}", answer.head.status);
        }
        books.answered(key, since, answer.body)?;
    }
    Ok(())
}
