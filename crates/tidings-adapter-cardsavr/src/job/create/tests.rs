//! What bodies of row 4 are taken for.

use super::*;
use serde_json::json;

use crate::options::{CardsavrOptions, Settings, UserOptions};
use crate::session::Session;

fn asked(body: Value) -> Asked {
    let mut options = CardsavrOptions::default();
    let user = UserOptions {
        id: 11,
        password_key: Some("ZyktYWyGXo3GSfuLaJtWRMEZ0I/C2oXzaCXLii7MVy0=".into()),
        ..UserOptions::default()
    };
    options.users.insert("agent1".into(), user);
    let settings = Settings::of(&options).expect("good");
    let session = Session {
        id: "s".into(),
        user: settings.users.get(11).expect("a user").clone(),
        app: "acme".into(),
        key: None,
        sealing: crate::crypto::Sealing::default(),
        grants: Vec::new(),
    };
    Asked {
        session: Arc::new(session),
        method: tidings_adapter::http::Method::POST,
        path: "/place_card_on_single_site_jobs".into(),
        id: None,
        raw_query: String::new(),
        headers: tidings_adapter::http::HeaderMap::new(),
        body,
    }
}

fn read(body: Value) -> Result<Wanted, Refused> {
    wanted(&body, &asked(Value::Null))
}

#[test]
fn the_recorded_body() {
    // Contract T2.
    let one = read(json!({
        "cardholder": {"cuid": "c1"},
        "card": {"cardholder_ref": {"cuid": "c1"}, "pan": "4111111111111111",
            "expiration_month": "12", "address": {"address1": "1 Main St"}},
        "account": {"cardholder_ref": {"cuid": "c1"}, "merchant_site_id": 1,
            "account_link": {"username": "good_email", "password": "tfa"}},
    }))
    .expect("good");
    assert_eq!(
        (
            one.job.cuid.as_deref(),
            one.job.owner,
            one.job.merchant_site
        ),
        (Some("c1"), 11, Some(1))
    );
    assert_eq!(one.secrets.account_link["password"], "tfa");
    assert_eq!(one.secrets.card["address"]["address1"], "1 Main St");
    assert_eq!((one.cardholder, one.card, one.account), (0, 0, 0));
    assert_eq!(one.job.status, "REQUESTED");
    // Nothing secret in what is not the secrets' record.
    let text = String::from_utf8(one.job.document()).expect("text");
    assert!(!text.contains("4111") && !text.contains("good_email"));
}

#[test]
fn ids_and_references() {
    let one =
        read(json!({"cardholder_id": "5", "card_id": 6, "account": {"id": 7, "username": "u"}}));
    let one = one.expect("good");
    assert_eq!((one.cardholder, one.card, one.account), (5, 6, 7));
    assert_eq!(one.secrets.account_link["username"], "u");
    let one = read(json!({"account": {"cardholder_ref": {"cuid": 12}}})).expect("good");
    assert_eq!(one.job.cuid.as_deref(), Some("12"));
    assert!(read(json!({})).expect("good").job.cuid.is_none());
}

#[test]
fn what_cannot_be_a_job() {
    for (body, property) in [
        (json!(3), ""),
        (json!({"cardholder": 3}), "cardholder"),
        (json!({"card": []}), "card"),
        (json!({"cardholder_id": -1}), "cardholder_id"),
        (json!({"account_id": {}}), "account_id"),
        (json!({"cardholder": {"cuid": {}}}), "cuid"),
        (json!({"cardholder": {"cuid": "x".repeat(257)}}), "cuid"),
        (json!({"card": {"pan": "x".repeat(17_000)}}), "card"),
        (json!({"account": {"account_link": 3}}), "account_link"),
        (json!({"custom_data": "x".repeat(9_000)}), "custom_data"),
        (json!({"credential_timeout": 0}), "credential_timeout"),
        (json!({"status": "SUCCESSFUL"}), "status"),
    ] {
        assert_eq!(
            read(body.clone()).expect_err("bad").property,
            property,
            "{body}"
        );
    }
}
