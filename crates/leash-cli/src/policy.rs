//! `policy`: is a policy sound, does it do what its cases say, and what does it say of one call?

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use leash_core::{
    Action, Call, Caller, Json, PolicyContext, PolicyEngine, Rule, SessionId, Timestamp, ToolCall,
};
use leash_policy::{Policy, rule_from_options};
use serde_json::{Value, json};

use crate::cli::{PolicyArgs, PolicyCommand, PolicyExplainArgs, PolicyTestArgs};
use crate::exit::{Exit, Failure};
use crate::output::{self, Output};

/// Longest file of cases or policy, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Does what was asked of policies.
pub(crate) fn run(args: &PolicyArgs) -> Result<Exit, Failure> {
    match &args.command {
        PolicyCommand::Check(args) => {
            let policy = read_policy(&args.file)?;
            let text = format!(
                "OK: {} rules, {} redactors, version {}\n",
                policy.rules().len().saturating_add(policy.async_rules().len()),
                policy.redactors().len(),
                policy.version()
            );
            output::print(text.as_bytes())?;
            Ok(Exit::Done)
        }
        PolicyCommand::Schema => {
            output::print(format!("{:#}\n", Policy::schema()).as_bytes())?;
            Ok(Exit::Done)
        }
        PolicyCommand::Test(args) => test(args),
        PolicyCommand::Explain(args) => explain(args),
    }
}

/// The rules that decide by themselves. Scanners are not asked: what they say depends on more than the policy.
fn local_rules(policy: &Policy) -> Vec<Arc<dyn Rule>> {
    let ids: Vec<&str> = policy.async_rules().iter().map(|rule| rule.id()).collect();
    if !ids.is_empty() {
        output::say(&format!("# not asked: {}", ids.join(", ")));
    }
    policy.rules().to_vec()
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    let told = |error: std::io::Error| Failure::Told(format!("`{name}`: {error}"));
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin()
            .take(MAX_BYTES)
            .read_to_end(&mut bytes)
            .map_err(told)?;
    } else {
        let file = fs::File::open(path).map_err(told)?;
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(told)?;
    }
    Ok(bytes)
}

fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read_bytes(path)?)
        .map_err(|_| Failure::Told(format!("`{}`: not UTF-8", path.display())))
}

fn read_policy(path: &Path) -> Result<Policy, Failure> {
    let text = read_text(path)?;
    Policy::parse(&text).map_err(|error| Failure::Told(format!("`{}`: {error}", path.display())))
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
    call: Call,
    expect: Option<String>,
}

/// The case in a line, or what is wrong with it, and the id that it has all the same.
fn case_of(line: &[u8], number: usize) -> Result<Case, (Value, String)> {
    let mut id = Value::from(number);
    read_case(line, &mut id).map_err(|what| (id, format!("line {number}: {what}")))
}

fn read_case(line: &[u8], id: &mut Value) -> Result<Case, String> {
    let wrong = |what: &str| what.to_owned();
    let case: Value = serde_json::from_slice(line)
        .map_err(|error| format!("not JSON: column {}: {}", error.column(), reason_of(&error)))?;
    let members = case.as_object().ok_or_else(|| wrong("a case is an object"))?;
    if let Some(given) = members.get("id").filter(|id| !id.is_null()) {
        *id = given.clone();
    }
    let tool = match members.get("tool") {
        None | Some(Value::Null) => "tool",
        Some(Value::String(tool)) => tool,
        Some(_) => return Err(wrong("`tool` is a name")),
    };
    let args = members.get("args").ok_or_else(|| wrong("`args` is missing"))?;
    let expect = match members.get("expect") {
        None | Some(Value::Null) => None,
        Some(Value::String(action)) if ["allow", "block", "warn", "hitl"].contains(&action.as_str()) => {
            Some(action.clone())
        }
        Some(Value::Bool(blocks)) => Some(if *blocks { "block" } else { "allow" }.to_owned()),
        Some(_) => return Err(wrong("`expect` is `allow`, `block`, `warn` or `hitl`")),
    };
    Ok(Case {
        id: id.clone(),
        call: call_of(tool, Json::from(args.clone())).map_err(|_| wrong("`tool` is no name of a tool"))?,
        expect,
    })
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
    let bytes = read_bytes(cases)?;
    // Some editors mark a file so; it is no part of the first line.
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
    let mut out = Output::new(None);
    let (mut right, mut wrong, mut open, mut broken) = (0_usize, 0_usize, 0_usize, 0_usize);
    if !args.json {
        row(&mut out, ["id", "expected", "got", "rule", "reason"]);
    }
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let case = match case_of(line, at.saturating_add(1)) {
            Ok(case) => case,
            // The others are still worth an answer.
            Err((id, what)) => {
                broken = broken.saturating_add(1);
                answer(&mut out, args.json, &id, None, ["error", "", what.as_str()]);
                continue;
            }
        };
        let (action, rule_id, reason) = decide(&engine, &case.call);
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
        answer(&mut out, args.json, &case.id, case.expect.as_deref(), said);
    }
    out.finish()?;
    let unread = match broken {
        0 => String::new(),
        count => format!(", {count} that cannot be read"),
    };
    output::say(&format!(
        "# {right} right, {wrong} wrong, {open} without an expectation{unread}"
    ));
    let passed = wrong == 0 && broken == 0;
    Ok(if passed { Exit::Done } else { Exit::Failed })
}

/// Writes what became of a case: the action, the rule and the reason.
fn answer(out: &mut Output<'_>, in_json: bool, id: &Value, expected: Option<&str>, said: [&str; 3]) {
    let [action, rule_id, reason] = said;
    if in_json {
        let line = json!({"id": id, "action": action, "rule_id": rule_id, "reason": reason});
        // `finish` tells of the error.
        let _ = writeln!(out, "{line}");
    } else {
        let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        row(
            out,
            [id.as_str(), expected.unwrap_or("-"), action, rule_id, reason],
        );
    }
}

/// A line of the table. Ids are of any length, so that the columns hold what is usual and no more.
fn row(out: &mut Output<'_>, [id, expected, got, rule, reason]: [&str; 5]) {
    // Control characters of an id must not reach a terminal.
    let id: String = id.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // `finish` tells of the error.
    let _ = writeln!(out, "{id:<24} {expected:<8} {got:<9} {rule:<20} {reason}");
}

fn explain(args: &PolicyExplainArgs) -> Result<Exit, Failure> {
    let rules = match (&args.rule, &args.file) {
        (Some(rule), None) => vec![rule_of(rule, &args.options)?],
        (None, Some(file)) => local_rules(&read_policy(file)?),
        (None, None) => default_rules()?,
        (Some(_), Some(_)) => {
            return Err(Failure::Usage(
                "`policy explain` takes a policy or `--rule RULE`, not both".to_owned(),
            ));
        }
    };
    let parsed =
        Json::parse(args.args.as_str()).map_err(|error| Failure::Told(format!("`--args`: {error}")))?;
    let call = call_of(&args.tool, parsed)?;
    let mut text = String::new();
    let context = PolicyContext::new(Timestamp::EPOCH);
    for rule in &rules {
        let single = PolicyEngine::new(vec![Arc::clone(rule)], Vec::new());
        let said = single.evaluate_sync(&call, &context);
        let decision = said.noted.into_iter().next().unwrap_or(said.decision);
        let (action, reason) = match decision.rule_id.as_ref() {
            leash_core::rule_ids::DEFAULT => ("abstain", ""),
            _ => (decision.action.as_str(), decision.reason.as_ref()),
        };
        let _ = writeln!(text, "{:<24} {action:<8} {reason}", rule.id());
    }
    let (action, rule_id, reason) = decide(&PolicyEngine::new(rules, Vec::new()), &call);
    let _ = writeln!(text, "=> {action} by `{rule_id}`: {reason}");
    output::print(text.as_bytes())?;
    Ok(Exit::Done)
}
