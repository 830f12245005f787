//! Rules for the text of one file.
//!
//! The words that are forbidden are put together from halves, so that this file passes itself.

use crate::tidy::Findings;

/// A file of more lines than this has more than one subject.
const LINES_MAX: usize = 600;
/// From here on it is worth a thought.
const LINES_WARN: usize = 400;

/// Marks of unfinished work: an issue is the place for it.
const MARKS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

/// Folders of the machines that Tidings is written on: nothing that is committed may depend on them.
const MACHINE_FOLDERS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Applies every rule that holds for a file of this name.
pub(crate) fn check(file: &str, text: &str, findings: &mut Findings) {
    let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
    let mut complaints = machine_folders(text);
    if extension == "rs" {
        complaints.extend(module_doc(text));
        complaints.extend(unfinished(text));
    }
    if matches!(extension, "rs" | "lua" | "mjs") {
        match text.lines().count() {
            lines if lines > LINES_MAX => complaints.push((
                LINES_MAX,
                format!("{lines} lines, more than {LINES_MAX}: split it"),
            )),
            lines if lines > LINES_WARN => findings
                .warnings
                .push(format!("{file}: {lines} lines, more than {LINES_WARN}")),
            _ => {}
        }
    }
    if file.ends_with("package-lock.json") {
        complaints.extend(download_addresses(text));
    }
    if file.starts_with("config/") && extension == "toml" {
        complaints.extend(toml_syntax(text));
    }
    for (line, complaint) in complaints {
        findings
            .complaints
            .push(format!("{file}:{line}: {complaint}"));
    }
}

/// A complaint and the line it is about, from 1.
type Complaint = (usize, String);

fn module_doc(text: &str) -> Option<Complaint> {
    (!text.starts_with("//!")).then(|| {
        (
            1,
            "the first line of a module is a `//!` that says what it is".to_owned(),
        )
    })
}

fn unfinished(text: &str) -> Vec<Complaint> {
    on_lines(text, |line| {
        MARKS
            .into_iter()
            .find(|mark| has_word(line, mark))
            .map(|mark| format!("`{mark}`: finish it, or write an issue"))
    })
}

fn machine_folders(text: &str) -> Vec<Complaint> {
    on_lines(text, |line| {
        MACHINE_FOLDERS
            .into_iter()
            .find(|folder| has_root(line, folder))
            .map(|folder| format!("a path below {folder}, which only one machine has"))
    })
}

fn download_addresses(text: &str) -> Vec<Complaint> {
    on_lines(text, |line| {
        line.trim_start().starts_with("\"resolved\"").then(|| {
            "a download address: npm's omit-lockfile-registry-resolved leaves it out".to_owned()
        })
    })
}

fn toml_syntax(text: &str) -> Option<Complaint> {
    let error = text.parse::<toml::Table>().err()?;
    let line = error
        .span()
        .map_or(1, |span| 1 + text[..span.start].matches('\n').count());
    Some((line, format!("not TOML: {}", error.message())))
}

fn on_lines(text: &str, complain: impl Fn(&str) -> Option<String>) -> Vec<Complaint> {
    text.lines()
        .zip(1..)
        .filter_map(|(line, number)| complain(line).map(|complaint| (number, complaint)))
        .collect()
}

/// Whether the word stands in the line by itself: no letter, digit or `_` before or after it.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends = word.ends_with('!') || !after.is_some_and(part);
        ends && !before.is_some_and(part)
    })
}

/// Whether an absolute path begins with the folder: nothing before it that makes it the middle of
/// another path.
fn has_root(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-~*}".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(file: &str, text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        check(file, text, &mut findings);
        findings.complaints
    }

    #[test]
    fn a_module_begins_with_what_it_is() {
        assert!(complaints("crates/a/src/b.rs", "//! B.\nfn b() {}\n").is_empty());
        assert_eq!(
            complaints("crates/a/src/b.rs", "fn b() {}\n"),
            ["crates/a/src/b.rs:1: the first line of a module is a `//!` that says what it is"]
        );
        assert!(complaints("notes.md", "no module\n").is_empty());
    }

    #[test]
    fn marks_of_unfinished_work_are_found_as_words() {
        for mark in MARKS {
            let text = format!("//! A.\nfn a() {{ {mark}() }}\n");
            let found = complaints("a.rs", &text);
            assert_eq!(found.len(), 1, "{mark}: {found:?}");
            assert!(found[0].starts_with("a.rs:2: "), "{found:?}");
        }
        assert!(complaints("a.rs", "//! A HACKNEY and a XXXL.\n").is_empty());
    }

    #[test]
    fn a_file_has_one_subject() {
        let text = |lines| format!("//! A.\n{}", "\n".repeat(lines - 1));
        let mut findings = Findings::default();
        check("a.rs", &text(LINES_WARN), &mut findings);
        assert!(findings.warnings.is_empty());
        check("a.rs", &text(LINES_WARN + 1), &mut findings);
        check("a.rs", &text(LINES_MAX), &mut findings);
        assert_eq!(findings.warnings.len(), 2);
        assert!(findings.complaints.is_empty());
        check("a.rs", &text(LINES_MAX + 1), &mut findings);
        assert_eq!(findings.complaints.len(), 1);
        check("Cargo.lock", &text(LINES_MAX + 1), &mut findings);
        assert_eq!(findings.complaints.len(), 1);
    }

    #[test]
    fn machine_paths_are_found_and_the_middles_of_paths_are_not() {
        for folder in MACHINE_FOLDERS {
            for line in [
                format!("\"{folder}x\""),
                format!("see {folder}"),
                format!("file://{folder}x"),
            ] {
                assert_eq!(complaints("a.md", &line).len(), 1, "{line}");
            }
            for line in [
                format!("some{folder}x"),
                format!("~{folder}"),
                format!("**{folder}"),
            ] {
                assert!(complaints("a.md", &line).is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn a_lock_file_names_no_download_addresses() {
        let text = "{\n  \"resolved\": \"http://registry/a.tgz\"\n}\n";
        assert_eq!(complaints("tests/js/package-lock.json", text).len(), 1);
        assert!(complaints("tests/js/other.json", text).is_empty());
    }

    #[test]
    fn configuration_is_toml() {
        assert!(complaints("config/tidings.toml", "[log]\nretention = \"1h\"\n").is_empty());
        let found = complaints("config/tidings.toml", "[log]\nretention = \n");
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("config/tidings.toml:2: not TOML"),
            "{found:?}"
        );
    }
}
