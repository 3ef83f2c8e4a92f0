//! Graphs as files: JSON with each node's operation, attributes and inputs. Values of variables are not part of it.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Attributes, AttributesError, DynOp, Graph, GraphError, Source, Value, Variable, VariableId, Variables};
use crate::tensor::{DType, Tensor, TensorType, f16};

/// What the file says it is.
const FORMAT: &str = "gabor graph";

/// Raised by a change after which older versions could not read a file, or would read it wrongly.
const VERSION: u32 = 1;

/// Elements that a value may have, so that sums of sizes stay far from overflowing.
const MOST_ELEMENTS: usize = 1 << 40;

/// Axes that a value may have.
const MOST_AXES: usize = 16;

/// Makes an operation of its attributes, such as [`crate::ops::make`].
pub type MakeOp<'a> = &'a dyn Fn(&Attributes) -> Result<Arc<dyn DynOp>, AttributesError>;

/// A file that is no graph.
#[derive(Debug, Error)]
pub enum GraphFileError {
    /// It is not JSON, or a field is missing, unknown or of another type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It says that it is something else.
    #[error("format: expected {FORMAT:?}, not {0:?}")]
    Format(String),
    /// It was written by another version.
    #[error("version: this gabor reads version {VERSION}, and this is version {0}")]
    Version(u32),
    /// A node cannot be.
    #[error("nodes[{node}]: {message}")]
    Node {
        /// Its number.
        node: usize,
        /// What is wrong.
        message: String,
    },
    /// A variable, an output or an assignment cannot be.
    #[error("{field}: {message}")]
    Field {
        /// Such as `outputs[0]`.
        field: String,
        /// What is wrong.
        message: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: String,
    version: u32,
    variables: Vec<FileVariable>,
    nodes: Vec<FileNode>,
    outputs: Vec<FileOutput>,
    assigns: Vec<FileAssign>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileVariable {
    name: String,
    dtype: DType,
    elements: usize,
}

/// A value: number of the node, and which of its outputs.
type FileValue = [usize; 2];

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileNode {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    layer: String,
    source: FileSource,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<FileValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FileSource {
    Feed {
        name: String,
        #[serde(rename = "type")]
        ty: TensorType,
    },
    Variable {
        variable: usize,
        offset: usize,
        #[serde(rename = "type")]
        ty: TensorType,
    },
    /// The elements in base64, little-endian.
    Constant {
        #[serde(rename = "type")]
        ty: TensorType,
        data: String,
    },
    Op(Attributes),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOutput {
    name: String,
    value: FileValue,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAssign {
    variable: usize,
    value: FileValue,
}

/// The file of `graph`, whose variables are among `variables`: JSON.
///
/// # Errors
/// If JSON cannot express it.
pub fn save(graph: &Graph, variables: &Variables) -> Result<String, GraphFileError> {
    let value = |value: &Value| [value.node, value.output];
    let source = |node: &super::Node| match &node.source {
        Source::Feed(name) => FileSource::Feed { name: name.clone(), ty: node.types[0].clone() },
        Source::Variable { id, offset } => {
            FileSource::Variable { variable: id.0, offset: *offset, ty: node.types[0].clone() }
        }
        Source::Constant(tensor) => FileSource::Constant { ty: tensor.ty(), data: BASE64.encode(tensor.bytes()) },
        Source::Op(op) => FileSource::Op(op.attributes()),
    };
    let file = File {
        format: FORMAT.to_string(),
        version: VERSION,
        variables: variables
            .iter()
            .map(|(_, Variable { name, dtype, elements })| FileVariable {
                name: name.clone(),
                dtype: *dtype,
                elements: *elements,
            })
            .collect(),
        nodes: graph
            .nodes()
            .iter()
            .map(|node| FileNode {
                layer: node.scope.to_string(),
                source: source(node),
                inputs: node.inputs.iter().map(value).collect(),
            })
            .collect(),
        outputs: graph
            .outputs()
            .iter()
            .map(|(name, output)| FileOutput { name: name.clone(), value: value(output) })
            .collect(),
        assigns: graph.assigns().iter().map(|(id, new)| FileAssign { variable: id.0, value: value(new) }).collect(),
    };
    Ok(serde_json::to_string_pretty(&file)?)
}

/// The graph of a file, and its variables. `make` makes the operations.
///
/// # Errors
/// If the text is no such file, or what it says cannot be; the error names the field.
pub fn load(text: &str, make: MakeOp<'_>) -> Result<(Graph, Variables), GraphFileError> {
    let file: File = serde_json::from_str(text)?;
    if file.format != FORMAT {
        return Err(GraphFileError::Format(file.format));
    }
    if file.version != VERSION {
        return Err(GraphFileError::Version(file.version));
    }
    let field = |name: &str, at: usize| {
        let field = format!("{name}[{at}]");
        move |message: String| GraphFileError::Field { field: field.clone(), message }
    };
    let mut variables = Variables::new();
    for (at, FileVariable { name, dtype, elements }) in file.variables.into_iter().enumerate() {
        if elements > MOST_ELEMENTS {
            return Err(field("variables", at)(format!("{elements} elements are more than {MOST_ELEMENTS}")));
        }
        check_name(&name).map_err(field("variables", at))?;
        variables.add(name, dtype, elements);
    }
    let mut graph = Graph::new();
    for (node, content) in file.nodes.into_iter().enumerate() {
        append(&mut graph, &variables, content, make).map_err(|message| GraphFileError::Node { node, message })?;
    }
    for (at, FileOutput { name, value }) in file.outputs.into_iter().enumerate() {
        check_name(&name).map_err(field("outputs", at))?;
        let value = find(&graph, value).map_err(field("outputs", at))?;
        graph.output(name, value);
    }
    for (at, FileAssign { variable, value }) in file.assigns.into_iter().enumerate() {
        let value = find(&graph, value).map_err(field("assigns", at))?;
        window(&variables, variable, 0, graph.ty(value)).map_err(field("assigns", at))?;
        graph.assign(VariableId(variable), value);
    }
    Ok((graph, variables))
}

/// That a name can be printed.
fn check_name(name: &str) -> Result<(), String> {
    match name.chars().any(char::is_control) {
        true => Err(format!("the name {name:?} holds a control character")),
        false => Ok(()),
    }
}

/// Appends the node that a file describes.
fn append(graph: &mut Graph, variables: &Variables, node: FileNode, make: MakeOp<'_>) -> Result<(), String> {
    check_name(&node.layer)?;
    let inputs = node.inputs.iter().map(|value| find(graph, *value)).collect::<Result<Vec<_>, _>>()?;
    if !inputs.is_empty() && !matches!(node.source, FileSource::Op(_)) {
        return Err("inputs: only an operation has some".to_string());
    }
    graph.scope = vec![node.layer];
    let made = graph.nodes.len();
    match node.source {
        FileSource::Feed { name, ty } => {
            check_name(&name)?;
            check_type(&ty)?;
            graph.feed(name, ty);
        }
        FileSource::Variable { variable, offset, ty } => {
            check_type(&ty)?;
            window(variables, variable, offset, &ty)?;
            graph.variable(VariableId(variable), offset, ty);
        }
        FileSource::Constant { ty, data } => {
            check_type(&ty)?;
            let bytes = BASE64.decode(data).map_err(|error| format!("data: {error}"))?;
            if bytes.len() != ty.bytes() {
                return Err(format!("data: {ty} has {} bytes, not {}", ty.bytes(), bytes.len()));
            }
            graph.constant(tensor(ty, &bytes));
        }
        FileSource::Op(attributes) => {
            let op = make(&attributes).map_err(|error| error.to_string())?;
            graph.apply_dyn(op, &inputs).map_err(|error: GraphError| error.to_string())?;
        }
    }
    graph.scope.clear();
    graph.nodes[made].types.iter().try_for_each(check_type)
}

fn find(graph: &Graph, [node, output]: FileValue) -> Result<Value, String> {
    match graph.nodes().get(node) {
        Some(found) if output < found.types.len() => Ok(Value { node, output }),
        Some(found) => Err(format!("node {node} has {} outputs, so there is no output {output}", found.types.len())),
        None => Err(format!("node {node} does not come before")),
    }
}

/// That a value is not larger than any device could hold.
fn check_type(ty: &TensorType) -> Result<(), String> {
    let elements = ty.shape.iter().try_fold(1usize, |product, extent| product.checked_mul(*extent));
    match elements {
        Some(elements) if elements <= MOST_ELEMENTS && ty.shape.rank() <= MOST_AXES => Ok(()),
        _ => Err(format!("type: {ty} has more than {MOST_AXES} axes or more than {MOST_ELEMENTS} elements")),
    }
}

/// That a value of this type lies inside of a variable.
fn window(variables: &Variables, variable: usize, offset: usize, ty: &TensorType) -> Result<(), String> {
    let Some((_, found)) = variables.iter().nth(variable) else {
        return Err(format!(
            "variable: there are {} variables, so there is no number {variable}",
            variables.iter().count()
        ));
    };
    let end = offset.checked_add(ty.elements());
    if ty.dtype != found.dtype || end.is_none_or(|end| end > found.elements) {
        return Err(format!(
            "variable: {ty} from element {offset} on is not in {:?}, which is {}[{}]",
            found.name, found.dtype, found.elements
        ));
    }
    Ok(())
}

/// The tensor of this type and these bytes, of which there are as many as it has.
fn tensor(ty: TensorType, bytes: &[u8]) -> Tensor {
    let words = || bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
    match ty.dtype {
        DType::F32 => Tensor::f32(ty.shape, words().map(f32::from_le_bytes).collect()),
        DType::U32 => Tensor::u32(ty.shape, words().map(u32::from_le_bytes).collect()),
        DType::U8 => Tensor::u8(ty.shape, bytes.to_vec()),
        DType::F16 => {
            let halves = bytes.chunks_exact(2).map(|half| f16::from_le_bytes([half[0], half[1]]));
            Tensor::f16(ty.shape, halves.collect())
        }
        DType::I8 => Tensor::i8(ty.shape, bytes.iter().map(|byte| *byte as i8).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;

    /// A graph with a source of each kind.
    fn example() -> (Graph, Variables) {
        let (mut graph, mut variables) = (Graph::new(), Variables::new());
        let weights = variables.add("weights", DType::F32, 16);
        let x = graph.feed("x", TensorType::f32([2, 4]));
        let y = graph.scoped("dense", |graph| {
            let weight = graph.variable(weights, 4, TensorType::f32([4, 3]));
            graph.dense(x, weight).unwrap()
        });
        let bias = graph.constant(Tensor::f32([3], vec![0.1, f32::NEG_INFINITY, -0.0]));
        let y = graph.add(y, bias).unwrap();
        graph.output("y", y);
        let old = graph.variable(weights, 0, TensorType::f32([16]));
        let new = graph.scale(old, 0.5).unwrap();
        graph.assign(weights, new);
        (graph, variables)
    }

    fn text() -> String {
        let (graph, variables) = example();
        save(&graph, &variables).unwrap()
    }

    #[test]
    fn a_graph_is_what_it_was() {
        let (graph, variables) = example();
        let (graph_again, variables_again) = load(&text(), &ops::make).unwrap();
        assert_eq!(format!("{:?}", graph_again.nodes()), format!("{:?}", graph.nodes()));
        assert_eq!(graph_again.outputs(), graph.outputs());
        assert_eq!(graph_again.assigns(), graph.assigns());
        assert_eq!(format!("{variables_again:?}"), format!("{variables:?}"));
    }

    #[track_caller]
    fn expect(from: &str, to: &str, message: &str) {
        let text = text();
        assert!(text.contains(from), "{from:?} is not in {text}");
        let error = load(&text.replacen(from, to, 1), &ops::make).unwrap_err().to_string();
        assert!(error.contains(message), "{error:?} does not say {message:?}");
    }

    #[test]
    fn a_damaged_file_names_the_field() {
        expect("gabor graph", "graph", "format: expected \"gabor graph\", not \"graph\"");
        expect("\"version\": 1", "\"version\": 2", "version: this gabor reads version 1, and this is version 2");
        expect(
            "\"offset\": 4",
            "\"offset\": 5",
            "nodes[1]: variable: f32[4, 3] from element 5 on is not in \"weights\"",
        );
        expect("\"variable\": 0", "\"variable\": 7", "nodes[1]: variable: there are 1 variables");
        expect("\"offset\": 4", "\"offset\": 18446744073709551615", "nodes[1]: variable");
        expect("\"name\": \"x\",", "", "missing field `name`");
        expect(
            "\"op\": \"matmul\"",
            "\"op\": \"matmull\"",
            "nodes[2]: the attributes of \"matmull\": there is no such",
        );
        expect("\"transpose_a\": ", "\"transpose_c\": ", "unknown field `transpose_c`");
        expect("\"elements\": 16", "\"elements\": 99999999999999", "variables[0]: 99999999999999 elements");
        expect("\"data\": \"", "\"data\": \"!", "nodes[3]: data: ");
        expect("\"data\": \"", "\"data\": \"AAAA", "nodes[3]: data: f32[3] has 12 bytes, not 15");
        expect(
            "\"layer\": \"dense\"",
            "\"layer\": \"\\u001b[2J\"",
            "nodes[1]: the name \"\\u{1b}[2J\" holds a control",
        );
        expect("\"name\": \"add\"", "\"name\": \"\\u0007\"", "\"name\" holds a whole number above");
        expect("\"outputs\": [", "\"outputs\": [{\"name\": \"z\", \"value\": [99, 0]},", "outputs[0]: node 99");
        expect(
            "\"outputs\": [",
            "\"outputs\": [{\"name\": \"z\", \"value\": [0, 1]},",
            "outputs[0]: node 0 has 1 outputs",
        );
    }

    #[test]
    fn narrow_types_come_back() {
        let (mut graph, mut variables) = (Graph::new(), Variables::new());
        let weights = variables.add("weights", DType::F16, 3);
        let x = graph.variable(weights, 0, TensorType::f16([3]));
        let halves = [1.5, -0.0, f32::INFINITY].map(f16::from_f32).to_vec();
        let half = graph.constant(Tensor::f16([3], halves.clone()));
        let sum = graph.add(x, half).unwrap();
        let byte = graph.cast(sum, DType::I8).unwrap();
        graph.output("byte", byte);
        let constant = graph.constant(Tensor::i8([3], vec![-128, 0, 127]));
        graph.output("constant", constant);
        let text = save(&graph, &variables).unwrap();
        let (again, variables_again) = load(&text, &ops::make).unwrap();
        assert_eq!(format!("{:?}", again.nodes()), format!("{:?}", graph.nodes()));
        assert_eq!(format!("{variables_again:?}"), format!("{variables:?}"));
        let Source::Constant(tensor) = &again.nodes()[1].source else { panic!("a constant") };
        assert_eq!(**tensor, Tensor::f16([3], halves));
    }

    #[test]
    fn sizes_beyond_all_devices_are_refused() {
        let mut huge: serde_json::Value = serde_json::from_str(&text()).unwrap();
        huge["nodes"][0]["source"]["feed"]["type"]["shape"] = vec![1usize << 32; 3].into();
        let error = load(&huge.to_string(), &ops::make).unwrap_err().to_string();
        assert!(error.contains("nodes[0]: type: ") && error.contains("elements"), "{error}");
    }

    #[test]
    fn a_file_cut_short_is_an_error() {
        let text = text();
        for end in (0..text.len()).step_by(37) {
            assert!(load(&text[..end], &ops::make).is_err(), "cut at {end}");
        }
    }
}
