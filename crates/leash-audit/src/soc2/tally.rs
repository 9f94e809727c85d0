//! What a pack is made of, counted piece by piece and put together in order: [`Tally`]. Knows what members mean, and
//! nothing of files or pages.
//!
//! Memory grows with the number of different sessions, tenants, models and tools, not with that of events.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::io::{self, Write};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use leash_core::Timestamp;
use leash_core::canonical::Member;

use super::Costs;
use super::money::Amount;
use crate::export::{cell, push_cell};
use crate::line::Pick;
use crate::verify::Gather;

/// A name that was met, by its number.
pub(super) type Name = u32;

/// Hashes the numbers that were given to names. Nobody outside chooses them, so it need not be a keyed hash; the names
/// themselves have one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        // Maps look at the high bits and the low ones.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn write_isize(&mut self, number: isize) {
        // Whether there is a tenant.
        self.write_u64(u64::from(number != 0));
    }
}

type Mixed = BuildHasherDefault<Mix>;

/// Pairs of numbers.
pub(super) type Pairs = HashSet<(u32, Name), Mixed>;

/// A map that keeps the order in which its keys were first met.
#[derive(Debug)]
pub(super) struct Ordered<K, V> {
    index: HashMap<K, u32, Mixed>,
    list: Vec<(K, V)>,
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self {
            index: HashMap::default(),
            list: Vec::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, V: Default> Ordered<K, V> {
    /// The number and the value of `key`, a new one where it was not met.
    #[expect(
        clippy::indexing_slicing,
        reason = "the index knows no place that is not in the list"
    )]
    fn entry(&mut self, key: K) -> (u32, &mut V) {
        let next = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let at = *self.index.entry(key).or_insert(next);
        if at == next {
            self.list.push((key, V::default()));
        }
        (at, &mut self.list[usize::try_from(at).unwrap_or(usize::MAX)].1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.list.iter().map(|(key, value)| (*key, value))
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Every different text, once.
#[derive(Debug, Default)]
pub(super) struct Names {
    index: HashMap<Arc<str>, Name>,
    list: Vec<Arc<str>>,
}

impl Names {
    fn of(&mut self, text: &str) -> Name {
        match self.index.get(text) {
            Some(name) => *name,
            None => self.share(&text.into()),
        }
    }

    fn share(&mut self, text: &Arc<str>) -> Name {
        if let Some(name) = self.index.get(text) {
            return *name;
        }
        let text = Arc::clone(text);
        let name = Name::try_from(self.list.len()).unwrap_or(Name::MAX);
        self.list.push(Arc::clone(&text));
        self.index.insert(text, name);
        name
    }

    pub(super) fn text(&self, name: Name) -> &str {
        let at = usize::try_from(name).unwrap_or(usize::MAX);
        self.list.get(at).map_or("", |text| text)
    }
}

/// What was spent, in both ways to read the log.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spent {
    /// Where each line has its own cost.
    per_call: Amount,
    /// Where each line has the total so far of its session.
    running: Amount,
}

impl Spent {
    pub(super) const fn read(self, running_total: bool) -> Amount {
        if running_total {
            self.running
        } else {
            self.per_call
        }
    }

    fn add(&mut self, other: Self) {
        self.per_call = self.per_call.plus(other.per_call);
        self.running = self.running.plus(other.running);
    }
}

/// A moment, with its text where that is not the log's own form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    micros: i64,
    text: Option<Box<str>>,
}

impl Seen {
    fn new(at: Moment, text: &str) -> Self {
        Self {
            micros: at.micros,
            text: (!at.plain).then(|| text.into()),
        }
    }

    /// As it stands in the log.
    pub(super) fn text(&self) -> String {
        match &self.text {
            Some(text) => text.as_ref().to_owned(),
            None => Timestamp::from_unix_micros(self.micros)
                .unwrap_or(Timestamp::EPOCH)
                .to_string(),
        }
    }
}

/// What one session of one tenant did.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    pub(super) events: u64,
    pub(super) model_calls: u64,
    pub(super) tool_calls: u64,
    pub(super) kills: u64,
    pub(super) spent: Spent,
    pub(super) seen: Option<Box<(Seen, Seen)>>,
}

impl Bucket {
    fn add(&mut self, other: Self) {
        self.events = self.events.saturating_add(other.events);
        self.model_calls = self.model_calls.saturating_add(other.model_calls);
        self.tool_calls = self.tool_calls.saturating_add(other.tool_calls);
        self.kills = self.kills.saturating_add(other.kills);
        self.spent.add(other.spent);
        self.seen = match (self.seen.take(), other.seen) {
            (Some(mut ours), Some(theirs)) => {
                let (first, last) = *theirs;
                if first.micros < ours.0.micros {
                    ours.0 = first;
                }
                if last.micros > ours.1.micros {
                    ours.1 = last;
                }
                Some(ours)
            }
            (ours, theirs) => ours.or(theirs),
        };
    }

    fn see(&mut self, at: Moment, text: &str) {
        let micros = at.micros;
        match &mut self.seen {
            None => {
                let seen = Seen::new(at, text);
                self.seen = Some(Box::new((seen.clone(), seen)));
            }
            Some(seen) => {
                if micros < seen.0.micros {
                    seen.0 = Seen::new(at, text);
                }
                if micros > seen.1.micros {
                    seen.1 = Seen::new(at, text);
                }
            }
        }
    }
}

/// The costs of a session's model calls, whatever the period.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    /// The first one of the piece, and the bucket that it counts in, where it is in the period.
    first: Option<(Amount, Option<u32>)>,
    last: Amount,
}

/// What was counted: of a piece at first, of the whole log in the end.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) names: Names,
    pub(super) buckets: Ordered<(Name, Option<Name>), Bucket>,
    /// By bucket.
    pub(super) models: Pairs,
    pub(super) tools: Pairs,
    pub(super) kills: Ordered<Name, u64>,
    pub(super) spent: Ordered<Name, Spent>,
    pub(super) tool_calls: Ordered<(Name, Name), u64>,
    pub(super) kinds: Ordered<Name, u64>,
    pub(super) providers: Ordered<Name, u64>,
    courses: Ordered<Name, Course>,
    /// Rows of `cc7_monitoring.csv` that are not written yet.
    rows: String,
    pub(super) security_events: u64,
    pub(super) events: u64,
    /// Events without a moment that can be read: in no period.
    pub(super) undated: u64,
    /// Lines that are no events.
    pub(super) garbage: u64,
    /// Costs that are no amount of money: counted as nothing.
    pub(super) bad_costs: u64,
    /// Whether a call says what its session spent so far, so that its cost is its own.
    cumulative: bool,
    /// Whether a session's cost fell from one call to the next.
    fell: bool,
    /// Whether a session made more than one model call.
    follows: bool,
}

impl Tally {
    /// Whether the costs are running totals.
    pub(super) const fn is_running_total(&self, costs: Costs) -> bool {
        match costs {
            Costs::PerCall => false,
            Costs::RunningTotal => true,
            // Where no session made two calls both readings give the same.
            Costs::Auto => self.follows && !self.fell && !self.cumulative,
        }
    }

    /// Whether the costs may still turn out to be running totals.
    const fn may_run(&self, costs: Costs) -> bool {
        match costs {
            Costs::PerCall => false,
            Costs::RunningTotal => true,
            Costs::Auto => !self.cumulative && !self.fell,
        }
    }

    /// Adds what was counted in the next piece, whose names have the numbers `names`.
    fn absorb(&mut self, other: Self, names: &[Name], costs: Costs) {
        let name = |old: Name| -> Name {
            let at = usize::try_from(old).unwrap_or(usize::MAX);
            names.get(at).copied().unwrap_or(Name::MAX)
        };
        let mut buckets = Vec::with_capacity(other.buckets.len());
        for ((session, tenant), bucket) in other.buckets.list {
            let (at, ours) = self.buckets.entry((name(session), tenant.map(name)));
            ours.add(bucket);
            buckets.push(at);
        }
        let bucket = |old: u32| -> Option<u32> { buckets.get(usize::try_from(old).ok()?).copied() };
        let uses = |from: Pairs, to: &mut Pairs| {
            to.extend(
                from.into_iter()
                    .filter_map(|(at, used)| Some((bucket(at)?, name(used)))),
            );
        };
        uses(other.models, &mut self.models);
        uses(other.tools, &mut self.tools);
        let count = |from: Ordered<Name, u64>, to: &mut Ordered<Name, u64>| {
            for (key, more) in from.list {
                let (_, sum) = to.entry(name(key));
                *sum = sum.saturating_add(more);
            }
        };
        count(other.kills, &mut self.kills);
        count(other.kinds, &mut self.kinds);
        count(other.providers, &mut self.providers);
        for ((session, tool), more) in other.tool_calls.list {
            let (_, sum) = self.tool_calls.entry((name(session), name(tool)));
            *sum = sum.saturating_add(more);
        }
        for (session, more) in other.spent.list {
            self.spent.entry(name(session)).1.add(more);
        }
        for (sum, more) in [
            (&mut self.security_events, other.security_events),
            (&mut self.events, other.events),
            (&mut self.undated, other.undated),
            (&mut self.garbage, other.garbage),
            (&mut self.bad_costs, other.bad_costs),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.cumulative |= other.cumulative;
        self.fell |= other.fell;
        self.follows |= other.follows;
        if !self.may_run(costs) {
            self.courses.clear();
            return;
        }
        for (session, course) in other.courses.list {
            let session = name(session);
            let Some((first, at)) = course.first else { continue };
            self.course(session, first, at.and_then(bucket), Extent::Log);
            self.courses.entry(session).1.last = course.last;
        }
    }

    /// Takes in what a session's total stands at: the difference to the one before is what the call cost. A total that
    /// falls has begun anew.
    ///
    /// The first of a piece waits until the pieces before it are known.
    fn course(&mut self, session: Name, cost: Amount, bucket: Option<u32>, extent: Extent) {
        let (_, course) = self.courses.entry(session);
        let before = course.first.is_some().then_some(course.last);
        course.last = cost;
        let grown = match before {
            None => {
                course.first = Some((cost, bucket));
                if extent == Extent::Piece {
                    return;
                }
                cost
            }
            Some(before) => {
                self.follows = true;
                if cost < before {
                    self.fell = true;
                    cost
                } else {
                    cost.minus(before)
                }
            }
        };
        let Some(bucket) = bucket else { return };
        let spent = Spent {
            per_call: Amount::ZERO,
            running: grown,
        };
        let at = usize::try_from(bucket).unwrap_or(usize::MAX);
        if let Some((_, bucket)) = self.buckets.list.get_mut(at) {
            bucket.spent.add(spent);
        }
        self.spent.entry(session).1.add(spent);
    }
}

/// What a tally is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Piece,
    Log,
}

/// Where the members that matter lie in a line.
#[derive(Debug, Default)]
struct Picks {
    action: Range<usize>,
    cap_usd: Range<usize>,
    cost_usd: Range<usize>,
    cumulative_usd: Range<usize>,
    decision: Range<usize>,
    kind: Range<usize>,
    model: Range<usize>,
    operator: Range<usize>,
    provider: Range<usize>,
    reason: Range<usize>,
    rule_id: Range<usize>,
    session_id: Range<usize>,
    shadow: Range<usize>,
    tenant_id: Range<usize>,
    tool: Range<usize>,
    ts: Range<usize>,
}

/// A piece's tally while it is counted. Names are kept from piece to piece, as most come again.
#[derive(Debug, Default)]
pub(super) struct Part {
    thread: usize,
    picks: Picks,
    tally: Tally,
    day: Day,
    /// How many names were told of.
    told: usize,
}

/// What was counted in one piece. Numbers of names are those of the thread.
#[derive(Debug)]
pub(super) struct Cut {
    thread: usize,
    tally: Tally,
    /// The names that are new, in the order of their numbers.
    new: Vec<Arc<str>>,
}

impl Pick for Part {
    #[inline]
    fn begin(&mut self) {
        self.picks = Picks::default();
    }

    #[inline]
    fn member(&mut self, member: &Member<'_>) {
        let picks = &mut self.picks;
        let slot = match member.name {
            "action" => &mut picks.action,
            "cap_usd" => &mut picks.cap_usd,
            "cost_usd" => &mut picks.cost_usd,
            "cumulative_usd" => &mut picks.cumulative_usd,
            "decision" => &mut picks.decision,
            "kind" => &mut picks.kind,
            "model" => &mut picks.model,
            "operator" => &mut picks.operator,
            "provider" => &mut picks.provider,
            "reason" => &mut picks.reason,
            "rule_id" => &mut picks.rule_id,
            "session_id" => &mut picks.session_id,
            "shadow" => &mut picks.shadow,
            "tenant_id" => &mut picks.tenant_id,
            "tool" => &mut picks.tool,
            "ts" => &mut picks.ts,
            _ => return,
        };
        *slot = member.value.clone();
    }
}

/// A moment as it was read.
#[derive(Clone, Copy, Debug)]
struct Moment {
    micros: i64,
    /// Whether its text is the log's own form, so that it can be written again.
    plain: bool,
}

/// The last day that was read, as lines of a log have the same one most of the time.
#[derive(Debug, Default)]
struct Day {
    text: [u8; 10],
    micros: i64,
}

impl Day {
    /// Reads a moment: the log's own form fast, any other of RFC 3339 too.
    fn read(&mut self, text: &str) -> Option<Moment> {
        self.quick(text.as_bytes()).or_else(|| {
            let at: Timestamp = text.parse().ok()?;
            let plain = at.to_ascii() == text.as_bytes();
            Some(Moment {
                micros: at.as_unix_micros(),
                plain,
            })
        })
    }

    fn quick(&mut self, text: &[u8]) -> Option<Moment> {
        let (date, rest) = text.split_first_chunk::<10>()?;
        let [b'T', h1, h2, b':', m1, m2, b':', s1, s2, fraction @ .., b'Z'] = rest else {
            return None;
        };
        let two = |high: &u8, low: &u8| -> Option<i64> {
            let digit = |byte: &u8| byte.checked_sub(b'0').filter(|digit| *digit < 10);
            digit(high)?
                .checked_mul(10)?
                .checked_add(digit(low)?)
                .map(i64::from)
        };
        let (hours, minutes, seconds) = (two(h1, h2)?, two(m1, m2)?, two(s1, s2)?);
        if hours > 23 || minutes > 59 || seconds > 59 {
            return None;
        }
        let micros = match fraction {
            [] => 0,
            [b'.', f1, f2, f3, f4, f5, f6] => two(f1, f2)?
                .checked_mul(10_000)?
                .checked_add(two(f3, f4)?.checked_mul(100)?)?
                .checked_add(two(f5, f6)?)?,
            _ => return None,
        };
        if *date != self.text {
            let day = std::str::from_utf8(date).ok()?;
            let midnight: Timestamp = format!("{day}T00:00:00Z").parse().ok()?;
            self.text = *date;
            self.micros = midnight.as_unix_micros();
        }
        let seconds = hours
            .checked_mul(3600)?
            .checked_add(minutes.checked_mul(60)?)?
            .checked_add(seconds)?;
        let micros = seconds
            .checked_mul(1_000_000)?
            .checked_add(micros)?
            .checked_add(self.micros)?;
        let plain = !fraction.is_empty();
        Some(Moment { micros, plain })
    }
}

/// Whether a spreadsheet would run the cell as a formula.
fn is_formula(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// Adds a cell of text and a comma. One that a spreadsheet would run as a formula gets an apostrophe, which tells it
/// that this is text.
pub(super) fn push_text(row: &mut String, cell: &str) {
    if is_formula(cell) {
        push_cell(row, &format!("'{cell}"));
    } else {
        push_cell(row, cell);
    }
}

/// Ends a row.
pub(super) fn end_row(row: &mut String) {
    row.pop();
    row.push_str("\r\n");
}

/// A JSON value as a person reads it in a sentence.
fn spoken<'a>(value: &'a str, missing: &'a str) -> Cow<'a, str> {
    match value {
        "" => missing.into(),
        "null" => "None".into(),
        "true" => "True".into(),
        "false" => "False".into(),
        _ => cell(value),
    }
}

/// What a budget line says, as the reason of a row.
fn budget_reason(cumulative: &str, cap: &str) -> String {
    let mut reason = String::from("cumulative $");
    let number = cumulative.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let number = if cumulative.is_empty() {
        Some(0.0)
    } else {
        cumulative.parse::<f64>().ok().filter(|_| number)
    };
    // Writing to a string does not fail.
    let _ = match number {
        Some(number) => write!(reason, "{number:.4}"),
        None => write!(reason, "{}", spoken(cumulative, "0")),
    };
    let _ = write!(reason, " vs cap ${}", spoken(cap, "0"));
    reason
}

/// The type, rule and reason of an event that `cc7_monitoring.csv` has a row for.
fn security_event<'a>(
    picks: &Picks,
    text: &'a str,
    kind: &str,
) -> Option<(Cow<'static, str>, Cow<'a, str>, Cow<'a, str>)> {
    let value = |range: &Range<usize>| text.get(range.clone()).unwrap_or_default();
    let reason = || cell(value(&picks.reason));
    Some(match kind {
        "kill" => ("kill".into(), "kill:registry".into(), reason()),
        "budget" => {
            let event_type = match value(&picks.decision) {
                "\"soft_exceeded\"" => "budget:soft_exceeded",
                "\"hard_exceeded\"" => "budget:hard_exceeded",
                _ => return None,
            };
            let reason = budget_reason(value(&picks.cumulative_usd), value(&picks.cap_usd));
            (event_type.into(), "budget:tracker".into(), reason.into())
        }
        "policy_decision" => {
            // What was only tried out blocked nothing.
            if value(&picks.action) != "\"block\"" || value(&picks.shadow) == "true" {
                return None;
            }
            ("policy:block".into(), cell(value(&picks.rule_id)), reason())
        }
        "hitl_decision" => {
            let operator = cell(value(&picks.operator));
            let reason = reason();
            let reason = match (reason.is_empty(), operator.is_empty()) {
                (_, true) => reason,
                (true, false) => format!("by {operator}").into(),
                (false, false) => format!("{reason} (by {operator})").into(),
            };
            let event_type = format!("hitl:{}", cell(value(&picks.decision)));
            (event_type.into(), cell(value(&picks.rule_id)), reason)
        }
        _ => return None,
    })
}

impl Part {
    fn count(&mut self, rules: &Rules, text: &str) {
        let Self {
            picks, tally, day, ..
        } = self;
        let value = |range: &Range<usize>| text.get(range.clone()).unwrap_or_default();
        let kind = cell(value(&picks.kind));
        let is_model_call = kind == "model_call";
        let is_tool_call = kind == "tool_call";
        let is_call = is_model_call || is_tool_call;
        if is_call && !matches!(value(&picks.cumulative_usd), "" | "null") {
            tally.cumulative = true;
        }
        let cost = match value(&picks.cost_usd) {
            "" | "null" => Some(Amount::ZERO),
            _ if !is_call => Some(Amount::ZERO),
            cost => Amount::parse(cost),
        };
        let ts = value(&picks.ts);
        let at = if ts.starts_with('"') {
            day.read(&cell(ts))
        } else {
            None
        };
        let inside = at.filter(|at| rules.span.contains(&at.micros));
        let session = cell(value(&picks.session_id));
        let Some(at) = inside else {
            tally.undated = tally.undated.saturating_add(u64::from(at.is_none()));
            // The total of a session may have begun to run before the period.
            if let Some(cost) = cost
                && is_model_call
                && tally.may_run(rules.costs)
            {
                let session = tally.names.of(&session);
                tally.course(session, cost, None, Extent::Piece);
            }
            return;
        };
        tally.events = tally.events.saturating_add(1);
        tally.bad_costs = tally.bad_costs.saturating_add(u64::from(cost.is_none()));
        let session_name = tally.names.of(&session);
        let tenant = match value(&picks.tenant_id) {
            "" | "null" => None,
            tenant => Some(tally.names.of(&cell(tenant))),
        };
        let name = tally.names.of(&kind);
        let (_, of_kind) = tally.kinds.entry(name);
        *of_kind = of_kind.saturating_add(1);
        let (at_bucket, bucket) = tally.buckets.entry((session_name, tenant));
        bucket.events = bucket.events.saturating_add(1);
        bucket.see(at, &cell(ts));
        if is_call {
            let spent = Spent {
                per_call: cost.unwrap_or_default(),
                // What a tool costs is its own price in every log that has it.
                running: if is_tool_call {
                    cost.unwrap_or_default()
                } else {
                    Amount::ZERO
                },
            };
            bucket.spent.add(spent);
            if is_model_call || spent.per_call != Amount::ZERO {
                tally.spent.entry(session_name).1.add(spent);
            }
        }
        match &*kind {
            "model_call" => {
                bucket.model_calls = bucket.model_calls.saturating_add(1);
                let model = cell(value(&picks.model));
                if !model.is_empty() {
                    let model = tally.names.of(&model);
                    tally.models.insert((at_bucket, model));
                }
                let provider = tally.names.of(&cell(value(&picks.provider)));
                let (_, of_provider) = tally.providers.entry(provider);
                *of_provider = of_provider.saturating_add(1);
                if let Some(cost) = cost
                    && tally.may_run(rules.costs)
                {
                    tally.course(session_name, cost, Some(at_bucket), Extent::Piece);
                }
            }
            "tool_call" => {
                bucket.tool_calls = bucket.tool_calls.saturating_add(1);
                let tool = cell(value(&picks.tool));
                let name = tally.names.of(&tool);
                if !tool.is_empty() {
                    tally.tools.insert((at_bucket, name));
                }
                let (_, calls) = tally.tool_calls.entry((session_name, name));
                *calls = calls.saturating_add(1);
            }
            "kill" => {
                bucket.kills = bucket.kills.saturating_add(1);
                let (_, kills) = tally.kills.entry(session_name);
                *kills = kills.saturating_add(1);
            }
            _ => {}
        }
        if push_security_event(&mut tally.rows, picks, text, &kind) {
            tally.security_events = tally.security_events.saturating_add(1);
        }
    }
}

/// Adds the row of an event that `cc7_monitoring.csv` has one for.
fn push_security_event(rows: &mut String, picks: &Picks, text: &str, kind: &str) -> bool {
    let value = |range: &Range<usize>| cell(text.get(range.clone()).unwrap_or_default());
    let Some((event_type, rule_id, reason)) = security_event(picks, text, kind) else {
        return false;
    };
    let (session, tenant) = (value(&picks.session_id), value(&picks.tenant_id));
    for text in [
        &value(&picks.ts),
        &session,
        &tenant,
        &event_type,
        &rule_id,
        &reason,
    ] {
        push_text(rows, text);
    }
    end_row(rows);
    true
}

/// What every piece is counted by.
#[derive(Debug)]
pub(super) struct Rules {
    /// The period, in microseconds since 1970.
    pub(super) span: RangeInclusive<i64>,
    pub(super) costs: Costs,
    /// How many threads count.
    pub(super) threads: AtomicUsize,
}

/// The tally of the log so far; rows of `cc7_monitoring.csv` go out as they come.
#[derive(Debug)]
pub(super) struct Collector<W> {
    pub(super) tally: Tally,
    /// Our numbers of each thread's names.
    pub(super) names: Vec<Vec<Name>>,
    pub(super) rows: W,
    pub(super) costs: Costs,
}

impl<W: Write + Send> Gather for Collector<W> {
    type Part = Part;
    type Cut = Cut;
    type Rules = Rules;
    const WHOLE: bool = true;

    fn part(rules: &Rules) -> Part {
        Part {
            thread: rules.threads.fetch_add(1, Ordering::Relaxed),
            ..Part::default()
        }
    }

    #[inline]
    fn event(part: &mut Part, rules: &Rules, text: &str) {
        part.count(rules, text);
    }

    fn garbage(part: &mut Part) {
        part.tally.garbage = part.tally.garbage.saturating_add(1);
    }

    fn cut(part: &mut Part) -> Cut {
        let mut tally = std::mem::take(&mut part.tally);
        part.tally.names = std::mem::take(&mut tally.names);
        let names = &part.tally.names.list;
        let new = names.get(part.told..).unwrap_or_default().to_vec();
        part.told = names.len();
        Cut {
            thread: part.thread,
            tally,
            new,
        }
    }

    fn join(&mut self, cut: Cut) -> io::Result<()> {
        self.rows.write_all(cut.tally.rows.as_bytes())?;
        if self.names.len() <= cut.thread {
            self.names.resize(cut.thread.saturating_add(1), Vec::new());
        }
        let Some(names) = self.names.get_mut(cut.thread) else {
            return Ok(());
        };
        // A thread's pieces come in the order in which it counted them.
        names.extend(cut.new.iter().map(|text| self.tally.names.share(text)));
        self.tally.absorb(cut.tally, names, self.costs);
        Ok(())
    }
}
