//! The beginnings of prompts that were read before: their keys and values in blocks, so that they are read once.
//!
//! A block is known by the adapter's content and by every token up to its end, compared and not hashed into one number:
//! it can never be taken for another. Blocks are copied out of prompts only. What a model computes for a token it
//! generated has other bits than what it computes for the same token in a prompt, and an answer must not depend on
//! whether a conversation was read at once or grew here.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use synapse_nn::{KvBlock, KvCache};

/// Tokens in a block. A prompt's rest below a multiple of it is read again.
const BLOCK: usize = 64;

/// What a block follows: the beginning under an adapter's content (none for the bare base), or another block.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Parent {
    Start(Option<Arc<str>>),
    Block(u64),
}

#[derive(Debug)]
struct Block {
    number: u64,
    values: KvBlock,
    /// Blocks before it.
    depth: usize,
    /// When it was last read or written, counted in prompts. No block is newer than the one it follows, so that the
    /// oldest and deepest is never followed by another.
    used: u64,
}

/// Whether the first block of two prompts is the same, so that one may use what the other read.
pub(crate) fn begin_alike(a: &[u32], b: &[u32]) -> bool {
    // One token more than the block, for the answer to begin from.
    a.len() > BLOCK && b.len() >= BLOCK && a[..BLOCK] == b[..BLOCK]
}

/// Blocks up to a number of bytes; the least recently used make room.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    limit: usize,
    bytes: usize,
    clock: u64,
    numbers: u64,
    blocks: HashMap<(Parent, Box<[u32]>), Block>,
}

impl PrefixCache {
    /// With a limit of 0 nothing is kept.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            clock: 0,
            numbers: 0,
            blocks: HashMap::new(),
        }
    }

    /// Whether anything is kept at all.
    pub(crate) fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Fills an empty cache with what is known of a prompt. At least one token is left to be read, since the answer
    /// begins from what is computed of the last one.
    pub(crate) fn restore(&mut self, content: Option<&Arc<str>>, prompt: &[u32], cache: &mut KvCache) {
        self.clock += 1;
        let mut parent = Parent::Start(content.cloned());
        let most = prompt.len().saturating_sub(1);
        for tokens in prompt[..most].chunks_exact(BLOCK) {
            let Some(block) = self.blocks.get_mut(&(parent, tokens.into())) else {
                return;
            };
            block.used = self.clock;
            cache.append(&block.values);
            parent = Parent::Block(block.number);
        }
    }

    /// Keeps the blocks of a prompt that has been read whole and not been answered yet.
    pub(crate) fn keep(&mut self, content: Option<&Arc<str>>, prompt: &[u32], cache: &KvCache) {
        if !self.is_on() || !cache.is_divisible() {
            return;
        }
        self.clock += 1;
        let mut parent = Parent::Start(content.cloned());
        for (depth, tokens) in prompt.chunks_exact(BLOCK).enumerate() {
            let (numbers, bytes) = (&mut self.numbers, &mut self.bytes);
            let block = self.blocks.entry((parent, tokens.into())).or_insert_with(|| {
                let values = cache.copy(depth * BLOCK..(depth + 1) * BLOCK);
                *numbers += 1;
                *bytes += values.bytes() + size_of_val(tokens);
                Block {
                    number: *numbers,
                    values,
                    depth,
                    used: 0,
                }
            });
            block.used = self.clock;
            parent = Parent::Block(block.number);
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.bytes > self.limit {
            let oldest = self
                .blocks
                .iter()
                .min_by_key(|(_, block)| (block.used, Reverse(block.depth)))
                .map(|(key, _)| key.clone());
            let Some(key) = oldest else {
                return;
            };
            if let Some(block) = self.blocks.remove(&key) {
                self.bytes -= block.values.bytes() + size_of_val(&*key.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache without layers, of which only the length is real: blocks weigh their tokens alone.
    fn read(prompt: &[u32]) -> KvCache {
        let mut cache = KvCache::new(0, 0);
        cache.advance(prompt.len());
        cache
    }

    fn restored(prefixes: &mut PrefixCache, content: Option<&Arc<str>>, prompt: &[u32]) -> usize {
        let mut cache = KvCache::new(0, 0);
        prefixes.restore(content, prompt, &mut cache);
        cache.len()
    }

    fn prompt(first: u32, blocks: usize, rest: usize) -> Vec<u32> {
        (0..blocks * BLOCK + rest).map(|i| first + i as u32).collect()
    }

    const ONE: usize = BLOCK * 4;

    #[test]
    fn whole_blocks_come_back_under_the_same_content_only() {
        let mut prefixes = PrefixCache::new(100 * ONE);
        let (math, code): (Arc<str>, Arc<str>) = ("math".into(), "code".into());
        let known = prompt(0, 2, 10);
        prefixes.keep(Some(&math), &known, &read(&known));
        assert_eq!(restored(&mut prefixes, Some(&math), &known), 2 * BLOCK);
        assert_eq!(restored(&mut prefixes, Some(&code), &known), 0);
        assert_eq!(restored(&mut prefixes, None, &known), 0);
        // The last token is always read.
        assert_eq!(restored(&mut prefixes, Some(&math), &known[..2 * BLOCK]), BLOCK);
        assert_eq!(restored(&mut prefixes, Some(&math), &known[..2 * BLOCK + 1]), 2 * BLOCK);
        let mut other = known;
        other[BLOCK + 3] += 1;
        assert_eq!(restored(&mut prefixes, Some(&math), &other), BLOCK);
        other[0] += 1;
        assert_eq!(restored(&mut prefixes, Some(&math), &other), 0);
    }

    #[test]
    fn the_least_recently_used_makes_room_from_its_end() {
        let mut prefixes = PrefixCache::new(4 * ONE);
        let (a, b, c) = (prompt(0, 2, 1), prompt(1000, 2, 1), prompt(2000, 1, 1));
        for prompt in [&a, &b] {
            prefixes.keep(None, prompt, &read(prompt));
        }
        assert_eq!(restored(&mut prefixes, None, &a), 2 * BLOCK);
        prefixes.keep(None, &c, &read(&c));
        assert_eq!(restored(&mut prefixes, None, &b), BLOCK, "its last block went");
        assert_eq!(restored(&mut prefixes, None, &a), 2 * BLOCK);
        assert_eq!(restored(&mut prefixes, None, &c), BLOCK);
        assert_eq!(prefixes.bytes, 4 * ONE);
        // One prompt larger than all there is leaves its beginning.
        let long = prompt(5000, 9, 1);
        prefixes.keep(None, &long, &read(&long));
        assert_eq!(restored(&mut prefixes, None, &long), 4 * BLOCK);
    }

    #[test]
    fn nothing_is_kept_without_room() {
        let mut prefixes = PrefixCache::new(0);
        let known = prompt(0, 3, 1);
        prefixes.keep(None, &known, &read(&known));
        assert_eq!(restored(&mut prefixes, None, &known), 0);
    }
}
