//! Detokenizes a completion and releases text that cannot be part of a stop string.
//!
//! A token is held back while any of its text could still belong to a stop string, and dropped if it does. Token
//! boundaries never change the text: the stop string that completes first ends it, the longer one if two complete
//! together.

use std::collections::VecDeque;

use synapse_tokenizer::Detokenizer;

use crate::{Token, TokenLogprob};

/// The text of one completion as it grows.
#[derive(Debug)]
pub(crate) struct TextStream {
    detokenizer: Detokenizer,
    held: HeldBack,
}

impl TextStream {
    pub(crate) fn new(detokenizer: Detokenizer, stops: &[String]) -> Self {
        Self {
            detokenizer,
            held: HeldBack {
                stops: stops.to_vec(),
                tokens: VecDeque::new(),
            },
        }
    }

    /// Adds a sampled token, which has no text yet. Returns the tokens that are released and whether a stop string
    /// completed. With `last` nothing is held back, since no token will follow.
    pub(crate) fn push(&mut self, mut token: Token, last: bool) -> (Vec<Token>, bool) {
        token.text = self.detokenizer.push(token.id).unwrap_or_default();
        if last {
            token.text.extend(self.detokenizer.finish());
        }
        let (mut released, stopped) = self.held.push(token);
        if last && !stopped {
            released.extend(self.held.tokens.drain(..));
        }
        (released, stopped)
    }

    /// Adds the stop token that ends the completion and releases everything that was held back.
    pub(crate) fn end(&mut self, id: u32, logprob: Option<TokenLogprob>) -> Vec<Token> {
        self.held.tokens.push_back(Token {
            id,
            text: self.detokenizer.finish().unwrap_or_default(),
            logprob,
        });
        self.held.tokens.drain(..).collect()
    }
}

/// Tokens whose text may be the beginning of a stop string.
#[derive(Debug)]
struct HeldBack {
    stops: Vec<String>,
    tokens: VecDeque<Token>,
}

impl HeldBack {
    fn push(&mut self, token: Token) -> (Vec<Token>, bool) {
        self.tokens.push_back(token);
        if self.stops.is_empty() {
            return (self.tokens.drain(..).collect(), false);
        }
        let text: String = self.tokens.iter().map(|token| token.text.as_str()).collect();
        if let Some(start) = first_stop(&text, &self.stops) {
            let released = self.release_until(start, true);
            self.tokens.clear();
            return (released, true);
        }
        let safe = text.len() - longest_beginning(&text, &self.stops);
        (self.release_until(safe, false), false)
    }

    /// Takes out the tokens that end at or before byte `end`; with `cut`, also the part before `end` of the
    /// token it falls into.
    fn release_until(&mut self, end: usize, cut: bool) -> Vec<Token> {
        let mut released = Vec::new();
        let mut start = 0;
        while let Some(mut token) = self.tokens.pop_front() {
            let stop = start + token.text.len();
            // A token without text at the boundary may be part of a character that belongs to a stop string.
            let undecided = start == end && token.text.is_empty();
            if stop <= end && !undecided {
                released.push(token);
            } else if cut && start < end {
                token.text.truncate(end - start);
                released.push(token);
                break;
            } else {
                self.tokens.push_front(token);
                break;
            }
            start = stop;
        }
        released
    }
}

/// Where the stop string begins that completes first in `text`; the longest of those completing together.
fn first_stop(text: &str, stops: &[String]) -> Option<usize> {
    stops
        .iter()
        .filter_map(|stop| text.find(stop.as_str()).map(|start| (start + stop.len(), start)))
        .min()
        .map(|(_, start)| start)
}

/// Bytes at the end of `text` that could be the beginning of a stop string.
fn longest_beginning(text: &str, stops: &[String]) -> usize {
    stops
        .iter()
        .flat_map(|stop| stop.char_indices().map(|(length, _)| &stop[..length]))
        .filter(|beginning| text.ends_with(beginning))
        .map(str::len)
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the pieces; gives the text shown after each and whether a stop string completed.
    fn shown(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut held = HeldBack {
            stops: stops.iter().map(|stop| (*stop).to_owned()).collect(),
            tokens: VecDeque::new(),
        };
        let mut texts = Vec::new();
        for (id, piece) in (0..).zip(pieces) {
            let (released, stopped) = held.push(Token {
                id,
                text: (*piece).to_owned(),
                logprob: None,
            });
            texts.push(released.into_iter().map(|token| token.text).collect());
            if stopped {
                return (texts, true);
            }
        }
        (texts, false)
    }

    #[test]
    fn a_stop_string_across_tokens_never_shows() {
        let (texts, stopped) = shown(&["STOP"], &["a", "bS", "TO", "P!"]);
        assert_eq!(texts, ["a", "", "", "b"]);
        assert!(stopped);
    }

    #[test]
    fn text_that_turns_out_harmless_is_shown() {
        let (texts, stopped) = shown(&["STOP"], &["S", "T", "x", "y"]);
        assert_eq!(texts, ["", "", "STx", "y"]);
        assert!(!stopped);
    }

    #[test]
    fn a_restarting_beginning_is_still_found() {
        assert_eq!(
            shown(&["aab"], &["a", "a", "a", "b"]),
            (vec![String::new(), String::new(), "a".into(), String::new()], true)
        );
    }

    #[test]
    fn tokens_of_the_stop_string_are_dropped_and_empty_ones_before_it_kept() {
        let mut held = HeldBack {
            stops: vec!["ab".into()],
            tokens: VecDeque::new(),
        };
        let mut ids = Vec::new();
        for (id, text) in [(0, ""), (1, "x"), (2, "a"), (3, ""), (4, "b")] {
            let (released, _) = held.push(Token {
                id,
                text: text.into(),
                logprob: None,
            });
            ids.extend(released.into_iter().map(|token| token.id));
        }
        assert_eq!(ids, [0, 1]);
    }

    #[test]
    fn stops_of_several_bytes_a_character() {
        let (texts, stopped) = shown(&["。終"], &["好", "。", "終"]);
        assert_eq!(texts, ["好", "", ""]);
        assert!(stopped);
    }

    proptest! {
        /// However the text is cut into tokens, the same part of it is shown.
        #[test]
        fn token_boundaries_change_nothing(
            text in "[abé]{0,24}",
            cuts in proptest::collection::vec(any::<bool>(), 24),
            stops in proptest::collection::vec("[abé]{1,4}", 1..4),
        ) {
            let characters: Vec<String> = text.chars().map(String::from).collect();
            let mut pieces: Vec<String> = vec![String::new()];
            for (character, cut) in characters.iter().zip(&cuts) {
                if *cut { pieces.push(String::new()); }
                if let Some(last) = pieces.last_mut() { last.push_str(character); }
            }
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let run = |pieces: &[String]| {
                let (texts, stopped) = shown(&stops, &pieces.iter().map(String::as_str).collect::<Vec<_>>());
                (texts.concat(), stopped)
            };
            let (cut_text, cut_stopped) = run(&pieces);
            let (each_text, each_stopped) = run(&characters);
            prop_assert_eq!(cut_stopped, each_stopped);
            if cut_stopped {
                prop_assert_eq!(&cut_text, &each_text);
                prop_assert!(text.starts_with(&cut_text));
                prop_assert!(!stops.iter().any(|stop| cut_text.contains(stop)));
            } else {
                prop_assert!(text.starts_with(&cut_text), "what is shown is a prefix of the text");
            }
        }
    }
}
