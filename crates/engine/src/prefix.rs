//! The prefix cache: keys and values of earlier prompts in blocks, so that a shared prefix is read once.
//!
//! The key of a block is the adapter's content and every token up to the block's end. Keys are compared, not only hashed,
//! so two blocks cannot be confused. Only prompts are cached: the keys and values of a generated token differ in the last
//! bits from those of the same token in a prompt, and a completion must not depend on whether a conversation was read at
//! once or turn by turn.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use synapse_nn::{KvBlock, KvCache};

/// Tokens in a block. The remainder of a prompt after its last whole block is not cached.
const BLOCK: usize = 64;

/// What a block follows: the start of a prompt under an adapter's content (`None` for the base model), or another block.
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
    /// When it was last read or written, counted in prompts. No block is newer than its parent, so the oldest and
    /// deepest block is never a parent.
    used: u64,
}

/// Whether two prompts share their first block, so that one can use the keys and values of the other.
pub(crate) fn share_first_block(a: &[u32], b: &[u32]) -> bool {
    // One more token than the block: the completion starts from its logits.
    a.len() > BLOCK && b.len() >= BLOCK && a[..BLOCK] == b[..BLOCK]
}

/// Blocks up to a number of bytes; the least recently used are evicted.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    limit: usize,
    bytes: usize,
    clock: u64,
    numbers: u64,
    blocks: HashMap<(Parent, Box<[u32]>), Block>,
}

impl PrefixCache {
    /// A limit of 0 turns the cache off.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            clock: 0,
            numbers: 0,
            blocks: HashMap::new(),
        }
    }

    /// Whether the cache is on.
    pub(crate) fn is_on(&self) -> bool {
        self.limit > 0
    }

    /// Fills an empty cache with the cached blocks of a prompt. At least one token remains to be read, since the completion
    /// starts from the logits of the last one.
    pub(crate) fn restore(&mut self, content_id: Option<&Arc<str>>, prompt: &[u32], cache: &mut KvCache) {
        self.clock += 1;
        let mut parent = Parent::Start(content_id.cloned());
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

    /// Stores the blocks of a prompt that is read completely and has no generated tokens yet.
    pub(crate) fn store(&mut self, content_id: Option<&Arc<str>>, prompt: &[u32], cache: &KvCache) {
        if !self.is_on() || !cache.is_divisible() {
            return;
        }
        self.clock += 1;
        let mut parent = Parent::Start(content_id.cloned());
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
        self.evict();
    }

    fn evict(&mut self) {
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

    /// A cache without layers: only its length counts, and blocks weigh their tokens alone.
    fn read(prompt: &[u32]) -> KvCache {
        let mut cache = KvCache::new(0, 0);
        cache.advance(prompt.len());
        cache
    }

    fn restored(prefixes: &mut PrefixCache, content_id: Option<&Arc<str>>, prompt: &[u32]) -> usize {
        let mut cache = KvCache::new(0, 0);
        prefixes.restore(content_id, prompt, &mut cache);
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
        prefixes.store(Some(&math), &known, &read(&known));
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
    fn the_least_recently_used_is_evicted_from_its_end() {
        let mut prefixes = PrefixCache::new(4 * ONE);
        let (a, b, c) = (prompt(0, 2, 1), prompt(1000, 2, 1), prompt(2000, 1, 1));
        for prompt in [&a, &b] {
            prefixes.store(None, prompt, &read(prompt));
        }
        assert_eq!(restored(&mut prefixes, None, &a), 2 * BLOCK);
        prefixes.store(None, &c, &read(&c));
        assert_eq!(restored(&mut prefixes, None, &b), BLOCK, "its last block was evicted");
        assert_eq!(restored(&mut prefixes, None, &a), 2 * BLOCK);
        assert_eq!(restored(&mut prefixes, None, &c), BLOCK);
        assert_eq!(prefixes.bytes, 4 * ONE);
        // Of a prompt larger than the cache, the beginning stays.
        let long = prompt(5000, 9, 1);
        prefixes.store(None, &long, &read(&long));
        assert_eq!(restored(&mut prefixes, None, &long), 4 * BLOCK);
    }

    #[test]
    fn a_limit_of_zero_stores_nothing() {
        let mut prefixes = PrefixCache::new(0);
        let known = prompt(0, 3, 1);
        prefixes.store(None, &known, &read(&known));
        assert_eq!(restored(&mut prefixes, None, &known), 0);
    }
}
