//! Strivve's synthetic site: what its virtual browser does next with a job, as far as it is known so far.
//!
//! A pure function over a small state, so that a table says what the site does; sockets, waiting and
//! the hub's words are [`super::simulate`]'s.

use serde::Serialize;
use serde_json::{Value, json};

/// The user whom the site knows.
const USERNAME: &str = "good_email";
/// Its passwords: one that opens everything, one behind a code, one behind questions.
const PASSWORD: &str = "good_password";
const PASSWORD_WITH_CODE: &str = "tfa";
const PASSWORD_WITH_QUESTIONS: &str = "security";
/// The code, and the answers to the questions.
const CODE: &str = "1234";
const ANSWERS: [(&str, &str); 2] = [("security_1", "Max"), ("security_2", "Smith")];

/// How often somebody may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    /// The failed login that ends a job.
    pub(super) logins: u32,
    /// The wrong code or answers that end it.
    pub(super) codes: u32,
}

/// What somebody logs in with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    /// Who.
    pub(super) username: String,
    /// The password.
    pub(super) password: String,
}

/// How far a job has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody has looked at it.
    Requested,
    /// It has its turn.
    Queued,
    /// The site is open.
    Started,
    /// The form is there, and wants a login.
    Form,
    /// The login that was missing was asked for.
    AwaitsLogin,
    /// It is there.
    HasLogin(Login),
    /// The form was sent.
    Submitted(Login),
    /// Another login was asked for.
    AwaitsAnother,
    /// It is there.
    HasAnother(Login),
    /// The site asks something, and so was the user.
    AwaitsAnswer(Question),
    /// The answer is there.
    HasAnswer(Question, Value),
    /// It was sent.
    Answered(Question, Value),
    /// The card is being placed.
    Updating,
    /// Nothing is left to do.
    Ended,
}

/// What the site may ask behind a right login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// A code.
    Code,
    /// Two questions.
    Security,
}

/// A job's run, as far as it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// How far.
    pub(super) stage: Stage,
    /// Failed logins.
    pub(super) failed_logins: u32,
    /// Wrong codes and answers.
    pub(super) failed_codes: u32,
}

impl Run {
    /// Whether somebody was asked.
    pub(super) fn awaits(&self) -> bool {
        matches!(
            self.stage,
            Stage::AwaitsLogin | Stage::AwaitsAnother | Stage::AwaitsAnswer(_)
        )
    }
}

impl Default for Run {
    fn default() -> Self {
        Self {
            stage: Stage::Requested,
            failed_logins: 0,
            failed_codes: 0,
        }
    }
}

/// What is known when a step is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The login in the job's safe.
    pub(super) login: Option<Login>,
    /// What was answered to the request that stands: its `message`, and its `account_link` if it
    /// has one.
    pub(super) answer: Option<(Value, Option<Value>)>,
    /// Whether the client wants the job to end.
    pub(super) cancelled: bool,
}

/// What the virtual browser does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Says where it is.
    Say(Status),
    /// Asks the user, then says that it waits for the answer: a client that hears of the status
    /// looks for the request at once.
    Ask(Request, Status),
    /// Waits: nothing has been answered.
    Wait,
    /// Leaves the job.
    Leave,
}

/// A status of a job, as `PUT /place_card_on_single_site_jobs/:id` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Status {
    /// Its name.
    pub(super) status: &'static str,
    /// For people.
    pub(super) status_message: &'static str,
    /// How much is done.
    pub(super) percent_complete: u8,
    /// How much of the login is done.
    pub(super) auth_percent_complete: u8,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) termination_type: Option<&'static str>,
}

/// A request, as `POST …/credential_requests` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Request {
    /// Its type.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// For people.
    pub(super) message: &'static str,
    /// What is asked for.
    pub(super) account_link: Value,
}

fn said(
    status: &'static str,
    percent: u8,
    auth_percent: u8,
    status_message: &'static str,
) -> Status {
    Status {
        status,
        status_message,
        percent_complete: percent,
        auth_percent_complete: auth_percent,
        termination_type: None,
    }
}

fn ended(status: &'static str, termination_type: &'static str, message: &'static str) -> Status {
    Status {
        termination_type: Some(termination_type),
        ..said(status, 100, 100, message)
    }
}

fn field(key_name: &str, label: &str, secret: bool) -> Value {
    json!({"key_name": key_name, "label": label, "secret": secret})
}

fn login_fields() -> Value {
    json!([
        field("username", "Username", false),
        field("password", "Password", true)
    ])
}

/// What is done next, and how far the job is then.
pub(super) fn next(run: Run, known: &Known, patience: Patience) -> (Step, Run) {
    let Run {
        stage,
        failed_logins,
        failed_codes,
    } = run;
    let at = |step, stage| {
        let run = Run {
            stage,
            failed_logins,
            failed_codes,
        };
        (step, run)
    };
    let say = |status, stage| at(Step::Say(status), stage);
    if known.cancelled && stage != Stage::Ended {
        let status = ended("CANCELLED", "NEVER_STARTED", "Cancelled by the client.");
        return say(status, Stage::Ended);
    }
    match stage {
        Stage::Requested => say(said("QUEUED", 1, 0, "Waiting for its turn."), Stage::Queued),
        Stage::Queued => say(
            said("IN_PROGRESS", 5, 0, "Opening the site."),
            Stage::Started,
        ),
        Stage::Started => say(said("AUTH", 10, 10, "Logging in."), Stage::Form),
        Stage::Form => match &known.login {
            Some(login) => submitted("LOGIN_SUBMITTED", login.clone(), &say),
            None => {
                let request = Request {
                    kind: "initial_account_link",
                    message: "Please enter your login.",
                    account_link: login_fields(),
                };
                let status = said("PENDING_CREDS", 10, 10, "Waiting for your login.");
                at(Step::Ask(request, status), Stage::AwaitsLogin)
            }
        },
        Stage::AwaitsLogin => match new_login(known) {
            Some(login) => say(
                said("CREDS_RECEIVED", 15, 15, "Your login has arrived."),
                Stage::HasLogin(login),
            ),
            None => at(Step::Wait, Stage::AwaitsLogin),
        },
        Stage::HasLogin(login) => submitted("LOGIN_SUBMITTED", login, &say),
        Stage::Submitted(login) => {
            let question = match (login.username.as_str(), login.password.as_str()) {
                (USERNAME, PASSWORD) => None,
                (USERNAME, PASSWORD_WITH_CODE) => Some(Question::Code),
                (USERNAME, PASSWORD_WITH_QUESTIONS) => Some(Question::Security),
                _ => {
                    let run = Run {
                        stage: Stage::AwaitsAnother,
                        failed_logins: failed_logins + 1,
                        failed_codes,
                    };
                    return login_failed(run, patience);
                }
            };
            match question {
                None => say(updating(), Stage::Updating),
                Some(question) => at(asked(question), Stage::AwaitsAnswer(question)),
            }
        }
        Stage::AwaitsAnother => match new_login(known) {
            Some(login) => say(
                said("NEWCREDS_RECEIVED", 35, 35, "Your login has arrived."),
                Stage::HasAnother(login),
            ),
            None => at(Step::Wait, Stage::AwaitsAnother),
        },
        Stage::HasAnother(login) => submitted("LOGIN_RESUBMITTED", login, &say),
        Stage::AwaitsAnswer(question) => match &known.answer {
            Some((message, link)) => say(
                said("TFA_RECEIVED", 45, 70, "Your answer has arrived."),
                Stage::HasAnswer(question, link.clone().unwrap_or_else(|| message.clone())),
            ),
            None => at(Step::Wait, Stage::AwaitsAnswer(question)),
        },
        Stage::HasAnswer(question, answer) => say(
            said("TFA_SUBMITTED", 50, 80, "Your answer was entered."),
            Stage::Answered(question, answer),
        ),
        Stage::Answered(question, answer) if is_right(question, &answer) => {
            say(updating(), Stage::Updating)
        }
        Stage::Answered(question, _) => {
            let run = Run {
                stage: Stage::AwaitsAnswer(question),
                failed_logins,
                failed_codes: failed_codes + 1,
            };
            if run.failed_codes < patience.codes {
                return (asked(question), run);
            }
            let status = ended(
                "TOO_MANY_TFA_FAILURES",
                "USER_DATA_FAILURE",
                "The site did not accept what was answered.",
            );
            let stage = Stage::Ended;
            (Step::Say(status), Run { stage, ..run })
        }
        Stage::Updating => {
            let message = "Your card has been placed successfully.";
            say(ended("SUCCESSFUL", "BILLABLE", message), Stage::Ended)
        }
        Stage::Ended => at(Step::Leave, Stage::Ended),
    }
}

/// The login that came with an answer: new credentials go into the safe, the answer only says so.
fn new_login(known: &Known) -> Option<Login> {
    let (_, link) = known.answer.as_ref()?;
    let of = |name: &str| link.as_ref()?.get(name)?.as_str().map(str::to_owned);
    match (of("username"), of("password")) {
        (Some(username), Some(password)) => Some(Login { username, password }),
        _ => Some(known.login.clone().unwrap_or_default()),
    }
}

fn submitted(
    status: &'static str,
    login: Login,
    say: &impl Fn(Status, Stage) -> (Step, Run),
) -> (Step, Run) {
    say(
        said(status, 30, 40, "The login was sent."),
        Stage::Submitted(login),
    )
}

fn updating() -> Status {
    said(
        "UPDATING",
        80,
        100,
        "Updating your payment method. No further action required.",
    )
}

fn login_failed(run: Run, patience: Patience) -> (Step, Run) {
    if run.failed_logins >= patience.logins {
        let status = ended(
            "TOO_MANY_LOGIN_FAILURES",
            "USER_DATA_FAILURE",
            "The site did not accept the login.",
        );
        let stage = Stage::Ended;
        return (Step::Say(status), Run { stage, ..run });
    }
    let request = Request {
        kind: "credential_request",
        message: "There was a problem with login credentials, please re-submit.",
        account_link: login_fields(),
    };
    let status = said("PENDING_NEWCREDS", 31, 35, "The login was not accepted.");
    (Step::Ask(request, status), run)
}

fn asked(question: Question) -> Step {
    let request = match question {
        Question::Code => Request {
            kind: "tfa_request",
            message: "Please enter the code.",
            account_link: json!([field(
                "tfa",
                "Please enter the code sent to your device",
                false
            )]),
        },
        Question::Security => Request {
            kind: "security",
            message: "Please answer the security questions.",
            account_link: json!([
                field("security_1", "What was the name of your first pet?", true),
                field("security_2", "What is your mother's maiden name?", true),
            ]),
        },
    };
    Step::Ask(request, said("PENDING_TFA", 40, 60, "Waiting for you."))
}

/// The code is a text, or stands in an object; answers come in an object, or as its JSON.
fn is_right(question: Question, answer: &Value) -> bool {
    let parsed = answer
        .as_str()
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .filter(Value::is_object);
    let answer = parsed.as_ref().unwrap_or(answer);
    match question {
        Question::Code => answer.get("tfa").unwrap_or(answer) == CODE,
        Question::Security => ANSWERS
            .iter()
            .all(|(name, right)| answer.get(name).is_some_and(|given| given == right)),
    }
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;
