//! The sample events of `tests/fixtures`: the list names every file, every file is named and holds
//! exactly the bytes of one JSON value.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// What an entry of the list must say, besides the optional `mended`.
const MEMBERS: [&str; 6] = ["file", "dialect", "topic", "type", "source", "section"];

/// Checks the folder; `files` are the paths below it.
pub(crate) fn check(folder: &Path, files: &[&str]) -> Vec<String> {
    let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
    match read("index.json") {
        Some(index) => complaints(&index, files, read),
        None => vec!["tests/fixtures/index.json: not there, or not UTF-8".to_owned()],
    }
}

fn complaints(index: &str, files: &[&str], read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let entries: Vec<Value> = match serde_json::from_str(index) {
        Ok(entries) => entries,
        Err(error) => return vec![format!("tests/fixtures/index.json: no JSON array: {error}")],
    };
    let mut named = BTreeSet::new();
    let mut complaints = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        for member in MEMBERS
            .into_iter()
            .filter(|member| !entry[member].is_string())
        {
            complaints.push(format!("index.json: entry {number} has no `{member}`"));
        }
        let Some(file) = entry["file"].as_str() else {
            continue;
        };
        if !named.insert(file) {
            complaints.push(format!("index.json: {file} is named twice"));
        }
        complaints.extend(one_value(read(file).as_deref()).map(|what| format!("{file}: {what}")));
    }
    let unnamed = files
        .iter()
        .filter(|file| file.ends_with(".json") && **file != "index.json" && !named.contains(*file));
    complaints.extend(unnamed.map(|file| format!("{file}: index.json does not name it")));
    for complaint in &mut complaints {
        complaint.insert_str(0, "tests/fixtures/");
    }
    complaints
}

/// What is wrong with the text as the bytes of one JSON value.
fn one_value(text: Option<&str>) -> Option<String> {
    let Some(text) = text else {
        return Some("not there, or not UTF-8".to_owned());
    };
    if let Err(error) = serde_json::from_str::<Value>(text) {
        return Some(format!("not JSON: {error}"));
    }
    (text.trim() != text).then(|| "blanks around the value: they would not come back".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = r#"{"file":"a/1.json","dialect":"a","topic":"a/1","type":"a.b","source":"a","section":"A"}"#;

    fn check_one(index: &str, files: &[&str], text: Option<&str>) -> Vec<String> {
        complaints(index, files, |_| text.map(str::to_owned))
    }

    #[test]
    fn a_list_that_agrees_with_its_files_is_in_order() {
        let files = ["README.md", "a/1.json", "index.json"];
        let index = format!("[{ENTRY}]");
        assert_eq!(
            check_one(&index, &files, Some("{\n \"a\": 1\n}")),
            Vec::<String>::new()
        );
    }

    #[test]
    fn disagreement_is_told_by_file() {
        let index = format!("[{ENTRY}]");
        for (text, complaint) in [
            (None, "tests/fixtures/a/1.json: not there"),
            (Some("{,}"), "tests/fixtures/a/1.json: not JSON"),
            (Some("{}\n"), "tests/fixtures/a/1.json: blanks around"),
        ] {
            let found = check_one(&index, &["a/1.json"], text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(complaint), "{found:?}");
        }
        assert_eq!(
            check_one(&index, &["a/1.json", "a/2.json"], Some("1")),
            ["tests/fixtures/a/2.json: index.json does not name it"]
        );
        assert_eq!(
            check_one(&format!("[{ENTRY},{ENTRY}]"), &[], Some("1")),
            ["tests/fixtures/index.json: a/1.json is named twice"]
        );
        assert_eq!(
            check_one(
                &format!("[{}]", ENTRY.replace("topic", "place")),
                &[],
                Some("1")
            ),
            ["tests/fixtures/index.json: entry 0 has no `topic`"]
        );
        assert_eq!(check_one("{}", &[], None).len(), 1);
    }
}
