//! The documents' examples, run as they are printed: every `sh` block of the README and the guide in
//! order, and behind it the `text` block that says what comes out (`…` stands for anything).

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tidings_testkit::servers::RedisServer;
use tidings_tests::guide::{blocks, shell};
use tidings_tests::{Instance, SOON};

/// One example: what to run, and lines that must come out in this order.
#[derive(Debug, Default)]
struct Example {
    script: String,
    expected: Vec<String>,
}

/// The `sh` blocks of a document, each with the `text` block right behind it.
fn examples(document: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut last_was_script = false;
    for (language, text) in blocks(document) {
        match (language, examples.last_mut()) {
            ("sh", _) => examples.push(Example {
                script: text.to_owned(),
                expected: Vec::new(),
            }),
            ("text", Some(example)) if last_was_script => {
                example.expected = text.lines().map(str::to_owned).collect();
            }
            _ => {}
        }
        last_was_script = language == "sh";
    }
    examples
}

/// Whether a line comes out of the output, in order; what is left of the output behind it.
fn find<'a>(output: &'a str, expected: &str) -> Option<&'a str> {
    let mut rest = output;
    for part in expected.split('…').filter(|part| !part.is_empty()) {
        let at = rest.find(part)?;
        rest = &rest[at + part.len()..];
    }
    Some(rest)
}

async fn run_document(path: &str, redis: &RedisServer) -> Result<()> {
    let url = redis.url();
    let arguments = ["--redis", url.as_str()];
    let (a, b) = (
        Instance::start_dev(&arguments).await?,
        Instance::start_dev(&arguments).await?,
    );
    let document =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path))?;
    let examples = examples(&document);
    ensure!(!examples.is_empty(), "{path} has no examples");
    for example in examples {
        let script = example
            .script
            .replace("127.0.0.1:8080", &a.address().to_string())
            .replace("127.0.0.1:8090", &b.address().to_string())
            .replace("-p 6379", &format!("-p {}", redis.port()))
            .replace("cargo run -- ", "tidings ");
        let script = with_url(&script, &a.address().to_string());
        let output = tokio::time::timeout(SOON, shell(&script)?.output())
            .await
            .with_context(|| script.clone())??;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{path}:\n{script}\n{printed}{complained}"
        );
        let mut rest = printed.as_str();
        for line in &example.expected {
            rest = find(rest, line).with_context(|| {
                format!("{path}:\n{script}\nprints\n{printed}\nwithout {line:?}")
            })?;
        }
    }
    Ok(())
}

/// Points the command line at the test's instance where the document leaves the default.
fn with_url(script: &str, address: &str) -> String {
    let add = |line: &str| match line.contains("tidings ") && !line.contains("--url") {
        true => line.replace(
            "--key dev-key",
            &format!("--url http://{address} --key dev-key"),
        ),
        false => line.to_owned(),
    };
    script.lines().map(add).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_s_examples_work_as_printed() -> Result<()> {
    run_document("README.md", &RedisServer::start().await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_guide_s_examples_work_as_printed() -> Result<()> {
    run_document("docs/guide.md", &RedisServer::start().await?).await
}
