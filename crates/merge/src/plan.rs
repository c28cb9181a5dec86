//! The tensors of the output, and the tensors of base and inputs that each is merged from. No tensor is read here.

use std::path::Path;

use synapse_checkpoint::ModelConfig;

use crate::settings::{Levels, Settings};
use crate::{MergeRequest, Slice};

/// One output tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TensorPlan {
    /// Its name in the output.
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    /// Its position between the first layer (0) and the last (1) of its slice.
    pub(crate) position: f64,
    /// Its slice, where there are slices.
    slice: Option<usize>,
    /// The base's tensor; `None` where the slice does not use the base.
    pub(crate) base: Option<String>,
    /// Inputs by index in merging order, with their tensor's name.
    pub(crate) inputs: Vec<PlannedInput>,
}

/// One input of an output tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedInput {
    pub(crate) input: usize,
    pub(crate) tensor: String,
    /// Its source within the slice.
    source: Option<usize>,
}

impl TensorPlan {
    /// Looks a parameter of the whole tensor up: its slice's, then the merge's.
    pub(crate) fn settings<T>(&self, request: &MergeRequest, look: impl FnOnce(Levels<'_>) -> T) -> T {
        let mut levels: Vec<&Settings> = self.slice(request).map(|slice| &slice.parameters).into_iter().collect();
        levels.push(&request.parameters);
        look(self.levels(&levels))
    }

    /// Looks a parameter of one input up: its source's, its own, then as the whole tensor's.
    pub(crate) fn input_settings<T>(
        &self,
        request: &MergeRequest,
        input: &PlannedInput,
        look: impl FnOnce(Levels<'_>) -> T,
    ) -> T {
        let slice = self.slice(request);
        let source = slice
            .zip(input.source)
            .map(|(slice, source)| &slice.sources[source].parameters);
        let name = request.inputs().nth(input.input).map(|input| input.name.as_str());
        let own = name.and_then(|name| request.input_parameters.get(name));
        let levels: Vec<&Settings> = source
            .into_iter()
            .chain(own)
            .chain(slice.map(|slice| &slice.parameters))
            .chain([&request.parameters])
            .collect();
        look(self.levels(&levels))
    }

    fn levels<'a>(&'a self, levels: &'a [&'a Settings]) -> Levels<'a> {
        Levels {
            levels,
            tensor: &self.name,
            position: self.position,
        }
    }

    fn slice<'a>(&self, request: &'a MergeRequest) -> Option<&'a Slice> {
        self.slice.map(|slice| &request.slices[slice])
    }
}

/// The layer of a tensor and the rest of its name.
fn layer_of(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    Some((layer.parse().ok()?, rest))
}

/// Layers of the output.
pub(crate) fn layers(request: &MergeRequest, base: &ModelConfig) -> usize {
    if request.slices.is_empty() {
        return base.num_hidden_layers;
    }
    let length = |slice: &Slice| slice.sources.first().map_or(0, |source| source.layers.len());
    request.slices.iter().map(length).sum()
}

/// Plans every tensor of the output, in the order of a model folder.
pub(crate) fn plan(request: &MergeRequest, base: &ModelConfig) -> Vec<TensorPlan> {
    if request.slices.is_empty() {
        let steps = (base.num_hidden_layers.max(2) - 1) as f64;
        return base
            .tensors()
            .into_iter()
            .map(|(name, shape)| TensorPlan {
                position: layer_of(&name).map_or(0.0, |(layer, _)| layer as f64 / steps),
                slice: None,
                base: Some(name.clone()),
                inputs: (0..request.inputs().count())
                    .map(|input| PlannedInput {
                        input,
                        tensor: name.clone(),
                        source: None,
                    })
                    .collect(),
                name,
                shape,
            })
            .collect();
    }
    let config = ModelConfig {
        num_hidden_layers: layers(request, base),
        ..base.clone()
    };
    config
        .tensors()
        .into_iter()
        .map(|(name, shape)| sliced(request, name, shape))
        .collect()
}

/// One tensor of stacked layers. Tensors before the layers belong to the first slice, those after them to the last.
fn sliced(request: &MergeRequest, name: String, shape: Vec<usize>) -> TensorPlan {
    let (slice, offset, rest) = match layer_of(&name) {
        Some((layer, rest)) => {
            let mut start = 0;
            let mut found = (0, 0);
            for (index, slice) in request.slices.iter().enumerate() {
                let length = slice.sources.first().map_or(0, |source| source.layers.len());
                if layer < start + length {
                    found = (index, layer - start);
                    break;
                }
                start += length;
            }
            (found.0, Some(found.1), rest)
        }
        None if name.starts_with("model.embed_tokens") => (0, None, name.as_str()),
        None => (request.slices.len() - 1, None, name.as_str()),
    };
    let sources = &request.slices[slice].sources;
    let length = sources.first().map_or(1, |source| source.layers.len());
    let of_source = |source: &crate::SliceSource| match offset {
        Some(offset) => format!("model.layers.{}.{rest}", source.layers.start + offset),
        None => name.clone(),
    };
    let index_of = |wanted: &String| request.inputs().position(|input| input.name == *wanted);
    TensorPlan {
        position: match offset {
            Some(offset) if length > 1 => offset as f64 / (length - 1) as f64,
            Some(_) => 1.0,
            None => 0.0,
        },
        slice: Some(slice),
        base: sources.iter().find(|source| source.input.is_none()).map(of_source),
        inputs: sources
            .iter()
            .enumerate()
            .filter_map(|(index, source)| {
                Some(PlannedInput {
                    input: index_of(source.input.as_ref()?)?,
                    tensor: of_source(source),
                    source: Some(index),
                })
            })
            .collect(),
        name,
        shape,
    }
}

/// The error of a slice that takes layers which a model does not have.
pub(crate) fn missing_layers(
    slice: usize,
    layers: &std::ops::Range<usize>,
    model: &ModelConfig,
    path: &Path,
) -> Option<String> {
    (layers.end > model.num_hidden_layers).then(|| {
        format!(
            "slices[{slice}] takes layers {} to {} of {}, which has {}",
            layers.start,
            layers.end,
            path.display(),
            model.num_hidden_layers
        )
    })
}
