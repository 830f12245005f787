//! What is shown of an instance: log lines, metrics, traces; and how it proves that it is ready.

use serde::Deserialize;

use super::values::{FromText, Level, Listen, LogFormat, Span, optional};

/// Log lines, metrics and traces.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Which lines.
    pub level: Level,
    /// How they are written.
    pub format: LogFormat,
    /// Where `/metrics` is answered; on the native listener when not set.
    #[serde(deserialize_with = "optional")]
    pub metrics_listen: Option<Listen>,
    /// Where spans go; without it there are none.
    #[serde(deserialize_with = "optional")]
    pub otlp_endpoint: Option<Endpoint>,
    /// The share of traces begun here that is shown.
    pub otlp_sample: Share,
    /// OpenTelemetry `service.name`.
    pub service_name: String,
    /// OpenTelemetry `service.instance.id`; a random one when not set.
    #[serde(deserialize_with = "optional")]
    pub instance_id: Option<String>,
    /// More resource attributes.
    pub resource: Vec<ResourceAttribute>,
}

/// How an instance proves that it is ready.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// Between two probes.
    pub probe_every: Span,
    /// For a probe to be stored, and again to come back.
    pub probe_wait: Span,
}

/// An OTLP receiver over gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(pub String);

impl FromText for Endpoint {
    const ALLOWED: &'static str =
        "a gRPC address such as \"http://127.0.0.1:4317\" or \"https://otlp.example:4317\"";

    fn from_text(text: &str) -> Option<Self> {
        let uri: http::Uri = text.parse().ok()?;
        let web = matches!(uri.scheme_str(), Some("http" | "https"));
        let bare = uri.authority().is_some_and(|a| !a.as_str().contains('@'));
        (web && bare).then(|| Self(text.to_owned()))
    }
}

/// A part of a whole, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub f64);

impl FromText for Share {
    const ALLOWED: &'static str = "a share from \"0%\" to \"100%\", such as \"1%\" or \"0.1%\"";

    fn from_text(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?.trim_end();
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let percent: f64 = number.parse().ok()?;
        (plain && (0.0..=100.0).contains(&percent)).then_some(Self(percent / 100.0))
    }
}

/// A name and its value, for every span of this instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceAttribute(pub String, pub String);

impl FromText for ResourceAttribute {
    const ALLOWED: &'static str = "an attribute such as \"deployment.environment.name=staging\"";

    fn from_text(text: &str) -> Option<Self> {
        let (name, value) = text.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        (!name.is_empty() && !value.is_empty()).then(|| Self(name.to_owned(), value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        let share = |text| Share::from_text(text).map(|share| share.0);
        assert_eq!(share("0%"), Some(0.0));
        assert_eq!(share("1%"), Some(0.01));
        assert_eq!(share("0.5 %"), Some(0.005));
        assert_eq!(share("100%"), Some(1.0));
        for bad in [
            "", "%", "1", "101%", "-1%", "1e1%", "inf%", "NaN%", "1.1.1%",
        ] {
            assert_eq!(share(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn endpoints_and_attributes_are_checked() {
        for good in [
            "http://127.0.0.1:4317",
            "https://otlp.example",
            "http://[::1]:4317/",
        ] {
            assert!(Endpoint::from_text(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:4317",
            "grpc://h:1",
            "http://u:p@h:1",
            "http://",
        ] {
            assert!(Endpoint::from_text(bad).is_none(), "{bad}");
        }
        let attribute = ResourceAttribute::from_text("a.b = c=d");
        assert_eq!(
            attribute,
            Some(ResourceAttribute("a.b".into(), "c=d".into()))
        );
        for bad in ["", "a", "=b", "a="] {
            assert!(ResourceAttribute::from_text(bad).is_none(), "{bad}");
        }
    }
}
