//! JSON without its spaces: texts in their shortest form, numbers digit for digit as they were sent.
//!
//! A parser into values would round numbers (`1e400`, a 30-digit amount) and lose the order of
//! members; a payload must come back as it was sent. So the text is rewritten token by token.

/// A payload as it is stored, and the keys of all its objects, nested ones too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compact {
    pub(crate) text: String,
    pub(crate) keys: Vec<String>,
}

/// Rewrites a text that is known to be JSON.
pub(crate) fn compact(json: &str) -> Compact {
    let mut text = String::with_capacity(json.len());
    let mut keys = Vec::new();
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        match first {
            '"' => {
                let (token, after) = rest.split_at(string_end(rest));
                let decoded = serde_json::from_str::<String>(token);
                if after.trim_start().starts_with(':') {
                    // A key that is no Unicode (a lone surrogate) is no good key either.
                    keys.push(decoded.as_deref().unwrap_or("\u{fffd}").to_owned());
                }
                match decoded {
                    Ok(decoded) => text.push_str(&serde_json::Value::from(decoded).to_string()),
                    Err(_) => text.push_str(token),
                }
                rest = after;
            }
            ' ' | '\t' | '\r' | '\n' => rest = &rest[1..],
            other => {
                text.push(other);
                rest = &rest[other.len_utf8()..];
            }
        }
    }
    Compact { text, keys }
}

/// Where the string that begins here ends.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_go_and_all_else_stays() {
        for (given, expected, keys) in [
            ("{ }", "{}", vec![]),
            (
                "{ \"a\" : [ 1.50 , 1e400, \"x y\" ] }",
                r#"{"a":[1.50,1e400,"x y"]}"#,
                vec!["a"],
            ),
            (
                r#"{"a":{"b":"\u00e9\/\"\\"},"c":"d:"}"#,
                "{\"a\":{\"b\":\"é/\\\"\\\\\"},\"c\":\"d:\"}",
                vec!["a", "b", "c"],
            ),
            (r#"{"a":"\ud800"}"#, r#"{"a":"\ud800"}"#, vec!["a"]),
            (r#"["a" , "b"]"#, r#"["a","b"]"#, vec![]),
        ] {
            let compact = compact(given);
            assert_eq!(compact.text, expected);
            assert_eq!(compact.keys, keys);
        }
    }
}
