//! Finds each message's content in the rendered conversation, whatever the template writes around it.
//!
//! The conversation is rendered twice: once unchanged, once with private-use characters as markers around the contents
//! of interest. With the markers removed the two texts must be equal; otherwise the template inspected the content, and
//! the markers prove nothing. For templates that trim, the markers are put inside the outer whitespace.

use std::ops::Range;

use super::{Conversation, Template};
use crate::{Message, Result};

/// A rendered conversation.
#[derive(Debug)]
pub(crate) struct RenderedConversation {
    pub(crate) text: String,
    /// For each message, the byte ranges of its content in `text`; empty if it was not requested, is absent, or was not
    /// found.
    pub(crate) contents: Vec<Vec<Range<usize>>>,
}

/// How markers are put around a content.
#[derive(Debug, Clone, Copy)]
struct Marking {
    inside_whitespace: bool,
    skip_blank: bool,
}

/// Supplementary private use areas; the first one that the conversation does not use supplies the markers.
const MARKER_AREAS: [u32; 2] = [0xF_0000, 0x10_0000];
/// Two markers for each message.
const MAX_MESSAGES: usize = 0x7FFE;

/// Renders a conversation and finds the contents of the messages that are `wanted`.
pub(crate) fn render_with_spans(
    template: &Template,
    conversation: Conversation<'_>,
    add_generation_prompt: bool,
    wanted: &[bool],
) -> Result<RenderedConversation> {
    let messages = conversation.messages;
    let text = template.render(conversation, add_generation_prompt)?;
    let nothing = || vec![Vec::new(); messages.len()];
    let area = MARKER_AREAS.into_iter().find(|&area| {
        let used = |text: &str| text.chars().any(|c| marker_number(c, area).is_some());
        !used(&text) && !messages.iter().any(|message| used(&message.content))
    });
    let (Some(area), true) = (area, wanted.contains(&true) && messages.len() <= MAX_MESSAGES) else {
        let contents = nothing();
        return Ok(RenderedConversation { text, contents });
    };
    for marking in markings(messages, wanted) {
        let marked: Vec<String> = messages
            .iter()
            .enumerate()
            .map(|(index, message)| {
                if wanted[index] {
                    mark(&message.content, index, area, marking)
                } else {
                    message.content.clone()
                }
            })
            .collect();
        let contents = marked.iter().map(String::as_str);
        let Ok(rendered) = template.render_with_contents(conversation, contents, add_generation_prompt) else {
            continue;
        };
        if let Some((unmarked, contents)) = unmark(&rendered, area, messages.len())
            && unmarked == text
        {
            return Ok(RenderedConversation { text, contents });
        }
    }
    let contents = nothing();
    Ok(RenderedConversation { text, contents })
}

/// The ways of marking that differ for these messages, the simplest first.
fn markings(messages: &[Message], wanted: &[bool]) -> Vec<Marking> {
    let any = |test: fn(&str) -> bool| {
        messages
            .iter()
            .zip(wanted)
            .any(|(m, &wanted)| wanted && test(&m.content))
    };
    let outer_whitespace = any(|content| content.trim().len() < content.len());
    let blank = any(|content| content.trim().is_empty());
    let mut markings = Vec::new();
    for skip_blank in [false, true] {
        for inside_whitespace in [false, true] {
            if (skip_blank && !blank) || (inside_whitespace && !outer_whitespace) {
                continue;
            }
            markings.push(Marking {
                inside_whitespace,
                skip_blank,
            });
        }
    }
    markings
}

fn mark(content: &str, index: usize, area: u32, marking: Marking) -> String {
    let inner = if marking.inside_whitespace {
        content.trim()
    } else {
        content
    };
    if marking.skip_blank && content.trim().is_empty() {
        return content.to_owned();
    }
    let start = if marking.inside_whitespace {
        content.len() - content.trim_start().len()
    } else {
        0
    };
    let end = start + inner.len();
    let number = 2 * u32::try_from(index).unwrap_or(0);
    let mut marked = String::with_capacity(content.len() + 8);
    marked.push_str(&content[..start]);
    marked.extend(char::from_u32(area + number));
    marked.push_str(inner);
    marked.extend(char::from_u32(area + number + 1));
    marked.push_str(&content[end..]);
    marked
}

fn marker_number(character: char, area: u32) -> Option<usize> {
    let number = u32::from(character).checked_sub(area)?;
    (number < 0xFFFE).then_some(number as usize)
}

/// Removes the markers; `None` if they do not come in pairs.
fn unmark(rendered: &str, area: u32, messages: usize) -> Option<(String, Vec<Vec<Range<usize>>>)> {
    let mut text = String::with_capacity(rendered.len());
    let mut contents = vec![Vec::new(); messages];
    let mut open: Option<(usize, usize)> = None;
    for character in rendered.chars() {
        let Some(number) = marker_number(character, area) else {
            text.push(character);
            continue;
        };
        let index = number / 2;
        open = match (number % 2, open) {
            (0, None) => Some((index, text.len())),
            (1, Some((opened, start))) if opened == index => {
                contents.get_mut(index)?.push(start..text.len());
                None
            }
            _ => return None,
        };
    }
    open.is_none().then_some((text, contents))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failing test may panic")]
    use std::collections::BTreeMap;

    use super::*;

    fn located(source: &str, messages: &[Message]) -> Vec<Vec<String>> {
        let template = Template::compile(source, BTreeMap::new()).unwrap();
        let rendered = render_with_spans(&template, messages.into(), false, &vec![true; messages.len()]).unwrap();
        rendered
            .contents
            .iter()
            .map(|spans| {
                spans
                    .iter()
                    .map(|span| rendered.text[span.clone()].to_owned())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn contents_are_found_as_written() {
        let messages = [
            Message::new("user", " a\n"),
            Message::new("assistant", ""),
            Message::new("user", "a"),
        ];
        let found = located("{% for m in messages %}[{{ m.content }}]{% endfor %}", &messages);
        assert_eq!(found, [[" a\n"], [""], ["a"]]);
    }

    #[test]
    fn contents_are_found_after_trimming() {
        let messages = [Message::new("user", " a\n"), Message::new("user", "\u{f0000}b ")];
        let found = located("{% for m in messages %}[{{ m.content | trim }}]{% endfor %}", &messages);
        assert_eq!(found, [["a"], ["\u{f0000}b"]]);
    }

    #[test]
    fn a_template_that_asks_whether_there_is_content_still_works() {
        let messages = [Message::new("user", "a"), Message::new("assistant", "")];
        let source =
            "{% for m in messages %}{% if m.content %}[{{ m.content }}]{% else %}nothing{% endif %}{% endfor %}";
        assert_eq!(located(source, &messages), [vec!["a"], vec![]]);
    }

    #[test]
    fn a_template_that_rewrites_contents_gives_no_spans() {
        let messages = [Message::new("assistant", "thought</think>b")];
        let source = "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}";
        assert_eq!(located(source, &messages), [Vec::<String>::new()]);
    }
}
