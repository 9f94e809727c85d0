//! The tables of a budget file, and how holds are written in them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use leash_core::{AgentName, Caller, Digest, ReservationId, SessionId, StoreError, StoreErrorKind, TenantId};
use leash_core::{Timestamp, Usd};
use leash_store::Schema;
use leash_store::rusqlite::{self, Row};
use serde::{Deserialize, Serialize};

use crate::{Held, Hold, HoldLine, Scope, ScopeKey, Window};

/// Amounts are whole nano-dollars, moments are microseconds since 1970 (UTC), ids the 16 bytes of their UUID.
///
/// - `leash_budget_life`: one row. `generation` is made anew with each life of the store; `turn` grows with every
///   transaction that changed something, so whoever remembers a larger one knows that data was lost.
/// - `leash_budget_accounts`: the sums. `bucket` numbers the span of the calendar (minutes, hours or days since 1970,
///   months since year 0; 0 for the window 0, total). Windows are 0 total, 1 minute, 2 hour, 3 day, 4 month. Of each
///   key and window there is the newest bucket, and older ones for as long as `holds` stand in them.
///   `reset_us` is when an operator set it to zero last.
/// - `leash_budget_holds`: what is set aside, and what has ended and whose line nobody has confirmed. While it stands `how` and
///   `charged` are null, and `until_us` is when the lease runs out (null: never). Where its line is owed `how` is 0 for
///   settled and 2 for expired, `charged` what that cost, and `until_us` from when on it is given to somebody else.
///   `lease_ns` is the lease as it was asked for (null: for ever). `scopes` and `line` are JSON.
/// - `leash_budget_ended`: ids that ended, for a day and the newest 10,000 for longer. `how`: 0 settled, 1 released, 2 expired
///   and charged. `scopes` is where it was held, unless it was settled; `lease_ns` and `line` are those of an expired hold, for
///   a settlement that comes when its line is confirmed. Numbered in the order in which they ended, so the oldest are found
///   at once.
/// - `leash_budget_closed`: the keys in which nothing more is set aside.
/// - `leash_budget_hits`: one row for each event that is still counted, numbered by key. `leash_budget_counts`: how many
///   events there were of keys that are counted for ever.
pub(super) const SCHEMA: Schema = Schema {
    name: "budget",
    steps: &[
        "
        CREATE TABLE leash_budget_life (
            one INTEGER PRIMARY KEY CHECK (one = 1),
            generation TEXT NOT NULL,
            turn INTEGER NOT NULL,
            begun_us INTEGER NOT NULL
        );
        CREATE TABLE leash_budget_accounts (
            key TEXT NOT NULL,
            window INTEGER NOT NULL,
            bucket INTEGER NOT NULL,
            spent INTEGER NOT NULL CHECK (spent BETWEEN 0 AND 9007199254740991),
            reserved INTEGER NOT NULL CHECK (reserved BETWEEN 0 AND 9007199254740991),
            holds INTEGER NOT NULL CHECK (holds >= 0),
            reset_us INTEGER NOT NULL,
            PRIMARY KEY (key, window, bucket)
        ) WITHOUT ROWID;
        CREATE TABLE leash_budget_holds (
            id BLOB PRIMARY KEY CHECK (length(id) = 16),
            amount INTEGER NOT NULL,
            until_us INTEGER,
            lease_ns INTEGER,
            scopes TEXT NOT NULL,
            line TEXT NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX leash_budget_holds_until ON leash_budget_holds (until_us) WHERE until_us IS NOT NULL;
        CREATE TABLE leash_budget_ended (
            nr INTEGER PRIMARY KEY,
            id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
            how INTEGER NOT NULL CHECK (how IN (0, 1, 2)),
            amount INTEGER NOT NULL,
            scopes TEXT,
            at_us INTEGER NOT NULL
        );
        CREATE TABLE leash_budget_closed (key TEXT PRIMARY KEY) WITHOUT ROWID;
        CREATE TABLE leash_budget_hits (
            key TEXT NOT NULL,
            at_us INTEGER NOT NULL,
            nr INTEGER NOT NULL,
            until_us INTEGER NOT NULL,
            PRIMARY KEY (key, at_us, nr)
        ) WITHOUT ROWID;
        CREATE INDEX leash_budget_hits_until ON leash_budget_hits (until_us);
        CREATE TABLE leash_budget_counts (key TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
    ",
        "
        CREATE TABLE leash_budget_owed (
            id BLOB PRIMARY KEY CHECK (length(id) = 16),
            amount INTEGER NOT NULL,
            until_us INTEGER NOT NULL,
            lease_ns INTEGER,
            scopes TEXT NOT NULL,
            line TEXT NOT NULL
        ) WITHOUT ROWID;
        CREATE INDEX leash_budget_owed_until ON leash_budget_owed (until_us);
    ",
        // What was owed moves to where it was held. What was settled late is owed at that cost.
        "
        ALTER TABLE leash_budget_holds ADD COLUMN how INTEGER CHECK (how IN (0, 2));
        ALTER TABLE leash_budget_holds ADD COLUMN charged INTEGER;
        ALTER TABLE leash_budget_ended ADD COLUMN lease_ns INTEGER;
        ALTER TABLE leash_budget_ended ADD COLUMN line TEXT;
        INSERT INTO leash_budget_holds (id, amount, until_us, lease_ns, scopes, line, how, charged)
            SELECT owed.id, owed.amount, owed.until_us, owed.lease_ns, owed.scopes, owed.line,
                CASE WHEN ended.how = 0 THEN 0 ELSE 2 END,
                CASE WHEN ended.how = 0 THEN ended.amount ELSE owed.amount END
            FROM leash_budget_owed AS owed LEFT JOIN leash_budget_ended AS ended ON ended.id = owed.id;
        DROP TABLE leash_budget_owed;
    ",
    ],
};

/// A scope of a hold, and the span of the calendar it was reserved in.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) scope: Scope,
    pub(super) bucket: i64,
}

/// A row of `leash_budget_holds` that stands, its line not read yet: most who look for it do not need it.
#[derive(Debug)]
pub(super) struct HeldRow {
    pub(super) amount: Usd,
    pub(super) places: Vec<Place>,
}

/// How a hold ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Settled,
    Released,
    Expired,
}

/// A row of `leash_budget_ended`.
#[derive(Debug)]
pub(super) struct EndedRow {
    pub(super) how: How,
    /// What was charged, where it expired.
    pub(super) amount: Usd,
    /// Where it was held, where that is known and may matter.
    pub(super) places: Option<Vec<Place>>,
    pub(super) at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct JsonPlace<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    window: Cow<'a, str>,
    bucket: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cap: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    soft_cap: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct JsonLine<'a> {
    #[serde(borrow, flatten)]
    what: JsonHeld<'a>,
    #[serde(borrow)]
    session_id: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    tenant_id: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    agent_name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    request_hash: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum JsonHeld<'a> {
    Model {
        #[serde(borrow)]
        provider: Cow<'a, str>,
        #[serde(borrow)]
        model: Cow<'a, str>,
    },
    Tool {
        #[serde(borrow)]
        tool: Cow<'a, str>,
    },
    Grant {
        #[serde(borrow)]
        child: Cow<'a, str>,
    },
}

/// What is in the file is not what we write there.
pub(super) fn nonsense() -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        "read the budget file: a row makes no sense",
    )
}

/// An amount as SQLite keeps it; [`Usd::MAX`] fits.
pub(super) fn nanos(amount: Usd) -> i64 {
    i64::try_from(amount.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn usd(nanos: i64) -> Result<Usd, StoreError> {
    let nanos = u64::try_from(nanos).map_err(|_| nonsense())?;
    Usd::from_nanos(nanos).map_err(|_| nonsense())
}

pub(super) fn moment(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_unix_micros(micros).map_err(|_| nonsense())
}

/// Null is the end of time: a lease that never runs out.
pub(super) fn until(micros: Option<i64>) -> Result<Timestamp, StoreError> {
    micros.map_or(Ok(Timestamp::MAX), moment)
}

pub(super) fn until_micros(at: Timestamp) -> Option<i64> {
    (at < Timestamp::MAX).then(|| at.as_unix_micros())
}

pub(super) fn lease_nanos(lease: Duration) -> Option<i64> {
    i64::try_from(lease.as_nanos()).ok()
}

pub(super) fn id_of(bytes: [u8; 16]) -> ReservationId {
    ReservationId::from_u128(u128::from_be_bytes(bytes))
}

pub(super) fn id_bytes(id: ReservationId) -> [u8; 16] {
    id.as_u128().to_be_bytes()
}

pub(super) const fn window_number(window: Window) -> i64 {
    match window {
        Window::Total => 0,
        Window::Minute => 1,
        Window::Hour => 2,
        Window::Day => 3,
        Window::Month => 4,
    }
}

pub(super) fn window_of(number: i64) -> Result<Window, StoreError> {
    match number {
        0 => Ok(Window::Total),
        1 => Ok(Window::Minute),
        2 => Ok(Window::Hour),
        3 => Ok(Window::Day),
        4 => Ok(Window::Month),
        _ => Err(nonsense()),
    }
}

pub(super) fn write_places<'a>(places: impl Iterator<Item = (&'a Scope, i64)>) -> Result<String, StoreError> {
    let places: Vec<JsonPlace<'_>> = places
        .map(|(scope, bucket)| JsonPlace {
            key: scope.key.as_str().into(),
            window: scope.window.as_str().into(),
            bucket,
            cap: scope.cap.map(Usd::as_nanos),
            soft_cap: scope.soft_cap.map(Usd::as_nanos),
        })
        .collect();
    serde_json::to_string(&places).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, "write a hold as JSON").with_source(error)
}

pub(super) fn read_places(text: &str) -> Result<Vec<Place>, StoreError> {
    let amount = |nanos: Option<u64>| nanos.map(Usd::from_nanos).transpose().map_err(|_| nonsense());
    let places: Vec<JsonPlace<'_>> = serde_json::from_str(text).map_err(|_| nonsense())?;
    places
        .into_iter()
        .map(|place| {
            let scope = Scope {
                key: ScopeKey::new(&*place.key),
                window: Window::from_name(&place.window).ok_or_else(nonsense)?,
                cap: amount(place.cap)?,
                soft_cap: amount(place.soft_cap)?,
            };
            Ok(Place {
                scope,
                bucket: place.bucket,
            })
        })
        .collect()
}

pub(super) fn write_line(line: &HoldLine) -> Result<String, StoreError> {
    let what = match &line.what {
        Held::Model { provider, model } => JsonHeld::Model {
            provider: (&**provider).into(),
            model: (&**model).into(),
        },
        Held::Tool { tool } => JsonHeld::Tool {
            tool: (&**tool).into(),
        },
        Held::Grant { child } => JsonHeld::Grant {
            child: child.as_str().into(),
        },
    };
    let hash = line.request_digest.to_hex();
    let line = JsonLine {
        what,
        session_id: line.caller.session_id.as_str().into(),
        tenant_id: line.caller.tenant_id.as_ref().map(|id| id.as_str().into()),
        agent_name: line.caller.agent_name.as_ref().map(|name| name.as_str().into()),
        request_hash: String::from_utf8_lossy(&hash),
    };
    serde_json::to_string(&line).map_err(unwritable)
}

fn read_line(text: &str) -> Result<HoldLine, StoreError> {
    let line: JsonLine<'_> = serde_json::from_str(text).map_err(|_| nonsense())?;
    let what = match line.what {
        JsonHeld::Model { provider, model } => Held::Model {
            provider: provider.into(),
            model: model.into(),
        },
        JsonHeld::Tool { tool } => Held::Tool { tool: tool.into() },
        JsonHeld::Grant { child } => Held::Grant {
            child: ScopeKey::new(&*child),
        },
    };
    let tenant_id = line.tenant_id.map(|id| TenantId::new(&*id)).transpose();
    let agent_name = line.agent_name.map(|name| AgentName::new(&*name)).transpose();
    Ok(HoldLine {
        what,
        caller: Caller {
            session_id: SessionId::new(&*line.session_id).map_err(|_| nonsense())?,
            tenant_id: tenant_id.map_err(|_| nonsense())?,
            agent_name: agent_name.map_err(|_| nonsense())?,
        },
        request_digest: Digest::from_hex(line.request_hash.as_bytes()).map_err(|_| nonsense())?,
    })
}

/// A row in the raw: what SQLite says of it is one kind of failure, what it means another.
pub(super) struct RawHold {
    id: [u8; 16],
    amount: i64,
    until: Option<i64>,
    pub(super) lease: Option<i64>,
    scopes: String,
    pub(super) line: String,
}

impl RawHold {
    /// From the columns `id, amount, until_us, lease_ns, scopes, line`.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            amount: row.get(1)?,
            until: row.get(2)?,
            lease: row.get(3)?,
            scopes: row.get(4)?,
            line: row.get(5)?,
        })
    }

    /// The hold as it was made, where it is held, and until when.
    pub(super) fn decode(&self) -> Result<(Hold, Vec<Place>, Timestamp), StoreError> {
        let places = read_places(&self.scopes)?;
        let scopes: Arc<[Scope]> = places.iter().map(|place| place.scope.clone()).collect();
        let lease = match self.lease {
            Some(nanos) => Duration::from_nanos(u64::try_from(nanos).map_err(|_| nonsense())?),
            None => Duration::MAX,
        };
        let hold = Hold {
            id: id_of(self.id),
            amount: usd(self.amount)?,
            scopes,
            lease,
            line: read_line(&self.line)?,
        };
        Ok((hold, places, until(self.until)?))
    }
}

/// A row of a hold whose time has come: its lease is over, or nobody has confirmed its line.
pub(super) struct RawDue {
    pub(super) hold: RawHold,
    how: Option<i64>,
    charged: Option<i64>,
}

impl RawDue {
    /// From the columns `id, amount, until_us, lease_ns, scopes, line, how, charged`.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            hold: RawHold::read(row)?,
            how: row.get(6)?,
            charged: row.get(7)?,
        })
    }

    /// How it has ended and what was charged then; `None` where it stands.
    pub(super) fn ended(&self) -> Result<Option<(How, Usd)>, StoreError> {
        match (self.how, self.charged) {
            (None, None) => Ok(None),
            (Some(how), Some(charged)) => Ok(Some((How::of(how)?, usd(charged)?))),
            _ => Err(nonsense()),
        }
    }
}

impl How {
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Settled => 0,
            Self::Released => 1,
            Self::Expired => 2,
        }
    }

    pub(super) fn of(number: i64) -> Result<Self, StoreError> {
        match number {
            0 => Ok(Self::Settled),
            1 => Ok(Self::Released),
            2 => Ok(Self::Expired),
            _ => Err(nonsense()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_survives_its_row_whatever_its_names_are() {
        let scope = Scope {
            soft_cap: Some(Usd::ZERO),
            ..Scope::capped(ScopeKey::named("team", "a:\"b\"\\ü"), Usd::MAX).per(Window::Month)
        };
        let open = Scope {
            cap: None,
            ..Scope::global(Usd::ZERO)
        };
        let places = read_places(&write_places([(&scope, -7), (&open, 0)].into_iter()).unwrap()).unwrap();
        assert_eq!(places[0].scope, scope);
        assert_eq!(places[0].bucket, -7);
        assert_eq!(places[1].scope, open);
        let kinds = [
            Held::Model {
                provider: "o\"p".into(),
                model: "m\n".into(),
            },
            Held::Tool {
                tool: "ünïx".into()
            },
            Held::Grant {
                child: ScopeKey::named("grant", "1"),
            },
        ];
        for what in kinds {
            let line = HoldLine {
                what,
                caller: Caller {
                    session_id: SessionId::new("s \"1\"").unwrap(),
                    tenant_id: Some(TenantId::new("t").unwrap()),
                    agent_name: None,
                },
                request_digest: Digest::of(b"x"),
            };
            assert_eq!(read_line(&write_line(&line).unwrap()).unwrap(), line);
        }
        assert_eq!(read_line("{}").unwrap_err().kind(), StoreErrorKind::Corrupt);
    }
}
