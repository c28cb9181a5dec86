//! The syntax tree of an expression.

use super::value::PyValue;

#[derive(Debug, Clone)]
pub(super) enum Expression {
    Literal(PyValue),
    Name(String),
    List(Vec<Expression>),
    Tuple(Vec<Expression>),
    /// `[element for … in … if …]`, and the same in a call's brackets.
    Comprehension {
        element: Box<Expression>,
        clauses: Vec<Clause>,
    },
    Not(Box<Expression>),
    Negate(Box<Expression>),
    /// `+x`: the value as an integer.
    Positive(Box<Expression>),
    Binary {
        operator: Binary,
        left: Box<Expression>,
        right: Box<Expression>,
    },
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    /// `a < b <= c`: every neighbor compared, each operand evaluated once.
    Compare {
        first: Box<Expression>,
        rest: Vec<(Comparison, Expression)>,
    },
    Conditional {
        then: Box<Expression>,
        condition: Box<Expression>,
        otherwise: Box<Expression>,
    },
    Call {
        function: String,
        arguments: Arguments,
    },
    Method {
        object: Box<Expression>,
        name: String,
        arguments: Arguments,
    },
    Index {
        object: Box<Expression>,
        index: Box<Expression>,
    },
    Slice {
        object: Box<Expression>,
        bounds: Box<[Option<Expression>; 3]>,
    },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expression>,
    pub(super) keywords: Vec<(String, Expression)>,
}

/// `for targets in source if condition if condition …`.
#[derive(Debug, Clone)]
pub(super) struct Clause {
    pub(super) targets: Vec<String>,
    pub(super) source: Expression,
    pub(super) conditions: Vec<Expression>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    FloorDivide,
    Remainder,
    Power,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}
