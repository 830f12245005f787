//! The published Durable Streams conformance suite referees the reads of `/v1/topics`: a shim in
//! front of the hub answers what only the protocol's write half can (see
//! `js/conformance-shim.mjs`), and `js/conformance-cases.mjs` says which cases are about reads.

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::{Result, bail, ensure};
use tidings_tests::instance::KEY;
use tidings_tests::{Client, Instance};

/// A long-poll gives up before the shortest patience in the suite, half a second, so that its cases
/// see the 204. Pages are smaller than what the suite's random sequences append, so that they are
/// read in several. The origin is the one that the suite asks for.
const CONFIG: &str = r#"
    [api]
    long_poll_timeout = "400ms"
    cors_origins = ["https://example.com"]
    [limits]
    page_bytes = "1KiB"
"#;

#[tokio::test]
async fn reads_of_a_topic_conform_to_durable_streams() -> Result<()> {
    let hub = Instance::start(&[], CONFIG).await?;
    let mut shim = Client::start("conformance-shim.mjs", &[&hub.url(""), KEY])?;
    let url = shim.wait_for("listening").await?.id;
    let mut suite = Client::start("conformance.mjs", &[&url])?;

    let (mut passed, mut failed) = (0, Vec::new());
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    loop {
        let line = suite.line().await?;
        match (line.kind.as_str(), line.event.as_str()) {
            ("case", "passed") => passed += 1,
            ("case", "skipped") => *left_out.entry(line.message).or_default() += 1,
            ("case", _) => failed.push(format!("{}: {}", line.id, line.message)),
            ("end", _) => break,
            _ => bail!("{}: {}", line.kind, line.message),
        }
    }
    let mut out = std::io::stdout();
    writeln!(out, "{} cases ran", passed + failed.len())?;
    for (reason, count) in left_out {
        writeln!(out, "{count} left out: {reason}")?;
    }
    ensure!(passed > 0, "no case ran");
    ensure!(
        failed.is_empty(),
        "{}\n{}",
        failed.join("\n"),
        hub.printed()
    );
    Ok(())
}
