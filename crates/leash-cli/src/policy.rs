//! `policy`: is a policy sound, does it do what its cases say, and what does it say of one call?

use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use leash_core::canonical::{JsonError, JsonErrorKind};
use leash_core::{
    Action, Call, Caller, Json, PolicyContext, PolicyEngine, Redactor, Rule, SessionId, Timestamp, ToolCall,
    rule_ids,
};
use leash_policy::{Policy, rule_from_options};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::{PolicyArgs, PolicyCheckArgs, PolicyCommand, PolicyExplainArgs, PolicyTestArgs};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};

/// Longest policy, in bytes, and a byte more: what is longer is refused by whoever reads it.
const MAX_POLICY_BYTES: u64 = (1 << 20) + 1;
/// Longest line of a file of cases, and longest arguments, in bytes.
const MAX_LINE_BYTES: usize = 16 << 20;

/// Does what was asked of policies.
pub(crate) fn run(args: &PolicyArgs) -> Result<Exit, Failure> {
    match &args.command {
        PolicyCommand::Check(args) => check(args),
        PolicyCommand::Schema => {
            output::print(format!("{:#}\n", Policy::schema()).as_bytes())?;
            Ok(Exit::Done)
        }
        PolicyCommand::Test(args) => test(args),
        PolicyCommand::Explain(args) => explain(args),
    }
}

fn check(args: &PolicyCheckArgs) -> Result<Exit, Failure> {
    let policy = read_policy(&args.file)?;
    let rules = policy.rules().len().saturating_add(policy.async_rules().len());
    let (redactors, version) = (policy.redactors().len(), policy.version());
    let text = if args.json {
        format!("{{\"rules\":{rules},\"redactors\":{redactors},\"version\":\"{version}\"}}\n")
    } else {
        format!("OK: {rules} rules, {redactors} redactors, version {version}\n")
    };
    output::print(text.as_bytes())?;
    Ok(Exit::Done)
}

/// The rules that decide by themselves. Scanners are not asked: what they say depends on more than the policy.
fn local_rules(policy: &Policy) -> Vec<Arc<dyn Rule>> {
    let ids: Vec<&str> = policy.async_rules().iter().map(|rule| rule.id()).collect();
    if !ids.is_empty() {
        output::say(&format!("# not asked: {}", ids.join(", ")));
    }
    policy.rules().to_vec()
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn name_of(path: &Path) -> String {
    if is_stdin(path) {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if is_stdin(path) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    Ok(Box::new(BufReader::new(file)))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Told(format!("`{}`: {error}", name_of(path)))
}

fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let mut bytes = Vec::new();
    open(path)?
        .take(MAX_POLICY_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(path, &error))?;
    let wrong = |what: &dyn std::fmt::Display| Failure::Told(format!("`{}`: {what}", name_of(path)));
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = error
                .as_bytes()
                .get(..error.utf8_error().valid_up_to())
                .unwrap_or_default();
            let line = good.split(|byte| *byte == b'\n').count();
            return Err(wrong(&format!("line {line}: not UTF-8")));
        }
    };
    Policy::parse(&text).map_err(|error| wrong(&error))
}

/// The next line without its end, `None` where there is none, and an error in the place of one that is too long.
fn next_line<R: BufRead>(from: &mut R) -> io::Result<Option<Result<Vec<u8>, &'static str>>> {
    let most = u64::try_from(MAX_LINE_BYTES)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let mut line = Vec::new();
    if from.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > MAX_LINE_BYTES {
        // The lines after it are still worth an answer.
        from.skip_until(b'\n')?;
        return Ok(Some(Err("the line is longer than 16 MiB")));
    }
    Ok(Some(Ok(line)))
}

/// What is asked where no policy and no rule is named: what harms whatever the agent is for.
const DEFAULT_RULES: &[&str] = &[
    "blocked_shell",
    "blocked_sql",
    "blocked_paths",
    "blocked_urls",
    "secrets",
];

fn default_rules() -> Result<Vec<Arc<dyn Rule>>, Failure> {
    output::say(&format!(
        "# no policy is named: {}, as they are without options",
        DEFAULT_RULES.join(", ")
    ));
    DEFAULT_RULES.iter().map(|rule| rule_of(rule, &[])).collect()
}

fn rule_of(name: &str, options: &[String]) -> Result<Arc<dyn Rule>, Failure> {
    let pairs = options
        .iter()
        .map(|option| {
            option
                .split_once('=')
                .ok_or_else(|| Failure::Told(format!("`--option {option}`: write `--option KEY=VALUE`")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    rule_from_options(name, &pairs).map_err(|error| Failure::Told(error.to_string()))
}

/// A call that a case or a command line describes.
fn call_of(tool: &str, args: Json) -> Result<Call, Failure> {
    let session = SessionId::new("policy").map_err(|error| Failure::Told(error.to_string()))?;
    Ok(Call::Tool(ToolCall::new(tool, args, Caller::session(session))))
}

/// One case, as its line has it.
struct Case {
    /// As the line has it; the number of the line where it has none.
    id: Value,
    /// The call, or why a firewall refuses it before any rule is asked.
    call: Result<Call, JsonError>,
    expect: Option<String>,
}

/// The case in a line, or what is wrong with it, and the id that it has all the same.
fn case_of(line: &[u8], number: usize) -> Result<Case, (Value, String)> {
    let mut id = Value::from(number);
    read_case(line, &mut id).map_err(|what| (id, format!("line {number}: {what}")))
}

fn read_case(line: &[u8], id: &mut Value) -> Result<Case, String> {
    let wrong = |what: &str| what.to_owned();
    let members: std::collections::HashMap<String, &RawValue> =
        serde_json::from_slice(line).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => wrong("a case is an object"),
            _ => format!("not JSON: column {}: {}", error.column(), reason_of(&error)),
        })?;
    let member = |name: &str| match members.get(name).map(|raw| serde_json::from_str(raw.get())) {
        None | Some(Ok(Value::Null)) => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(format!("`{name}` is nested too deeply")),
    };
    if let Some(given) = member("id")? {
        *id = given;
    }
    let tool = match member("tool")? {
        None => "tool".to_owned(),
        Some(Value::String(tool)) => tool,
        Some(_) => return Err(wrong("`tool` is a name")),
    };
    // As they are: numbers, and members that are there twice, mean to a rule what they mean to a firewall.
    let args = members.get("args").ok_or_else(|| wrong("`args` is missing"))?;
    let expect = match member("expect")? {
        None => None,
        Some(Value::String(action)) if ["allow", "block", "warn", "hitl"].contains(&action.as_str()) => {
            Some(action)
        }
        Some(Value::Bool(blocks)) => Some(if blocks { "block" } else { "allow" }.to_owned()),
        Some(_) => return Err(wrong("`expect` is `allow`, `block`, `warn` or `hitl`")),
    };
    let call = match Json::parse(args.get()) {
        Ok(args) => Ok(call_of(&tool, args).map_err(|_| wrong("`tool` is no name of a tool"))?),
        Err(error) => Err(error),
    };
    Ok(Case {
        id: id.clone(),
        call,
        expect,
    })
}

/// What a firewall makes of arguments that have no one reading.
fn refusal_of(error: &JsonError) -> (Action, String, String) {
    let reason = match error.kind() {
        JsonErrorKind::Depth => "the arguments are nested too deeply",
        JsonErrorKind::DuplicateMember => "the arguments have a member twice",
        JsonErrorKind::NumberRange | JsonErrorKind::NotFinite => {
            "a number of the arguments is beyond a double"
        }
        _ => "the arguments are no JSON with one reading",
    };
    (Action::Block, rule_ids::WIRE.to_owned(), reason.to_owned())
}

/// What the parser says, without the place: it counts from this line.
fn reason_of(error: &serde_json::Error) -> String {
    let told = error.to_string();
    told.rsplit_once(" at line ")
        .map_or(told.clone(), |(reason, _)| reason.to_owned())
}

/// What all rules say of a call: the action, by which rule, and why. A warning that stands alone is the answer.
fn decide(engine: &PolicyEngine, call: &Call) -> (Action, String, String) {
    let evaluation = engine.evaluate_sync(call, &PolicyContext::new(Timestamp::EPOCH));
    let mut decision = evaluation.decision;
    if decision.action == Action::Allow
        && let Some(noted) = evaluation.noted.into_iter().next()
    {
        decision = noted;
    }
    (
        decision.action,
        decision.rule_id.into_owned(),
        decision.reason.into_owned(),
    )
}

fn test(args: &PolicyTestArgs) -> Result<Exit, Failure> {
    if args.paths.len() > 1 && args.paths.iter().all(|path| is_stdin(path)) {
        return Err(Failure::Usage(
            "`policy test` reads one of its files from standard input, not both".to_owned(),
        ));
    }
    let (rules, cases) = match (&args.rule, args.paths.as_slice()) {
        (Some(rule), [cases]) => (vec![rule_of(rule, &args.options)?], cases),
        (None, [policy, cases]) => (local_rules(&read_policy(policy)?), cases),
        (None, [cases]) => (default_rules()?, cases),
        (Some(_), _) => {
            return Err(Failure::Usage(
                "`policy test --rule RULE` takes one file: the cases".to_owned(),
            ));
        }
        (None, _) => {
            return Err(Failure::Usage(
                "`policy test` takes a policy and its cases, or `--rule RULE` and cases".to_owned(),
            ));
        }
    };
    let engine = PolicyEngine::new(rules, Vec::new());
    let mut lines = open(cases)?;
    let mut out = Output::new(None);
    let (mut right, mut wrong, mut open, mut broken) = (0_usize, 0_usize, 0_usize, 0_usize);
    if !args.json {
        // `finish` tells of the error.
        let _ = row(&mut out, ["id", "expected", "got", "rule", "reason"]);
    }
    let mut number = 0_usize;
    while let Some(line) = next_line(&mut lines).map_err(|error| unreadable(cases, &error))? {
        number = number.saturating_add(1);
        let case = line
            .map_err(|what| (Value::from(number), format!("line {number}: {what}")))
            .and_then(|line| {
                // Some editors mark a file so; it is no part of the first line.
                let mark = if number == 1 { "\u{feff}" } else { "" };
                let line = line.strip_prefix(mark.as_bytes()).unwrap_or(&line);
                if line.trim_ascii().is_empty() {
                    Ok(None)
                } else {
                    case_of(line, number).map(Some)
                }
            });
        let case = match case {
            Ok(Some(case)) => case,
            Ok(None) => continue,
            // The others are still worth an answer.
            Err((id, what)) => {
                broken = broken.saturating_add(1);
                if answer(&mut out, args.json, &id, None, ["error", "", what.as_str()]).is_err() {
                    break;
                }
                continue;
            }
        };
        let (action, rule_id, reason) = match &case.call {
            Ok(call) => decide(&engine, call),
            Err(error) => refusal_of(error),
        };
        let miss = case
            .expect
            .as_deref()
            .is_some_and(|expected| expected != action.as_str());
        match (&case.expect, miss) {
            (None, _) => open = open.saturating_add(1),
            (_, true) => wrong = wrong.saturating_add(1),
            (_, false) => right = right.saturating_add(1),
        }
        let got = if miss && !args.json {
            format!("{action} (!)")
        } else {
            action.to_string()
        };
        let said = [got.as_str(), rule_id.as_str(), reason.as_str()];
        // Where nobody reads on, nobody needs the rest; `finish` tells of the error.
        if answer(&mut out, args.json, &case.id, case.expect.as_deref(), said).is_err() {
            break;
        }
    }
    out.finish()?;
    let unread = match broken {
        0 => String::new(),
        count => format!(", {count} that cannot be read"),
    };
    output::say(&format!(
        "# {right} right, {wrong} wrong, {open} without an expectation{unread}"
    ));
    if right == 0 && wrong == 0 {
        output::say("# nothing was expected, and so nothing was tested");
    }
    let passed = wrong == 0 && broken == 0;
    Ok(if passed { Exit::Done } else { Exit::Failed })
}

/// Writes what became of a case: the action, the rule and the reason.
fn answer(
    out: &mut Output<'_>,
    in_json: bool,
    id: &Value,
    expected: Option<&str>,
    said: [&str; 3],
) -> io::Result<()> {
    let [action, rule_id, reason] = said;
    if in_json {
        return writeln!(out, "{}", answer_of(Some(id), action, rule_id, reason));
    }
    let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
    row(
        out,
        [id.as_str(), expected.unwrap_or("-"), action, rule_id, reason],
    )
}

/// An answer in JSON, its members in the order in which they are documented.
fn answer_of(id: Option<&Value>, action: &str, rule_id: &str, reason: &str) -> String {
    let id = id.map_or_else(String::new, |id| format!("\"id\":{id},"));
    let [action, rule_id, reason] = [action, rule_id, reason].map(Value::from);
    format!("{{{id}\"action\":{action},\"rule_id\":{rule_id},\"reason\":{reason}}}")
}

/// A line of the table. Ids are of any length, so that the columns hold what is usual and no more.
fn row(out: &mut Output<'_>, [id, expected, got, rule, reason]: [&str; 5]) -> io::Result<()> {
    // Control characters of an id must not reach a terminal.
    let id: String = id.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    writeln!(out, "{id:<24} {expected:<8} {got:<9} {rule:<20} {reason}")
}

fn explain(args: &PolicyExplainArgs) -> Result<Exit, Failure> {
    let (rules, redactor) = match (&args.rule, &args.file) {
        (Some(rule), None) => (vec![rule_of(rule, &args.options)?], None),
        (None, Some(file)) if is_stdin(file) && args.args == "-" => {
            return Err(Failure::Usage(
                "`policy explain` reads the policy or `--args` from standard input, not both".to_owned(),
            ));
        }
        (None, Some(file)) => {
            let policy = read_policy(file)?;
            (local_rules(&policy), policy.redactor())
        }
        (None, None) => (default_rules()?, None),
        (Some(_), Some(_)) => {
            return Err(Failure::Usage(
                "`policy explain` takes a policy or `--rule RULE`, not both".to_owned(),
            ));
        }
    };
    let call = call_of(&args.tool, read_args(&args.args)?)?;
    let mut said: Vec<(String, &'static str, String)> = Vec::new();
    let context = PolicyContext::new(Timestamp::EPOCH);
    for rule in &rules {
        let single = PolicyEngine::new(vec![Arc::clone(rule)], Vec::new());
        let answer = single.evaluate_sync(&call, &context);
        let decision = answer.noted.into_iter().next().unwrap_or(answer.decision);
        let (action, reason) = match decision.rule_id.as_ref() {
            rule_ids::DEFAULT => ("abstain", String::new()),
            _ => (decision.action.as_str(), decision.reason.into_owned()),
        };
        said.push((rule.id().to_owned(), action, reason));
    }
    let engine = PolicyEngine::new(rules, Vec::new());
    let mut outcome = decide(&engine, &call);
    if let Some(redactor) = redactor {
        let (action, reason, redacted) = redacted_by(redactor.as_ref(), &args.tool, &call)?;
        said.push(("(redactors)".to_owned(), action, reason.to_owned()));
        // What leaves is judged as well as what was asked for.
        match redacted {
            Redacted::Fails if outcome.0 != Action::Block => {
                outcome = (Action::Block, "(redactors)".to_owned(), reason.to_owned());
            }
            Redacted::To(call) if outcome.0 != Action::Block => {
                let again = decide(&engine, &call);
                if again.0 == Action::Block || outcome.0 == Action::Allow {
                    outcome = again;
                }
            }
            _ => {}
        }
    }
    let (action, rule_id, reason) = outcome;
    let mut text = String::new();
    for (rule, action, reason) in &said {
        let _ = if args.json {
            writeln!(text, "{}", answer_of(None, action, rule, reason))
        } else {
            writeln!(text, "{}", format!("{rule:<24} {action:<8} {reason}").trim_end())
        };
    }
    let _ = if args.json {
        let outcome = answer_of(None, action.as_str(), &rule_id, &reason);
        writeln!(text, "{{\"outcome\":{outcome}}}")
    } else {
        writeln!(text, "=> {action} by `{rule_id}`: {reason}")
    };
    output::print(text.as_bytes())?;
    Ok(Exit::Done)
}

/// The arguments of a call, as the command line or standard input has them.
fn read_args(args: &str) -> Result<Json, Failure> {
    let told = |what: &dyn std::fmt::Display| Failure::Told(format!("`--args`: {what}"));
    if args != "-" {
        return Json::parse(args).map_err(|error| told(&error));
    }
    let most = u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX);
    let mut text = String::new();
    io::stdin()
        .take(most.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(|error| told(&error))?;
    if text.len() > MAX_LINE_BYTES {
        return Err(told(&"longer than 16 MiB"));
    }
    Json::parse(text).map_err(|error| told(&error))
}

/// What the redactors make of a call.
enum Redacted {
    Nothing,
    To(Box<Call>),
    Fails,
}

/// What the redactors of a policy do with a call, in a word and in a sentence.
fn redacted_by(
    redactor: &dyn Redactor,
    tool: &str,
    call: &Call,
) -> Result<(&'static str, &'static str, Redacted), Failure> {
    let Call::Tool(asked) = call else {
        return Ok(("abstain", "", Redacted::Nothing));
    };
    Ok(match redactor.redact(&asked.args) {
        Ok(None) => ("abstain", "", Redacted::Nothing),
        Ok(Some(args)) => (
            "redact",
            "what leaves is not all that was asked for; the rules are asked about it again",
            Redacted::To(Box::new(call_of(tool, args)?)),
        ),
        Err(_) => ("block", "the redactors fail", Redacted::Fails),
    })
}
