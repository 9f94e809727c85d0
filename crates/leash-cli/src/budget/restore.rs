//! `budget restore`: a store that lost its data is rebuilt from audit logs, or goes on without them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leash_audit::{HmacKeys, MAX_LINE, VerifyOptions};
use leash_budget::{BudgetAdmin, ScopeKey, Settlement, StoreUrl};
use leash_core::{Clock as _, ReservationId, SystemClock, Timestamp, Usd};
use serde_json::{Value, json};

use crate::cli::BudgetRestoreArgs;
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::{input, keys, output};

use super::record::Recorder;
use super::sums::{Asked, Doubts, Rebuilt, Resets, Sums, Uncountable, moment, note_reset};
use super::{address, counted, options, print_line, shown, told, unconfirmed};

/// How many unknown scopes are named.
const NAMED: usize = 10;

/// One log, after it was verified.
struct Log {
    path: PathBuf,
    is_intact: bool,
    events: u64,
    first: Option<Timestamp>,
    /// Its first line, which no other log has.
    begins: Option<String>,
}

pub(crate) async fn run(args: &BudgetRestoreArgs) -> Result<Exit, Failure> {
    let url = address(&args.store)?;
    if args.accept_loss {
        return accept_loss(args, &url).await;
    }
    let keys = keys::read(&args.keys)?;
    let Some(mut logs) = verified(args, keys.as_ref())? else {
        return Ok(Exit::Broken);
    };
    let (mut resets, mut doubts) = (Resets::new(), Doubts::default());
    for log in &mut logs {
        let (first, begins) = (&mut log.first, &mut log.begins);
        let mut asked = Asked::new();
        each_line(&log.path, args.accept_broken, |line| {
            if first.is_none() {
                *first = moment(line).ok();
            }
            if begins.is_none() {
                *begins = Some(line.to_string());
            }
            doubts.note(line);
            note_reset(line, &mut asked, &mut resets)
        })?;
    }
    refuse_copies(&logs)?;
    // Parts of one log come in the order in which they were written, whatever the shell made of their names.
    logs.sort_by_key(|log| log.first);
    let mut sums = Sums::new(SystemClock.now(), resets.clone(), doubts);
    let mut skipped: u64 = 0;
    for log in &logs {
        let unread = each_line(&log.path, args.accept_broken, |line| sums.add(line))?;
        skipped = skipped.saturating_add(unread);
    }
    let rebuilt = sums.finish();
    tell(&rebuilt, &resets, skipped);

    if !args.yes {
        let question = format!(
            "This replaces whatever is at {url} by {} USD spent in all",
            rebuilt.spent
        );
        if let Some(exit) = unconfirmed(&question) {
            return Ok(exit);
        }
    }
    let recorder = Recorder::open(&args.record)?;
    let everything = ScopeKey::global();
    let names: Vec<_> = logs.iter().map(|log| log.path.to_string_lossy()).collect();
    let mut about =
        json!({ "store": url.to_string(), "logs": names, "spent_usd": rebuilt.spent.to_string() });
    recorder.write(&everything, "budget restore asked", &about)?;
    let store = leash_budget::open_for_restore(&url, &options())
        .await
        .map_err(|error| told(&url, &error))?;
    let generation = store
        .restore(&rebuilt.sums)
        .await
        .map_err(|error| told(&url, &error))?;
    mark_grants(&store, &rebuilt)
        .await
        .map_err(|error| told(&url, &error))?;
    if let Some(members) = about.as_object_mut() {
        members.insert("generation".to_owned(), generation.as_str().into());
    }
    let noted = recorder
        .write(&everything, "budget restored", &about)
        .and_then(|()| recorder.close());
    if args.json {
        let logs: Vec<Value> = logs.iter().map(json_of).collect();
        print_line(&json!({
            "store": url.to_string(),
            "generation": generation.as_str(),
            "spent_usd": rebuilt.spent.to_string(),
            "scopes": scopes_of(&rebuilt),
            "calls_without_end": rebuilt.unended.0,
            "calls_without_end_usd": rebuilt.unended.1.to_string(),
            "grants_not_given_back": rebuilt.open_grants.len(),
            "skipped_lines": skipped,
            "not_rebuilt": rebuilt.unknown,
            "logs": logs,
        }))?;
    } else {
        let line = format!(
            "restored {generation}: {} USD in {} scopes\n",
            rebuilt.spent,
            scopes_of(&rebuilt)
        );
        output::print(line.as_bytes())?;
    }
    noted.map(|()| Exit::Done)
}

async fn accept_loss(args: &BudgetRestoreArgs, url: &StoreUrl) -> Result<Exit, Failure> {
    if !args.yes {
        let question = format!("What {url} forgot was spent may then be spent once more");
        if let Some(exit) = unconfirmed(&question) {
            return Ok(exit);
        }
    }
    let recorder = Recorder::open(&args.record)?;
    let mut about = json!({ "store": url.to_string() });
    recorder.write(&ScopeKey::global(), "budget loss accepted: asked", &about)?;
    let generation = leash_budget::accept_loss(url, &options())
        .await
        .map_err(|error| told(url, &error))?;
    if let Some(members) = about.as_object_mut() {
        members.insert("generation".to_owned(), generation.as_str().into());
    }
    let noted = recorder
        .write(&ScopeKey::global(), "budget loss accepted", &about)
        .and_then(|()| recorder.close());
    if args.json {
        print_line(&about)?;
    } else {
        output::print(format!("goes on as {generation}\n").as_bytes())?;
    }
    noted.map(|()| Exit::Done)
}

/// Says of grants that stood that they have ended, for their givers were charged in full: taken back now, they would be
/// charged once more. Where this fails, they may be.
async fn mark_grants(store: &Arc<dyn BudgetAdmin>, rebuilt: &Rebuilt) -> Result<(), leash_core::StoreError> {
    for (grant, from) in &rebuilt.open_grants {
        let id: Option<ReservationId> = grant
            .as_str()
            .strip_prefix("grant:")
            .and_then(|id| id.parse().ok());
        if let Some(id) = id {
            let settlement = Settlement {
                id,
                amount: Usd::ZERO,
                scopes: Arc::from([counted(from, leash_budget::Window::Total)]),
                owes_line: false,
            };
            store.settle(&settlement).await?;
        }
    }
    Ok(())
}

/// The logs, where all are intact or the user takes them as they are. Says what is wrong with each other one.
fn verified(args: &BudgetRestoreArgs, keys: Option<&HmacKeys>) -> Result<Option<Vec<Log>>, Failure> {
    let mut logs = Vec::new();
    let mut seen = HashSet::new();
    let mut is_refused = false;
    for path in &args.from_logs {
        let name = path.display();
        let log = input::open(path)?;
        let whole = fs::canonicalize(path)
            .ok()
            .filter(|whole| whole.is_file())
            .ok_or_else(|| Failure::Told(format!("`{name}` is no file; a log is read several times here")))?;
        if !seen.insert(whole) {
            return Err(Failure::Told(format!(
                "`{name}` is given twice, and would be counted twice"
            )));
        }
        let progress = Progress::reading(log.bytes);
        let at = |bytes| progress.at(bytes);
        let report = log.input.verify(&VerifyOptions {
            progress: Some(&at),
            keys,
            ..VerifyOptions::default()
        });
        progress.clear();
        let report = report.map_err(|error| input::unreadable(&log.name, &error))?;
        if !report.is_ok() {
            output::say(&format!("{report} (`{name}`)"));
            is_refused |= !args.accept_broken;
        }
        logs.push(Log {
            path: path.clone(),
            is_intact: report.is_ok(),
            events: report.events,
            first: None,
            begins: None,
        });
    }
    if is_refused {
        output::say(
            "error: nothing was restored. `--accept-broken` counts what is readable: whoever changed a log may have \
             left spending out",
        );
        return Ok(None);
    }
    Ok(Some(logs))
}

/// A copy of a log, or one of an earlier state of it, would be counted beside it.
fn refuse_copies(logs: &[Log]) -> Result<(), Failure> {
    let mut seen: HashMap<&str, &Path> = HashMap::new();
    for log in logs {
        if let Some(begins) = &log.begins
            && let Some(other) = seen.insert(begins, &log.path)
        {
            return Err(Failure::Told(format!(
                "`{}` and `{}` begin with the same line, so one is a copy of the other, or of its beginning, and would be \
                 counted twice: give the longer one; nothing was restored",
                other.display(),
                log.path.display()
            )));
        }
    }
    Ok(())
}

/// Gives each line of a log to `each`, and says how many could not be counted, which is an error unless they may be
/// skipped.
fn each_line(
    path: &Path,
    skips: bool,
    mut each: impl FnMut(&Value) -> Result<(), Uncountable>,
) -> Result<u64, Failure> {
    let failed = |error| Failure::Told(format!("`{}`: failed to read it: {error}", path.display()));
    let mut reader = BufReader::with_capacity(256 * 1024, File::open(path).map_err(failed)?);
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX).saturating_add(1);
    let (mut number, mut skipped): (u64, u64) = (0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(limit).read_until(b'\n', &mut line);
        if read.map_err(failed)? == 0 {
            return Ok(skipped);
        }
        number = number.saturating_add(1);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let counted = serde_json::from_slice(&line)
            .map_err(|_| Uncountable("it is no JSON"))
            .and_then(|value| each(&value));
        match counted {
            Ok(()) => {}
            Err(_) if skips => skipped = skipped.saturating_add(1),
            Err(Uncountable(why)) => {
                return Err(Failure::Told(format!(
                    "`{}`, line {number}: {why}; nothing was restored",
                    path.display()
                )));
            }
        }
    }
}

/// What was assumed, and what no log can say.
fn tell(rebuilt: &Rebuilt, resets: &Resets, skipped: u64) {
    let (calls, bound) = rebuilt.unended;
    if calls > 0 {
        output::say(&format!(
            "# {calls} calls were let through and never ended: counted at their bound, {bound} USD"
        ));
    }
    if !rebuilt.open_grants.is_empty() {
        output::say(&format!(
            "# {} grants were not given back: counted in full, and over; give new ones",
            rebuilt.open_grants.len()
        ));
    }
    if !resets.is_empty() {
        output::say(&format!(
            "# {} scopes were reset: counted from then on",
            resets.len()
        ));
    }
    if skipped > 0 {
        output::say(&format!("# {skipped} lines could not be counted"));
    }
    output::say(
        "# not known: calls under way in a program that died before it wrote a line, and what breakers have counted",
    );
    if !rebuilt.unknown.is_empty() {
        let mut names: Vec<String> = rebuilt
            .unknown
            .iter()
            .take(NAMED)
            .map(|name| format!("`{}`", shown(name)))
            .collect();
        if rebuilt.unknown.len() > NAMED {
            names.push(format!(
                "and {} more",
                rebuilt.unknown.len().saturating_sub(NAMED)
            ));
        }
        output::say(&format!(
            "# not rebuilt, as no line says which calls were charged to them: {}; they begin at 0",
            names.join(", ")
        ));
    }
}

fn scopes_of(rebuilt: &Rebuilt) -> usize {
    let keys: HashSet<&ScopeKey> = rebuilt.sums.iter().map(|sum| &sum.key).collect();
    keys.len()
}

fn json_of(log: &Log) -> Value {
    json!({
        "path": log.path.to_string_lossy(),
        "verdict": if log.is_intact { "intact" } else { "broken" },
        "events": log.events,
    })
}
