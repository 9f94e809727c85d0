//! Every different text of a log, once: [`Names`]. Knows no events.

use std::hash::{BuildHasher as _, RandomState};

use super::table::Index;

/// A name that was met, by its number.
pub(super) type Name = u32;

/// No name: also where a tenant is none.
pub(super) const NOBODY: Name = Name::MAX;

/// Texts in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Texts {
    text: String,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    fn get(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)?;
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        self.text.get(start..end)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len()).filter_map(|at| self.get(at))
    }
}

/// Texts that are new to somebody, with their hashes.
#[derive(Debug)]
pub(super) struct News {
    texts: Texts,
    hashes: Vec<u32>,
}

/// Texts and their numbers. Attackers choose the texts, so they are hashed with a key.
#[derive(Debug)]
pub(super) struct Names {
    texts: Texts,
    index: Index,
    keyed: RandomState,
}

impl Names {
    /// None yet. Those with equal keys can tell each other of new ones.
    pub(super) fn new(keyed: RandomState) -> Self {
        Self {
            texts: Texts::default(),
            index: Index::default(),
            keyed,
        }
    }

    /// None, with the same key.
    pub(super) fn anew(&self) -> Self {
        Self::new(self.keyed.clone())
    }

    fn hash(&self, text: &str) -> u32 {
        u32::try_from(self.keyed.hash_one(text) >> 32).unwrap_or_default()
    }

    /// The number of a text.
    pub(super) fn of(&mut self, text: &str) -> Name {
        let hash = self.hash(text);
        self.number(hash, text)
    }

    /// The numbers of texts that others with the same key have met.
    pub(super) fn hear(&mut self, news: &News) -> impl Iterator<Item = Name> {
        self.index.touch(news.hashes.iter().copied());
        news.hashes
            .iter()
            .zip(news.texts.iter())
            .map(|(hash, text)| self.number(*hash, text))
    }

    fn number(&mut self, hash: u32, text: &str) -> Name {
        let Self { texts, index, .. } = self;
        let next = Name::try_from(texts.ends.len()).unwrap_or(NOBODY);
        let is_it = |name: Name| texts.get(usize::try_from(name).unwrap_or(usize::MAX)) == Some(text);
        let name = index.number(hash, next, is_it);
        if name == next {
            texts.push(text);
        }
        name
    }

    pub(super) fn text(&self, name: Name) -> &str {
        let at = usize::try_from(name).unwrap_or(usize::MAX);
        self.texts.get(at).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.texts.ends.len()
    }

    /// How long all texts are together, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.texts.text.len()
    }

    /// Those from the number `first` on.
    pub(super) fn since(&self, first: usize) -> News {
        let mut texts = Texts::default();
        for at in first..self.len() {
            texts.push(self.texts.get(at).unwrap_or_default());
        }
        let hashes = texts.iter().map(|text| self.hash(text)).collect();
        News { texts, hashes }
    }

    /// Gives back the memory that only finding a text takes.
    pub(super) fn finish(&mut self) {
        self.index = Index::default();
    }
}
