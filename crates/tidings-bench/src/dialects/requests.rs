//! Many requests with JSON answers, a few at a time: what is to be there before anything is measured.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::http::Exchange;

/// Requests on their way at a time. More would not be answered faster on one core.
const AT_ONCE: usize = 16;

/// Asks all of them over a few connections; the answers, in the order of the requests.
///
/// # Errors
/// When one of them is not answered 2xx with JSON or nothing.
pub(super) async fn ask_all(address: SocketAddr, requests: Vec<Vec<u8>>) -> Result<Vec<Value>> {
    let requests = Rc::new(requests);
    let next = Rc::new(Cell::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE.min(requests.len()) {
        let (requests, next) = (requests.clone(), next.clone());
        tasks.spawn_local(async move {
            let mut exchange = Exchange::open(address).await?;
            let mut answers = Vec::new();
            loop {
                let index = next.get();
                let Some(request) = requests.get(index) else {
                    return anyhow::Ok(answers);
                };
                next.set(index + 1);
                answers.push((index, ask(&mut exchange, request).await?));
            }
        });
    }
    let mut answers = vec![Value::Null; requests.len()];
    while let Some(ended) = tasks.join_next().await {
        for (index, answer) in ended.context("a task ended early")?? {
            answers[index] = answer;
        }
    }
    Ok(answers)
}

/// Asks one.
///
/// # Errors
/// When it is not answered 2xx with JSON or nothing.
pub(super) async fn ask(exchange: &mut Exchange, request: &[u8]) -> Result<Value> {
    let answer = exchange.ask(request).await?;
    if !(200..300).contains(&answer.head.status) {
        let line = request.split(|byte| *byte == b'\r').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default()).into_owned();
        let body = String::from_utf8_lossy(answer.body);
        bail!("{line}: {} {}", answer.head.status, body.trim());
    }
    if answer.body.is_empty() {
        return Ok(Value::Null);
    }
    Ok(serde_json::from_slice(answer.body)?)
}
