//! What a log is read into, piece by piece on all cores, and put together in order: [`Collector`]. Knows what members
//! mean, and nothing of files or pages.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write};
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicUsize, Ordering};

use leash_core::canonical::Member;

use super::Costs;
use super::moment::Day;
use super::money::Amount;
use super::monitoring::push_security_event;
use super::names::{NOBODY, Name, Names, News};
use super::tally::{Count, Doubtful, Mark, Tally};
use crate::export::cell;
use crate::line::Pick;
use crate::verify::Gather;

/// A thread forgets the names that it met once there are more, or they are longer together, so that its memory does not
/// grow with the log.
const MOST_NAMES: usize = 1 << 15;
const MOST_BYTES: usize = 4 << 20;

/// Where the members that matter lie in a line.
#[derive(Debug, Default)]
pub(super) struct Picks {
    pub(super) action: Range<usize>,
    pub(super) cap_usd: Range<usize>,
    cost_usd: Range<usize>,
    pub(super) cumulative_usd: Range<usize>,
    pub(super) decision: Range<usize>,
    kind: Range<usize>,
    model: Range<usize>,
    pub(super) operator: Range<usize>,
    outcome: Range<usize>,
    provider: Range<usize>,
    pub(super) reason: Range<usize>,
    reservation_id: Range<usize>,
    pub(super) rule_id: Range<usize>,
    pub(super) session_id: Range<usize>,
    pub(super) shadow: Range<usize>,
    pub(super) tenant_id: Range<usize>,
    tool: Range<usize>,
    pub(super) ts: Range<usize>,
}

/// A piece's tally while it is counted. Names are kept from piece to piece, as most come again.
#[derive(Debug)]
pub(super) struct Part {
    thread: usize,
    picks: Picks,
    tally: Tally,
    day: Day,
    /// How many names were told of.
    told: usize,
    /// Whether names told of before no longer count.
    anew: bool,
}

/// What was counted in one piece. Numbers of names are those of the thread.
#[derive(Debug)]
pub(super) struct Cut {
    thread: usize,
    tally: Tally,
    /// The names that are new, in the order of their numbers.
    new: News,
    /// Whether these are all names of the thread.
    anew: bool,
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
            "outcome" => &mut picks.outcome,
            "provider" => &mut picks.provider,
            "reason" => &mut picks.reason,
            "reservation_id" => &mut picks.reservation_id,
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

/// A call's line, by who wrote it.
#[derive(Clone, Copy, Debug)]
enum Author {
    /// The process that made the call. Only there may be other lines of it, as it names its reservation, is there a mark.
    Own(Option<Mark>),
    /// Somebody else, when the call was settled or when it had expired.
    Other { mark: Mark, is_settled: bool },
}

impl Author {
    /// Of two members in JSON.
    fn of(rules: &Rules, reservation: &str, outcome: &str) -> Self {
        if matches!(reservation, "" | "null") {
            return Self::Own(None);
        }
        let mark = rules.keyed.hash_one(&*cell(reservation));
        // How a call has ended only its own process knows.
        let is_settled = matches!(outcome, "" | "null");
        if is_settled || cell(outcome) == "expired" {
            Self::Other { mark, is_settled }
        } else {
            Self::Own(Some(mark))
        }
    }
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
            tally.costs_are_own();
        }
        let cost = match value(&picks.cost_usd) {
            "" | "null" => Some(Amount::ZERO),
            _ if !is_call => Some(Amount::ZERO),
            cost => Amount::parse(cost),
        };
        let author = if is_call {
            Author::of(rules, value(&picks.reservation_id), value(&picks.outcome))
        } else {
            Author::Own(None)
        };
        if let Author::Own(Some(mark)) = author {
            tally.note_own(mark);
        }
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
            if let Author::Other { .. } = author {
                spend(tally, author, None, Amount::ZERO, Amount::ZERO);
            }
            // The total of a session may have begun to run before the period.
            if let Some(cost) = cost
                && is_model_call
                && tally.may_run()
            {
                let session = tally.names.of(&session);
                tally.call_of_piece(session, cost, None);
            }
            return;
        };
        tally.events = tally.events.saturating_add(1);
        tally.bad_costs = tally.bad_costs.saturating_add(u64::from(cost.is_none()));
        let session = tally.names.of(&session);
        let tenant = match value(&picks.tenant_id) {
            "" | "null" => NOBODY,
            tenant => tally.names.of(&cell(tenant)),
        };
        let name = tally.names.of(&kind);
        let of_kind = tally.kinds.entry(name);
        *of_kind = of_kind.saturating_add(1);
        let bucket = tally.buckets.of(session, tenant);
        tally.buckets.count(bucket, Count::Events);
        tally.buckets.see(bucket, at, &cell(ts));
        match &*kind {
            "model_call" => {
                tally.buckets.count(bucket, Count::ModelCalls);
                let own = cost.unwrap_or_default();
                spend(tally, author, Some(bucket), own, Amount::ZERO);
                let model = cell(value(&picks.model));
                if !model.is_empty() {
                    let model = tally.names.of(&model);
                    tally.models.insert(bucket, model);
                }
                let provider = tally.names.of(&cell(value(&picks.provider)));
                let of_provider = tally.providers.entry(provider);
                *of_provider = of_provider.saturating_add(1);
                if let Some(cost) = cost
                    && tally.may_run()
                {
                    tally.call_of_piece(session, cost, Some(bucket));
                }
            }
            "tool_call" => {
                tally.buckets.count(bucket, Count::ToolCalls);
                // What a tool costs is its own price in every log that has it.
                if let Some(cost) = cost.filter(|cost| *cost != Amount::ZERO) {
                    spend(tally, author, Some(bucket), cost, cost);
                }
                let tool = tally.names.of(&cell(value(&picks.tool)));
                tally.tools.add(bucket, tool, 1);
            }
            "kill" => tally.buckets.kill(bucket),
            _ => {}
        }
        if push_security_event(&mut tally.rows, picks, text, &kind) {
            tally.security_events = tally.security_events.saturating_add(1);
        }
    }
}

/// Takes in what a call cost; outside of the period that is nothing.
fn spend(tally: &mut Tally, author: Author, bucket: Option<u32>, per_call: Amount, running: Amount) {
    match (author, bucket) {
        (Author::Other { mark, is_settled }, bucket) => tally.doubt(Doubtful {
            mark,
            is_settled,
            bucket,
            per_call,
            running,
        }),
        (Author::Own(_), Some(bucket)) => tally.spend(bucket, per_call, running),
        (Author::Own(_), None) => {}
    }
}

/// What every piece is counted by.
#[derive(Debug)]
pub(super) struct Rules {
    /// The period, in microseconds since 1970.
    pub(super) span: RangeInclusive<i64>,
    pub(super) costs: Costs,
    /// What names are hashed with.
    pub(super) keyed: RandomState,
    /// How many threads count.
    pub(super) threads: AtomicUsize,
}

/// The tally of the log so far; rows of `cc7_monitoring.csv` go out as they come.
#[derive(Debug)]
pub(super) struct Collector<W> {
    pub(super) tally: Tally,
    /// Our numbers of each thread's names.
    names: Vec<Vec<Name>>,
    pub(super) rows: W,
}

impl<W> Collector<W> {
    pub(super) fn new(rules: &Rules, rows: W) -> Self {
        Self {
            tally: Tally::new(rules.costs, Names::new(rules.keyed.clone())),
            names: Vec::new(),
            rows,
        }
    }
}

impl<W: Write + Send> Gather for Collector<W> {
    type Part = Part;
    type Cut = Cut;
    type Rules = Rules;
    const WHOLE: bool = true;

    fn part(rules: &Rules) -> Part {
        Part {
            thread: rules.threads.fetch_add(1, Ordering::Relaxed),
            picks: Picks::default(),
            tally: Tally::new(rules.costs, Names::new(rules.keyed.clone())),
            day: Day::default(),
            told: 0,
            anew: true,
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
        let next = Tally::new(part.tally.costs(), part.tally.names.anew());
        let mut tally = std::mem::replace(&mut part.tally, next);
        let anew = tally.names.anew();
        let names = std::mem::replace(&mut tally.names, anew);
        let cut = Cut {
            thread: part.thread,
            tally,
            new: names.since(part.told),
            anew: part.anew,
        };
        part.anew = names.len() > MOST_NAMES || names.bytes() > MOST_BYTES;
        if part.anew {
            part.told = 0;
        } else {
            part.told = names.len();
            part.tally.names = names;
        }
        cut
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
        if cut.anew {
            names.clear();
        }
        let ours: &mut Names = &mut self.tally.names;
        names.extend(ours.hear(&cut.new));
        self.tally.absorb(cut.tally, names);
        Ok(())
    }
}
