//! `hitl`: what agents ask, looked at and decided; and what is granted beforehand.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use leash_core::{Clock as _, StoreError, SystemClock, Timestamp, canonical};
use leash_hitl::{
    ArgPattern, Decided, Entry, Grant, Granted, HitlQueue, Ruling, Standing, Status, ToolPattern, Which,
    is_deceptive, open_queue, pretty_json, queue_file, visible,
};

use crate::cli::{HitlArgs, HitlCommand, HitlGrantAddArgs, HitlGrantCommand};
use crate::exit::{Exit, Failure};
use crate::output;

/// How often `watch` looks where nothing tells it to.
const BEAT: Duration = Duration::from_secs(1);

/// Runs what comes under `hitl`.
pub(crate) fn run(args: &HitlArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Told(format!("failed to start: {error}")))?;
    runtime.block_on(async {
        match &args.command {
            HitlCommand::List { queue } => list(queue).await,
            HitlCommand::Show { queue, id, json } => show(queue, id, *json).await,
            HitlCommand::Approve { queue, id, operator } => {
                decide(queue, id, &Ruling::approve(operator.as_deref())).await
            }
            HitlCommand::Reject {
                queue,
                id,
                reason,
                operator,
            } => decide(queue, id, &Ruling::reject(reason, operator.as_deref())).await,
            HitlCommand::Watch { queue } => watch(queue).await,
            HitlCommand::Grant(grant) => match &grant.command {
                HitlGrantCommand::Add(add) => add_grant(add).await,
                HitlGrantCommand::List { queue } => list_grants(queue).await,
                HitlGrantCommand::Revoke { queue, name } => revoke_grant(queue, name).await,
            },
        }
    })
}

/// What keeps a command from being done: the failure and what caused it.
fn told(error: &StoreError) -> Failure {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let _ = write!(message, ": {cause}");
        source = cause.source();
    }
    Failure::Told(one_line(&message))
}

/// Whether the queue is a file that nobody made yet.
fn is_missing(address: &str) -> bool {
    queue_file(address).is_some_and(|path| !path.exists())
}

async fn open(address: &str) -> Result<Arc<dyn HitlQueue>, Failure> {
    open_queue(address).await.map_err(|error| told(&error))
}

/// Opens what must be there already: a typing error makes no queue.
async fn open_existing(address: &str) -> Result<Arc<dyn HitlQueue>, Failure> {
    if is_missing(address) {
        return Err(Failure::Told(format!(
            "`{}`: no such file; give the path of an approval queue, or `redis://HOST`",
            one_line(address)
        )));
    }
    open(address).await
}

async fn list(address: &str) -> Result<Exit, Failure> {
    // Before the first question there is no file, and nothing is pending.
    let entries = if is_missing(address) {
        Vec::new()
    } else {
        let queue = open(address).await?;
        queue.list(Which::Open).await.map_err(|error| told(&error))?
    };
    let mut out = String::new();
    for entry in &entries {
        write_entry(&mut out, entry, false);
    }
    output::print(out.as_bytes())?;
    output::say(&format!("# {} pending", entries.len()));
    Ok(Exit::Done)
}

async fn show(address: &str, id: &str, json: bool) -> Result<Exit, Failure> {
    let queue = open_existing(address).await?;
    let Some(entry) = queue.get(id).await.map_err(|error| told(&error))? else {
        return Err(unknown(id));
    };
    let mut out = String::new();
    if json {
        write_entry(&mut out, &entry, true);
    } else {
        write_for_people(&mut out, &entry);
    }
    output::print(out.as_bytes())?;
    Ok(Exit::Done)
}

fn unknown(id: &str) -> Failure {
    Failure::Told(format!(
        "no request `{}` in this queue; see `hitl list`",
        one_line(id)
    ))
}

async fn decide(address: &str, id: &str, ruling: &Ruling) -> Result<Exit, Failure> {
    let queue = open_existing(address).await?;
    let approves = ruling.status() == Status::Approved;
    if approves
        && let Some(entry) = queue.get(id).await.map_err(|error| told(&error))?
        && entry.shows_what_is_hashed() == Some(false)
    {
        return Err(Failure::Told(format!(
            "`{}` was changed after it was asked: what it shows is not what would be approved",
            one_line(id)
        )));
    }
    match queue.decide(id, ruling).await.map_err(|error| told(&error))? {
        Decided::Done(_) if approves => {
            output::print(format!("approved {}\n", one_line(id)).as_bytes())?;
            Ok(Exit::Done)
        }
        Decided::Done(_) => {
            let reason = one_line(ruling.reason().unwrap_or_default());
            output::print(format!("rejected {}: {reason}\n", one_line(id)).as_bytes())?;
            Ok(Exit::Done)
        }
        Decided::NotPending(entry) => Err(Failure::Told(format!(
            "`{}` is not pending: {}",
            one_line(id),
            state(&entry)
        ))),
        Decided::Unknown => Err(unknown(id)),
    }
}

async fn watch(address: &str) -> Result<Exit, Failure> {
    let queue = open(address).await?;
    let mut changes = queue.changes();
    let mut known = BTreeSet::new();
    loop {
        let open = queue.list(Which::Open).await.map_err(|error| told(&error))?;
        let mut out = String::new();
        let now: BTreeSet<String> = open.iter().map(|entry| entry.id.clone()).collect();
        for gone in known.difference(&now) {
            if let Some(entry) = queue.get(gone).await.map_err(|error| told(&error))? {
                write_watched(&mut out, &entry);
            }
        }
        for entry in open.iter().filter(|entry| !known.contains(&entry.id)) {
            write_watched(&mut out, entry);
        }
        known = now;
        if !out.is_empty() {
            output::print(out.as_bytes())?;
        }
        // Told, or not told in time: either way it is time to look.
        let _ = tokio::time::timeout(BEAT, changes.changed()).await;
    }
}

async fn add_grant(args: &HitlGrantAddArgs) -> Result<Exit, Failure> {
    let now = SystemClock.now();
    let until = match (&args.until, &args.for_) {
        (Some(until), _) => until.parse().ok(),
        (None, Some(length)) => duration(length).map(|length| now.saturating_add(length)),
        (None, None) => None,
    };
    let Some(until) = until else {
        output::say(
            "error: write `--until 2026-05-16T12:00:00Z`, or `--for` with `90s`, `30m`, `8h` or `1d`",
        );
        return Ok(Exit::Usage);
    };
    let queue = if args.request.is_some() {
        open_existing(&args.queue).await?
    } else {
        open(&args.queue).await?
    };
    let (session_id, what) = match (&args.request, &args.tool) {
        (Some(id), _) => {
            let Some(entry) = queue.get(id).await.map_err(|error| told(&error))? else {
                return Err(unknown(id));
            };
            let Some(hash) = entry
                .call_hash
                .filter(|_| entry.shows_what_is_hashed() == Some(true))
            else {
                return Err(Failure::Told(format!(
                    "`{}` was not asked by this program, or was changed: it has no hash to grant",
                    one_line(id)
                )));
            };
            (entry.session_id, Granted::Call(hash))
        }
        (None, Some(tool)) => {
            let mut patterns = Vec::new();
            for arg in &args.args {
                let Some((pointer, pattern)) = arg.split_once('=') else {
                    output::say("error: write `--arg POINTER=REGEX`, as in `--arg /usd=[0-9]+`");
                    return Ok(Exit::Usage);
                };
                patterns.push(ArgPattern {
                    pointer: pointer.to_owned(),
                    pattern: pattern.to_owned(),
                });
            }
            let pattern = ToolPattern {
                tool: tool.clone(),
                args: patterns,
                other_args: args.other_args,
            };
            (args.session.clone().unwrap_or_default(), Granted::Tool(pattern))
        }
        (None, None) => return Ok(Exit::Usage),
    };
    let grant = Grant {
        name: args.name.clone(),
        session_id,
        what,
        until,
        times: args.times,
        operator: args.operator.clone(),
    };
    if let Err(error) = grant.check() {
        return Err(Failure::Told(one_line(&error.to_string())));
    }
    let name = one_line(&grant.name);
    if !queue.add_grant(&grant).await.map_err(|error| told(&error))? {
        return Err(Failure::Told(format!(
            "there was a grant `{name}` before; the log could not tell them apart, so take another name"
        )));
    }
    output::print(format!("granted {name}\n").as_bytes())?;
    Ok(Exit::Done)
}

async fn list_grants(address: &str) -> Result<Exit, Failure> {
    let queue = open_existing(address).await?;
    let grants = queue.grants().await.map_err(|error| told(&error))?;
    let now = SystemClock.now();
    let mut out = String::new();
    for standing in &grants {
        write_grant(&mut out, standing, now);
    }
    output::print(out.as_bytes())?;
    let usable = grants.iter().filter(|standing| standing.is_usable(now)).count();
    output::say(&format!("# {usable} usable"));
    Ok(Exit::Done)
}

async fn revoke_grant(address: &str, name: &str) -> Result<Exit, Failure> {
    let queue = open_existing(address).await?;
    if !queue.revoke_grant(name).await.map_err(|error| told(&error))? {
        return Err(Failure::Told(format!("no grant `{}` stands", one_line(name))));
    }
    output::print(format!("revoked {}\n", one_line(name)).as_bytes())?;
    Ok(Exit::Done)
}

/// `90s`, `30m`, `8h`, `1d`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

/// One JSON object, member after member.
struct Line<'a> {
    out: &'a mut String,
    is_first: bool,
}

impl<'a> Line<'a> {
    fn new(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, is_first: true }
    }

    fn name(&mut self, name: &str) -> &mut String {
        if !std::mem::replace(&mut self.is_first, false) {
            self.out.push_str(", ");
        }
        let _ = write!(self.out, "\"{name}\": ");
        self.out
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        let out = self.name(name);
        match value {
            Some(value) => write_str(out, value),
            None => out.push_str("null"),
        }
    }

    fn moment(&mut self, name: &str, value: Option<Timestamp>) {
        let value = value.map(|at| at.to_string());
        self.text(name, value.as_deref());
    }

    fn finish(self) {
        self.out.push_str("}\n");
    }
}

/// A JSON string; what would act on a terminal, or turn the direction of reading around, is escaped.
fn write_str(out: &mut String, text: &str) {
    let mut plain = String::new();
    canonical::write_str(&mut plain, text);
    for char in plain.chars() {
        if is_deceptive(char) {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(char);
        }
    }
}

fn write_listed(line: &mut Line<'_>, entry: &Entry) {
    line.text("request_id", Some(&entry.id));
    canonical::write_f64(line.name("created_ts"), entry.created_ts);
    line.text("session_id", Some(&entry.session_id));
    line.text("tenant_id", entry.tenant_id.as_deref());
    line.text("tool", Some(&entry.tool));
    line.text("rule_id", Some(&entry.rule_id));
    line.text("reason", Some(&entry.reason));
}

fn write_decided(line: &mut Line<'_>, entry: &Entry) {
    line.text("status", Some(entry.status.as_str()));
    line.text("decision_reason", entry.decision_reason.as_deref());
    line.text("operator", entry.operator.as_deref());
    line.text("closed", entry.closed.map(leash_hitl::Closed::as_str));
    line.moment("decided_at", entry.decided_at);
    line.moment("consumed_at", entry.consumed_at);
}

fn write_watched(out: &mut String, entry: &Entry) {
    let mut line = Line::new(out);
    write_listed(&mut line, entry);
    write_decided(&mut line, entry);
    line.finish();
}

fn write_entry(out: &mut String, entry: &Entry, whole: bool) {
    let mut line = Line::new(out);
    write_listed(&mut line, entry);
    if whole {
        write_decided(&mut line, entry);
        line.moment("expires_at", entry.expires_at);
        line.text("policy_version", Some(&entry.policy_version));
        let hash = entry.call_hash.map(|hash| hash.to_string());
        line.text("call_hash", hash.as_deref());
        let fits = match entry.shows_what_is_hashed() {
            None => "null",
            Some(true) => "true",
            Some(false) => "false",
        };
        line.name("call_hash_fits").push_str(fits);
        // As text: who reads it as JSON might round a number.
        line.text("args_json", Some(&entry.args));
    }
    line.finish();
}

fn write_grant(out: &mut String, standing: &Standing, now: Timestamp) {
    let grant = &standing.grant;
    let mut line = Line::new(out);
    line.text("name", Some(&grant.name));
    line.text("session_id", Some(&grant.session_id));
    match &grant.what {
        Granted::Call(hash) => line.text("call_hash", Some(&hash.to_string())),
        Granted::Tool(tool) => {
            line.text("tool", Some(&tool.tool));
            let args = line.name("args");
            args.push('{');
            for (at, arg) in tool.args.iter().enumerate() {
                if at > 0 {
                    args.push_str(", ");
                }
                write_str(args, &arg.pointer);
                args.push_str(": ");
                write_str(args, &arg.pattern);
            }
            args.push('}');
            let _ = write!(line.name("other_args"), "{}", tool.other_args);
        }
    }
    line.moment("until", Some(grant.until));
    let _ = write!(line.name("used"), "{}", standing.used);
    match grant.times {
        Some(times) => {
            let _ = write!(line.name("times"), "{times}");
        }
        None => line.text("times", None),
    }
    line.text("operator", grant.operator.as_deref());
    line.moment("revoked_at", standing.revoked_at);
    let _ = write!(line.name("usable"), "{}", standing.is_usable(now));
    line.finish();
}

/// Text on one line of a terminal.
fn one_line(text: &str) -> String {
    visible(text).replace('\n', "\\u{000a}")
}

/// Where it stands, in words.
fn state(entry: &Entry) -> String {
    let mut out = match (entry.status, entry.closed) {
        (Status::Pending, _) if entry.is_over(SystemClock.now()) => "it was not decided in time".to_owned(),
        (Status::Pending, _) => "it is pending".to_owned(),
        (Status::Approved, _) if entry.consumed_at.is_some() => {
            "it was approved, and the call was made".to_owned()
        }
        (Status::Approved, _) => "it was approved".to_owned(),
        (Status::Rejected, Some(leash_hitl::Closed::Withdrawn)) => "whoever asked took it back".to_owned(),
        (Status::Rejected, Some(leash_hitl::Closed::Expired)) => "nobody decided in time".to_owned(),
        (Status::Rejected, None) => "it was rejected".to_owned(),
    };
    if let Some(operator) = &entry.operator {
        let _ = write!(out, " by {}", one_line(operator));
    }
    if let Some(at) = entry.decided_at {
        let _ = write!(out, " at {at}");
    }
    out
}

fn write_for_people(out: &mut String, entry: &Entry) {
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<9}{}", one_line(value));
    };
    row("request", &entry.id);
    row("asked", &entry.created_at.to_string());
    row("state", &state(entry));
    if let Some(reason) = &entry.decision_reason {
        row("because", reason);
    }
    if let Some(until) = entry.expires_at {
        row("until", &until.to_string());
    }
    row("session", &entry.session_id);
    if let Some(tenant) = &entry.tenant_id {
        row("tenant", tenant);
    }
    row("rule", &entry.rule_id);
    row("why", &entry.reason);
    match (entry.call_hash, entry.shows_what_is_hashed()) {
        (Some(hash), Some(true)) => row("hash", &format!("{hash} (of what is shown here)")),
        (Some(hash), _) => row(
            "hash",
            &format!("{hash} (NOT of what is shown here: do not approve)"),
        ),
        (None, _) => row(
            "hash",
            "none: asked by the Python package, whose approvals are not bound to the call",
        ),
    }
    row("tool", &entry.tool);
    let _ = writeln!(out, "\n{}", visible(&pretty_json(&entry.args)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("8h"), Some(Duration::from_hours(8)));
        for junk in ["", "h", "8", "-1h", "1.5h", "8é", "18446744073709551615d"] {
            assert_eq!(duration(junk), None, "{junk}");
        }
    }

    #[test]
    fn json_on_a_terminal_acts_on_nothing_and_means_the_same() {
        let mut out = String::new();
        let text = "a\u{1b}[2J\u{9b}\u{202e}\u{e0041}\"é🚀";
        write_str(&mut out, text);
        assert!(!out.chars().any(is_deceptive));
        assert_eq!(serde_json::from_str::<String>(&out).unwrap(), text);
    }
}
