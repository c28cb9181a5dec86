//! Strings: formats that are checked, and patterns whose look-around is written without it.

/// The formats that llguidance keeps. JSON Schema's default is that a format only describes, so others are left out.
const FORMATS: [&str; 10] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
];

/// Whether a format is kept.
pub(super) fn is_kept(format: &str) -> bool {
    FORMATS.contains(&format)
}

/// Patterns beside formats that llguidance keeps more widely than typed clients read them: leap seconds, February 29 of any
/// year, the year 0, and any number of digits.
const NARROWED: [(&str, &str); 4] = [
    (
        "date",
        "^[1-9][0-9]{3}-(?:02-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-[0-9]{2})$",
    ),
    ("time", "^[0-9]{2}:[0-9]{2}:[0-5][0-9](?:\\.[0-9]{1,6})?[zZ+-]"),
    (
        "date-time",
        "^[1-9][0-9]{3}-(?:02-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-[0-9]{2})[tT][0-9]{2}:[0-9]{2}:[0-5][0-9](?:\\.[0-9]{1,6})?[zZ+-]",
    ),
    ("duration", "^P(?:T?[0-9]{1,4}[A-Z])+$"),
];

/// The pattern that narrows a kept format.
pub(super) fn narrowing(format: &str) -> Option<String> {
    let (_, pattern) = NARROWED.iter().find(|(name, _)| *name == format)?;
    Some((*pattern).to_owned())
}

/// The pattern of a format that llguidance does not keep but typed clients check: pydantic's `uuid1` to `uuid8`.
pub(super) fn uuid_pattern(format: &str) -> Option<String> {
    let version = format.strip_prefix("uuid").filter(|version| version.len() == 1)?;
    let version: u8 = version.parse().ok().filter(|version| (1..=8).contains(version))?;
    Some(format!(
        "^[0-9a-f]{{8}}-[0-9a-f]{{4}}-{version}[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}$"
    ))
}

/// The pattern of a format that names of properties have.
pub(super) fn pattern_of_format(format: &str) -> Option<String> {
    let hex = "[0-9a-f]";
    match format {
        "uuid" => Some(format!("^{hex}{{8}}-{hex}{{4}}-{hex}{{4}}-{hex}{{4}}-{hex}{{12}}$")),
        "date" => Some("^[1-9][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$".to_owned()),
        other => uuid_pattern(other),
    }
}

/// What pydantic writes before the pattern of a Decimal: not only signs and points.
const NOT_ONLY_SIGNS: &str = "^(?!^[-+.]*$)";
/// zod's pattern of an email address.
const ZOD_EMAIL: &str =
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$";
/// The same without look-around: no dot first, none after another.
const EMAIL: &str =
    r"^([A-Za-z0-9_'+\-]+\.)*[A-Za-z0-9_'+\-]*[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$";

/// Patterns that a string matches all of if and only if it matches this one.
pub(super) fn without_look_around(pattern: &str) -> Vec<String> {
    if pattern == ZOD_EMAIL {
        return vec![EMAIL.to_owned()];
    }
    match pattern.strip_prefix(NOT_ONLY_SIGNS) {
        Some(rest) => vec![format!("^{rest}"), "[^-+.]".to_owned()],
        None => vec![pattern.to_owned()],
    }
}

/// Why a pattern cannot be followed, if it cannot.
pub(super) fn refusal(pattern: &str) -> Option<&'static str> {
    let look_around = ["(?=", "(?!", "(?<=", "(?<!"];
    look_around
        .iter()
        .any(|group| pattern.contains(group))
        .then_some("has look-around, which cannot be followed token by token; write it without")
}
