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
    /// The name that tells most about it: the innermost that says anything, or else the innermost.
    pub(crate) told: Option<&'a str>,
    /// A number of the innermost member that it is in; no other member of the same walk has it.
    pub(crate) member: usize,
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
        members: 0,
    };
    let broke = walker.value(Node::Json(value), &mut Vec::new(), Above::default(), 0);
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
    /// How many members there were so far.
    members: usize,
}

/// What is known of the names above a value, so that nobody has to look through all of them for each string.
#[derive(Clone, Copy, Default)]
struct Above<'a> {
    /// The innermost name that says anything.
    said: Option<&'a str>,
    member: usize,
    depth: usize,
}

impl<'a> Above<'a> {
    fn leaf(self, names: &'a [&'a str], text: &'a str, role: Role) -> Leaf<'a> {
        Leaf {
            names,
            told: self.said.or_else(|| names.last().copied()),
            member: self.member,
            text,
            role,
        }
    }
}

impl<B> Walker<'_, B> {
    fn value<'a>(
        &mut self,
        node: Node<'a>,
        names: &mut Vec<&'a str>,
        above: Above<'a>,
        unfolded: usize,
    ) -> ControlFlow<B> {
        if above.depth > MAX_DEPTH {
            self.too_deep = true;
            return ControlFlow::Continue(());
        }
        let below = Above {
            depth: above.depth.saturating_add(1),
            ..above
        };
        match node {
            Node::Json(Value::String(text)) | Node::Tree(Tree::Text(text)) => {
                self.text(text, names, above, unfolded)
            }
            Node::Json(Value::Array(items)) => {
                for item in items {
                    self.value(Node::Json(item), names, below, unfolded)?;
                }
                self.joined(items.iter().map(Value::as_str), names, above)
            }
            Node::Tree(Tree::List(items)) => {
                for item in items {
                    self.value(Node::Tree(item), names, below, unfolded)?;
                }
                self.joined(items.iter().map(Tree::as_str), names, above)
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
        above: Above<'a>,
        unfolded: usize,
    ) -> ControlFlow<B> {
        (self.look)(above.leaf(names, name, Role::Key))?;
        self.members = self.members.saturating_add(1);
        let inner = Above {
            said: if says(name) { Some(name) } else { above.said },
            member: self.members,
            ..above
        };
        names.push(name);
        let flow = self.value(value, names, inner, unfolded);
        names.pop();
        flow
    }

    fn text(&mut self, text: &str, names: &[&str], above: Above<'_>, unfolded: usize) -> ControlFlow<B> {
        let Some(tree) = unfold(text) else {
            return (self.look)(above.leaf(names, text, Role::Value));
        };
        if unfolded >= MAX_UNFOLDED {
            self.too_deep = true;
            return ControlFlow::Continue(());
        }
        (self.look)(above.leaf(names, text, Role::Folded))?;
        let mut inner = names.to_vec();
        // The parser of JSON bounds the depth of a tree, so that levels are counted anew.
        let above = Above { depth: 0, ..above };
        self.value(Node::Tree(&tree), &mut inner, above, unfolded.saturating_add(1))
    }

    fn joined<'a>(
        &mut self,
        items: impl ExactSizeIterator<Item = Option<&'a str>>,
        names: &[&str],
        above: Above<'_>,
    ) -> ControlFlow<B> {
        if items.len() < 2 {
            return ControlFlow::Continue(());
        }
        let Some(words) = items.collect::<Option<Vec<&str>>>() else {
            return ControlFlow::Continue(());
        };
        (self.look)(above.leaf(names, &words.join(" "), Role::Joined))
    }
}

/// What a rule made of the names above a string, kept for the strings beside it: a list may hold many, and an object's names
/// come in turn with what is under them.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    last: Option<(usize, T)>,
    before: Option<(usize, T)>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            last: None,
            before: None,
        }
    }
}

impl<T: Copy> Kept<T> {
    /// What `make` says of the names above `leaf`: for one walk.
    pub(crate) fn get(&mut self, leaf: &Leaf<'_>, make: impl FnOnce() -> T) -> T {
        match self.last {
            Some((member, known)) if member == leaf.member => return known,
            _ => std::mem::swap(&mut self.last, &mut self.before),
        }
        match self.last {
            Some((member, known)) if member == leaf.member => known,
            _ => self.last.insert((leaf.member, make())).1,
        }
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

/// The name that tells most about a leaf, found the long way round.
#[cfg(test)]
pub(crate) fn telling<'a>(names: &[&'a str]) -> Option<&'a str> {
    let found = names.iter().rev().find(|name| says(name));
    found.or_else(|| names.last()).copied()
}

/// Whether a name says anything about what is in it.
pub(crate) fn says(name: &str) -> bool {
    !EMPTY_NAMES.iter().any(|empty| empty.eq_ignore_ascii_case(name))
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
    fn what_names_tell_is_known_at_each_string() {
        let args =
            json!({"a": {"x": ["one", "two", {"b": "three"}], "text": "{\"list\": \"four\"}"}, "x": "five"});
        walk::<()>(&args, &mut |leaf: Leaf<'_>| {
            assert_eq!(leaf.told, telling(leaf.names), "{}", leaf.text);
            ControlFlow::Continue(())
        })
        .unwrap();
    }

    #[test]
    fn names_are_asked_once_for_all_strings_of_a_member() {
        let args = json!({"a": vec!["x"; 1000], "b": [{"c": ["x", "y"]}, "z", "z"], "d": "[\"x\", \"x\"]"});
        let mut kept: Kept<usize> = Kept::default();
        let mut asked = 0;
        walk::<()>(&args, &mut |leaf: Leaf<'_>| {
            let length = leaf.names.concat().len();
            let known = kept.get(&leaf, || {
                asked += 1;
                length
            });
            assert_eq!(known, length);
            ControlFlow::Continue(())
        })
        .unwrap();
        // Once for each of the four members, the top and what it goes back to.
        assert!(asked <= 7, "{asked}");

        let many: serde_json::Map<String, Value> =
            (0..100).map(|at| (format!("name{at}"), json!("x"))).collect();
        let mut kept: Kept<usize> = Kept::default();
        let mut asked = 0;
        walk::<()>(&json!({"a": many}), &mut |leaf: Leaf<'_>| {
            kept.get(&leaf, || {
                asked += 1;
                leaf.names.len()
            });
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(asked, 102);
    }

    #[test]
    fn a_name_is_taken_apart_into_its_words() {
        assert_eq!(words("sqlQuery"), ["sql", "query"]);
        assert_eq!(words("SQL_query-2"), ["sql", "query", "2"]);
        assert_eq!(telling(&["sql", "text"]), Some("sql"));
        assert_eq!(telling(&["text"]), Some("text"));
    }
}
