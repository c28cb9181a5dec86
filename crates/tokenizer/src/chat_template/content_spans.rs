//! Finds each message's content in the rendered conversation, whatever the template writes around it.
//!
//! The conversation is rendered twice: once unchanged, once with private-use characters as markers around the contents
//! of interest. With the markers removed the two texts must be equal; otherwise the template inspected the content, and
//! the markers prove nothing. For templates that trim, the markers are put inside the outer whitespace. A template may
//! also take a content apart (thoughts from answer) or write calls instead of one: then a single marker, behind the
//! content or before the first call's name, says at least where the turn is.

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
    /// For each message, a place inside its turn where one is known: the end of a content whose beginning was rewritten,
    /// or the first call's name.
    pub(crate) anchors: Vec<Option<usize>>,
}

/// How markers are put around a content.
#[derive(Debug, Clone, Copy)]
struct Marking {
    inside_whitespace: bool,
    skip_blank: bool,
    calls: bool,
}

/// Supplementary private use areas; the first one that the conversation does not use supplies the markers.
const MARKER_AREAS: [u32; 2] = [0xF_0000, 0x10_0000];
/// Markers of one message: before and behind its content, and before its first call's name.
const MARKERS: usize = 3;
const MAX_MESSAGES: usize = 0xFFFE / MARKERS;

/// Renders a conversation and finds the contents of the messages that are `wanted`.
pub(crate) fn render_with_spans(
    template: &Template,
    conversation: Conversation<'_>,
    add_generation_prompt: bool,
    wanted: &[bool],
) -> Result<RenderedConversation> {
    let messages = conversation.messages;
    let text = template.render(conversation, add_generation_prompt)?;
    let unknown = |text: String| RenderedConversation {
        text,
        contents: vec![Vec::new(); messages.len()],
        anchors: vec![None; messages.len()],
    };
    let area = MARKER_AREAS.into_iter().find(|&area| {
        let used = |text: &str| text.chars().any(|c| marker_number(c, area).is_some());
        !used(&text) && !messages.iter().any(|message| used(&message.content))
    });
    let (Some(area), true) = (area, wanted.contains(&true) && messages.len() <= MAX_MESSAGES) else {
        return Ok(unknown(text));
    };
    for marking in markings(messages, wanted) {
        let mut marked = messages.to_vec();
        for (index, message) in marked.iter_mut().enumerate().filter(|(index, _)| wanted[*index]) {
            mark(message, index, area, marking);
        }
        let marked = Conversation {
            messages: &marked,
            ..conversation
        };
        let Ok(rendered) = template.render(marked, add_generation_prompt) else {
            continue;
        };
        if let Some(rendered) = unmark(&rendered, area, messages.len())
            && rendered.text == text
        {
            return Ok(rendered);
        }
    }
    Ok(unknown(text))
}

/// The ways of marking that differ for these messages, the simplest first.
fn markings(messages: &[Message], wanted: &[bool]) -> Vec<Marking> {
    let any = |test: fn(&Message) -> bool| messages.iter().zip(wanted).any(|(m, &wanted)| wanted && test(m));
    let outer_whitespace = any(|message| message.content.trim().len() < message.content.len());
    let blank = any(|message| message.content.trim().is_empty());
    let has_calls = any(|message| !message.tool_calls.is_empty());
    let mut markings = Vec::new();
    for calls in [true, false] {
        for skip_blank in [false, true] {
            for inside_whitespace in [false, true] {
                if (skip_blank && !blank) || (inside_whitespace && !outer_whitespace) || (calls && !has_calls) {
                    continue;
                }
                markings.push(Marking {
                    inside_whitespace,
                    skip_blank,
                    calls,
                });
            }
        }
    }
    markings
}

fn mark(message: &mut Message, index: usize, area: u32, marking: Marking) {
    let first = area + u32::try_from(MARKERS * index).unwrap_or(0);
    message.content = mark_content(&message.content, first, marking);
    if let (Some(call), true) = (message.tool_calls.first_mut(), marking.calls)
        && let Some(marker) = char::from_u32(first + 2)
    {
        call.name.insert(0, marker);
    }
}

/// The content between the markers `first` and `first + 1`.
fn mark_content(content: &str, first: u32, marking: Marking) -> String {
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
    let mut marked = String::with_capacity(content.len() + 8);
    marked.push_str(&content[..start]);
    marked.extend(char::from_u32(first));
    marked.push_str(inner);
    marked.extend(char::from_u32(first + 1));
    marked.push_str(&content[end..]);
    marked
}

fn marker_number(character: char, area: u32) -> Option<usize> {
    let number = u32::from(character).checked_sub(area)?;
    (number < 0xFFFE).then_some(number as usize)
}

/// Removes the markers; `None` if one of them says nothing: a beginning without its end, or a second place of one turn.
fn unmark(rendered: &str, area: u32, messages: usize) -> Option<RenderedConversation> {
    let mut text = String::with_capacity(rendered.len());
    let mut contents = vec![Vec::new(); messages];
    let mut anchors: Vec<Option<usize>> = vec![None; messages];
    let mut open: Option<(usize, usize)> = None;
    for character in rendered.chars() {
        let Some(number) = marker_number(character, area) else {
            text.push(character);
            continue;
        };
        let index = number / MARKERS;
        open = match (number % MARKERS, open) {
            (0, None) => Some((index, text.len())),
            (1, Some((opened, start))) if opened == index => {
                contents.get_mut(index)?.push(start..text.len());
                None
            }
            (1 | 2, None) => match anchors.get_mut(index)?.replace(text.len()) {
                // The content comes first, and the calls of its turn follow.
                Some(_) if number % MARKERS == 1 => return None,
                _ => None,
            },
            _ => return None,
        };
    }
    open.is_none().then_some(RenderedConversation {
        text,
        contents,
        anchors,
    })
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
