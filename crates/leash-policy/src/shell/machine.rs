//! Runs a script without running it: every command is met, with what is known of its words and its input.
//!
//! Branches are all taken, loops go round a few times, functions run where they are called. What a command would write
//! flows on as text, or as a [mark](super::marks) where it is not known.
#![expect(
    clippy::similar_names,
    clippy::too_many_lines,
    reason = "a grammar or a table, read best in one place and as it is written"
)]

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::Settings;
use super::expand::mark;
use super::marks;
use super::paths::{self, Place};
use super::syntax::{
    self, AndOr, Assign, Command, Kind, ParamOp, Piece, Redirect, RedirectOp, Script, Value, Word,
};

/// How many values a variable may have at once.
pub(super) const MAX_ALTERNATIVES: usize = 8;
/// How much may be run: commands, and rounds of expansion.
pub(super) const MAX_STEPS: u32 = 20_000;
/// How much text all expansions together may make.
const MAX_BYTES: usize = 4 << 20;
/// How deep scripts in scripts and functions in functions may go.
const MAX_CALLS: u32 = 12;
/// How deep the judge's own stack may go: commands in commands, however they came there.
const MAX_LEVELS: u32 = 80;

/// Why the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It does harm.
    Danger(&'static str),
    /// It cannot be judged in bounds, or is no shell at all.
    Refuse(&'static str),
}

type Result<T> = std::result::Result<T, Stop>;

/// How a script ended, as far as it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it was read.
    Whole,
    /// It ends within a quote or a construct, which more text may close.
    Open,
    /// It breaks the grammar: no shell reads on.
    Broken,
}

#[derive(Clone, Debug)]
pub(super) struct Var {
    /// Each is the list of an array; a scalar is a list of one.
    pub(super) alternatives: Vec<Vec<String>>,
}

impl Var {
    pub(super) fn value(&self, choice: usize) -> &[String] {
        self.alternatives
            .get(choice)
            .or_else(|| self.alternatives.last())
            .map_or(&[], Vec::as_slice)
    }
}

/// What a subshell copies.
#[derive(Clone, Debug, Default)]
pub(super) struct Env {
    pub(super) vars: HashMap<String, Var>,
    pub(super) functions: HashMap<String, Function>,
    pub(super) aliases: HashMap<String, String>,
    /// `$0` and the positional parameters.
    pub(super) args: Vec<String>,
    /// Where `cd` went; empty where it did not.
    pub(super) cwd: String,
    /// Names that stand for other variables: `declare -n`.
    pub(super) refs: HashMap<String, String>,
}

impl Env {
    /// What a copy of it costs: one for each value, and for each 64 bytes of them.
    fn weight(&self) -> usize {
        let values = self
            .vars
            .values()
            .flat_map(|var| var.alternatives.iter().flatten())
            .chain(&self.args)
            .map(|value| (value.len() >> 6).saturating_add(1))
            .fold(0, usize::saturating_add);
        values
            .saturating_add(self.vars.len())
            .saturating_add(self.functions.len())
            .saturating_add(self.aliases.len())
            .saturating_add(self.refs.len())
    }
}

#[derive(Clone, Debug)]
pub(super) struct Function {
    body: Rc<Command>,
    bodies: Rc<Vec<Word>>,
}

#[derive(Debug)]
pub(super) struct Machine<'r> {
    pub(super) settings: &'r Settings,
    pub(super) env: Rc<Env>,
    /// What files hold that the script wrote itself.
    pub(super) files: HashMap<String, String>,
    /// Other names that the script gave to programs, and to folders: copies and links.
    pub(super) copies: HashMap<String, String>,
    pub(super) links: HashMap<String, String>,
    /// Whether the text is a command, and no other text that might be one.
    pub(super) strict: bool,
    /// The here-documents of the script that runs.
    pub(super) bodies: Rc<Vec<Word>>,
    /// Which of several possible values variables have at the moment.
    pub(super) choice: usize,
    /// How many branches enclose what runs.
    pub(super) conditional: u32,
    /// What could not be known.
    pub(super) unknown: Option<&'static str>,
    /// The input of the command whose words are expanded.
    pub(super) input: String,
    /// Whether the command that runs stands in a pipeline or in the background.
    pub(super) forks: bool,
    /// Whether what is judged is only guessed to be a command: the lists of programs do not count then.
    pub(super) guesses: bool,
    running: Vec<String>,
    called: HashSet<String>,
    steps: u32,
    bytes: usize,
    calls: u32,
    loops: u32,
    processes: u32,
    level: u32,
    /// How the outermost script ended.
    end: End,
}

impl<'r> Machine<'r> {
    /// A machine that did `steps` already: for other texts of the same call.
    pub(super) fn new(settings: &'r Settings, steps: u32) -> Self {
        Self {
            settings,
            env: Rc::new(Env {
                args: vec!["bash".to_owned()],
                ..Env::default()
            }),
            files: HashMap::new(),
            copies: HashMap::new(),
            links: HashMap::new(),
            strict: false,
            bodies: Rc::new(Vec::new()),
            choice: 0,
            conditional: 0,
            unknown: None,
            input: String::new(),
            forks: false,
            guesses: false,
            running: Vec::new(),
            called: HashSet::new(),
            steps,
            bytes: 0,
            calls: 0,
            loops: 0,
            processes: 0,
            level: 0,
            end: End::Whole,
        }
    }

    /// How much was done so far.
    pub(super) const fn steps(&self) -> u32 {
        self.steps
    }

    /// Counts what costs a step for each `share` of `count`.
    fn count(&mut self, count: usize, share: usize) {
        let steps = count.checked_div(share).unwrap_or(count);
        self.steps = self
            .steps
            .saturating_add(u32::try_from(steps).unwrap_or(u32::MAX));
    }

    pub(super) fn step(&mut self) -> Result<()> {
        self.steps = self.steps.saturating_add(1);
        if self.steps > MAX_STEPS {
            return Err(Stop::Refuse("does more than can be followed"));
        }
        Ok(())
    }

    pub(super) fn spend_bytes(&mut self, count: usize) -> Result<()> {
        self.bytes = self.bytes.saturating_add(count);
        if self.bytes > MAX_BYTES {
            return Err(Stop::Refuse("expands to too much text"));
        }
        Ok(())
    }

    /// The state of this shell, apart from those that it was copied to.
    pub(super) fn env_mut(&mut self) -> &mut Env {
        // Now it is copied, with all that a script may have put there.
        if Rc::strong_count(&self.env) > 1 {
            let weight = self.env.weight();
            self.count(weight, 16);
        }
        Rc::make_mut(&mut self.env)
    }

    /// Goes one level deeper in the judge's own stack.
    fn deeper(&mut self) -> Result<()> {
        self.level = self.level.saturating_add(1);
        if self.level > MAX_LEVELS {
            return Err(Stop::Refuse("is nested too deeply"));
        }
        Ok(())
    }

    fn shallower(&mut self) {
        self.level = self.level.saturating_sub(1);
    }

    pub(super) fn unknown(&mut self, why: &'static str) {
        self.unknown.get_or_insert(why);
    }

    /// Runs `text` as a shell would, and then what it defined and did not call.
    ///
    /// In what may be no command, a script within it that breaks the grammar ends itself alone.
    pub(super) fn run_all(&mut self, text: &str, strict: bool) -> Result<End> {
        self.strict = strict;
        self.run_text(text, "", strict)?;
        let end = self.end;
        // A function that nothing calls may be called by what the shell does next.
        let rest: Vec<(String, Function)> = self
            .env
            .functions
            .iter()
            .filter(|(name, _)| !self.called.contains(name.as_str()))
            .map(|(name, function)| (name.clone(), function.clone()))
            .collect();
        for (name, function) in rest {
            let known = self.unknown;
            self.call(
                &name,
                &function,
                vec![name.clone(), mark(marks::ENV).to_owned()],
                "",
            )?;
            self.unknown = known;
        }
        Ok(end)
    }

    /// Runs `text` in this shell.
    pub(super) fn run_text(&mut self, text: &str, input: &str, strict: bool) -> Result<String> {
        self.step()?;
        self.spend_bytes(text.len())?;
        if text.contains(marks::NETWORK) {
            return Err(Stop::Danger("runs what it downloads"));
        }
        if text
            .trim()
            .chars()
            .all(|c| matches!(c, marks::HARMLESS | marks::FILE))
        {
            // A script that was there before, or the set-up that a known tool prints.
            return Ok(String::new());
        }
        self.calls = self.calls.saturating_add(1);
        if self.calls > MAX_CALLS {
            return Err(Stop::Refuse("is nested too deeply"));
        }
        // A command takes two steps, so that no more of them could be followed.
        let left = MAX_STEPS.saturating_sub(self.steps) / 2;
        let (parsed, error) = syntax::parse(text, left);
        // What is read costs as well, whether it runs or not.
        self.count(text.len(), 32);
        self.count(usize::try_from(parsed.commands).unwrap_or(usize::MAX), 4);
        if self.calls == 1 {
            self.end = match &error {
                None => End::Whole,
                Some(error) if error.open => End::Open,
                Some(_) => End::Broken,
            };
        }
        let unread = parsed.unread;
        let outer = std::mem::replace(&mut self.bodies, Rc::new(parsed.bodies));
        let result = self.script(&parsed.script, input);
        self.bodies = outer;
        self.calls = self.calls.saturating_sub(1);
        let output = result?;
        if let Some(error) = error
            && (strict && self.strict || error.bounded)
        {
            return Err(Stop::Refuse(error.what));
        }
        if unread && strict && self.strict {
            return Err(Stop::Refuse("has a parameter that is not read"));
        }
        Ok(output)
    }

    pub(super) fn script(&mut self, script: &Script, input: &str) -> Result<String> {
        let mut output = String::new();
        for item in script {
            self.and_or(item, input, &mut output)?;
        }
        Ok(output)
    }

    fn and_or(&mut self, item: &AndOr, input: &str, output: &mut String) -> Result<()> {
        let outer = self.forks;
        for (at, pipeline) in item.pipelines.iter().enumerate() {
            // What follows `||` may not run; its assignments are possible, not certain.
            if at > 0 {
                self.conditional = self.conditional.saturating_add(1);
            }
            self.forks = outer || item.background || pipeline.len() > 1;
            let result = self.pipeline(pipeline, input);
            if at > 0 {
                self.conditional = self.conditional.saturating_sub(1);
            }
            let text = result?;
            self.spend_bytes(text.len())?;
            output.push_str(&text);
        }
        self.forks = outer;
        Ok(())
    }

    fn pipeline(&mut self, commands: &[Command], input: &str) -> Result<String> {
        if let [command] = commands {
            return self.command(command, input);
        }
        let mut data = input.to_owned();
        let last = commands.len().saturating_sub(1);
        for (at, command) in commands.iter().enumerate() {
            let saved = Rc::clone(&self.env);
            data = self.command(command, &data)?;
            // `read` at the end of a pipeline is lost in bash, and kept in other shells.
            if at != last {
                self.env = saved;
            }
        }
        Ok(data)
    }

    fn command(&mut self, command: &Command, input: &str) -> Result<String> {
        self.step()?;
        self.deeper()?;
        let outer = std::mem::replace(&mut self.input, input.to_owned());
        let result = self.command_with(command, input);
        self.input = outer;
        self.shallower();
        result
    }

    fn command_with(&mut self, command: &Command, input: &str) -> Result<String> {
        if let Kind::Simple { assigns, words } = &command.kind {
            return self.choices(|machine| machine.simple(assigns, words, &command.redirects, input));
        }
        let input = self.inputs(&command.redirects, input)?;
        let output = self.compound(&command.kind, &input)?;
        self.outputs(&command.redirects, output)
    }

    fn compound(&mut self, kind: &Kind, input: &str) -> Result<String> {
        match kind {
            Kind::Simple { .. } => Ok(String::new()),
            Kind::Group(script) => self.script(script, input),
            Kind::Subshell(script) => {
                let saved = Rc::clone(&self.env);
                let output = self.script(script, input);
                self.env = saved;
                output
            }
            Kind::If(parts) => {
                let mut output = String::new();
                for (at, part) in parts.iter().enumerate() {
                    // The first condition always runs.
                    if at > 0 {
                        self.conditional = self.conditional.saturating_add(1);
                    }
                    let result = self.script(part, input);
                    if at > 0 {
                        self.conditional = self.conditional.saturating_sub(1);
                    }
                    output.push_str(&result?);
                }
                Ok(output)
            }
            Kind::Loop(parts) => {
                // Twice: what the first round sets, the second uses.
                let rounds = if self.loops < 2 { 2 } else { 1 };
                self.loops = self.loops.saturating_add(1);
                self.conditional = self.conditional.saturating_add(1);
                let mut output = String::new();
                let mut result = Ok(());
                'rounds: for _ in 0..rounds {
                    for part in parts {
                        match self.script(part, input) {
                            Ok(text) => output.push_str(&text),
                            Err(stop) => {
                                result = Err(stop);
                                break 'rounds;
                            }
                        }
                    }
                }
                self.conditional = self.conditional.saturating_sub(1);
                self.loops = self.loops.saturating_sub(1);
                result.map(|()| output)
            }
            Kind::For { name, words, body } => self.choices(|machine| {
                let mut values = Vec::new();
                match words {
                    Some(words) => {
                        for word in words {
                            values.extend(machine.fields(word)?);
                        }
                    }
                    None => values.extend(machine.env.args.iter().skip(1).cloned()),
                }
                if values.is_empty() {
                    // Nobody said what it goes over; what it does is met all the same.
                    values.push("x".to_owned());
                }
                // One number means what another does.
                let mut numbers = 0_u32;
                values.retain(|value| {
                    let number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                    numbers = numbers.saturating_add(u32::from(number));
                    !number || numbers <= 3
                });
                machine.conditional = machine.conditional.saturating_add(1);
                let mut output = String::new();
                let mut result = Ok(());
                for value in values {
                    // Within a round the value is certain.
                    machine.env_mut().vars.insert(
                        name.clone(),
                        Var {
                            alternatives: vec![vec![value]],
                        },
                    );
                    match machine.script(body, input) {
                        Ok(text) => output.push_str(&text),
                        Err(stop) => {
                            result = Err(stop);
                            break;
                        }
                    }
                }
                machine.conditional = machine.conditional.saturating_sub(1);
                result.map(|()| output)
            }),
            Kind::Case { word, arms } => {
                self.text(word)?;
                self.conditional = self.conditional.saturating_add(1);
                let mut output = String::new();
                for (patterns, body) in arms {
                    for pattern in patterns {
                        self.text(pattern)?;
                    }
                    output.push_str(&self.script(body, input)?);
                }
                self.conditional = self.conditional.saturating_sub(1);
                Ok(output)
            }
            Kind::Function { name, body } => {
                let bodies = Rc::clone(&self.bodies);
                self.env_mut().functions.insert(
                    name.clone(),
                    Function {
                        body: Rc::clone(body),
                        bodies,
                    },
                );
                Ok(String::new())
            }
            Kind::Test(words) => {
                for word in words {
                    let text = self.text(word)?;
                    self.evaluate(&text)?;
                }
                Ok(String::new())
            }
        }
    }

    /// Runs `run` once for each set of values that variables may have.
    fn choices(&mut self, mut run: impl FnMut(&mut Self) -> Result<String>) -> Result<String> {
        self.count(self.env.vars.len(), 128);
        let many = self
            .env
            .vars
            .values()
            .map(|var| var.alternatives.len())
            .max()
            .unwrap_or(1)
            .clamp(1, MAX_ALTERNATIVES);
        if many == 1 || self.choice > 0 {
            return run(self);
        }
        let mut output = String::new();
        for choice in (0..many).rev() {
            self.choice = choice;
            let result = run(self);
            self.choice = 0;
            output = result?;
        }
        Ok(output)
    }

    fn simple(
        &mut self,
        assigns: &[Assign],
        words: &[Word],
        redirects: &[Redirect],
        input: &str,
    ) -> Result<String> {
        let mut argv = Vec::new();
        for word in words {
            argv.extend(self.fields(word)?);
        }
        // A script that starts itself, twice or in a loop.
        if self.forks
            && self.calls <= 1
            && let [word] = words
            && is_self(word)
        {
            return Err(Stop::Danger("multiplies itself until nothing else runs"));
        }
        let saved = if argv.is_empty() || assigns.is_empty() {
            None
        } else {
            Some(Rc::clone(&self.env))
        };
        let declares = matches!(
            argv.first().map(String::as_str),
            Some("export" | "declare" | "local" | "readonly" | "typeset")
        );
        for assign in assigns {
            if let Some(index) = &assign.index {
                self.text(index)?;
            }
            let value = match &assign.value {
                Value::Scalar(word) => vec![self.text(word)?],
                Value::Array(words) => {
                    let mut items = Vec::new();
                    for word in words {
                        items.extend(self.fields(word)?);
                    }
                    items
                }
            };
            self.judge_assignment(&assign.name, &value)?;
            if assign.index.is_some() {
                // One element more; where it stands, does not matter much.
                self.assign(&assign.name, value, true)?;
            } else {
                self.assign(&assign.name, value, assign.append)?;
            }
        }
        let input = self.inputs(redirects, input)?;
        let output = if argv.is_empty() {
            // `< file` alone, in a substitution, reads it.
            if assigns.is_empty() && redirects.iter().any(|redirect| redirect.op == RedirectOp::Read) {
                input
            } else {
                String::new()
            }
        } else {
            self.judge_redirected_shell(&argv, redirects)?;
            // `${x:+word}` of a variable that nothing here set may as well be empty.
            if let Some(words) = self.without_alternatives(words) {
                let mut other = Vec::new();
                for word in &words {
                    other.extend(self.fields(word)?);
                }
                if other != argv {
                    let kept = Rc::clone(&self.env);
                    let unknown = self.unknown;
                    self.run(&other, &input)?;
                    self.unknown = unknown;
                    self.env = kept;
                }
            }
            let output = self.run(&argv, &input)?;
            if let Some(saved) = saved
                && !declares
            {
                // What the program itself changed (`cd`, functions) stays.
                self.count(saved.weight(), 16);
                let vars = saved.vars.clone();
                self.env_mut().vars = vars;
            }
            output
        };
        self.outputs(redirects, output)
    }

    /// `words` without the alternatives of variables that are not known; `None` where they have none.
    fn without_alternatives(&self, words: &[Word]) -> Option<Vec<Word>> {
        let drops = |piece: &Piece| {
            matches!(piece, Piece::Param(param)
                if matches!(param.op, ParamOp::Alternative(_)) && !self.env.vars.contains_key(&param.name))
        };
        let has = |piece: &Piece| match piece {
            Piece::Double(inner) => inner.iter().any(drops),
            piece => drops(piece),
        };
        if !words.iter().flatten().any(has) {
            return None;
        }
        let kept = |pieces: &[Piece]| -> Word {
            pieces
                .iter()
                .filter(|piece| !drops(piece))
                .map(|piece| match piece {
                    Piece::Double(inner) => {
                        Piece::Double(inner.iter().filter(|piece| !drops(piece)).cloned().collect())
                    }
                    piece => piece.clone(),
                })
                .collect()
        };
        Some(words.iter().map(|word| kept(word)).collect())
    }

    /// Runs a command by its words.
    pub(super) fn run(&mut self, argv: &[String], input: &str) -> Result<String> {
        self.step()?;
        // Many words are as much work as many commands.
        self.count(argv.len(), 4);
        self.deeper()?;
        let result = self.run_one(argv, input);
        self.shallower();
        result
    }

    fn run_one(&mut self, argv: &[String], input: &str) -> Result<String> {
        let Some((name, args)) = argv.split_first() else {
            return Ok(String::new());
        };
        if name.is_empty() {
            if !args.is_empty() {
                self.unknown("runs a program whose name is not known before it runs");
            }
            return Ok(String::new());
        }
        if let Some(alias) = self.env.aliases.get(name).cloned()
            && self.calls < MAX_CALLS
            && !self.running.contains(&format!("alias {name}"))
        {
            let text = std::iter::once(alias)
                .chain(args.iter().map(|arg| quote(arg)))
                .collect::<Vec<_>>()
                .join(" ");
            self.running.push(format!("alias {name}"));
            let result = self.run_text(&text, input, true);
            self.running.pop();
            return result;
        }
        if let Some(function) = self.env.functions.get(name).cloned() {
            return self.call(name, &function, argv.to_vec(), input);
        }
        self.program(name, args, input)
    }

    fn call(&mut self, name: &str, function: &Function, argv: Vec<String>, input: &str) -> Result<String> {
        if !self.called.contains(name) {
            self.called.insert(name.to_owned());
        }
        if self.running.iter().any(|running| running == name) {
            if self.forks {
                return Err(Stop::Danger("multiplies itself until nothing else runs"));
            }
            // `rm() { command rm "$@"; }`: what it calls is the program of that name.
            if super::long::is_known(super::judge::canonical(name))
                && let Some((_, args)) = argv.split_first()
            {
                return self.program(name, args, input);
            }
            // It calls itself; its commands were met already.
            return Ok(mark(marks::OUTPUT).to_owned());
        }
        self.calls = self.calls.saturating_add(1);
        if self.calls > MAX_CALLS {
            return Err(Stop::Refuse("is nested too deeply"));
        }
        self.running.push(name.to_owned());
        let args = std::mem::replace(&mut self.env_mut().args, argv);
        let bodies = std::mem::replace(&mut self.bodies, Rc::clone(&function.bodies));
        let forks = std::mem::replace(&mut self.forks, false);
        let choice = std::mem::replace(&mut self.choice, 0);
        let result = self.command(&function.body, input);
        self.choice = choice;
        self.forks = forks;
        self.bodies = bodies;
        self.env_mut().args = args;
        self.running.pop();
        self.calls = self.calls.saturating_sub(1);
        result
    }

    /// The output of a command substitution.
    pub(super) fn substitute(&mut self, script: &Rc<Script>) -> Result<String> {
        self.step()?;
        let saved = Rc::clone(&self.env);
        let choice = std::mem::replace(&mut self.choice, 0);
        // It reads what the command reads that it stands in.
        let input = self.input.clone();
        let output = self.script(script, &input);
        self.choice = choice;
        self.env = saved;
        let mut output = output?;
        output.truncate(output.trim_end_matches('\n').len());
        Ok(output)
    }

    /// The path under which a process substitution is read or written.
    pub(super) fn process(&mut self, write: bool, script: &Rc<Script>) -> Result<String> {
        let saved = Rc::clone(&self.env);
        // What is written into it: what comes in here, or what this command makes of it.
        let input = if write {
            marks::of(&self.input, Some(marks::OUTPUT))
        } else {
            String::new()
        };
        let output = self.script(script, &input);
        self.env = saved;
        let output = output?;
        self.processes = self.processes.saturating_add(1);
        let path = format!("/dev/fd/{}", self.processes.saturating_add(62));
        if !write {
            self.files.insert(path.clone(), output);
        }
        Ok(path)
    }

    /// What a file holds: what this script wrote, or what was there before.
    pub(super) fn read(&mut self, path: &str) -> Result<String> {
        let followed = match path.strip_prefix("/proc/self/fd/") {
            Some(descriptor) => Some(format!("/dev/fd/{descriptor}")),
            None => self.follow(path),
        };
        let path = followed.as_deref().unwrap_or(path);
        self.judge_path(path)?;
        if let Some(content) = self.files.get(&self.file_name(path)) {
            return Ok(content.clone());
        }
        if paths::is_credential(path, &self.env.cwd) {
            return Err(Stop::Danger("reads credentials"));
        }
        if path.starts_with("/dev/tcp/") || path.starts_with("/dev/udp/") {
            return Ok(mark(marks::NETWORK).to_owned());
        }
        if path == "/dev/null" {
            return Ok(String::new());
        }
        let private = paths::is_dotenv(path)
            || path.ends_with("_history")
            || matches!(
                paths::place(path, &self.env.cwd),
                Place::System | Place::InSystem | Place::Root | Place::Home | Place::Disk
            );
        Ok(mark(if private { marks::SENSITIVE } else { marks::FILE }).to_owned())
    }

    /// Where a path leads through a link that this script made; `None` where it meets none.
    pub(super) fn follow(&self, path: &str) -> Option<String> {
        if self.links.is_empty() {
            return None;
        }
        let name = self.file_name(path);
        let mut end = name.len();
        loop {
            let head = name.get(..end)?;
            if let Some(target) = self.links.get(head) {
                return Some(format!("{target}{}", name.get(end..)?));
            }
            end = head.rfind('/')?;
        }
    }

    /// Notes that a program has another name from now on.
    pub(super) fn copy_program(&mut self, name: &str, program: &str) {
        if self.copies.len() < 256 {
            let name = if name.contains('/') || !self.env.cwd.is_empty() {
                self.file_name(name)
            } else {
                name.to_owned()
            };
            self.copies.insert(name, program.to_owned());
        }
    }

    /// The name under which a file is remembered.
    pub(super) fn file_name(&self, path: &str) -> String {
        if path.starts_with(['/', '~']) || self.env.cwd.is_empty() {
            path.strip_prefix("./").unwrap_or(path).to_owned()
        } else {
            format!("{}/{}", self.env.cwd, path.strip_prefix("./").unwrap_or(path))
        }
    }

    /// Notes what a file holds from now on.
    pub(super) fn write(&mut self, path: &str, content: &str, append: bool) -> Result<()> {
        self.judge_path(path)?;
        self.judge_write(path, Some(content))?;
        if path.starts_with("/dev/") {
            return Ok(());
        }
        let name = self.file_name(path);
        self.spend_bytes(content.len())?;
        if self.files.len() > 4096 {
            return Err(Stop::Refuse("writes too many files"));
        }
        let file = self.files.entry(name).or_default();
        if !append {
            file.clear();
        }
        file.push_str(content);
        Ok(())
    }

    /// What comes in through redirections.
    fn inputs(&mut self, redirects: &[Redirect], input: &str) -> Result<String> {
        let mut data = None;
        for redirect in redirects {
            let content = match redirect.op {
                RedirectOp::Text => {
                    let text = self.text(&redirect.target)?;
                    if text.ends_with('\n') {
                        text
                    } else {
                        format!("{text}\n")
                    }
                }
                RedirectOp::Read => {
                    let target = self.target(&redirect.target)?;
                    self.read(&target)?
                }
                RedirectOp::ReadWrite => {
                    let target = self.target(&redirect.target)?;
                    self.write(&target, mark(marks::OUTPUT), true)?;
                    self.read(&target)?
                }
                RedirectOp::DupIn => {
                    let target = self.text(&redirect.target)?;
                    let name = format!("/dev/fd/{}", target.trim_end_matches('-'));
                    match self.files.get(&name) {
                        Some(content) => content.clone(),
                        None => continue,
                    }
                }
                _ => continue,
            };
            match redirect.fd {
                // Another descriptor, which a later command may read.
                Some(fd) if fd > 0 => {
                    if self.files.len() < 4096 {
                        self.files.insert(format!("/dev/fd/{fd}"), content);
                    }
                }
                _ => data = Some(content),
            }
        }
        Ok(data.unwrap_or_else(|| input.to_owned()))
    }

    /// Where output goes; what is left of it goes on.
    fn outputs(&mut self, redirects: &[Redirect], output: String) -> Result<String> {
        let mut gone = false;
        for redirect in redirects {
            let append = redirect.op == RedirectOp::Append;
            match redirect.op {
                RedirectOp::Write | RedirectOp::Append | RedirectOp::Both => {
                    let target = self.target(&redirect.target)?;
                    let whole = redirect.op == RedirectOp::Both || redirect.fd.unwrap_or(1) == 1;
                    self.write(&target, if whole { &output } else { "" }, append || !whole)?;
                    gone |= whole;
                }
                RedirectOp::DupOut => {
                    let target = self.text(&redirect.target)?;
                    let descriptor = target == "-"
                        || target
                            .trim_end_matches('-')
                            .bytes()
                            .all(|byte| byte.is_ascii_digit());
                    if !descriptor {
                        self.write(&target, &output, false)?;
                        gone = true;
                    }
                }
                _ => {}
            }
        }
        Ok(if gone { String::new() } else { output })
    }

    /// The file of a redirection.
    fn target(&mut self, word: &Word) -> Result<String> {
        let text = self.text(word)?;
        if text.starts_with([marks::OUTPUT, marks::NETWORK, marks::FILE]) {
            self.unknown("reads or writes a file whose name is not known before it runs");
        }
        Ok(text)
    }
}

/// Whether a word is `$0` and nothing else.
fn is_self(word: &[Piece]) -> bool {
    match word {
        [Piece::Param(param)] => param.name == "0",
        [Piece::Double(inner)] => matches!(inner.as_slice(), [Piece::Param(param)] if param.name == "0"),
        _ => false,
    }
}

/// `text` in single quotes.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
