//! The auxiliary files of a merged folder: config.json, tokenizer and chat template of the base, adapted to the request.

use std::path::Path;

use synapse_checkpoint::{ModelConfig, write_atomic};
use synapse_export::{ConfigChanges, copy_auxiliary_files, write_config};

use crate::inputs::Inputs;
use crate::plan::layers;
use crate::{MergeRequest, Result};

/// The template that mergekit calls `chatml`.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}\n";

/// Writes the base's auxiliary files into `folder`. config.json keeps every byte unless the request asks for another
/// dtype or number of layers than it declares, or the output's head is not what it declares.
pub(crate) fn write(inputs: &Inputs, request: &MergeRequest, folder: &Path) -> Result<()> {
    let base = &inputs.base;
    let ties = inputs.config.tie_word_embeddings;
    let declared = ModelConfig::read(base.path())?.tie_word_embeddings;
    let layers = layers(request, base.config());
    let changes = ConfigChanges {
        dtype: request.dtype,
        num_hidden_layers: (layers != base.config().num_hidden_layers).then_some(layers),
        tie_word_embeddings: (ties != declared).then_some(ties),
    };
    write_config(base.path(), folder, &changes)?;
    copy_auxiliary_files(base.path(), folder)?;
    if let Some(template) = request.chat_template.as_deref().filter(|template| *template != "auto") {
        let text = if template == "chatml" { CHATML } else { template };
        write_atomic(&folder.join("chat_template.jinja"), text.as_bytes())?;
    }
    Ok(())
}
