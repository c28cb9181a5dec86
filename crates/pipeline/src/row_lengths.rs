//! Rows that are too long, before training meets them: for the positions of the base, and for `train.max_seq_len`.
//!
//! What this is not: the policy for long rows, which the data crate carries out.

use std::path::{Path, PathBuf};

use synapse_checkpoint::ModelConfig;
use synapse_data::{Manifest, PackedDataset, read_origins};
use synapse_recipe::{Base, Overlong, Plan, SpecialistPlan, Stage};

use crate::{
    Fetched, PipelineError,
    last_run::{LastRun, prepared_manifest},
    run_dir::RunDir,
};

/// What is known about the lengths of one recipe's rows.
#[derive(Debug)]
pub(crate) struct RowLengths<'a> {
    plan: &'a SpecialistPlan,
    /// `max_position_embeddings` of the base, once its configuration is on this disk.
    positions: Option<usize>,
    /// The prepared data, once it is there.
    manifest: Option<&'a Manifest>,
}

/// Prepared documents that have more tokens than the base has positions.
#[derive(Debug, Default)]
struct Beyond {
    training: u64,
    held_out: u64,
    longest: usize,
    /// The place of the first one in training.
    first: Option<String>,
}

/// One sentence for each thing that a user should know about the lengths of a file's rows.
///
/// # Errors
/// Prepared data that cannot be read.
pub fn row_length_notes(document: &Plan) -> Result<Vec<String>, PipelineError> {
    let plans = match document {
        Plan::Specialist(plan) => std::slice::from_ref(plan),
        Plan::Pipeline(plan) => &plan.specialists,
    };
    let mut notes = Vec::new();
    for plan in plans {
        let manifest = prepared_manifest(plan, LastRun::read(plan)?)?;
        // What is wrong with the base's configuration is said by whoever needs it.
        let config = base_config(plan).ok().flatten();
        let lengths = RowLengths::new(plan, config.as_ref(), manifest.as_ref());
        notes.extend(
            lengths
                .notes()?
                .into_iter()
                .map(|note| format!("{}: {note}", plan.name)),
        );
    }
    Ok(notes)
}

/// Refuses to train on rows that are longer than the base's positions.
///
/// # Errors
/// How many they are, the longest, the limit, and the remedy.
pub fn check_row_lengths(plan: &SpecialistPlan, fetched: &Fetched, manifest: &Manifest) -> Result<(), PipelineError> {
    let config = ModelConfig::read(&fetched.base.folder)?;
    let lengths = RowLengths::new(plan, Some(&config), Some(manifest));
    match lengths.beyond_positions()? {
        None => Ok(()),
        Some((what, hint)) => Err(PipelineError::Unusable {
            what: format!("the data of `{}`: {what}, and training cannot take them", plan.name),
            hint,
        }),
    }
}

/// The base's configuration, where it is on this disk.
pub(crate) fn base_config(plan: &SpecialistPlan) -> Result<Option<ModelConfig>, PipelineError> {
    Ok(match &plan.base {
        Base::Folder(folder) | Base::FromScratch(folder) => Some(ModelConfig::read(folder)?),
        Base::Hub { .. } | Base::Gguf(_) => recorded_base(&plan.run_dir)
            .map(|folder| ModelConfig::read(&folder))
            .transpose()?,
    })
}

/// Where an earlier fetch put the base.
fn recorded_base(run: &Path) -> Option<PathBuf> {
    let record = crate::record::read::<Fetched>(run, Stage::Fetch).ok()??;
    Some(record.result.base.folder)
}

impl<'a> RowLengths<'a> {
    pub(crate) fn new(plan: &'a SpecialistPlan, config: Option<&ModelConfig>, manifest: Option<&'a Manifest>) -> Self {
        Self {
            plan,
            positions: config.map(|config| config.max_position_embeddings),
            manifest,
        }
    }

    /// One sentence for each thing that a user should know.
    pub(crate) fn notes(&self) -> Result<Vec<String>, PipelineError> {
        let mut notes = Vec::new();
        if let Some((limit, hint)) = self.over_limit() {
            let longest = self.plan.train.max_seq_len;
            if self.manifest.is_none() {
                notes.push(format!(
                    "`train.max_seq_len` is {longest} and the base has {limit} positions: a row of more than {limit} \
                     tokens would stop the run before training; {hint}"
                ));
            } else if let Some((what, hint)) = self.beyond_positions()? {
                notes.push(format!("{what}: the run will stop before training; {hint}"));
            }
        }
        notes.extend(self.beyond_max_seq_len());
        Ok(notes)
    }

    /// The base's positions, where rows of `train.max_seq_len` tokens would have more, and the remedy.
    fn over_limit(&self) -> Option<(usize, String)> {
        let limit = self.positions.filter(|limit| self.plan.train.max_seq_len > *limit)?;
        let policy = self.policy();
        let hint =
            format!("set `train.max_seq_len` to {limit} or less, and `train.overlong: {policy}` applies to such rows");
        Some((limit, hint))
    }

    /// Which prepared documents are longer than the base's positions, and the remedy.
    fn beyond_positions(&self) -> Result<Option<(String, String)>, PipelineError> {
        let Some((limit, hint)) = self.over_limit() else {
            return Ok(None);
        };
        let beyond = Beyond::read(RunDir::new(&self.plan.run_dir), limit)?;
        let Beyond { training, held_out, .. } = beyond;
        if training + held_out == 0 {
            return Ok(None);
        }
        let first = beyond
            .first
            .map_or_else(String::new, |place| format!(", the first {place}"));
        let what = format!(
            "{training} training and {held_out} held-out documents are longer than the base's {limit} positions, the \
             longest {} tokens{first}",
            beyond.longest
        );
        Ok(Some((what, hint)))
    }

    /// What is longer than `train.max_seq_len`.
    fn beyond_max_seq_len(&self) -> Option<String> {
        let manifest = self.manifest.filter(|manifest| manifest.overlong.rows > 0)?;
        let positions = self.positions.map_or_else(String::new, |positions| {
            format!(" (the base has {positions} positions)")
        });
        Some(format!(
            "{} of {} training documents are longer than `train.max_seq_len: {}`, the longest {} tokens; with \
             `train.overlong: {}`, {} tokens are not trained on; raise `train.max_seq_len`{positions}, or choose \
             another `train.overlong`",
            manifest.overlong.rows,
            manifest.lengths.documents,
            manifest.max_seq_len,
            manifest.lengths.longest,
            self.policy(),
            manifest.overlong.tokens_lost,
        ))
    }

    fn policy(&self) -> &'static str {
        match self.plan.train.overlong {
            Overlong::Drop => "drop",
            Overlong::Truncate => "truncate",
            Overlong::Split => "split",
        }
    }
}

impl Beyond {
    /// Looks at the lengths of the prepared documents.
    fn read(files: RunDir<'_>, limit: usize) -> Result<Self, PipelineError> {
        let mut beyond = Self::default();
        let train = PackedDataset::open(&files.train_rows())?;
        for row in 0..train.len() {
            for (index, length) in train.document_lengths(row).into_iter().enumerate() {
                beyond.longest = beyond.longest.max(length);
                if length <= limit {
                    continue;
                }
                if beyond.training == 0 {
                    let origins = read_origins(&files.row_origins(), row)?;
                    beyond.first = origins.into_iter().nth(index).map(|origin| origin.place);
                }
                beyond.training += 1;
            }
        }
        let held_out = PackedDataset::open(&files.held_out_rows())?;
        for length in (0..held_out.len()).flat_map(|row| held_out.document_lengths(row)) {
            beyond.longest = beyond.longest.max(length);
            beyond.held_out += u64::from(length > limit);
        }
        Ok(beyond)
    }
}
