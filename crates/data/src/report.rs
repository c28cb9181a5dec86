//! The manifest as a plain-text report, and the limits that it must keep before training starts.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use synapse_recipe::LimitsPlan;

use crate::manifest::{Manifest, SourceManifest};
use crate::{LENGTH_BARS, Lengths};

/// The shares that limits apply to, each between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Shares {
    /// Training documents longer than a row.
    pub truncated: f64,
    /// Tokens lost because of that.
    pub tokens_lost: f64,
    /// Rows dropped for any reason.
    pub dropped: f64,
    /// Exact and near duplicates among the rows read.
    pub duplicates: f64,
    /// Rows that overlap with a benchmark or a held-out prompt.
    pub contaminated: f64,
    /// Tokens that count in the loss.
    pub trained: f64,
}

/// Whether a license's name forbids commercial use.
#[must_use]
pub fn is_non_commercial(license: &str) -> bool {
    let lower = license.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|letter: char| !letter.is_ascii_alphanumeric()).collect();
    words.contains(&"nc")
        || words.contains(&"noncommercial")
        || lower.contains("non-commercial")
        || lower.contains("research")
}

impl Manifest {
    /// Rows left out of all sources, by reason.
    #[must_use]
    pub fn dropped(&self) -> BTreeMap<&str, u64> {
        let mut dropped = BTreeMap::new();
        for (reason, count) in self.sources.iter().flat_map(|source| &source.dropped) {
            *dropped.entry(reason.as_str()).or_default() += count;
        }
        dropped
    }

    /// The shares that limits apply to.
    #[must_use]
    pub fn shares(&self) -> Shares {
        let read: u64 = self.sources.iter().map(|source| source.rows_read).sum();
        let dropped = self.dropped();
        let because = |reasons: &[&str]| reasons.iter().filter_map(|reason| dropped.get(reason)).sum::<u64>();
        Shares {
            truncated: share(self.overlong.rows, self.lengths.documents),
            tokens_lost: share(self.overlong.tokens_lost, self.lengths.tokens),
            dropped: share(dropped.values().sum(), read),
            duplicates: share(because(&["duplicate", "near_duplicate"]), read),
            contaminated: share(because(&["contaminated", "equals_held_out", "overlaps_held_out"]), read),
            trained: share(self.train.target_tokens, self.train.tokens),
        }
    }

    /// One sentence for each limit that is exceeded.
    #[must_use]
    pub fn broken_limits(&self, limits: &LimitsPlan) -> Vec<String> {
        let shares = self.shares();
        let most = [
            (
                "truncated",
                "documents longer than `train.max_seq_len`",
                shares.truncated,
                limits.truncated,
            ),
            (
                "tokens_lost",
                "tokens lost to documents that are too long",
                shares.tokens_lost,
                limits.tokens_lost,
            ),
            ("dropped", "rows dropped", shares.dropped, limits.dropped),
            ("duplicates", "duplicate rows", shares.duplicates, limits.duplicates),
            (
                "contaminated",
                "rows that overlap with what is measured",
                shares.contaminated,
                limits.contaminated,
            ),
        ];
        let mut broken: Vec<String> = most
            .into_iter()
            .filter_map(|(key, what, found, limit)| Some((key, what, found, limit?)))
            .filter(|(_, _, found, limit)| found > limit)
            .map(|(key, what, found, limit)| {
                format!(
                    "`limits.{key}`: {} {what}, {} are allowed",
                    percent(found),
                    percent(limit)
                )
            })
            .collect();
        if let Some(least) = limits.trained.filter(|least| shares.trained < *least) {
            broken.push(format!(
                "`limits.trained`: {} of the tokens count in the loss, {} are wanted",
                percent(shares.trained),
                percent(least)
            ));
        }
        broken
    }
}

/// The report in plain text.
impl fmt::Display for Manifest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for source in &self.sources {
            write_source(out, source)?;
        }
        let (shares, train) = (self.shares(), &self.train);
        let packed = if self.packing { "packed " } else { "" };
        writeln!(out, "training")?;
        writeln!(
            out,
            "  {} documents in {} {packed}rows of at most {} tokens, {} held out",
            train.documents, train.rows, self.max_seq_len, self.held_out.rows
        )?;
        writeln!(
            out,
            "  {} tokens, {} of them trained ({})",
            train.tokens,
            train.target_tokens,
            percent(shares.trained)
        )?;
        writeln!(out, "  lengths   {}", quantiles(&self.lengths))?;
        write!(out, "{}", bars(&self.lengths, self.max_seq_len))?;
        writeln!(
            out,
            "  too long  {} documents ({}), {} tokens lost ({}); policy: {}",
            self.overlong.rows,
            percent(shares.truncated),
            self.overlong.tokens_lost,
            percent(shares.tokens_lost),
            format!("{:?}", self.overlong.policy).to_lowercase()
        )?;
        writeln!(
            out,
            "  dropped   {} of the rows read; duplicates {}, overlap with what is measured {}",
            percent(shares.dropped),
            percent(shares.duplicates),
            percent(shares.contaminated)
        )?;
        if !self.decontaminated_against.is_empty() {
            writeln!(out, "  held against {}", self.decontaminated_against.join(", "))?;
        }
        for warning in &self.warnings {
            writeln!(out, "  warning: {warning}")?;
        }
        Ok(())
    }
}

fn write_source(out: &mut fmt::Formatter<'_>, source: &SourceManifest) -> fmt::Result {
    let mut origin = source.origin.clone();
    if let Some(revision) = &source.revision {
        write!(origin, " @ {}", revision.get(..12).unwrap_or(revision))?;
    }
    writeln!(out, "{} ({origin})", source.dataset)?;
    let format = source.format.map_or("generated", synapse_recipe::Format::id);
    let files = source.files.len();
    let drawn = source
        .drawn_from
        .map_or_else(String::new, |of| format!(" drawn from {of}"));
    let first = source
        .first_rows
        .map_or_else(String::new, |rows| format!(", its first {rows} rows"));
    let plural = if files == 1 { "file" } else { "files" };
    writeln!(out, "  format    {format}, from {files} {plural}{drawn}{first}")?;
    for requests in &source.requests {
        let dropped = requests.dropped.iter();
        let dropped: Vec<String> = dropped
            .map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")))
            .collect();
        writeln!(
            out,
            "  requests  {} from the recipe `{}`: {} for training, {} held out (left out: {})",
            requests.label,
            requests.recipe,
            requests.held_in,
            requests.held_out,
            if dropped.is_empty() {
                "none".to_owned()
            } else {
                dropped.join(", ")
            }
        )?;
    }
    if !source.unused_columns.is_empty() {
        writeln!(out, "  not read  columns {}", source.unused_columns.join(", "))?;
    }
    writeln!(
        out,
        "  rows      {} read, {} usable, {} taken ({} asked for), {} held out",
        source.rows_read, source.rows_available, source.rows_taken, source.asked, source.held_out_rows
    )?;
    for (reason, count) in &source.dropped {
        let places = source.examples.get(reason).map_or(&[][..], Vec::as_slice);
        // Places with quoted text get their own lines.
        let long = places.iter().any(|place| place.contains('“'));
        let more = if *count > places.len() as u64 { ", …" } else { "" };
        let listed = match places {
            [] => String::new(),
            _ if long => places.iter().map(|place| format!("\n            {place}")).collect(),
            _ => format!("  ({}{more})", places.join(", ")),
        };
        writeln!(out, "  dropped   {count} {}{listed}", reason.replace('_', " "))?;
    }
    writeln!(
        out,
        "  tokens    {} in {} documents, {} trained ({})",
        source.tokens,
        source.documents,
        source.target_tokens,
        percent(share(source.target_tokens, source.tokens))
    )?;
    writeln!(out, "  lengths   {}", quantiles(&source.lengths))?;
    if source.overlong.rows > 0 {
        let (rows, lost) = (source.overlong.rows, source.overlong.tokens_lost);
        writeln!(out, "  too long  {rows} documents, {lost} tokens lost")?;
    }
    if source.special_token_rows > 0 {
        writeln!(
            out,
            "  control   {} rows spell a control token; it stays text",
            source.special_token_rows
        )?;
    }
    let license = source.license.as_deref();
    let remark = match license {
        Some(license) if is_non_commercial(license) => {
            "  warning: not for commercial use, nor is what is trained on it"
        }
        None if source.origin != "local" && !source.origin.starts_with("routing") => {
            "  warning: nobody has said what is allowed"
        }
        _ => "",
    };
    writeln!(out, "  license   {}{remark}\n", license.unwrap_or("none stated"))
}

fn quantiles(lengths: &Lengths) -> String {
    format!(
        "shortest {}, median {}, 90 % {}, 95 % {}, 99 % {}, longest {} tokens",
        lengths.shortest, lengths.median, lengths.p90, lengths.p95, lengths.p99, lengths.longest
    )
}

/// The histogram, one bar a line; empty bars at the long end are left out.
fn bars(lengths: &Lengths, max_seq_len: usize) -> String {
    let most = lengths.histogram.iter().copied().max().unwrap_or(0).max(1);
    let last = lengths
        .histogram
        .iter()
        .rposition(|count| *count > 0)
        .map_or(0, |last| last + 1);
    let mut text = String::new();
    for (index, count) in lengths.histogram.iter().enumerate().take(last) {
        let until = if index == LENGTH_BARS {
            "longer".to_owned()
        } else {
            format!("≤ {}", max_seq_len * (index + 1) / LENGTH_BARS)
        };
        let bar = "#".repeat(usize::try_from((count * 40).div_ceil(most)).unwrap_or(0));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {until:>9} {count:>8} {bar}");
    }
    text
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 0.0 && percent < 0.05 {
        "under 0.1 %".to_owned()
    } else {
        format!("{percent:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licenses_that_forbid_commercial_use_are_known() {
        for license in ["CC-BY-NC-4.0", "cc-by-nc-sa-4.0", "qwen-research", "Non-commercial"] {
            assert!(is_non_commercial(license), "{license}");
        }
        for license in ["MIT", "CC-BY-4.0", "apache-2.0", "ncsa"] {
            assert!(!is_non_commercial(license), "{license}");
        }
    }
}
