//! What a pack is made of, counted: [`Tally`], of a piece at first, of the whole log in the end. Knows no lines, files or
//! pages.
//!
//! Memory grows with the number of different sessions, tenants, models and tools: some 150 bytes for a session that does
//! little. So what there is of each session is kept as plain numbers in a few long lists. Of an event nothing is kept, but
//! for eight bytes of a call that names its reservation, and fifty where somebody else wrote its line.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::Costs;
use super::buckets::Buckets;
use super::money::Amount;
use super::names::{NOBODY, Name, Names};
use super::table::{Index, Mix, Mixer, Ordered, Pairs, Sorted};

pub(super) use super::buckets::Count;

/// What was counted.
#[derive(Debug)]
pub(super) struct Tally {
    costs: Costs,
    pub(super) names: Names,
    pub(super) buckets: Buckets,
    /// By bucket.
    pub(super) models: Pairs,
    pub(super) tools: Uses,
    pub(super) kinds: Ordered<Name, u64>,
    pub(super) providers: Ordered<Name, u64>,
    /// Of a piece: the calls of each session, as far as costs may be running totals.
    courses: Ordered<Name, Course>,
    /// Of the log: where the total of each session stood last, by its name, as far as costs may be running totals.
    stood: Vec<Amount>,
    /// Marks of the reservations whose calls have lines of their own.
    own: Vec<Mark>,
    /// Lines that somebody else wrote of a call. Which of them count is known at the end.
    doubtful: Vec<Doubtful>,
    /// Rows of `cc7_monitoring.csv` that are not written yet.
    pub(super) rows: String,
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

/// What a reservation is told apart by: a keyed hash of its id. That two of them are equal in one log is not to be expected,
/// and nobody can bring it about.
pub(super) type Mark = u64;

/// A line of a call that is not the one that its own process wrote: of its expiry, or of its settlement. There may be several
/// of one call, and its own besides, which counts before all of them; then comes that of the settlement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubtful {
    pub(super) mark: Mark,
    pub(super) is_settled: bool,
    /// `None` outside of the period.
    pub(super) bucket: Option<u32>,
    pub(super) per_call: Amount,
    pub(super) running: Amount,
}

/// The costs of a session's model calls, whatever the period.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    /// The first one, and the bucket that it counts in, where it is in the period.
    first: Option<(Amount, Option<u32>)>,
    last: Amount,
}

impl Tally {
    pub(super) fn new(costs: Costs, names: Names) -> Self {
        Self {
            costs,
            names,
            buckets: Buckets::new(costs != Costs::PerCall),
            models: Pairs::default(),
            tools: Uses::default(),
            kinds: Ordered::default(),
            providers: Ordered::default(),
            courses: Ordered::default(),
            stood: Vec::new(),
            own: Vec::new(),
            doubtful: Vec::new(),
            rows: String::new(),
            security_events: 0,
            events: 0,
            undated: 0,
            garbage: 0,
            bad_costs: 0,
            cumulative: false,
            fell: false,
            follows: false,
        }
    }

    pub(super) const fn costs(&self) -> Costs {
        self.costs
    }

    /// Whether the costs are running totals.
    pub(super) const fn is_running_total(&self) -> bool {
        match self.costs {
            Costs::PerCall => false,
            Costs::RunningTotal => true,
            // Where no session made two calls both readings give the same.
            Costs::Auto => self.follows && !self.fell && !self.cumulative,
        }
    }

    /// Whether the costs may still turn out to be running totals.
    pub(super) const fn may_run(&self) -> bool {
        match self.costs {
            Costs::PerCall => false,
            Costs::RunningTotal => true,
            Costs::Auto => !self.cumulative && !self.fell,
        }
    }

    /// Takes note of a call that says what its session spent so far.
    pub(super) fn costs_are_own(&mut self) {
        if !self.cumulative {
            self.cumulative = true;
            self.forget_running();
        }
    }

    /// Gives up what is only needed for running totals, once they are none.
    fn forget_running(&mut self) {
        if !self.may_run() {
            self.courses = Ordered::default();
            self.stood = Vec::new();
            self.buckets.forget_running();
        }
    }

    /// Takes in what a line cost, in both ways to read the log.
    pub(super) fn spend(&mut self, bucket: u32, per_call: Amount, running: Amount) {
        self.buckets.spend(bucket, per_call, running);
    }

    /// Takes note of a call's own line, in the period or not: no other line of it counts.
    pub(super) fn note_own(&mut self, mark: Mark) {
        self.own.push(mark);
    }

    /// Takes note of a line that counts where there is no better one of its call, before it or after it.
    pub(super) fn doubt(&mut self, line: Doubtful) {
        self.doubtful.push(line);
    }

    /// Counts what somebody else wrote of calls of which there is no better line.
    fn settle_doubts(&mut self) {
        let own = std::mem::take(&mut self.own);
        let all = std::mem::take(&mut self.doubtful);
        if all.is_empty() {
            return;
        }
        // The best line of each, and whether it is of the settlement; none where there is an own one.
        let mut best: HashMap<Mark, Option<(usize, bool)>, BuildHasherDefault<Mix>> = HashMap::default();
        for (at, line) in all.iter().enumerate() {
            let known = best.entry(line.mark).or_insert(Some((at, line.is_settled)));
            if line.is_settled && known.is_some_and(|(_, is_settled)| !is_settled) {
                *known = Some((at, true));
            }
        }
        for mark in own {
            if let Some(known) = best.get_mut(&mark) {
                *known = None;
            }
        }
        for (at, line) in all.into_iter().enumerate() {
            let is_best = best
                .get(&line.mark)
                .copied()
                .flatten()
                .is_some_and(|(best, _)| best == at);
            if let (true, Some(bucket)) = (is_best, line.bucket) {
                self.buckets.spend(bucket, line.per_call, line.running);
            }
        }
    }

    /// Takes in a model call of a piece: its first ones of each session wait until the pieces before it are known.
    pub(super) fn call_of_piece(&mut self, session: Name, cost: Amount, bucket: Option<u32>) {
        let course = self.courses.entry(session);
        let before = std::mem::replace(&mut course.last, cost);
        if course.first.is_none() {
            course.first = Some((cost, bucket));
        } else {
            self.follow(before, cost, bucket);
        }
    }

    /// Takes in what a session's total stands at: the difference to the one before is what the call cost. A total that
    /// falls has begun anew.
    fn follow(&mut self, before: Amount, cost: Amount, bucket: Option<u32>) {
        self.follows = true;
        let grown = if cost < before { cost } else { cost.minus(before) };
        if let Some(bucket) = bucket {
            self.buckets.grow(bucket, grown);
        }
        if cost < before {
            self.fell = true;
            self.forget_running();
        }
    }

    /// Adds what was counted in the next piece, whose names have the numbers `names`.
    pub(super) fn absorb(&mut self, other: Self, names: &[Name]) {
        let name = |old: Name| -> Name {
            let at = usize::try_from(old).unwrap_or(usize::MAX);
            names.get(at).copied().unwrap_or(NOBODY)
        };
        self.cumulative |= other.cumulative;
        self.fell |= other.fell;
        self.follows |= other.follows;
        self.forget_running();
        let buckets = self.buckets.absorb(other.buckets, name);
        let bucket = |old: u32| -> Option<u32> { buckets.get(usize::try_from(old).ok()?).copied() };
        let pairs = other.models.iter();
        self.models
            .touch(pairs.filter_map(|(at, model)| Some((bucket(at)?, name(model)))));
        let uses = other.tools.iter();
        self.tools
            .touch(uses.filter_map(|tool| Some((bucket(tool.bucket)?, name(tool.tool)))));
        for (at, model) in other.models.iter() {
            if let Some(at) = bucket(at) {
                self.models.insert(at, name(model));
            }
        }
        for tool in other.tools.iter() {
            if let Some(at) = bucket(tool.bucket) {
                self.tools.add(at, name(tool.tool), tool.calls);
            }
        }
        let count = |from: Ordered<Name, u64>, to: &mut Ordered<Name, u64>| {
            for (key, more) in from {
                let sum = to.entry(name(key));
                *sum = sum.saturating_add(more);
            }
        };
        count(other.kinds, &mut self.kinds);
        count(other.providers, &mut self.providers);
        for (sum, more) in [
            (&mut self.security_events, other.security_events),
            (&mut self.events, other.events),
            (&mut self.undated, other.undated),
            (&mut self.garbage, other.garbage),
            (&mut self.bad_costs, other.bad_costs),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.own.extend_from_slice(&other.own);
        self.doubtful
            .extend(other.doubtful.into_iter().map(|line| Doubtful {
                bucket: line.bucket.and_then(bucket),
                ..line
            }));
        for (session, course) in other.courses {
            if !self.may_run() {
                return;
            }
            let Some((first, at)) = course.first else { continue };
            self.call_of_log(name(session), first, course.last, at.and_then(bucket));
        }
    }

    /// Takes in the first model call of a session in a piece, and where its last one of it stands.
    fn call_of_log(&mut self, session: Name, first: Amount, last: Amount, bucket: Option<u32>) {
        let at = usize::try_from(session).unwrap_or(usize::MAX);
        if self.stood.len() <= at {
            let all = self.names.len().max(at.saturating_add(1));
            self.stood.resize(all, Amount::NEVER);
        }
        let before = self.stood.get_mut(at).map(|stood| std::mem::replace(stood, last));
        match before.filter(|before| *before != Amount::NEVER) {
            Some(before) => self.follow(before, first, bucket),
            None => {
                if let Some(bucket) = bucket {
                    self.buckets.grow(bucket, first);
                }
            }
        }
    }

    /// Gives back the memory that only counting takes.
    pub(super) fn finish(&mut self) {
        self.courses = Ordered::default();
        self.stood = Vec::new();
        self.settle_doubts();
        self.names.finish();
        self.buckets.finish();
        self.tools.index = Index::default();
        if !self.is_running_total() {
            self.buckets.forget_running();
        }
    }

    /// What each session spent, in the order in which they began to.
    pub(super) fn spending(&self) -> Spending {
        let mut places = vec![u32::MAX; self.names.len()];
        let mut spending = Spending::default();
        for &bucket in self.buckets.spenders() {
            let session = self.buckets.session(bucket);
            let amount = self.buckets.spent(bucket, self.is_running_total());
            let Some(place) = places.get_mut(usize::try_from(session).unwrap_or(usize::MAX)) else {
                continue;
            };
            if *place == u32::MAX {
                *place = u32::try_from(spending.sessions.len()).unwrap_or(u32::MAX);
                spending.sessions.push(session);
                spending.amounts.push(amount);
            } else if let Some(sum) = spending
                .amounts
                .get_mut(usize::try_from(*place).unwrap_or(usize::MAX))
            {
                *sum = sum.plus(amount);
            }
        }
        spending
    }

    /// How often each session was killed, in the order in which they were.
    pub(super) fn kills(&self) -> Ordered<Name, u64> {
        let mut kills: Ordered<Name, u64> = Ordered::default();
        for &bucket in self.buckets.killed() {
            let sum = kills.entry(self.buckets.session(bucket));
            *sum = sum.saturating_add(self.buckets.total(bucket, Count::Kills));
        }
        kills
    }

    /// The tools that one session called more than `most` times, in the order in which they were first called.
    pub(super) fn spam(&self, most: u64) -> Vec<(Name, Name, u64)> {
        // Sessions of more than one tenant have their calls in more than one bucket.
        let mut met = vec![false; self.names.len()];
        let mut several = vec![false; self.names.len()];
        for bucket in self.buckets.all() {
            let session = usize::try_from(self.buckets.session(bucket)).unwrap_or(usize::MAX);
            if let (Some(met), Some(several)) = (met.get_mut(session), several.get_mut(session)) {
                *several = *met;
                *met = true;
            }
        }
        drop(met);
        let is_one =
            |session: Name| several.get(usize::try_from(session).unwrap_or(usize::MAX)) == Some(&false);
        let mut spam: Vec<(Name, Name, u64)> = Vec::new();
        let mut sums: Ordered<(Name, Name), (u64, usize)> = Ordered::default();
        for tool in self.tools.iter() {
            let session = self.buckets.session(tool.bucket);
            if is_one(session) {
                if tool.calls > most {
                    spam.push((session, tool.tool, tool.calls));
                }
            } else {
                let (sum, place) = sums.entry((session, tool.tool));
                if *sum == 0 {
                    *place = spam.len();
                }
                *sum = sum.saturating_add(tool.calls);
            }
        }
        // Both are in the order of their first calls.
        let mut sums = sums.into_iter().filter(|(_, (sum, _))| *sum > most).peekable();
        let mut all = Vec::new();
        for (place, one) in spam.into_iter().map(Some).chain([None]).enumerate() {
            while let Some(((session, tool), (sum, _))) = sums.next_if(|(_, (_, before))| *before <= place) {
                all.push((session, tool, sum));
            }
            all.extend(one);
        }
        all
    }
}

/// What sessions spent.
#[derive(Debug, Default)]
pub(super) struct Spending {
    sessions: Vec<Name>,
    amounts: Vec<Amount>,
}

impl Spending {
    pub(super) fn iter(&self) -> impl Iterator<Item = (Name, Amount)> {
        self.sessions.iter().copied().zip(self.amounts.iter().copied())
    }

    /// What the sessions spent, in any order.
    pub(super) fn amounts(&self) -> &[Amount] {
        &self.amounts
    }
}

/// How often a tool was called in a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Use {
    pub(super) bucket: u32,
    pub(super) tool: Name,
    pub(super) calls: u64,
}

/// The tools of all buckets, in the order in which they were first called.
#[derive(Debug, Default)]
pub(super) struct Uses {
    list: Vec<Use>,
    index: Index,
    mixer: Mixer,
}

impl Uses {
    pub(super) fn add(&mut self, bucket: u32, tool: Name, calls: u64) {
        let next = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let list = &self.list;
        let number = self.index.number(self.mixer.hash(bucket, tool), next, |number| {
            let found = list.get(usize::try_from(number).unwrap_or(usize::MAX));
            found.is_some_and(|found| found.bucket == bucket && found.tool == tool)
        });
        if number == next {
            self.list.push(Use { bucket, tool, calls });
        } else if let Some(found) = self.list.get_mut(usize::try_from(number).unwrap_or(usize::MAX)) {
            found.calls = found.calls.saturating_add(calls);
        }
    }

    /// As [`Index::touch`].
    fn touch(&self, uses: impl Iterator<Item = (u32, Name)>) {
        self.index
            .touch(uses.map(|(bucket, tool)| self.mixer.hash(bucket, tool)));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Use> {
        self.list.iter().copied()
    }

    /// All of them in order, without taking memory for them twice.
    pub(super) fn into_sorted(self, compare: impl FnMut(u32, u32) -> std::cmp::Ordering) -> Sorted<Use> {
        Sorted::new(self.list, |tool| (tool.bucket, tool.tool), compare)
    }
}
