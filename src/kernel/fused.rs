//! The WGSL of pointwise expressions and of reductions of them.

use std::fmt::Write;

use super::{
    Extents, Reduction, Signature,
    expr::{Binary, Expr, Unary},
    gpu,
};
use crate::tensor::{DType, Shape, TensorType};

/// How an input is indexed by the flat index of the output's element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The same shape: the same index.
    Full,
    /// One element for all.
    Scalar,
    /// The output's innermost dimensions: the index modulo this period.
    Periodic(usize),
    /// Any other broadcast: extents of the output and the input's stride along each, outermost first. Neighbouring axes
    /// along which the input lies as the output does are one.
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
        let mut axes: Vec<(usize, usize)> = Vec::new();
        for axis in output.iter().copied().zip(input.broadcast_strides(output)).filter(|(extent, _)| *extent != 1) {
            match axes.last_mut() {
                Some(last) if last.1 == axis.0 * axis.1 => *last = (last.0 * axis.0, axis.1),
                _ => axes.push(axis),
            }
        }
        Access::Strided(axes)
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

    /// Whether four neighbouring elements of the output, the first one's index a multiple of four, read either four
    /// neighbours, as well aligned, or one element.
    fn is_vector(&self) -> bool {
        match self {
            Access::Full | Access::Scalar => true,
            Access::Periodic(period) => period.is_multiple_of(4),
            Access::Strided(axes) => match axes.split_last() {
                Some(((extent, 0), _)) => extent.is_multiple_of(4),
                Some(((extent, 1), outer)) => {
                    extent.is_multiple_of(4) && outer.iter().all(|(_, stride)| stride.is_multiple_of(4))
                }
                _ => false,
            },
        }
    }

    /// Whether one element is read for a whole vector.
    fn splats(&self) -> bool {
        match self {
            Access::Scalar => true,
            Access::Strided(axes) => axes.last().is_some_and(|(_, stride)| *stride == 0),
            Access::Full | Access::Periodic(_) => false,
        }
    }

    /// WGSL of the index for the output's Element `i`, which is `width` elements.
    fn wgsl_index(&self, width: usize) -> String {
        match self {
            Access::Full => "i".to_string(),
            Access::Scalar => "0".to_string(),
            Access::Periodic(period) => format!("i % {}u", period / width),
            Access::Strided(axes) => {
                let stored = if self.splats() { 1 } else { width };
                let mut inner = 1;
                let mut terms = Vec::new();
                for (at, (extent, stride)) in axes.iter().enumerate().rev() {
                    let innermost = at + 1 == axes.len();
                    let extent = if innermost { extent / width } else { *extent };
                    let stride = if innermost { *stride } else { stride / stored };
                    if stride > 0 {
                        let along = if at == 0 { String::new() } else { format!(" % {extent}u") };
                        terms.push(format!("i / {inner}u{along} * {stride}u"));
                    }
                    inner *= extent;
                }
                terms.join(" + ")
            }
        }
    }
}

/// Elements that one invocation computes at once: 4 where every input can be read in vectors of four, else 1.
pub fn vector_width(inputs: &[&TensorType], output: &TensorType) -> usize {
    let vectors = |input: &&TensorType| Access::of(&input.shape, &output.shape).is_vector();
    if output.elements().is_multiple_of(4) && inputs.iter().all(vectors) { 4 } else { 1 }
}

/// The type of `width` elements.
fn element(width: usize) -> &'static str {
    if width == 4 { "vec4<f32>" } else { "f32" }
}

/// The type in which a buffer of `dtype` holds `width` elements; signed bytes lie four to a word.
fn stored(dtype: DType, width: usize) -> &'static str {
    match (dtype, width) {
        (DType::F16, 4) => "vec4<f16>",
        (DType::F16, _) => "f16",
        (DType::I8, _) => "u32",
        _ => element(width),
    }
}

/// WGSL that declares input `n` at a binding, as it is read by `access`.
fn declaration(n: usize, dtype: DType, access: &Access, width: usize, binding: usize) -> String {
    let stored = stored(dtype, if access.splats() { 1 } else { width });
    format!("@group(0) @binding({binding}) var<storage, read> in{n}: array<{stored}>;\n")
}

/// WGSL of input `n` at `index`, as floats.
fn load(n: usize, dtype: DType, access: &Access, width: usize, index: &str) -> String {
    let is_one = width == 1 || access.splats();
    let value = match dtype {
        DType::I8 if is_one => format!("signed_byte(in{n}[({index}) / 4u], {index})"),
        DType::I8 => return format!("signed_bytes(in{n}[{index}])"),
        DType::F16 => format!("{}(in{n}[{index}])", element(if is_one { 1 } else { width })),
        DType::F32 | DType::U32 | DType::U8 => format!("in{n}[{index}]"),
    };
    if access.splats() { format!("{}({value})", element(width)) } else { value }
}

const IMPORTS: &str =
    "import package::lib::math::{erf, erf4, safe_tanh, safe_tanh4, finite, finite4, round_byte, round_byte4, round_half,
    round_half4};
import package::lib::bytes::{signed_byte, signed_bytes};
";

/// Text of the module `package::fused` for `expr` over inputs of these types, and the inputs that it reads: the others
/// are not declared.
///
/// It declares those inputs at the bindings from `first_binding` on and the function `fused(i)`, which computes element `i`
/// of the output, or with `width` 4 the vector of elements `4 i` to `4 i + 3`. As an `epilogue`, `Input(0)` is an argument
/// instead, `fused(value, i)`, and is not among the inputs. `Element` is the type of one value, `Stored` that in which the
/// output's buffer holds it.
pub fn fused_module(
    expr: &Expr,
    inputs: &[&TensorType],
    output: &TensorType,
    width: usize,
    first_binding: usize,
    epilogue: bool,
) -> (String, Vec<usize>) {
    let read: Vec<usize> = (usize::from(epilogue)..inputs.len()).filter(|n| expr.uses(*n) > 0).collect();
    let mut text =
        format!("{IMPORTS}alias Element = {};\nalias Stored = {};\n", element(width), stored(output.dtype, width));
    let mut body = String::new();
    for (at, &n) in read.iter().enumerate() {
        let TensorType { dtype, shape } = inputs[n];
        let access = Access::of(shape, &output.shape);
        text += &declaration(n, *dtype, &access, width, first_binding + at);
        let _ = writeln!(body, "    let x{n} = {};", load(n, *dtype, &access, width, &access.wgsl_index(width)));
    }
    let argument = if epilogue { "x0: Element, " } else { "" };
    let _ = write!(text, "fn fused({argument}i: u32) -> Element {{\n{body}    return {};\n}}\n", wgsl(expr, width));
    (text, read)
}

/// What a pass of a reduction reads and what it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Outputs of the inputs.
    Whole,
    /// Partial sums of the inputs, as scratch buffer 0.
    Split,
    /// Outputs of these partial sums.
    Merge,
}

/// Elements of each input that an invocation of a reduction's shader adds up at once: 4 neighbouring sums, or 4 terms
/// of one sum where there is only one along the innermost axes; 1 where an input cannot be read so.
pub fn reduction_width(reduction: &Reduction, inputs: &[TensorType]) -> usize {
    let Extents { n, inner, .. } = reduction.extents();
    let output = reduction.output_shape();
    let folds = inner == 1 && n.is_multiple_of(4);
    let vectors = inputs.iter().enumerate().all(|(n, TensorType { shape, .. })| {
        let term = reduction.adds(n).then(|| Access::of(shape, &reduction.shape));
        let finish = reduction.finishes_with(n).then(|| Access::of(shape, &output));
        match (term, finish) {
            (Some(term), None) => term.is_vector(),
            (None, Some(finish)) => folds || finish.is_vector(),
            // One declaration serves both.
            (Some(term), Some(finish)) => {
                term.is_vector() && finish.is_vector() && !folds && term.splats() == finish.splats()
            }
            (None, None) => true,
        }
    });
    if (folds || inner.is_multiple_of(4)) && vectors { 4 } else { 1 }
}

/// Text of the module `package::fused` for one pass of a reduction of these types, and what it binds.
///
/// It declares the struct `Terms` of one element or vector of each term, and functions: `terms(i, c)`, which gives the
/// terms of Element `i` of the elements, Element `c` of the innermost axes that are not added up; `add(a, b)`;
/// `shuffle_xor(a, mask)`, which gives those of the lane of the subgroup whose number differs by `mask`; and
/// `store(sums, i)`, which stores what the pass makes of the sums that belong to its output's Element `i`.
pub fn reduction_module(
    reduction: &Reduction,
    signature: &Signature,
    width: usize,
    pass: Pass,
) -> (String, Vec<gpu::Binding>) {
    let Extents { inner, .. } = reduction.extents();
    let output = reduction.output_shape();
    // Where there is one sum along the innermost axes, the elements of a vector are terms of it.
    let folds = width == 4 && inner == 1;
    let sum_width = if folds { 1 } else { width };
    let sums = reduction.terms.len();
    let mut bindings = Vec::new();
    let mut text = IMPORTS.to_string();
    let fields: Vec<String> = (0..sums).map(|t| format!("t{t}: {}", element(sum_width))).collect();
    let _ = writeln!(text, "struct Terms {{ {} }}", fields.join(", "));

    let (mut terms, mut finish) = (String::new(), String::new());
    for (n, TensorType { dtype, shape }) in signature.inputs.iter().enumerate() {
        let mut declared = String::new();
        if pass != Pass::Split && reduction.finishes_with(n) {
            let access = Access::of(shape, &output);
            declared = declaration(n, *dtype, &access, sum_width, bindings.len());
            let value = load(n, *dtype, &access, sum_width, &access.wgsl_index(sum_width));
            let _ = writeln!(finish, "    let x{} = {value};", sums + n);
        }
        if pass != Pass::Merge && reduction.adds(n) {
            let access = Access::of(shape, &reduction.shape);
            declared = declaration(n, *dtype, &access, width, bindings.len());
            // What depends on the column alone is loaded by it, which compilers take out of the loop over terms.
            let index = match access {
                Access::Periodic(period) if period == inner => "c".to_string(),
                _ => access.wgsl_index(width),
            };
            let _ = writeln!(terms, "    let x{n} = {};", load(n, *dtype, &access, width, &index));
        }
        if !declared.is_empty() {
            text += &declared;
            bindings.push(gpu::Binding::Input(n));
        }
    }

    let values: Vec<String> = match pass {
        Pass::Merge => {
            let partials = bindings.len();
            let _ = writeln!(text, "@group(0) @binding({partials}) var<storage, read> partials: array<Terms>;");
            bindings.push(gpu::Binding::ScratchRead(0));
            vec!["partials[i]".to_string()]
        }
        Pass::Whole | Pass::Split => {
            let sum = |value: String| if folds { format!("dot({value}, vec4<f32>(1.0))") } else { value };
            reduction.terms.iter().map(|term| sum(wgsl(term, width))).collect()
        }
    };
    let value = if pass == Pass::Merge { values.concat() } else { format!("Terms({})", values.join(", ")) };
    let _ = write!(text, "fn terms(i: u32, c: u32) -> Terms {{\n{terms}    return {value};\n}}\n");
    let added: Vec<String> = (0..sums).map(|t| format!("a.t{t} + b.t{t}")).collect();
    let _ = write!(text, "fn add(a: Terms, b: Terms) -> Terms {{\n    return Terms({});\n}}\n", added.join(", "));

    let shuffled: Vec<String> = (0..sums).map(|t| format!("subgroupShuffleXor(a.t{t}, mask)")).collect();
    let shuffled = shuffled.join(", ");
    let _ = write!(text, "fn shuffle_xor(a: Terms, mask: u32) -> Terms {{\n    return Terms({shuffled});\n}}\n");

    let mut store = String::new();
    if pass == Pass::Split {
        let _ =
            writeln!(text, "@group(0) @binding({}) var<storage, read_write> partials: array<Terms>;", bindings.len());
        bindings.push(gpu::Binding::Scratch(0));
        store += "    partials[i] = sums;\n";
    } else {
        for t in 0..sums {
            let _ = writeln!(store, "    let x{t} = sums.t{t};");
        }
        store += &finish;
        for (k, expr) in reduction.outputs.iter().enumerate() {
            let (binding, ty) = (bindings.len(), stored(signature.outputs[k].dtype, sum_width));
            let _ = writeln!(text, "@group(0) @binding({binding}) var<storage, read_write> out{k}: array<{ty}>;");
            bindings.push(gpu::Binding::Output(k));
            let _ = writeln!(store, "    out{k}[i] = {ty}({});", wgsl(expr, sum_width));
        }
    }
    let _ = write!(text, "fn store(sums: Terms, i: u32) {{\n{store}}}\n");
    (text, bindings)
}

fn wgsl(expr: &Expr, width: usize) -> String {
    let suffix = if width == 4 { "4" } else { "" };
    match expr {
        Expr::Input(n) => format!("x{n}"),
        Expr::Constant(c) => format!("{}({:?}f)", element(width), *c as f32),
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
                Unary::RoundF16 => format!("round_half{suffix}({a})"),
                Unary::RoundI8 => format!("round_byte{suffix}({a})"),
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
            let zero = format!("{}(0.0)", element(width));
            format!("select({}, {}, {} > {zero})", wgsl(b, width), wgsl(a, width), wgsl(c, width))
        }
    }
}
