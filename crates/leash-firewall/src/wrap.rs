//! [`Wrap`]: how an adapter says which clients it can guard.

use crate::Firewall;

/// A client that an adapter can put a firewall around.
///
/// `Marker` is a type of the adapter's own: it lets a crate implement this for a client that is foreign to it. A
/// client that no adapter implements it for does not compile, so none passes unguarded by mistake.
///
/// ```compile_fail
/// # let fw = leash_firewall::Firewall::builder().build().unwrap();
/// fw.wrap("not a client");
/// ```
#[diagnostic::on_unimplemented(
    message = "no adapter of llm-leash knows the client `{Self}`",
    note = "bring an adapter crate into scope, or use `Firewall::model`, `Firewall::tool` or `Firewall::admit`"
)]
pub trait Wrap<Marker> {
    /// The client with the firewall around it.
    type Guarded;

    /// Puts `firewall` around this client.
    fn wrap(self, firewall: &Firewall) -> Self::Guarded;
}
