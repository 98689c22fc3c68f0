//! ETags, and the conditions of requests that name them (RFC 9110, 8.8.3 and 13.1).

/// Condition of `If-Match`, `If-None-Match` or `If-Range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `*`: anything that is there.
    Any,
    /// ETags without their quotes; what is none names no file.
    Tags(Vec<String>),
}

impl Condition {
    /// Reads a header's value; weak ETags name nothing.
    pub fn parse(text: &str) -> Self {
        Self::read(text, false)
    }

    /// Reads the value of `If-None-Match`, by which a weak ETag names what the strong one does.
    pub fn weak(text: &str) -> Self {
        Self::read(text, true)
    }

    fn read(text: &str, takes_weak: bool) -> Self {
        if text.trim() == "*" {
            return Self::Any;
        }
        let (mut tags, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('"') {
            let Some((tag, after)) = after.split_once('"') else { break };
            if (takes_weak || !before.ends_with("W/")) && is_tag(tag) {
                tags.push(tag.to_owned());
            }
            rest = after;
        }
        Self::Tags(tags)
    }

    /// Whether a file with this ETag is meant.
    pub fn has(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|it| it == etag),
        }
    }

    /// The condition as the daemon takes it: `*` or one ETag; `None` where there are several, or none.
    pub fn single(&self) -> Option<&str> {
        match self {
            Self::Any => Some("*"),
            Self::Tags(tags) => match &**tags {
                [tag] => Some(tag),
                _ => None,
            },
        }
    }
}

/// An ETag with its quotes; `None` if the daemon's text cannot be one.
pub fn quoted(etag: &str) -> Option<String> {
    is_tag(etag).then(|| format!("\"{etag}\""))
}

/// Whether a text can be the ETag of a file, which a quoted `*` is not.
fn is_tag(text: &str) -> bool {
    text != "*" && (1..=128).contains(&text.len()) && text.bytes().all(|it| matches!(it, b'!' | b'#'..=b'~'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weak_and_broken_tags_name_nothing() {
        let tags = |texts: &[&str]| Condition::Tags(texts.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(Condition::parse(" * "), Condition::Any);
        assert_eq!(Condition::parse("\"a\", \"b,c\""), tags(&["a", "b,c"]));
        assert_eq!(Condition::parse("W/\"a\", \"b\""), tags(&["b"]));
        assert_eq!(Condition::weak("W/\"a\", \"b\""), tags(&["a", "b"]));
        for text in ["", "a", "\"a", "\"\"", "\"a b\"", "W/\"a\"", "\"*"] {
            assert_eq!(Condition::parse(text), tags(&[]), "{text}");
        }
        assert_eq!(Condition::parse("\"*\"").single(), None);
    }

    proptest! {
        #[test]
        fn tags_are_read_as_they_are_written(
            tags in prop::collection::vec("[!#-~]{2,8}", 1..4),
            any in any::<String>(),
        ) {
            let text: Vec<_> = tags.iter().filter_map(|it| quoted(it)).collect();
            prop_assert_eq!(Condition::parse(&text.join(", ")), Condition::Tags(tags));
            if let Condition::Tags(tags) = Condition::parse(&any) {
                let is_there = |tag: &String| quoted(tag).is_some_and(|it| any.contains(&it));
                prop_assert!(tags.iter().all(is_there));
            }
        }
    }
}
