//! Extracting the program from an answer that also has prose.

/// The source code of an answer: the first fenced block that defines `function` (else the first block), or, without a
/// fence, the lines from the first that starts a Python statement to the last that still belongs to one.
pub(crate) fn python_source(answer: &str, function: &str) -> String {
    let blocks = fenced_blocks(answer);
    let definition = format!("def {function}");
    let block = blocks
        .iter()
        .find(|block| block.contains(&definition))
        .or(blocks.first());
    block.map_or_else(|| unfenced(answer), |block| (*block).to_owned())
}

/// Contents of ``` fences; an unclosed one runs to the end.
fn fenced_blocks(answer: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    let mut rest = answer;
    while let Some(open) = rest.find("```") {
        let after = &rest[open + 3..];
        // The info string ("python") is the rest of the line; an inline fence has no line break.
        let start = after.find('\n').map_or(after.len(), |end| end + 1);
        let body = &after[start..];
        let close = body.find("```");
        blocks.push(&body[..close.unwrap_or(body.len())]);
        match close {
            Some(close) => rest = &body[close + 3..],
            None => break,
        }
    }
    blocks
}

fn unfenced(answer: &str) -> String {
    let opens = |line: &str| {
        ["def ", "import ", "from ", "class ", "@", "async def "]
            .iter()
            .any(|word| line.starts_with(word))
    };
    let lines = answer.lines().skip_while(|line| !opens(line));
    let belongs = |line: &&str| {
        line.is_empty()
            || opens(line)
            || line.starts_with([' ', '\t', '#', ')', ']', '}'])
            || line.split_once(" = ").is_some()
    };
    lines.take_while(belongs).map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_every_usual_form() {
        let source = "def f(x):\n    return x\n";
        for answer in [
            "def f(x):\n    return x\n",
            "Sure!\n```python\ndef f(x):\n    return x\n```\nThis returns x.",
            "```\ndef f(x):\n    return x\n",
            "First, an example:\n```\nf(3)\n```\nand now\n```py\ndef f(x):\n    return x\n```",
            "Here it is:\ndef f(x):\n    return x\nThis function returns x.",
        ] {
            assert_eq!(python_source(answer, "f"), source, "{answer}");
        }
        assert_eq!(python_source("I cannot do that.", "f"), "");
    }
}
