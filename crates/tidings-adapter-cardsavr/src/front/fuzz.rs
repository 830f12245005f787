//! The body of the fuzz target: bytes as a request: its path, headers, sealed body.

use std::sync::OnceLock;

use tidings_adapter::axum::http::Request;
use tidings_adapter::bytes::Bytes;
use tidings_adapter::http::request::Parts;
use tidings_adapter::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::reply::Seal;
use super::{admit, cors, plain_path};
use crate::answer::Answer;
use crate::client::Client;
use crate::crypto::{Key, Sealed, Sealing, authorization, envelope, targets};
use crate::options::{CardsavrOptions, Settings};
use crate::paging::Paging;
use crate::request::header;
use crate::routes::{Found, Table};

const APP: &str = "fuzz";
/// Base64 of what the target signs with; no seed is signed with it.
const KEY: &str = "a25vd24gdG8gdGhlIGZ1enogdGFyZ2V0IGFsb25lLi4=";
const NOW: u64 = 1_732_161_600_000;

/// Takes bytes as a request: path and query in the first line, headers in the next ones, a body
/// behind an empty line. Looks whether what nobody signed is refused, and whether what is signed and
/// sealed comes back as it was.
///
/// # Panics
/// When it is not so; that is what it is for.
pub fn fuzz_envelope(bytes: &[u8]) {
    let Some((mut head, body)) = request(bytes) else {
        return;
    };
    let key = key();
    note(&head);
    let window = settings();
    let sent = admit::verified(&head, &body, &key, window, NOW);
    assert!(sent.is_none(), "nobody has signed this");
    taken_apart(&body, &key);

    // The same, signed: by its target as a client decodes it, over the body as it is.
    let Ok(client) = Client::new(APP, KEY) else {
        return;
    };
    let target = head.uri.path_and_query().map_or("/", |one| one.as_str());
    let signed = client.prepare_raw(Method::POST, target, body.clone(), &[], NOW);
    let Ok(signed) = signed else { return };
    for (name, value) in &signed.headers {
        head.headers.insert(name, value.clone());
    }
    let target = target.to_owned();
    let voice = admit::verified(&head, &body, &key, window, NOW).expect("it is signed");
    let (answered, voice) = match voice.open(&Method::POST, &body) {
        Ok((clear, voice)) => (Ok(Answer::ok(clear)), voice),
        Err((voice, refused)) => (Err(refused), voice),
    };
    let said = answered.as_ref().ok().and_then(|one| one.body.clone());
    let reply = voice.reply(NOW, answered);
    let (parts, _) = reply.into_parts();
    if parts.status == StatusCode::UNAUTHORIZED {
        assert!(
            !parts.headers.contains_key("x-cardsavr-signature"),
            "in clear"
        );
        return;
    }
    // What a client makes of a reply with the same words.
    let said = said.unwrap_or_default();
    let clear = said.to_string();
    let voice = Seal {
        key,
        sealing: Sealing::Gcm,
        target: targets(&target).next().unwrap_or_default().into_owned(),
        authorization: authorization(APP),
    };
    let mut headers = tidings_adapter::http::HeaderMap::new();
    let body = voice.say(Some(&said), NOW, &mut headers).expect("sealed");
    let read = client.read(&target, StatusCode::OK, &headers, body.as_bytes());
    assert!(read.is_ok(), "{read:?}: {clear}");
    let sealed = Sealed::of_body(body.as_bytes()).expect("its form");
    let opened = sealed.open(&voice.key).expect("sealed with it");
    assert_eq!(opened, clear.as_bytes());
}

/// A request's head and body; `None` where HTTP itself would refuse it.
fn request(bytes: &[u8]) -> Option<(Parts, Bytes)> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let uri = Uri::try_from(lines.next()?).ok()?;
    let mut used = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |at| at + 1);
    let mut request = Request::builder().method(Method::POST).uri(uri);
    for line in lines {
        used += line.len() + 1;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name).ok()?;
        let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
        request = request.header(name, value);
    }
    let body = bytes.get(used..).unwrap_or_default();
    let (head, ()) = request.body(()).ok()?.into_parts();
    Some((head, Bytes::copy_from_slice(body)))
}

/// Everything that is read of a head before anybody knows who sent it.
fn note(head: &Parts) {
    static TABLE: OnceLock<Table> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let jobs = crate::job::routes()
            .into_iter()
            .chain(crate::messages::routes());
        Table::new(crate::login::routes().into_iter().chain(jobs).collect())
    });
    let path = plain_path(head.uri.path());
    if let Found::Row(_, Some(id)) = table.find(&head.method, path) {
        assert!(id < 1 << 53, "JavaScript can say it");
    }
    admit::note(&head.headers);
    let _ = cors::preflight(&head.headers);
    let paging = Paging::parse(header(&head.headers, "paging"));
    assert!(paging.page > 0 && paging.page_length > 0);
    assert!(
        HeaderValue::try_from(paging.print()).is_ok(),
        "it fits a header"
    );
}

/// What is taken apart and put together again is the same; what another key sealed does not open.
fn taken_apart(body: &[u8], key: &Key) {
    let Some(sealed) = Sealed::of_body(body) else {
        return;
    };
    let sealing = sealed.sealing;
    match sealed.open(key) {
        Ok(clear) => {
            assert_eq!(
                sealing,
                Sealing::Cbc,
                "GCM opens nothing that was not sealed"
            );
            let again = sealing.seal(key, &clear, [7; 16]).expect("sealed");
            let again = Sealed::of_body(envelope(&again).as_bytes()).expect("its form");
            assert_eq!(again.open(key), Ok(clear));
        }
        Err(opening) => assert_eq!(format!("{opening:?}"), "Opening", "one word for all"),
    }
}

fn key() -> Key {
    Key::parse(KEY).expect("32 bytes")
}

fn settings() -> &'static Settings {
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    SETTINGS.get_or_init(|| Settings::of(&CardsavrOptions::default()).expect("the default is good"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_request_panics(
            path in "/[ -~]{0,40}",
            headers in "(x-cardsavr-[a-z]{1,12}: [ -~]{0,30}\n){0,5}",
            body in "(\\PC{0,60}|\\{\"encrypted_body\":\"[A-Za-z0-9+/=$]{0,90}\"\\})",
        ) {
            fuzz_envelope(format!("{path}\n{headers}\n{body}").as_bytes());
        }
    }

    #[test]
    fn bodies_that_open() {
        for (sealing, text) in [
            (Sealing::Cbc, "{\"a\":1.0}"),
            (Sealing::Cbc, "{"),
            (Sealing::Cbc, ""),
        ] {
            let sealed = sealing
                .seal(&key(), text.as_bytes(), [1; 16])
                .expect("sealed");
            let request = format!(
                "/a?b=%20c\nx-cardsavr-paging: {{}}\n\n{}",
                envelope(&sealed)
            );
            fuzz_envelope(request.as_bytes());
        }
    }
}
