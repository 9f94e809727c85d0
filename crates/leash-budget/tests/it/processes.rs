//! Many processes on one store: this binary runs itself as the spender. Each law takes the address of a store that is
//! empty, so it holds for every store that processes share.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::replay::{self, Operation, Random, TASKS};
use async_trait::async_trait;
use leash_budget::{
    Balance, BudgetStore, CONFIRM_WITHIN, Expired, Held, Hit, Hits, Hold, HoldLine, Reserve, Scope, ScopeKey,
    Settled, Settlement, Written,
};
use leash_core::{
    Caller, Clock, Digest, IdGenerator, ReservationId, SessionId, StoreError, StoreErrorKind, SystemClock,
    Timestamp, Usd,
};

/// What a child is to do, in its environment.
const ORDERS: &str = "LEASH_BUDGET_TEST_ORDERS";
/// Before each word of a child. Nothing else on its standard output begins so.
const MARK: &str = "@ ";

/// The store at `url`, as the processes of a program open it.
pub(crate) async fn open(url: &str) -> Arc<dyn BudgetStore> {
    #[cfg(feature = "sqlite")]
    if let Some(path) = url.strip_prefix("sqlite:") {
        return crate::sqlite::open(std::path::Path::new(path)).await;
    }
    #[cfg(feature = "redis")]
    if url.starts_with("redis://") {
        return crate::redis::open(url).await;
    }
    panic!("no store at `{url}`")
}

/// The same by a clock of the test's own.
async fn open_by(url: &str, clock: Arc<dyn Clock>) -> Arc<dyn BudgetStore> {
    #[cfg(feature = "sqlite")]
    if let Some(path) = url.strip_prefix("sqlite:") {
        return crate::sqlite::open_by(std::path::Path::new(path), clock).await;
    }
    #[cfg(feature = "redis")]
    if url.starts_with("redis://") {
        return crate::redis::open_by(url, clock).await;
    }
    panic!("no store at `{url}` by {clock:?}")
}

fn usd(nanos: u64) -> Usd {
    Usd::from_nanos(nanos).unwrap()
}

/// What a child is told.
#[derive(Clone)]
struct Orders {
    url: String,
    seed: u64,
    calls_per_task: u64,
    largest: u64,
    /// No lease: a child tells every operation with its answer, and nothing dies. Else what it is about to do.
    lease_ms: Option<u64>,
    caps: [u64; 3],
}

impl Orders {
    fn scopes(&self) -> [Scope; 3] {
        let keys = ["session", "tenant", "team"].map(|kind| ScopeKey::named(kind, "processes"));
        let [session, tenant, team] = keys;
        let [first, second, third] = self.caps.map(usd);
        [
            Scope::capped(session, first),
            Scope::capped(tenant, second),
            Scope::capped(team, third),
        ]
    }

    fn to_text(&self) -> String {
        let [a, b, c] = self.caps;
        format!(
            "{} {} {} {} {a} {b} {c} {}",
            self.seed,
            self.calls_per_task,
            self.largest,
            self.lease_ms.unwrap_or(0),
            self.url
        )
    }

    fn of_text(text: &str) -> Self {
        let mut words = text.splitn(8, ' ');
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        Self {
            seed: number(),
            calls_per_task: number(),
            largest: number(),
            lease_ms: Some(number()).filter(|lease| *lease > 0),
            caps: [number(), number(), number()],
            url: words.next().unwrap().to_owned(),
        }
    }
}

pub(crate) fn hold(id: ReservationId, amount: u64, scopes: &[Scope], lease: Duration) -> Hold {
    Hold {
        id,
        amount: usd(amount),
        scopes: scopes.into(),
        lease,
        line: HoldLine {
            what: Held::Model {
                provider: "openai".into(),
                model: "gpt-4o".into(),
            },
            caller: Caller::session(SessionId::new("s_processes").unwrap()),
            request_digest: Digest::EMPTY,
        },
    }
}

fn settlement(hold: &Hold, amount: u64) -> Settlement {
    Settlement {
        id: hold.id,
        amount: usd(amount),
        scopes: hold.scopes.clone(),
        owes_line: false,
    }
}

/// A whole line at once, so that death cuts off at most the last one.
fn say(words: std::fmt::Arguments<'_>) {
    let mut line = String::from(MARK);
    writeln!(line, "{words}").unwrap();
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// As a test it does nothing. As a child it spends, and says what it is about to do and what was acknowledged.
#[test]
fn spender() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders = Orders::of_text(&orders);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = open(&orders.url).await;
        let ids = Arc::new(IdGenerator::from_os());
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (store, ids, orders) = (store.clone(), ids.clone(), orders.clone());
                match orders.lease_ms {
                    Some(lease) => {
                        tokio::spawn(spend(store, ids, orders, Duration::from_millis(lease), task))
                    }
                    None => tokio::spawn(replay::spend(
                        store,
                        ids,
                        orders.scopes(),
                        (task, orders.seed),
                        (orders.calls_per_task, orders.largest),
                        |operation| say(format_args!("{}", replay::told(&operation))),
                    )),
                }
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        say(format_args!("done"));
    });
}

async fn spend(
    store: Arc<dyn BudgetStore>,
    ids: Arc<IdGenerator>,
    orders: Orders,
    lease: Duration,
    task: u64,
) {
    let all = orders.scopes();
    let mut random = Random(orders.seed.wrapping_mul(1_000).wrapping_add(task));
    for _ in 0..orders.calls_per_task {
        let amount = random.below(orders.largest) + 1;
        let from = usize::try_from(random.below(3)).unwrap();
        let scopes = &all[from..];
        let hold = hold(ids.reservation(SystemClock.now()), amount, scopes, lease);
        let id = hold.id;
        say(format_args!("reserving {id} {amount} {from}"));
        let balances = match insist(|| store.reserve(&hold)).await {
            (Ok(Reserve::Granted(balances)), _) => balances,
            (Ok(Reserve::Refused(_)), is_lost) => {
                // Where an answer was lost, the question may be answered yet.
                if !is_lost {
                    say(format_args!("refused {id} 0 {from}"));
                }
                continue;
            }
            // It was granted, nobody heard of it, and its lease has run out since.
            (Err(error), true) if error.kind() == StoreErrorKind::Conflict => continue,
            (Err(error), _) => panic!("{error}"),
        };
        for (balance, scope) in balances.iter().zip(scopes) {
            assert_eq!(balance.key, scope.key);
            assert_within(balance, scope);
        }
        tokio::task::yield_now().await;
        if random.below(4) == 0 {
            say(format_args!("releasing {id} 0 {from}"));
            insist(|| store.release(id)).await.0.unwrap();
            say(format_args!("released {id} 0 {from}"));
        } else {
            let cost = random.below(amount + 1);
            say(format_args!("settling {id} {cost} {from}"));
            let cost_of_it = settlement(&hold, cost);
            insist(|| store.settle(&cost_of_it)).await.0.unwrap();
            say(format_args!("settled {id} {cost} {from}"));
        }
    }
}

/// Asks again where the store is out of reach, for a minute at most. The answer, and whether any was lost on the way.
async fn insist<T, F: Future<Output = Result<T, StoreError>>>(
    ask: impl Fn() -> F,
) -> (Result<T, StoreError>, bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut is_lost = false;
    loop {
        let answer = ask().await;
        let is_away = |error: &StoreError| {
            matches!(
                error.kind(),
                StoreErrorKind::Timeout | StoreErrorKind::Unavailable
            )
        };
        if !answer.as_ref().err().is_some_and(is_away) || Instant::now() > deadline {
            return (answer, is_lost);
        }
        is_lost = true;
        tokio::task::yield_now().await;
    }
}

fn assert_within(balance: &Balance, scope: &Scope) {
    let sum = balance.spent.checked_add(balance.reserved).unwrap();
    let cap = scope.cap.unwrap();
    assert!(sum <= cap, "{}: {sum} of {cap}", scope.key);
}

fn start(orders: &Orders) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::spender", "--nocapture", "--test-threads=1"])
        .env(ORDERS, orders.to_text())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// What is known of one reservation, from what its child said.
#[derive(Clone, Debug, Default)]
struct Story {
    amount: u64,
    /// It is in the scopes from this one on.
    from: usize,
    was_refused: bool,
    settling: Option<u64>,
    is_settled: bool,
    is_released: bool,
}

#[derive(Default)]
struct Told {
    stories: HashMap<ReservationId, Story>,
    is_done: bool,
}

impl Told {
    /// Takes one line of a child. One that its death cut off says nothing.
    fn hear(&mut self, line: &str) {
        let Some(words) = line
            .split_once(MARK)
            .map(|(_, words)| words)
            .filter(|words| words.ends_with('\n'))
        else {
            return;
        };
        let words: Vec<&str> = words.split_whitespace().collect();
        let [verb, id, amount, from] = words[..] else {
            self.is_done |= words == ["done"];
            return;
        };
        let story = self.stories.entry(id.parse().unwrap()).or_default();
        let amount: u64 = amount.parse().unwrap();
        match verb {
            "reserving" => (story.amount, story.from) = (amount, from.parse().unwrap()),
            "refused" => story.was_refused = true,
            "settling" => story.settling = Some(amount),
            "settled" => story.is_settled = true,
            "releasing" => {}
            "released" => story.is_released = true,
            other => panic!("a child said `{other}`"),
        }
    }
}

/// Asks for the sums all the time until it is told to stop, and never finds a cap passed. Lets holds expire if told to,
/// and keeps them.
struct Watch {
    is_over: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    expired: Arc<Mutex<Vec<Expired>>>,
    thread: std::thread::JoinHandle<()>,
}

impl Watch {
    fn start(orders: &Orders, lets_expire: bool) -> Self {
        let (is_over, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let expired = Arc::new(Mutex::new(Vec::new()));
        let thread = {
            let (orders, is_over, looks, expired) =
                (orders.clone(), is_over.clone(), looks.clone(), expired.clone());
            std::thread::spawn(move || {
                block_on(async {
                    let store = open(&orders.url).await;
                    let scopes = orders.scopes();
                    while !is_over.load(Ordering::Acquire) {
                        let balances = insist(|| store.balances(&scopes)).await.0.unwrap();
                        for (balance, scope) in balances.iter().zip(&scopes) {
                            assert_within(balance, scope);
                        }
                        looks.fetch_add(1, Ordering::AcqRel);
                        if lets_expire {
                            let found = insist(|| store.expire(100)).await.0.unwrap();
                            let lines: Vec<_> = found.iter().map(Expired::written).collect();
                            expired.lock().unwrap().extend(found);
                            insist(|| store.confirm(&lines)).await.0.unwrap();
                        }
                    }
                });
            })
        };
        Self {
            is_over,
            looks,
            expired,
            thread,
        }
    }

    fn stop(self) -> Vec<Expired> {
        self.is_over.store(true, Ordering::Release);
        self.thread.join().unwrap();
        assert!(self.looks.load(Ordering::Acquire) > 20);
        Arc::into_inner(self.expired).unwrap().into_inner().unwrap()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn orders(url: &str, seed: u64, calls_per_task: u64, lease_ms: Option<u64>) -> Orders {
    let mut random = Random(seed);
    let largest = 1_000_000_000;
    // What all calls together would cost is about twice as much.
    let all = 4 * TASKS * calls_per_task * largest / 4;
    Orders {
        url: url.to_owned(),
        seed,
        calls_per_task,
        largest,
        lease_ms,
        caps: [(); 3].map(|()| all / 8 + random.below(all / 3)),
    }
}

/// Ten thousand calls of random size from four processes of sixteen tasks: an order of all operations explains every
/// answer, and done in that order to the plain reference they come to the same answers, within every cap at each step, and
/// to the same sums, to the nano-dollar. Nobody who only looks meanwhile finds a cap passed.
pub(crate) fn calls_of_four_processes_stay_within_every_cap(url: &str) {
    let orders = orders(url, 42, 157, None);
    block_on(open(url));
    let watch = Watch::start(&orders, false);
    let readers: Vec<_> = (0..4)
        .map(|child| {
            let (mut child_process, mut out) = start(&Orders {
                seed: orders.seed + child,
                ..orders.clone()
            });
            std::thread::spawn(move || {
                let mut operations = Vec::new();
                let mut is_done = false;
                let mut line = String::new();
                while out.read_line(&mut line).unwrap() > 0 {
                    if let Some((_, words)) = line.split_once(MARK) {
                        let words: Vec<&str> = words.split_whitespace().collect();
                        match words.as_slice() {
                            ["operation", words @ ..] => {
                                let operation = Operation::of_words(words);
                                operations.push(Operation {
                                    task: child * TASKS + operation.task,
                                    ..operation
                                });
                            }
                            words => is_done |= words == ["done"],
                        }
                    }
                    line.clear();
                }
                assert!(child_process.wait().unwrap().success());
                assert!(is_done);
                operations
            })
        })
        .collect();
    let mut operations = Vec::new();
    for reader in readers {
        operations.extend(reader.join().unwrap());
    }
    watch.stop();
    let operations = replay::in_order(operations);
    replay::assert_busy(&operations, 4 * TASKS * orders.calls_per_task);
    assert_eq!(replay::replay(&operations, &orders.scopes()), sums(&orders));
}

/// (spent, reserved) of each scope, in nano-dollars.
fn sums(orders: &Orders) -> [(u64, u64); 3] {
    let balances = block_on(async { open(&orders.url).await.balances(&orders.scopes()).await.unwrap() });
    let sums: Vec<_> = balances
        .iter()
        .map(|balance| (balance.spent.as_nanos(), balance.reserved.as_nanos()))
        .collect();
    sums.try_into().unwrap()
}

/// Processes are killed at any moment and started anew: never over a cap; when the leases have run out nothing is held;
/// and what was settled and what expired is what is spent, to the nano-dollar.
pub(crate) fn killed_processes_leave_nothing_held_and_every_cent_counted(url: &str) {
    killed_processes_in_trouble(url, |_, _| ());
}

/// The same while `trouble` does something to the store, in a thread of its own. It is told when it is over, and how often the
/// store answered somebody who looks; what it returns is kept until the end.
pub(crate) fn killed_processes_in_trouble<K: Send + 'static>(
    url: &str,
    trouble: impl FnOnce(&AtomicBool, &AtomicU64) -> K + Send + 'static,
) {
    const KILLS: u64 = 12;
    let orders = orders(url, 7, 60, Some(400));
    block_on(open(url));
    let watch = Watch::start(&orders, true);
    let is_over = Arc::new(AtomicBool::new(false));
    let troubled = {
        let (is_over, looks) = (is_over.clone(), watch.looks.clone());
        std::thread::spawn(move || trouble(&is_over, &looks))
    };
    let readers: Vec<_> = (0..4_u64)
        .map(|worker| {
            let orders = orders.clone();
            std::thread::spawn(move || {
                let mut told = Told::default();
                let mut random = Random(worker);
                for turn in 0..=KILLS / 4 {
                    let seed = orders.seed + worker + turn * 100;
                    let (mut child, mut out) = start(&Orders {
                        seed,
                        ..orders.clone()
                    });
                    // The last one is left to end by itself.
                    let dies_after = (turn < KILLS / 4).then(|| 20 + random.below(2_000));
                    let mut heard = 0;
                    let mut line = String::new();
                    while out.read_line(&mut line).unwrap() > 0 {
                        told.hear(&line);
                        line.clear();
                        heard += 1;
                        if dies_after == Some(heard) {
                            child.kill().unwrap();
                        }
                    }
                    child.wait().unwrap();
                }
                assert!(told.is_done);
                told.stories
            })
        })
        .collect();
    let mut stories: HashMap<ReservationId, Story> = HashMap::new();
    for reader in readers {
        stories.extend(reader.join().unwrap());
    }
    is_over.store(true, Ordering::Release);
    let _kept = troubled.join().unwrap();
    // Whatever is still held belongs to the dead. Nobody renews it, so it goes when its lease does.
    let deadline = Instant::now() + Duration::from_secs(20);
    while sums(&orders).iter().any(|(_, reserved)| *reserved > 0) {
        assert!(Instant::now() < deadline, "held past its lease");
    }
    let expired = watch.stop();
    let mut charged: HashMap<ReservationId, u64> = HashMap::new();
    for Expired { hold, .. } in &expired {
        let story = &stories[&hold.id];
        assert_eq!((hold.amount.as_nanos(), story.was_refused), (story.amount, false));
        assert!(charged.insert(hold.id, story.amount).is_none(), "expired twice");
    }
    assert!(!charged.is_empty(), "nobody died with anything in hand");
    // A settlement whose answer its process did not live to hear is asked for again: that is what ids are for.
    block_on(async {
        let store = open(&orders.url).await;
        let scopes = orders.scopes();
        for (id, story) in &stories {
            let Some(cost) = story.settling else { continue };
            if !story.is_settled {
                let hold = hold(*id, story.amount, &scopes[story.from..], Duration::ZERO);
                store.settle(&settlement(&hold, cost)).await.unwrap();
                assert!(!store.settle(&settlement(&hold, cost)).await.unwrap().applied);
            }
            charged.insert(*id, cost);
        }
    });
    let mut spent = [0_u64; 3];
    for (id, charge) in charged {
        spent[stories[&id].from..]
            .iter_mut()
            .for_each(|sum| *sum += charge);
    }
    assert_eq!(sums(&orders), spent.map(|spent| (spent, 0)));
}

/// What an heir is told: the address of a store in which holds have expired.
const INHERITANCE: &str = "LEASH_BUDGET_TEST_INHERITANCE";

/// As a test it does nothing. As a child it writes the line of each expired hold to its standard output, and confirms those
/// that it has written, a few at a time, until nothing is left or it is killed.
#[test]
fn heir() {
    let Ok(url) = std::env::var(INHERITANCE) else {
        return;
    };
    block_on(async {
        let store = open(&url).await;
        loop {
            let some = store.expire(3).await.unwrap();
            if some.is_empty() {
                break;
            }
            wait_for_a_word();
            for one in &some {
                say(format_args!("line {} {}", one.hold.id, one.charged.as_nanos()));
                wait_for_a_word();
                store.confirm(&[one.written()]).await.unwrap();
            }
        }
        say(format_args!("done"));
    });
}

/// Here a child may die.
fn wait_for_a_word() {
    say(format_args!("waiting"));
    let mut word = String::new();
    std::io::stdin().lock().read_line(&mut word).unwrap();
    assert!(!word.is_empty(), "nobody is there any more");
}

/// Whoever was given expired holds is killed before it has written their lines, or before it could say so. Others are given
/// what it owed: in the end each hold has its line, and the lines come to what is spent.
pub(crate) fn no_line_of_an_expired_hold_is_lost_with_its_writer(url: &str) {
    const HOLDS: u64 = 120;
    let team = Scope::capped(ScopeKey::named("team", "heirs"), Usd::MAX);
    let mut random = Random(11);
    let mut made: HashMap<ReservationId, u64> = HashMap::new();
    block_on(async {
        let store = open(url).await;
        let ids = IdGenerator::from_os();
        for _ in 0..HOLDS {
            let amount = random.below(1_000) + 1;
            let short = hold(
                ids.reservation(SystemClock.now()),
                amount,
                std::slice::from_ref(&team),
                Duration::from_millis(1),
            );
            assert!(matches!(
                store.reserve(&short).await.unwrap(),
                Reserve::Granted(_)
            ));
            made.insert(short.id, amount);
        }
    });
    let mut lines: HashMap<ReservationId, u64> = HashMap::new();
    let mut note = |id: ReservationId, amount: u64| {
        assert_eq!(made.get(&id), Some(&amount));
        assert!(lines.insert(id, amount).is_none_or(|before| before == amount));
    };
    for words in [0, 1, 2, 3, 4, 5, 17, 18] {
        let mut heir = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::heir", "--nocapture", "--test-threads=1"])
            .env(INHERITANCE, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(heir.stdout.take().unwrap());
        let mut to = heir.stdin.take().unwrap();
        // It dies where it waits for the next word: before a line, or after one that is not confirmed.
        let mut left = words;
        let mut line = String::new();
        loop {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended by itself");
            hear_line(&line, &mut note);
            if line.contains("@ waiting") {
                if left == 0 {
                    break;
                }
                left -= 1;
                to.write_all(b"go on\n").unwrap();
            }
        }
        heir.kill().unwrap();
        heir.wait().unwrap();
    }
    // Whatever they owed is given to somebody else when their time is up.
    let mut owed = 0_u64;
    block_on(async {
        let late = open_by(url, Arc::new(Ahead(CONFIRM_WITHIN + Duration::from_mins(1)))).await;
        loop {
            let some = late.expire(50).await.unwrap();
            if some.is_empty() {
                break;
            }
            for one in some {
                owed += 1;
                note(one.hold.id, one.charged.as_nanos());
                late.confirm(&[one.written()]).await.unwrap();
            }
        }
        let later = open_by(url, Arc::new(Ahead(CONFIRM_WITHIN * 10))).await;
        assert!(later.expire(50).await.unwrap().is_empty(), "each is confirmed");
        let sums = later.balances(std::slice::from_ref(&team)).await.unwrap();
        let written: u64 = made.values().sum();
        assert_eq!(
            (sums[0].spent.as_nanos(), sums[0].reserved.as_nanos()),
            (written, 0)
        );
    });
    assert!(owed > 16, "too few died owing lines: {owed}");
    assert_eq!(lines, made, "each has its line");
}

fn hear_line(line: &str, note: &mut impl FnMut(ReservationId, u64)) {
    let words = line.split_once(MARK).map(|(_, words)| words);
    let whole = words.filter(|words| words.ends_with('\n'));
    let words: Vec<&str> = whole.unwrap_or_default().split_whitespace().collect();
    if let ["line", id, amount] = words.as_slice() {
        note(id.parse().unwrap(), amount.parse().unwrap());
    }
}

/// What a settler is told: the address of a store, and a seed.
const SETTLES: &str = "LEASH_BUDGET_TEST_SETTLES";

/// As a test it does nothing. As a child it makes calls at once, settles each, writes its line to its standard output, and
/// confirms lines a few at a time, until it is killed.
#[test]
fn settler() {
    let Ok(orders) = std::env::var(SETTLES) else {
        return;
    };
    let (seed, url) = orders.split_once(' ').unwrap();
    let seed: u64 = seed.parse().unwrap();
    block_on(async {
        let store = open(url).await;
        let ids = Arc::new(IdGenerator::from_os());
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8 {
            let (store, ids) = (store.clone(), ids.clone());
            tasks.spawn(async move {
                let mut random = Random(seed.wrapping_mul(1_000).wrapping_add(task));
                let team = settlers();
                let mut lines: Vec<Written> = Vec::new();
                for _ in 0..u64::MAX {
                    let amount = random.below(1_000) + 1;
                    let scopes = std::slice::from_ref(&team);
                    let held = hold(ids.reservation(SystemClock.now()), amount, scopes, LONG);
                    let reserved = store.reserve(&held).await.unwrap();
                    assert!(matches!(reserved, Reserve::Granted(_)));
                    let cost = Settlement {
                        owes_line: true,
                        ..settlement(&held, random.below(amount + 1))
                    };
                    say(format_args!("settling {}", held.id));
                    store.settle(&cost).await.unwrap();
                    say(format_args!("line {} {}", held.id, cost.amount.as_nanos()));
                    lines.push(Written {
                        id: held.id,
                        charged: cost.amount,
                    });
                    if lines.len() == 3 {
                        store.confirm(&lines).await.unwrap();
                        for line in lines.drain(..) {
                            say(format_args!("confirmed {}", line.id));
                        }
                    }
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
}

fn settlers() -> Scope {
    Scope::capped(ScopeKey::named("team", "settlers"), Usd::MAX)
}

/// Whoever settled calls is killed at any moment: before a line, or before it could say that it is written. In the end each call
/// that was settled has its line, the lines come to what is spent, and nothing is kept of what was confirmed.
pub(crate) fn no_line_of_a_settled_call_is_lost_with_its_settler(url: &str) {
    block_on(open(url));
    let mut random = Random(5);
    let mut lines: HashMap<ReservationId, u64> = HashMap::new();
    let (mut settling, mut confirmed) = (HashSet::new(), HashSet::new());
    for seed in 0..10_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "processes::settler", "--nocapture", "--test-threads=1"])
            .env(SETTLES, format!("{seed} {url}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let dies_after = 20 + random.below(400);
        let (mut line, mut heard) = (String::new(), 0);
        while out.read_line(&mut line).unwrap() > 0 {
            hear_line(&line, &mut |id, cost| assert!(lines.insert(id, cost).is_none()));
            let words = line.split_once(MARK).filter(|(_, words)| words.ends_with('\n'));
            let words: Vec<&str> = words.map_or(Vec::new(), |(_, words)| words.split_whitespace().collect());
            match words.as_slice() {
                ["settling", id] => drop(settling.insert(id.parse::<ReservationId>().unwrap())),
                ["confirmed", id] => drop(confirmed.insert(id.parse::<ReservationId>().unwrap())),
                _ => {}
            }
            line.clear();
            heard += 1;
            if heard == dies_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
    }
    let written = lines.len();
    let (mut again, mut lost) = (0, 0);
    block_on(async {
        let late = open_by(url, Arc::new(Ahead(CONFIRM_WITHIN + Duration::from_mins(1)))).await;
        loop {
            let some = late.expire(50).await.unwrap();
            if some.is_empty() {
                break;
            }
            for one in some {
                assert!(one.is_settled && settling.contains(&one.hold.id));
                assert!(!confirmed.contains(&one.hold.id), "it was confirmed");
                let cost = one.charged.as_nanos();
                match lines.insert(one.hold.id, cost) {
                    Some(before) => {
                        assert_eq!(before, cost);
                        again += 1;
                    }
                    None => lost += 1,
                }
                late.confirm(&[one.written()]).await.unwrap();
            }
        }
        let later = open_by(url, Arc::new(Ahead(CONFIRM_WITHIN * 10))).await;
        assert!(later.expire(50).await.unwrap().is_empty(), "each is confirmed");
        let sums = later.balances(&[settlers()]).await.unwrap();
        assert_eq!(sums[0].spent.as_nanos(), lines.values().sum::<u64>());
    });
    assert!(
        written > 300 && again > 5,
        "{written} lines, {again} of them not confirmed"
    );
    assert!(lost > 0, "nobody died between a settlement and its line");
}

/// The machine's clock, but for a time ahead.
#[derive(Debug)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now().saturating_add(self.0)
    }
}

/// A store that takes its time, before it does what it is asked or before it answers.
#[derive(Debug)]
struct Slow {
    inner: Arc<dyn BudgetStore>,
    before: Duration,
    after: Duration,
}

impl Slow {
    async fn slowly<T>(&self, asked: impl Future<Output = T>) -> T {
        tokio::time::sleep(self.before).await;
        let answer = asked.await;
        tokio::time::sleep(self.after).await;
        answer
    }
}

#[async_trait]
impl BudgetStore for Slow {
    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }

    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError> {
        self.slowly(self.inner.reserve(hold)).await
    }

    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        self.slowly(self.inner.settle(settlement)).await
    }

    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        self.slowly(self.inner.release(id)).await
    }

    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        self.slowly(self.inner.renew(id, lease)).await
    }

    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        self.slowly(self.inner.expire(limit)).await
    }

    async fn confirm(&self, lines: &[Written]) -> Result<(), StoreError> {
        self.slowly(self.inner.confirm(lines)).await
    }

    async fn balances(&self, scopes: &[Scope]) -> Result<Vec<Balance>, StoreError> {
        self.slowly(self.inner.balances(scopes)).await
    }

    async fn close(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        self.slowly(self.inner.close(key)).await
    }

    async fn hit(&self, hit: &Hit) -> Result<Hits, StoreError> {
        self.slowly(self.inner.hit(hit)).await
    }
}

const SLOW: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_hours(1);

/// Two hundred callers at once of a store that takes 200 ms: exactly what fits is granted.
pub(crate) fn callers_of_a_slow_store_stay_within_the_cap(url: &str) {
    block_on(async {
        let slow = Arc::new(Slow {
            inner: open(url).await,
            before: SLOW / 2,
            after: SLOW / 2,
        });
        let scope = Scope::capped(ScopeKey::named("team", "slow"), usd(100));
        let ids = Arc::new(IdGenerator::from_os());
        let callers: Vec<_> = (0..200)
            .map(|_| {
                let (slow, scope, ids) = (slow.clone(), scope.clone(), ids.clone());
                tokio::spawn(async move {
                    let hold = hold(ids.reservation(SystemClock.now()), 3, &[scope], LONG);
                    matches!(slow.reserve(&hold).await.unwrap(), Reserve::Granted(_))
                })
            })
            .collect();
        let mut granted = 0;
        for caller in callers {
            granted += u64::from(caller.await.unwrap());
        }
        assert_eq!(granted, 33);
        let balances = slow.balances(&[scope]).await.unwrap();
        assert_eq!(balances[0].reserved, usd(99));
    });
}

/// Whoever gave up before the store did anything, or before it answered, asks again under the same id and is right.
pub(crate) fn whoever_gave_up_on_an_answer_may_ask_again(url: &str) {
    block_on(async {
        let store = open(url).await;
        let ids = IdGenerator::from_os();
        let impatience = SLOW / 4;
        for (name, before, after) in [("late", SLOW, Duration::ZERO), ("unheard", Duration::ZERO, SLOW)] {
            let slow = Slow {
                inner: store.clone(),
                before,
                after,
            };
            let scope = Scope::capped(ScopeKey::named("team", name), usd(10));
            let sums = async || {
                let balances = store.balances(std::slice::from_ref(&scope)).await.unwrap();
                (balances[0].spent.as_nanos(), balances[0].reserved.as_nanos())
            };
            let first = hold(
                ids.reservation(SystemClock.now()),
                7,
                std::slice::from_ref(&scope),
                LONG,
            );
            let gave_up = tokio::time::timeout(impatience, slow.reserve(&first)).await;
            assert!(gave_up.is_err());
            assert!(matches!(
                store.reserve(&first).await.unwrap(),
                Reserve::Granted(_)
            ));
            assert_eq!(sums().await, (0, 7));
            let cost = settlement(&first, 4);
            let gave_up = tokio::time::timeout(impatience, slow.settle(&cost)).await;
            assert!(gave_up.is_err());
            store.settle(&cost).await.unwrap();
            assert_eq!(sums().await, (4, 0));
            let second = hold(
                ids.reservation(SystemClock.now()),
                6,
                std::slice::from_ref(&scope),
                LONG,
            );
            assert!(matches!(
                store.reserve(&second).await.unwrap(),
                Reserve::Granted(_)
            ));
            let gave_up = tokio::time::timeout(impatience, slow.release(second.id)).await;
            assert!(gave_up.is_err());
            store.release(second.id).await.unwrap();
            assert_eq!(sums().await, (4, 0));
        }
    });
}

/// Futures that are dropped at whichever point: each operation happened whole or not at all, and asking again under
/// the same id makes it happen once.
pub(crate) fn an_operation_that_was_dropped_midway_is_whole_or_not_at_all(url: &str) {
    block_on(async {
        let store = open(url).await;
        let ids = IdGenerator::from_os();
        let pair = ["one", "two"].map(|name| Scope::capped(ScopeKey::named("team", name), usd(1_000_000)));
        let sums = async || {
            let balances = store.balances(&pair).await.unwrap();
            let both: HashSet<(u64, u64)> = balances
                .iter()
                .map(|balance| (balance.spent.as_nanos(), balance.reserved.as_nanos()))
                .collect();
            // Both scopes or neither.
            assert_eq!(both.len(), 1);
            both.into_iter().next().unwrap()
        };
        let mut charged = 0;
        for turn in 0..100_u64 {
            let asked = hold(ids.reservation(SystemClock.now()), turn + 1, &pair, LONG);
            give_up_after(turn % 5, store.reserve(&asked)).await;
            let (spent, set_aside) = sums().await;
            assert_eq!(spent, charged);
            assert!(set_aside == 0 || set_aside == turn + 1, "{set_aside}");
            assert!(matches!(
                store.reserve(&asked).await.unwrap(),
                Reserve::Granted(_)
            ));
            assert_eq!(sums().await, (spent, turn + 1));
            give_up_after(turn % 5, store.settle(&settlement(&asked, turn))).await;
            store.settle(&settlement(&asked, turn)).await.unwrap();
            charged += turn;
            assert_eq!(sums().await, (charged, 0));
        }
    });
}

/// Polls `asked` at most so many times, letting others work in between, and drops it.
async fn give_up_after<T>(polls: u64, asked: impl Future<Output = T>) {
    let mut asked = std::pin::pin!(asked);
    for _ in 0..polls {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if asked.as_mut().poll(&mut context).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Makes a test of each law for the store whose address the expression gives; what else it gives is kept until the end.
#[macro_export]
macro_rules! processes_share {
    ($store:expr) => {
        $crate::processes_share!(@laws $store,
            calls_of_four_processes_stay_within_every_cap
            killed_processes_leave_nothing_held_and_every_cent_counted
            no_line_of_an_expired_hold_is_lost_with_its_writer
            no_line_of_a_settled_call_is_lost_with_its_settler
            callers_of_a_slow_store_stay_within_the_cap
            whoever_gave_up_on_an_answer_may_ask_again
            an_operation_that_was_dropped_midway_is_whole_or_not_at_all
        );
    };
    (@laws $store:expr, $($law:ident)*) => {
        $(
            #[test]
            fn $law() {
                let (url, kept) = $store;
                $crate::processes::$law(&url);
                drop(kept);
            }
        )*
    };
}
