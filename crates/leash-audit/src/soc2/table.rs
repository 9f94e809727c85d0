//! Small tables of numbers, for what there may be millions of: [`Index`], [`Pairs`], [`Ordered`]. Knows no events.
//!
//! Each entry of an [`Index`] takes some 12 bytes and each of [`Pairs`] too, a fifth of what a map of the standard
//! library takes for the same.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hash, Hasher, RandomState};

/// What marks a free place.
const FREE: u64 = u64::MAX;

/// The place of `hash` among `places`, nearer to the end the larger it is, so that a table can grow by any factor.
fn place(hash: u32, places: usize) -> usize {
    let places = u64::try_from(places).unwrap_or(u64::MAX);
    let place = u64::from(hash).wrapping_mul(places) >> 32;
    usize::try_from(place).unwrap_or(0)
}

/// How many places there are to be once `used` of `places` are taken, where that is too many.
fn more_places(used: usize, places: usize) -> Option<usize> {
    let full = used.saturating_mul(5) >= places.saturating_mul(4);
    full.then(|| places.saturating_add(places / 2).max(16))
}

/// Finds the number of a thing by its hash. The things themselves lie in a list of whoever asks.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The hash in the upper half, the number in the lower one.
    places: Vec<u64>,
    used: usize,
}

impl Index {
    /// The number of the thing with this hash that `is_it`; `next` where it was not met, from then on.
    pub(super) fn number(&mut self, hash: u32, next: u32, mut is_it: impl FnMut(u32) -> bool) -> u32 {
        self.make_room();
        let mut at = place(hash, self.places.len());
        loop {
            let Some(entry) = self.places.get_mut(at) else {
                at = 0;
                continue;
            };
            if *entry == FREE {
                *entry = u64::from(hash) << 32 | u64::from(next);
                self.used = self.used.saturating_add(1);
                return next;
            }
            let (its_hash, number) = halves(*entry);
            if its_hash == hash && is_it(number) {
                return number;
            }
            at = at.wrapping_add(1);
        }
    }

    /// Looks at the places of many things that are about to be asked for. Each is most likely not in the cache of the
    /// processor, and looks that do not wait for each other get them there all at once.
    pub(super) fn touch(&self, hashes: impl Iterator<Item = u32>) {
        touch(&self.places, hashes);
    }

    fn make_room(&mut self) {
        let Some(places) = more_places(self.used, self.places.len()) else {
            return;
        };
        let before = std::mem::replace(&mut self.places, vec![FREE; places]);
        for entry in before.into_iter().filter(|entry| *entry != FREE) {
            put(&mut self.places, halves(entry).0, entry);
        }
    }
}

fn touch(places: &[u64], hashes: impl Iterator<Item = u32>) {
    let seen = hashes.fold(0, |seen, hash| {
        seen ^ places.get(place(hash, places.len())).copied().unwrap_or_default()
    });
    // What was seen does not matter, only that it was.
    std::hint::black_box(seen);
}

fn halves(entry: u64) -> (u32, u32) {
    let upper = u32::try_from(entry >> 32).unwrap_or(u32::MAX);
    let lower = u32::try_from(entry & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (upper, lower)
}

/// Puts an entry into the first free place from that of `hash` on. There is one.
fn put(places: &mut [u64], hash: u32, entry: u64) {
    let mut at = place(hash, places.len());
    loop {
        match places.get_mut(at) {
            Some(free) if *free == FREE => {
                *free = entry;
                return;
            }
            Some(_) => at = at.wrapping_add(1),
            None => at = 0,
        }
    }
}

/// Hashes pairs of numbers, in a way that nobody outside can foresee: which numbers meet is up to whoever wrote the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixer(u64);

impl Default for Mixer {
    fn default() -> Self {
        // Any odd number will do, as long as it is not known.
        Self(RandomState::new().hash_one(0_u8) | 1)
    }
}

impl Mixer {
    pub(super) fn hash(self, first: u32, second: u32) -> u32 {
        self.of(u64::from(first) << 32 | u64::from(second))
    }

    fn of(self, pair: u64) -> u32 {
        // The upper half of a product depends on all bits of what is multiplied; twice, as the pairs are regular.
        let once = pair.wrapping_mul(self.0);
        halves((once ^ once >> 32).wrapping_mul(self.0)).0
    }
}

/// Entries that stand for pairs of numbers, in the order of the first ones.
#[derive(Debug)]
pub(super) struct Sorted<T> {
    list: Vec<T>,
    pair: fn(&T) -> (u32, u32),
}

impl<T> Sorted<T> {
    /// Sorts `list` by the first numbers of its pairs, and where they are the same, as `compare` puts the second ones.
    pub(super) fn new(
        mut list: Vec<T>,
        pair: fn(&T) -> (u32, u32),
        mut compare: impl FnMut(u32, u32) -> std::cmp::Ordering,
    ) -> Self {
        list.sort_unstable_by_key(|entry| pair(entry).0);
        for run in list.chunk_by_mut(|one, other| pair(one).0 == pair(other).0) {
            if run.len() > 1 {
                run.sort_unstable_by(|one, other| compare(pair(one).1, pair(other).1));
            }
        }
        Self { list, pair }
    }

    /// The pairs from those with the first number `first` on.
    pub(super) fn from(&self, first: u32) -> impl Iterator<Item = (u32, u32)> {
        let start = self.list.partition_point(|entry| (self.pair)(entry).0 < first);
        self.list.get(start..).unwrap_or_default().iter().map(self.pair)
    }
}

/// Pairs of numbers, each once.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    places: Vec<u64>,
    used: usize,
    mixer: Mixer,
}

impl Pairs {
    pub(super) fn insert(&mut self, first: u32, second: u32) {
        if let Some(places) = more_places(self.used, self.places.len()) {
            let before = std::mem::replace(&mut self.places, vec![FREE; places]);
            for entry in before.into_iter().filter(|entry| *entry != FREE) {
                put(&mut self.places, self.mixer.of(entry), entry);
            }
        }
        let pair = u64::from(first) << 32 | u64::from(second);
        let mut at = place(self.mixer.of(pair), self.places.len());
        loop {
            match self.places.get_mut(at) {
                Some(entry) if *entry == pair => return,
                Some(entry) if *entry == FREE => {
                    *entry = pair;
                    self.used = self.used.saturating_add(1);
                    return;
                }
                Some(_) => at = at.wrapping_add(1),
                None => at = 0,
            }
        }
    }

    /// As [`Index::touch`].
    pub(super) fn touch(&self, pairs: impl Iterator<Item = (u32, u32)>) {
        touch(
            &self.places,
            pairs.map(|(first, second)| self.mixer.hash(first, second)),
        );
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        let taken = self.places.iter().filter(|entry| **entry != FREE);
        taken.map(|entry| halves(*entry))
    }

    /// All pairs in order, without taking memory for them twice.
    pub(super) fn into_sorted(mut self, compare: impl FnMut(u32, u32) -> std::cmp::Ordering) -> Sorted<u64> {
        self.places.retain(|entry| *entry != FREE);
        Sorted::new(self.places, |entry| halves(*entry), compare)
    }
}

/// Hashes the numbers that were given to names. Nobody outside chooses them, so it need not be a keyed hash; the names
/// themselves have one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        // Maps look at the high bits and the low ones.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A map that keeps the order in which its keys were first met. For what there is little of.
#[derive(Debug)]
pub(super) struct Ordered<K, V> {
    index: HashMap<K, u32, BuildHasherDefault<Mix>>,
    list: Vec<(K, V)>,
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Self {
        Self {
            index: HashMap::default(),
            list: Vec::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, V: Default> Ordered<K, V> {
    /// The value of `key`, a new one where it was not met.
    #[expect(
        clippy::indexing_slicing,
        reason = "the index knows no place that is not in the list"
    )]
    pub(super) fn entry(&mut self, key: K) -> &mut V {
        let next = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let at = *self.index.entry(key).or_insert(next);
        if at == next {
            self.list.push((key, V::default()));
        }
        &mut self.list[usize::try_from(at).unwrap_or(usize::MAX)].1
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.list.iter().map(|(key, value)| (*key, value))
    }
}

impl<K, V> IntoIterator for Ordered<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_index_gives_each_thing_one_number(things in proptest::collection::vec(0_u32..500, 0..2000), bits in 0_u32..32) {
            let mut index = Index::default();
            let mut list: Vec<u32> = Vec::new();
            for thing in things {
                let next = u32::try_from(list.len()).unwrap();
                // With few bits, all hashes are the same few.
                let hash = thing.wrapping_mul(0x9e37_79b9) >> bits << bits;
                let number = index.number(hash, next, |number| list[usize::try_from(number).unwrap()] == thing);
                if number == next {
                    prop_assert!(!list.contains(&thing));
                    list.push(thing);
                }
                prop_assert_eq!(list[usize::try_from(number).unwrap()], thing);
            }
        }

        #[test]
        fn pairs_are_kept_once_and_come_out_in_order(pairs in proptest::collection::vec((0_u32..40, 0_u32..40), 0..2000)) {
            let mut all = Pairs::default();
            for (first, second) in &pairs {
                all.insert(*first, *second);
            }
            let expected: BTreeSet<_> = pairs.into_iter().collect();
            prop_assert_eq!(all.iter().collect::<BTreeSet<_>>(), expected.clone());
            let sorted = all.into_sorted(|one, other| one.cmp(&other));
            prop_assert!(sorted.from(0).eq(expected.iter().copied()));
            for first in [1, 7, 39, 40] {
                prop_assert!(sorted.from(first).eq(expected.iter().copied().filter(|pair| pair.0 >= first)));
            }
        }
    }
}
