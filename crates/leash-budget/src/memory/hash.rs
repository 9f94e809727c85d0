//! [`IdHashing`]: finds a reservation by its id.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes 128-bit ids: one multiplication, keyed at random, for whoever makes the ids may be no friend. Two ids fall
/// together as rarely as two numbers multiplied with secret ones do; the default hasher would cost ten times as much.
#[derive(Clone)]
pub(super) struct IdHashing {
    keys: [u64; 2],
}

impl Default for IdHashing {
    fn default() -> Self {
        let random = RandomState::new();
        Self {
            keys: [random.hash_one(0), random.hash_one(1)],
        }
    }
}

impl BuildHasher for IdHashing {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher {
            keys: self.keys,
            hash: 0,
        }
    }
}

pub(super) struct IdHasher {
    keys: [u64; 2],
    hash: u64,
}

/// Both halves of the product, so that every bit of either factor counts.
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left).wrapping_mul(u128::from(right));
    low(product) ^ low(product >> 64)
}

fn low(bits: u128) -> u64 {
    u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0)
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write_u128(&mut self, id: u128) {
        let [first, second] = self.keys;
        self.hash = fold(low(id) ^ first ^ self.hash, low(id >> 64) ^ second);
        // Once more: an id whose half equals a key would send all its like to zero.
        self.hash = self.hash.rotate_left(23) ^ fold(low(id >> 64) ^ first, second | 1);
    }

    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(16) {
            let mut whole = [0; 16];
            for (slot, byte) in whole.iter_mut().zip(piece) {
                *slot = *byte;
            }
            self.write_u128(u128::from_le_bytes(whole));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_that_differ_in_one_half_or_one_bit_fall_apart() {
        let hashing = IdHashing::default();
        let mut ids: Vec<u128> = (0..4096).collect();
        ids.extend((1..4096).map(|turn| turn << 64));
        ids.extend((0..128).map(|bit| u128::MAX ^ (1 << bit)));
        ids.extend((1..4096).map(|turn| (turn << 80) | 0x7000_8000_0000_0000_0000));
        let hashes: HashSet<u64> = ids.iter().map(|id| hashing.hash_one(id)).collect();
        assert_eq!(hashes.len(), ids.len());
        let buckets: HashSet<u64> = hashes.iter().map(|hash| hash & 0x3fff).collect();
        assert!(buckets.len() > 6_000, "{} of 16384", buckets.len());
        assert_ne!(hashing.hash_one(1_u128), IdHashing::default().hash_one(1_u128));
    }
}
