//! Compiles and runs the code that the documents show, so that none of it goes stale.
//!
//! The tests of this crate, in `it.rs`, are those that belong to no single crate. Nothing depends on it.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../docs/approvals.md")]
mod approvals {}

#[cfg(doctest)]
#[doc = include_str!("../docs/architecture.md")]
mod architecture {}

#[cfg(doctest)]
#[doc = include_str!("../docs/audit-log.md")]
mod audit_log {}

#[cfg(doctest)]
#[doc = include_str!("../docs/budgets.md")]
mod budgets {}

#[cfg(doctest)]
#[doc = include_str!("../docs/kill.md")]
mod kill {}

#[cfg(doctest)]
#[doc = include_str!("../docs/performance.md")]
mod performance {}

#[cfg(doctest)]
#[doc = include_str!("../docs/policy.md")]
mod policy {}

#[cfg(doctest)]
#[doc = include_str!("../docs/prices.md")]
mod prices {}

#[cfg(doctest)]
#[doc = include_str!("../docs/scanners.md")]
mod scanners {}

#[cfg(doctest)]
#[doc = include_str!("../docs/soc2.md")]
mod soc2 {}

#[cfg(doctest)]
#[doc = include_str!("../docs/stability.md")]
mod stability {}
