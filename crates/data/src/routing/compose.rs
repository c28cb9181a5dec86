//! Builds one routing prompt: fills templates or takes real requests, joins them, and varies how they are written.

use super::phrases::{PHRASES, Templates};
use super::requests::Half;
use super::{PromptKind, Split};
use crate::random::Random;

/// The specialists' domains.
const DOMAINS: [&str; 3] = ["math", "code", "general"];
/// Templates within templates are at most this deep.
const MAX_DEPTH: usize = 4;

pub(super) struct Composer<'r> {
    pub(super) split: Split,
    /// Real requests of this split.
    pub(super) real: &'r Half,
}

impl Composer<'_> {
    /// One prompt with this label, and its kind.
    pub(super) fn prompt(&self, label: &str, random: &mut Random) -> (String, PromptKind) {
        // More than half of the training prompts are real, and half of the held-out ones.
        let real = match self.split {
            Split::Train => random.below(5) < 3,
            Split::HeldOut => random.once_in(2),
        };
        real.then(|| self.real_prompt(label, random)).flatten().map_or_else(
            || (self.template_prompt(label, random), PromptKind::Template),
            |prompt| (prompt, PromptKind::Real),
        )
    }

    /// A prompt from templates alone.
    fn template_prompt(&self, label: &str, random: &mut Random) -> String {
        match label {
            "none" => self.no_request(random),
            "several" => {
                let (first, second) = different_domains(random);
                let (first, second) = (self.request(first, random), self.request(second, random));
                vary(self.join(&first, &second, random), random)
            }
            // Two requests of one domain belong to that domain.
            domain if self.repeats(random) => {
                let (first, second) = (self.request(domain, random), self.request(domain, random));
                vary(self.join(&first, &second, random), random)
            }
            domain => vary(self.request(domain, random), random),
        }
    }

    /// A prompt from real requests, if there are any.
    fn real_prompt(&self, label: &str, random: &mut Random) -> Option<String> {
        match label {
            "none" => self.real.no_request(random),
            "several" => {
                let (first, second) = different_domains(random);
                let first = self.real.pick_short(first, random)?;
                let second = self.real.pick_short(second, random)?;
                Some(self.join(first, second, random))
            }
            domain if self.repeats(random) => {
                let first = self.real.pick_short(domain, random)?;
                let second = self.real.pick_short(domain, random)?;
                Some(self.join(first, second, random))
            }
            domain => {
                let request = self.real.pick(domain, random)?.to_owned();
                // Mostly unchanged.
                Some(if random.once_in(4) {
                    vary(request, random)
                } else {
                    request
                })
            }
        }
    }

    /// Whether a prompt of one domain has two of its requests. In training, two requests are nearly as often from one
    /// domain as from two; otherwise their number alone would predict `several`.
    fn repeats(&self, random: &mut Random) -> bool {
        random.once_in(match self.split {
            Split::Train => 4,
            Split::HeldOut => 8,
        })
    }

    fn join(&self, first: &str, second: &str, random: &mut Random) -> String {
        let parts = [
            ("{1}", first.to_owned()),
            ("{2}", second.to_owned()),
            ("{1l}", fragment(first)),
            ("{2l}", fragment(second)),
        ];
        // One pass, because braces inside a request are not slots.
        let mut joined = String::new();
        let mut rest = random.pick(self.column(&PHRASES.joins));
        while let Some(start) = rest.find('{') {
            joined.push_str(&rest[..start]);
            rest = &rest[start..];
            let Some((slot, text)) = parts.iter().find(|(slot, _)| rest.starts_with(slot)) else {
                break;
            };
            joined.push_str(text);
            rest = &rest[slot.len()..];
        }
        joined.push_str(rest);
        joined
    }

    fn column(&self, templates: &'static Templates) -> &'static [String] {
        match self.split {
            Split::Train => &templates.train,
            Split::HeldOut => &templates.held_out,
        }
    }

    /// One request of a specialist's domain, from a template.
    fn request(&self, domain: &str, random: &mut Random) -> String {
        let templates = match domain {
            "math" => &PHRASES.math,
            "code" => &PHRASES.code,
            _ => &PHRASES.general,
        };
        fill(random.pick(self.column(templates)), random, 0)
    }

    /// A prompt that no specialist should answer.
    fn no_request(&self, random: &mut Random) -> String {
        match random.below(5) {
            0 => vary_case_and_end(fill(random.pick(self.column(&PHRASES.small_talk)), random, 0), random),
            1 => vary_case_and_end(fill(random.pick(self.column(&PHRASES.statements)), random, 0), random),
            2 => vary(fill(random.pick(self.column(&PHRASES.harmful)), random, 0), random),
            3 => self.gibberish(random),
            _ => self.fragments(random),
        }
    }

    /// Random keystrokes, or punctuation alone.
    fn gibberish(&self, random: &mut Random) -> String {
        let (letters, punctuation): (&[u8], &[u8]) = match self.split {
            Split::Train => (b"asdfghjklqwertzuiop", b".?!-"),
            Split::HeldOut => (b"xcvbnmyqkjhz0123456789", b"#*~_;"),
        };
        let mut draw = |from: &[u8], least: usize, most: usize| -> String {
            let length = least + random.below(most - least + 1);
            (0..length)
                .map(|_| char::from(from[random.below(from.len())]))
                .collect()
        };
        let kind = draw(b"aaaap", 1, 1);
        if kind == "p" {
            return draw(punctuation, 1, 9);
        }
        let words = draw(b"1234", 1, 1).parse().unwrap_or(1);
        (0..words).map(|_| draw(letters, 3, 9)).collect::<Vec<_>>().join(" ")
    }

    /// Words that make no sentence, or an empty prompt.
    fn fragments(&self, random: &mut Random) -> String {
        if self.split == Split::Train && random.once_in(200) {
            return String::new();
        }
        let words = self.column(&PHRASES.loose_words);
        let count = 2 + random.below(4);
        (0..count).map(|_| random.pick(words)).collect::<Vec<_>>().join(" ")
    }
}

/// Two different domains, in either order.
fn different_domains(random: &mut Random) -> (&'static str, &'static str) {
    let first = random.below(DOMAINS.len());
    let second = (first + 1 + random.below(DOMAINS.len() - 1)) % DOMAINS.len();
    (DOMAINS[first], DOMAINS[second])
}

/// Fills a template's `{slots}`.
fn fill(template: &str, random: &mut Random, depth: usize) -> String {
    let mut filled = String::with_capacity(2 * template.len());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let Some(length) = rest[start..].find('}') else {
            break;
        };
        filled.push_str(&rest[..start]);
        let slot = &rest[start + 1..start + length];
        if let Some((from, to)) = PHRASES.numbers.get(slot) {
            filled.push_str(&(from + random.below(to - from + 1)).to_string());
        } else if let Some(words) = PHRASES.words.get(slot).filter(|_| depth < MAX_DEPTH) {
            filled.push_str(&fill(random.pick(words), random, depth + 1));
        } else {
            filled.push_str(slot);
        }
        rest = &rest[start + length + 1..];
    }
    filled.push_str(rest);
    filled
}

/// Varies a request as people do: words before or after it, lower case, no final punctuation.
fn vary(mut request: String, random: &mut Random) -> String {
    if random.once_in(4) {
        request.insert_str(0, random.pick(&PHRASES.openings));
    }
    if random.once_in(6) {
        request.push_str(random.pick(&PHRASES.closings));
    }
    vary_case_and_end(request, random)
}

fn vary_case_and_end(mut text: String, random: &mut Random) -> String {
    if random.once_in(6) {
        text = text.to_lowercase();
    }
    if random.once_in(8) {
        text.truncate(text.trim_end_matches(['.', '?', '!']).len());
    }
    text
}

/// A request for use inside a sentence: without final punctuation, and without a capital that only begins a sentence.
fn fragment(request: &str) -> String {
    let request = request.trim_end_matches(['.', '?', '!']);
    let first_word = request.split(' ').next().unwrap_or_default();
    let keep = first_word.starts_with("I'") || first_word == "I" || first_word.chars().skip(1).any(char::is_uppercase);
    let mut characters = request.chars();
    match characters.next() {
        Some(first) if !keep => first.to_lowercase().chain(characters).collect(),
        _ => request.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_of_every_template_has_fillers() {
        let mut random = Random::new(0, "test");
        for templates in [
            &PHRASES.math,
            &PHRASES.code,
            &PHRASES.general,
            &PHRASES.small_talk,
            &PHRASES.statements,
            &PHRASES.harmful,
        ] {
            for template in templates.train.iter().chain(&templates.held_out) {
                let slots = template.split('{').skip(1).filter_map(|rest| rest.split('}').next());
                for slot in slots {
                    let known = PHRASES.numbers.contains_key(slot) || PHRASES.words.contains_key(slot);
                    assert!(known, "{slot} in {template}");
                }
                assert!(!fill(template, &mut random, 0).contains(['{', '}']), "{template}");
            }
            assert!(
                templates
                    .train
                    .iter()
                    .all(|template| !templates.held_out.contains(template))
            );
        }
    }

    #[test]
    fn fragments_fit_into_sentences() {
        assert_eq!(fragment("Write a poem."), "write a poem");
        assert_eq!(fragment("I need a loop."), "I need a loop");
        assert_eq!(fragment("SQL or not?"), "SQL or not");
    }
}
