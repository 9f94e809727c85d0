//! Laws of what is rare: odd names, many scopes in one call, the largest amounts, callers that say different caps, grants
//! that several end at once, and breakers of different times.

use std::sync::Arc;
use std::time::Duration;

use leash_core::{
    AsyncRule as _, Call, Caller, Clock as _, PolicyContext, SessionId, SystemClock, Timestamp, ToolCall, Usd,
};

use super::{Ledger, usd};
use crate::{BudgetStore, Grant, Hold, LoopBreaker, Reserve, Scope, ScopeKey, Window};

/// How many scopes one call has here.
const MANY: usize = 2_000;

/// Two names are the same if all of their bytes are, whatever is in them: a store folds no case, trims nothing, composes no
/// letters, cuts nothing off and takes no character for one of its own.
pub async fn names_that_differ_in_anything_are_counted_apart(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let own = ledger.ids.session();
    let (long, longer) = ("n".repeat(100_000), "n".repeat(100_001));
    let names = [
        "",
        "a",
        "A",
        "a ",
        " a",
        "a\0",
        "a\0b",
        "\0",
        "a\n",
        "a\r\n",
        "a\t",
        "\u{e1}",
        "a\u{301}",
        "\u{1f469}\u{200d}\u{1f4bb}",
        "\u{1f469}\u{1f4bb}",
        "\u{202e}a",
        "\u{feff}a",
        "\u{10ffff}",
        "a:b",
        "a::b",
        ":",
        "{a}",
        "}:{",
        "*",
        "a*",
        "[0-9]",
        "%",
        "_",
        "%00",
        "%61",
        "\\",
        "\\a",
        "\"a\"",
        "'a'",
        "'; DROP TABLE leash_budget_accounts; --",
        "1e3",
        "1000",
        "01000",
        "null",
        "total",
        &long,
        &longer,
    ];
    let scopes: Vec<Scope> = names
        .iter()
        .map(|name| Scope::capped(ScopeKey::new(format!("team:{own}/{name}")), usd(1_000)))
        .collect();
    for (amount, scope) in (1..).zip(&scopes) {
        let hold = ledger.hold(amount, std::slice::from_ref(scope));
        assert!(ledger.granted(&hold).await, "{amount}");
        ledger.settle(&hold, amount).await;
    }
    let all = ledger.hold(100, &scopes);
    assert!(ledger.granted(&all).await);
    for ((spent, scope), name) in (1..).zip(&scopes).zip(names) {
        assert_eq!(ledger.sums(scope).await, (spent, 100), "{name:?}");
        assert_eq!(
            ledger.sums(&scope.clone().per(Window::Month)).await,
            (0, 0),
            "another window"
        );
    }
    ledger.store.close(&scopes[1].key).await.unwrap();
    for (turn, scope) in scopes.iter().enumerate() {
        let hold = ledger.hold(1, std::slice::from_ref(scope));
        assert_eq!(ledger.granted(&hold).await, turn != 1, "only the one was closed");
    }
}

/// A call of very many scopes is set aside in all of them or in none, and ends in all of them, however it ends.
pub async fn a_call_of_many_scopes_is_in_all_of_them_or_in_none(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let own = ledger.ids.session();
    let scopes: Vec<Scope> = (0..MANY)
        .map(|number| {
            let key = ScopeKey::new(format!("team:{own}/{}", number / 2));
            let window = [Window::Total, Window::Month][number % 2];
            Scope::capped(key, usd(100)).per(window)
        })
        .collect();
    let total = |sums: Vec<crate::Balance>| -> (u64, u64) {
        assert_eq!(sums.len(), MANY);
        sums.iter().fold((0, 0), |(spent, reserved), sums| {
            (spent + sums.spent.as_nanos(), reserved + sums.reserved.as_nanos())
        })
    };
    let many = u64::try_from(MANY).unwrap();
    let settled = ledger.hold(7, &scopes);
    let released = ledger.hold(5, &scopes);
    let expiring = Hold {
        lease: Duration::from_millis(1),
        ..ledger.hold(3, &scopes)
    };
    for hold in [&settled, &released, &expiring] {
        assert!(ledger.granted(hold).await);
    }
    // It would fit in all but the last.
    let last = std::slice::from_ref(&scopes[MANY - 1]);
    let narrow = ledger.hold(80, last);
    assert!(ledger.granted(&narrow).await);
    let Reserve::Refused(refused) = ledger.store.reserve(&ledger.hold(6, &scopes)).await.unwrap() else {
        panic!("granted")
    };
    assert_eq!(refused.balance.key, scopes[MANY - 1].key);
    ledger.store.release(narrow.id).await.unwrap();
    assert!(ledger.settle(&settled, 2).await);
    ledger.store.release(released.id).await.unwrap();
    let expired = ledger.expired(expiring.id).await;
    assert_eq!(expired.hold, expiring);
    assert_eq!(total(expired.balances), (5 * many, 0));
    assert_eq!(
        total(ledger.store.balances(&scopes).await.unwrap()),
        (5 * many, 0)
    );
    assert!(ledger.settle(&expiring, 1).await);
    assert_eq!(
        total(ledger.store.balances(&scopes).await.unwrap()),
        (3 * many, 0)
    );
}

/// To the nano-dollar, up to the largest amount there is; beyond it is refused, not wrapped or rounded.
pub async fn the_largest_amounts_are_exact(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let most = Usd::MAX.as_nanos();
    for cap in [most, most - 1, most - 2, (1 << 52) + 1] {
        let scope = ledger.scope(cap);
        let own = std::slice::from_ref(&scope);
        let first = ledger.hold(cap / 2, own);
        assert!(ledger.granted(&first).await);
        ledger.settle(&first, cap / 2).await;
        let second = ledger.hold(cap - cap / 2 - 1, own);
        assert!(ledger.granted(&second).await);
        assert_eq!(ledger.sums(&scope).await, (cap / 2, cap - cap / 2 - 1));
        assert!(!ledger.granted(&ledger.hold(2, own)).await, "{cap}");
        assert!(!ledger.granted(&ledger.hold(most, own)).await, "{cap}");
        let last = ledger.hold(1, own);
        assert!(ledger.granted(&last).await, "{cap}");
        assert!(!ledger.granted(&ledger.hold(1, own)).await, "{cap}");
        assert!(ledger.granted(&ledger.hold(0, own)).await, "{cap}");
        assert_eq!(ledger.sums(&scope).await, (cap / 2, cap - cap / 2));
    }
    // Full and more than full: what is counted without a cap and looked at under one.
    let scope = ledger.scope(most);
    let open = Scope {
        cap: None,
        ..scope.clone()
    };
    let (first, second) = (
        ledger.hold(most, std::slice::from_ref(&open)),
        ledger.hold(most, std::slice::from_ref(&open)),
    );
    assert!(ledger.granted(&first).await && !ledger.granted(&second).await);
    ledger.settle(&first, most).await;
    let third = ledger.hold(most, std::slice::from_ref(&open));
    assert!(ledger.granted(&third).await);
    assert_eq!(ledger.sums(&scope).await, (most, most));
    for amount in [0, 1, most] {
        let hold = ledger.hold(amount, std::slice::from_ref(&scope));
        assert!(!ledger.granted(&hold).await, "{amount}");
    }
    ledger.settle(&third, most).await;
    assert_eq!(ledger.sums(&scope).await, (most, 0), "it stays full");
}

/// A cap is the caller's word: who says a lower one is refused earlier, who says a higher one later, and who says none is
/// counted. All of them look at the same sums.
pub async fn each_caller_is_held_to_the_cap_that_it_says(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store);
    let low = ledger.scope(10);
    let high = Scope {
        cap: Some(usd(20)),
        ..low.clone()
    };
    let none = Scope {
        cap: None,
        ..low.clone()
    };
    let take = async |amount: u64, scope: &Scope| {
        let hold = ledger.hold(amount, std::slice::from_ref(scope));
        let is_granted = ledger.granted(&hold).await;
        if is_granted {
            ledger.settle(&hold, amount).await;
        }
        is_granted
    };
    assert!(take(8, &low).await);
    assert!(!take(3, &low).await);
    assert!(take(7, &high).await);
    assert!(!take(0, &low).await, "above its cap, nothing");
    assert!(take(4, &none).await);
    assert!(!take(2, &high).await, "what nobody capped was counted");
    assert!(take(1, &high).await);
    assert_eq!(ledger.sums(&low).await, (20, 0));
}

/// However many end a grant at once, while calls under it are still going on: its giver is charged once, for no less than was
/// spent under it and for no more than was granted.
pub async fn a_grant_that_many_end_at_once_is_charged_once(store: Arc<dyn BudgetStore>) {
    let ledger = Arc::new(Ledger::new(store));
    for round in 0..4_u64 {
        let parent = ledger.scope(1_000);
        let id = ledger.ids.reservation(SystemClock.now());
        let grant = Grant::new(id, usd(400), std::slice::from_ref(&parent)).unwrap();
        let hold = grant.hold(
            Caller::session(SessionId::new("s_law").unwrap()),
            Arc::from([parent.clone()]),
        );
        assert!(ledger.granted(&hold).await);
        let tasks: Vec<_> = (0..12_u64)
            .map(|task| {
                let (ledger, grant) = (ledger.clone(), grant.clone());
                tokio::spawn(async move {
                    let mut spent = 0;
                    for turn in 0..12 {
                        if task % 3 == 0 && turn > task + round * 2 {
                            grant.give_back(&*ledger.store, false).await.unwrap();
                            continue;
                        }
                        let hold = ledger.hold(3 + task, &[grant.scope()]);
                        if ledger.granted(&hold).await {
                            tokio::task::yield_now().await;
                            ledger.settle(&hold, 2 + task / 2).await;
                            spent += 2 + task / 2;
                        }
                    }
                    spent
                })
            })
            .collect();
        let mut spent = 0;
        for task in tasks {
            spent += task.await.unwrap();
        }
        grant.give_back(&*ledger.store, false).await.unwrap();
        assert_eq!(ledger.sums(&grant.scope()).await, (spent, 0));
        let (charged, reserved) = ledger.sums(&parent).await;
        assert!((spent..=400).contains(&charged), "{spent} {charged}");
        assert_eq!(reserved, 0);
        assert!(!ledger.granted(&ledger.hold(0, &[grant.scope()])).await);
    }
}

/// Two breakers over the same calls, one of a short time and one of a long one: neither forgets what the other has to
/// remember, and each counts each call once.
pub async fn loop_breakers_of_different_times_count_apart(store: Arc<dyn BudgetStore>) {
    let ledger = Ledger::new(store.clone());
    let quick = LoopBreaker::new(store.clone(), 100, Duration::from_micros(1));
    let slow = LoopBreaker::new(store, 3, Duration::from_hours(1));
    let caller = Caller::session(ledger.ids.session());
    let call = Call::from(ToolCall::new("search", serde_json::json!({"q": 1}), caller));
    let context = PolicyContext::new(Timestamp::EPOCH);
    for turn in 1..=6 {
        assert!(quick.evaluate(&call, &context).await.unwrap().is_none());
        let passes = slow.evaluate(&call, &context).await.unwrap().is_none();
        assert_eq!(passes, turn <= 3, "{turn}");
    }
}
