//! Globs over repository paths: `*` and `?` stay inside a folder, `**` crosses folders.

/// Whether a path matches a glob as a whole.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let (pattern, path): (Vec<char>, Vec<char>) = (pattern.chars().collect(), path.chars().collect());
    // `reach[i]`: the pattern so far can end after `i` characters of the path.
    let mut reach = vec![false; path.len() + 1];
    reach[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let any_folder = pattern[at] == '*' && pattern.get(at + 1) == Some(&'*');
        let mut next = vec![false; path.len() + 1];
        for end in 0..=path.len() {
            let before = end.checked_sub(1);
            next[end] = match pattern[at] {
                '*' => reach[end] || before.is_some_and(|before| next[before] && (any_folder || path[before] != '/')),
                '?' => before.is_some_and(|before| reach[before] && path[before] != '/'),
                letter => before.is_some_and(|before| reach[before] && path[before] == letter),
            };
        }
        at += 1;
        if any_folder {
            at += 1;
            // `**/x` also means x itself.
            if pattern.get(at) == Some(&'/') {
                let deeper = next.clone();
                for end in 0..=path.len() {
                    next[end] = reach[end] || (end > 0 && path[end - 1] == '/' && deeper[end - 1]);
                }
                at += 1;
            }
        }
        reach = next;
    }
    reach[path.len()]
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_stay_in_their_folder() {
        assert!(matches("main/train-*.parquet", "main/train-00000-of-00001.parquet"));
        assert!(!matches("main/train-*.parquet", "main/test-00000-of-00001.parquet"));
        assert!(!matches("*.json", "data/a.json"));
        assert!(matches("**/*.json", "data/deep/a.json") && matches("**/*.json", "a.json"));
        assert!(matches("data/**", "data/deep/a.json"));
        assert!(matches("a?c", "abc") && !matches("a?c", "a/c"));
        assert!(matches("tokenizer*", "tokenizer.json") && !matches("tokenizer*", "x/tokenizer.json"));
        assert!(!matches("", "a") && matches("", ""));
    }
}
