//! Jobs over HTTP: checks 8, 9 and 20 of the contract, lists, and who may do what.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tidings_adapter::http::Method;

use crate::common::{Caller, Turns, is_documented, refusal};
use crate::play::{JOBS, body, both, id, messages};

both! { made_and_read rights lists }

mod scenes {
    use super::*;
    use tidings_testkit::adapter_exam::Cluster;

    pub(super) async fn made_and_read(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let hydration = ("x-cardsavr-hydration", r#"["cardholder","account","card"]"#);
        let safe_key = ("x-cardsavr-cardholder-safe-key", "garbage$garbage");
        let make = |cuid| {
            let (agent, body) = (&agent, body(cuid));
            async move {
                let headers = [hydration, safe_key];
                let made = agent.with_headers(Method::POST, JOBS, Some(&body), &headers);
                anyhow::Ok(made.await??)
            }
        };
        let reply = make("c1").await?;
        ensure!(reply.status == 201);
        let job = reply.body;
        for name in ["id", "cardholder_id", "card_id", "account_id"] {
            // Below 2^31: some clients read it so.
            ensure!(
                job[name].as_u64().is_some_and(|id| id > 0 && id < 1 << 31),
                "{name} {job}"
            );
        }
        ensure!(job["type"] == "CARD_PLACEMENT" && job["status"] == "REQUESTED");
        ensure!(
            job["cardholder"]["cuid"] == "c1" && job["cardholder"]["id"] == job["cardholder_id"]
        );
        ensure!(job["account"]["id"] == job["account_id"] && job["card"]["id"] == job["card_id"]);
        ensure!(
            job["access_key"]
                .as_str()
                .is_some_and(|key| key.len() == 24)
        );
        ensure!(job["cardholder"]["grant"].is_string());
        let text = job.to_string();
        ensure!(
            !text.contains("4111") && !text.contains("good_email"),
            "{text}"
        );
        for name in [
            "termination_type",
            "started_on",
            "completed_on",
            "custom_data",
        ] {
            ensure!(job[name].is_null() && job.get(name).is_some(), "{name}");
        }
        ensure!(
            job["created_on"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z'))
        );
        // The same cuid: the same cardholder, whose grant is not shown again.
        let second = make("c1").await?.body;
        ensure!(second["cardholder_id"] == job["cardholder_id"] && second["id"] != job["id"]);
        ensure!(second["cardholder"].get("grant").is_none());
        ensure!(make("c2").await?.body["cardholder_id"] != job["cardholder_id"]);
        // By the ids of what is there, and several at once.
        let by_id = json!({"cardholder_id": job["cardholder_id"], "account_id": job["account_id"]});
        let several = agent.post(JOBS, &json!([by_id, body("c3")])).await??;
        let several = several.body.as_array().cloned().unwrap_or_default();
        ensure!(several.len() == 2 && several[0]["account_id"] == job["account_id"]);
        // Check 9.
        let read = agent.read_job(id(&job)?).await?;
        ensure!(read["credential_requests"] == json!([]));
        ensure!(read.get("cardholder").is_none() && read.get("access_key").is_none());
        let plain = agent.get(&format!("{JOBS}/{}", id(&job)?)).await??.body;
        ensure!(plain.get("credential_requests").is_none());
        let (status, body) = refusal(agent.get(&format!("{JOBS}/1")).await?)?;
        ensure!(status == 404 && is_documented(&body));
        for bad in [
            json!([]),
            json!(3),
            json!({"card": 3}),
            json!({"cardholder_id": 1}),
            json!({"account": {"username": "x".repeat(100_000)}}),
        ] {
            let (status, body) = refusal(agent.post(JOBS, &bad).await?)?;
            ensure!(status == 400 && is_documented(&body), "{bad}");
        }
        Ok(())
    }

    pub(super) async fn rights(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let other = Caller::new(&turns, "agent2").await?;
        let boss = Caller::new(&turns, "boss").await?;
        let root = Caller::new(&turns, "root").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let made = agent.job("c1").await?;
        let job = id(&made)?;
        let target = format!("{JOBS}/{job}");
        let request = json!({"type": "tfa_request"});
        let requests = messages(job, "credential_requests");
        let registrations = messages(job, "broadcasts/registrations");
        // Who has nothing to do with it.
        for refused in [
            other.get(&target).await?,
            other
                .put(&target, &json!({"status": "CANCEL_REQUESTED"}))
                .await?,
            other.post(&registrations, &json!({})).await?,
            other.get(&requests).await?,
            other.get(&messages(job, "credential_responses")).await?,
            other
                .post(
                    &messages(job, "credential_responses"),
                    &json!({"envelope_id": "x"}),
                )
                .await?,
            other
                .get(&format!("/messages/place_card_on_single_site_jobs/{job}"))
                .await?,
            // Its owner is no virtual browser.
            agent.post(&requests, &request).await?,
            agent.get(&messages(job, "credential_responses")).await?,
            agent.put(&target, &json!({"status": "SUCCESSFUL"})).await?,
            // Who is above him sees it, and does not answer for his user.
            boss.get(&requests).await?,
            boss.put(&target, &json!({"status": "AUTH"})).await?,
            // Nor is he who sees everything a virtual browser.
            root.get(&requests).await?,
            root.get(&messages(job, "credential_responses")).await?,
            root.post(&requests, &request).await?,
            root.put(&target, &json!({"status": "AUTH"})).await?,
            // An account stays its owner's, and leads to his job.
            other
                .post(JOBS, &json!({"account_id": made["account_id"]}))
                .await?,
            // The virtual browser creates none.
            vbs.post(JOBS, &body("c9")).await?,
        ] {
            let (status, body) = refusal(refused)?;
            ensure!(status == 403 && is_documented(&body), "{status} {body}");
        }
        let seen = vbs.asks(job, "tfa_request").await?;
        ensure!(boss.read_job(job).await?["credential_requests"] == json!([]));
        ensure!(agent.read_job(job).await?["credential_requests"][0] == seen);
        ensure!(vbs.read_job(job).await?["credential_requests"][0] == seen);
        boss.register(job).await?;
        // Secrets are the virtual browser's.
        let wanted = ("x-cardsavr-hydration", r#"["account","card.address"]"#);
        let read = |caller: &'static str| {
            let turns = &turns;
            let target = target.clone();
            async move {
                let caller = Caller::new(turns, caller).await?;
                let headers = [wanted];
                let read = caller.with_headers(Method::GET, &target, None, &headers);
                anyhow::Ok(read.await??.body)
            }
        };
        let shown = read("vbs").await?;
        ensure!(shown["account"]["account_link"]["username"] == "good_email");
        ensure!(shown["card"]["pan"] == "4111111111111111");
        ensure!(shown["card"]["address"]["address1"] == "1 Main St");
        for caller in ["agent1", "boss", "root"] {
            let text = read(caller).await?.to_string();
            ensure!(
                !text.contains("4111") && !text.contains("good_email"),
                "{text}"
            );
        }
        vbs.status(job, "SUCCESSFUL", 100).await?;
        let text = read("vbs").await?.to_string();
        ensure!(
            !text.contains("4111") && !text.contains("good_email"),
            "{text}"
        );
        Ok(())
    }

    pub(super) async fn lists(cluster: Cluster) -> Result<()> {
        let turns = Turns::of(&cluster);
        let agent = Caller::new(&turns, "agent1").await?;
        let other = Caller::new(&turns, "agent2").await?;
        let vbs = Caller::new(&turns, "vbs").await?;
        let mut jobs = Vec::new();
        for _ in 0..5 {
            jobs.push(id(&agent.job("c1").await?)?);
        }
        // Each instance has a block of ids of its own.
        jobs.sort_unstable();
        let foreign = id(&other.job("c2").await?)?;
        vbs.status(jobs[1], "AUTH", 5).await?;
        let list = |caller, target: String, paging: &'static str| {
            let caller: &Caller<'_> = caller;
            async move {
                let headers = [("x-cardsavr-paging", paging)];
                let reply = caller
                    .with_headers(Method::GET, &target, None, &headers)
                    .await??;
                let list = reply.body.as_array().cloned().unwrap_or_default();
                let ids: Vec<u64> = list.iter().filter_map(|job| job["id"].as_u64()).collect();
                let paging = reply.headers["x-cardsavr-paging"].to_str()?.to_owned();
                let paging: Value = serde_json::from_str(&paging)?;
                anyhow::Ok((ids, paging["total_results"].as_u64()))
            }
        };
        let (first, second) = (jobs[0], jobs[1]);
        ensure!(list(&agent, JOBS.into(), "{}").await? == (jobs.clone(), Some(5)));
        let ids = format!("{JOBS}/?ids={first},{second}&ids={foreign}&x=y");
        ensure!(list(&agent, ids, "{}").await? == (vec![first, second], Some(2)));
        let page = r#"{"page":"2","page_length":2,"is_descending":true}"#;
        ensure!(list(&agent, JOBS.into(), page).await? == (vec![jobs[2], jobs[1]], Some(5)));
        let status = format!("{JOBS}?status=AUTH,UPDATING");
        ensure!(list(&agent, status, "{}").await? == (vec![second], Some(1)));
        let (open, total) = list(&vbs, format!("{JOBS}?status=REQUESTED"), "{}").await?;
        ensure!(total == Some(5) && open.contains(&foreign) && !open.contains(&second));
        let (status, body) = refusal(agent.get(&format!("{JOBS}?ids=a")).await?)?;
        ensure!(status == 400 && is_documented(&body));
        Ok(())
    }
}
