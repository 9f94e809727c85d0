//! Moments as queues write them: the original's seconds as a float, and our microseconds.

use leash_core::Timestamp;

/// Seconds since 1970 as a float, as the original writes them.
pub(crate) fn seconds(at: Timestamp) -> f64 {
    let micros = at.as_unix_micros();
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    // By way of the text: no rounding but the last one.
    format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000)
        .parse()
        .unwrap_or(0.0)
}

#[cfg(feature = "sqlite")]
/// Reads seconds since 1970; the start of 1970 where they make no sense.
pub(crate) fn of_seconds(seconds: f64) -> Timestamp {
    let text = format!("{seconds:.6}");
    let Some((whole, fraction)) = text.split_once('.') else {
        return Timestamp::EPOCH;
    };
    let micros = format!("{whole}{fraction}").parse().unwrap_or(0);
    Timestamp::from_unix_micros(micros).unwrap_or(Timestamp::EPOCH)
}

#[cfg(feature = "sqlite")]
/// Reads microseconds since 1970, where there are any that make sense.
pub(crate) fn of_micros(micros: Option<i64>) -> Option<Timestamp> {
    micros.and_then(|micros| Timestamp::from_unix_micros(micros).ok())
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    #[test]
    fn a_moment_of_our_times_survives_as_a_float() {
        for micros in [0, 1, 1_790_000_000_123_456, 4_000_000_000_999_999, -1_500_000] {
            let at = Timestamp::from_unix_micros(micros).unwrap();
            assert_eq!(of_seconds(seconds(at)), at);
        }
        assert_eq!(of_seconds(f64::NAN), Timestamp::EPOCH);
        assert_eq!(of_seconds(f64::INFINITY), Timestamp::EPOCH);
    }
}
