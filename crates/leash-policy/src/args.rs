//! Where a rule looks: every string of a document, with the names above it. Knows no rule.
//!
//! Arguments come in any shape: nested, in arrays, or as JSON inside a string, as `tool_calls` of OpenAI carry them.
//! All of it is walked; what is too deep to be walked is an error, so that depth hides nothing.

use std::fmt;
use std::ops::ControlFlow;

use leash_core::RuleError;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Levels of objects and arrays that are walked. [`leash_core::canonical::MAX_DEPTH`] is below it.
const MAX_DEPTH: usize = 512;
/// Levels of JSON inside strings that are opened.
const MAX_UNFOLDED: usize = 8;

/// A string somewhere in a document.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf<'a> {
    /// The names of the members it is in, the outermost first. Arrays add nothing.
    pub(crate) names: &'a [&'a str],
    /// The string.
    pub(crate) text: &'a str,
    /// What it is.
    pub(crate) role: Role,
}

/// What a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A value.
    Value,
    /// The name of a member.
    Key,
    /// A value that holds JSON; what is in it follows.
    Folded,
    /// The strings of an array, joined by spaces: an argument vector, or a text in pieces. Only arrays of two and more.
    Joined,
}

/// What a string is used for, as the names above it or the tool's name tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hint {
    /// Nothing is known.
    None,
    /// It may be, or it may be something else: `query`, of a database or of a search engine.
    Maybe,
    /// It is: `sql`.
    Yes,
}

/// Calls `look` with every string of `value`: names of members, values, JSON inside of strings, and arrays of strings
/// as a whole.
///
/// # Errors
/// [`RuleError`] where there are too many levels to walk.
pub(crate) fn walk<B>(
    value: &Value,
    look: &mut dyn FnMut(Leaf<'_>) -> ControlFlow<B>,
) -> Result<Option<B>, RuleError> {
    let mut walker = Walker {
        look,
        too_deep: false,
    };
    let broke = walker.value(Node::Json(value), &mut Vec::new(), 0, 0);
    if walker.too_deep {
        return Err(RuleError::new("the arguments are nested too deeply"));
    }
    Ok(match broke {
        ControlFlow::Break(found) => Some(found),
        ControlFlow::Continue(()) => None,
    })
}

/// Calls `look` with the strings that are text for certain: names and values, none of them twice.
pub(crate) fn texts<B>(
    value: &Value,
    look: &mut dyn FnMut(&str) -> ControlFlow<B>,
) -> Result<Option<B>, RuleError> {
    walk(value, &mut |leaf: Leaf<'_>| match leaf.role {
        Role::Joined => ControlFlow::Continue(()),
        _ => look(leaf.text),
    })
}

#[derive(Clone, Copy)]
enum Node<'a> {
    Json(&'a Value),
    Tree(&'a Tree),
}

struct Walker<'f, B> {
    look: &'f mut dyn FnMut(Leaf<'_>) -> ControlFlow<B>,
    too_deep: bool,
}

impl<B> Walker<'_, B> {
    fn value<'a>(
        &mut self,
        node: Node<'a>,
        names: &mut Vec<&'a str>,
        depth: usize,
        unfolded: usize,
    ) -> ControlFlow<B> {
        if depth > MAX_DEPTH {
            self.too_deep = true;
            return ControlFlow::Continue(());
        }
        let below = depth.saturating_add(1);
        match node {
            Node::Json(Value::String(text)) | Node::Tree(Tree::Text(text)) => {
                self.text(text, names, unfolded)
            }
            Node::Json(Value::Array(items)) => {
                for item in items {
                    self.value(Node::Json(item), names, below, unfolded)?;
                }
                self.joined(items.iter().map(Value::as_str), names)
            }
            Node::Tree(Tree::List(items)) => {
                for item in items {
                    self.value(Node::Tree(item), names, below, unfolded)?;
                }
                self.joined(items.iter().map(Tree::as_str), names)
            }
            Node::Json(Value::Object(members)) => {
                for (name, value) in members {
                    self.member(name, Node::Json(value), names, below, unfolded)?;
                }
                ControlFlow::Continue(())
            }
            Node::Tree(Tree::Map(members)) => {
                for (name, value) in members {
                    self.member(name, Node::Tree(value), names, below, unfolded)?;
                }
                ControlFlow::Continue(())
            }
            Node::Json(_) | Node::Tree(Tree::Other) => ControlFlow::Continue(()),
        }
    }

    fn member<'a>(
        &mut self,
        name: &'a str,
        value: Node<'a>,
        names: &mut Vec<&'a str>,
        depth: usize,
        unfolded: usize,
    ) -> ControlFlow<B> {
        (self.look)(Leaf {
            names,
            text: name,
            role: Role::Key,
        })?;
        names.push(name);
        let flow = self.value(value, names, depth, unfolded);
        names.pop();
        flow
    }

    fn text(&mut self, text: &str, names: &[&str], unfolded: usize) -> ControlFlow<B> {
        let Some(tree) = unfold(text) else {
            return (self.look)(Leaf {
                names,
                text,
                role: Role::Value,
            });
        };
        if unfolded >= MAX_UNFOLDED {
            self.too_deep = true;
            return ControlFlow::Continue(());
        }
        (self.look)(Leaf {
            names,
            text,
            role: Role::Folded,
        })?;
        let mut inner = names.to_vec();
        // The parser of JSON bounds the depth of a tree, so that levels are counted anew.
        self.value(Node::Tree(&tree), &mut inner, 0, unfolded.saturating_add(1))
    }

    fn joined<'a>(
        &mut self,
        items: impl ExactSizeIterator<Item = Option<&'a str>>,
        names: &[&str],
    ) -> ControlFlow<B> {
        if items.len() < 2 {
            return ControlFlow::Continue(());
        }
        let Some(words) = items.collect::<Option<Vec<&str>>>() else {
            return ControlFlow::Continue(());
        };
        (self.look)(Leaf {
            names,
            text: &words.join(" "),
            role: Role::Joined,
        })
    }
}

/// The JSON inside of a string: an object, an array, or once more a string.
fn unfold(text: &str) -> Option<Tree> {
    let inner = text.trim_ascii();
    let bounds = (inner.as_bytes().first()?, inner.as_bytes().last()?);
    if !matches!(bounds, (b'{', b'}') | (b'[', b']') | (b'"', b'"')) {
        return None;
    }
    match serde_json::from_str(inner).ok()? {
        Tree::Other => None,
        tree => Some(tree),
    }
}

/// JSON with every member of every object, also those that a map would drop because their name comes twice.
enum Tree {
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
    Other,
}

impl Tree {
    fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Tree;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Tree::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Map(members))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

/// The words of a name: `sqlQuery`, `sql_query` and `SQL-Query` are `sql`, `query`.
pub(crate) fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    let mut previous_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() {
            open = false;
            previous_lower = false;
            continue;
        }
        if !open || (c.is_uppercase() && previous_lower) {
            words.push(String::new());
            open = true;
        }
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
        previous_lower = c.is_lowercase() || c.is_numeric();
    }
    words
}

/// Names that say nothing about what is in them: the name above counts instead.
const EMPTY_NAMES: &[&str] = &[
    "value",
    "text",
    "content",
    "input",
    "arguments",
    "args",
    "params",
    "parameters",
    "data",
    "body",
    "payload",
    "kwargs",
    "string",
    "raw",
    "items",
    "list",
    "main",
    "argument",
    "arg",
    "field",
    "x",
    "s",
    "str",
    "msg",
];

/// The name that tells most about a leaf: the innermost that says anything.
pub(crate) fn telling<'a>(names: &[&'a str]) -> Option<&'a str> {
    let found = names.iter().rev().find(|name| says(name));
    found.or_else(|| names.last()).copied()
}

/// Whether a name says anything about what is in it.
pub(crate) fn says(name: &str) -> bool {
    !EMPTY_NAMES.contains(&name.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(value: &Value) -> Vec<(String, String, Role)> {
        let mut found = Vec::new();
        walk::<()>(value, &mut |leaf: Leaf<'_>| {
            found.push((leaf.names.join("."), leaf.text.to_owned(), leaf.role));
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    #[test]
    fn every_string_is_reached_with_its_names() {
        let args = json!({"a": [{"b": "one"}, "two"], "c": "{\"d\": \"three\", \"d\": \"four\"}"});
        let found = all(&args);
        for (names, text, role) in [
            ("", "a", Role::Key),
            ("a.b", "one", Role::Value),
            ("a", "two", Role::Value),
            ("c", "{\"d\": \"three\", \"d\": \"four\"}", Role::Folded),
            ("c.d", "three", Role::Value),
            ("c.d", "four", Role::Value),
        ] {
            assert!(found.contains(&(names.into(), text.into(), role)), "{text}");
        }
        let joined = all(&json!({"argv": ["rm", "-rf", "/"]}));
        assert!(joined.contains(&("argv".into(), "rm -rf /".into(), Role::Joined)));
    }

    #[test]
    fn depth_hides_nothing() {
        let folded = (0..12).fold(json!({"sql": "x"}), |inner, _| json!({"a": inner.to_string()}));
        assert!(walk::<()>(&folded, &mut |_: Leaf<'_>| ControlFlow::Continue(())).is_err());
        let deep = (0..600).fold(json!("x"), |inner, _| json!([inner]));
        assert!(walk::<()>(&deep, &mut |_: Leaf<'_>| ControlFlow::Continue(())).is_err());
    }

    #[test]
    fn a_name_is_taken_apart_into_its_words() {
        assert_eq!(words("sqlQuery"), ["sql", "query"]);
        assert_eq!(words("SQL_query-2"), ["sql", "query", "2"]);
        assert_eq!(telling(&["sql", "text"]), Some("sql"));
        assert_eq!(telling(&["text"]), Some("text"));
    }
}
