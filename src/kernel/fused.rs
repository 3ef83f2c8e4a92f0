//! The WGSL of a pointwise expression.

use std::fmt::Write;

use super::expr::{Binary, Expr, Unary};
use crate::tensor::Shape;

/// How an input is indexed by the flat index of the output's element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The same shape: the same index.
    Full,
    /// One element for all.
    Scalar,
    /// The output's innermost dimensions: the index modulo this period.
    Periodic(usize),
    /// Any other broadcast: extents of the output and the input's stride along each, outermost first.
    Strided(Vec<(usize, usize)>),
}

impl Access {
    /// The way in which `input` is read along `output`, which it broadcasts to.
    pub fn of(input: &Shape, output: &Shape) -> Self {
        if input.elements() == output.elements() {
            return Access::Full;
        }
        if input.elements() == 1 {
            return Access::Scalar;
        }
        let trimmed: Vec<usize> = input.iter().copied().skip_while(|&e| e == 1).collect();
        if output.ends_with(&trimmed) {
            return Access::Periodic(input.elements());
        }
        Access::Strided(output.iter().copied().zip(input.broadcast_strides(output)).collect())
    }

    /// The input's index for the output's element `index`.
    pub fn index(&self, index: usize) -> usize {
        match self {
            Access::Full => index,
            Access::Scalar => 0,
            Access::Periodic(period) => index % period,
            Access::Strided(axes) => {
                let mut rest = index;
                let mut at = 0;
                for (extent, stride) in axes.iter().rev() {
                    at += rest % extent * stride;
                    rest /= extent;
                }
                at
            }
        }
    }
}

/// Elements that one invocation computes at once: 4 where every input can be read as `vec4<f32>`, else 1.
pub fn vector_width(inputs: &[&Shape], output: &Shape) -> usize {
    let vectors = |shape: &&Shape| match Access::of(shape, output) {
        Access::Full | Access::Scalar => true,
        Access::Periodic(period) => period.is_multiple_of(4),
        Access::Strided(_) => false,
    };
    if output.elements().is_multiple_of(4) && inputs.iter().all(vectors) { 4 } else { 1 }
}

/// Text of the module `package::fused` for `expr` over inputs of these shapes.
///
/// It declares input `n` at binding `first_binding + n` and the function `fused(i)`, which computes element `i` of the
/// output, or with `width` 4 the vector of elements `4 i` to `4 i + 3`. As an `epilogue`, `Input(0)` is an argument
/// instead, `fused(value, i)`, and the bindings hold inputs 1 and up. `Element` is the type of one value.
pub fn fused_module(
    expr: &Expr,
    inputs: &[&Shape],
    output: &Shape,
    width: usize,
    first_binding: usize,
    epilogue: bool,
) -> String {
    let element = if width == 4 { "vec4<f32>" } else { "f32" };
    let first = usize::from(epilogue);
    let mut text = String::from("import package::lib::math::{erf, erf4, safe_tanh, safe_tanh4, finite, finite4};\n");
    let _ = writeln!(text, "alias Element = {element};");
    let mut body = String::new();
    for (n, shape) in inputs.iter().enumerate().skip(first).filter(|(n, _)| expr.uses(*n) > 0) {
        let access = Access::of(shape, output);
        let stored = if access == Access::Scalar { "f32" } else { element };
        let _ = writeln!(
            text,
            "@group(0) @binding({}) var<storage, read> in{n}: array<{stored}>;",
            first_binding + n - first
        );
        let load = match &access {
            Access::Full => format!("in{n}[i]"),
            Access::Scalar => format!("Element(in{n}[0])"),
            Access::Periodic(period) => format!("in{n}[i % {}u]", period / width),
            Access::Strided(axes) => format!("in{n}[{}]", strided_index(axes)),
        };
        let _ = writeln!(body, "    let x{n} = {load};");
    }
    let argument = if epilogue { "x0: Element, " } else { "" };
    let _ = write!(text, "fn fused({argument}i: u32) -> Element {{\n{body}    return {};\n}}\n", wgsl(expr, width));
    text
}

fn strided_index(axes: &[(usize, usize)]) -> String {
    let mut inner = 1;
    let mut terms = Vec::new();
    for (extent, stride) in axes.iter().rev() {
        if *stride > 0 {
            terms.push(format!("i / {inner}u % {extent}u * {stride}u"));
        }
        inner *= extent;
    }
    terms.join(" + ")
}

fn wgsl(expr: &Expr, width: usize) -> String {
    let suffix = if width == 4 { "4" } else { "" };
    match expr {
        Expr::Input(n) => format!("x{n}"),
        Expr::Constant(c) => format!("Element({:?}f)", *c as f32),
        Expr::Unary(function, a) => {
            let a = wgsl(a, width);
            match function {
                Unary::Neg => format!("(-{a})"),
                Unary::Exp => format!("exp({a})"),
                Unary::Ln => format!("log({a})"),
                Unary::Sqrt => format!("sqrt({a})"),
                Unary::Tanh => format!("safe_tanh{suffix}({a})"),
                Unary::Erf => format!("erf{suffix}({a})"),
                Unary::Abs => format!("abs({a})"),
                Unary::IsFinite => format!("finite{suffix}({a})"),
            }
        }
        Expr::Binary(function, a, b) => {
            let (a, b) = (wgsl(a, width), wgsl(b, width));
            match function {
                Binary::Add => format!("({a} + {b})"),
                Binary::Sub => format!("({a} - {b})"),
                Binary::Mul => format!("({a} * {b})"),
                Binary::Div => format!("({a} / {b})"),
                Binary::Max => format!("max({a}, {b})"),
                Binary::Min => format!("min({a}, {b})"),
            }
        }
        Expr::Select(c, a, b) => {
            format!("select({}, {}, {} > Element(0.0))", wgsl(b, width), wgsl(a, width), wgsl(c, width))
        }
    }
}
