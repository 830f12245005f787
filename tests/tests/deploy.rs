//! What `deploy/` holds fits the binary: metric names, configurations, files referred to, time to leave.
//!
//! Where the programs that these files are written for are at hand, they judge them too; where not, a line says so. No
//! test here builds an image: the one about the image looks at `tidings:local` when somebody has built it.

#[path = "deploy/files.rs"]
mod files;
#[path = "deploy/programs.rs"]
mod programs;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tidings_testkit::servers::{RedisServer, wait_for};
use tidings_tests::guide::blocks;
use tidings_tests::instance::binary;
use tidings_tests::{Instance, SOON};
use tokio::process::Command;

use files::{deploy, in_deploy, json, metric_names, seconds, text, texts, yaml};

const ALERTS: &str = "grafana/alerts.yaml";
const DASHBOARD: &str = "grafana/tidings-dashboard.json";

/// Names of the metrics that an instance shows, with the series that belong to a histogram.
async fn exported(instance: &Instance) -> Result<BTreeSet<String>> {
    let answer = instance.send("GET", "/metrics", &[], "").await?;
    ensure!(answer.status == 200, "{answer:?}");
    let mut names = BTreeSet::new();
    for line in String::from_utf8_lossy(&answer.body).lines() {
        let Some((name, kind)) = line
            .strip_prefix("# TYPE ")
            .and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        names.insert(name.to_owned());
        if kind == "histogram" {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        }
    }
    Ok(names)
}

/// An instance to which everything has happened once: a metric with labels is not there before.
async fn eventful(redis: &RedisServer) -> Result<Instance> {
    // With a dialect that has views.
    let config = "[redis]\nappend_patience = \"500ms\"\n[adapters.burokratt]\nauth = \"off\"\n\
                  [adapters.burokratt.mount]\nlisten = \"127.0.0.1:0\"\n";
    let instance = Instance::start(&["--redis", &redis.url()], config).await?;
    let event = r#"{"topic":"deploy/a","type":"t","data":1}"#;
    let json = [("content-type", "application/json")];
    let publish = || instance.send("POST", "/v1/events", &json, event);
    let answer = publish().await?;
    ensure!(answer.status == 201, "{answer:?}");
    let path = "/v1/topics/deploy/a?offset=-1";
    let answer = instance.send("GET", path, &[], "").await?;
    ensure!(answer.status == 200, "{answer:?}");
    redis
        .command(&["XADD", "tidings:ingest", "*", "topic", "not a topic"])
        .await?;
    wait_for("an entry to be refused", SOON, || async {
        let seen = exported(&instance).await?;
        ensure!(seen.contains("tidings_redis_ingested_total"), "{seen:?}");
        Ok(())
    })
    .await?;
    redis.kill().await?;
    let answer = publish().await?;
    ensure!(answer.status == 503, "{answer:?}");
    Ok(instance)
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_name_only_what_an_instance_exports() -> Result<()> {
    let redis = RedisServer::start().await?;
    let exported = exported(&eventful(&redis).await?).await?;
    for path in [DASHBOARD, ALERTS] {
        let named = metric_names(&text(path)?);
        ensure!(named.len() > 10, "{path} names hardly anything: {named:?}");
        let unknown: Vec<_> = named.difference(&exported).collect();
        ensure!(
            unknown.is_empty(),
            "{path} names {unknown:?}, which no instance exports; there are {exported:#?}"
        );
    }
    Ok(())
}

#[test]
fn every_alert_has_its_runbook() -> Result<()> {
    let alerts = yaml(ALERTS)?;
    let manual = std::fs::read_to_string(deploy().join("../docs/deploying.md"))?;
    let headings: BTreeSet<&str> = manual
        .lines()
        .filter_map(|line| line.strip_prefix("### Tidings"))
        .collect();
    let mut named = BTreeSet::new();
    let groups = alerts["groups"].as_array().context("groups")?;
    for rule in groups.iter().flat_map(|group| group["rules"].as_array()) {
        for rule in rule {
            let name = rule["alert"].as_str().context("a rule is an alert")?;
            let short = name
                .strip_prefix("Tidings")
                .context("alerts begin with Tidings")?;
            ensure!(
                headings.contains(short),
                "docs/deploying.md lacks ### {name}"
            );
            named.insert(short);
            let url = rule["annotations"]["runbook_url"]
                .as_str()
                .unwrap_or_default();
            let anchor = format!("docs/deploying.md#{}", name.to_lowercase());
            ensure!(url.ends_with(&anchor), "{name}: {url}");
        }
    }
    let orphans: Vec<_> = headings.difference(&named).collect();
    ensure!(orphans.is_empty(), "no alert for {orphans:?}");
    Ok(())
}

#[test]
fn every_file_parses() -> Result<()> {
    let mut seen = 0;
    for path in in_deploy()? {
        match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "yaml" => drop(yaml(&path).with_context(|| path.clone())?),
            "json" => drop(json(&path).with_context(|| path.clone())?),
            _ => continue,
        }
        seen += 1;
    }
    ensure!(seen >= 14, "only {seen} files in deploy/");
    Ok(())
}

#[test]
fn compose_refers_to_files_and_secrets_that_are_there() -> Result<()> {
    let compose = yaml("compose.yaml")?;
    let services = compose["services"].as_object().context("services")?;
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let Some(source) = volume["source"].as_str() else {
                continue;
            };
            ensure!(
                deploy().join(source).exists(),
                "{name}: {source} is not there"
            );
            // Docker would else make an empty folder of a file that is missing.
            ensure!(
                volume["bind"]["create_host_path"] == Value::Bool(false),
                "{name}: {source} without create_host_path: false"
            );
        }
        for secret in texts(&service["secrets"]) {
            let file = compose["secrets"][secret]["file"]
                .as_str()
                .unwrap_or_default();
            ensure!(
                file.starts_with("${TIDINGS_SECRETS:?"),
                "{name}: the secret {secret} is not a file without a default: {file:?}"
            );
        }
        if let Some(dockerfile) = service["build"]["dockerfile"].as_str() {
            ensure!(
                deploy().join("..").join(dockerfile).exists(),
                "{dockerfile}"
            );
        }
    }
    // Containers ask the binary itself how it is: the image needs nothing else for it.
    let asked: Vec<&str> = texts(&services["hub-1"]["healthcheck"]["test"]).collect();
    ensure!(
        asked == ["CMD", "tidings", "health", "--ready"],
        "{asked:?}"
    );
    let image = text("Dockerfile")?;
    ensure!(image.contains("CMD [\"tidings\", \"health\"]"), "{image}");
    // Each hub is in the balancer's two backends, and scraped.
    let balancer = text("compose/haproxy.cfg")?;
    let scraped = text("compose/prometheus.yaml")?;
    let hubs: Vec<_> = services
        .keys()
        .filter(|name| name.starts_with("hub-"))
        .collect();
    ensure!(hubs.len() == 2, "{hubs:?}");
    for hub in hubs {
        let servers = balancer
            .matches(&format!("server {hub} {hub}:8080"))
            .count();
        ensure!(servers == 2, "{hub} stands {servers} times in haproxy.cfg");
        ensure!(scraped.contains(&format!("{hub}:8080")), "{hub}");
    }
    Ok(())
}

#[test]
fn kustomization_and_deployment_fit_together() -> Result<()> {
    let kustomization = yaml("kubernetes/kustomization.yaml")?;
    let mut names: Vec<&str> = texts(&kustomization["resources"]).collect();
    for made in kustomization["configMapGenerator"]
        .as_array()
        .into_iter()
        .flatten()
    {
        names.extend(texts(&made["files"]));
    }
    ensure!(names.len() >= 6, "{names:?}");
    for name in names {
        ensure!(deploy().join("kubernetes").join(name).exists(), "{name}");
    }
    let deployment = yaml("kubernetes/deployment.yaml")?;
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    for (probe, path) in [("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
        ensure!(container[probe]["httpGet"]["path"] == path, "{probe}");
    }
    let example = yaml("kubernetes/secret.example.yaml")?;
    let configuration = text("kubernetes/tidings.toml")?;
    for (key, value) in example["stringData"].as_object().context("stringData")? {
        ensure!(value == "", "{key} has a default");
        let file = format!("/run/secrets/tidings/{key}");
        ensure!(configuration.contains(&file), "nothing reads {file}");
    }
    Ok(())
}

#[test]
fn everywhere_there_is_time_to_leave() -> Result<()> {
    /// The ingest batch under way, before the connections get their grace.
    const INGEST: Duration = Duration::from_secs(5);
    let grace = |path: &str| -> Result<Duration> {
        let configuration = text(path)?;
        let line = configuration
            .lines()
            .find_map(|line| line.strip_prefix("shutdown_grace = "));
        seconds(line.context("shutdown_grace")?.trim_matches('"'))
    };
    let compose = yaml("compose.yaml")?;
    let given = compose["services"]["hub-1"]["stop_grace_period"]
        .as_str()
        .context("stop_grace_period")?;
    ensure!(seconds(given)? > grace("compose/tidings.toml")? + INGEST);

    let deployment = yaml("kubernetes/deployment.yaml")?;
    let pod = &deployment["spec"]["template"]["spec"];
    let given = pod["terminationGracePeriodSeconds"]
        .as_u64()
        .context("terminationGracePeriodSeconds")?;
    let pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        .as_u64()
        .context("preStop")?;
    let left = Duration::from_secs(given.saturating_sub(pause));
    ensure!(left > grace("kubernetes/tidings.toml")? + INGEST);

    let unit = text("systemd/tidings.service")?;
    let given = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="))
        .context("TimeoutStopSec")?;
    // The unit names no configuration: the default's 20 s.
    ensure!(seconds(given)? > Duration::from_secs(20) + INGEST);
    Ok(())
}

/// What is good as a secret of every kind: 32 bytes, in base64.
const A_SECRET: &str = "KQY1TrLsywrPWEg65VcCn8Ww8F4/G3Z6kGc2wxsCjaQ=\n";

/// `tidings config check` on a configuration of `deploy/`, its secrets in a folder of the test's.
async fn check(configuration: &str, secrets: &[&str]) -> Result<(Option<i32>, String)> {
    let folder = TempDir::new()?;
    for name in secrets {
        std::fs::write(folder.path().join(name), A_SECRET)?;
    }
    let here = format!("{}/", folder.path().display());
    let configuration = configuration
        .replace("/run/secrets/tidings/", &here)
        .replace("/run/secrets/", &here)
        .replace("/run/credentials/tidings.service/", &here);
    let file = folder.path().join("tidings.toml");
    std::fs::write(&file, configuration)?;
    let output = Command::new(binary()?)
        .args(["config", "check", "--config"])
        .arg(&file)
        .current_dir(folder.path())
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), said))
}

#[tokio::test]
async fn the_configurations_are_good_and_a_missing_secret_is_named() -> Result<()> {
    let secrets = ["publisher_key", "reader_key", "redis_password"];
    // The unit's stands in the manual.
    let manual = text("../docs/deploying.md")?;
    let mut shown = blocks(&manual);
    shown.retain(|(language, _)| *language == "toml");
    let [(_, of_the_unit), (_, dialects)] = shown[..] else {
        anyhow::bail!("the unit's, and the dialects' tables");
    };
    let configurations = [
        text("compose/tidings.toml")?,
        text("kubernetes/tidings.toml")?,
        of_the_unit.to_owned(),
    ];
    for configuration in configurations {
        let (code, said) = check(&configuration, &secrets).await?;
        ensure!(code == Some(0), "{configuration}: {said}");
        for missing in secrets {
            let others: Vec<_> = secrets
                .into_iter()
                .filter(|name| *name != missing)
                .collect();
            let (code, said) = check(&configuration, &others).await?;
            ensure!(
                code == Some(2) && said.contains(missing),
                "without {missing}: {code:?} {said}"
            );
        }
    }
    let of_dialects = [
        "airsend_secret",
        "airsend_ingest_key",
        "burokratt_backend_key",
        "cardsavr_key",
    ];
    let (code, said) = check(dialects, &of_dialects).await?;
    ensure!(code == Some(0), "{dialects}: {said}");
    let unit = text("systemd/tidings.service")?;
    for name in secrets {
        let line = format!("LoadCredential={name}:");
        ensure!(unit.contains(&line), "the unit lacks {line}");
    }
    Ok(())
}
