//! `gsm8k`: grade-school word problems, scored by the final number of the answer.

use super::math::{Asked, MathItem, score};
use super::prompt::{Prompt, PromptFormat, PromptStyle};
use super::suite::{EvalOptions, Suite, SuiteProgress, unmeasured};
use crate::model::EvalModel;
use crate::number::reference_answer;
use crate::outcome::{Evaluation, Unit};
use crate::rows::QuestionAnswer;
use crate::{EvaluateError, Result};

/// Word problems with worked answers that end in `#### N`.
#[derive(Debug, Clone)]
pub struct Gsm8kSuite {
    /// The domain measured.
    pub domain: String,
    /// The test split.
    pub questions: Vec<QuestionAnswer>,
    /// How the question is formatted; `shots` of [`EXAMPLES`] come first.
    pub prompt_format: PromptFormat,
}

/// Worked examples in the format of GSM8K's answers, written for this crate; none is from the benchmark.
pub const EXAMPLES: [(&str, &str); 8] = [
    (
        "A gardener plants 4 rows of 6 tulips. Rain washes away 5 of them. How many tulips are left?",
        "She plants 4 * 6 = 24 tulips. After the rain 24 - 5 = 19 are left.\n#### 19",
    ),
    (
        "Omar reads 12 pages a day from Monday to Friday and 20 pages a day at the weekend. How many pages does he read in a week?",
        "From Monday to Friday he reads 5 * 12 = 60 pages. At the weekend he reads 2 * 20 = 40 pages. Together that is 60 + 40 = 100 pages.\n#### 100",
    ),
    (
        "A ticket costs $8 for adults and half as much for children. What do 2 adults and 3 children pay?",
        "A child's ticket costs 8 / 2 = $4. The adults pay 2 * 8 = $16 and the children 3 * 4 = $12. Together they pay 16 + 12 = $28.\n#### 28",
    ),
    (
        "Lena has three times as many stamps as Paul. Together they have 48. How many stamps does Paul have?",
        "Paul's stamps are one part and Lena's are 3 parts, so 48 stamps are 1 + 3 = 4 parts. One part is 48 / 4 = 12 stamps.\n#### 12",
    ),
    (
        "A tank holds 90 litres. A pump fills 15 litres a minute while 3 litres a minute leak out. After how many minutes is the empty tank half full?",
        "Each minute the tank gains 15 - 3 = 12 litres. Half of it is 90 / 2 = 45 litres. That takes 45 / 12 = 3.75 minutes.\n#### 3.75",
    ),
    (
        "A baker sells 30 loaves at $3 each. Flour and wages cost him $54. What is his profit?",
        "He takes in 30 * 3 = $90. His profit is 90 - 54 = $36.\n#### 36",
    ),
    (
        "In a class of 25 pupils, 40% walk to school and the rest take the bus. How many take the bus?",
        "25 * 40 / 100 = 10 pupils walk. So 25 - 10 = 15 take the bus.\n#### 15",
    ),
    (
        "Ines is 7 years older than her brother, who is 5. How old will she be in 10 years?",
        "Ines is 5 + 7 = 12 years old. In 10 years she will be 12 + 10 = 22.\n#### 22",
    ),
];

/// Where a base model starts the next question.
const NEXT: [&str; 1] = ["\nQuestion:"];

impl Gsm8kSuite {
    fn prompt(&self, model: &dyn EvalModel, id: &str, question: &str) -> Result<Prompt> {
        let examples = &EXAMPLES[..self.prompt_format.shots.min(EXAMPLES.len())];
        match self.prompt_format.style {
            PromptStyle::Chat => Prompt::chat(model, id, &self.prompt_format.conversation(examples, question)),
            PromptStyle::Raw => {
                let shots = examples
                    .iter()
                    .map(|(question, answer)| format!("Question: {question}\nAnswer: {answer}\n\n"));
                let text = shots
                    .chain([format!("Question: {question}\nAnswer:")])
                    .collect::<String>();
                Prompt::raw(model, id, &text)
            }
        }
    }
}

impl Suite for Gsm8kSuite {
    fn id(&self) -> &'static str {
        "gsm8k"
    }

    fn domain(&self) -> &str {
        &self.domain
    }

    fn run(
        &self,
        model: &mut dyn EvalModel,
        options: &EvalOptions,
        progress: SuiteProgress<'_>,
    ) -> Result<Vec<Evaluation>> {
        if self.questions.is_empty() {
            let why = "the GSM8K test split is missing";
            return Ok(vec![unmeasured(self, model, Unit::Fraction, why)]);
        }
        let mut items = Vec::new();
        for (index, row) in options.limited(&self.questions).iter().enumerate() {
            let id = format!("gsm8k-{index}");
            let reference = reference_answer(&row.answer).ok_or_else(|| EvaluateError::Item {
                suite: self.id(),
                item: id.clone(),
                message: "the reference answer has no `#### N`; is this GSM8K?".into(),
            })?;
            let prompt = self.prompt(model, &id, &row.question)?;
            items.push(MathItem {
                prompt,
                question: row.question.clone(),
                reference,
            });
        }
        let asked = Asked {
            suite: self.id(),
            domain: &self.domain,
            stop: match self.prompt_format.style {
                PromptStyle::Chat => &[],
                PromptStyle::Raw => &NEXT,
            },
        };
        Ok(vec![score(&asked, model, items, options, progress)?])
    }
}
