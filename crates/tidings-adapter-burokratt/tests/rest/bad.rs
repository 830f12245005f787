//! What is refused, and what is forgiven (contract section 6, group G, and section 5).

use anyhow::Result;
use serde_json::json;
use tidings_testkit::adapter_exam::wire::Request;

use crate::client::{Hub, post, refused};

const CHAT_PATHS: [&str; 8] = [
    "/post-message",
    "/cs-post-message",
    "/end-chat",
    "/cs-end-chat",
    "/post-message-preview",
    "/login-with-tara-jwt",
    "/get-messages-by-chat-id",
    "/cs-get-new-messages",
];

/// G01, G02: an unknown chat, and none at all.
#[tokio::test(flavor = "multi_thread")]
async fn unknown_and_missing_chats() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let unknown = "8cecdc84-57fb-4f18-845e-5ca0be3d6223";
    for path in CHAT_PATHS {
        let words = refused(&hub.post(0, path, &json!({"chatId": unknown})).await?, 404)?;
        assert_eq!(words, "no such chat", "{path}");
        for body in [json!({}), json!({"chatId": null}), json!({"chatId": ""})] {
            let words = refused(&hub.post(1, path, &body).await?, 400)?;
            assert!(words.contains("required"), "{path}: {words}");
        }
        for id in [
            json!("a/b"),
            json!("../x"),
            json!("a\nb"),
            json!(["a"]),
            json!({"a": 1}),
            json!("x".repeat(200)),
        ] {
            refused(&hub.post(0, path, &json!({"chatId": id})).await?, 400)?;
        }
    }
    for path in ["/cs-claim-chat", "/cs-redirect-chat"] {
        let body = json!({"id": unknown, "customerSupportId": "x"});
        refused(&hub.post(0, path, &body).await?, 404)?;
        refused(
            &hub.post(0, path, &json!({"customerSupportId": "x"}))
                .await?,
            400,
        )?;
    }
    refused(
        &hub.post(0, "/cs-claim-chat", &json!({"id": unknown}))
            .await?,
        400,
    )?;
    refused(&hub.send(0, &Request::get("/get-chat-by-id")).await?, 400)?;
    refused(
        &hub.send(0, &Request::get("/get-chat-by-id?id=x")).await?,
        404,
    )?;
    Ok(())
}

/// G03, G08: the other spelling, in query or body; what nobody knows is ignored.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgiven() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let body =
        json!({"chatid": chat, "content": "a", "nonsense": {"x": []}, "authorRole": "end-user"});
    hub.posted(0, "/post-message?also=this", &body).await?;
    hub.posted(
        0,
        &format!("/post-message?chatId={chat}&content=b"),
        &json!({}),
    )
    .await?;
    let request = Request::post(
        format!("/ruuter/cs-post-message?chatid={chat}"),
        r#"{"content":7}"#,
    );
    assert_eq!(
        hub.send(1, &request).await?.status,
        200,
        "without a content type"
    );
    let messages = hub.messages(1, &chat).await?;
    let contents: Vec<_> = messages.iter().map(|one| one["content"].clone()).collect();
    assert_eq!(
        contents,
        [json!("hello"), json!("a"), json!("b"), json!("7")]
    );
    assert_eq!(messages[1].get("nonsense"), None);
    Ok(())
}

/// G04: broken JSON, and what is no JSON; the hub goes on.
#[tokio::test(flavor = "multi_thread")]
async fn broken_bodies() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let json = |body: &str| {
        Request::post("/post-message", body.to_owned()).header("content-type", "application/json")
    };
    for body in [
        "{".to_owned(),
        "[]".to_owned(),
        "\"x\"".to_owned(),
        "\u{feff}{}".to_owned(),
        format!(r#"{{"chatId":"{chat}","content":"a",}}"#),
        format!(r#"{{"chatId":"{chat}" "content":"a"}}"#),
        format!(r#"{{"chatId":"{chat}","content":["a"]}}"#),
        format!(r#"{{"chatId":"{chat}","id":"a b"}}"#),
        format!(r#"{{"chatId":"{chat}","event":"{}"}}"#, "e".repeat(300)),
        format!(
            r#"{{"chatId":"{chat}","authorId":"{}"}}"#,
            "e".repeat(2_000)
        ),
        "[".repeat(100_000),
    ] {
        let words = refused(&hub.send(0, &json(&body)).await?, 400)?;
        assert!(words.len() < 200, "{words}");
    }
    let mut bytes = json("");
    bytes.body = vec![b'{', 0xff, 0xfe].into();
    refused(&hub.send(0, &bytes).await?, 400)?;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ] {
        let body = json!({"chatId": chat, "content": "a"}).to_string();
        let request = Request::post("/post-message", body).header("content-type", kind);
        refused(&hub.send(0, &request).await?, 415)?;
    }
    assert_eq!(hub.messages(1, &chat).await?.len(), 1);
    assert!(hub.cluster.instance(0).panics().is_empty());
    Ok(())
}

/// Bodies of 1 MiB are taken as far as a message fits; larger ones are refused.
#[tokio::test(flavor = "multi_thread")]
async fn large_bodies() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    let of = |bytes: usize| json!({"chatId": chat, "content": "a".repeat(bytes)});
    hub.posted(0, "/post-message", &of(1024 * 1024 - 1_000))
        .await?;
    refused(
        &hub.post(0, "/post-message", &of(1024 * 1024 + 1_000))
            .await?,
        413,
    )?;
    refused(
        &hub.post(0, "/post-message", &of(2 * 1024 * 1024 + 1))
            .await?,
        413,
    )?;
    let padded = json!({"chatId": chat, "content": "b", "ignored": "x".repeat(1_500_000)});
    hub.posted(0, "/post-message", &padded).await?;
    let messages = hub.messages(1, &chat).await?;
    assert_eq!(messages.len(), 3);
    let active = hub.got(1, "/cs-get-all-active-chats").await?;
    assert!(active.to_string().len() < 10_000, "a list holds beginnings");
    Ok(())
}

/// G05: nothing more happens in a chat that has ended.
#[tokio::test(flavor = "multi_thread")]
async fn ended_chats() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let chat = hub.chat().await?;
    hub.posted(0, "/end-chat", &json!({"chatId": chat})).await?;
    let body = json!({"chatId": chat, "id": chat, "content": "a", "customerSupportId": "x"});
    for path in [
        "/post-message",
        "/cs-post-event-message",
        "/post-message-preview",
        "/end-chat",
        "/cs-end-chat",
        "/cs-claim-chat",
        "/cs-redirect-chat",
        "/enqueue",
        "/login-with-tara-jwt",
    ] {
        let words = refused(&hub.post(1, path, &body).await?, 409)?;
        assert_eq!(words, "the chat has ended", "{path}");
    }
    Ok(())
}

/// G06: preflights; and what other pages are told.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_origins() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    let preflight = |origin: &str| {
        Request::new("OPTIONS", "/ruuter/post-message")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header(
                "access-control-request-headers",
                "cache-control,content-type",
            )
    };
    let allowed = hub.send(0, &preflight("https://chat.example")).await?;
    assert_eq!((allowed.status, allowed.text()), (204, String::new()));
    for (name, value) in [
        ("access-control-allow-origin", "https://chat.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET,POST"),
        ("access-control-max-age", "3600"),
        ("vary", "Origin"),
    ] {
        assert_eq!(allowed.header(name), value);
    }
    for name in ["content-type", "cache-control", "last-event-id"] {
        assert!(
            allowed
                .header("access-control-allow-headers")
                .contains(name)
        );
    }
    let foreign = hub.send(0, &preflight("https://evil.example")).await?;
    let none = |headers: &tidings_adapter::http::HeaderMap| {
        headers
            .keys()
            .all(|name| !name.as_str().starts_with("access-control"))
    };
    assert_eq!(foreign.status, 204);
    assert!(none(&foreign.headers));
    for (path, status) in [
        ("/cs-get-all-active-chats", 200),
        ("/get-chat-by-id?id=x", 404),
        ("/nothing", 404),
        ("/post-message", 405),
    ] {
        let request = Request::get(path).header("origin", "https://chat.example");
        let answer = hub.send(0, &request).await?;
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            "https://chat.example"
        );
        let answer = hub
            .send(0, &Request::get(path).header("origin", "null"))
            .await?;
        assert!(none(&answer.headers));
    }
    Ok(())
}

/// G07, and paths that are none.
#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_paths() -> Result<()> {
    let hub = Hub::start(json!({})).await?;
    for path in [
        "/sse/get-new-messages?chatId=x",
        "/ruuter/sse/notifications/x",
    ] {
        refused(&hub.send(0, &post(path, &json!({}))).await?, 405)?;
    }
    for path in ["/init-chat", "/ruuter/end-chat"] {
        refused(&hub.send(0, &Request::get(path)).await?, 405)?;
        refused(&hub.send(0, &Request::new("DELETE", path)).await?, 405)?;
    }
    // A path that is no text is refused in JSON, too.
    refused(
        &hub.send(0, &post("/channels/%ff/stream", &json!({})))
            .await?,
        404,
    )?;
    for path in [
        "/",
        "/ruuter",
        "/sse/init-chat",
        "/notifications/new-message",
        "/chats//x",
    ] {
        refused(&hub.send(0, &Request::get(path)).await?, 404)?;
    }
    Ok(())
}
