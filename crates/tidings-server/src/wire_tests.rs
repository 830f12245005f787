//! Tables for the fields of an event: what becomes a draft, and which problem everything else is.

use proptest::prelude::*;

use super::*;

fn draft(json: &str) -> Result<Draft, Problem> {
    Fields::from_json(json.as_bytes())?.into_draft(Form::Native)
}

#[test]
fn an_event_becomes_a_draft() {
    let draft = draft(
        r#" {"specversion":"1.0","topic":"demo/a","type":"greeting","id":"7","source":"/s",
             "subject":"x","time":"2024-11-21T04:05:06.7+01:00","datacontenttype":"application/x+json; charset=utf-8",
             "dataschema":"urn:s","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
             "tracestate":"a=b","data":{"a" : [1.0,1e2],"a":"\u00e4"}} "#,
    )
    .expect("a good event");
    assert_eq!(draft.topic.as_str(), "demo/a");
    assert_eq!(&*draft.kind, "greeting");
    assert_eq!(&draft.data[..], br#"{"a" : [1.0,1e2],"a":"\u00e4"}"#);
    let dedup = draft.dedup.expect("an id makes a key");
    assert_eq!((&*dedup.scope, &*dedup.key), ("demo/a\n/s", "7"));
    let attributes = draft.attributes.expect("there are some");
    assert_eq!(attributes.publisher_id.as_deref(), Some("7"));
    assert_eq!(attributes.source.as_deref(), Some("/s"));
    assert_eq!(
        attributes.time.as_deref(),
        Some("2024-11-21T04:05:06.7+01:00")
    );
    assert_eq!(attributes.trace_state.as_deref(), Some("a=b"));
}

#[test]
fn the_least_event_costs_nothing() {
    let draft = draft(r#"{"topic":"a","type":"t","id":null}"#).expect("a good event");
    assert_eq!(&draft.data[..], b"null");
    assert_eq!((draft.attributes, draft.dedup), (None, None));
}

#[test]
fn data_is_kept_byte_for_byte() {
    for data in [
        "1",
        "1.000",
        "-0",
        "1e400",
        "\"\\u0041\\ud800\"",
        "\"\u{2028}\"",
        "{\n  \"b\": 1,\r\n  \"a\": 2\n}",
        "[]",
        "true",
        "null",
        r#"{"x":"}]\"{["}"#,
    ] {
        let text = format!(r#"{{"topic":"a","type":"t","data":  {data}  }}"#);
        let draft = draft(&text).expect("a good event");
        assert_eq!(draft.data, data.as_bytes(), "{data}");
    }
}

#[test]
fn each_mistake_has_its_cause_and_names_its_field() {
    let long = "x".repeat(1025);
    let table: &[(&str, Cause, Option<&str>)] = &[
        ("", Cause::MalformedJson, None),
        ("{", Cause::MalformedJson, None),
        (r#"{"topic":"a","type":"t"} x"#, Cause::MalformedJson, None),
        (
            r#"{"topic":"a","type":"t","data":{,}}"#,
            Cause::MalformedJson,
            None,
        ),
        (
            r#"{"colour":"red","type":"t","data":{,}}"#,
            Cause::MalformedJson,
            None,
        ),
        (
            "{\"topic\":\"a\",\"type\":\"t\",\"data\":\"\n\"}",
            Cause::MalformedJson,
            None,
        ),
        ("7", Cause::InvalidBody, None),
        (r#""text""#, Cause::InvalidBody, None),
        ("[]", Cause::InvalidBody, None),
        (r#"{"type":"t"}"#, Cause::MissingField, Some("topic")),
        (
            r#"{"topic":null,"type":"t"}"#,
            Cause::MissingField,
            Some("topic"),
        ),
        (r#"{"topic":"a"}"#, Cause::MissingField, Some("type")),
        (
            r#"{"topic":"a","type":""}"#,
            Cause::InvalidField,
            Some("type"),
        ),
        (
            r#"{"topic":"a","type":"a\nb"}"#,
            Cause::InvalidField,
            Some("type"),
        ),
        (
            r#"{"topic":"a","type":5}"#,
            Cause::InvalidField,
            Some("type"),
        ),
        (
            r#"{"topic":"a","type":"t","type":"t"}"#,
            Cause::InvalidField,
            Some("type"),
        ),
        (
            r#"{"topic":"a","type":"t","data":1,"data":1}"#,
            Cause::InvalidField,
            Some("data"),
        ),
        (
            r#"{"topic":"a b","type":"t"}"#,
            Cause::InvalidTopic,
            Some("topic"),
        ),
        (
            r#"{"topic":"a//b","type":"t"}"#,
            Cause::InvalidTopic,
            Some("topic"),
        ),
        (
            r#"{"topic":"a","type":"t","colour":1}"#,
            Cause::UnknownField,
            Some("colour"),
        ),
        (
            r#"{"topic":"a","type":"t","Type":"t"}"#,
            Cause::UnknownField,
            Some("Type"),
        ),
        (
            r#"{"topic":"a","type":"t","data_base64":"AA=="}"#,
            Cause::UnknownField,
            Some("data_base64"),
        ),
        (
            r#"{"topic":"a","type":"t","specversion":"0.3"}"#,
            Cause::InvalidField,
            Some("specversion"),
        ),
        (
            r#"{"topic":"a","type":"t","time":"yesterday"}"#,
            Cause::InvalidField,
            Some("time"),
        ),
        (
            r#"{"topic":"a","type":"t","time":"2024-11-21 04:05"}"#,
            Cause::InvalidField,
            Some("time"),
        ),
        (
            r#"{"topic":"a","type":"t","datacontenttype":"text/plain"}"#,
            Cause::InvalidField,
            Some("datacontenttype"),
        ),
        (
            r#"{"topic":"a","type":"t","traceparent":"00-0-0-01"}"#,
            Cause::InvalidField,
            Some("traceparent"),
        ),
        (
            r#"{"topic":"a","type":"t","id":""}"#,
            Cause::InvalidField,
            Some("id"),
        ),
        (
            r#"{"topic":"a","type":"t","source":"\u0007"}"#,
            Cause::InvalidField,
            Some("source"),
        ),
    ];
    for (text, cause, field) in table {
        let problem = draft(text).expect_err(text);
        assert_eq!(problem.cause, *cause, "{text}: {}", problem.detail);
        assert_eq!(
            problem.more.get("field").and_then(|f| f.as_str()),
            *field,
            "{text}"
        );
    }
    for name in [
        "id",
        "source",
        "subject",
        "time",
        "traceparent",
        "dataschema",
    ] {
        let text = format!(r#"{{"topic":"a","type":"t","{name}":"{long}"}}"#);
        let problem = draft(&text).expect_err(name);
        assert_eq!(problem.cause, Cause::TooLarge, "{name}: {}", problem.detail);
        assert_eq!(problem.more["field"], name);
    }
}

#[test]
fn invalid_utf8_is_malformed() {
    let problem = Fields::from_json(b"{\"topic\":\"a\",\"type\":\"t\",\"data\":\"\xff\"}");
    assert_eq!(problem.expect_err("not UTF-8").cause, Cause::MalformedJson);
}

#[test]
fn data_nests_only_so_deep() {
    let nested = |n: usize| {
        let text = format!(
            r#"{{"topic":"a","type":"t","data":{}"{{[\\\""{}}}"#,
            "[".repeat(n),
            "]".repeat(n)
        );
        draft(&text)
    };
    assert!(nested(DATA_DEPTH_MAX).is_ok());
    let problem = nested(DATA_DEPTH_MAX + 1).expect_err("too deep");
    assert_eq!(problem.cause, Cause::MalformedJson);
    assert!(nested(200_000).is_err(), "no stack is used up");
}

#[test]
fn cloud_events_must_be_whole() {
    let whole = [
        ("specversion", "1.0"),
        ("id", "1"),
        ("source", "/s"),
        ("type", "t"),
        ("topic", "a"),
    ];
    for absent in 0..=whole.len() {
        let mut fields = Fields::default();
        for (at, (name, value)) in whole.iter().enumerate() {
            if at != absent {
                fields.set(name, Cow::Borrowed(*value)).expect("known");
            }
        }
        let result = fields.into_draft(Form::CloudEvents);
        match whole.get(absent) {
            None => assert!(result.is_ok()),
            Some((name, _)) => {
                let problem = result.expect_err(name);
                assert_eq!(problem.cause, Cause::MissingField, "{name}");
                assert_eq!(problem.more["field"], *name);
            }
        }
    }
}

#[test]
fn json_types_are_told_apart() {
    for good in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/vnd.x+json;v=1",
        "text/json;charset=\"utf-8\"",
    ] {
        assert!(is_json_type(good), "{good}");
    }
    for bad in [
        "",
        "json",
        "/json",
        "text/plain",
        "application/json; charset=latin1",
        "application/jsonx",
    ] {
        assert!(!is_json_type(bad), "{bad}");
    }
}

/// Something like an event, so that random texts get past the first byte.
fn nearly_an_event() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        proptest::sample::select(&NAMES[..]).prop_map(str::to_owned),
        Just("data".to_owned()),
        ".{0,8}",
    ];
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("1".to_owned()),
        Just("{\"a\":[]}".to_owned()),
        Just("\"1.0\"".to_owned()),
        Just("\"demo/a\"".to_owned()),
        ".{0,12}".prop_map(|text| format!("{text:?}")),
        ".{0,12}",
    ];
    let member = (name, value).prop_map(|(name, value)| format!("{name:?}:{value}"));
    proptest::collection::vec(member, 0..8).prop_map(|members| format!("{{{}}}", members.join(",")))
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = Fields::from_json(&bytes).and_then(|fields| fields.into_draft(Form::Native));
    }

    #[test]
    fn what_is_taken_comes_back(text in nearly_an_event()) {
        let Ok(draft) = draft(&text) else { return Ok(()) };
        prop_assert_eq!(draft.check(), Ok(()));
        prop_assert!(text.as_bytes().windows(draft.data.len()).any(|w| w == draft.data) || draft.data == "null");
        let event = tidings_core::Event {
            id: tidings_core::EventId::ORIGIN,
            prev: tidings_core::Prev::Unknown,
            topic: draft.topic,
            kind: draft.kind,
            data: draft.data,
            attributes: draft.attributes,
        };
        // Printed, it is JSON whose data is what was sent, in one block of an event stream.
        let printed = (crate::print::EVENT_JSON.print)(&event);
        let value: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&printed).expect("JSON");
        let data: serde_json::Value = serde_json::from_slice(&event.data).expect("JSON");
        prop_assert_eq!(&value["data"], &data);
        let block = (crate::print::EVENT_SSE.print)(&event);
        let received = crate::cli::sse::Parser::default().push(&block);
        prop_assert_eq!(received.len(), 1);
    }
}
