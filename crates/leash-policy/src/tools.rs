//! Which tools an agent may call: [`AllowedTools`], [`DeniedTools`].

use leash_core::{Action, Call, Decision, PolicyContext, Rule, RuleError};

/// Names, and patterns in which `*` stands for any characters. Compared case by case: tools are case-sensitive.
#[derive(Clone, Debug)]
struct Names(Vec<String>);

impl Names {
    fn new<I: IntoIterator<Item: Into<String>>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    fn contain(&self, tool: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, tool))
    }
}

/// Whether `text` is `pattern`, with `*` for any characters. Linear in the text for each `*`.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let mut rest = rest;
    // Leftmost matches of the middle parts leave the most for those that follow.
    while let Some((part, after)) = rest.split_once('*') {
        let Some(found) = text.find(part) else {
            return false;
        };
        text = text.get(found.saturating_add(part.len())..).unwrap_or("");
        rest = after;
    }
    text.ends_with(rest)
}

/// Blocks the tools that are not on its list. Model calls are none of its business.
///
/// Default id: `allowed_tools`. A `*` in a name stands for any characters.
#[derive(Clone, Debug)]
pub struct AllowedTools {
    id: String,
    names: Names,
}

impl AllowedTools {
    /// Only these tools.
    #[must_use]
    pub fn new<I: IntoIterator<Item: Into<String>>>(names: I) -> Self {
        Self {
            id: "allowed_tools".into(),
            names: Names::new(names),
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }
}

impl Rule for AllowedTools {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let blocked = !self.names.contain(&call.tool);
        Ok(blocked.then(|| {
            Decision::new(
                Action::Block,
                self.id.clone(),
                "the tool is not on the list of allowed tools",
            )
        }))
    }
}

/// Blocks the tools on its list.
///
/// Default id: `denied_tools`. A `*` in a name stands for any characters.
#[derive(Clone, Debug)]
pub struct DeniedTools {
    id: String,
    names: Names,
}

impl DeniedTools {
    /// None of these tools.
    #[must_use]
    pub fn new<I: IntoIterator<Item: Into<String>>>(names: I) -> Self {
        Self {
            id: "denied_tools".into(),
            names: Names::new(names),
        }
    }

    /// The same under another id.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }
}

impl Rule for DeniedTools {
    fn id(&self) -> &str {
        &self.id
    }

    fn evaluate(&self, call: &Call, _: &PolicyContext) -> Result<Option<Decision>, RuleError> {
        let Call::Tool(call) = call else { return Ok(None) };
        let blocked = self.names.contain(&call.tool);
        Ok(blocked.then(|| {
            Decision::new(
                Action::Block,
                self.id.clone(),
                "the tool is on the list of denied tools",
            )
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leash_core::{Caller, SessionId, Timestamp, ToolCall};

    fn decides(rule: &dyn Rule, tool: &str) -> Option<Action> {
        let caller = Caller::session(SessionId::new("s").unwrap());
        let call = Call::Tool(ToolCall::new(tool, serde_json::json!({}), caller));
        rule.evaluate(&call, &PolicyContext::new(Timestamp::EPOCH))
            .unwrap()
            .map(|decision| decision.action)
    }

    #[test]
    fn a_star_stands_for_any_characters_and_nothing_else_does() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "A", false),
            ("*", "", true),
            ("db.*", "db.query", true),
            ("db.*", "xdb.query", false),
            ("*_file", "delete_file", true),
            ("*_file", "delete_file_now", false),
            ("a*b*c", "aXbbYc", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("a?c", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn the_lists_block_what_they_say_and_abstain_otherwise() {
        let allowed = AllowedTools::new(["search", "db.*"]);
        assert_eq!(decides(&allowed, "search"), None);
        assert_eq!(decides(&allowed, "db.query"), None);
        assert_eq!(decides(&allowed, "shell"), Some(Action::Block));
        assert_eq!(
            decides(&AllowedTools::new(Vec::<String>::new()), "search"),
            Some(Action::Block)
        );
        let denied = DeniedTools::new(["shell"]);
        assert_eq!(decides(&denied, "shell"), Some(Action::Block));
        assert_eq!(decides(&denied, "search"), None);
    }
}
