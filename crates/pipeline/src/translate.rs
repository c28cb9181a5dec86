//! The words of a recipe as the types of the crates that carry them out.
//!
//! Recipes know neither evaluation nor merging nor export, and those know no recipes. Each enumeration is matched
//! variant by variant, so a new word does not compile before it means something.

use synapse_recipe as recipe;

/// The merge crate's method.
pub(crate) fn merge_method(method: recipe::MergeMethod) -> synapse_merge::Method {
    use recipe::MergeMethod as From;
    use synapse_merge::Method as To;
    match method {
        From::Ties => To::Ties,
        From::Linear => To::Linear,
        From::TaskArithmetic => To::TaskArithmetic,
        From::DareLinear => To::DareLinear,
        From::DareTies => To::DareTies,
        From::Breadcrumbs => To::Breadcrumbs,
        From::BreadcrumbsTies => To::BreadcrumbsTies,
        From::Della => To::Della,
        From::DellaLinear => To::DellaLinear,
        From::MultiSlerp => To::MultiSlerp,
        From::Karcher => To::Karcher,
        From::ModelStock => To::ModelStock,
        From::Sce => To::Sce,
    }
}

/// The merge crate's way of electing signs.
pub(crate) fn sign(vote: recipe::SignVote) -> synapse_merge::Sign {
    match vote {
        recipe::SignVote::Frequency => synapse_merge::Sign::Frequency,
        recipe::SignVote::Total => synapse_merge::Sign::Total,
    }
}

/// The element type of published weights.
pub(crate) fn dtype(dtype: recipe::ExportDtype) -> synapse_checkpoint::DType {
    match dtype {
        recipe::ExportDtype::Bf16 => synapse_checkpoint::DType::BF16,
        recipe::ExportDtype::F16 => synapse_checkpoint::DType::F16,
        recipe::ExportDtype::F32 => synapse_checkpoint::DType::F32,
    }
}

/// The export crate's quantization of a GGUF file.
pub(crate) fn gguf_quantization(kind: recipe::GgufQuantization) -> synapse_export::GgufType {
    match kind {
        recipe::GgufQuantization::F16 => synapse_export::GgufType::F16,
        recipe::GgufQuantization::Bf16 => synapse_export::GgufType::Bf16,
        recipe::GgufQuantization::Q8_0 => synapse_export::GgufType::Q8_0,
        recipe::GgufQuantization::Q4_0 => synapse_export::GgufType::Q4_0,
    }
}

/// The evaluate crate's way of asking.
pub(crate) fn prompting(prompting: recipe::Prompting) -> synapse_evaluate::suites::PromptStyle {
    match prompting {
        recipe::Prompting::Chat => synapse_evaluate::suites::PromptStyle::Chat,
        recipe::Prompting::Raw => synapse_evaluate::suites::PromptStyle::Raw,
    }
}

/// What the evaluate crate's gate does when it fails.
pub(crate) fn gate_action(action: recipe::GateAction) -> synapse_evaluate::gate::RegressionAction {
    match action {
        recipe::GateAction::Refuse => synapse_evaluate::gate::RegressionAction::Refuse,
        recipe::GateAction::Stamp => synapse_evaluate::gate::RegressionAction::Stamp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same words on both sides, in recipes and in reports.
    #[test]
    fn words_are_the_same_on_both_sides() {
        for method in recipe::MergeMethod::ALL {
            assert_eq!(merge_method(method).to_string(), method.id());
        }
        for vote in recipe::SignVote::ALL {
            assert_eq!(sign(vote).to_string(), vote.id());
        }
        for kind in recipe::GgufQuantization::ALL {
            assert_eq!(gguf_quantization(kind).name(), kind.id());
        }
        for suite in recipe::SuiteId::ALL {
            assert!(synapse_evaluate::suites::SUITE_IDS.contains(&suite.id()));
        }
        assert_eq!(synapse_evaluate::suites::SUITE_IDS.len(), recipe::SuiteId::ALL.len());
    }
}
