//! What many callers did to one store, put in one order and done once more to the plain reference.
//!
//! A caller notes of each operation when it asked, when it was answered, and the answer. [`in_order`] looks for an order
//! of all operations that explains every answer: each operation between its question and its answer, and the sums in
//! each answer those after all that came before it. Then [`replay`] does the same operations in that order to
//! [`Reference`], and compares every answer and every sum. Where callers were served at once in a way that no order
//! explains, there is none to be found.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use leash_budget::conformance::{Answer, Reference};
use leash_budget::{
    Balance, BudgetStore, Held, Hold, HoldLine, Refused, Reserve, Scope, Settled, Settlement,
};
use leash_core::{
    Caller, Clock as _, Digest, IdGenerator, ReservationId, SessionId, SystemClock, Timestamp, Usd,
};

/// How many tasks of one process spend at once.
pub(crate) const TASKS: u64 = 16;
/// Longer than any test: no hold expires.
const LEASE: Duration = Duration::from_hours(1);

/// How many sets of releases are tried that together gave back just as much as an answer lacks.
const MOST_SETS: usize = 16;
/// How many moves are tried before the search is given up.
const MOST_STEPS: u64 = 1_000_000;

/// (spent, reserved) in nano-dollars.
pub(crate) type Sums = (u64, u64);

/// One operation, as its caller saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Who asked. He asks one thing after the other.
    pub(crate) task: u64,
    /// Not before it was asked, in microseconds of the machine's clock.
    pub(crate) asked_at: i64,
    /// Not after it was answered.
    pub(crate) answered_at: i64,
    pub(crate) id: ReservationId,
    /// It is in the scopes from this one on.
    pub(crate) from: usize,
    /// The bound of a reservation, the cost of a settlement.
    pub(crate) amount: u64,
    pub(crate) reply: Reply,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// With the sums of its scopes.
    Granted(Vec<Sums>),
    /// By which scope, its cap and its sums.
    Refused {
        at: usize,
        cap: u64,
        sums: Sums,
    },
    Settled {
        applied: bool,
        sums: Vec<Sums>,
    },
    Released,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            task,
            asked_at,
            answered_at,
            id,
            from,
            amount,
            ..
        } = self;
        write!(f, "{task} {asked_at} {answered_at} {id} {from} {amount} ")?;
        let all = |f: &mut fmt::Formatter<'_>, sums: &[Sums]| {
            sums.iter()
                .try_for_each(|(spent, reserved)| write!(f, " {spent} {reserved}"))
        };
        match &self.reply {
            Reply::Granted(sums) => {
                f.write_str("granted")?;
                all(f, sums)
            }
            Reply::Refused { at, cap, sums } => write!(f, "refused {at} {cap} {} {}", sums.0, sums.1),
            Reply::Settled { applied, sums } => {
                write!(f, "settled {}", u8::from(*applied))?;
                all(f, sums)
            }
            Reply::Released => f.write_str("released"),
        }
    }
}

impl Operation {
    pub(crate) fn of_words(words: &[&str]) -> Self {
        let [task, asked_at, answered_at, id, from, amount, verb, rest @ ..] = words else {
            panic!("not an operation: {words:?}")
        };
        let numbers: Vec<u64> = rest.iter().map(|word| word.parse().unwrap()).collect();
        let all = |numbers: &[u64]| numbers.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        Self {
            task: task.parse().unwrap(),
            asked_at: asked_at.parse().unwrap(),
            answered_at: answered_at.parse().unwrap(),
            id: id.parse().unwrap(),
            from: from.parse().unwrap(),
            amount: amount.parse().unwrap(),
            reply: match *verb {
                "granted" => Reply::Granted(all(&numbers)),
                "refused" => Reply::Refused {
                    at: usize::try_from(numbers[0]).unwrap(),
                    cap: numbers[1],
                    sums: (numbers[2], numbers[3]),
                },
                "settled" => Reply::Settled {
                    applied: numbers[0] == 1,
                    sums: all(&numbers[1..]),
                },
                "released" => Reply::Released,
                other => panic!("not a reply: `{other}`"),
            },
        }
    }

    fn reveals(&self) -> bool {
        self.reply != Reply::Released
    }
}

/// A small generator (splitmix64), so that what a task asks for follows from its seed.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % bound
    }
}

fn now() -> i64 {
    SystemClock.now().as_unix_micros()
}

fn usd(nanos: u64) -> Usd {
    Usd::from_nanos(nanos).unwrap()
}

fn sums_of(balances: &[Balance]) -> Vec<Sums> {
    balances
        .iter()
        .map(|balance| (balance.spent.as_nanos(), balance.reserved.as_nanos()))
        .collect()
}

fn hold(id: ReservationId, amount: u64, scopes: &[Scope]) -> Hold {
    Hold {
        id,
        amount: usd(amount),
        scopes: scopes.into(),
        lease: LEASE,
        line: HoldLine {
            what: Held::Model {
                provider: "openai".into(),
                model: "gpt-4o".into(),
            },
            caller: Caller::session(SessionId::new("s_replay").unwrap()),
            request_digest: Digest::EMPTY,
        },
    }
}

/// What one task spends: calls of random size in a random part of three scopes, each settled at a random cost or given
/// back; every operation and its answer go to `note`.
pub(crate) async fn spend(
    store: Arc<dyn BudgetStore>,
    ids: Arc<IdGenerator>,
    scopes: [Scope; 3],
    (task, seed): (u64, u64),
    (calls, largest): (u64, u64),
    note: impl Fn(Operation),
) {
    let mut random = Random(seed.wrapping_mul(1_000).wrapping_add(task));
    for _ in 0..calls {
        let bound = random.below(largest) + 1;
        let from = usize::try_from(random.below(3)).unwrap();
        let hold = hold(ids.reservation(SystemClock.now()), bound, &scopes[from..]);
        let noted = |asked_at: i64, amount: u64, reply: Reply| {
            note(Operation {
                task,
                asked_at,
                answered_at: now(),
                id: hold.id,
                from,
                amount,
                reply,
            });
        };
        // Between a question and what the store makes of it others have their turn, so that questions overlap.
        let asked_at = now();
        tokio::task::yield_now().await;
        match store.reserve(&hold).await.unwrap() {
            Reserve::Granted(balances) => noted(asked_at, bound, Reply::Granted(sums_of(&balances))),
            Reserve::Refused(Refused { cap, balance }) => {
                let at = scopes.iter().position(|scope| scope.key == balance.key).unwrap();
                let sums = (balance.spent.as_nanos(), balance.reserved.as_nanos());
                let cap = cap.as_nanos();
                noted(asked_at, bound, Reply::Refused { at, cap, sums });
                continue;
            }
        }
        if random.below(4) == 0 {
            let asked_at = now();
            tokio::task::yield_now().await;
            store.release(hold.id).await.unwrap();
            noted(asked_at, 0, Reply::Released);
        } else {
            let cost = random.below(bound + 1);
            let settlement = Settlement {
                id: hold.id,
                amount: usd(cost),
                scopes: hold.scopes.clone(),
                owes_line: true,
            };
            let asked_at = now();
            tokio::task::yield_now().await;
            let Settled {
                applied, balances, ..
            } = store.settle(&settlement).await.unwrap();
            let sums = sums_of(&balances);
            noted(asked_at, cost, Reply::Settled { applied, sums });
        }
    }
}

/// Where the search stands: what each task asked, how much of it is done, in which order, and the sums after that.
struct Search {
    /// Of each task: each operation, and what the hold that it is about set aside.
    tasks: Vec<Vec<(Operation, u64)>>,
    done: Vec<usize>,
    state: [Sums; 3],
    order: Vec<usize>,
}

/// A choice: where it began, and the tasks whose next operations could come next instead, one after the other.
struct Choice {
    began_at: usize,
    others: VecDeque<Vec<usize>>,
    /// Whether the moves that begin with releases are among `others` already.
    is_complete: bool,
}

impl Search {
    fn next(&self, task: usize) -> Option<&(Operation, u64)> {
        self.tasks[task].get(self.done[task])
    }

    fn heads(&self) -> impl Iterator<Item = (usize, &(Operation, u64))> {
        (0..self.tasks.len()).filter_map(|task| Some((task, self.next(task)?)))
    }

    /// What was asked after this moment was asked after something that is not done yet was answered.
    fn horizon(&self) -> i64 {
        self.heads()
            .map(|(_, (operation, _))| operation.answered_at)
            .min()
            .unwrap_or(i64::MAX)
    }

    /// The sums after an operation, whatever its answer says; none where it gives back what nobody set aside.
    fn after(&self, (operation, held): &(Operation, u64)) -> Option<[Sums; 3]> {
        let mut state = self.state;
        match &operation.reply {
            Reply::Granted(_) => {
                for sums in &mut state[operation.from..] {
                    sums.1 += operation.amount;
                }
            }
            Reply::Refused { .. } => {}
            Reply::Settled { .. } | Reply::Released => {
                for sums in &mut state[operation.from..] {
                    sums.0 += operation.amount;
                    sums.1 = sums.1.checked_sub(*held)?;
                }
            }
        }
        Some(state)
    }

    /// The same where the answer agrees.
    fn explained(&self, step: &(Operation, u64)) -> Option<[Sums; 3]> {
        let state = self.after(step)?;
        let fits = match &step.0.reply {
            Reply::Granted(sums) | Reply::Settled { sums, .. } => *sums == state[step.0.from..],
            Reply::Refused { at, sums, .. } => *sums == state[*at],
            Reply::Released => true,
        };
        fits.then_some(state)
    }

    fn apply(&mut self, task: usize) -> bool {
        let horizon = self.horizon();
        let Some(step) = self
            .next(task)
            .filter(|(operation, _)| operation.asked_at <= horizon)
        else {
            return false;
        };
        let Some(state) = self.explained(step) else {
            return false;
        };
        self.state = state;
        self.done[task] += 1;
        self.order.push(task);
        true
    }

    fn undo(&mut self, until: usize) {
        while self.order.len() > until {
            let task = self.order.pop().unwrap();
            self.done[task] -= 1;
            let (operation, held) = &self.tasks[task][self.done[task]];
            for sums in &mut self.state[operation.from..] {
                match &operation.reply {
                    Reply::Granted(_) => sums.1 -= operation.amount,
                    Reply::Refused { .. } => {}
                    Reply::Settled { .. } | Reply::Released => {
                        sums.0 -= operation.amount;
                        sums.1 += held;
                    }
                }
            }
        }
    }

    /// A refusal that may come next. It changes nothing, so nothing is lost by taking it as early as it fits.
    fn refusal(&self) -> Option<usize> {
        let horizon = self.horizon();
        let is_one = |step: &(Operation, u64)| {
            matches!(step.0.reply, Reply::Refused { .. }) && self.explained(step).is_some()
        };
        self.heads()
            .find(|(_, step)| step.0.asked_at <= horizon && is_one(step))
            .map(|(task, _)| task)
    }

    /// What may come next and says so by its answer; whoever was answered first comes first.
    fn plain_moves(&self) -> VecDeque<Vec<usize>> {
        let horizon = self.horizon();
        let mut found: Vec<(i64, usize)> = self
            .heads()
            .filter(|(_, (operation, _))| operation.reveals() && operation.asked_at <= horizon)
            .filter(|(_, step)| self.explained(step).is_some())
            .map(|(task, (operation, _))| (operation.answered_at, task))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, task)| vec![task]).collect()
    }

    /// What may come next after some releases, whose answers say nothing: those that together gave back just what the
    /// answer lacks, the task's own before it among them.
    fn moves_after_releases(&mut self) -> VecDeque<Vec<usize>> {
        let mut releases: Vec<(i64, usize, usize, u64)> = self
            .heads()
            .filter(|(_, (operation, _))| !operation.reveals())
            .map(|(task, (operation, held))| (operation.answered_at, task, operation.from, *held))
            .collect();
        releases.sort_unstable();
        let began_at = self.order.len();
        let mut found: Vec<(bool, usize, i64, Vec<usize>)> = Vec::new();
        for task in 0..self.tasks.len() {
            let Some((head, _)) = self.next(task) else {
                continue;
            };
            let own = !head.reveals();
            if own && (self.tasks[task].len() == self.done[task] + 1 || !self.apply_early(task)) {
                continue;
            }
            let Some((operation, _)) = self.next(task) else {
                continue;
            };
            let (changes, answered_at) = (
                !matches!(operation.reply, Reply::Refused { .. }),
                operation.answered_at,
            );
            for set in self.sets_before(task, &releases) {
                let mut set: Vec<usize> = releases
                    .iter()
                    .map(|(_, other, ..)| *other)
                    .filter(|other| set.contains(other) || (own && *other == task))
                    .collect();
                set.push(task);
                found.push((changes, set.len(), answered_at, set));
            }
            self.undo(began_at);
        }
        // Refusals first: one that saw sums which the others leave behind would have no place any more, and that would be
        // noticed late. Where it is wrong to begin with one, that is noticed at once.
        found.sort_unstable();
        let mut found: VecDeque<Vec<usize>> = found.into_iter().map(|(.., set)| set).collect();
        // One that was answered before all else has to come, whether or not an answer tells of it.
        if let Some((answered_at, task, ..)) = releases.first()
            && *answered_at == self.horizon()
        {
            found.push_back(vec![*task]);
        }
        found
    }

    /// The release that comes next of `task`, whatever others are to come before it.
    fn apply_early(&mut self, task: usize) -> bool {
        let Some(state) = self.next(task).and_then(|step| self.explained(step)) else {
            return false;
        };
        self.state = state;
        self.done[task] += 1;
        self.order.push(task);
        true
    }

    /// The sets of `releases` of other tasks after which the next answer of `task` is right.
    fn sets_before(&self, task: usize, releases: &[(i64, usize, usize, u64)]) -> Vec<Vec<usize>> {
        let Some(step) = self.next(task) else {
            return Vec::new();
        };
        let (scope, answered) = match &step.0.reply {
            Reply::Granted(sums) | Reply::Settled { sums, .. } => (2, sums[sums.len() - 1]),
            Reply::Refused { at, sums, .. } => (*at, *sums),
            Reply::Released => return Vec::new(),
        };
        let Some(state) = self.after(step) else {
            return Vec::new();
        };
        let Some(lacks) = state[scope].1.checked_sub(answered.1) else {
            return Vec::new();
        };
        if state[scope].0 != answered.0 {
            return Vec::new();
        }
        let parts: Vec<(usize, u64)> = releases
            .iter()
            .filter(|(_, other, from, _)| *other != task && *from <= scope)
            .map(|(_, other, _, held)| (*other, *held))
            .collect();
        let mut sets = Vec::new();
        sum_up(&parts, lacks, &mut Vec::new(), &mut sets);
        sets
    }
}

/// All ways to take `lacks` together from `parts`; the first few.
fn sum_up(parts: &[(usize, u64)], lacks: u64, taken: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    if lacks == 0 {
        found.push(taken.clone());
        return;
    }
    for (at, (task, part)) in parts.iter().enumerate() {
        if *part <= lacks && found.len() < MOST_SETS {
            taken.push(*task);
            sum_up(&parts[at + 1..], lacks - part, taken, found);
            taken.pop();
        }
    }
}

/// An order of `operations`, which are each task's own in the order in which he asked, that explains all answers.
///
/// # Panics
/// Where there is none.
pub(crate) fn in_order(operations: Vec<Operation>) -> Vec<Operation> {
    let held: HashMap<ReservationId, u64> = operations
        .iter()
        .filter(|operation| matches!(operation.reply, Reply::Granted(_)))
        .map(|operation| (operation.id, operation.amount))
        .collect();
    let mut by_task: HashMap<u64, usize> = HashMap::new();
    let mut tasks: Vec<Vec<(Operation, u64)>> = Vec::new();
    for operation in operations {
        let at = *by_task.entry(operation.task).or_insert_with(|| {
            tasks.push(Vec::new());
            tasks.len() - 1
        });
        let held = held.get(&operation.id).copied().unwrap_or(0);
        tasks[at].push((operation, held));
    }
    let count: usize = tasks.iter().map(Vec::len).sum();
    let mut search = Search {
        done: vec![0; tasks.len()],
        tasks,
        state: [(0, 0); 3],
        order: Vec::with_capacity(count),
    };
    let mut choices: Vec<Choice> = Vec::new();
    let (mut furthest, mut steps) = (0, 0_u64);
    while search.order.len() < count {
        furthest = furthest.max(search.order.len());
        let refusal = search.refusal();
        let mut choice = Choice {
            began_at: search.order.len(),
            others: refusal.map_or_else(|| search.plain_moves(), |task| VecDeque::from([vec![task]])),
            is_complete: refusal.is_some(),
        };
        loop {
            steps += 1;
            assert!(
                steps < MOST_STEPS,
                "no order found in time; {furthest} of {count} explained"
            );
            if choice.others.is_empty() && !choice.is_complete {
                choice.is_complete = true;
                choice.others = search.moves_after_releases();
            }
            if let Some(tasks) = choice.others.pop_front() {
                if tasks.iter().all(|task| search.apply(*task)) {
                    choices.push(choice);
                    break;
                }
            } else {
                // It leads nowhere from here: another choice earlier.
                choice = choices.pop().unwrap_or_else(|| {
                    panic!("no order explains the answers; {furthest} of {count} explained")
                });
            }
            search.undo(choice.began_at);
        }
    }
    let mut done = vec![0; search.tasks.len()];
    search
        .order
        .iter()
        .map(|task| {
            done[*task] += 1;
            search.tasks[*task][done[*task] - 1].0.clone()
        })
        .collect()
}

/// Does `operations` to the reference, one after the other: every answer is the reference's, and no cap is passed at any
/// step. Returns the sums at the end.
pub(crate) fn replay(operations: &[Operation], scopes: &[Scope; 3]) -> [Sums; 3] {
    let at = Timestamp::EPOCH;
    let mut reference = Reference::default();
    for operation in operations {
        let own = &scopes[operation.from..];
        let sums = |reference: &Reference| -> Vec<Sums> {
            own.iter().map(|scope| reference.sums(scope, at)).collect()
        };
        match &operation.reply {
            Reply::Granted(answered) => {
                let hold = hold(operation.id, operation.amount, own);
                assert_eq!(reference.reserve(&hold, at), Answer::Granted, "{operation}");
                assert_eq!(*answered, sums(&reference), "{operation}");
            }
            Reply::Refused { at: scope, cap, sums } => {
                let hold = hold(operation.id, operation.amount, own);
                assert_eq!(reference.reserve(&hold, at), Answer::Refused, "{operation}");
                let does_not_fit = |scope: &&Scope| {
                    let (spent, reserved) = reference.sums(scope, at);
                    spent + reserved + operation.amount > scope.cap.unwrap().as_nanos()
                };
                let first = own.iter().find(does_not_fit).unwrap();
                assert_eq!(first.key, scopes[*scope].key, "{operation}");
                assert_eq!(Some(usd(*cap)), first.cap, "{operation}");
                assert_eq!(*sums, reference.sums(first, at), "{operation}");
            }
            Reply::Settled {
                applied,
                sums: answered,
            } => {
                let settlement = Settlement {
                    id: operation.id,
                    amount: usd(operation.amount),
                    scopes: own.into(),
                    owes_line: true,
                };
                let changed = reference.settle(&settlement, at);
                assert_eq!(*applied, changed, "{operation}");
                assert_eq!(*answered, sums(&reference), "{operation}");
            }
            Reply::Released => reference.release(operation.id),
        }
        for scope in scopes {
            let (spent, reserved) = reference.sums(scope, at);
            assert!(
                spent + reserved <= scope.cap.unwrap().as_nanos(),
                "{operation} passes the cap of {}",
                scope.key
            );
        }
    }
    [0, 1, 2].map(|scope| reference.sums(&scopes[scope], at))
}

/// Says how many calls were let through and refused, so that a run which tried nothing is noticed.
pub(crate) fn assert_busy(operations: &[Operation], calls: u64) {
    let count = |is: fn(&Reply) -> bool| operations.iter().filter(|one| is(&one.reply)).count();
    let granted = count(|reply| matches!(reply, Reply::Granted(_)));
    let refused = count(|reply| matches!(reply, Reply::Refused { .. }));
    assert_eq!(u64::try_from(granted + refused).unwrap(), calls);
    assert!(
        granted > 500 && refused > 500,
        "{granted} granted, {refused} refused"
    );
    // Somebody was served while others waited: else one order would be all there is.
    let overlaps = operations
        .iter()
        .zip(operations.iter().skip(1))
        .filter(|(first, second)| second.asked_at < first.answered_at)
        .count();
    assert!(overlaps > 100, "{overlaps} operations overlapped");
}

/// The text of `operation` and back, as a process tells it.
pub(crate) fn told(operation: &Operation) -> String {
    let mut text = String::from("operation ");
    write!(text, "{operation}").unwrap();
    text
}

mod tests {
    use super::*;
    use leash_budget::ScopeKey;

    fn id(number: u128) -> ReservationId {
        ReservationId::from_u128(number)
    }

    fn scopes() -> [Scope; 3] {
        ["a", "b", "c"].map(|name| Scope::capped(ScopeKey::named("team", name), usd(10)))
    }

    fn operation(task: u64, span: (i64, i64), number: u128, amount: u64, reply: Reply) -> Operation {
        Operation {
            task,
            asked_at: span.0,
            answered_at: span.1,
            id: id(number),
            from: 2,
            amount,
            reply,
        }
    }

    fn granted(task: u64, span: (i64, i64), number: u128, amount: u64, sums: Sums) -> Operation {
        operation(task, span, number, amount, Reply::Granted(vec![sums]))
    }

    fn fails(operations: Vec<Operation>) -> bool {
        let replayed = std::panic::AssertUnwindSafe(|| replay(&in_order(operations), &scopes()));
        std::panic::catch_unwind(replayed).is_err()
    }

    #[test]
    fn an_operation_is_told_and_heard_as_it_was() {
        let refused = Reply::Refused {
            at: 1,
            cap: 10,
            sums: (3, 4),
        };
        let settled = Reply::Settled {
            applied: true,
            sums: vec![(1, 2), (3, 4)],
        };
        for reply in [Reply::Granted(vec![(5, 6)]), refused, settled, Reply::Released] {
            let operation = operation(3, (-1, 9), 7, 8, reply);
            let text = told(&operation);
            let words: Vec<&str> = text.split_whitespace().skip(1).collect();
            assert_eq!(Operation::of_words(&words), operation);
        }
    }

    #[test]
    fn an_order_is_found_where_there_is_one_though_others_look_as_good() {
        // The second task's reservation fits before the first one's and after its release; only the latter leads on.
        let operations = vec![
            granted(1, (0, 50), 1, 4, (0, 4)),
            operation(1, (60, 70), 1, 0, Reply::Released),
            granted(2, (0, 99), 2, 3, (0, 3)),
            operation(
                2,
                (100, 110),
                2,
                2,
                Reply::Settled {
                    applied: true,
                    sums: vec![(2, 0)],
                },
            ),
        ];
        let found = in_order(operations.clone());
        assert_eq!(replay(&found, &scopes())[2], (2, 0));
        // Where the first one's answer came later than that, the other way round looks better at first.
        let mut operations = operations;
        operations[0].answered_at = 150;
        operations[1].asked_at = 151;
        operations[1].answered_at = 170;
        operations[2].answered_at = 160;
        operations[3].asked_at = 180;
        operations[3].answered_at = 190;
        let found = in_order(operations);
        assert_eq!(replay(&found, &scopes())[2], (2, 0));
    }

    #[test]
    fn what_no_order_explains_is_noticed() {
        // Two that were both told they were the first: one of them was lost.
        assert!(fails(vec![
            granted(1, (0, 9), 1, 4, (0, 4)),
            granted(2, (0, 9), 2, 3, (0, 3)),
        ]));
        // Past the cap.
        assert!(fails(vec![
            granted(1, (0, 9), 1, 6, (0, 6)),
            granted(2, (0, 9), 2, 5, (0, 11)),
        ]));
        // Refused although it fitted.
        let refusal = |at| Reply::Refused {
            at,
            cap: 10,
            sums: (0, 0),
        };
        assert!(fails(vec![operation(1, (0, 9), 1, 6, refusal(2))]));
        // Answered before it was asked, as far as the other one knows.
        assert!(fails(vec![
            granted(1, (0, 9), 1, 6, (0, 8)),
            granted(2, (10, 19), 2, 2, (0, 2)),
        ]));
        assert!(!fails(vec![
            granted(1, (0, 12), 1, 6, (0, 8)),
            granted(2, (10, 19), 2, 2, (0, 2)),
        ]));
        // Money that came from nowhere.
        let settled = Reply::Settled {
            applied: true,
            sums: vec![(5, 0)],
        };
        assert!(fails(vec![
            granted(1, (0, 9), 1, 6, (0, 6)),
            operation(1, (10, 19), 1, 4, settled),
        ]));
    }
}
