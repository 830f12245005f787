//! What a run has found out: figures with their units, and whether every delivery was right.

use std::fmt::{self, Write as _};

use hdrhistogram::Histogram;
use serde_json::{Map, Value};

use crate::board::Board;
use crate::check::Tally;

/// One run's findings.
#[derive(Debug)]
pub(crate) struct Report {
    scenario: String,
    figures: Vec<Figure>,
    tally: Tally,
    failed: u64,
    failures: Vec<String>,
    notes: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
}

impl Report {
    pub(crate) fn new(scenario: String) -> Self {
        Self {
            scenario,
            figures: Vec::new(),
            tally: Tally::default(),
            failed: 0,
            failures: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a figure. One that cannot be computed (divided by nothing) is left out.
    pub(crate) fn figure(&mut self, name: &'static str, value: f64, unit: &'static str) {
        if value.is_finite() {
            self.figures.push(Figure { name, value, unit });
        }
    }

    /// Adds what is no number.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// Adds the percentiles of a histogram of nanoseconds, in milliseconds.
    pub(crate) fn times(&mut self, names: [&'static str; 4], times: &Histogram<u64>) {
        if times.is_empty() {
            return;
        }
        for (name, quantile) in names.into_iter().zip([0.5, 0.99, 0.999, 1.0]) {
            let value = times.value_at_quantile(quantile) as f64 / 1e6;
            self.figure(name, value, "ms");
        }
    }

    /// Adds what was wrong.
    pub(crate) fn verdict(&mut self, tally: Tally, board: &Board) {
        self.tally += tally;
        let (failed, failures) = board.failures();
        self.failed += failed;
        self.failures.extend(failures);
    }

    pub(crate) fn get(&self, name: &str) -> Option<f64> {
        let found = self.figures.iter().find(|figure| figure.name == name);
        found.map(|figure| figure.value)
    }

    /// The same with its unit.
    pub(crate) fn get_with_unit(&self, name: &str) -> Option<(f64, &'static str)> {
        let found = self.figures.iter().find(|figure| figure.name == name);
        found.map(|figure| (figure.value, figure.unit))
    }

    /// Whether nothing was lost, doubled or out of order, and nothing failed.
    pub(crate) fn is_clean(&self) -> bool {
        self.tally.is_clean() && self.failed == 0
    }

    /// What was wrong, in a few words; empty when nothing was.
    pub(crate) fn complaints(&self) -> String {
        let wrong: Vec<String> = self
            .wrongs()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} {name}"))
            .chain(self.failures.iter().cloned())
            .collect();
        wrong.join(", ")
    }

    fn wrongs(&self) -> [(&'static str, u64); 7] {
        [
            ("lost", self.tally.lost),
            ("duplicated", self.tally.duplicated),
            ("reordered", self.tally.reordered),
            ("strayed", self.tally.strayed),
            ("resets", self.tally.resets),
            ("disagreeing_readers", self.tally.disagreeing),
            ("failed", self.failed),
        ]
    }

    /// The report as one JSON object; names are the same as in the table.
    pub(crate) fn json(&self) -> Value {
        let mut out = Map::new();
        out.insert("scenario".to_owned(), self.scenario.as_str().into());
        for figure in &self.figures {
            out.insert(figure.name.to_owned(), figure.value.into());
        }
        for (name, count) in self.wrongs() {
            out.insert(name.to_owned(), count.into());
        }
        out.insert("failures".to_owned(), self.failures.clone().into());
        if !self.notes.is_empty() {
            out.insert("notes".to_owned(), self.notes.clone().into());
        }
        Value::Object(out)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.scenario)?;
        for figure in &self.figures {
            let name = figure.name.replace('_', " ");
            let value = amount(figure.value);
            writeln!(f, "  {name:<42} {value:>14} {}", figure.unit)?;
        }
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        let counts: Vec<String> = self
            .wrongs()
            .iter()
            .map(|(name, count)| format!("{} {count}", name.replace('_', " ")))
            .collect();
        writeln!(f, "  {}", counts.join(", "))?;
        for failure in &self.failures {
            writeln!(f, "  failed: {failure}")?;
        }
        Ok(())
    }
}

/// A number as people read it: groups of thousands, or three digits.
pub(crate) fn amount(value: f64) -> String {
    if value.abs() < 1000.0 {
        let places = match value.abs() {
            small if small < 10.0 && small.fract() != 0.0 => 2,
            medium if medium.fract() != 0.0 => 1,
            _ => 0,
        };
        return format!("{value:.places$}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        let _ = write!(out, "{digit}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (value, expected) in [
            (0.0, "0"),
            (0.354, "0.35"),
            (14.26, "14.3"),
            (999.0, "999"),
            (1000.4, "1,000"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
        ] {
            assert_eq!(amount(value), expected);
        }
    }

    #[test]
    fn what_was_wrong_is_in_both_forms() {
        let board = Board::new(1, 1, 1);
        board.fail(&anyhow::anyhow!("gone"));
        let mut report = Report::new("fan-out".to_owned());
        report.figure("deliveries", 12.0, "");
        report.figure("per_nothing", f64::NAN, "");
        let tally = Tally {
            lost: 3,
            ..Tally::default()
        };
        report.verdict(tally, &board);
        assert!(!report.is_clean());
        assert_eq!(report.complaints(), "3 lost, 1 failed, gone");
        assert_eq!(report.get("deliveries"), Some(12.0));
        assert_eq!(report.get("per_nothing"), None);
        let json = report.json();
        assert_eq!(
            (json["lost"].as_u64(), json["failed"].as_u64()),
            (Some(3), Some(1))
        );
        let table = report.to_string();
        assert!(
            table.contains("lost 3") && table.contains("failed: gone"),
            "{table}"
        );
    }
}
