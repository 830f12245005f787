//! `GET /api/v1/events`: an app pulls what is retained, page by page, oldest first.
//!
//! `filter[name]` (names between commas), `filter[from]` and `filter[to]` (when it was received; ISO
//! 8601 or seconds since 1970), `filter[subject]`, and `page`. An app gets what it provides and what
//! it is subscribed to, of the subjects that it is connected to. A page needs the number of all events
//! that fit, so one request reads up to [`SCANNED_MAX`] events; if there are more, the last page's
//! `next` goes on from the time of its last event.

use std::sync::Arc;

use tidings_adapter::axum::extract::State;
use tidings_adapter::axum::response::Response;
use tidings_adapter::http::header::LINK;
use tidings_adapter::http::request::Parts;
use tidings_adapter::http::{HeaderValue, StatusCode};
use tidings_adapter::{EventId, From, PageLimit, Printed};

use crate::Shared;
use crate::answer::{Refusal, json_text};
use crate::apps::App;
use crate::event::{BASE, Subject, parse_time, print_time};

/// Zaikio's own.
const PAGE_EVENTS: usize = 100;

/// Events that one request looks at: 40 pages of the log, some 3 ms of Redis each.
const SCANNED_MAX: usize = 20_000;

#[derive(Debug, Default, PartialEq, Eq)]
struct Query {
    names: Option<Vec<String>>,
    from_ms: u64,
    to_ms: Option<u64>,
    subject: Option<Subject>,
    /// From 1 on.
    page: usize,
}

fn parse(query: &str) -> Result<Query, &'static str> {
    let mut parsed = Query {
        page: 1,
        ..Query::default()
    };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if value.is_empty() {
            continue;
        }
        match &*name {
            "filter[name]" | "filter[name][]" => {
                let names = value.split(',').map(|name| name.trim().to_owned());
                parsed.names.get_or_insert_default().extend(names);
            }
            "filter[from]" => parsed.from_ms = time(&value).ok_or("filter[from] is no time")?,
            "filter[to]" => parsed.to_ms = Some(time(&value).ok_or("filter[to] is no time")?),
            "filter[subject]" => {
                let subject = Subject::parse(&value).ok_or("filter[subject] is no subject")?;
                parsed.subject = Some(subject);
            }
            "page" | "page[number]" => {
                let page = value
                    .parse()
                    .ok()
                    .filter(|page| (1..1_000_000).contains(page));
                parsed.page = page.ok_or("page is no number from 1 on")?;
            }
            _ => {}
        }
    }
    Ok(parsed)
}

fn time(text: &str) -> Option<u64> {
    match text.parse::<u64>() {
        Ok(seconds) => seconds.checked_mul(1000),
        Err(_) => parse_time(text).map(|ms| u64::try_from(ms).unwrap_or_default()),
    }
}

pub(crate) async fn pull(State(shared): State<Arc<Shared>>, request: Parts) -> Response {
    match answer(&shared, &request).await {
        Ok(response) => response,
        Err(refusal) => refusal.response(),
    }
}

async fn answer(shared: &Shared, request: &Parts) -> Result<Response, Refusal> {
    let app = shared.settings.apps.basic(&request.headers);
    let app = app.ok_or(Refusal::Unauthorized)?;
    let text = request.uri.query().unwrap_or_default();
    let query = parse(text).map_err(Refusal::Malformed)?;
    let mut scan = Scan::default();
    for subject in subjects(shared, app, &query).await? {
        scan.read(shared, app, &query, &subject).await?;
        if scan.cut {
            break;
        }
    }
    // Of several subjects: in the order in which they were received.
    scan.found.sort_by_key(|(id, _)| *id);
    let first = (query.page - 1).saturating_mul(PAGE_EVENTS);
    let page = scan.found.iter().skip(first).take(PAGE_EVENTS);
    let bodies: Vec<String> = page
        .map(|(_, event)| String::from_utf8_lossy(&event.printed(BASE)).into_owned())
        .collect();
    let mut response = json_text(StatusCode::OK, format!("[{}]", bodies.join(",")));
    let headers = response.headers_mut();
    headers.insert("Total-Count", scan.found.len().into());
    let last = scan
        .cut
        .then(|| scan.found.last().map(|(id, _)| *id))
        .flatten();
    let path = request.uri.path();
    if let Ok(links) = HeaderValue::from_str(&links(path, text, query.page, scan.found.len(), last))
        && !links.is_empty()
    {
        headers.insert(LINK, links);
    }
    Ok(response)
}

/// Whose events are looked at.
async fn subjects(shared: &Shared, app: &App, query: &Query) -> Result<Vec<Subject>, Refusal> {
    if let Some(subject) = &query.subject {
        let good = app.is_connected(subject);
        return Ok(good.then(|| subject.clone()).into_iter().collect());
    }
    if let Some(subjects) = &app.subjects {
        return Ok(subjects.iter().cloned().collect());
    }
    let all = shared.directory.all(&shared.hub).await;
    all.map_err(|_| Refusal::Unavailable)
}

/// What a request has found so far.
#[derive(Default)]
struct Scan {
    found: Vec<(EventId, Arc<dyn Printed>)>,
    scanned: usize,
    /// There is more than one request looks at.
    cut: bool,
}

impl Scan {
    async fn read(
        &mut self,
        shared: &Shared,
        app: &App,
        query: &Query,
        subject: &Subject,
    ) -> Result<(), Refusal> {
        let topic = subject.topic();
        let mut from = match query.from_ms {
            0 => From::Oldest,
            ms => From::Since(ms),
        };
        loop {
            let page = shared.hub.read(&topic, from, PageLimit::default()).await;
            let page = page.map_err(|_| Refusal::Unavailable)?;
            for event in &page.events {
                let (id, name) = (event.event().id, &event.event().kind);
                if query.to_ms.is_some_and(|to| id.ms() > to) {
                    return Ok(());
                }
                if self.scanned >= SCANNED_MAX {
                    self.cut = true;
                    return Ok(());
                }
                self.scanned += 1;
                let mine = app.subscriptions.contains(name) || app.provides.contains(name);
                let wanted = query.names.as_ref();
                if mine && wanted.is_none_or(|names| names.iter().any(|one| **one == **name)) {
                    self.found.push((id, event.clone()));
                }
            }
            if page.at_end || page.events.is_empty() {
                return Ok(());
            }
            from = From::After(page.next);
        }
    }
}

/// RFC 8288 (which follows RFC 5988): `next`, `last`, `first`, `prev`.
fn links(path: &str, query: &str, page: usize, total: usize, cut: Option<EventId>) -> String {
    let last = total.div_ceil(PAGE_EVENTS).max(1);
    let link = |relation: &str, page: usize, from: Option<EventId>| {
        let mut text = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let replaced = name == "page" || (name == "filter[from]" && from.is_some());
            if !replaced {
                text.append_pair(&name, &value);
            }
        }
        if let Some(from) = from {
            let ms = i64::try_from(from.ms()).unwrap_or_default();
            text.append_pair("filter[from]", &print_time(ms));
        }
        text.append_pair("page", &page.to_string());
        format!("<{path}?{}>; rel=\"{relation}\"", text.finish())
    };
    let mut links = Vec::new();
    if page < last {
        links.push(link("next", page + 1, None));
    } else if let Some(id) = cut {
        links.push(link("next", 1, Some(id)));
    }
    links.push(link("last", last, None));
    links.push(link("first", 1, None));
    if page > 1 {
        links.push(link("prev", (page - 1).min(last), None));
    }
    links.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let good = parse(
            "filter%5Bname%5D=a.x,a.y&filter[from]=5&filter[to]=2023-07-23T22:04:46Z&page=3&x=y",
        );
        assert_eq!(
            good,
            Ok(Query {
                names: Some(vec!["a.x".into(), "a.y".into()]),
                from_ms: 5_000,
                to_ms: Some(1_690_149_886_000),
                subject: None,
                page: 3,
            })
        );
        for bad in [
            "page=0",
            "page=x",
            "filter[from]=x",
            "filter[to]=x",
            "filter[subject]=x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_lead_on() {
        let all = links("/e", "filter[name]=a&page=2", 2, 250, None);
        assert_eq!(
            all,
            "</e?filter%5Bname%5D=a&page=3>; rel=\"next\", </e?filter%5Bname%5D=a&page=3>; rel=\"last\", \
             </e?filter%5Bname%5D=a&page=1>; rel=\"first\", </e?filter%5Bname%5D=a&page=1>; rel=\"prev\""
        );
        let cut = links("/e", "", 1, 50, EventId::new(5, 0));
        assert!(cut.starts_with(
            "</e?filter%5Bfrom%5D=1970-01-01T00%3A00%3A00.005Z&page=1>; rel=\"next\""
        ));
        assert!(!links("/e", "", 1, 0, None).contains("next"));
    }
}
