//! Statuses and termination types (contract section 6): an open set, of which some are known.

/// Bytes of a status or a termination type; the longest known one has 26.
const NAME_BYTES_MAX: usize = 64;

/// A status or a termination type as it is written on the wire: upper case, with the misspellings
/// of the field put right. `None` for what is no such name.
pub(crate) fn name(text: &str) -> Option<String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(good) {
        return None;
    }
    let upper = text.to_ascii_uppercase();
    Some(match upper.as_str() {
        "CANCELED" => "CANCELLED".to_owned(),
        "CANCELED_QUICKSTART" => "CANCELLED_QUICKSTART".to_owned(),
        "CREDS_RECEVIED" => "CREDS_RECEIVED".to_owned(),
        "NEWCREDS_RECEVIED" => "NEWCREDS_RECEIVED".to_owned(),
        "TFA_CODE_RECEIVED" => "TFA_RECEIVED".to_owned(),
        _ => upper,
    })
}

/// With which type a job of this status ends; `None`: it goes on, or nobody knows the status.
pub(crate) fn termination(status: &str) -> Option<&'static str> {
    Some(match status {
        "SUCCESSFUL" => "BILLABLE",
        "UNSUCCESSFUL" | "TIMEOUT_CAPTCHA" | "NETWORK_ISSUE" => "SITE_INTERACTION_FAILURE",
        "PREPAID_ACCOUNT"
        | "INACTIVE_ACCOUNT"
        | "INVALID_CARD"
        | "INVALID_ADDRESS"
        | "PASSWORD_RESET_REQUIRED"
        | "BUNDLED_SUBSCRIPTION"
        | "FREE_ACCOUNT"
        | "ACCOUNT_LOCKED"
        | "DUPLICATE_CARD"
        | "EXPIRED_CARD"
        | "INVALID_CVV"
        | "INVALID_NETWORK"
        | "MAX_LIMIT_OF_STORED_CARDS"
        | "TIMEOUT_CREDENTIALS"
        | "TIMEOUT_TFA"
        | "TOO_MANY_LOGIN_FAILURES"
        | "TOO_MANY_TFA_FAILURES" => "USER_DATA_FAILURE",
        "PROXY_PROBE_FAILED" | "VBS_TIMEOUT" | "VBS_ERROR" => "PROCESS_FAILURE",
        "CANCELLED" | "CANCELLED_QUICKSTART" | "ABANDONED" | "ABANDONED_QUICKSTART" | "KILLED" => {
            "NEVER_STARTED"
        }
        _ => return None,
    })
}

/// The status of a job that ends with a type and without a word about its status.
pub(crate) fn of_termination(termination: &str) -> Option<&'static str> {
    Some(match termination {
        "BILLABLE" => "SUCCESSFUL",
        "SITE_INTERACTION_FAILURE" | "USER_DATA_FAILURE" => "UNSUCCESSFUL",
        "PROCESS_FAILURE" => "VBS_ERROR",
        "NEVER_STARTED" => "CANCELLED",
        _ => return None,
    })
}

/// What an agent may set (contract section 1, row 7).
pub(crate) fn is_an_agents(status: &str) -> bool {
    matches!(status, "REQUESTED" | "INITIATED" | "CANCEL_REQUESTED")
}

/// Whether a virtual browser is at work when a job has this status.
pub(crate) fn is_started(status: &str) -> bool {
    !is_an_agents(status) && status != "QUEUED"
}

/// The type of the credential request that clients look for when they see this status. `None`: they
/// look for none.
pub(crate) fn asks_for(status: &str) -> Option<&'static str> {
    if !status.starts_with("PENDING") {
        return None;
    }
    Some(match status {
        "PENDING_CREDS" => "initial_account_link",
        "PENDING_TFA" => "tfa_request",
        "PENDING_TFA_MESSAGE" => "tfa_message",
        // Clients act on the prefix: whatever else is pending must be there as well.
        _ => "credential_request",
    })
}

/// The status that announces a credential request of a type.
pub(crate) fn announcing(kind: &str) -> &'static str {
    match kind {
        "tfa_message" => "PENDING_TFA_MESSAGE",
        "initial_account_link" => "PENDING_CREDS",
        _ if is_code(kind) => "PENDING_TFA",
        _ => "PENDING_NEWCREDS",
    }
}

/// Whether a credential request of this type wants a one-time code or its like, and not credentials.
pub(crate) fn is_code(kind: &str) -> bool {
    kind.starts_with("tfa") || kind.starts_with("security")
}

/// What is said to people about a status when nobody says anything else.
pub(crate) fn phrase(status: &str) -> String {
    let known = match status {
        "REQUESTED" => "Requested.",
        "INITIATED" => "Initiated.",
        "QUEUED" => "Waiting to begin.",
        "IN_PROGRESS" => "Under way.",
        "AUTH" | "LOGIN_SUBMITTED" | "LOGIN_RESUBMITTED" | "CREDS_SUBMITTED" => {
            "Logging in to the site."
        }
        "PENDING_NEWCREDS" => "The site did not take the credentials.",
        "PENDING_CREDS" => "Credentials are needed.",
        "PENDING_TFA" => "A one-time code is needed.",
        "PENDING_TFA_MESSAGE" => "Confirm the login on another device.",
        "UPDATING" => "Updating the payment method.",
        "SUCCESSFUL" => "The card has been placed.",
        "TIMEOUT_CREDENTIALS" => "No credentials came in time.",
        "TIMEOUT_TFA" => "No one-time code came in time.",
        "TOO_MANY_LOGIN_FAILURES" => "Too many failed logins.",
        "TOO_MANY_TFA_FAILURES" => "Too many wrong one-time codes.",
        "VBS_TIMEOUT" => "The job took too long.",
        "ABANDONED" => "The job was never begun.",
        "CANCEL_REQUESTED" => "Being cancelled.",
        "CANCELLED" => "Cancelled.",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }
    let words = status.to_ascii_lowercase().replace('_', " ");
    let mut letters = words.chars();
    letters
        .next()
        .map(|first| format!("{}{}.", first.to_ascii_uppercase(), letters.as_str()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_right_and_unknown_ones_pass() {
        for (given, good) in [
            ("UPDATING", Some("UPDATING")),
            ("canceled", Some("CANCELLED")),
            ("TFA_CODE_RECEIVED", Some("TFA_RECEIVED")),
            ("CREDS_RECEVIED", Some("CREDS_RECEIVED")),
            ("SOMETHING_OF_2027", Some("SOMETHING_OF_2027")),
            ("", None),
            ("A B", None),
            ("Ä", None),
        ] {
            assert_eq!(name(given).as_deref(), good, "{given}");
        }
        assert_eq!(name(&"A".repeat(65)), None);
    }

    #[test]
    fn the_table_of_the_contract() {
        for (status, with) in [
            ("SUCCESSFUL", Some("BILLABLE")),
            ("DUPLICATE_CARD", Some("USER_DATA_FAILURE")),
            ("NETWORK_ISSUE", Some("SITE_INTERACTION_FAILURE")),
            ("VBS_ERROR", Some("PROCESS_FAILURE")),
            ("ABANDONED", Some("NEVER_STARTED")),
            ("UPDATING", None),
            ("SOMETHING_OF_2027", None),
        ] {
            assert_eq!(termination(status), with, "{status}");
        }
        for status in ["SUCCESSFUL", "UNSUCCESSFUL", "VBS_ERROR", "CANCELLED"] {
            let with = termination(status).expect("an end");
            assert_eq!(of_termination(with), Some(status));
        }
    }

    #[test]
    fn what_pending_statuses_ask_for() {
        for status in [
            "PENDING_CREDS",
            "PENDING_TFA",
            "PENDING_TFA_MESSAGE",
            "PENDING_NEWCREDS",
        ] {
            let kind = asks_for(status).expect("it asks");
            assert_eq!(announcing(kind), status);
        }
        assert_eq!(asks_for("PENDING"), Some("credential_request"));
        assert_eq!(asks_for("AUTH"), None);
        assert_eq!(announcing("security"), "PENDING_TFA");
    }

    #[test]
    fn every_status_has_words() {
        assert_eq!(phrase("SOMETHING_OF_2027"), "Something of 2027.");
        assert_eq!(phrase("REQUESTED"), "Requested.");
    }
}
