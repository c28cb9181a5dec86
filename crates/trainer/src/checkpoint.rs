//! Training checkpoints: `checkpoints/step-N/` with the flat buffers and the run they belong to.
//!
//! A checkpoint is published atomically. Dropout masks and the order of rows are functions of seed and step, so the
//! step number is the only random state.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use synapse_checkpoint::{DType, Staged, TensorFiles, write_atomic, write_safetensors};

use crate::{TrainError, optimizer::TrainingState};

const TENSORS: &str = "state.safetensors";
const DESCRIPTION: &str = "state.json";

#[derive(Debug, Serialize, Deserialize)]
struct Description {
    format: u32,
    step: u64,
    fingerprint: String,
}

/// The folder of a run's checkpoints.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    folder: PathBuf,
    fingerprint: String,
}

impl Checkpoints {
    /// `fingerprint` covers everything that determines the run's numbers.
    pub(crate) fn new(run: &Path, fingerprint: &str) -> Self {
        Self {
            folder: run.join("checkpoints"),
            fingerprint: fingerprint.to_owned(),
        }
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step}"))
    }

    /// Steps of the complete checkpoints, oldest first.
    fn steps(&self) -> Vec<u64> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut steps: Vec<u64> = entries
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
            .collect();
        steps.sort_unstable();
        steps
    }

    /// The newest state of this run, if there is one. Checkpoints with another fingerprint are removed.
    pub(crate) fn newest(&self, length: usize) -> Result<Option<TrainingState>, TrainError> {
        for step in self.steps().into_iter().rev() {
            let path = self.path(step);
            let bad = |problem: String| TrainError::BadCheckpoint {
                path: path.clone(),
                problem,
            };
            let text = std::fs::read_to_string(path.join(DESCRIPTION)).map_err(TrainError::io(&path))?;
            let description: Description =
                serde_json::from_str(&text).map_err(|error| bad(format!("{DESCRIPTION} cannot be read: {error}")))?;
            if description.fingerprint != self.fingerprint || description.format != 1 {
                std::fs::remove_dir_all(&path).map_err(TrainError::io(&path))?;
                continue;
            }
            let files = TensorFiles::open(vec![path.join(TENSORS)])?;
            let read = |name: &str| -> Result<Vec<f32>, TrainError> {
                let values = files.read_f32(name)?;
                if values.len() == length {
                    Ok(values)
                } else {
                    Err(bad(format!("{name} has {} values, expected {length}", values.len())))
                }
            };
            return Ok(Some(TrainingState {
                parameters: read("parameters")?,
                first: read("first")?,
                second: read("second")?,
                step,
            }));
        }
        Ok(None)
    }

    /// Writes a checkpoint and removes all but the newest two.
    pub(crate) fn save(&self, state: &TrainingState) -> Result<(), TrainError> {
        std::fs::create_dir_all(&self.folder).map_err(TrainError::io(&self.folder))?;
        let staged = Staged::beside(&self.path(state.step))?;
        let tensor = |name: &str, values: &'_ [f32]| (name.to_owned(), DType::F32, vec![values.len()]);
        let buffers = [
            ("parameters", &state.parameters),
            ("first", &state.first),
            ("second", &state.second),
        ];
        let tensors: Vec<_> = buffers
            .iter()
            .map(|(name, values)| {
                let (name, dtype, shape) = tensor(name, values);
                (name, dtype, shape, bytemuck::cast_slice::<f32, u8>(values))
            })
            .collect();
        write_safetensors(&staged.path().join(TENSORS), &tensors, &BTreeMap::new())?;
        let description = Description {
            format: 1,
            step: state.step,
            fingerprint: self.fingerprint.clone(),
        };
        let text = serde_json::to_vec_pretty(&description).map_err(|error| TrainError::Io {
            path: self.path(state.step),
            source: error.into(),
        })?;
        write_atomic(&staged.path().join(DESCRIPTION), &text)?;
        staged.publish()?;
        let steps = self.steps();
        for &step in steps.iter().rev().skip(2) {
            let path = self.path(step);
            std::fs::remove_dir_all(&path).map_err(TrainError::io(&path))?;
        }
        Ok(())
    }

    /// Removes all checkpoints of a finished run.
    pub(crate) fn clear(&self) -> Result<(), TrainError> {
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder).map_err(TrainError::io(&self.folder))?;
        }
        Ok(())
    }
}
