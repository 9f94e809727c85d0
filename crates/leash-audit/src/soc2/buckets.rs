//! What each session of each tenant did: [`Buckets`]. Knows no names but by their numbers.

use std::collections::HashMap;

use super::moment::Moment;
use super::money::Amount;
use super::names::{NOBODY, Name};
use super::table::{Index, Mixer};

/// What is counted of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Count {
    Events,
    ModelCalls,
    ToolCalls,
    Kills,
}

impl Count {
    pub(super) const ALL: [Self; 4] = [Self::Events, Self::ModelCalls, Self::ToolCalls, Self::Kills];
}

/// A bucket but for its money.
#[derive(Clone, Copy, Debug)]
struct Row {
    session: Name,
    /// [`NOBODY`] where it is none.
    tenant: Name,
    /// By [`Count`]. What does not fit is in [`Buckets::carried`].
    counts: [u32; 4],
    /// In microseconds since 1970.
    first: i64,
    last: i64,
}

/// When an event of a bucket was.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen<'a> {
    /// In microseconds since 1970; its text is the log's own form.
    Plain(i64),
    /// Its text, as it stands in the log.
    Odd(&'a str),
}

/// The texts of the first and the last moment, where they are not in the log's own form.
type Odd = [Option<Box<str>>; 2];

/// The buckets, by number in the order in which they were met.
#[derive(Debug)]
pub(super) struct Buckets {
    rows: Vec<Row>,
    index: Index,
    mixer: Mixer,
    odd: HashMap<u32, Odd>,
    /// Multiples of 2³² of counts.
    carried: HashMap<(u32, Count), u64>,
    /// What each spent where each line has its own cost.
    per_call: Vec<Amount>,
    /// The same where each line has the total so far of its session; empty where that is not so for sure.
    running: Vec<Amount>,
    may_run: bool,
    spends: Vec<bool>,
    /// Those that spent, in the order in which they began to.
    spenders: Vec<u32>,
    /// Those that were killed, in the order in which they were.
    killed: Vec<u32>,
}

fn at(bucket: u32) -> usize {
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

impl Buckets {
    /// `may_run` says whether costs may be running totals.
    pub(super) fn new(may_run: bool) -> Self {
        Self {
            rows: Vec::new(),
            index: Index::default(),
            mixer: Mixer::default(),
            odd: HashMap::new(),
            carried: HashMap::new(),
            per_call: Vec::new(),
            running: Vec::new(),
            may_run,
            spends: Vec::new(),
            spenders: Vec::new(),
            killed: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        0..u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// The bucket of a session of a tenant.
    pub(super) fn of(&mut self, session: Name, tenant: Name) -> u32 {
        let next = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        let rows = &self.rows;
        let bucket = self
            .index
            .number(self.mixer.hash(session, tenant), next, |bucket| {
                rows.get(at(bucket))
                    .is_some_and(|row| row.session == session && row.tenant == tenant)
            });
        if bucket == next {
            self.rows.push(Row {
                session,
                tenant,
                counts: [0; 4],
                first: i64::MAX,
                last: i64::MIN,
            });
            self.per_call.push(Amount::ZERO);
            self.spends.push(false);
            if self.may_run {
                self.running.push(Amount::ZERO);
            }
        }
        bucket
    }

    pub(super) fn count(&mut self, bucket: u32, what: Count) {
        self.add(bucket, what, 1);
    }

    fn add(&mut self, bucket: u32, what: Count, more: u32) {
        let count = self
            .rows
            .get_mut(at(bucket))
            .and_then(|row| row.counts.get_mut(what.place()));
        let Some(count) = count else { return };
        let (sum, over) = count.overflowing_add(more);
        *count = sum;
        if over {
            let carried = self.carried.entry((bucket, what)).or_default();
            *carried = carried.saturating_add(1 << 32);
        }
    }

    pub(super) fn kill(&mut self, bucket: u32) {
        if self.total(bucket, Count::Kills) == 0 {
            self.killed.push(bucket);
        }
        self.add(bucket, Count::Kills, 1);
    }

    /// Adds what a call cost, in both ways to read the log.
    pub(super) fn spend(&mut self, bucket: u32, per_call: Amount, running: Amount) {
        self.begin_to_spend(bucket);
        if let Some(sum) = self.per_call.get_mut(at(bucket)) {
            *sum = sum.plus(per_call);
        }
        self.grow(bucket, running);
    }

    /// Adds what a running total has grown by.
    pub(super) fn grow(&mut self, bucket: u32, by: Amount) {
        if let Some(sum) = self.running.get_mut(at(bucket)) {
            *sum = sum.plus(by);
        }
    }

    fn begin_to_spend(&mut self, bucket: u32) {
        if let Some(spends) = self.spends.get_mut(at(bucket))
            && !*spends
        {
            *spends = true;
            self.spenders.push(bucket);
        }
    }

    /// Takes note of when an event was.
    pub(super) fn see(&mut self, bucket: u32, moment: Moment, text: &str) {
        let Some(row) = self.rows.get_mut(at(bucket)) else {
            return;
        };
        let is_first = moment.micros < row.first;
        let is_last = moment.micros > row.last;
        row.first = row.first.min(moment.micros);
        row.last = row.last.max(moment.micros);
        if moment.plain && self.odd.is_empty() {
            return;
        }
        let odd = || (!moment.plain).then(|| text.into());
        if is_first {
            self.set_odd(bucket, 0, odd());
        }
        if is_last {
            self.set_odd(bucket, 1, odd());
        }
    }

    fn set_odd(&mut self, bucket: u32, which: usize, text: Option<Box<str>>) {
        if text.is_none() && !self.odd.contains_key(&bucket) {
            return;
        }
        if let Some(place) = self.odd.entry(bucket).or_default().get_mut(which) {
            *place = text;
        }
    }

    /// Gives up the second way to read costs.
    pub(super) fn forget_running(&mut self) {
        self.may_run = false;
        self.running = Vec::new();
    }

    /// Adds those of the next piece, whose names are called `name` here. Says which number each of them has here.
    pub(super) fn absorb(&mut self, mut other: Self, name: impl Fn(Name) -> Name) -> Vec<u32> {
        let tenant = |old: Name| if old == NOBODY { NOBODY } else { name(old) };
        self.index
            .touch((other.rows.iter()).map(|row| self.mixer.hash(name(row.session), tenant(row.tenant))));
        let numbers: Vec<u32> = other
            .rows
            .iter()
            .map(|row| self.of(name(row.session), tenant(row.tenant)))
            .collect();
        let number = |bucket: &u32| numbers.get(at(*bucket)).copied();
        for bucket in other.spenders.iter().filter_map(number) {
            self.begin_to_spend(bucket);
        }
        for bucket in other.killed.iter().filter_map(number) {
            if self.total(bucket, Count::Kills) == 0 {
                self.killed.push(bucket);
            }
        }
        for ((theirs, bucket), row) in (0_u32..).zip(&numbers).zip(&other.rows) {
            let bucket = *bucket;
            for (what, count) in Count::ALL.into_iter().zip(row.counts) {
                self.add(bucket, what, count);
            }
            if let (Some(sum), Some(more)) =
                (self.per_call.get_mut(at(bucket)), other.per_call.get(at(theirs)))
            {
                *sum = sum.plus(*more);
            }
            if let Some(more) = other.running.get(at(theirs)) {
                self.grow(bucket, *more);
            }
            self.merge_moments(bucket, row, other.odd.remove(&theirs));
        }
        for ((theirs, what), more) in other.carried {
            if let Some(bucket) = number(&theirs) {
                let carried = self.carried.entry((bucket, what)).or_default();
                *carried = carried.saturating_add(more);
            }
        }
        numbers
    }

    fn merge_moments(&mut self, bucket: u32, theirs: &Row, odd: Option<Odd>) {
        let Some(row) = self.rows.get_mut(at(bucket)) else {
            return;
        };
        let is_first = theirs.first < row.first;
        let is_last = theirs.last > row.last;
        row.first = row.first.min(theirs.first);
        row.last = row.last.max(theirs.last);
        if odd.is_none() && self.odd.is_empty() {
            return;
        }
        let [first, last] = odd.unwrap_or_default();
        if is_first {
            self.set_odd(bucket, 0, first);
        }
        if is_last {
            self.set_odd(bucket, 1, last);
        }
    }

    /// Gives back the memory that only counting takes.
    pub(super) fn finish(&mut self) {
        self.index = Index::default();
        self.spends = Vec::new();
    }

    pub(super) fn session(&self, bucket: u32) -> Name {
        self.rows.get(at(bucket)).map_or(NOBODY, |row| row.session)
    }

    pub(super) fn tenant(&self, bucket: u32) -> Option<Name> {
        let row = self.rows.get(at(bucket))?;
        Some(row.tenant).filter(|tenant| *tenant != NOBODY)
    }

    pub(super) fn total(&self, bucket: u32, what: Count) -> u64 {
        let counts = self.rows.get(at(bucket)).map(|row| row.counts);
        let count = counts.and_then(|counts| counts.get(what.place()).copied());
        let carried = self.carried.get(&(bucket, what)).copied().unwrap_or_default();
        carried.saturating_add(count.unwrap_or_default().into())
    }

    pub(super) fn spent(&self, bucket: u32, running_total: bool) -> Amount {
        let sums = if running_total {
            &self.running
        } else {
            &self.per_call
        };
        sums.get(at(bucket)).copied().unwrap_or_default()
    }

    pub(super) fn spenders(&self) -> &[u32] {
        &self.spenders
    }

    pub(super) fn killed(&self) -> &[u32] {
        &self.killed
    }

    /// The first or the last moment of a bucket.
    pub(super) fn moment(&self, bucket: u32, is_last: bool) -> Seen<'_> {
        let odd = self.odd.get(&bucket).and_then(|[first, last]| {
            let text = if is_last { last } else { first };
            text.as_deref()
        });
        odd.map_or_else(
            || {
                let row = self.rows.get(at(bucket));
                Seen::Plain(row.map_or(0, |row| if is_last { row.last } else { row.first }))
            },
            Seen::Odd,
        )
    }
}

impl Count {
    const fn place(self) -> usize {
        match self {
            Self::Events => 0,
            Self::ModelCalls => 1,
            Self::ToolCalls => 2,
            Self::Kills => 3,
        }
    }
}
