//! Names and things that several domains write about.

/// People in stories.
pub(crate) const NAMES: [&str; 16] = [
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Ida", "Jonas", "Kate", "Leo", "Mia", "Noah",
    "Olga", "Paul",
];

/// Things that can be counted.
pub(crate) const THINGS: [&str; 16] = [
    "apples", "books", "coins", "pens", "eggs", "cards", "stamps", "shells", "balls", "cakes", "pears", "stones",
    "toys", "roses", "keys", "cups",
];

/// What holds things, in the singular; the plural adds an s.
pub(crate) const HOLDERS: [&str; 8] = ["bag", "basket", "drawer", "jar", "bowl", "case", "crate", "tin"];

/// Short words for string arguments.
pub(crate) const TEXTS: [&str; 20] = [
    "apple", "river", "Stone", "cloud", "Garden", "tiger", "lemon", "Paper", "winter", "bread", "Ocean", "silver",
    "music", "Candle", "forest", "level", "noon", "Rocket", "window", "abc",
];
