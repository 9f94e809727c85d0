//! The laws of [`BudgetAdmin`].

use std::sync::Arc;
use std::time::Duration;

use leash_core::{AgentName, Clock as _, SystemClock, TenantId, Timestamp};

use super::{Ledger, usd};
use crate::{Balance, BudgetAdmin, BudgetStore, Held, Hold, Restored, Scope, ScopeKey, Standing, Window};

/// Makes one `#[tokio::test]` per law of [`BudgetAdmin`] for the store that the expression gives (an
/// `Arc<dyn BudgetAdmin>`): one fresh store for each.
#[macro_export]
macro_rules! budget_admin_conformance {
    ($name:ident, $store:expr) => {
        mod $name {
            use super::*;
            $crate::budget_store_conformance!(@laws $store,
                the_list_is_sorted_and_goes_on_where_it_ended
                what_stands_is_listed_as_it_was_made
                a_reset_forgets_what_was_spent_and_opens_what_was_closed
                a_reset_is_not_undone_by_a_late_settlement
                a_restored_store_begins_with_its_sums_and_no_holds
            );
        }
    };
}

fn ledger(store: &Arc<dyn BudgetAdmin>) -> Ledger {
    let store: Arc<dyn BudgetStore> = store.clone();
    Ledger::new(store)
}

/// Every scope that was charged is listed once, by key and then window, in pages of any size.
pub async fn the_list_is_sorted_and_goes_on_where_it_ended(store: Arc<dyn BudgetAdmin>) {
    let ledger = ledger(&store);
    assert_eq!(store.list(None, 10).await.unwrap(), []);
    let mut expected = Vec::new();
    for name in ["b", "a", "c:d", "c", "ä", "c/d", "a%2f", "*", "A"] {
        for window in [Window::Month, Window::Total] {
            let scope = Scope::capped(ScopeKey::named("team", name), usd(100)).per(window);
            let hold = ledger.hold(5, std::slice::from_ref(&scope));
            assert!(ledger.granted(&hold).await);
            if window == Window::Total {
                ledger.settle(&hold, 3).await;
            }
            expected.push(Balance {
                key: scope.key,
                window,
                spent: usd(if window == Window::Total { 3 } else { 0 }),
                reserved: usd(if window == Window::Total { 0 } else { 5 }),
            });
        }
    }
    expected.sort_by(|left, right| (&left.key, left.window).cmp(&(&right.key, right.window)));
    for page in [1, 2, 7, 100] {
        let mut listed: Vec<Balance> = Vec::new();
        loop {
            let after = listed.last().map(|last| (last.key.clone(), last.window));
            let more = store
                .list(after.as_ref().map(|(key, window)| (key, *window)), page)
                .await
                .unwrap();
            assert!(more.len() <= page);
            if more.is_empty() {
                break;
            }
            listed.extend(more);
        }
        assert_eq!(listed, expected);
    }
}

/// Every hold that stands is listed by id with all that it was made of, and none that ended.
pub async fn what_stands_is_listed_as_it_was_made(store: Arc<dyn BudgetAdmin>) {
    let ledger = ledger(&store);
    let scopes = [
        ledger.scope(100),
        ledger.scope(200).per(Window::Month).soft(usd(50)),
        Scope {
            cap: None,
            ..ledger.scope(1)
        },
    ];
    let mut holds = Vec::new();
    for what in [
        Held::Model {
            provider: "openai".into(),
            model: "gpt-4o \"mini\" ünï:%{}".into(),
        },
        Held::Tool {
            tool: "search".into(),
        },
        Held::Grant {
            child: ScopeKey::named("grant", "x"),
        },
    ] {
        let mut hold = ledger.hold(7, &scopes);
        hold.line.what = what;
        hold.line.caller.tenant_id = Some(TenantId::new("acme, inc. / ü").unwrap());
        hold.line.caller.agent_name = Some(AgentName::new("researcher").unwrap());
        hold.line.request_digest = leash_core::Digest::of(b"request");
        if matches!(hold.line.what, Held::Grant { .. }) {
            hold.lease = Duration::MAX;
        }
        assert!(ledger.granted(&hold).await);
        holds.push(hold);
    }
    let ended = ledger.hold(1, &scopes);
    assert!(ledger.granted(&ended).await);
    ledger.store.release(ended.id).await.unwrap();
    let owing = ledger.hold(1, &scopes);
    assert!(ledger.granted(&owing).await);
    ledger.settle_owing(&owing, 1).await;
    holds.sort_by_key(|hold| hold.id);
    let mut listed: Vec<Standing> = Vec::new();
    loop {
        let more = store
            .standing(listed.last().map(|last| last.hold.id), 2)
            .await
            .unwrap();
        if more.is_empty() {
            break;
        }
        listed.extend(more);
    }
    let made: Vec<Hold> = listed.iter().map(|standing| standing.hold.clone()).collect();
    assert_eq!(made, holds);
    for standing in listed {
        assert_eq!(
            standing.until == Timestamp::MAX,
            standing.hold.lease == Duration::MAX
        );
    }
}

/// After a reset a scope begins at nothing in every window, but for what is set aside, and takes calls again.
pub async fn a_reset_forgets_what_was_spent_and_opens_what_was_closed(store: Arc<dyn BudgetAdmin>) {
    let ledger = ledger(&store);
    let total = ledger.scope(10);
    let month = total.clone().per(Window::Month);
    let both = [total.clone(), month.clone()];
    let other = ledger.scope(10);
    for scopes in [&both[..], std::slice::from_ref(&other)] {
        let hold = ledger.hold(6, scopes);
        assert!(ledger.granted(&hold).await);
        ledger.settle(&hold, 6).await;
    }
    let standing = ledger.hold(4, &both);
    assert!(ledger.granted(&standing).await);
    store.close(&total.key).await.unwrap();
    let before = store.reset(&total.key).await.unwrap();
    assert_eq!((&before.key, before.spent), (&total.key, usd(6)));
    assert_eq!(
        (ledger.sums(&total).await, ledger.sums(&month).await),
        ((0, 4), (0, 4))
    );
    assert_eq!(ledger.sums(&other).await, (6, 0), "another key");
    assert!(ledger.granted(&ledger.hold(6, &both)).await);
    assert!(ledger.settle(&standing, 3).await);
    assert_eq!(
        (ledger.sums(&total).await, ledger.sums(&month).await),
        ((3, 6), (3, 6))
    );
}

/// What a reset has forgotten is not taken off what is spent after it.
pub async fn a_reset_is_not_undone_by_a_late_settlement(store: Arc<dyn BudgetAdmin>) {
    let ledger = ledger(&store);
    let scope = ledger.scope(100);
    let lost = Hold {
        lease: Duration::from_millis(1),
        ..ledger.hold(60, std::slice::from_ref(&scope))
    };
    assert!(ledger.granted(&lost).await);
    ledger.expired(lost.id).await;
    store.reset(&scope.key).await.unwrap();
    let hold = ledger.hold(70, std::slice::from_ref(&scope));
    assert!(ledger.granted(&hold).await);
    ledger.settle(&hold, 70).await;
    assert!(ledger.settle(&lost, 5).await);
    let (spent, reserved) = ledger.sums(&scope).await;
    assert!((70..=75).contains(&spent) && reserved == 0, "{spent}");
    // A charge that came after the reset is replaced as ever.
    let scope = ledger.scope(100);
    let lost = Hold {
        lease: Duration::from_millis(1),
        ..ledger.hold(60, std::slice::from_ref(&scope))
    };
    assert!(ledger.granted(&lost).await);
    store.reset(&scope.key).await.unwrap();
    ledger.expired(lost.id).await;
    assert!(ledger.settle(&lost, 5).await);
    assert_eq!(ledger.sums(&scope).await, (5, 0));
}

/// A store that is rebuilt has the sums it was given, no holds, nothing closed, and a new generation, which lasts.
pub async fn a_restored_store_begins_with_its_sums_and_no_holds(store: Arc<dyn BudgetAdmin>) {
    let ledger = ledger(&store);
    let (lost, kept) = (ledger.scope(10), ledger.scope(10));
    let hold = ledger.hold(6, &[lost.clone(), kept.clone()]);
    assert!(ledger.granted(&hold).await);
    store.close(&kept.key).await.unwrap();
    let first = store.generation().await.unwrap();
    assert_eq!(store.generation().await.unwrap(), first);
    let now = SystemClock.now();
    let restored = |window, at, spent| Restored {
        key: kept.key.clone(),
        window,
        at,
        spent: usd(spent),
    };
    let sums = [
        restored(Window::Total, now, 8),
        restored(Window::Month, now, 5),
        restored(Window::Month, Timestamp::EPOCH, 3),
    ];
    let second = store.restore(&sums).await.unwrap();
    assert_ne!(second, first);
    assert_eq!(store.generation().await.unwrap(), second);
    assert_eq!(store.standing(None, 10).await.unwrap(), []);
    assert_eq!(ledger.sums(&lost).await, (0, 0));
    assert_eq!(ledger.sums(&kept).await, (8, 0));
    assert_eq!(ledger.sums(&kept.clone().per(Window::Month)).await, (5, 0));
    assert!(!ledger.granted(&ledger.hold(3, std::slice::from_ref(&kept))).await);
    assert!(ledger.granted(&ledger.hold(2, std::slice::from_ref(&kept))).await);
    // A call of the former life is billed: nothing knows it, so it is charged.
    assert!(ledger.settle(&hold, 4).await);
    assert_eq!(
        (ledger.sums(&lost).await, ledger.sums(&kept).await),
        ((4, 0), (12, 2))
    );
    assert_eq!(store.expire(10).await.unwrap(), []);
}
