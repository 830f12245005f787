//! Query parameters of reads: each at most once (but `topic`), values checked. Names that mean
//! nothing here are left alone: clients add their own against caches, and Durable Streams §11.1 has
//! extensions come so.

use tidings_core::{EventId, From, Start, Topic};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::View;
use crate::problem::{Cause, Problem};

/// `key` and `access_token` were read with the request's rights; `cursor` collapses caches.
const SINGLE: [&str; 8] = [
    "offset",
    "live",
    "cursor",
    "view",
    "since",
    "lastEventId",
    "key",
    "access_token",
];

/// The parameters as they were sent.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    pairs: Vec<(String, String)>,
}

/// How a read of one topic goes on after what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Live {
    /// It does not.
    CatchUp,
    /// It waits for the next events and answers once.
    LongPoll,
    /// It streams.
    Stream,
}

impl Parameters {
    /// Splits a query string and checks its names.
    pub(crate) fn parse(query: Option<&str>) -> Result<Self, Problem> {
        let pairs: Vec<(String, String)> =
            form_urlencoded::parse(query.unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        for (index, (name, _)) in pairs.iter().enumerate() {
            if SINGLE.contains(&name.as_str())
                && pairs[..index].iter().any(|(earlier, _)| earlier == name)
            {
                return Err(invalid(name, "is given twice"));
            }
        }
        Ok(Self { pairs })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(one, _)| one == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every `topic`.
    pub(crate) fn topics(&self) -> Result<Vec<Topic>, Problem> {
        let named = self.pairs.iter().filter(|(name, _)| name == "topic");
        named
            .map(|(_, value)| Topic::parse(value).map_err(Problem::from))
            .collect()
    }

    /// `offset`: a place in one topic; `None` when it is not given.
    pub(crate) fn offset(&self) -> Result<Option<From>, Problem> {
        let Some(text) = self.get("offset") else {
            return Ok(None);
        };
        match text {
            "-1" => Ok(Some(From::Oldest)),
            "now" => Ok(Some(From::Newest)),
            _ => match EventId::parse(text) {
                Some(place) => Ok(Some(From::After(place))),
                None => Err(Problem::new(
                    Cause::InvalidCursor,
                    "`offset` is `-1`, `now` or what `Stream-Next-Offset` said",
                )
                .field("offset")),
            },
        }
    }

    pub(crate) fn live(&self) -> Result<Live, Problem> {
        match self.get("live") {
            None => Ok(Live::CatchUp),
            Some("long-poll") => Ok(Live::LongPoll),
            Some("sse") => Ok(Live::Stream),
            Some(_) => Err(invalid("live", "is `long-poll` or `sse`")),
        }
    }

    pub(crate) fn view(&self) -> Result<View, Problem> {
        match self.get("view") {
            None | Some("event") => Ok(View::Event),
            Some("data") => Ok(View::Data),
            Some(_) => Err(invalid("view", "is `event` or `data`")),
        }
    }

    /// The client's collapsing cursor, Durable Streams §10.1; garbage counts as none.
    pub(crate) fn collapse(&self) -> Option<u64> {
        self.get("cursor")?.parse().ok()
    }

    /// Where a plain event stream starts. The header is what `EventSource` itself sends when it
    /// reconnects, so it wins over the URL, which stays what it was.
    pub(crate) fn start(&self, last_event_id: Option<&str>) -> Result<Start, Problem> {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        if let Some(cursor) = last_event_id
            .and_then(given)
            .or_else(|| self.get("lastEventId").and_then(given))
        {
            return Ok(Start::Cursor(cursor));
        }
        if let Some(since) = self.get("since") {
            let time = OffsetDateTime::parse(since, &Rfc3339)
                .map_err(|_| invalid("since", "is a time as in RFC 3339"))?;
            let ms = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
            return Ok(Start::From(From::Since(ms)));
        }
        match self.get("offset") {
            None | Some("now") => Ok(Start::From(From::Newest)),
            Some("-1") => Ok(Start::From(From::Oldest)),
            Some(cursor) => Ok(Start::Cursor(cursor.to_owned())),
        }
    }
}

fn invalid(name: &str, what: &str) -> Problem {
    Problem::new(Cause::InvalidParameter, format!("`{name}` {what}")).field(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slug(query: &str, of: impl Fn(&Parameters) -> Result<(), Problem>) -> &'static str {
        match Parameters::parse(Some(query)).and_then(|parameters| of(&parameters)) {
            Ok(()) => "ok",
            Err(problem) => problem.cause.slug(),
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (query, expected) in [
            ("offset=-1", "ok"),
            ("offset=now", "ok"),
            ("offset=1732161600000-0007", "ok"),
            ("offset=", "invalid-cursor"),
            ("offset=0", "invalid-cursor"),
            ("offset=1,2", "invalid-cursor"),
            ("offset=1&offset=2", "invalid-parameter"),
            ("offset=-1&colour=red&colour=red", "ok"),
        ] {
            assert_eq!(
                slug(query, |parameters| parameters.offset().map(|_| ())),
                expected,
                "{query}"
            );
        }
        for (query, expected) in [
            ("live=sse", "ok"),
            ("live=long-poll", "ok"),
            ("live=true", "invalid-parameter"),
        ] {
            assert_eq!(
                slug(query, |parameters| parameters.live().map(|_| ())),
                expected,
                "{query}"
            );
        }
        for (query, expected) in [("topic=a&topic=b", "ok"), ("topic=a%20b", "invalid-topic")] {
            assert_eq!(
                slug(query, |parameters| parameters.topics().map(|_| ())),
                expected,
                "{query}"
            );
        }
    }

    #[test]
    fn the_header_wins_over_the_url_and_both_over_a_time() {
        let start = |query, header| {
            Parameters::parse(Some(query)).and_then(|parameters| parameters.start(header))
        };
        let cursor = |text: &str| Ok(Start::Cursor(text.to_owned()));
        assert_eq!(start("lastEventId=u", Some("h")), cursor("h"));
        assert_eq!(
            start("lastEventId=u&since=2026-01-01T00:00:00Z", Some("")),
            cursor("u")
        );
        assert_eq!(
            start("since=1970-01-01T00:00:01Z", None),
            Ok(Start::From(From::Since(1000)))
        );
        assert_eq!(start("", None), Ok(Start::From(From::Newest)));
        assert!(start("since=yesterday", None).is_err());
    }
}
