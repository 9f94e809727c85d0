//! The shell's grammar as a tree. Knows no program and runs nothing.
//!
//! A parser of our own rather than a library's, for three reasons: it keeps no input after it returned, its depth and
//! its work are bounded before they can hurt, and what it does not know is an error instead of a guess. It reads what
//! `bash` reads; where `sh` differs, it takes the reading that runs more.
#![expect(
    clippy::collapsible_if,
    clippy::redundant_closure_for_method_calls,
    clippy::too_many_lines,
    reason = "a grammar or a table, read best in one place and as it is written"
)]

use std::rc::Rc;

/// How deeply constructs may nest: substitutions, groups, quotes in quotes.
const MAX_DEPTH: u32 = 64;

/// Why a text is no script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// As a fragment for a reason.
    pub(super) what: &'static str,
    /// Whether it was met at the end, where more text may mend it.
    pub(super) open: bool,
    /// Whether a bound was met, and nothing is known of the grammar.
    pub(super) bounded: bool,
}

/// Constructs that nest deeper than the parser goes.
const TOO_DEEP: &str = "is nested too deeply";
/// What a shell reads and this parser does not.
const UNREAD_END: &str = "has a here-document whose end is not read";
const UNREAD_GLOB: &str = "has an extended glob that is not read";
const TOO_MANY: &str = "has too many here-documents";
/// More commands than anybody would follow.
const TOO_LONG: &str = "does more than can be followed";

/// Commands in the order in which they stand.
pub(super) type Script = Vec<AndOr>;

/// Pipelines joined by `&&` and `||`.
#[derive(Debug)]
pub(super) struct AndOr {
    pub(super) pipelines: Vec<Vec<Command>>,
    pub(super) background: bool,
}

#[derive(Debug)]
pub(super) struct Command {
    pub(super) kind: Kind,
    pub(super) redirects: Vec<Redirect>,
}

#[derive(Debug)]
pub(super) enum Kind {
    Simple {
        assigns: Vec<Assign>,
        words: Vec<Word>,
    },
    /// `{ …; }`
    Group(Script),
    /// `( … )`
    Subshell(Script),
    /// `if`, `elif`, `else`: conditions and bodies, in order.
    If(Vec<Script>),
    /// `while`, `until`, and the arithmetic `for`.
    Loop(Vec<Script>),
    /// `for` and `select`; without words it walks the positional parameters.
    For {
        name: String,
        words: Option<Vec<Word>>,
        body: Script,
    },
    Case {
        word: Word,
        arms: Vec<(Vec<Word>, Script)>,
    },
    Function {
        name: String,
        body: Rc<Command>,
    },
    /// `[[ … ]]` and `(( … ))`: words whose expansion may run something.
    Test(Vec<Word>),
}

#[derive(Debug)]
pub(super) struct Assign {
    pub(super) name: String,
    pub(super) append: bool,
    /// The subscript of `a[…]=`; what it expands to is run.
    pub(super) index: Option<Word>,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar(Word),
    Array(Vec<Word>),
}

#[derive(Debug)]
pub(super) struct Redirect {
    /// The descriptor, where one is written; `{name}` counts as none.
    pub(super) fd: Option<u32>,
    pub(super) op: RedirectOp,
    pub(super) target: Word,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RedirectOp {
    Read,
    Write,
    Append,
    ReadWrite,
    /// `<&`
    DupIn,
    /// `>&`: to a descriptor, or both streams to a file.
    DupOut,
    /// `&>` and `&>>`
    Both,
    /// A here-document or a here-string: the target is the text.
    Text,
}

pub(super) type Word = Vec<Piece>;

#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// Unquoted text: braces, tildes and globs count in it.
    Lit(String),
    /// Text in single quotes, in `$'…'` or behind a backslash.
    Quoted(String),
    /// In double quotes.
    Double(Vec<Piece>),
    Param(Box<Param>),
    /// `$(…)` and backquotes.
    Subst(Rc<Script>),
    /// `$((…))`
    Arith(Vec<Piece>),
    /// `<(…)` and `>(…)`
    Process {
        write: bool,
        script: Rc<Script>,
    },
    /// The body of a here-document, by number; filled in once it was read.
    Here(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Param {
    pub(super) name: String,
    /// `[@]`, `[*]`: all; another subscript: its word.
    pub(super) index: Option<Word>,
    pub(super) length: bool,
    pub(super) indirect: bool,
    /// `$name`, without braces: what follows may still belong to the name once braces were expanded.
    pub(super) bare: bool,
    pub(super) op: ParamOp,
}

#[derive(Clone, Debug)]
pub(super) enum ParamOp {
    None,
    /// `:-` and `-`
    Default(Word),
    /// `:=` and `=`
    AssignDefault(Word),
    /// `:+` and `+`
    Alternative(Word),
    /// `:?` and `?`: what is said is not run.
    Error,
    /// `#`, `##`, `%`, `%%`
    Trim {
        suffix: bool,
        longest: bool,
        pattern: Word,
    },
    /// `/`, `//`, `/#`, `/%`
    Replace {
        all: bool,
        anchor: u8,
        pattern: Word,
        with: Word,
    },
    Substring {
        offset: Word,
        length: Option<Word>,
    },
    /// `^`, `^^`, `,`, `,,`
    Case {
        upper: bool,
        all: bool,
    },
    /// `@Q` and its like.
    Transform(u8),
}

/// A script and the bodies of its here-documents.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) script: Script,
    pub(super) bodies: Vec<Word>,
    /// Whether it holds a parameter that is not read: some shells stop there, and some go on.
    pub(super) unread: bool,
    /// How many commands were read, and redirections of them.
    pub(super) commands: u32,
}

/// Parses `text` from its start, and at most `most` commands of it. With an error comes what stands before the line it is on: a shell that reads line by
/// line runs that first.
pub(super) fn parse(text: &str, most: u32) -> (Parsed, Option<SyntaxError>) {
    let mut parser = Parser::new(text, 0, Vec::new(), most);
    let mut script = Script::new();
    let mut error = None;
    loop {
        // One complete line at a time.
        if let Err(what) = parser.lines() {
            error = Some(what);
            break;
        }
        if parser.end() {
            break;
        }
        match parser.line() {
            Ok(items) => script.extend(items),
            Err(what) => {
                error = Some(what);
                break;
            }
        }
        if parser.end() && !parser.pending.is_empty() {
            // A here-document without a line after it: the shell takes it as empty.
            parser.pending.clear();
        }
    }
    let error = error.map(|what| SyntaxError {
        what,
        open: parser.end() || what.starts_with("ends inside"),
        bounded: match what {
            TOO_DEEP => may_close(parser.rest()),
            // Without the option for them, a shell takes them for an error.
            UNREAD_GLOB => text.contains("extglob"),
            UNREAD_END | TOO_MANY | TOO_LONG => true,
            _ => false,
        },
    });
    (
        Parsed {
            script,
            bodies: parser.bodies,
            unread: parser.unread,
            commands: most.saturating_sub(parser.left),
        },
        error,
    )
}

/// Whether `rest` holds what closes as many constructs as were opened when the parser gave up. Without that a shell
/// finds no end, and runs nothing.
fn may_close(rest: &str) -> bool {
    let closers = rest
        .bytes()
        .filter(|byte| matches!(byte, b')' | b'}' | b'`' | b'"' | b'\''))
        .count();
    let words = rest
        .split(|c: char| c.is_whitespace() || c == ';')
        .filter(|word| matches!(*word, "fi" | "done" | "esac"))
        .count();
    let most = usize::try_from(MAX_DEPTH).unwrap_or(usize::MAX);
    closers.saturating_add(words) >= most / 2
}

#[derive(Debug)]
struct Pending {
    slot: usize,
    delimiter: String,
    quoted: bool,
    strip: bool,
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    pending: Vec<Pending>,
    bodies: Vec<Word>,
    /// Whether a parameter was met that is not read.
    unread: bool,
    /// How many more commands are read.
    left: u32,
}

const fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

const fn is_meta(byte: u8) -> bool {
    matches!(
        byte,
        b' ' | b'\t' | b'\r' | b'\n' | b';' | b'&' | b'|' | b'(' | b')' | b'<' | b'>'
    )
}

type Result<T> = std::result::Result<T, &'static str>;

impl<'a> Parser<'a> {
    const fn new(text: &'a str, depth: u32, bodies: Vec<Word>, left: u32) -> Self {
        Self {
            text,
            at: 0,
            depth,
            pending: Vec::new(),
            bodies,
            unread: false,
            left,
        }
    }

    fn end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// The byte `ahead` of the cursor; 0 past the end. The text holds no 0.
    fn peek(&self, ahead: usize) -> u8 {
        self.text
            .as_bytes()
            .get(self.at.saturating_add(ahead))
            .copied()
            .unwrap_or(0)
    }

    fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.text.len());
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn eat(&mut self, what: &str) -> bool {
        let found = self.rest().as_bytes().starts_with(what.as_bytes());
        if found {
            self.skip(what.len());
        }
        found
    }

    fn slice(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or("")
    }

    /// The whole character at the cursor, which moves past it.
    fn take_char(&mut self) -> Option<char> {
        let found = self.rest().chars().next()?;
        self.skip(found.len_utf8());
        Some(found)
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err(TOO_DEEP);
        }
        Ok(())
    }

    fn shallower(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Skips blanks, comments and line continuations.
    fn blanks(&mut self) {
        loop {
            match self.peek(0) {
                b' ' | b'\t' | b'\r' => self.skip(1),
                b'\\' if self.peek(1) == b'\n' => self.skip(2),
                b'\\' if self.peek(1) == b'\r' && self.peek(2) == b'\n' => self.skip(3),
                b'#' => {
                    let line = self.rest().find('\n').unwrap_or(self.rest().len());
                    self.skip(line);
                }
                _ => return,
            }
        }
    }

    /// Skips blanks and newlines, reading the here-documents that a newline begins.
    fn lines(&mut self) -> Result<()> {
        loop {
            self.blanks();
            if self.peek(0) != b'\n' {
                return Ok(());
            }
            self.newline()?;
        }
    }

    fn newline(&mut self) -> Result<()> {
        self.skip(1);
        for here in std::mem::take(&mut self.pending) {
            self.here_document(&here)?;
        }
        Ok(())
    }

    fn here_document(&mut self, here: &Pending) -> Result<()> {
        let mut body = String::new();
        while !self.end() {
            let rest = self.rest();
            let (line, taken) = rest.find('\n').map_or((rest, rest.len()), |end| {
                (rest.get(..end).unwrap_or(rest), end.saturating_add(1))
            });
            self.skip(taken);
            let line = if here.strip {
                line.trim_start_matches('\t')
            } else {
                line
            };
            if line.trim_end_matches('\r') == here.delimiter {
                break;
            }
            body.push_str(line);
            body.push('\n');
        }
        let word = if here.quoted {
            vec![Piece::Quoted(body)]
        } else {
            self.nested(&body, |parser| parser.double(None))?
        };
        if let Some(slot) = self.bodies.get_mut(here.slot) {
            *slot = word;
        }
        Ok(())
    }

    /// Parses another text one level deeper, with the same store of here-documents.
    fn nested<T>(&mut self, text: &str, parse: impl FnOnce(&mut Parser<'_>) -> Result<T>) -> Result<T> {
        self.deeper()?;
        let mut inner = Parser::new(text, self.depth, std::mem::take(&mut self.bodies), self.left);
        let result = parse(&mut inner);
        self.bodies = inner.bodies;
        self.unread |= inner.unread;
        self.left = inner.left;
        self.shallower();
        result
    }

    /// One line of commands, up to a newline or the end.
    fn line(&mut self) -> Result<Script> {
        let mut items = Script::new();
        loop {
            self.blanks();
            if self.end() {
                return Ok(items);
            }
            if self.peek(0) == b'\n' {
                self.newline()?;
                return Ok(items);
            }
            items.push(self.and_or()?);
            self.blanks();
            match self.peek(0) {
                b';' if self.peek(1) != b';' => self.skip(1),
                b'&' => self.skip(1),
                b'\n' | 0 => {}
                _ => return Err("has a word or an operator where none can stand"),
            }
        }
    }

    /// Commands up to one of `stops` in the place of a command, which stays unread.
    fn until(&mut self, stops: &[&str]) -> Result<Script> {
        self.deeper()?;
        let mut items = Script::new();
        loop {
            self.lines()?;
            if stops.iter().any(|stop| self.stands(stop)) {
                break;
            }
            if self.end() {
                return Err("ends inside a construct");
            }
            items.push(self.and_or()?);
            self.blanks();
            match self.peek(0) {
                b';' if self.peek(1) != b';' => self.skip(1),
                b'&' => self.skip(1),
                b'\n' => self.newline()?,
                _ if stops.iter().any(|stop| {
                    !stop.as_bytes().first().is_some_and(u8::is_ascii_alphabetic) && self.stands(stop)
                }) => {}
                // A compound command may be followed by a closing word at once: `{ { a; } }`.
                _ if stops.iter().any(|stop| self.stands(stop)) => {}
                _ => return Err("has a word or an operator where none can stand"),
            }
        }
        self.shallower();
        Ok(items)
    }

    /// Whether `what` stands here: a reserved word as a whole, an operator as it is.
    fn stands(&self, what: &str) -> bool {
        let rest = self.rest().as_bytes();
        if !rest.starts_with(what.as_bytes()) {
            return false;
        }
        let word = what
            .as_bytes()
            .first()
            .is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, b'{' | b'}' | b'!' | b'['));
        if !word {
            return true;
        }
        let next = self.peek(what.len());
        next == 0 || is_meta(next)
    }

    fn keyword(&mut self, what: &str) -> bool {
        self.blanks();
        let stands = self.stands(what);
        if stands {
            self.skip(what.len());
        }
        stands
    }

    fn expect(&mut self, what: &str) -> Result<()> {
        if self.keyword(what) {
            Ok(())
        } else {
            Err("misses a word that its construct needs")
        }
    }

    fn and_or(&mut self) -> Result<AndOr> {
        let mut pipelines = vec![self.pipeline()?];
        loop {
            self.blanks();
            if self.eat("&&") || self.eat("||") {
                self.lines()?;
                pipelines.push(self.pipeline()?);
            } else {
                let background = self.peek(0) == b'&';
                return Ok(AndOr {
                    pipelines,
                    background,
                });
            }
        }
    }

    fn pipeline(&mut self) -> Result<Vec<Command>> {
        let mut commands = Vec::new();
        loop {
            if self.keyword("!") {
                continue;
            }
            if self.keyword("time") {
                self.blanks();
                while self.eat("-p ") || self.eat("-- ") {
                    self.blanks();
                }
                if self.end() || matches!(self.peek(0), b'\n' | b';') {
                    return Ok(commands);
                }
                continue;
            }
            commands.push(self.command()?);
            self.blanks();
            if self.peek(0) == b'|' && self.peek(1) != b'|' {
                self.skip(1);
                if self.peek(0) == b'&' {
                    self.skip(1);
                }
                self.lines()?;
            } else {
                return Ok(commands);
            }
        }
    }

    fn command(&mut self) -> Result<Command> {
        self.blanks();
        self.deeper()?;
        let kind = self.compound()?;
        let command = match kind {
            Some(kind) => {
                let mut redirects = Vec::new();
                if !matches!(kind, Kind::Function { .. }) {
                    loop {
                        self.blanks();
                        match self.redirect()? {
                            Some(redirect) => redirects.push(redirect),
                            None => break,
                        }
                    }
                }
                Command { kind, redirects }
            }
            // A word that closes what nothing opened.
            None if ["}", "fi", "done", "esac"].iter().any(|word| self.stands(word)) => {
                return Err("has a word or an operator where none can stand");
            }
            None => self.simple()?,
        };
        self.shallower();
        Ok(command)
    }

    fn compound(&mut self) -> Result<Option<Kind>> {
        let kind = match self.peek(0) {
            b'(' if self.peek(1) == b'(' && self.arithmetic_length(2).is_some() => {
                self.skip(2);
                Kind::Test(vec![self.arithmetic()?])
            }
            b'(' => {
                self.skip(1);
                let body = self.until(&[")"])?;
                self.skip(1);
                Kind::Subshell(body)
            }
            b'{' if self.keyword("{") => {
                let body = self.until(&["}"])?;
                self.skip(1);
                Kind::Group(body)
            }
            b'[' if self.stands("[[") => {
                self.skip(2);
                Kind::Test(self.test()?)
            }
            b'i' if self.keyword("if") => {
                let mut parts = vec![self.until(&["then"])?];
                loop {
                    self.expect("then")?;
                    parts.push(self.until(&["elif", "else", "fi"])?);
                    if self.keyword("elif") {
                        parts.push(self.until(&["then"])?);
                        continue;
                    }
                    if self.keyword("else") {
                        parts.push(self.until(&["fi"])?);
                    }
                    self.expect("fi")?;
                    break;
                }
                Kind::If(parts)
            }
            b'w' | b'u' if self.keyword("while") || self.keyword("until") => {
                let condition = self.until(&["do"])?;
                let body = self.do_done()?;
                Kind::Loop(vec![condition, body])
            }
            b'f' if self.keyword("for") => self.for_loop()?,
            b's' if self.keyword("select") => self.for_loop()?,
            b'c' if self.keyword("case") => self.case()?,
            b'c' if self.keyword("coproc") => {
                self.blanks();
                // `coproc NAME { …; }` names the pipe; `coproc command` does not.
                let start = self.at;
                while is_name(self.peek(0)) {
                    self.skip(1);
                }
                self.blanks();
                if !matches!(self.peek(0), b'{' | b'(') {
                    self.at = start;
                }
                Kind::Group(vec![AndOr {
                    pipelines: vec![vec![self.command()?]],
                    background: true,
                }])
            }
            b'f' if self.keyword("function") => {
                self.blanks();
                let start = self.at;
                while !self.end() && !is_meta(self.peek(0)) {
                    self.skip(1);
                }
                let name = self.slice(start).to_owned();
                self.blanks();
                if self.eat("(") {
                    self.blanks();
                    if !self.eat(")") {
                        return Err("has a function without a body");
                    }
                }
                self.lines()?;
                Kind::Function {
                    name,
                    body: Rc::new(self.command()?),
                }
            }
            _ => return self.function(),
        };
        Ok(Some(kind))
    }

    /// `name() command`, if that stands here.
    fn function(&mut self) -> Result<Option<Kind>> {
        let start = self.at;
        while !self.end()
            && !is_meta(self.peek(0))
            && !matches!(self.peek(0), b'\'' | b'"' | b'$' | b'`' | b'\\' | b'=')
        {
            self.skip(1);
        }
        let name = self.slice(start);
        self.blanks();
        if !name.is_empty() && self.eat("(") {
            self.blanks();
            if self.eat(")") {
                let name = name.to_owned();
                self.lines()?;
                return Ok(Some(Kind::Function {
                    name,
                    body: Rc::new(self.command()?),
                }));
            }
            return Err("has a parenthesis where none can stand");
        }
        self.at = start;
        Ok(None)
    }

    fn do_done(&mut self) -> Result<Script> {
        self.expect("do")?;
        let body = self.until(&["done"])?;
        self.expect("done")?;
        Ok(body)
    }

    fn for_loop(&mut self) -> Result<Kind> {
        self.blanks();
        if self.eat("((") {
            let arithmetic = self.arithmetic()?;
            self.blanks();
            let _ = self.eat(";");
            self.lines()?;
            let body = if self.keyword("{") {
                let body = self.until(&["}"])?;
                self.skip(1);
                body
            } else {
                self.do_done()?
            };
            let test = Command {
                kind: Kind::Test(vec![arithmetic]),
                redirects: Vec::new(),
            };
            let condition = vec![AndOr {
                pipelines: vec![vec![test]],
                background: false,
            }];
            return Ok(Kind::Loop(vec![condition, body]));
        }
        let start = self.at;
        while is_name(self.peek(0)) {
            self.skip(1);
        }
        let name = self.slice(start).to_owned();
        if name.is_empty() {
            return Err("has a loop without a name");
        }
        self.lines()?;
        let mut words = None;
        if self.keyword("in") {
            let mut found = Vec::new();
            loop {
                self.blanks();
                if matches!(self.peek(0), b';' | b'\n' | 0) {
                    break;
                }
                found.push(self.word()?);
            }
            words = Some(found);
        }
        self.blanks();
        let _ = self.eat(";");
        self.lines()?;
        let body = if self.keyword("{") {
            let body = self.until(&["}"])?;
            self.skip(1);
            body
        } else {
            self.do_done()?
        };
        Ok(Kind::For { name, words, body })
    }

    fn case(&mut self) -> Result<Kind> {
        self.blanks();
        let word = self.word()?;
        self.lines()?;
        self.expect("in")?;
        let mut arms = Vec::new();
        loop {
            self.lines()?;
            if self.keyword("esac") {
                return Ok(Kind::Case { word, arms });
            }
            if self.end() {
                return Err("ends inside a construct");
            }
            let _ = self.eat("(");
            let mut patterns = Vec::new();
            loop {
                self.blanks();
                patterns.push(self.word()?);
                self.blanks();
                if self.eat("|") {
                    continue;
                }
                if self.eat(")") {
                    break;
                }
                return Err("has a pattern without its end");
            }
            let body = self.until(&[";;", ";&", "esac"])?;
            arms.push((patterns, body));
            let _ = self.eat(";;&") || self.eat(";;") || self.eat(";&");
        }
    }

    /// The words of `[[ … ]]`, past its end.
    fn test(&mut self) -> Result<Vec<Word>> {
        let mut words = Vec::new();
        loop {
            self.lines()?;
            if self.end() {
                return Err("ends inside a construct");
            }
            if self.keyword("]]") {
                return Ok(words);
            }
            match self.peek(0) {
                b'<' | b'>' if self.peek(1) == b'(' => words.push(self.word()?),
                b'(' | b')' | b'<' | b'>' | b'&' | b'|' | b';' => self.skip(1),
                _ => words.push(self.word()?),
            }
        }
    }

    fn simple(&mut self) -> Result<Command> {
        let mut assigns = Vec::new();
        let mut words = Vec::new();
        let mut redirects = Vec::new();
        let mut declares = false;
        loop {
            self.blanks();
            if let Some(redirect) = self.redirect()? {
                self.left = self.left.checked_sub(1).ok_or(TOO_LONG)?;
                redirects.push(redirect);
                continue;
            }
            let next = self.peek(0);
            if self.end() || (is_meta(next) && !(matches!(next, b'<' | b'>') && self.peek(1) == b'(')) {
                break;
            }
            if words.is_empty() || declares {
                if let Some(assign) = self.assignment()? {
                    if declares {
                        // `export A=b` is seen both ways: as a word and as an assignment.
                        if let Value::Scalar(value) = &assign.value {
                            let mut word = vec![Piece::Lit(format!("{}=", assign.name))];
                            word.extend(value.iter().cloned());
                            words.push(word);
                        }
                    }
                    assigns.push(assign);
                    continue;
                }
            }
            let word = self.word()?;
            if words.is_empty() {
                declares = matches!(
                    word.as_slice(),
                    [Piece::Lit(name)] if matches!(name.as_str(), "export" | "declare" | "local" | "readonly" | "typeset" | "alias")
                );
            }
            words.push(word);
        }
        if assigns.is_empty() && words.is_empty() && redirects.is_empty() {
            return Err("misses a command");
        }
        self.left = self.left.checked_sub(1).ok_or(TOO_LONG)?;
        Ok(Command {
            kind: Kind::Simple { assigns, words },
            redirects,
        })
    }

    /// `name=…`, `name+=…`, `name[…]=…`, if that stands here.
    fn assignment(&mut self) -> Result<Option<Assign>> {
        if !is_name_start(self.peek(0)) {
            return Ok(None);
        }
        let start = self.at;
        while is_name(self.peek(0)) {
            self.skip(1);
        }
        let name = self.slice(start);
        let mut index = None;
        if self.peek(0) == b'[' {
            let close = self.rest().find(']').filter(|close| {
                let after = self.peek(close.saturating_add(1));
                let next = self.peek(close.saturating_add(2));
                after == b'=' || (after == b'+' && next == b'=')
            });
            let Some(close) = close else {
                self.at = start;
                return Ok(None);
            };
            let inner = self.rest().get(1..close).unwrap_or("");
            if inner.contains('\n') {
                self.at = start;
                return Ok(None);
            }
            let inner = self.nested(inner, |parser| parser.double(None))?;
            index = Some(inner);
            self.skip(close.saturating_add(1));
        }
        let append = self.eat("+=");
        if !append && !self.eat("=") {
            self.at = start;
            return Ok(None);
        }
        let name = name.to_owned();
        if self.eat("(") {
            let mut items = Vec::new();
            loop {
                self.lines()?;
                if self.eat(")") {
                    break;
                }
                if self.end() {
                    return Err("ends inside a construct");
                }
                // `[key]=value` counts as its value.
                if self.peek(0) == b'[' {
                    if let Some(close) = self.rest().find("]=") {
                        if !self
                            .rest()
                            .get(..close)
                            .unwrap_or("")
                            .contains(['\n', ' ', '$', '`'])
                        {
                            self.skip(close.saturating_add(2));
                            if is_meta(self.peek(0)) {
                                items.push(Word::new());
                                continue;
                            }
                        }
                    }
                }
                items.push(self.word()?);
            }
            return Ok(Some(Assign {
                name,
                append,
                index,
                value: Value::Array(items),
            }));
        }
        let value = if self.end()
            || (is_meta(self.peek(0)) && !(matches!(self.peek(0), b'<' | b'>') && self.peek(1) == b'('))
        {
            Word::new()
        } else {
            self.word()?
        };
        Ok(Some(Assign {
            name,
            append,
            index,
            value: Value::Scalar(value),
        }))
    }

    fn redirect(&mut self) -> Result<Option<Redirect>> {
        let start = self.at;
        let mut fd = None;
        if self.peek(0).is_ascii_digit() {
            while self.peek(0).is_ascii_digit() {
                self.skip(1);
            }
            fd = self.slice(start).parse().ok();
        } else if self.peek(0) == b'{' && is_name_start(self.peek(1)) {
            self.skip(1);
            while is_name(self.peek(0)) {
                self.skip(1);
            }
            if !self.eat("}") {
                self.at = start;
                return Ok(None);
            }
            fd = Some(9);
        }
        let op = match (self.peek(0), self.peek(1)) {
            (b'<' | b'>', b'(') if fd.is_none() => None,
            (b'<', b'<') if self.peek(2) == b'<' => {
                self.skip(3);
                Some(RedirectOp::Text)
            }
            (b'<', b'<') => {
                self.skip(2);
                let strip = self.eat("-");
                return self.here(fd, strip).map(Some);
            }
            (b'<', b'&') => {
                self.skip(2);
                Some(RedirectOp::DupIn)
            }
            (b'<', b'>') => {
                self.skip(2);
                Some(RedirectOp::ReadWrite)
            }
            (b'<', _) => {
                self.skip(1);
                Some(RedirectOp::Read)
            }
            (b'>', b'>') => {
                self.skip(2);
                Some(RedirectOp::Append)
            }
            (b'>', b'&') => {
                self.skip(2);
                Some(RedirectOp::DupOut)
            }
            (b'>', b'|') => {
                self.skip(2);
                Some(RedirectOp::Write)
            }
            (b'>', _) => {
                self.skip(1);
                Some(RedirectOp::Write)
            }
            (b'&', b'>') if fd.is_none() => {
                self.skip(2);
                let _ = self.eat(">");
                Some(RedirectOp::Both)
            }
            _ => None,
        };
        let Some(op) = op else {
            self.at = start;
            return Ok(None);
        };
        self.blanks();
        let target = self.word()?;
        Ok(Some(Redirect { fd, op, target }))
    }

    fn here(&mut self, fd: Option<u32>, strip: bool) -> Result<Redirect> {
        self.blanks();
        let word = self.word()?;
        let mut delimiter = String::new();
        let mut quoted = false;
        flatten(&word, &mut delimiter, &mut quoted)?;
        if self.pending.len() >= 64 {
            return Err(TOO_MANY);
        }
        let slot = self.bodies.len();
        self.bodies.push(Word::new());
        self.pending.push(Pending {
            slot,
            delimiter,
            quoted,
            strip,
        });
        Ok(Redirect {
            fd,
            op: RedirectOp::Text,
            target: vec![Piece::Here(slot)],
        })
    }

    /// A word; at least one piece.
    fn word(&mut self) -> Result<Word> {
        let mut pieces = Word::new();
        let start = self.at;
        loop {
            let from = self.at;
            while !self.end()
                && !is_meta(self.peek(0))
                && !matches!(self.peek(0), b'\'' | b'"' | b'\\' | b'$' | b'`')
            {
                self.skip(1);
            }
            if self.at > from {
                pieces.push(Piece::Lit(self.slice(from).to_owned()));
            }
            match self.peek(0) {
                b'\'' => {
                    self.skip(1);
                    let from = self.at;
                    let Some(length) = self.rest().find('\'') else {
                        return Err("ends inside a quote");
                    };
                    self.skip(length);
                    pieces.push(Piece::Quoted(self.slice(from).to_owned()));
                    self.skip(1);
                }
                b'"' => {
                    self.skip(1);
                    pieces.push(Piece::Double(self.double(Some(b'"'))?));
                }
                b'\\' => {
                    self.skip(1);
                    match self.take_char() {
                        Some('\n') => {}
                        Some('\r') if self.peek(0) == b'\n' => self.skip(1),
                        Some(other) => pieces.push(Piece::Quoted(other.to_string())),
                        None => pieces.push(Piece::Quoted("\\".to_owned())),
                    }
                }
                b'$' => self.dollar(false, &mut pieces)?,
                b'`' => pieces.push(self.backquote(false)?),
                b'<' | b'>'
                    if self.peek(1) == b'(' && (self.at == start || pieces.is_empty() || self.at > start) =>
                {
                    let write = self.peek(0) == b'>';
                    self.skip(2);
                    let script = self.until(&[")"])?;
                    self.skip(1);
                    pieces.push(Piece::Process {
                        write,
                        script: Rc::new(script),
                    });
                }
                b'(' if matches!(pieces.last(), Some(Piece::Lit(text)) if text.ends_with(['?', '*', '+', '@', '!'])) =>
                {
                    // An extended glob: its text counts as a glob.
                    let Some(length) = self.rest().find(')') else {
                        return Err("ends inside a construct");
                    };
                    let inner = self.rest().get(..length).unwrap_or("");
                    if inner.contains(['$', '`', '\n', '\'', '"']) {
                        return Err(UNREAD_GLOB);
                    }
                    self.skip(length.saturating_add(1));
                    pieces.push(Piece::Lit("*".to_owned()));
                }
                _ => break,
            }
        }
        if self.at == start {
            return Err("misses a word");
        }
        Ok(pieces)
    }

    /// Text in which only `$`, backquotes and backslashes count, up to `close` (which is read) or the end.
    fn double(&mut self, close: Option<u8>) -> Result<Vec<Piece>> {
        self.deeper()?;
        let mut pieces = Vec::new();
        loop {
            let from = self.at;
            while !self.end() && Some(self.peek(0)) != close && !matches!(self.peek(0), b'\\' | b'$' | b'`') {
                self.skip(1);
            }
            if self.at > from {
                pieces.push(Piece::Quoted(self.slice(from).to_owned()));
            }
            if self.end() {
                if close.is_some() {
                    return Err("ends inside a quote");
                }
                break;
            }
            if Some(self.peek(0)) == close {
                self.skip(1);
                break;
            }
            match self.peek(0) {
                b'\\' => {
                    self.skip(1);
                    match self.peek(0) {
                        b'\n' => self.skip(1),
                        next @ (b'$' | b'`' | b'\\') => {
                            self.skip(1);
                            pieces.push(Piece::Quoted(char::from(next).to_string()));
                        }
                        b'"' if close == Some(b'"') => {
                            self.skip(1);
                            pieces.push(Piece::Quoted("\"".to_owned()));
                        }
                        _ => pieces.push(Piece::Quoted("\\".to_owned())),
                    }
                }
                b'$' => self.dollar(true, &mut pieces)?,
                _ => pieces.push(self.backquote(close == Some(b'"'))?),
            }
        }
        self.shallower();
        Ok(pieces)
    }

    fn backquote(&mut self, in_double: bool) -> Result<Piece> {
        self.skip(1);
        let mut inner = String::new();
        loop {
            let from = self.at;
            while !self.end() && !matches!(self.peek(0), b'`' | b'\\') {
                self.skip(1);
            }
            inner.push_str(self.slice(from));
            if self.end() {
                return Err("ends inside a quote");
            }
            if self.eat("`") {
                break;
            }
            self.skip(1);
            match self.peek(0) {
                next @ (b'`' | b'$' | b'\\') => {
                    self.skip(1);
                    inner.push(char::from(next));
                }
                b'"' if in_double => {
                    self.skip(1);
                    inner.push('"');
                }
                _ => inner.push('\\'),
            }
        }
        let script = self.nested(&inner, |parser| parser.whole())?;
        Ok(Piece::Subst(Rc::new(script)))
    }

    /// Everything up to the end as one script.
    fn whole(&mut self) -> Result<Script> {
        let mut script = Script::new();
        loop {
            self.lines()?;
            if self.end() {
                return Ok(script);
            }
            script.extend(self.line()?);
        }
    }

    fn dollar(&mut self, in_double: bool, pieces: &mut Vec<Piece>) -> Result<()> {
        self.skip(1);
        match self.peek(0) {
            b'(' if self.peek(1) == b'(' && self.arithmetic_length(2).is_some() => {
                self.skip(2);
                pieces.push(Piece::Arith(self.arithmetic()?));
            }
            b'(' => {
                self.skip(1);
                // Here-documents of the outside begin after its own line, not inside the substitution.
                let outer = std::mem::take(&mut self.pending);
                let script = self.until(&[")"]);
                self.pending = outer;
                let script = script?;
                self.skip(1);
                pieces.push(Piece::Subst(Rc::new(script)));
            }
            b'[' => {
                let Some(length) = self.rest().find(']') else {
                    return Err("ends inside a construct");
                };
                let inner = self.rest().get(1..length).unwrap_or("");
                let inner = self.nested(inner, |parser| parser.double(None))?;
                self.skip(length.saturating_add(1));
                pieces.push(Piece::Arith(inner));
            }
            b'{' => {
                self.skip(1);
                pieces.push(self.braced(in_double)?);
            }
            b'\'' if !in_double => {
                self.skip(1);
                pieces.push(Piece::Quoted(self.ansi()?));
            }
            b'"' if !in_double => {
                self.skip(1);
                pieces.push(Piece::Double(self.double(Some(b'"'))?));
            }
            next if is_name_start(next) => {
                let from = self.at;
                while is_name(self.peek(0)) {
                    self.skip(1);
                }
                let mut name = self.slice(from).to_owned();
                // A line that goes on in the next one goes on within a name as well.
                while self.peek(0) == b'\\' && self.peek(1) == b'\n' && is_name(self.peek(2)) {
                    self.skip(2);
                    let from = self.at;
                    while is_name(self.peek(0)) {
                        self.skip(1);
                    }
                    name.push_str(self.slice(from));
                }
                pieces.push(plain(&name));
            }
            next @ (b'0'..=b'9' | b'@' | b'*' | b'#' | b'?' | b'-' | b'$' | b'!') => {
                self.skip(1);
                pieces.push(plain(&char::from(next).to_string()));
            }
            _ => pieces.push(Piece::Quoted("$".to_owned())),
        }
        Ok(())
    }

    /// How long the arithmetic is that starts `ahead` of the cursor, where it ends in `))`.
    fn arithmetic_length(&self, ahead: usize) -> Option<usize> {
        let mut open = 0_u32;
        let mut at = ahead;
        let mut quote = 0_u8;
        loop {
            let next = self.peek(at);
            match next {
                0 => return None,
                b'\\' => at = at.saturating_add(1),
                b'\'' | b'"' if quote == 0 => quote = next,
                _ if next == quote => quote = 0,
                _ if quote != 0 => {}
                b'(' => open = open.saturating_add(1),
                b')' if open > 0 => open = open.saturating_sub(1),
                b')' => return (self.peek(at.saturating_add(1)) == b')').then(|| at.saturating_sub(ahead)),
                _ => {}
            }
            at = at.saturating_add(1);
        }
    }

    /// What stands in `((…))`, past its end.
    fn arithmetic(&mut self) -> Result<Vec<Piece>> {
        let Some(length) = self.arithmetic_length(0) else {
            return Err("ends inside a construct");
        };
        let inner = self.rest().get(..length).unwrap_or("");
        let pieces = self.nested(inner, |parser| parser.double(None))?;
        self.skip(length.saturating_add(2));
        Ok(pieces)
    }

    /// The text of `$'…'`, past its end.
    fn ansi(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        loop {
            let Some(next) = self.take_char() else {
                return Err("ends inside a quote");
            };
            match next {
                '\'' => break,
                '\\' => {
                    let Some(escape) = self.take_char() else {
                        return Err("ends inside a quote");
                    };
                    self.escape(escape, &mut bytes);
                }
                other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        // A 0 ends the text, as in the shell.
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn escape(&mut self, escape: char, bytes: &mut Vec<u8>) {
        let simple = match escape {
            'a' => 7,
            'b' => 8,
            'e' | 'E' => 27,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '?' => u8::try_from(escape).unwrap_or(b'?'),
            'c' => {
                if let Some(control) = self.take_char() {
                    bytes.push(u8::try_from(control).unwrap_or(0) & 0x1f);
                }
                return;
            }
            'x' => {
                if !self.peek(0).is_ascii_hexdigit() {
                    bytes.extend_from_slice(b"\\x");
                    return;
                }
                bytes.push(u8::try_from(self.number(16, 2) & 0xff).unwrap_or(0));
                return;
            }
            'u' | 'U' => {
                if !self.peek(0).is_ascii_hexdigit() {
                    bytes.push(b'\\');
                    bytes.push(u8::try_from(escape).unwrap_or(b'u'));
                    return;
                }
                let value = self.number(16, if escape == 'u' { 4 } else { 8 });
                let decoded = char::from_u32(value).unwrap_or('\u{fffd}');
                bytes.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
                return;
            }
            '0'..='7' => {
                self.at = self.at.saturating_sub(1);
                bytes.push(u8::try_from(self.number(8, 3) & 0xff).unwrap_or(0));
                return;
            }
            other => {
                bytes.push(b'\\');
                bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes());
                return;
            }
        };
        bytes.push(simple);
    }

    fn number(&mut self, base: u32, most: usize) -> u32 {
        let mut value = 0_u32;
        for _ in 0..most {
            let Some(digit) = char::from(self.peek(0)).to_digit(base) else {
                break;
            };
            value = value.wrapping_mul(base).wrapping_add(digit);
            self.skip(1);
        }
        value
    }

    /// `${…}`, past its brace.
    fn braced(&mut self, in_double: bool) -> Result<Piece> {
        self.deeper()?;
        let mut param = Param {
            name: String::new(),
            index: None,
            length: false,
            indirect: false,
            bare: false,
            op: ParamOp::None,
        };
        // What a workflow's own language puts in before a shell sees it.
        if self.peek(0) == b'{'
            && let Some(length) = self.rest().find("}}")
            && self
                .rest()
                .get(..length)
                .is_some_and(|inner| !inner.contains(['$', '`', '\n']))
        {
            self.skip(length.saturating_add(2));
            param.name.push_str("{{");
            self.shallower();
            return Ok(Piece::Param(Box::new(param)));
        }
        if self.peek(0) == b'#'
            && self.peek(1) != b'}'
            && !matches!(self.peek(1), b':' | b'%' | b'/' | b'^' | b',')
        {
            self.skip(1);
            param.length = true;
        } else if self.peek(0) == b'!'
            && (is_name(self.peek(1)) || matches!(self.peek(1), b'@' | b'*' | b'#'))
        {
            self.skip(1);
            param.indirect = true;
        }
        let from = self.at;
        if is_name_start(self.peek(0)) {
            while is_name(self.peek(0)) {
                self.skip(1);
            }
        } else if self.peek(0).is_ascii_digit() {
            while self.peek(0).is_ascii_digit() {
                self.skip(1);
            }
        } else if matches!(self.peek(0), b'@' | b'*' | b'#' | b'?' | b'-' | b'$' | b'!') {
            self.skip(1);
        } else {
            return self.unread();
        }
        self.slice(from).clone_into(&mut param.name);
        if self.peek(0) == b'[' {
            let Some(length) = self.rest().find(']') else {
                return Err("ends inside a construct");
            };
            let inner = self.rest().get(1..length).unwrap_or("");
            param.index = Some(self.nested(inner, |parser| parser.double(None))?);
            self.skip(length.saturating_add(1));
        }
        let colon = self.peek(0) == b':' && matches!(self.peek(1), b'-' | b'=' | b'+' | b'?');
        if colon {
            self.skip(1);
        }
        let op = self.peek(0);
        if op == b'}' {
            self.skip(1);
            self.shallower();
            return Ok(Piece::Param(Box::new(param)));
        }
        if self.end() {
            return Err("ends inside a construct");
        }
        self.skip(1);
        param.op = match op {
            b'-' => ParamOp::Default(self.operand(b"", in_double)?),
            b'=' => ParamOp::AssignDefault(self.operand(b"", in_double)?),
            b'+' => ParamOp::Alternative(self.operand(b"", in_double)?),
            b'?' => {
                self.operand(b"", in_double)?;
                ParamOp::Error
            }
            b'#' | b'%' => {
                let longest = self.peek(0) == op;
                if longest {
                    self.skip(1);
                }
                ParamOp::Trim {
                    suffix: op == b'%',
                    longest,
                    pattern: self.operand(b"", false)?,
                }
            }
            b'/' => {
                let all = self.eat("/");
                let anchor = match self.peek(0) {
                    anchor @ (b'#' | b'%') if !all => {
                        self.skip(1);
                        anchor
                    }
                    _ => 0,
                };
                let pattern = self.operand(b"/", false)?;
                let with = if self.eat("/") {
                    self.operand(b"", in_double)?
                } else {
                    Word::new()
                };
                ParamOp::Replace {
                    all,
                    anchor,
                    pattern,
                    with,
                }
            }
            b':' => {
                let offset = self.operand(b":", false)?;
                let length = if self.eat(":") {
                    Some(self.operand(b"", false)?)
                } else {
                    None
                };
                ParamOp::Substring { offset, length }
            }
            b'^' | b',' => {
                let all = self.peek(0) == op;
                if all {
                    self.skip(1);
                }
                let pattern = self.operand(b"", false)?;
                if !pattern.is_empty() {
                    return self.unread();
                }
                ParamOp::Case {
                    upper: op == b'^',
                    all,
                }
            }
            b'@' | b'*' if param.indirect => ParamOp::Transform(b'!'),
            b'@' => {
                let what = self.peek(0);
                self.skip(1);
                ParamOp::Transform(what)
            }
            _ => return self.unread(),
        };
        if !self.eat("}") {
            return Err("ends inside a construct");
        }
        self.shallower();
        Ok(Piece::Param(Box::new(param)))
    }

    /// A parameter that is not read, past its end. A shell may say so and go on, so what follows counts.
    fn unread(&mut self) -> Result<Piece> {
        self.unread = true;
        self.operand(b"", false)?;
        if !self.eat("}") {
            return Err("ends inside a construct");
        }
        self.shallower();
        Ok(Piece::Param(Box::new(Param {
            name: "_".to_owned(),
            index: None,
            length: false,
            indirect: false,
            bare: false,
            op: ParamOp::None,
        })))
    }

    /// The operand of an operator in `${…}`: up to `}` or one of `stops`, which stay unread.
    fn operand(&mut self, stops: &[u8], in_double: bool) -> Result<Word> {
        let mut pieces = Word::new();
        loop {
            let from = self.at;
            while !self.end()
                && self.peek(0) != b'}'
                && !stops.contains(&self.peek(0))
                && !matches!(self.peek(0), b'\'' | b'"' | b'\\' | b'$' | b'`')
            {
                self.skip(1);
            }
            if self.at > from {
                let text = self.slice(from).to_owned();
                pieces.push(if in_double {
                    Piece::Quoted(text)
                } else {
                    Piece::Lit(text)
                });
            }
            if self.end() {
                return Err("ends inside a construct");
            }
            match self.peek(0) {
                b'\'' if !in_double => {
                    self.skip(1);
                    let from = self.at;
                    let Some(length) = self.rest().find('\'') else {
                        return Err("ends inside a quote");
                    };
                    self.skip(length);
                    pieces.push(Piece::Quoted(self.slice(from).to_owned()));
                    self.skip(1);
                }
                b'\'' => {
                    self.skip(1);
                    pieces.push(Piece::Quoted("'".to_owned()));
                }
                b'"' => {
                    self.skip(1);
                    pieces.push(Piece::Double(self.double(Some(b'"'))?));
                }
                b'\\' => {
                    self.skip(1);
                    match self.take_char() {
                        Some('\n') => {}
                        Some(other) if in_double && !matches!(other, '$' | '`' | '"' | '\\' | '}') => {
                            pieces.push(Piece::Quoted(format!("\\{other}")));
                        }
                        Some(other) => pieces.push(Piece::Quoted(other.to_string())),
                        None => return Err("ends inside a construct"),
                    }
                }
                b'$' => self.dollar(in_double, &mut pieces)?,
                b'`' => pieces.push(self.backquote(in_double)?),
                _ => return Ok(pieces),
            }
        }
    }
}

fn plain(name: &str) -> Piece {
    Piece::Param(Box::new(Param {
        name: name.to_owned(),
        index: None,
        length: false,
        indirect: false,
        bare: true,
        op: ParamOp::None,
    }))
}

/// The delimiter of a here-document: quotes removed, nothing expanded.
fn flatten(word: &[Piece], out: &mut String, quoted: &mut bool) -> Result<()> {
    for piece in word {
        match piece {
            Piece::Lit(text) => out.push_str(text),
            Piece::Quoted(text) => {
                *quoted = true;
                out.push_str(text);
            }
            Piece::Double(inner) => {
                *quoted = true;
                flatten(inner, out, quoted)?;
            }
            _ => return Err(UNREAD_END),
        }
    }
    Ok(())
}
