//! Calls that are lowered to what their budget affords.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use leash_budget::{
    Balance, BudgetStore, Expired, Hit, Hits, Hold, MemoryStore, ModelPrice, Price, PriceTable, Reserve,
    Scope, ScopeKey, Settled, Settlement, Written,
};
use leash_core::{ModelCall, ReservationId, StoreError, SystemClock, TenantId, Usd, rule_ids};
use leash_firewall::{Clamp, Firewall, FirewallBuilder, Over, Window};

use crate::support::{Log, call, usd, used};

/// A table in which an output token of `p/cent` costs a cent, and an answer has at most a thousand of them.
fn builder() -> FirewallBuilder {
    let price = ModelPrice {
        max_output_tokens: Some(1_000),
        ..ModelPrice::flat(Price::FREE, Price::per_million(usd("10000")))
    };
    Firewall::builder().prices(PriceTable::empty().with_price("p", "cent", price))
}

/// A call that sets no maximum.
fn open(firewall: &Firewall) -> ModelCall {
    let mut call = call(firewall, 0);
    call.max_output_tokens = None;
    call
}

#[tokio::test]
async fn a_call_without_a_maximum_is_lowered_to_what_the_narrowest_cap_leaves() {
    let log = Log::new();
    let firewall = builder()
        .tenant_id(TenantId::new("acme").unwrap())
        .budget_usd(0.80)
        .cap(Over::Tenant, Window::Day, usd("0.50"))
        .audit_log(log.path())
        .build()
        .unwrap();
    let admission = firewall.admit(open(&firewall)).await.unwrap();
    assert_eq!(admission.output_limit(), Some(50));
    assert_eq!(admission.bound().amount, usd("0.50"));
    let leash_core::Call::Model(sent) = admission.call() else {
        panic!("a tool")
    };
    assert_eq!(sent.max_output_tokens, Some(50));
    admission.settle(used(20)).await;
    let next = firewall.admit(open(&firewall)).await.unwrap();
    assert_eq!(next.output_limit(), Some(30));
    next.settle(used(30)).await;
    assert_eq!(
        firewall.admit(open(&firewall)).await.unwrap_err().rule_id(),
        rule_ids::PRE_CALL_ESTIMATE
    );
    assert!(
        log.of_kind("model_call")
            .iter()
            .all(|line| line["clamped"] == true)
    );
}

#[tokio::test]
async fn what_fits_and_what_sets_a_maximum_itself_leaves_as_it_is() {
    let log = Log::new();
    let firewall = builder().budget_usd(10.30).audit_log(log.path()).build().unwrap();
    let fits = firewall.admit(open(&firewall)).await.unwrap();
    assert_eq!((fits.output_limit(), fits.bound().output_tokens), (None, 1_000));
    assert!(firewall.admit(call(&firewall, 31)).await.is_err());
    fits.settle(used(1)).await;
    assert!(log.of_kind("model_call")[0].get("clamped").is_none());
}

#[tokio::test]
async fn the_setting_says_which_calls_are_lowered() {
    let budget = |clamp| builder().budget_usd(0.30).clamp(clamp).build().unwrap();
    let always = budget(Clamp::Always);
    let lowered = always.admit(call(&always, 40)).await.unwrap();
    assert_eq!(lowered.output_limit(), Some(30));
    lowered.settle(used(10)).await;
    // Never above what was asked for.
    let asked = always.admit(call(&always, 15)).await.unwrap();
    assert_eq!((asked.output_limit(), asked.bound().amount), (None, usd("0.15")));
    let never = budget(Clamp::Never);
    assert!(never.admit(open(&never)).await.is_err());
}

#[tokio::test]
async fn what_no_maximum_limits_is_paid_for_and_the_providers_least_is_kept() {
    let firewall = builder().budget_usd(0.30).build().unwrap();
    let mut predicted = open(&firewall);
    predicted.extra_output_tokens = 12;
    let admission = firewall.admit(predicted).await.unwrap();
    assert_eq!(
        (admission.output_limit(), admission.bound().output_tokens),
        (Some(18), 30)
    );
    admission.settle(used(0)).await;
    let mut thinks = open(&firewall);
    thinks.least_output_tokens = 31;
    assert!(firewall.admit(thinks).await.is_err());
    let mut several = open(&firewall);
    several.choices = 4;
    assert_eq!(firewall.admit(several).await.unwrap().output_limit(), Some(7));
}

/// A store whose balances are out of date: it shows what others have long taken.
#[derive(Debug)]
struct Stale {
    inner: MemoryStore,
    lies: AtomicU64,
    reserves: AtomicU64,
}

#[async_trait]
impl BudgetStore for Stale {
    fn is_durable(&self) -> bool {
        false
    }
    async fn reserve(&self, hold: &Hold) -> Result<Reserve, StoreError> {
        self.reserves.fetch_add(1, Ordering::SeqCst);
        self.inner.reserve(hold).await
    }
    async fn settle(&self, settlement: &Settlement) -> Result<Settled, StoreError> {
        self.inner.settle(settlement).await
    }
    async fn release(&self, id: ReservationId) -> Result<(), StoreError> {
        self.inner.release(id).await
    }
    async fn renew(&self, id: ReservationId, lease: Duration) -> Result<(), StoreError> {
        self.inner.renew(id, lease).await
    }
    async fn expire(&self, limit: usize) -> Result<Vec<Expired>, StoreError> {
        self.inner.expire(limit).await
    }
    async fn confirm(&self, lines: &[Written]) -> Result<(), StoreError> {
        self.inner.confirm(lines).await
    }
    async fn balances(&self, scopes: &[Scope]) -> Result<Vec<Balance>, StoreError> {
        let mut balances = self.inner.balances(scopes).await?;
        let is_lying = self
            .lies
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |lies| lies.checked_sub(1));
        if is_lying.is_ok() {
            for balance in &mut balances {
                balance.spent = Usd::ZERO;
            }
        }
        Ok(balances)
    }
    async fn close(&self, key: &ScopeKey) -> Result<Balance, StoreError> {
        self.inner.close(key).await
    }
    async fn hit(&self, hit: &Hit) -> Result<Hits, StoreError> {
        self.inner.hit(hit).await
    }
}

#[tokio::test]
async fn a_balance_that_is_out_of_date_is_read_again_and_not_for_ever() {
    for (lies, reserves, limit) in [(0, 2, Some(10)), (2, 4, Some(10)), (3, 4, None), (1_000, 4, None)] {
        let store = Arc::new(Stale {
            inner: MemoryStore::new(Arc::new(SystemClock)),
            lies: AtomicU64::new(0),
            reserves: AtomicU64::new(0),
        });
        let firewall = builder()
            .budget_usd(0.30)
            .budget_store(store.clone())
            .build()
            .unwrap();
        firewall
            .admit(call(&firewall, 20))
            .await
            .unwrap()
            .settle(used(20))
            .await;
        store.lies.store(lies, Ordering::SeqCst);
        store.reserves.store(0, Ordering::SeqCst);
        let admitted = firewall.admit(open(&firewall)).await.ok();
        assert_eq!(
            admitted.and_then(|admission| admission.output_limit()),
            limit,
            "{lies}"
        );
        assert_eq!(store.reserves.load(Ordering::SeqCst), reserves, "{lies}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn a_burst_of_calls_without_a_maximum_stays_within_the_cap() {
    let log = Log::new();
    let firewall = builder().budget_usd(2.00).audit_log(log.path()).build().unwrap();
    let tasks: Vec<_> = (0..200_u64)
        .map(|task| {
            let firewall = firewall.clone();
            tokio::spawn(async move {
                let Ok(admission) = firewall.admit(open(&firewall)).await else {
                    return;
                };
                let limit = admission.output_limit().unwrap();
                tokio::task::yield_now().await;
                admission.settle(used(limit.min(1 + task % 7))).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
        let (_, balance) = firewall.balances().await.unwrap().remove(0);
        assert!(balance.spent.checked_add(balance.reserved).unwrap() <= usd("2.00"));
    }
    firewall.close().await.unwrap();
    assert_eq!(firewall.cumulative().await.unwrap(), log.cost());
}
