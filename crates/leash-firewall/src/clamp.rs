//! Calls that are lowered to what their budget affords: [`Clamp`].

use leash_budget::{Bound, Scope, bound, clamp};
use leash_core::{LeashError, ModelCall, Usd, rule_ids};

use crate::path::{Priced, Shared};

/// How often a call is lowered before it is refused: what it is lowered to may be gone when it is reserved.
pub(crate) const ATTEMPTS: u32 = 3;

/// Which calls of models are lowered where their bound does not fit under a cap: a smaller maximum of output is written
/// into the request that leaves, and the line in the log says `clamped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clamp {
    /// Those that set no maximum themselves. What sets one is refused where it does not fit.
    #[default]
    Unbounded,
    /// All of them.
    Always,
    /// None. What sets no maximum can cost what the model's largest answer costs.
    Never,
}

impl Clamp {
    pub(crate) fn may_lower(self, call: &ModelCall) -> bool {
        match self {
            Self::Unbounded => call.max_output_tokens.is_none(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// What a call may use once it is lowered.
pub(crate) struct Lowered {
    /// The maximum that its request must set.
    pub(crate) limit: u64,
    /// The maximum together with what it does not bound.
    pub(crate) max_output_tokens: u64,
    pub(crate) bound: Bound,
}

impl Shared {
    /// What `call` is to be lowered to so that it fits under every cap as things stand; `None` where nothing does.
    pub(crate) async fn lowered(
        &self,
        scopes: &[Scope],
        call: &ModelCall,
        priced: &Priced,
    ) -> Result<Option<Lowered>, LeashError> {
        let balances = self.store.balances(scopes).await;
        let balances = balances.map_err(|error| LeashError::unavailable(rule_ids::BUDGET_STORE, error))?;
        let available = scopes
            .iter()
            .zip(&balances)
            .filter_map(|(scope, balance)| Some(balance.available(scope.cap?)))
            .min();
        Ok(available.and_then(|available| lowered(call, priced, available)))
    }
}

fn lowered(call: &ModelCall, priced: &Priced, available: Usd) -> Option<Lowered> {
    let price = priced.dearest.as_deref()?;
    let mut limit = clamp(call, price, priced.counted, available)?;
    if let Some(asked) = call.max_output_tokens {
        limit = limit.min(asked.saturating_sub(call.extra_output_tokens));
    }
    let max_output_tokens = limit.checked_add(call.extra_output_tokens)?;
    let mut call = call.clone();
    call.max_output_tokens = Some(max_output_tokens);
    let bound = bound(&call, price, priced.counted).ok()?;
    Some(Lowered {
        limit,
        max_output_tokens,
        bound,
    })
}
