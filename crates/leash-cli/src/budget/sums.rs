//! What audit logs say was spent: [`Sums`]. Keeps a sum for each scope, what has not ended yet, and of the lines that somebody
//! else wrote of a call what they say; of no other line it keeps anything.

use std::collections::{BTreeSet, HashMap, HashSet};

use leash_audit::EVERY_SESSION;
use leash_budget::{Restored, ScopeKey, Window};
use leash_core::{Timestamp, Usd};
use serde_json::Value;

/// When the newest reset of each scope was, in all logs.
pub(crate) type Resets = HashMap<String, Timestamp>;

/// The reservations that a line names which somebody else than the call's own process wrote, in all logs. Each call is counted
/// once: its own line, or where there is none the line of its settlement, or else that of its expiry. The own line tells what
/// took the place of what the expiry had charged.
#[derive(Debug, Default)]
pub(crate) struct Doubts(HashMap<String, Doubt>);

/// What is known of such a call.
#[derive(Debug, Default)]
struct Doubt {
    /// Its own line was counted.
    is_over: bool,
    /// Else the best line of it so far, and whether that is of its settlement.
    best: Option<(bool, Call)>,
}

/// A line of a call, as it is counted.
#[derive(Debug)]
struct Call {
    charged: Charged,
    cost: Usd,
    /// Session and digest of the request.
    place: Option<(String, String)>,
}

/// Who wrote the line of a call that names its reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Author {
    /// The process that made it.
    Own,
    /// Another, which was told what it was settled at, and not how it had ended.
    OfSettlement,
    /// Whoever found that its lease was over.
    OfExpiry,
}

impl Author {
    fn of(line: &Value) -> Self {
        match text(line, "outcome") {
            None => Self::OfSettlement,
            Some("expired") => Self::OfExpiry,
            Some(_) => Self::Own,
        }
    }
}

impl Doubts {
    /// Takes note of a line. All lines of all logs are to be shown before the first of them is counted.
    pub(crate) fn note(&mut self, line: &Value) {
        if matches!(text(line, "kind"), Some("model_call" | "tool_call"))
            && Author::of(line) != Author::Own
            && let Some(id) = text(line, "reservation_id")
        {
            self.0.entry(id.to_owned()).or_default();
        }
    }
}

/// What one scope has spent, in each of [`Window::ALL`].
type Spent = [Usd; Window::ALL.len()];

/// A line that cannot be counted, and why.
#[derive(Debug)]
pub(crate) struct Uncountable(pub(crate) &'static str);

/// Who is charged for a line.
#[derive(Clone, Debug)]
struct Charged {
    keys: Vec<String>,
    at: Timestamp,
}

/// A grant that nobody has given back yet.
#[derive(Debug)]
struct Open {
    from: String,
    amount: Usd,
    at: Timestamp,
}

/// What was read so far.
#[derive(Debug)]
pub(crate) struct Sums {
    now: Timestamp,
    resets: Resets,
    spent: HashMap<String, Spent>,
    /// Calls that were let through and have not ended, by session and digest of the request.
    admitted: HashMap<(String, String), Vec<(Charged, Usd)>>,
    open_grants: HashMap<String, Open>,
    closed_grants: HashSet<String>,
    /// Grants whose amount is known.
    grants: HashMap<String, Usd>,
    unknown: BTreeSet<String>,
    doubts: Doubts,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    pub(crate) sums: Vec<Restored>,
    /// Of everything, in all.
    pub(crate) spent: Usd,
    /// Calls without an end, and what they were counted at.
    pub(crate) unended: (usize, Usd),
    /// Grants that stood: their keys, and whose budget they came from.
    pub(crate) open_grants: Vec<(ScopeKey, ScopeKey)>,
    /// Scopes that the logs name and say no spending of, line by line.
    pub(crate) unknown: Vec<String>,
}

impl Sums {
    pub(crate) fn new(now: Timestamp, resets: Resets, doubts: Doubts) -> Self {
        Self {
            now,
            resets,
            spent: HashMap::new(),
            admitted: HashMap::new(),
            open_grants: HashMap::new(),
            closed_grants: HashSet::new(),
            grants: HashMap::new(),
            unknown: BTreeSet::new(),
            doubts,
        }
    }

    /// Counts one line of a log.
    pub(crate) fn add(&mut self, line: &Value) -> Result<(), Uncountable> {
        match text(line, "kind") {
            Some("model_call") => self.add_call(line, None),
            Some("tool_call") => self.add_call(line, text(line, "tool")),
            Some("admitted") => self.add_admitted(line),
            Some("budget_change") => self.add_change(line),
            Some("budget") => {
                if let Some(scope) = text(line, "scope").filter(|scope| !is_derived(scope)) {
                    self.unknown.insert(scope.to_owned());
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn add_call(&mut self, line: &Value, tool: Option<&str>) -> Result<(), Uncountable> {
        let cost = usd(line, "cost_usd")?;
        // Lines that stand for several equal ones.
        let count = line.get("count").and_then(Value::as_u64).unwrap_or(1).max(1);
        let cost = Usd::from_nanos_u128(u128::from(cost.as_nanos()).saturating_mul(u128::from(count)))
            .unwrap_or(Usd::MAX);
        let mut charged = charged(line)?;
        let mut place = None;
        if let (Some(session), Some(hash)) = (text(line, "session_id"), text(line, "request_hash")) {
            place = Some((session.to_owned(), hash.to_owned()));
            if let Some(tool) = tool {
                charged
                    .keys
                    .push(format!("tool:{}:{session}/{tool}", session.len()));
            }
        }
        let call = Call { charged, cost, place };
        let author = Author::of(line);
        match text(line, "reservation_id").and_then(|id| self.doubts.0.get_mut(id)) {
            // Counted already.
            Some(doubt) if doubt.is_over => {}
            Some(doubt) if author != Author::Own => {
                let is_settled = author == Author::OfSettlement;
                let is_better = match &doubt.best {
                    None => true,
                    Some((was_settled, _)) => is_settled && !was_settled,
                };
                if is_better {
                    doubt.best = Some((is_settled, call));
                }
            }
            Some(doubt) => {
                *doubt = Doubt {
                    is_over: true,
                    best: None,
                };
                self.count(call);
            }
            None => self.count(call),
        }
        Ok(())
    }

    /// Counts a call, which has ended.
    fn count(&mut self, call: Call) {
        if let Some(place) = call.place
            && let Some(waiting) = self.admitted.get_mut(&place)
        {
            if !waiting.is_empty() {
                waiting.remove(0);
            }
            if waiting.is_empty() {
                self.admitted.remove(&place);
            }
        }
        self.charge(&call.charged, call.cost);
    }

    fn add_admitted(&mut self, line: &Value) -> Result<(), Uncountable> {
        let bound = usd(line, "bound_usd")?;
        let charged = charged(line)?;
        let session = text(line, "session_id").ok_or(Uncountable("it names no session"))?;
        let hash = text(line, "request_hash").ok_or(Uncountable("it names no request"))?;
        let place = (session.to_owned(), hash.to_owned());
        self.admitted.entry(place).or_default().push((charged, bound));
        Ok(())
    }

    fn add_change(&mut self, line: &Value) -> Result<(), Uncountable> {
        let Some(what @ ("grant given" | "grant given back" | "grant expired")) = text(line, "what") else {
            return Ok(());
        };
        let at = moment(line)?;
        let scope = text(line, "scope").ok_or(Uncountable("it names no grant"))?;
        let from = text(line, "from").ok_or(Uncountable("it does not say whose grant"))?;
        let amount = usd(line, "amount_usd")?;
        self.grants.insert(scope.to_owned(), amount);
        if what == "grant given" {
            if !self.closed_grants.contains(scope) {
                let from = from.to_owned();
                self.open_grants
                    .insert(scope.to_owned(), Open { from, amount, at });
            }
            return Ok(());
        }
        self.open_grants.remove(scope);
        // Giving back may be logged more than once.
        if self.closed_grants.insert(scope.to_owned()) {
            let spent = usd(line, "spent_usd")?;
            let keys = vec![from.to_owned()];
            self.charge(&Charged { keys, at }, spent);
        }
        Ok(())
    }

    fn charge(&mut self, charged: &Charged, amount: Usd) {
        if amount.is_zero() {
            return;
        }
        for key in &charged.keys {
            let is_forgotten = self.resets.get(key).is_some_and(|reset| charged.at <= *reset);
            // A grant's own sum is set at the end.
            if is_forgotten || key.starts_with("grant:") {
                continue;
            }
            if !self.spent.contains_key(key) {
                self.spent.insert(key.clone(), [Usd::ZERO; Window::ALL.len()]);
            }
            let Some(sums) = self.spent.get_mut(key) else {
                continue;
            };
            for (sum, window) in sums.iter_mut().zip(Window::ALL) {
                // What a clock that runs ahead wrote counts as present.
                if window.index(charged.at) >= window.index(self.now) {
                    *sum = sum.saturating_add(amount);
                }
            }
        }
    }

    /// What is left to count, and the sums.
    pub(crate) fn finish(mut self) -> Rebuilt {
        for doubt in std::mem::take(&mut self.doubts).0.into_values() {
            if let Some((_, call)) = doubt.best {
                self.count(call);
            }
        }
        let mut unended = (0_usize, Usd::ZERO);
        for (charged, bound) in std::mem::take(&mut self.admitted).into_values().flatten() {
            unended = (unended.0.saturating_add(1), unended.1.saturating_add(bound));
            self.charge(&charged, bound);
        }
        let mut open_grants = Vec::new();
        for (scope, open) in std::mem::take(&mut self.open_grants) {
            open_grants.push((ScopeKey::new(scope.as_str()), ScopeKey::new(open.from.as_str())));
            let keys = vec![open.from];
            self.charge(&Charged { keys, at: open.at }, open.amount);
        }
        open_grants.sort();
        // A grant is over: what it allowed is spent, or was given back to its giver.
        for (scope, amount) in &self.grants {
            let mut sums = [Usd::ZERO; Window::ALL.len()];
            if let Some(total) = sums.first_mut() {
                *total = *amount;
            }
            self.spent.insert(scope.clone(), sums);
        }
        let spent = self
            .spent
            .get(ScopeKey::global().as_str())
            .and_then(|sums| sums.first())
            .copied()
            .unwrap_or_default();
        let mut sums = Vec::new();
        for (key, spent) in &self.spent {
            for (spent, window) in spent.iter().zip(Window::ALL) {
                if !spent.is_zero() {
                    sums.push(Restored {
                        key: ScopeKey::new(key.as_str()),
                        window,
                        at: self.now,
                        spent: *spent,
                    });
                }
            }
        }
        sums.sort_by(|a, b| (&a.key, a.window).cmp(&(&b.key, b.window)));
        Rebuilt {
            sums,
            spent,
            unended,
            open_grants,
            unknown: self
                .unknown
                .into_iter()
                .filter(|name| !self.spent.contains_key(name))
                .collect(),
        }
    }
}

/// When a reset of a scope was asked for that the log has not told the end of yet.
pub(crate) type Asked = HashMap<String, Timestamp>;

/// Notes a reset that an operator recorded. It holds from when it was asked for: what was spent between that and its line was
/// perhaps spent after it.
pub(crate) fn note_reset(line: &Value, asked: &mut Asked, resets: &mut Resets) -> Result<(), Uncountable> {
    if text(line, "kind") != Some("budget_change") {
        return Ok(());
    }
    let Some(what @ ("budget reset asked" | "budget reset")) = text(line, "what") else {
        return Ok(());
    };
    let (scope, at) = (
        text(line, "scope").ok_or(Uncountable("it names no scope"))?,
        moment(line)?,
    );
    if what == "budget reset asked" {
        asked.insert(scope.to_owned(), at);
        return Ok(());
    }
    let at = asked.remove(scope).map_or(at, |asked| asked.min(at));
    let newest = resets.entry(scope.to_owned()).or_insert(at);
    *newest = (*newest).max(at);
    Ok(())
}

/// When a line was written.
pub(crate) fn moment(line: &Value) -> Result<Timestamp, Uncountable> {
    text(line, "ts")
        .and_then(|ts| ts.parse().ok())
        .ok_or(Uncountable("its `ts` is no moment"))
}

/// Whether the sum of a scope follows from the lines of calls and grants.
fn is_derived(scope: &str) -> bool {
    scope == "global"
        || ["session:", "agent:", "tenant:", "grant:", "tool:"]
            .iter()
            .any(|kind| scope.starts_with(kind))
}

fn charged(line: &Value) -> Result<Charged, Uncountable> {
    let mut keys = vec!["global".to_owned()];
    let session = text(line, "session_id").ok_or(Uncountable("it names no session"))?;
    if session != EVERY_SESSION {
        keys.push(format!("session:{session}"));
    }
    for (member, kind) in [("agent_name", "agent"), ("tenant_id", "tenant")] {
        if let Some(name) = text(line, member) {
            keys.push(format!("{kind}:{name}"));
        }
    }
    match line.get("scopes") {
        None => {}
        Some(Value::Array(scopes)) => {
            for scope in scopes {
                let scope = scope.as_str().ok_or(Uncountable("a scope in it has no name"))?;
                keys.push(scope.to_owned());
            }
        }
        Some(_) => return Err(Uncountable("its scopes are no list")),
    }
    Ok(Charged {
        keys,
        at: moment(line)?,
    })
}

fn text<'a>(line: &'a Value, member: &str) -> Option<&'a str> {
    line.get(member).and_then(Value::as_str)
}

/// An amount; a missing one is nothing.
fn usd(line: &Value, member: &str) -> Result<Usd, Uncountable> {
    const WHAT: Uncountable = Uncountable("an amount in it is none");
    match line.get(member) {
        None | Some(Value::Null) => Ok(Usd::ZERO),
        Some(Value::Number(number)) => {
            let dollars = number.as_f64().ok_or(WHAT)?;
            Usd::from_f64(dollars).map_err(|_| WHAT)
        }
        Some(Value::String(text)) => text.parse().map_err(|_| WHAT),
        Some(_) => Err(WHAT),
    }
}
