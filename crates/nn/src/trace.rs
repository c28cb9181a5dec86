//! What a model that sends tokens to modules did with each of them: who fired and how strongly, what its memory wrote
//! and read.

/// The trace of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleTrace {
    /// What a router chooses among, in the order of the weights.
    pub modules: Vec<String>,
    /// Layer by layer.
    pub layers: Vec<LayerTrace>,
}

/// One layer's part.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerTrace {
    /// `[tokens][modules]`: the weight a module fired with, 0 where it did not.
    pub weights: Vec<Vec<f32>>,
    /// Mean write strength β of the memory's heads, 0 where it did not fire.
    pub writes: Vec<f32>,
    /// Length of what the memory gave back, 0 where it did not fire.
    pub reads: Vec<f32>,
}
