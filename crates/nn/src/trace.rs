//! The trace of a mixture-of-experts model: which modules each token was routed to, with which gate weights, and what
//! the memory module wrote and read.

/// The trace of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleTrace {
    /// Names of the modules that a router chooses from, in the order of the weights.
    pub modules: Vec<String>,
    /// Layer by layer.
    pub layers: Vec<LayerTrace>,
}

/// One layer's part.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerTrace {
    /// `[tokens][modules]`: the gate weight of a module, 0 for a token that was not routed to it.
    pub weights: Vec<Vec<f32>>,
    /// `[tokens]`: mean write strength β of the memory's heads, 0 for a token that was not routed to the memory.
    pub writes: Vec<f32>,
    /// `[tokens]`: Euclidean norm of what the memory read, 0 for a token that was not routed to it.
    pub reads: Vec<f32>,
}
