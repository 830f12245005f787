//! Paging: which part of a list is asked for, and which was answered.
//!
//! `x-cardsavr-paging: {"page":1,"page_length":25,"sort":"id","is_descending":false}`; clients write
//! values as numbers or as strings.

use serde_json::{Value, json};

/// Items of one page when nothing is said, and the most that are given: what is asked beyond is
/// cut, since a page is held in memory whole.
pub(crate) const PAGE_LENGTH: usize = 25;
const PAGE_LENGTH_MAX: usize = 100;
/// Pages beyond this are none.
const PAGE_MAX: usize = 1_000_000;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paging {
    /// From 1 on.
    pub(crate) page: usize,
    /// Items of a page, from 1 on.
    pub(crate) page_length: usize,
    /// The property to sort by.
    pub(crate) sort: String,
    pub(crate) is_descending: bool,
    /// How many there are in all; in answers.
    pub(crate) total_results: Option<usize>,
}

impl Default for Paging {
    fn default() -> Self {
        Self {
            page: 1,
            page_length: PAGE_LENGTH,
            sort: "id".to_owned(),
            is_descending: false,
            total_results: None,
        }
    }
}

impl Paging {
    /// What the header asks for. What is missing or cannot be understood is as if it were not said:
    /// a page of the list is a better answer than a refusal of its frame.
    pub(crate) fn parse(header: Option<&str>) -> Self {
        let mut paging = Self::default();
        let Some(Ok(Value::Object(said))) = header.map(serde_json::from_str::<Value>) else {
            return paging;
        };
        let number = |name: &str| match said.get(name)? {
            Value::Number(number) => usize::try_from(number.as_u64()?).ok(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        if let Some(page) = number("page") {
            paging.page = page.clamp(1, PAGE_MAX);
        }
        if let Some(length) = number("page_length") {
            paging.page_length = length.clamp(1, PAGE_LENGTH_MAX);
        }
        let word = |text: &&str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if let Some(sort) = said.get("sort").and_then(Value::as_str).filter(word) {
            sort.clone_into(&mut paging.sort);
        }
        paging.is_descending = match said.get("is_descending") {
            Some(Value::Bool(yes)) => *yes,
            Some(Value::String(text)) => text == "true",
            _ => false,
        };
        paging
    }

    /// Which items of a list are on the page.
    pub(crate) fn of<T>(&self, all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        let before = (self.page - 1).saturating_mul(self.page_length);
        all.into_iter().skip(before).take(self.page_length)
    }

    /// The same page of a list that is so long.
    pub(crate) fn with_total(mut self, total: usize) -> Self {
        self.total_results = Some(total);
        self
    }

    /// As it stands in the header.
    pub(crate) fn print(&self) -> String {
        let mut said = json!({
            "page": self.page,
            "page_length": self.page_length,
            "sort": self.sort,
            "is_descending": self.is_descending,
        });
        if let Some(total) = self.total_results {
            said["total_results"] = total.into();
        }
        said.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        let default = Paging::default();
        for same in [
            None,
            Some("{}"),
            Some("[]"),
            Some("{"),
            Some(r#"{"page":null}"#),
            Some(r#"{"page":-1,"page_length":"x","sort":"a;b"}"#),
            Some(r#"{"page":"0"}"#),
        ] {
            assert_eq!(Paging::parse(same), default, "{same:?}");
        }
        let asked = Paging::parse(Some(
            r#"{"page":"3","page_length":5,"sort":"created_on","is_descending":"true","x":{}}"#,
        ));
        assert_eq!((asked.page, asked.page_length), (3, 5));
        assert!(asked.is_descending && asked.sort == "created_on");
        assert_eq!(asked.of(0..13).collect::<Vec<_>>(), [10, 11, 12]);
        let huge = Paging::parse(Some(
            r#"{"page":18446744073709551615,"page_length":999999}"#,
        ));
        assert_eq!((huge.page, huge.page_length), (PAGE_MAX, PAGE_LENGTH_MAX));
        assert_eq!(huge.of(0..9).count(), 0);
    }

    #[test]
    fn what_is_answered() {
        let text = Paging::parse(None).with_total(7).print();
        let said: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(said["total_results"], 7);
        assert_eq!(said["page"], 1);
    }
}
