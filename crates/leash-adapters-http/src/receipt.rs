//! [`CallReceipt`]: what a guarded answer cost, and how its paperwork went.

use std::sync::{Arc, Mutex, PoisonError};

use leash_firewall::Receipt;
use reqwest::Response;

/// The receipt of a guarded call, which is there once its answer has ended: of an answer in one piece at once, of a
/// stream when its last bytes are read.
///
/// Its [`warning`](Receipt::warning) says what is missing where the answer was paid for and its line could not be
/// written. The answer is good all the same; nothing more is admitted until the line is on disk.
///
/// ```
/// use leash_adapters_http::CallReceipt;
///
/// # async fn example(response: reqwest::Response) -> Result<(), reqwest::Error> {
/// let receipt = CallReceipt::of(&response);
/// let answer = response.text().await?;
/// if let Some(receipt) = receipt.and_then(|receipt| receipt.take()) {
///     println!("{} bytes for ${}", answer.len(), receipt.cost);
///     if let Some(warning) = receipt.warning {
///         eprintln!("{warning}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallReceipt(Arc<Mutex<Option<Receipt>>>);

impl CallReceipt {
    /// That of a response; `None` where it is no answer to a guarded call of a model. Ask before the body is taken out
    /// of the response.
    #[must_use]
    pub fn of(response: &Response) -> Option<Self> {
        response.extensions().get().cloned()
    }

    /// Takes the receipt; `None` before the answer has ended, and for whoever comes second.
    #[must_use]
    pub fn take(&self) -> Option<Receipt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn put(&self, receipt: Receipt) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(receipt);
    }
}

impl From<Receipt> for CallReceipt {
    fn from(receipt: Receipt) -> Self {
        Self(Arc::new(Mutex::new(Some(receipt))))
    }
}
