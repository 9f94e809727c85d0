//! What words expand to, as far as that is known before anything runs.
#![expect(
    clippy::collapsible_else_if,
    clippy::manual_map,
    clippy::match_same_arms,
    clippy::too_many_lines,
    reason = "a grammar or a table, read best in one place and as it is written"
)]

use std::rc::Rc;

use super::machine::{Machine, Stop, Var};
use super::marks;
use super::paths;
use super::syntax::{Param, ParamOp, Piece, Word};

/// How many words one word may become.
const MAX_WORDS: usize = 512;
/// How long an expanded word may be, in bytes.
const MAX_WORD_BYTES: usize = 1 << 16;

type Result<T> = std::result::Result<T, Stop>;

/// Fields in the making.
#[derive(Debug, Default)]
struct Fields {
    done: Vec<String>,
    open: Option<String>,
}

impl Fields {
    fn push(&mut self, text: &str) {
        self.open.get_or_insert_default().push_str(text);
    }

    fn end(&mut self) {
        self.done.extend(self.open.take());
    }

    /// Adds the text of an unquoted expansion, split as the shell splits it.
    fn split(&mut self, text: &str, separators: &str) {
        let mut first = true;
        for part in text.split(|character| separators.contains(character)) {
            if !first {
                self.end();
            }
            first = false;
            if !part.is_empty() {
                self.push(part);
            }
        }
    }
}

impl Machine<'_> {
    /// The fields that `word` becomes: braces, parameters, substitutions, splitting.
    pub(super) fn fields(&mut self, word: &Word) -> Result<Vec<String>> {
        if let [Piece::Lit(text)] = word.as_slice()
            && !text.contains('{')
        {
            return Ok(vec![text.clone()]);
        }
        let mut fields = Vec::new();
        if word
            .iter()
            .any(|piece| matches!(piece, Piece::Lit(text) if text.contains('{')))
        {
            let mut words = Vec::new();
            self.braces(word, &mut words, 0)?;
            for word in &words {
                self.fields_of(word, &mut fields)?;
            }
        } else {
            self.fields_of(word, &mut fields)?;
        }
        Ok(fields)
    }

    fn fields_of(&mut self, word: &Word, out: &mut Vec<String>) -> Result<()> {
        let mut fields = Fields::default();
        self.expand(word, false, &mut fields)?;
        fields.end();
        out.append(&mut fields.done);
        if out.len() > 8 * MAX_WORDS {
            return Err(Stop::Refuse("expands to too many words"));
        }
        Ok(())
    }

    /// What `word` becomes where nothing is split: assignments, redirections, quotes.
    pub(super) fn text(&mut self, word: &[Piece]) -> Result<String> {
        let mut fields = Fields::default();
        self.expand(word, true, &mut fields)?;
        fields.end();
        Ok(fields.done.join(" "))
    }

    fn expand(&mut self, word: &[Piece], quoted: bool, fields: &mut Fields) -> Result<()> {
        for piece in word {
            match piece {
                Piece::Lit(text) => fields.push(text),
                Piece::Quoted(text) => fields.push(text),
                Piece::Double(inner) => {
                    // `"$@"` is as many fields as there are parameters, none at all included.
                    let only_all = matches!(inner.as_slice(), [Piece::Param(param)] if is_all(param));
                    if !only_all {
                        fields.push("");
                    }
                    self.expand(inner, true, fields)?;
                }
                Piece::Param(param) => self.param(param, quoted, fields)?,
                Piece::Subst(script) => {
                    let output = self.substitute(script)?;
                    self.add(&output, quoted, fields);
                }
                Piece::Arith(inner) => {
                    let text = self.text(inner)?;
                    let value = self.arithmetic(&text)?;
                    fields.push(&value);
                }
                Piece::Process { write, script } => {
                    let path = self.process(*write, script)?;
                    fields.push(&path);
                }
                Piece::Here(slot) => {
                    let bodies = Rc::clone(&self.bodies);
                    if let Some(body) = bodies.get(*slot) {
                        let text = self.text(body)?;
                        fields.push(&text);
                    }
                }
            }
            let length = fields.open.as_ref().map_or(0, String::len);
            self.spend_bytes(length)?;
            if length > MAX_WORD_BYTES {
                return Err(Stop::Refuse("expands to too much text"));
            }
        }
        Ok(())
    }

    /// The word of `${x:-word}`: where nothing quotes it, its own text is split as well.
    fn expand_word(&mut self, word: &[Piece], quoted: bool, fields: &mut Fields) -> Result<()> {
        for piece in word {
            match piece {
                Piece::Lit(text) if !quoted => self.add(text, false, fields),
                piece => self.expand(std::slice::from_ref(piece), quoted, fields)?,
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &str, quoted: bool, fields: &mut Fields) {
        if quoted {
            fields.push(text);
        } else {
            if self.env.vars.contains_key("IFS") {
                let separators = self.separators();
                fields.split(text, &separators);
            } else {
                fields.split(text, " \t\n");
            }
        }
    }

    fn separators(&self) -> String {
        self.env
            .vars
            .get("IFS")
            .and_then(|var| var.value(self.choice).first().cloned())
            .filter(|ifs| !marks::any(ifs))
            .unwrap_or_else(|| " \t\n".to_owned())
    }

    fn param(&mut self, param: &Param, quoted: bool, fields: &mut Fields) -> Result<()> {
        if let ParamOp::Transform(b'!') = param.op {
            return Err(Stop::Refuse("names its variables by a pattern"));
        }
        let values = self.lookup(param)?;
        if let ParamOp::None = param.op
            && is_all(param)
            && !param.length
            && !param.indirect
        {
            let star = quoted
                && (param.name == "*" || param.index.as_deref().is_some_and(|index| is_literal(index, "*")));
            let values = values.unwrap_or_default();
            if star {
                let first = self
                    .separators()
                    .chars()
                    .next()
                    .map(String::from)
                    .unwrap_or_default();
                fields.push(&values.join(&first));
                return Ok(());
            }
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    fields.end();
                }
                self.add(value, quoted, fields);
                if at > MAX_WORDS {
                    return Err(Stop::Refuse("expands to too many words"));
                }
            }
            return Ok(());
        }
        let value = values.map(|values| {
            if values.len() == 1 {
                values.into_iter().next().unwrap_or_default()
            } else {
                values.join(" ")
            }
        });
        // What is not known to be set stands for itself; what is known to be unset is empty.
        let set = value
            .as_deref()
            .is_some_and(|value| !value.is_empty() && value != mark(marks::ENV));
        let plain = value.clone().unwrap_or_default();
        if param.length {
            let length = if marks::any(&plain) {
                marks::HARMLESS.to_string()
            } else {
                plain.chars().count().to_string()
            };
            fields.push(&length);
            return Ok(());
        }
        match &param.op {
            ParamOp::None => self.add(&plain, quoted, fields),
            ParamOp::Default(word) | ParamOp::AssignDefault(word) => {
                if set {
                    self.add(&plain, quoted, fields);
                } else {
                    if let ParamOp::AssignDefault(_) = param.op {
                        let text = self.text(word)?;
                        self.assign(&param.name, vec![text], false)?;
                    }
                    self.expand_word(word, quoted, fields)?;
                }
            }
            ParamOp::Alternative(word) => {
                // Of the environment, either may be: the word is what could do harm.
                if set || value.is_some() && !plain.is_empty() {
                    self.expand_word(word, quoted, fields)?;
                }
            }
            // It stops where the variable is empty: what follows is below a folder that somebody named.
            ParamOp::Error => {
                let plain = if plain == mark(marks::ENV) {
                    mark(marks::HARMLESS).to_owned()
                } else {
                    plain
                };
                self.add(&plain, quoted, fields);
            }
            ParamOp::Transform(what @ (b'Q' | b'E' | b'P' | b'A' | b'a' | b'K' | b'k')) => {
                if *what == b'P' {
                    self.prompt(&plain)?;
                }
                self.add(&plain, quoted, fields);
            }
            ParamOp::Transform(what @ (b'U' | b'u' | b'L')) => {
                let text = if *what == b'L' {
                    plain.to_lowercase()
                } else {
                    plain.to_uppercase()
                };
                self.add(&text, quoted, fields);
            }
            ParamOp::Transform(_) => self.add(mark(marks::OUTPUT), quoted, fields),
            ParamOp::Case { upper, all } => {
                let text = change_case(&plain, *upper, *all);
                self.add(&text, quoted, fields);
            }
            ParamOp::Trim {
                suffix,
                longest,
                pattern,
            } => {
                let pattern = self.text(pattern)?;
                let text = trim(&plain, &pattern, *suffix, *longest);
                self.add(&text, quoted, fields);
            }
            ParamOp::Replace {
                all,
                anchor,
                pattern,
                with,
            } => {
                let pattern = self.text(pattern)?;
                let with = self.text(with)?;
                let text = replace(&plain, &pattern, &with, *all, *anchor);
                self.add(&text, quoted, fields);
            }
            ParamOp::Substring { offset, length } => {
                let offset = self.text(offset)?;
                let length = match length {
                    Some(length) => Some(self.text(length)?),
                    None => None,
                };
                let source = self.literal_environment(&param.name).map_or(plain, str::to_owned);
                let offset = self.arithmetic(&offset)?;
                let length = match length {
                    Some(length) => Some(self.arithmetic(&length)?),
                    None => None,
                };
                let text = substring(&source, &offset, length.as_deref());
                self.add(&text, quoted, fields);
            }
        }
        Ok(())
    }

    /// What `${HOME:0:1}` cuts from: paths that begin as everybody's do.
    fn literal_environment(&self, name: &str) -> Option<&'static str> {
        if self.env.vars.contains_key(name) {
            return None;
        }
        match name {
            "HOME" => Some("/home/user"),
            "PWD" | "OLDPWD" => Some("/home/user/work"),
            "PATH" => Some("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            _ => None,
        }
    }

    /// The values of a parameter: several for arrays and `@`; `None` where it is known to be unset.
    fn lookup(&mut self, param: &Param) -> Result<Option<Vec<String>>> {
        let mut name = param.name.clone();
        if param.indirect {
            let Some(target) = self
                .variable(&name)
                .and_then(|mut values| (!values.is_empty()).then(|| values.swap_remove(0)))
            else {
                return Ok(Some(vec![mark(marks::OUTPUT).to_owned()]));
            };
            if marks::any(&target) {
                return Ok(Some(vec![mark(marks::OUTPUT).to_owned()]));
            }
            name = target;
        }
        if name == "@" || name == "*" {
            return Ok(Some(self.env.args.iter().skip(1).cloned().collect()));
        }
        let values = self.variable(&name);
        let Some(index) = &param.index else {
            return Ok(values.map(|mut values| {
                values.truncate(1);
                values
            }));
        };
        if is_literal(index, "@") || is_literal(index, "*") {
            return Ok(values);
        }
        let index = self.text(index)?;
        let index = self.arithmetic(&index)?;
        let values = values.unwrap_or_default();
        let found = match index.parse::<usize>() {
            Ok(at) => values.get(at).cloned().unwrap_or_default(),
            // A negative or an unknown subscript may be any of them.
            Err(_) => match index
                .strip_prefix('-')
                .and_then(|back| back.parse::<usize>().ok())
            {
                Some(back) => values
                    .len()
                    .checked_sub(back)
                    .and_then(|at| values.get(at))
                    .cloned()
                    .unwrap_or_default(),
                None => mark(marks::OUTPUT).to_owned(),
            },
        };
        Ok(Some(vec![found]))
    }

    /// The values of the variable `name`.
    fn variable(&self, name: &str) -> Option<Vec<String>> {
        let name = self.env.refs.get(name).map_or(name, String::as_str);
        if let Some(var) = self.env.vars.get(name) {
            return Some(var.value(self.choice).to_vec());
        }
        if let Ok(position) = name.parse::<usize>() {
            return match self.env.args.get(position) {
                Some(value) => Some(vec![value.clone()]),
                None => None,
            };
        }
        let known = match name {
            "HOME" => "~",
            "PWD" => {
                return Some(vec![if self.env.cwd.is_empty() {
                    ".".to_owned()
                } else {
                    self.env.cwd.clone()
                }]);
            }
            "IFS" => " \t\n",
            "USER" | "LOGNAME" => "user",
            "SHELL" | "BASH" => "/bin/bash",
            "TMPDIR" | "TMP" | "TEMP" => "/tmp",
            "RANDOM" | "SECONDS" | "LINENO" | "$" | "!" | "BASHPID" | "PPID" => "4242",
            "UID" | "EUID" => "1000",
            "?" => "0",
            "#" => return Some(vec![self.env.args.len().saturating_sub(1).to_string()]),
            "HOSTNAME" | "HOSTTYPE" | "OSTYPE" | "BASH_VERSION" | "MACHTYPE" => mark(marks::HARMLESS),
            "-" | "_" | "PATH" | "SHELLOPTS" | "BASHOPTS" | "PS4" | "REPLY" => mark(marks::OUTPUT),
            _ => mark(marks::ENV),
        };
        Some(vec![known.to_owned()])
    }

    /// Sets a variable. In a branch that may not be taken, the old value remains possible.
    pub(super) fn assign(&mut self, name: &str, value: Vec<String>, append: bool) -> Result<()> {
        self.spend_bytes(value.iter().map(String::len).sum())?;
        if self.env.vars.len() > 4096 {
            return Err(Stop::Refuse("has too many variables"));
        }
        let may = self.conditional > 0;
        let target = self.env.refs.get(name).cloned();
        let name = target.as_deref().unwrap_or(name);
        let var = self.env_mut().vars.entry(name.to_owned()).or_insert_with(|| Var {
            alternatives: Vec::new(),
        });
        let mut value = value;
        if append {
            let mut old = var.alternatives.last().cloned().unwrap_or_default();
            match (old.len(), value.len()) {
                (1, 1) => {
                    let joined = format!("{}{}", old.swap_remove(0), value.swap_remove(0));
                    if joined.len() > MAX_WORD_BYTES {
                        return Err(Stop::Refuse("expands to too much text"));
                    }
                    value = vec![joined];
                }
                (0, _) => {}
                _ => {
                    old.append(&mut value);
                    value = old;
                }
            }
            if value.len() > 8 * MAX_WORDS {
                return Err(Stop::Refuse("expands to too many words"));
            }
        }
        if !may {
            var.alternatives.clear();
        }
        if !var.alternatives.contains(&value) {
            if var.alternatives.len() >= super::machine::MAX_ALTERNATIVES {
                var.alternatives.remove(0);
                value = vec![mark(marks::OUTPUT).to_owned()];
            }
            var.alternatives.push(value);
        }
        Ok(())
    }

    /// The words that the braces of `word` make, the leftmost pair first.
    fn braces(&mut self, word: &[Piece], out: &mut Vec<Word>, depth: u32) -> Result<()> {
        self.step()?;
        if depth > 24 || out.len() > MAX_WORDS {
            return Err(Stop::Refuse("expands to too many words"));
        }
        let Some((open, parts, close)) = find_braces(word) else {
            out.push(word.to_vec());
            return Ok(());
        };
        let before = cut(word, (0, 0), open);
        let after = cut(word, (close.0, close.1.saturating_add(1)), (word.len(), 0));
        // The rest is expanded once; each part then stands before each of its words.
        let mut rests = Vec::new();
        self.braces(&after, &mut rests, depth.saturating_add(1))?;
        for part in parts {
            let mut inner = Vec::new();
            self.braces(&part, &mut inner, depth.saturating_add(1))?;
            for inner in &inner {
                for rest in &rests {
                    self.step()?;
                    let mut whole = before.clone();
                    for piece in inner.iter().chain(rest) {
                        push_piece(&mut whole, piece);
                    }
                    out.push(whole);
                    if out.len() > MAX_WORDS {
                        return Err(Stop::Refuse("expands to too many words"));
                    }
                }
            }
        }
        Ok(())
    }

    /// The value of an arithmetic expression of literal numbers; a mark for any other.
    pub(super) fn arithmetic(&mut self, text: &str) -> Result<String> {
        let text = text.trim();
        if !text.is_empty()
            && text.len() < 20
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && !text.starts_with('0')
        {
            return Ok(text.to_owned());
        }
        self.evaluate(text)?;
        Ok(Arithmetic {
            text: text.as_bytes(),
            at: 0,
            machine: self,
            depth: 0,
        }
        .whole()
        .map_or_else(|| mark(marks::OUTPUT).to_owned(), |value| value.to_string()))
    }

    /// What a shell runs when it evaluates `text` as a number or as the name of a variable: the substitutions in
    /// subscripts, in the text and in the variables that it names.
    pub(super) fn evaluate(&mut self, text: &str) -> Result<()> {
        self.evaluate_one(text)?;
        if self.env.vars.is_empty() {
            return Ok(());
        }
        let named: Vec<String> = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
            .take(64)
            .filter_map(|name| self.env.vars.get(name))
            .flat_map(|var| var.alternatives.iter().flatten())
            .filter(|value| substitutes(value))
            .cloned()
            .collect();
        for value in named {
            self.evaluate_one(&value)?;
        }
        Ok(())
    }

    fn evaluate_one(&mut self, text: &str) -> Result<()> {
        if substitutes(text) && text.contains('[') {
            self.prompt(text)?;
        }
        Ok(())
    }

    /// Expands `text` once more, as a prompt is and what `${x@P}` names.
    pub(super) fn prompt(&mut self, text: &str) -> Result<()> {
        if substitutes(text) {
            self.run_text(&format!(": \"{text}\""), "", false)?;
        }
        Ok(())
    }
}

/// Whether a text holds a command substitution.
fn substitutes(text: &str) -> bool {
    text.contains("$(") || text.contains('`') || text.contains("${ ")
}

struct Arithmetic<'t, 'm, 'r> {
    text: &'t [u8],
    at: usize,
    machine: &'m Machine<'r>,
    depth: u32,
}

impl Arithmetic<'_, '_, '_> {
    fn whole(&mut self) -> Option<i64> {
        if self.text.is_empty() {
            return Some(0);
        }
        let value = self.sum()?;
        (self.peek() == 0).then_some(value)
    }

    fn peek(&mut self) -> u8 {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at = self.at.saturating_add(1);
        }
        self.text.get(self.at).copied().unwrap_or(0)
    }

    fn next(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn sum(&mut self) -> Option<i64> {
        let mut value = self.product()?;
        loop {
            match self.peek() {
                b'+' => {
                    self.next();
                    value = value.checked_add(self.product()?)?;
                }
                b'-' => {
                    self.next();
                    value = value.checked_sub(self.product()?)?;
                }
                _ => return Some(value),
            }
        }
    }

    fn product(&mut self) -> Option<i64> {
        let mut value = self.atom()?;
        loop {
            match self.peek() {
                b'*' => {
                    self.next();
                    value = value.checked_mul(self.atom()?)?;
                }
                b'/' => {
                    self.next();
                    value = value.checked_div(self.atom()?)?;
                }
                b'%' => {
                    self.next();
                    value = value.checked_rem(self.atom()?)?;
                }
                _ => return Some(value),
            }
        }
    }

    fn atom(&mut self) -> Option<i64> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > 64 {
            return None;
        }
        let value = match self.peek() {
            b'-' => {
                self.next();
                self.atom()?.checked_neg()
            }
            b'+' => {
                self.next();
                self.atom()
            }
            b'(' => {
                self.next();
                let value = self.sum()?;
                (self.peek() == b')').then(|| self.next())?;
                Some(value)
            }
            first if first.is_ascii_digit() => {
                let from = self.at;
                while self
                    .text
                    .get(self.at)
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'#')
                {
                    self.next();
                }
                let digits = std::str::from_utf8(self.text.get(from..self.at)?).ok()?;
                if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
                    i64::from_str_radix(hex, 16).ok()
                } else if digits.len() > 1 && digits.starts_with('0') {
                    i64::from_str_radix(digits, 8).ok()
                } else {
                    digits.parse().ok()
                }
            }
            first if first.is_ascii_alphabetic() || first == b'_' => {
                let from = self.at;
                while self
                    .text
                    .get(self.at)
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                {
                    self.next();
                }
                let name = std::str::from_utf8(self.text.get(from..self.at)?).ok()?;
                let value = self.machine.variable(name)?;
                value.first()?.parse().ok()
            }
            _ => None,
        };
        self.depth = self.depth.saturating_sub(1);
        value
    }
}

/// A mark as a text.
pub(super) const fn mark(character: char) -> &'static str {
    match character {
        marks::ENV => "\u{fdd0}",
        marks::NETWORK => "\u{fdd2}",
        marks::SENSITIVE => "\u{fdd3}",
        marks::PIDS => "\u{fdd4}",
        marks::HARMLESS => "\u{fdd5}",
        marks::FILE => "\u{fdd6}",
        _ => "\u{fdd1}",
    }
}

fn is_literal(word: &[Piece], expected: &str) -> bool {
    matches!(word, [Piece::Lit(text) | Piece::Quoted(text)] if text == expected)
}

fn is_all(param: &Param) -> bool {
    match &param.index {
        Some(index) => is_literal(index, "@") || is_literal(index, "*"),
        None => param.name == "@" || param.name == "*",
    }
}

/// Adds a piece to a word that braces make: `$a{b,c}` is `$ab $ac`.
fn push_piece(word: &mut Word, piece: &Piece) {
    if let Some(Piece::Param(param)) = word.last_mut()
        && param.bare
        && param
            .name
            .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && let Piece::Lit(text) = piece
    {
        let end = text
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        param.name.push_str(name);
        if !rest.is_empty() {
            param.bare = false;
            word.push(Piece::Lit(rest.to_owned()));
        }
        return;
    }
    word.push(piece.clone());
}

/// A place in a word: the piece, and the byte in it.
type Spot = (usize, usize);

/// The leftmost pair of braces that expands: where it opens, its parts, where it closes.
fn find_braces(word: &[Piece]) -> Option<(Spot, Vec<Word>, Spot)> {
    let mut opens: Vec<(Spot, Vec<Spot>)> = Vec::new();
    let mut found: Option<(Spot, Vec<Spot>, Spot)> = None;
    for (at, piece) in word.iter().enumerate() {
        let Piece::Lit(text) = piece else { continue };
        for (byte, character) in text.bytes().enumerate() {
            match character {
                b'{' => opens.push(((at, byte), Vec::new())),
                b',' => {
                    if let Some((_, commas)) = opens.last_mut() {
                        commas.push((at, byte));
                    }
                }
                b'}' => {
                    let Some((open, commas)) = opens.pop() else {
                        continue;
                    };
                    let expands = !commas.is_empty()
                        || sequence(&cut(word, (open.0, open.1.saturating_add(1)), (at, byte))).is_some();
                    // The outermost of the leftmost: what encloses it may still close.
                    if expands && found.as_ref().is_none_or(|(other, _, _)| open < *other) {
                        found = Some((open, commas, (at, byte)));
                    }
                    if opens.is_empty() && found.is_some() {
                        break;
                    }
                }
                _ => {}
            }
        }
        if opens.is_empty() && found.is_some() {
            break;
        }
    }
    let (open, commas, close) = found?;
    let inside = (open.0, open.1.saturating_add(1));
    if commas.is_empty() {
        let items = sequence(&cut(word, inside, close))?;
        let parts = items.into_iter().map(|item| vec![Piece::Lit(item)]).collect();
        return Some((open, parts, close));
    }
    let mut parts = Vec::new();
    let mut from = inside;
    for comma in commas {
        parts.push(cut(word, from, comma));
        from = (comma.0, comma.1.saturating_add(1));
    }
    parts.push(cut(word, from, close));
    Some((open, parts, close))
}

/// The pieces of `word` from one place to another.
fn cut(word: &[Piece], from: Spot, to: Spot) -> Word {
    let mut out = Word::new();
    for (at, piece) in word.iter().enumerate() {
        if at < from.0 || at > to.0 || (at == to.0 && to.1 == 0) {
            continue;
        }
        match piece {
            Piece::Lit(text) => {
                let start = if at == from.0 { from.1 } else { 0 };
                let end = if at == to.0 { to.1 } else { text.len() };
                if let Some(part) = text.get(start..end)
                    && !part.is_empty()
                {
                    out.push(Piece::Lit(part.to_owned()));
                }
            }
            other => {
                if at != from.0 || from.1 == 0 {
                    out.push(other.clone());
                }
            }
        }
    }
    out
}

/// `a..e`, `1..9`, `1..9..2`
fn sequence(word: &[Piece]) -> Option<Vec<String>> {
    let [Piece::Lit(text)] = word else { return None };
    let mut parts = text.split("..");
    let (first, last, step) = (parts.next()?, parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let step = match step {
        Some(step) => step.parse::<i64>().ok()?.checked_abs()?.max(1),
        None => 1,
    };
    let letter = |text: &str| {
        let mut chars = text.chars();
        chars
            .next()
            .filter(|c| chars.as_str().is_empty() && c.is_ascii_alphabetic())
            .map(u32::from)
            .map(i64::from)
    };
    let (from, to, letters) = match (first.parse::<i64>(), last.parse::<i64>()) {
        (Ok(from), Ok(to)) => (from, to, false),
        _ => (letter(first)?, letter(last)?, true),
    };
    let padded = !letters
        && [first, last]
            .iter()
            .any(|end| end.trim_start_matches('-').starts_with('0') && end.trim_start_matches('-').len() > 1);
    let width = if padded { first.len().max(last.len()) } else { 0 };
    let mut items = Vec::new();
    let mut value = from;
    loop {
        items.push(if letters {
            String::from(char::from(u8::try_from(value).ok()?))
        } else if width > 0 {
            format!("{value:0width$}")
        } else {
            value.to_string()
        });
        // A long sequence of numbers is cut short: one number means what another does.
        if items.len() >= 100 {
            break;
        }
        value = if from <= to {
            value.checked_add(step)?
        } else {
            value.checked_sub(step)?
        };
        if (from <= to && value > to) || (from > to && value < to) {
            break;
        }
    }
    Some(items)
}

fn change_case(text: &str, upper: bool, all: bool) -> String {
    if all {
        return if upper {
            text.to_uppercase()
        } else {
            text.to_lowercase()
        };
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else {
        return String::new();
    };
    let mut out: String = if upper {
        first.to_uppercase().collect()
    } else {
        first.to_lowercase().collect()
    };
    out.push_str(chars.as_str());
    out
}

fn trim(text: &str, pattern: &str, suffix: bool, longest: bool) -> String {
    if marks::any(text) {
        // What remains of an unknown text is as unknown; a known head of it stays.
        return if suffix {
            text.to_owned()
        } else {
            marks::of(text, None)
        };
    }
    if marks::any(pattern) || text.len() > if pattern.contains('*') { 256 } else { 1024 } {
        return marks::of(pattern, Some(marks::OUTPUT));
    }
    let mut cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    cuts.push(text.len());
    // A suffix is shortest at the last cut, a prefix at the first.
    if suffix != longest {
        cuts.reverse();
    }
    for cut in cuts {
        let (head, tail) = text.split_at(cut);
        let (tested, kept) = if suffix { (tail, head) } else { (head, tail) };
        if paths::glob(pattern, tested) {
            return kept.to_owned();
        }
    }
    text.to_owned()
}

fn replace(text: &str, pattern: &str, with: &str, all: bool, anchor: u8) -> String {
    if marks::any(text) || marks::any(pattern) || text.len() > 1024 || pattern.contains(['*', '?', '[', '\\'])
    {
        return marks::of(&format!("{text}{pattern}"), Some(marks::OUTPUT));
    }
    if pattern.is_empty() {
        return text.to_owned();
    }
    match anchor {
        b'#' => text
            .strip_prefix(pattern)
            .map_or_else(|| text.to_owned(), |rest| format!("{with}{rest}")),
        b'%' => text
            .strip_suffix(pattern)
            .map_or_else(|| text.to_owned(), |rest| format!("{rest}{with}")),
        _ if all => text.replace(pattern, with),
        _ => text.replacen(pattern, with, 1),
    }
}

fn substring(text: &str, offset: &str, length: Option<&str>) -> String {
    let unknown = || marks::of(text, Some(marks::OUTPUT));
    if marks::any(text) {
        return unknown();
    }
    let count = text.chars().count();
    let place = |value: &str| -> Option<usize> {
        let value = value.parse::<i64>().ok()?;
        if value < 0 {
            count.checked_sub(usize::try_from(value.checked_neg()?).ok()?)
        } else {
            usize::try_from(value).ok()
        }
    };
    let Some(from) = place(offset) else {
        return unknown();
    };
    let until = match length {
        None => count,
        Some(length) => match length.parse::<i64>() {
            Ok(value) if value >= 0 => from.saturating_add(usize::try_from(value).unwrap_or(usize::MAX)),
            Ok(_) => match place(length) {
                Some(until) => until,
                None => return unknown(),
            },
            Err(_) => return unknown(),
        },
    };
    text.chars().take(until).skip(from).collect()
}
