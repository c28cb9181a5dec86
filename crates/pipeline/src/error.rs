//! Errors between recipe and published model.

use std::path::{Path, PathBuf};

use synapse_recipe::Stage;

/// Errors of this crate; each names the stage's own error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// Tokenizer or template.
    #[error(transparent)]
    Chat(#[from] synapse_tokenizer::TokenizerError),
    /// A model, adapter or file.
    #[error(transparent)]
    Checkpoint(#[from] synapse_checkpoint::CheckpointError),
    /// Data preparation.
    #[error(transparent)]
    Data(#[from] synapse_data::DataError),
    /// Generation.
    #[error(transparent)]
    Engine(#[from] synapse_engine::EngineError),
    /// Evaluation.
    #[error(transparent)]
    Evaluate(#[from] synapse_evaluate::EvaluateError),
    /// Export.
    #[error(transparent)]
    Export(#[from] synapse_export::ExportError),
    /// Fetching.
    #[error(transparent)]
    Hub(#[from] synapse_hub::HubError),
    /// Merging.
    #[error(transparent)]
    Merge(#[from] synapse_merge::MergeError),
    /// Loading a model.
    #[error(transparent)]
    Model(#[from] synapse_nn::NnError),
    /// Training.
    #[error(transparent)]
    Train(#[from] synapse_trainer::TrainError),
    /// A file of the run.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The result of an earlier stage is missing.
    #[error("recipe `{name}`: the stage {stage} has no result to continue from; run with `--from {stage}`, or without `--from`", stage = .stage.id())]
    Missing {
        /// The recipe's name.
        name: String,
        /// The stage that did not run.
        stage: Stage,
    },
    /// The gate refused to publish.
    #[error("the gate refused to publish `{name}`: {reason}")]
    Refused {
        /// The pipeline's name.
        name: String,
        /// Domains and figures.
        reason: String,
    },
    /// The user asked to stop. Finished stages are kept.
    #[error("stopped in {stage} of `{name}`; run the same command to resume", stage = .stage.id())]
    Stopped {
        /// The recipe's or pipeline's name.
        name: String,
        /// The stage that is not finished.
        stage: Stage,
    },
    /// The plan asks for something impossible, or a file is unusable.
    #[error("{what}; {hint}")]
    Unusable {
        /// What is wrong.
        what: String,
        /// How to correct it.
        hint: String,
    },
}

impl PipelineError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
