//! The parser: recursive descent in Python's order of precedence.

use super::syntax::{Arguments, Binary, Clause, Comparison, Expression};
use super::token::{Token, tokenize};
use super::value::PyValue;

/// Maximum nesting of brackets, prefixes and conditionals; it bounds the stack of parser and interpreter.
const DEEPEST: usize = 40;

/// Keywords.
const KEYWORDS: [&str; 19] = [
    "def", "return", "lambda", "if", "else", "elif", "for", "while", "in", "is", "not", "and", "or", "import", "from",
    "class", "yield", "await", "with",
];

type Parsed<T> = Result<T, String>;

/// Name, parameters and returned expression of a function.
pub(super) fn parse_function(source: &str) -> Parsed<(String, Vec<String>, Expression)> {
    let mut parser = Parser {
        tokens: tokenize(source)?,
        at: 0,
        depth: 0,
    };
    parser.keyword("def")?;
    let name = parser.name()?;
    parser.expect("(")?;
    let parameters = parser.parameters()?;
    if parser.take("->") {
        parser.expression()?;
    }
    parser.expect(":")?;
    parser.newlines();
    while matches!(parser.peek(), Some(Token::Str(_)))
        && matches!(parser.tokens.get(parser.at + 1), Some(Token::Newline))
    {
        parser.at += 1;
        parser.newlines();
    }
    parser.keyword("return")?;
    let body = parser.expression_or_tuple()?;
    parser.newlines();
    match parser.peek() {
        None => Ok((name, parameters, body)),
        Some(_) => Err(format!("{} after the function's expression", parser.here())),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn here(&self) -> String {
        match self.peek() {
            None => "the end of the answer".into(),
            Some(Token::Newline) => "the end of the line".into(),
            Some(Token::Name(name)) => format!("`{name}`"),
            Some(Token::Int(value)) => format!("`{value}`"),
            Some(Token::Str(_)) => "a string".into(),
            Some(Token::Sign(sign)) => format!("`{sign}`"),
        }
    }

    fn newlines(&mut self) {
        while self.peek() == Some(&Token::Newline) {
            self.at += 1;
        }
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(here)) if *here == sign);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Name(here)) if here == word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Parsed<()> {
        if self.take(sign) {
            Ok(())
        } else {
            Err(format!("expected `{sign}`, found {}", self.here()))
        }
    }

    fn keyword(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word) {
            Ok(())
        } else {
            Err(format!("expected `{word}`, found {}", self.here()))
        }
    }

    fn name(&mut self) -> Parsed<String> {
        match self.peek() {
            Some(Token::Name(name)) if !KEYWORDS.contains(&name.as_str()) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(format!("expected a name, found {}", self.here())),
        }
    }

    fn parameters(&mut self) -> Parsed<Vec<String>> {
        let mut names = Vec::new();
        while !self.take(")") {
            let name = self.name()?;
            if names.contains(&name) {
                return Err(format!("parameter `{name}` is there twice"));
            }
            names.push(name);
            if self.take(":") {
                self.expression()?;
            }
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(names)
    }

    /// Runs `parse` one level deeper.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == DEEPEST {
            return Err(format!("nested deeper than {DEEPEST} levels"));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn expression_or_tuple(&mut self) -> Parsed<Expression> {
        let first = self.expression()?;
        if !self.take(",") {
            return Ok(first);
        }
        let mut elements = vec![first];
        while !matches!(self.peek(), None | Some(Token::Newline | Token::Sign(")"))) {
            elements.push(self.expression()?);
            if !self.take(",") {
                break;
            }
        }
        Ok(Expression::Tuple(elements))
    }

    fn expression(&mut self) -> Parsed<Expression> {
        self.nested(|parser| {
            let then = parser.disjunction()?;
            if !parser.take_word("if") {
                return Ok(then);
            }
            let condition = parser.disjunction()?;
            parser.keyword("else")?;
            let otherwise = parser.expression()?;
            Ok(Expression::Conditional {
                then: then.into(),
                condition: condition.into(),
                otherwise: otherwise.into(),
            })
        })
    }

    fn disjunction(&mut self) -> Parsed<Expression> {
        let mut left = self.conjunction()?;
        while self.take_word("or") {
            left = Expression::Or(left.into(), self.conjunction()?.into());
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Parsed<Expression> {
        let mut left = self.negation()?;
        while self.take_word("and") {
            left = Expression::And(left.into(), self.negation()?.into());
        }
        Ok(left)
    }

    fn negation(&mut self) -> Parsed<Expression> {
        if self.take_word("not") {
            return Ok(Expression::Not(self.nested(Self::negation)?.into()));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Parsed<Expression> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        while let Some(comparison) = self.comparison_sign()? {
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() {
            first
        } else {
            Expression::Compare {
                first: first.into(),
                rest,
            }
        })
    }

    fn comparison_sign(&mut self) -> Parsed<Option<Comparison>> {
        let found = match self.peek() {
            Some(Token::Sign("==")) => Comparison::Equal,
            Some(Token::Sign("!=")) => Comparison::NotEqual,
            Some(Token::Sign("<")) => Comparison::Less,
            Some(Token::Sign("<=")) => Comparison::LessOrEqual,
            Some(Token::Sign(">")) => Comparison::Greater,
            Some(Token::Sign(">=")) => Comparison::GreaterOrEqual,
            Some(Token::Name(word)) if word == "in" => Comparison::In,
            Some(Token::Name(word)) if word == "not" => {
                self.at += 1;
                self.keyword("in")?;
                return Ok(Some(Comparison::NotIn));
            }
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(found))
    }

    fn sum(&mut self) -> Parsed<Expression> {
        let mut left = self.product()?;
        loop {
            let operator = match self.peek() {
                Some(Token::Sign("+")) => Binary::Add,
                Some(Token::Sign("-")) => Binary::Subtract,
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expression::Binary {
                operator,
                left: left.into(),
                right: self.product()?.into(),
            };
        }
    }

    fn product(&mut self) -> Parsed<Expression> {
        let mut left = self.unary()?;
        loop {
            let operator = match self.peek() {
                Some(Token::Sign("*")) => Binary::Multiply,
                Some(Token::Sign("//")) => Binary::FloorDivide,
                Some(Token::Sign("%")) => Binary::Remainder,
                Some(Token::Sign("/")) => {
                    return Err("`/` gives fractions, which are not understood; use `//`".into());
                }
                _ => return Ok(left),
            };
            self.at += 1;
            left = Expression::Binary {
                operator,
                left: left.into(),
                right: self.unary()?.into(),
            };
        }
    }

    fn unary(&mut self) -> Parsed<Expression> {
        if self.take("-") {
            return Ok(Expression::Negate(self.nested(Self::unary)?.into()));
        }
        if self.take("+") {
            return Ok(Expression::Positive(self.nested(Self::unary)?.into()));
        }
        let base = self.postfix()?;
        if !self.take("**") {
            return Ok(base);
        }
        // `**` binds tighter than a minus on its left, looser than one on its right.
        let exponent = self.nested(Self::unary)?;
        Ok(Expression::Binary {
            operator: Binary::Power,
            left: base.into(),
            right: exponent.into(),
        })
    }

    fn postfix(&mut self) -> Parsed<Expression> {
        let mut object = self.atom()?;
        loop {
            if self.take(".") {
                let name = self.name()?;
                if !self.take("(") {
                    return Err(format!("attribute `{name}` is not understood; only method calls are"));
                }
                object = Expression::Method {
                    object: object.into(),
                    name,
                    arguments: self.arguments()?,
                };
            } else if self.take("[") {
                object = self.subscript(object)?;
            } else if matches!(self.peek(), Some(Token::Sign("("))) {
                let Expression::Name(function) = object else {
                    return Err("only functions called by name are understood".into());
                };
                self.at += 1;
                object = Expression::Call {
                    function,
                    arguments: self.arguments()?,
                };
            } else {
                return Ok(object);
            }
        }
    }

    fn subscript(&mut self, object: Expression) -> Parsed<Expression> {
        let mut bounds = [None, None, None];
        let mut colons = 0;
        loop {
            if self.take(":") {
                colons += 1;
                if colons > 2 {
                    return Err("a slice has at most two colons".into());
                }
            } else if self.take("]") {
                break;
            } else if bounds[colons].is_some() {
                return Err(format!("expected `]`, found {}", self.here()));
            } else {
                bounds[colons] = Some(self.expression()?);
            }
        }
        match (colons, bounds) {
            (0, [Some(index), ..]) => Ok(Expression::Index {
                object: object.into(),
                index: index.into(),
            }),
            (0, _) => Err("an index is missing in `[]`".into()),
            (_, bounds) => Ok(Expression::Slice {
                object: object.into(),
                bounds: bounds.into(),
            }),
        }
    }

    fn arguments(&mut self) -> Parsed<Arguments> {
        let mut arguments = Arguments::default();
        while !self.take(")") {
            if let (Some(Token::Name(word)), Some(Token::Sign("="))) = (self.peek(), self.tokens.get(self.at + 1)) {
                let word = word.clone();
                self.at += 2;
                arguments.keywords.push((word, self.expression()?));
            } else {
                let element = self.expression()?;
                let clauses = self.clauses()?;
                arguments.positional.push(if clauses.is_empty() {
                    element
                } else {
                    Expression::Comprehension {
                        element: element.into(),
                        clauses,
                    }
                });
            }
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(arguments)
    }

    fn clauses(&mut self) -> Parsed<Vec<Clause>> {
        let mut clauses = Vec::new();
        while self.take_word("for") {
            let brackets = self.take("(");
            let mut targets = vec![self.name()?];
            while self.take(",") {
                targets.push(self.name()?);
            }
            if brackets {
                self.expect(")")?;
            }
            self.keyword("in")?;
            let source = self.disjunction()?;
            let mut conditions = Vec::new();
            while self.take_word("if") {
                conditions.push(self.disjunction()?);
            }
            clauses.push(Clause {
                targets,
                source,
                conditions,
            });
        }
        Ok(clauses)
    }

    fn atom(&mut self) -> Parsed<Expression> {
        let token = self
            .peek()
            .cloned()
            .ok_or("the answer ends where a value should be (end of the answer)")?;
        match token {
            Token::Int(value) => {
                self.at += 1;
                Ok(Expression::Literal(PyValue::Int(value)))
            }
            Token::Str(mut text) => {
                self.at += 1;
                // Neighboring literals are one string.
                while let Some(Token::Str(more)) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                Ok(Expression::Literal(PyValue::Str(text)))
            }
            Token::Name(word) => {
                let literal = match word.as_str() {
                    "True" => PyValue::Bool(true),
                    "False" => PyValue::Bool(false),
                    "None" => PyValue::None,
                    _ if KEYWORDS.contains(&word.as_str()) => {
                        return Err(format!("`{word}` is not understood here"));
                    }
                    _ => {
                        self.at += 1;
                        return Ok(Expression::Name(word));
                    }
                };
                self.at += 1;
                Ok(Expression::Literal(literal))
            }
            Token::Sign("(") => {
                self.at += 1;
                if self.take(")") {
                    return Ok(Expression::Tuple(Vec::new()));
                }
                let inner = self.expression_or_tuple()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => {
                self.at += 1;
                self.list()
            }
            Token::Sign(_) | Token::Newline => Err(format!("{} is not understood here", self.here())),
        }
    }

    fn list(&mut self) -> Parsed<Expression> {
        let mut elements = Vec::new();
        while !self.take("]") {
            let element = self.expression()?;
            let clauses = self.clauses()?;
            if !clauses.is_empty() {
                if !elements.is_empty() {
                    return Err("`for` is not understood here".into());
                }
                self.expect("]")?;
                return Ok(Expression::Comprehension {
                    element: element.into(),
                    clauses,
                });
            }
            elements.push(element);
            if !self.take(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(Expression::List(elements))
    }
}
