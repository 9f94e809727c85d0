//! The laws of a kill registry, over the registry in memory.
#![cfg(feature = "conformance")]

use std::sync::Arc;

use leash_kill::{KillRegistry, MemoryKillRegistry, kill_registry_conformance};

fn registry() -> Arc<dyn KillRegistry> {
    Arc::new(MemoryKillRegistry::new())
}

kill_registry_conformance!(memory, async { registry() });
