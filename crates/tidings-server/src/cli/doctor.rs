//! `tidings doctor`: what the configured Redis can lose or cost, as a table or as JSON.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;

use serde::Serialize;
use tidings_core::LogError;
use tidings_log_memory::SystemClock;
use tidings_log_redis::doctor::{Finding, Level, examine, visit};

use super::DoctorArgs;
use super::client::ClientError;
use crate::app::AppError;
use crate::config::Config;
use crate::config::report::without_password;
use crate::log::redis_options;

/// There is something to do; nothing failed. The exit code says how bad it is.
#[derive(Debug, thiserror::Error)]
#[error("{warnings} warnings, {problems} problems")]
pub struct Diagnosis {
    warnings: usize,
    problems: usize,
}

impl Diagnosis {
    /// The exit code: beyond those that every command has.
    #[must_use]
    pub fn code(&self) -> u8 {
        if self.problems > 0 { 5 } else { 4 }
    }

    fn of(findings: &[Finding]) -> Result<(), Self> {
        let count = |level| findings.iter().filter(|one| one.level == level).count();
        let (warnings, problems) = (count(Level::Warning), count(Level::Problem));
        if warnings + problems == 0 {
            return Ok(());
        }
        Err(Self { warnings, problems })
    }
}

/// Looks at the servers, and prints what was found.
///
/// # Errors
/// [`AppError`]; of those, [`AppError::Diagnosis`] after everything was printed.
pub async fn run(args: &DoctorArgs, config: &Config) -> Result<(), AppError> {
    let Some(url) = &config.redis.url else {
        let why = "no Redis is configured: say --redis URL, or set redis.url. (Without one, events are kept in memory: for one instance only, and gone when it ends)";
        return Err(ClientError::Usage(why.to_owned()).into());
    };
    let options = redis_options(config, url);
    let facts = match visit(&options, Arc::new(SystemClock)).await {
        Ok(facts) => facts,
        Err(LogError::Unavailable(why)) => {
            let server = without_password(url.expose());
            return Err(ClientError::Unreachable { server, why }.into());
        }
        Err(error) => return Err(error.into()),
    };
    let findings = examine(&facts);
    let text = if args.json {
        json(&findings)
    } else {
        table(&findings)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(Diagnosis::of(&findings)?)
}

fn json(findings: &[Finding]) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        /// The worst.
        level: Level,
        findings: &'a [Finding],
    }

    let level = findings.iter().map(|one| one.level).max();
    let report = Report {
        level: level.unwrap_or(Level::Ok),
        findings,
    };
    // Texts and nothing else: always a document.
    let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
    text.push('\n');
    text
}

/// What is not well, with what to do; then what is, in a line for each server.
fn table(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    let (well, unwell): (Vec<_>, Vec<_>) = findings.iter().partition(|one| one.level == Level::Ok);
    for finding in unwell {
        let place = finding.node.as_deref().map(|node| format!("{node}: "));
        lines.push(format!(
            "{:<8} {:<16} {}{}",
            finding.level,
            finding.check,
            place.unwrap_or_default(),
            finding.found
        ));
        lines.push(format!("{:25} {}", "", finding.means));
        lines.push(format!("{:25} -> {}", "", finding.remedy));
        lines.push(String::new());
    }
    let mut by_node: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in well {
        let node = finding.node.as_deref().unwrap_or("");
        by_node.entry(node).or_default().push(finding);
    }
    for (node, findings) in by_node {
        for finding in findings {
            let place = if node.is_empty() {
                String::new()
            } else {
                format!("{node}: ")
            };
            lines.push(format!(
                "{:<8} {:<16} {place}{}",
                finding.level, finding.check, finding.found
            ));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(level: Level, check: &'static str) -> Finding {
        let said = |text: &str| match level {
            Level::Ok => String::new(),
            _ => text.to_owned(),
        };
        Finding {
            level,
            check,
            node: Some("a:1".to_owned()),
            found: "so it is".to_owned(),
            means: said("which is bad"),
            remedy: said("do this"),
        }
    }

    #[test]
    fn exit_codes_tell_how_bad_it_is() {
        let code = |levels: &[Level]| {
            let findings: Vec<_> = levels.iter().map(|level| finding(*level, "x")).collect();
            Diagnosis::of(&findings)
                .err()
                .map(|diagnosis| diagnosis.code())
        };
        assert_eq!(code(&[]), None);
        assert_eq!(code(&[Level::Ok, Level::Note]), None);
        assert_eq!(code(&[Level::Note, Level::Warning]), Some(4));
        assert_eq!(code(&[Level::Problem, Level::Warning]), Some(5));
    }

    #[test]
    fn the_table_says_what_to_do_first() {
        let findings = [
            finding(Level::Problem, "eviction"),
            finding(Level::Ok, "role"),
        ];
        let expected = "problem  eviction         a:1: so it is\n                          which is bad\n                          -> do this\n\nok       role             a:1: so it is\n";
        assert_eq!(table(&findings), expected);
    }
}
