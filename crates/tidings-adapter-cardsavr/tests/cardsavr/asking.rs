//! What users are asked and answer: checks 15 to 19, and the cardholder's list: check 22.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::http::Method;

use crate::common::{Caller, Turns, is_documented, refusal};
use crate::play::{JOBS, both, id, messages, statuses};

both! { asked_and_answered every_way_to_answer announced_in_one_step the_cardholders_list one_jobs_list grants }

/// The envelope of a request.
fn envelope(request: &Value) -> Result<&str> {
    request["envelope_id"].as_str().context("an envelope")
}

mod scenes {
    use super::*;
    use tidings_testkit::adapter_exam::Cluster;

    pub(super) async fn asked_and_answered(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let other = Caller::new(&turns, "agent2").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let job = id(&agent.job("c1").await?)?;
        let target = messages(job, "credential_requests");
        // Check 15: nothing, and no content type.
        let answer = agent
            .raw(&agent.prepare(Method::GET, &target, None))
            .await?;
        ensure!(answer.status == 200 && answer.body.is_empty());
        ensure!(answer.header("content-type").is_empty());
        // Check 16.
        let request = vbs.asks(job, "tfa_request").await?;
        let text = envelope(&request)?.to_owned();
        ensure!(text.len() == 24 && request["job_id"] == job && request["type"] == "tfa_request");
        ensure!(request["account_link"][0]["key_name"] == "tfa");
        for _ in 0..2 {
            ensure!(agent.asked(job).await? == request);
        }
        ensure!(agent.read_job(job).await?["credential_requests"] == json!([request]));
        // Check 17.
        let responses = messages(job, "credential_responses");
        let say = |envelope: &str| json!({"envelope_id": envelope, "type": "tfa_response", "message": "1234"});
        let wrong = agent
            .post(&responses, &say("erz5nk219FPZNWGv3AbHdA=="))
            .await?;
        let (status, body) = refusal(wrong)?;
        ensure!(status == 404 && is_documented(&body));
        ensure!(refusal(agent.post(&responses, &json!({"type": "x"})).await?)?.0 == 400);
        ensure!(refusal(other.post(&responses, &say(&text)).await?)?.0 == 403);
        ensure!(agent.asked(job).await? == request);
        ensure!(vbs.answered(job).await? == Value::Null);
        // Check 18.
        let reply = agent.post(&responses, &say(&text)).await??;
        ensure!(
            reply.body
                == json!({"type": "tfa_response", "job_id": job, "envelope_id": text, "message": "submitted"})
        );
        ensure!(agent.asked(job).await? == Value::Null);
        ensure!(refusal(agent.post(&responses, &say(&text)).await?)?.0 == 404);
        let answered =
            json!({"job_id": job, "type": "tfa_response", "envelope_id": text, "message": "1234"});
        ensure!(vbs.answered(job).await? == answered);
        ensure!(vbs.answered(job).await? == Value::Null);
        Ok(())
    }

    /// Check 19: each way leads to the same answer.
    pub(super) async fn every_way_to_answer(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let made = agent.job("c1").await?;
        let (job, account) = (
            id(&made)?,
            made["account_id"].as_u64().context("an account")?,
        );
        let code = json!({"tfa": "1234"});
        let put_job = format!("{JOBS}/{job}");
        let by_account = format!("/cardsavr_accounts/{account}");
        let respond = messages(job, "credential_responses");
        for (method, target, body, in_header, kind) in [
            (
                Method::POST,
                &respond,
                json!({"type": "tfa_request", "message": "1234"}),
                "",
                "tfa_request",
            ),
            (
                Method::POST,
                &respond,
                json!({"job_id": job, "account_link": code}),
                "",
                "tfa_response",
            ),
            (
                Method::POST,
                &respond,
                json!({"message": "1234"}),
                "x-cardsavr-envelope-id",
                "tfa_response",
            ),
            (
                Method::PUT,
                &put_job,
                json!({"account": {"account_link": code}}),
                "x-cardsavr-envelope-id",
                "tfa_response",
            ),
            (
                Method::PUT,
                &put_job,
                json!({"account": code}),
                "x-cardsavr-envelope_id",
                "tfa_response",
            ),
            (
                Method::PUT,
                &by_account,
                json!({"account_link": code}),
                "x-cardsavr-envelope-id",
                "tfa_response",
            ),
            (
                Method::PUT,
                &by_account,
                code.clone(),
                "envelope-id",
                "tfa_response",
            ),
        ] {
            let text = envelope(&vbs.asks(job, "tfa_request").await?)?.to_owned();
            let mut body = body;
            let headers = [(in_header, text.as_str())];
            let headers = match in_header {
                "" => {
                    body["envelope_id"] = text.as_str().into();
                    &[]
                }
                _ => &headers[..],
            };
            let reply = agent
                .with_headers(method, target, Some(&body), headers)
                .await??;
            ensure!(reply.status == 200 || reply.status == 201);
            ensure!(!reply.body.to_string().contains("1234"));
            let answered = vbs.answered(job).await?;
            ensure!(
                answered["message"] == "1234"
                    && answered["envelope_id"] == text
                    && answered["type"] == kind,
                "{body} {answered}"
            );
            ensure!(agent.asked(job).await? == Value::Null);
        }
        // By the envelope alone: its entry in the index comes a moment after the request.
        let text = envelope(&vbs.asks(job, "credential_request").await?)?.to_owned();
        let new = json!({"username": "good_email", "password": "good_password"});
        let headers = [("x-cardsavr-envelope-id", text.as_str())];
        let reply =
            tidings_testkit::servers::wait_for("the index", crate::common::SOON, || async {
                let said =
                    agent.with_headers(Method::PUT, "/cardsavr_accounts", Some(&new), &headers);
                Ok(said.await??)
            });
        ensure!(reply.await?.body["id"] == account);
        let answered = vbs.answered(job).await?;
        ensure!(answered["account_link"] == new && answered["type"] == "credential_response");
        let (status, _) = refusal(agent.put("/cardsavr_accounts/1", &new).await?)?;
        ensure!(status == 404);
        Ok(())
    }

    pub(super) async fn announced_in_one_step(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let job = id(&agent.job("c1").await?)?;
        let key = agent.register(job).await?;
        let said = json!({"type": "credential_request", "message": "again", "status": "PENDING_NEWCREDS",
            "percent_complete": 31});
        vbs.post(&messages(job, "credential_requests"), &said)
            .await??;
        ensure!(agent.poll(job, &key).await? == ["PENDING_NEWCREDS"]);
        ensure!(agent.asked(job).await?["type"] == "credential_request");
        // Said twice: the limit is two, and the request goes with the job.
        vbs.status(job, "AUTH", 40).await?;
        ensure!(agent.asked(job).await? == Value::Null);
        let refused = vbs
            .post(&messages(job, "credential_requests"), &said)
            .await?;
        ensure!(refusal(refused)?.0 == 409);
        ensure!(agent.poll(job, &key).await? == ["AUTH", "TOO_MANY_LOGIN_FAILURES"]);
        Ok(())
    }

    /// Check 22.
    pub(super) async fn the_cardholders_list(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let again = Caller::new(&turns, "agent1").await?;
        let other = Caller::new(&turns, "agent2").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let made = agent.job("c1").await?;
        let (first, second) = (id(&made)?, id(&agent.job("c1").await?)?);
        let cardholder = made["cardholder_id"].as_u64().context("an id")?;
        let target = format!("/messages/cardholders/{cardholder}");
        let poll = async |caller: &Caller<'_>| -> Result<(Vec<String>, Vec<String>)> {
            let list = caller.get(&target).await??.body;
            let list = list.as_array().cloned().context("an array")?;
            let of = |job: u64| -> Result<Vec<String>> {
                let mine = list
                    .iter()
                    .filter(|one| one["job_id"].as_u64() == Some(job));
                statuses(&mine.cloned().collect(), job)
            };
            let both = (of(first)?, of(second)?);
            ensure!(both.0.len() + both.1.len() == list.len());
            Ok(both)
        };
        let texts = |a: &[&str], b: &[&str]| -> (Vec<String>, Vec<String>) {
            let own = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect();
            (own(a), own(b))
        };
        ensure!(poll(&agent).await? == texts(&[], &[]));
        for status in ["AUTH", "UPDATING"] {
            vbs.status(first, status, 10).await?;
            vbs.status(second, status, 10).await?;
        }
        ensure!(poll(&agent).await? == texts(&["AUTH", "UPDATING"], &["AUTH", "UPDATING"]));
        ensure!(poll(&agent).await? == texts(&[], &[]));
        vbs.status(second, "SUCCESSFUL", 100).await?;
        // Another session of his: everything that is kept.
        let all = texts(&["AUTH", "UPDATING"], &["AUTH", "UPDATING", "SUCCESSFUL"]);
        ensure!(poll(&again).await? == all);
        ensure!(poll(&agent).await? == texts(&[], &["SUCCESSFUL"]));
        // A job that comes later belongs to it.
        let third = id(&agent.job("c1").await?)?;
        vbs.status(third, "AUTH", 1).await?;
        let list = agent.get(&target).await??.body;
        ensure!(statuses(&list, third)? == ["AUTH"]);
        for refused in [other.get(&target).await?, vbs.get(&target).await?] {
            ensure!(refusal(refused)?.0 == 403);
        }
        ensure!(refusal(agent.get("/messages/cardholders/1").await?)?.0 == 404);
        Ok(())
    }

    pub(super) async fn one_jobs_list(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let job = id(&agent.job("c1").await?)?;
        let target = format!("/messages/place_card_on_single_site_jobs/{job}");
        ensure!(agent.get(&target).await??.body == json!([]));
        vbs.status(job, "AUTH", 10).await?;
        let request = vbs.asks(job, "tfa_request").await?;
        let list = agent.get(&target).await??.body;
        ensure!(
            list[0]["message"]["status"] == "AUTH" && list[1] == request,
            "{list}"
        );
        ensure!(agent.get(&target).await??.body == json!([request]));
        Ok(())
    }

    pub(super) async fn grants(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let other = Caller::new(&turns, "agent2").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let headers = [("x-cardsavr-hydration", "[\"cardholder\"]")];
        let body = crate::play::body("c1");
        let made = agent
            .with_headers(Method::POST, JOBS, Some(&body), &headers)
            .await??
            .body;
        let grant = made["cardholder"]["grant"].as_str().context("a grant")?;
        let target = format!("/messages/cardholders/{}", made["cardholder_id"]);
        vbs.status(id(&made)?, "AUTH", 1).await?;
        ensure!(refusal(other.get(&target).await?)?.0 == 403);
        let wrong = json!({"grant": format!("{}x", grant)});
        refusal(other.post("/cardholders/authorize", &wrong).await?)?;
        ensure!(refusal(other.get(&target).await?)?.0 == 403);
        other
            .post("/cardholders/authorize", &json!({"grant": grant}))
            .await??;
        let list = other.get(&target).await??.body;
        ensure!(statuses(&list, id(&made)?)? == ["AUTH"]);
        // The list, and nothing that only the owner may.
        let responses = messages(id(&made)?, "credential_requests");
        ensure!(refusal(other.get(&responses).await?)?.0 == 403);
        Ok(())
    }
}
