//! Guesses what was meant: the nearest valid word, the word another tool uses, the section a key
//! belongs to.

/// Keys of other trainers and what they are called here.
const SYNONYMS: [(&str, &str); 32] = [
    ("adam_eps", "adam_epsilon"),
    ("base_model", "base"),
    ("beta1", "adam_beta1"),
    ("beta2", "adam_beta2"),
    ("bf16", "compute_dtype"),
    ("datasets", "data"),
    ("dtype", "compute_dtype"),
    ("eval", "evaluate"),
    ("evaluation", "evaluate"),
    ("grad_accum", "gradient_accumulation"),
    ("gradient_accumulation_steps", "gradient_accumulation"),
    ("gradient_checkpointing", "recompute"),
    ("lora_alpha", "alpha"),
    ("lora_dropout", "dropout"),
    ("lora_r", "rank"),
    ("lr", "learning_rate"),
    ("lr_scheduler", "scheduler"),
    ("lr_scheduler_type", "scheduler"),
    ("max_length", "max_seq_len"),
    ("max_seq_length", "max_seq_len"),
    ("micro_batch_size", "batch_size"),
    ("model", "base"),
    ("num_epochs", "epochs"),
    ("num_train_epochs", "epochs"),
    ("output_dir", "output"),
    ("per_device_train_batch_size", "batch_size"),
    ("r", "rank"),
    ("save_steps", "checkpoint_every"),
    ("sequence_len", "max_seq_len"),
    ("target_modules", "targets"),
    ("use_rslora", "rslora"),
    ("warmup_steps", "warmup_ratio"),
];

/// Keys of earlier versions that are still read, by serde aliases, and what they are called now.
const ALIASES: [(&str, &str); 2] = [("fresh", "from_scratch"), ("licence", "license")];

/// The name under which the schema knows a key.
pub(crate) fn accepted(key: &str) -> &str {
    let alias = ALIASES.iter().find(|(old, _)| *old == key);
    alias.map_or(key, |(_, name)| name)
}

/// The word of `candidates` that `word` most likely stands for.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace(['-', '_', ' '], "");
    let wanted = plain(word);
    let meant = SYNONYMS.iter().find(|(other, _)| *other == word).map(|(_, ours)| *ours);
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        if meant == Some(candidate) {
            return Some(candidate);
        }
        let score = strsim::normalized_damerau_levenshtein(&wanted, &plain(candidate));
        if score >= 0.6 && best.is_none_or(|(high, _)| score > high) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Words as a reader lists them: `a`, `b` or `c`.
pub(crate) fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_and_other_tools_words_are_understood() {
        let keys = ["learning_rate", "epochs", "batch_size", "gradient_accumulation"];
        assert_eq!(nearest("lerning_rate", keys), Some("learning_rate"));
        assert_eq!(nearest("learningRate", keys), Some("learning_rate"));
        assert_eq!(nearest("lr", keys), Some("learning_rate"));
        assert_eq!(
            nearest("gradient_accumulation_steps", keys),
            Some("gradient_accumulation")
        );
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn synonyms_are_sorted_and_named_once() {
        assert!(SYNONYMS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
