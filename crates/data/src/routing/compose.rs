//! Builds one routing prompt: fills templates or takes real requests, joins them, and varies how they are written.

use super::phrases::{self, Filler, Phrases};
use super::requests::Half;
use super::{Kind, Split};
use crate::random::Random;

/// The specialists' domains.
const DOMAINS: [&str; 3] = ["math", "code", "general"];
/// Templates within templates are not deeper than this.
const DEEPEST: usize = 4;

pub(super) struct Composer<'r> {
    pub(super) split: Split,
    /// Real requests of this split.
    pub(super) real: &'r Half,
}

impl Composer<'_> {
    /// One prompt that deserves this label, and what it is made of.
    pub(super) fn prompt(&self, label: &str, random: &mut Random) -> (String, Kind) {
        // More than half of what is trained on is real, and half of what is measured.
        let real = match self.split {
            Split::Train => random.below(5) < 3,
            Split::HeldOut => random.once_in(2),
        };
        real.then(|| self.real_prompt(label, random)).flatten().map_or_else(
            || (self.made_up(label, random), Kind::Template),
            |prompt| (prompt, Kind::Real),
        )
    }

    /// A prompt of templates alone.
    fn made_up(&self, label: &str, random: &mut Random) -> String {
        match label {
            "none" => self.no_request(random),
            "several" => {
                let (first, second) = different_domains(random);
                let (first, second) = (self.request(first, random), self.request(second, random));
                vary(self.join(&first, &second, random), random)
            }
            // Two requests of one domain are still that domain's.
            domain if self.repeats(random) => {
                let (first, second) = (self.request(domain, random), self.request(domain, random));
                vary(self.join(&first, &second, random), random)
            }
            domain => vary(self.request(domain, random), random),
        }
    }

    /// A prompt of real requests; none where there are none.
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
                // Mostly as it was written.
                Some(if random.once_in(4) {
                    vary(request, random)
                } else {
                    request
                })
            }
        }
    }

    /// Whether a prompt of one domain holds two of its requests. In training often enough that two requests are nearly as
    /// often one domain's as two domains': else their number alone would say `several`.
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
        // One pass: what stands inside a request is no slot.
        let mut joined = String::new();
        let mut rest = random.pick(self.column(&phrases::JOINS));
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

    fn column(&self, phrases: &Phrases) -> &'static [&'static str] {
        match self.split {
            Split::Train => phrases.train,
            Split::HeldOut => phrases.held_out,
        }
    }

    /// One request of a specialist's domain, from a template.
    fn request(&self, domain: &str, random: &mut Random) -> String {
        let templates = match domain {
            "math" => &phrases::MATH,
            "code" => &phrases::CODE,
            _ => &phrases::GENERAL,
        };
        fill(random.pick(self.column(templates)), random, 0)
    }

    /// Something that no specialist should answer.
    fn no_request(&self, random: &mut Random) -> String {
        match random.below(5) {
            0 => plainly(fill(random.pick(self.column(&phrases::SMALL_TALK)), random, 0), random),
            1 => plainly(fill(random.pick(self.column(&phrases::STATEMENTS)), random, 0), random),
            2 => vary(fill(random.pick(self.column(&phrases::UNSAFE)), random, 0), random),
            3 => self.gibberish(random),
            _ => self.fragments(random),
        }
    }

    /// Keys hit at random, or punctuation alone.
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

    /// Words that make no sentence, or nothing at all.
    fn fragments(&self, random: &mut Random) -> String {
        if self.split == Split::Train && random.once_in(200) {
            return String::new();
        }
        let words = self.column(&phrases::LOOSE_WORDS);
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
        match phrases::filler(slot) {
            Some(Filler::Words(words)) if depth < DEEPEST => {
                filled.push_str(&fill(random.pick(words), random, depth + 1));
            }
            Some(Filler::Number(from, to)) => {
                filled.push_str(&(from + random.below(to - from + 1)).to_string());
            }
            _ => filled.push_str(slot),
        }
        rest = &rest[start + length + 1..];
    }
    filled.push_str(rest);
    filled
}

/// A request as people write it: with a word before or after, in lower case, without its last stop.
fn vary(mut request: String, random: &mut Random) -> String {
    if random.once_in(4) {
        request.insert_str(0, random.pick(phrases::OPENINGS));
    }
    if random.once_in(6) {
        request.push_str(random.pick(phrases::CLOSINGS));
    }
    plainly(request, random)
}

fn plainly(mut text: String, random: &mut Random) -> String {
    if random.once_in(6) {
        text = text.to_lowercase();
    }
    if random.once_in(8) {
        text.truncate(text.trim_end_matches(['.', '?', '!']).len());
    }
    text
}

/// A request to be used inside a sentence: without its stop, and without a capital that only begins a sentence.
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
        for phrases in [
            &phrases::MATH,
            &phrases::CODE,
            &phrases::GENERAL,
            &phrases::SMALL_TALK,
            &phrases::STATEMENTS,
            &phrases::UNSAFE,
        ] {
            for template in phrases.train.iter().chain(phrases.held_out) {
                let slots = template.split('{').skip(1).filter_map(|rest| rest.split('}').next());
                for slot in slots {
                    assert!(phrases::filler(slot).is_some(), "{slot} in {template}");
                }
                assert!(!fill(template, &mut random, 0).contains(['{', '}']), "{template}");
            }
            assert!(
                phrases
                    .train
                    .iter()
                    .all(|template| !phrases.held_out.contains(template))
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
