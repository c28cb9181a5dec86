//! Small facts and word forms, and a little conversation.

use crate::random::Random;
use crate::template::{Split, article, capitalized, fill};

/// What relates a subject to its answer.
struct Relation {
    /// What is asked for, `{x}` being the subject.
    asked: &'static [&'static str],
    /// The specialist's sentence.
    sentence: &'static str,
    pairs: &'static [(&'static str, &'static str)],
}

/// Relations with fewer pairs than this are known as a whole.
const SMALL: usize = 15;

impl Relation {
    /// A pair, in `rare` of 100 cases one of the fifth that only the specialist learns.
    fn pair(&self, random: &mut Random, rare: usize) -> &'static (&'static str, &'static str) {
        if self.pairs.len() < SMALL {
            return random.pick(self.pairs);
        }
        let wanted = random.percent(rare);
        loop {
            let index = random.below(self.pairs.len());
            if (index % 5 == 4) == wanted {
                return &self.pairs[index];
            }
        }
    }
}

/// How a thing is asked for. With which relation a frame may stand is the split's business.
const FRAMES: [&str; 8] = [
    "What is {w}?",
    "Tell me {w}.",
    "Do you know {w}?",
    "Name {w}.",
    "I would like to know {w}.",
    "Can you tell me {w}?",
    "Please name {w}.",
    "Say what is {w}.",
];

const CAPITALS: [(&str, &str); 32] = [
    ("France", "Paris"),
    ("Germany", "Berlin"),
    ("Italy", "Rome"),
    ("Spain", "Madrid"),
    ("Portugal", "Lisbon"),
    ("Austria", "Vienna"),
    ("Poland", "Warsaw"),
    ("Greece", "Athens"),
    ("Norway", "Oslo"),
    ("Sweden", "Stockholm"),
    ("Finland", "Helsinki"),
    ("Denmark", "Copenhagen"),
    ("Ireland", "Dublin"),
    ("Hungary", "Budapest"),
    ("Belgium", "Brussels"),
    ("Russia", "Moscow"),
    ("Japan", "Tokyo"),
    ("China", "Beijing"),
    ("India", "New Delhi"),
    ("Egypt", "Cairo"),
    ("Kenya", "Nairobi"),
    ("Canada", "Ottawa"),
    ("Cuba", "Havana"),
    ("Peru", "Lima"),
    ("Chile", "Santiago"),
    ("Turkey", "Ankara"),
    ("Iran", "Tehran"),
    ("Iraq", "Baghdad"),
    ("Nepal", "Kathmandu"),
    ("Thailand", "Bangkok"),
    ("Vietnam", "Hanoi"),
    ("Ukraine", "Kyiv"),
];

/// Both directions are true.
const OPPOSITES: [(&str, &str); 28] = [
    ("hot", "cold"),
    ("big", "small"),
    ("fast", "slow"),
    ("old", "young"),
    ("high", "low"),
    ("light", "dark"),
    ("full", "empty"),
    ("rich", "poor"),
    ("wet", "dry"),
    ("hard", "soft"),
    ("early", "late"),
    ("open", "closed"),
    ("happy", "sad"),
    ("strong", "weak"),
    ("long", "short"),
    ("loud", "quiet"),
    ("clean", "dirty"),
    ("thick", "thin"),
    ("near", "far"),
    ("deep", "shallow"),
    ("left", "right"),
    ("up", "down"),
    ("true", "false"),
    ("good", "bad"),
    ("wide", "narrow"),
    ("sweet", "sour"),
    ("cheap", "expensive"),
    ("easy", "difficult"),
];

const PLURALS: [(&str, &str); 30] = [
    ("child", "children"),
    ("mouse", "mice"),
    ("foot", "feet"),
    ("tooth", "teeth"),
    ("man", "men"),
    ("woman", "women"),
    ("goose", "geese"),
    ("leaf", "leaves"),
    ("wolf", "wolves"),
    ("knife", "knives"),
    ("city", "cities"),
    ("baby", "babies"),
    ("box", "boxes"),
    ("bus", "buses"),
    ("dog", "dogs"),
    ("tree", "trees"),
    ("house", "houses"),
    ("potato", "potatoes"),
    ("sheep", "sheep"),
    ("fish", "fish"),
    ("ox", "oxen"),
    ("lady", "ladies"),
    ("dish", "dishes"),
    ("half", "halves"),
    ("story", "stories"),
    ("car", "cars"),
    ("glass", "glasses"),
    ("day", "days"),
    ("key", "keys"),
    ("shelf", "shelves"),
];

const COLORS: [(&str, &str); 20] = [
    ("a banana", "yellow"),
    ("the sky", "blue"),
    ("grass", "green"),
    ("snow", "white"),
    ("coal", "black"),
    ("blood", "red"),
    ("a carrot", "orange"),
    ("chocolate", "brown"),
    ("a lemon", "yellow"),
    ("milk", "white"),
    ("an elephant", "grey"),
    ("a frog", "green"),
    ("a cherry", "red"),
    ("the sea", "blue"),
    ("a raven", "black"),
    ("a flamingo", "pink"),
    ("a plum", "purple"),
    ("sand", "yellow"),
    ("a tomato", "red"),
    ("ash", "grey"),
];

const PAST_TENSES: [(&str, &str); 28] = [
    ("go", "went"),
    ("see", "saw"),
    ("eat", "ate"),
    ("run", "ran"),
    ("take", "took"),
    ("give", "gave"),
    ("write", "wrote"),
    ("sing", "sang"),
    ("swim", "swam"),
    ("come", "came"),
    ("find", "found"),
    ("buy", "bought"),
    ("think", "thought"),
    ("bring", "brought"),
    ("walk", "walked"),
    ("play", "played"),
    ("make", "made"),
    ("say", "said"),
    ("know", "knew"),
    ("fly", "flew"),
    ("drink", "drank"),
    ("begin", "began"),
    ("sleep", "slept"),
    ("break", "broke"),
    ("speak", "spoke"),
    ("catch", "caught"),
    ("jump", "jumped"),
    ("ask", "asked"),
];

const KINDS: [(&str, &str); 32] = [
    ("dog", "animal"),
    ("cat", "animal"),
    ("horse", "animal"),
    ("wolf", "animal"),
    ("rose", "flower"),
    ("tulip", "flower"),
    ("daisy", "flower"),
    ("apple", "fruit"),
    ("pear", "fruit"),
    ("banana", "fruit"),
    ("carrot", "vegetable"),
    ("potato", "vegetable"),
    ("onion", "vegetable"),
    ("hammer", "tool"),
    ("saw", "tool"),
    ("drill", "tool"),
    ("piano", "instrument"),
    ("violin", "instrument"),
    ("drum", "instrument"),
    ("flute", "instrument"),
    ("car", "vehicle"),
    ("bus", "vehicle"),
    ("truck", "vehicle"),
    ("eagle", "bird"),
    ("raven", "bird"),
    ("owl", "bird"),
    ("chair", "piece of furniture"),
    ("table", "piece of furniture"),
    ("oak", "tree"),
    ("pine", "tree"),
    ("shirt", "piece of clothing"),
    ("coat", "piece of clothing"),
];

const YOUNG: [(&str, &str); 14] = [
    ("dog", "puppy"),
    ("cat", "kitten"),
    ("cow", "calf"),
    ("sheep", "lamb"),
    ("horse", "foal"),
    ("hen", "chick"),
    ("bear", "cub"),
    ("duck", "duckling"),
    ("goat", "kid"),
    ("goose", "gosling"),
    ("swan", "cygnet"),
    ("pig", "piglet"),
    ("deer", "fawn"),
    ("frog", "tadpole"),
];

const DAYS: [(&str, &str); 7] = [
    ("Monday", "Tuesday"),
    ("Tuesday", "Wednesday"),
    ("Wednesday", "Thursday"),
    ("Thursday", "Friday"),
    ("Friday", "Saturday"),
    ("Saturday", "Sunday"),
    ("Sunday", "Monday"),
];

const MONTHS: [(&str, &str); 12] = [
    ("January", "February"),
    ("February", "March"),
    ("March", "April"),
    ("April", "May"),
    ("May", "June"),
    ("June", "July"),
    ("July", "August"),
    ("August", "September"),
    ("September", "October"),
    ("October", "November"),
    ("November", "December"),
    ("December", "January"),
];

const NUMBERS: [(&str, &str); 20] = [
    ("1", "one"),
    ("2", "two"),
    ("3", "three"),
    ("4", "four"),
    ("5", "five"),
    ("6", "six"),
    ("7", "seven"),
    ("8", "eight"),
    ("9", "nine"),
    ("10", "ten"),
    ("11", "eleven"),
    ("12", "twelve"),
    ("13", "thirteen"),
    ("14", "fourteen"),
    ("15", "fifteen"),
    ("16", "sixteen"),
    ("17", "seventeen"),
    ("18", "eighteen"),
    ("19", "nineteen"),
    ("20", "twenty"),
];

const RELATIONS: [Relation; 10] = [
    Relation {
        asked: &["the capital of {x}", "the capital city of {x}"],
        sentence: "The capital of {x} is {y}.",
        pairs: &CAPITALS,
    },
    Relation {
        asked: &["the opposite of {x}", "a word that means the opposite of {x}"],
        sentence: "The opposite of {x} is {y}.",
        pairs: &OPPOSITES,
    },
    Relation {
        asked: &["the plural of {x}", "the plural form of {x}"],
        sentence: "The plural of {x} is {y}.",
        pairs: &PLURALS,
    },
    Relation {
        asked: &["the colour of {x}", "the usual colour of {x}"],
        sentence: "The colour of {x} is {y}.",
        pairs: &COLORS,
    },
    Relation {
        asked: &["the past tense of {x}", "the past form of {x}"],
        sentence: "The past tense of {x} is {y}.",
        pairs: &PAST_TENSES,
    },
    Relation {
        asked: &["the kind of thing that {a} {x} is", "the group that {a} {x} belongs to"],
        sentence: "{A} {x} is {b} {y}.",
        pairs: &KINDS,
    },
    Relation {
        asked: &["the name of a young {x}", "the word for a young {x}"],
        sentence: "A young {x} is called a {y}.",
        pairs: &YOUNG,
    },
    Relation {
        asked: &["the day after {x}", "the day that follows {x}"],
        sentence: "The day after {x} is {y}.",
        pairs: &DAYS,
    },
    Relation {
        asked: &["the month after {x}", "the month that follows {x}"],
        sentence: "The month after {x} is {y}.",
        pairs: &MONTHS,
    },
    Relation {
        asked: &["the word for the number {x}", "the number {x} as a word"],
        sentence: "The number {x} is written {y}.",
        pairs: &NUMBERS,
    },
];

/// Which relations also hold from right to left.
const SYMMETRIC: [usize; 1] = [1];

/// What people say around their questions, with a fitting answer.
pub(crate) const CHAT: [(&str, &str); 24] = [
    ("Hello!", "Hello! How can I help you?"),
    ("Hello", "Hello! How can I help you?"),
    ("Hi!", "Hello! How can I help you?"),
    ("Hi", "Hello! How can I help you?"),
    ("Hi there!", "Hello! How can I help you?"),
    ("Hey!", "Hello! How can I help you?"),
    ("Good morning!", "Good morning! How can I help you?"),
    ("Good evening!", "Good evening! How can I help you?"),
    ("How are you?", "I am well, thank you. How can I help you?"),
    ("Who are you?", "I am Synapse, a very small language model."),
    ("What are you?", "I am Synapse, a very small language model."),
    ("What is your name?", "My name is Synapse."),
    (
        "What can you do?",
        "I can solve small sums, write short Python functions and answer simple questions.",
    ),
    ("Can you help me?", "Yes, of course. What would you like to know?"),
    ("I have a question.", "Please ask me."),
    ("Thank you!", "You are welcome!"),
    ("Thank you", "You are welcome!"),
    ("Thanks!", "You are welcome!"),
    ("Thanks a lot!", "You are welcome!"),
    ("Goodbye!", "Goodbye!"),
    ("Bye!", "Goodbye!"),
    ("Good night!", "Good night!"),
    ("Are you a person?", "No, I am Synapse, a very small language model."),
    ("Nice to meet you!", "Nice to meet you too! How can I help you?"),
];

/// A question about one fact.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    /// What is asked.
    pub(crate) question: String,
    /// The answer alone.
    pub(crate) answer: &'static str,
    /// The specialist's answer, and the same sentence with other subjects' answers.
    pub(crate) sentence: String,
    wrong: Vec<String>,
}

fn sentence(relation: &Relation, subject: &str, answer: &str) -> String {
    let before = article(subject);
    let values = [
        ("x", subject),
        ("y", answer),
        ("A", &*capitalized(before)),
        ("b", article(answer)),
    ];
    fill(relation.sentence, &values)
}

/// A fact asked for with one of the split's combinations of frame and relation; `rare` of 100 are facts that the
/// base never sees.
pub(crate) fn fact(random: &mut Random, split: Split, rare: usize) -> Fact {
    let (chosen, asked, frame) = loop {
        let chosen = random.below(RELATIONS.len());
        let asked = random.below(RELATIONS[chosen].asked.len());
        let frame = random.below(FRAMES.len());
        // The very first combination ("What is the capital of …?") always is training's.
        if split.takes(chosen + 2 * asked, frame) {
            break (chosen, asked, frame);
        }
    };
    let relation = &RELATIONS[chosen];
    let turned = SYMMETRIC.contains(&chosen) && random.percent(50);
    let turn = |&(x, y): &(&'static str, &'static str)| if turned { (y, x) } else { (x, y) };
    let (subject, answer) = turn(relation.pair(random, rare));
    let what = fill(relation.asked[asked], &[("x", subject), ("a", article(subject))]);

    let mut others: Vec<&'static str> = Vec::new();
    for pair in relation.pairs {
        let other = turn(pair).1;
        if other != answer && !others.contains(&other) {
            others.push(other);
        }
    }
    random.shuffle(&mut others);
    let wrong = others
        .iter()
        .take(3)
        .map(|other| sentence(relation, subject, other))
        .collect();
    Fact {
        question: fill(FRAMES[frame], &[("w", &what)]),
        answer,
        sentence: sentence(relation, subject, answer),
        wrong,
    }
}

impl Fact {
    /// An answer in one of the many ways a general corpus has it.
    pub(crate) fn loose(&self, random: &mut Random) -> String {
        let answer = self.answer;
        match random.below(8) {
            0 | 1 => format!("{}.", capitalized(answer)),
            2 => answer.to_owned(),
            3 => format!("It is {answer}."),
            4 => format!("The answer is {answer}."),
            5 => format!("Sure! It is {answer}."),
            _ => self.sentence.clone(),
        }
    }

    /// Four sentences, one of them right, and the place of the right one.
    pub(crate) fn choices(&self, random: &mut Random) -> (Vec<String>, usize) {
        let mut choices: Vec<String> = self.wrong.clone();
        let right = random.below(choices.len() + 1);
        choices.insert(right, self.sentence.clone());
        (choices, right)
    }
}
