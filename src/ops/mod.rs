//! The operations: one file each, with its shape rule, its gradient rule, its CPU kernel and its GPU kernels.
//!
//! Each file also extends [`Graph`](crate::graph::Graph) with the method that applies the operation.

mod accuracy;
mod attention;
mod avg_pool;
mod batch_norm;
mod colour;
mod columns;
mod concat;
mod conv2d;
mod cross_entropy;
mod dropout;
mod gather;
mod global_pool;
mod layer_norm;
mod matmul;
mod max_pool;
mod mix;
mod normalise;
mod optimizer;
mod pad;
mod panel;
mod pointwise;
mod pool;
mod reduce;
mod resample;
mod rows;
mod slice;
mod softmax;
mod subgroup_block;
mod tile;
mod transpose;
mod view;
mod window;

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::graph::{Attributes, AttributesError, DynOp, Example, Op};

type Make = fn(&Attributes) -> Result<Arc<dyn DynOp>, AttributesError>;

/// The operations that a graph may hold, by kind: how each is made of its attributes.
const OPERATIONS: &[(&str, Make)] = &[
    ("adam", of_fields::<optimizer::Adam>),
    ("avg_pool2d", of_fields::<avg_pool::AvgPool2d>),
    ("avg_pool2d_grad", of_fields::<avg_pool::AvgPool2dGrad>),
    ("batch_norm", of_fields::<batch_norm::BatchNormApply>),
    ("batch_norm_statistics", of_fields::<batch_norm::BatchNormStatistics>),
    ("broadcast", of_fields::<reduce::Broadcast>),
    ("cast", of_fields::<pointwise::Cast>),
    ("colour", of_fields::<colour::Colour>),
    ("concat", of_fields::<concat::Concat>),
    ("conv2d", of_fields::<conv2d::Conv2d>),
    ("conv2d_grad_input", of_fields::<conv2d::Conv2dGradInput>),
    ("conv2d_grad_weight", of_fields::<conv2d::Conv2dGradWeight>),
    ("dropout", of_fields::<dropout::Dropout>),
    ("global_max_pool", of_fields::<global_pool::GlobalMaxPool>),
    ("global_max_pool_grad", of_fields::<global_pool::GlobalMaxPoolGrad>),
    ("layer_norm", of_fields::<layer_norm::LayerNorm>),
    ("layer_norm_grad", of_fields::<layer_norm::LayerNormGrad>),
    ("lion", of_fields::<optimizer::Lion>),
    ("matmul", of_fields::<matmul::MatMul>),
    ("max_pool2d", of_fields::<max_pool::MaxPool2d>),
    ("max_pool2d_grad", of_fields::<max_pool::MaxPool2dGrad>),
    ("mix_images", of_fields::<mix::MixImages>),
    ("normalise_images", of_fields::<normalise::NormaliseImages>),
    ("pack", of_fields::<view::Pack>),
    ("pointwise", of_fields::<pointwise::Pointwise>),
    ("reduce", of_fields::<reduce::Reduce>),
    ("resample", of_fields::<resample::Resample>),
    ("reshape", of_fields::<view::Reshape>),
    ("rmsprop", of_fields::<optimizer::RmsProp>),
    ("self_attention", of_fields::<attention::Attention>),
    ("self_attention_grad", of_fields::<attention::AttentionGrad>),
    ("segment_sums", of_fields::<optimizer::SegmentSums>),
    ("sgd", of_fields::<optimizer::Sgd>),
    ("slice", of_fields::<slice::Slice>),
    ("softmax", of_fields::<softmax::Softmax>),
    ("softmax_cross_entropy", of_fields::<cross_entropy::SoftmaxCrossEntropy>),
    ("softmax_grad", of_fields::<softmax::SoftmaxGrad>),
    ("top_k_correct", of_fields::<accuracy::TopKCorrect>),
    ("transpose", of_fields::<transpose::Transpose>),
    ("update", of_fields::<pointwise::Update>),
    ("zero_pad", of_fields::<pad::ZeroPad>),
];

/// The operation of these attributes.
///
/// # Errors
/// If there is none of that kind, or an attribute is missing, unknown, of another type or too large.
pub fn make(attributes: &Attributes) -> Result<Arc<dyn DynOp>, AttributesError> {
    match OPERATIONS.iter().find(|(kind, _)| *kind == attributes.kind) {
        Some((_, make)) => make(attributes),
        None => {
            Err(AttributesError { kind: attributes.kind.clone(), message: "there is no such operation".to_string() })
        }
    }
}

/// The operation whose fields the attributes are.
fn of_fields<O: Op + DeserializeOwned>(attributes: &Attributes) -> Result<Arc<dyn DynOp>, AttributesError> {
    Ok(Arc::new(attributes.make::<O>()?))
}

/// Lists the operations that have kernels of their own: for each, its examples and a test that runs them on a GPU.
macro_rules! with_kernels {
    ($($op:ident),* $(,)?) => {
        /// For each operation that has kernels of its own, by the name of its file, what a device is checked by.
        pub fn examples() -> Vec<(&'static str, Vec<Example>)> {
            vec![$((stringify!($op), $op::examples())),*]
        }

        #[cfg(test)]
        mod kernels_match_the_cpu {
            $(
                #[test]
                fn $op() {
                    crate::check::gpu_matches_cpu(&super::$op::examples());
                }
            )*
        }
    };
}

with_kernels! {
    accuracy,
    attention,
    avg_pool,
    batch_norm,
    colour,
    concat,
    conv2d,
    cross_entropy,
    dropout,
    global_pool,
    layer_norm,
    matmul,
    max_pool,
    mix,
    normalise,
    optimizer,
    pad,
    pointwise,
    reduce,
    resample,
    slice,
    softmax,
    transpose,
}

pub use avg_pool::Average;
pub use batch_norm::BatchNorm;
pub use colour::{ColourOptions, LOOK, SAME_LOOK};
pub use conv2d::Conv2dOptions;
pub use matmul::Factor;
pub use max_pool::Argmax;
pub use mix::MIX;
pub use optimizer::Optimizer;
pub use pointwise::{Pointwise, fused_pointwise};
pub use reduce::fused_reduction;
pub use resample::{Fill, Interpolation, Resampling};
pub use window::{Padding, Window, Window1d, WindowOptions};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        autodiff,
        graph::{Graph, Value},
        tensor::DType,
    };

    /// The operations of all examples and of their gradients.
    fn all() -> Vec<Arc<dyn DynOp>> {
        let mut all = Vec::new();
        for example in examples().into_iter().flat_map(|(_, examples)| examples) {
            let mut graph = Graph::new();
            let inputs: Vec<Value> = example.inputs.iter().map(|tensor| graph.constant(tensor.clone())).collect();
            let y = example.build(&mut graph, &inputs).unwrap();
            let floats = inputs.into_iter().filter(|input| graph.ty(*input).dtype == DType::F32).collect::<Vec<_>>();
            if let Ok(sum) = graph.sum(y, &(0..graph.shape(y).rank()).collect::<Vec<_>>()) {
                for input in floats {
                    // Some have none.
                    let _ = autodiff::gradients(&mut graph, sum, &[input]);
                }
            }
            all.extend(graph.nodes().iter().filter_map(|node| match &node.source {
                crate::graph::Source::Op(op) => Some(op.clone()),
                _ => None,
            }));
        }
        all
    }

    #[test]
    fn every_operation_is_made_again_of_its_attributes() {
        let mut made: BTreeSet<String> = BTreeSet::new();
        for op in all() {
            let attributes = op.attributes();
            let text = serde_json::to_string(&attributes).unwrap();
            let again = make(&serde_json::from_str(&text).unwrap()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{op:?}"));
            made.insert(attributes.kind);
        }
        let listed: BTreeSet<String> = OPERATIONS.iter().map(|(kind, _)| (*kind).to_string()).collect();
        // What no example of its own needs: a block of gradients is there in training alone.
        let packed = BTreeSet::from(["pack".to_string()]);
        assert_eq!(made.union(&packed).cloned().collect::<BTreeSet<_>>(), listed);
    }

    #[test]
    fn what_no_operation_is_made_of_is_named() {
        let error = |text: &str| make(&serde_json::from_str(text).unwrap()).unwrap_err().to_string();
        assert_eq!(error(r#"{"op": "conv3d"}"#), "the attributes of \"conv3d\": there is no such operation");
        assert!(error(r#"{"op": "concat"}"#).contains("missing field `axis`"), "{}", error(r#"{"op": "concat"}"#));
        let unknown = error(r#"{"op": "concat", "attributes": {"axis": 1, "axes": 2}}"#);
        assert!(unknown.contains("unknown field `axes`"), "{unknown}");
        let large = error(r#"{"op": "zero_pad", "attributes": {"amounts": [[0, 9007199254740993]]}}"#);
        assert!(large.contains("\"amounts\" holds a whole number above"), "{large}");
    }
}
