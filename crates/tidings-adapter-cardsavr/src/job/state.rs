//! A job's record, and how it is shown to clients (contract section 1.2).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::hook::Hook;
use crate::options::Timers;

/// Everything that is stored of a job but its secrets, which stand in a record of their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: u64,
    pub(crate) cardholder: u64,
    pub(crate) card: u64,
    pub(crate) account: u64,
    /// The user who created it.
    pub(crate) owner: u64,
    /// The integrator that he came through.
    pub(crate) app: String,
    pub(crate) cuid: Option<String>,
    pub(crate) card_customer_key: Option<String>,
    pub(crate) merchant_site: Option<u64>,
    pub(crate) financial_institution: Option<String>,
    pub(crate) trace: Option<Value>,
    pub(crate) custom_data: Value,
    pub(crate) status: String,
    pub(crate) status_message: String,
    pub(crate) termination_type: Option<String>,
    pub(crate) termination_status_message: Option<String>,
    pub(crate) percent: f64,
    pub(crate) auth_percent: f64,
    /// Seconds that its user has to answer, if the creator said so.
    pub(crate) credential_timeout: Option<u64>,
    /// Times are milliseconds since 1970.
    pub(crate) created: u64,
    pub(crate) updated: u64,
    pub(crate) started: Option<u64>,
    pub(crate) completed: Option<u64>,
    /// When it has taken too long.
    pub(crate) timeout: u64,
    /// Until when the time that its user is given has moved `timeout`, while he is asked.
    pub(crate) asked_until: Option<u64>,
    /// Whether there ever were credentials.
    pub(crate) had_credentials: bool,
    /// What its user is asked, oldest first.
    pub(crate) requests: Vec<Request>,
    /// Whether the virtual browser has yet to fetch an answer.
    pub(crate) answers: usize,
    pub(crate) login_failures: u32,
    /// Codes that were answered, and asked for again.
    pub(crate) tfa_failures: u32,
    pub(crate) tfa_answered: bool,
    /// Whether its end was posted to the webhook, and how far that is.
    pub(crate) notified: bool,
    pub(crate) hook: Option<Hook>,
}

/// Something that the user of a job is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) envelope: String,
    pub(crate) kind: String,
    pub(crate) message: Value,
    pub(crate) account_link: Vec<Value>,
    /// When it is too late to answer.
    pub(crate) until: u64,
}

impl Request {
    /// As clients see it.
    pub(crate) fn print(&self, job: u64) -> Value {
        json!({
            "type": self.kind,
            "job_id": job,
            "envelope_id": self.envelope,
            "message": self.message,
            "account_link": self.account_link,
        })
    }
}

/// What a job's credentials and card are: fetched by the virtual browser, gone with the job's end.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Secrets {
    pub(crate) account_link: Map<String, Value>,
    pub(crate) card: Map<String, Value>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(***)")
    }
}

/// Which parts of a job are shown beside it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hydration {
    pub(crate) requests: bool,
    pub(crate) cardholder: bool,
    pub(crate) account: bool,
    pub(crate) card: bool,
    pub(crate) address: bool,
}

impl Hydration {
    /// Names, nested ones with dots; unknown ones are ignored.
    pub(crate) fn of(names: &[String]) -> Self {
        let mut wanted = Self::default();
        for name in names {
            match name.as_str() {
                "credential_requests" => wanted.requests = true,
                "card.address" => (wanted.card, wanted.address) = (true, true),
                _ => match name.split('.').next() {
                    Some("cardholder") => wanted.cardholder = true,
                    Some("account") => wanted.account = true,
                    Some("card") => wanted.card = true,
                    _ => {}
                },
            }
        }
        wanted
    }
}

impl Job {
    pub(crate) fn parse(document: &[u8]) -> Option<Self> {
        serde_json::from_slice(document).ok()
    }

    /// One that is still kept. The record itself may live somewhat longer: it outlives the
    /// deadlines that it had.
    pub(crate) fn kept(document: &[u8], timers: &Timers, now_ms: u64) -> Option<Self> {
        let retention = ms(timers.retention.0);
        let over = |at: u64| at.saturating_add(retention) <= now_ms;
        Self::parse(document).filter(|job| !job.completed.is_some_and(over))
    }

    pub(crate) fn document(&self) -> Vec<u8> {
        super::to_json(self)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.completed.is_some()
    }

    /// What can still be answered, oldest first.
    pub(crate) fn open_requests(&self, now_ms: u64) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |one| one.until > now_ms)
    }

    /// What is left of its time, in the unit of messages.
    pub(crate) fn timeout_left(&self, timers: &Timers, now_ms: u64) -> u64 {
        let left = self.timeout.saturating_sub(now_ms);
        timers.job_timeout_unit.of_ms(left)
    }

    /// How long its user has to answer a request of a type, in milliseconds.
    pub(crate) fn patience(&self, timers: &Timers, kind: &str) -> u64 {
        match self.credential_timeout {
            Some(seconds) => seconds.saturating_mul(1000),
            None if super::status::is_code(kind) => ms(timers.tfa.0),
            None => ms(timers.credentials.0),
        }
    }

    /// The `message` of its `job_status` events (contract section 1.1).
    pub(crate) fn message(&self, timers: &Timers, now_ms: u64) -> Value {
        let mut message = json!({
            "status": self.status,
            "percent_complete": percent(self.percent),
            "auth_percent_complete": percent(self.auth_percent),
            "job_timeout": self.timeout_left(timers, now_ms),
            "status_message": self.status_message,
        });
        if let Some(termination) = &self.termination_type {
            message["termination_type"] = termination.as_str().into();
        }
        if let Some(words) = &self.termination_status_message {
            message["termination_status_message"] = words.as_str().into();
        }
        message
    }

    /// The job object (contract section 1.2). `asked` says whether the reader may see what the user
    /// is asked; `secrets` are there for the virtual browser only.
    pub(crate) fn print(
        &self,
        timers: &Timers,
        now_ms: u64,
        wanted: Hydration,
        asked: bool,
        secrets: Option<&Secrets>,
    ) -> Value {
        let time = |at: Option<u64>| at.map_or(Value::Null, |at| iso(at).into());
        let timeout = self.credential_timeout;
        let timeout = timeout.unwrap_or(timers.credentials.0.as_secs());
        let mut shown = json!({
            "id": self.id,
            "cardholder_id": self.cardholder,
            "card_id": self.card,
            "account_id": self.account,
            "type": "CARD_PLACEMENT",
            "status": self.status,
            "status_message": self.status_message,
            "termination_type": self.termination_type,
            "percent_complete": percent(self.percent),
            "auth_percent_complete": percent(self.auth_percent),
            "custom_data": self.custom_data,
            "notification_sent": self.notified,
            "time_elapsed": self.started.map_or(0, |from| {
                self.completed.unwrap_or(now_ms).saturating_sub(from)
            }),
            "credential_timeout": timeout,
            "started_on": time(self.started),
            "completed_on": time(self.completed),
            "created_on": iso(self.created),
            "last_updated_on": iso(self.updated),
        });
        if let Some(words) = &self.termination_status_message {
            shown["termination_status_message"] = words.as_str().into();
        }
        if wanted.requests {
            let open = self.open_requests(now_ms).filter(|_| asked);
            shown["credential_requests"] = open.map(|one| one.print(self.id)).collect();
        }
        if wanted.cardholder {
            shown["cardholder"] =
                json!({"id": self.cardholder, "cuid": self.cuid, "type": "ephemeral"});
        }
        if wanted.account {
            let mut account = json!({"id": self.account, "cardholder_id": self.cardholder});
            if let Some(site) = self.merchant_site {
                account["merchant_site_id"] = site.into();
            }
            if let Some(secrets) = secrets {
                account["account_link"] = secrets.account_link.clone().into();
            }
            shown["account"] = account;
        }
        if wanted.card {
            let mut card = secrets.map(|all| all.card.clone()).unwrap_or_default();
            let address = card.remove("address");
            card.insert("id".to_owned(), self.card.into());
            card.insert("cardholder_id".to_owned(), self.cardholder.into());
            card.insert("customer_key".to_owned(), json!(self.card_customer_key));
            if wanted.address {
                // Who is no virtual browser is told whose it is and nothing more.
                let nobody = || json!({"cardholder_id": self.cardholder});
                card.insert("address".to_owned(), address.unwrap_or_else(nobody));
            }
            shown["card"] = card.into();
        }
        shown
    }
}

/// A share of a hundred: an integer where it is one. JavaScript prints it so, and verifies
/// signatures over what it printed.
fn percent(share: f64) -> Value {
    if share.fract() == 0.0 {
        // It is from 0 to 100.
        (share as u64).into()
    } else {
        share.into()
    }
}

/// Milliseconds of a span.
pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A time as CardSavr prints it: ISO 8601, in milliseconds, `Z`.
pub(crate) fn iso(at_ms: u64) -> String {
    let nanos = i128::from(at_ms) * 1_000_000;
    let at = time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_are_printed_as_clients_read_them() {
        assert_eq!(iso(1_795_226_504_133), "2026-11-21T02:01:44.133Z");
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(percent(100.0).to_string(), "100");
        assert_eq!(percent(13.5).to_string(), "13.5");
    }

    #[test]
    fn only_what_was_asked_for_is_shown() {
        let names = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            Hydration::of(&names)
        };
        assert!(names(&["x", "card.pan.x", ""]).card);
        assert_eq!(names(&["unknown"]), Hydration::default());
        let job = Job {
            id: 7,
            requests: vec![Request {
                envelope: "e".into(),
                kind: "tfa_request".into(),
                message: "m".into(),
                account_link: Vec::new(),
                until: 10,
            }],
            ..Job::default()
        };
        let timers = Timers::default();
        let secrets = Secrets {
            card: json!({"pan": "4111"})
                .as_object()
                .cloned()
                .expect("an object"),
            ..Secrets::default()
        };
        let plain = job.print(&timers, 5, Hydration::default(), true, Some(&secrets));
        for name in ["credential_requests", "cardholder", "account", "card"] {
            assert!(plain.get(name).is_none(), "{name}");
        }
        let all = names(&[
            "credential_requests",
            "cardholder",
            "account",
            "card.address",
        ]);
        let shown = job.print(&timers, 5, all, true, None);
        assert_eq!(shown["credential_requests"][0]["envelope_id"], "e");
        assert!(
            shown["card"].get("pan").is_none() && shown["account"].get("account_link").is_none()
        );
        // Too late, or not his: an array all the same.
        assert_eq!(
            job.print(&timers, 10, all, true, None)["credential_requests"],
            json!([])
        );
        let other = job.print(&timers, 5, all, false, Some(&secrets));
        assert_eq!(other["credential_requests"], json!([]));
        assert_eq!(other["card"]["pan"], "4111");
    }
}
