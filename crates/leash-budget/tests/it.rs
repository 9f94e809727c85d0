//! The laws of a budget store, over the store in memory.
#![cfg(feature = "conformance")]

use std::sync::Arc;

use leash_budget::{BudgetStore, MemoryStore, budget_store_conformance};
use leash_core::SystemClock;

fn store() -> Arc<dyn BudgetStore> {
    Arc::new(MemoryStore::new(Arc::new(SystemClock)))
}

budget_store_conformance!(memory, async { store() });
