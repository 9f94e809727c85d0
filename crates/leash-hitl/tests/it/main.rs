//! Every queue by the same laws, over real files, a real server and several processes; the gates that ask through them
//! or over HTTP; and the page behind a link.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

#[cfg(unix)]
mod crash;
mod page;
#[cfg(unix)]
mod processes;
mod queues;
mod server;
#[cfg(all(feature = "redis-cluster", feature = "redis-tls"))]
mod servers;
mod waiting;
mod webhook;
