//! Topics and patterns.

use tidings_core::{Topic, TopicPattern};

/// The first line is a topic, the rest a pattern.
pub fn topic(input: &[u8]) {
    let (topic, pattern) = crate::first_line(input);
    let topic = Topic::parse(&String::from_utf8_lossy(topic));
    let pattern = TopicPattern::parse(&String::from_utf8_lossy(pattern));
    if let Ok(topic) = &topic {
        assert_eq!(Topic::parse(topic.as_str()).as_ref(), Ok(topic));
        // It stands in a URL's path, a Redis key, a header and a line as it is.
        assert!(topic.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        assert!(
            !topic
                .as_str()
                .contains(['"', '\\', '?', '#', '%', '{', '}', '*'])
        );
        let itself = TopicPattern::parse(topic.as_str()).expect("a topic is a pattern of one");
        assert!(itself.matches(topic));
        let all = TopicPattern::parse("**").expect("valid");
        assert!(all.matches(topic));
        let below = TopicPattern::parse(&format!("{}/**", topic.root())).expect("valid");
        assert_eq!(below.matches(topic), topic.as_str().contains('/'));
    }
    if let Ok(pattern) = &pattern {
        let again = TopicPattern::parse(&pattern.to_string());
        assert_eq!(again.as_ref(), Ok(pattern));
        if let Ok(topic) = &topic {
            let same_depth =
                pattern.to_string().split('/').count() == topic.as_str().split('/').count();
            let open = pattern.to_string().ends_with("**");
            assert!(!pattern.matches(topic) || same_depth || open);
        }
    }
}
