//! Stories of single jobs, each told by what the user gives and what is then seen.

use super::*;

const SEED: Patience = Patience {
    logins: 2,
    codes: 1,
};

fn login(username: &str, password: &str) -> Login {
    Login {
        username: username.to_owned(),
        password: password.to_owned(),
    }
}

/// Everything that is said and asked until the job ends or waits for more than there is.
fn story(
    first: Option<Login>,
    mut answers: Vec<(Value, Option<Value>)>,
    patience: Patience,
) -> Vec<String> {
    let (mut run, mut seen) = (Run::default(), Vec::new());
    let mut known = Known {
        login: first,
        ..Known::default()
    };
    loop {
        let (step, then) = next(run, &known, patience);
        run = then;
        known.answer = None;
        match step {
            Step::Say(status) => {
                let end = status
                    .termination_type
                    .map_or(String::new(), |end| format!("={end}"));
                seen.push(format!("{}{end}", status.status));
            }
            Step::Ask(request, status) => seen.push(format!("{}?{}", status.status, request.kind)),
            Step::Wait if answers.is_empty() => {
                seen.push("…".to_owned());
                return seen;
            }
            Step::Wait => known.answer = Some(answers.remove(0)),
            Step::Leave => return seen,
        }
    }
}

#[test]
fn what_the_site_does() {
    const BEGIN: &str = "QUEUED IN_PROGRESS AUTH";
    const DONE: &str = "UPDATING SUCCESSFUL=BILLABLE";
    let text = |text: &str| (json!(text), None);
    let link = |link: Value| (json!("submitted"), Some(link));
    let right = || link(json!({"username": "good_email", "password": "good_password"}));
    let wrong = || link(json!({"username": "bad_email", "password": "x"}));
    let table: Vec<(Option<Login>, Vec<_>, String)> = vec![
        (
            Some(login("good_email", "good_password")),
            vec![],
            format!("{BEGIN} LOGIN_SUBMITTED {DONE}"),
        ),
        (
            Some(login("good_email", "tfa")),
            vec![text("1234")],
            format!(
                "{BEGIN} LOGIN_SUBMITTED PENDING_TFA?tfa_request TFA_RECEIVED TFA_SUBMITTED {DONE}"
            ),
        ),
        (
            Some(login("good_email", "tfa")),
            vec![link(json!({"tfa": "1234"}))],
            format!(
                "{BEGIN} LOGIN_SUBMITTED PENDING_TFA?tfa_request TFA_RECEIVED TFA_SUBMITTED {DONE}"
            ),
        ),
        (
            Some(login("good_email", "tfa")),
            vec![text("4321")],
            format!(
                "{BEGIN} LOGIN_SUBMITTED PENDING_TFA?tfa_request TFA_RECEIVED TFA_SUBMITTED \
                 TOO_MANY_TFA_FAILURES=USER_DATA_FAILURE"
            ),
        ),
        (
            Some(login("good_email", "security")),
            vec![link(json!({"security_1": "Max", "security_2": "Smith"}))],
            format!(
                "{BEGIN} LOGIN_SUBMITTED PENDING_TFA?security TFA_RECEIVED TFA_SUBMITTED {DONE}"
            ),
        ),
        (
            Some(login("good_email", "security")),
            vec![text(r#"{"security_1":"Max","security_2":"Smith"}"#)],
            format!(
                "{BEGIN} LOGIN_SUBMITTED PENDING_TFA?security TFA_RECEIVED TFA_SUBMITTED {DONE}"
            ),
        ),
        (
            Some(login("good_email", "security")),
            vec![link(json!({"security_1": "Max", "security_2": "Jones"}))],
            format!(
                "{BEGIN} LOGIN_SUBMITTED PENDING_TFA?security TFA_RECEIVED TFA_SUBMITTED \
                 TOO_MANY_TFA_FAILURES=USER_DATA_FAILURE"
            ),
        ),
        (
            Some(login("bad_email", "good_password")),
            vec![right()],
            format!(
                "{BEGIN} LOGIN_SUBMITTED PENDING_NEWCREDS?credential_request NEWCREDS_RECEIVED \
                 LOGIN_RESUBMITTED {DONE}"
            ),
        ),
        (
            Some(login("good_email", "nonsense")),
            vec![wrong()],
            format!(
                "{BEGIN} LOGIN_SUBMITTED PENDING_NEWCREDS?credential_request NEWCREDS_RECEIVED \
                 LOGIN_RESUBMITTED TOO_MANY_LOGIN_FAILURES=USER_DATA_FAILURE"
            ),
        ),
        (
            Some(login("bad_email", "x")),
            // As the seed documents answer: the login itself is in the safe.
            vec![text("submitted")],
            format!(
                "{BEGIN} LOGIN_SUBMITTED PENDING_NEWCREDS?credential_request NEWCREDS_RECEIVED \
                 LOGIN_RESUBMITTED TOO_MANY_LOGIN_FAILURES=USER_DATA_FAILURE"
            ),
        ),
        (
            None,
            vec![right()],
            format!(
                "{BEGIN} PENDING_CREDS?initial_account_link CREDS_RECEIVED LOGIN_SUBMITTED {DONE}"
            ),
        ),
        (
            None,
            vec![],
            format!("{BEGIN} PENDING_CREDS?initial_account_link …"),
        ),
        (
            Some(login("good_email", "tfa")),
            vec![],
            format!("{BEGIN} LOGIN_SUBMITTED PENDING_TFA?tfa_request …"),
        ),
    ];
    for (first, answers, expected) in table {
        let named = format!("{first:?} {answers:?}");
        assert_eq!(story(first, answers, SEED).join(" "), expected, "{named}");
    }
}

#[test]
fn patience_is_how_often_somebody_may_be_wrong() {
    let patient = Patience {
        logins: 3,
        codes: 2,
    };
    let link = |link: Value| (json!("submitted"), Some(link));
    let answers = vec![
        link(json!({"username": "bad_email", "password": "x"})),
        link(json!({"username": "good_email", "password": "tfa"})),
        (json!("0000"), None),
        (json!("1234"), None),
    ];
    let seen = story(Some(login("bad_email", "x")), answers, patient);
    assert_eq!(seen.last().map(String::as_str), Some("SUCCESSFUL=BILLABLE"));
    let asked = seen.iter().filter(|one| one.contains('?'));
    assert_eq!(asked.count(), 4, "{seen:?}");
}

#[test]
fn whoever_wants_it_to_end_is_heard_anywhere() {
    let cancelled = Known {
        cancelled: true,
        ..Known::default()
    };
    let stages = [
        Stage::Requested,
        Stage::AwaitsAnswer(Question::Code),
        Stage::Updating,
    ];
    for stage in stages {
        let run = Run {
            stage,
            ..Run::default()
        };
        let (step, run) = next(run, &cancelled, SEED);
        let Step::Say(status) = step else {
            panic!("{step:?}")
        };
        assert_eq!(status.status, "CANCELLED");
        assert_eq!(next(run, &cancelled, SEED).0, Step::Leave);
    }
}
