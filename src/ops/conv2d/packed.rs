//! The convolution of an inference plan for the CPU, whose weight is packed once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Conv2d, cpu, image};
use crate::{
    graph::{Attributes, DynOp, Op, Prepared, ShapeError},
    kernel::{self, Signature},
    tensor::{Real, TensorType},
};

/// The weight of a convolution as the CPU's inner loops read it. Input: the weight; output: f32 `[elements]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PackWeight {
    conv: Conv2d,
    /// Extents of the image, by which its form is chosen.
    image: [usize; 4],
}

/// [`Conv2d`] with its weight as [`PackWeight`] makes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PackedConv2d {
    conv: Conv2d,
    /// Extents of the weight.
    filter: [usize; 4],
}

/// `conv`, of inputs of these types, as an operation that packs its weight and one that takes it packed; `None` where its weight
/// is read as it is.
pub(super) fn prepared(conv: &Conv2d, inputs: &[&TensorType]) -> Option<Prepared> {
    let [x, w, ..] = inputs else { return None };
    let geometry = conv.geometry(x, w).ok()?;
    cpu::packed_elements(&geometry)?;
    let pack = PackWeight { conv: Conv2d { epilogue: None, ..conv.clone() }, image: image("the input", x).ok()? };
    let packed = PackedConv2d { conv: conv.clone(), filter: super::filter(w).ok()? };
    let (by, op): (Arc<dyn DynOp>, Arc<dyn DynOp>) = (Arc::new(pack), Arc::new(packed));
    Some(Prepared { input: 1, by, op })
}

impl Op for PackWeight {
    fn name(&self) -> &str {
        "pack_weight"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("pack_weight", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [w] = inputs else {
            return Err(ShapeError::new(format!("expects a weight, got {} values", inputs.len())));
        };
        let geometry = self.conv.geometry(&TensorType::f32(self.image), w)?;
        let elements = cpu::packed_elements(&geometry).ok_or_else(|| ShapeError::new("such a weight is not packed"))?;
        Ok(vec![TensorType::f32([elements])])
    }

    fn flop(&self, _: &Signature) -> u64 {
        0
    }

    fn cpu<T: Real>(&self, mut args: kernel::cpu::Args<'_, T>) {
        let image = TensorType::f32(self.image);
        let geometry = self.conv.geometry(&image, args.inputs.ty(0)).expect("the shape rule accepted these types");
        cpu::pack_weight(&geometry, args.inputs.float(0), args.outputs.float(0));
    }

    fn gpu(&self, _: &Signature, _: &kernel::gpu::Limits) -> Vec<kernel::gpu::Candidate> {
        Vec::new()
    }
}

impl PackedConv2d {
    fn geometry(&self, x: &TensorType) -> Result<super::Geometry, ShapeError> {
        self.conv.geometry(x, &TensorType::f32(self.filter))
    }

    fn known(&self, x: &TensorType) -> super::Geometry {
        self.geometry(x).expect("the shape rule accepted these types")
    }
}

impl Op for PackedConv2d {
    fn name(&self) -> &str {
        "conv2d"
    }

    fn attributes(&self) -> Attributes {
        Attributes::of("packed_conv2d", self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, ShapeError> {
        let [x, packed, extra @ ..] = inputs else {
            return Err(ShapeError::new(format!("expects an input and a packed weight, got {} values", inputs.len())));
        };
        let geometry = self.geometry(x)?;
        if cpu::packed_elements(&geometry) != Some(packed.elements()) {
            return Err(ShapeError::new(format!("{packed} is no packed weight of {}", geometry.weight_type())));
        }
        let output = geometry.output_type().of(x.dtype);
        super::check_extra(extra, self.conv.epilogue.as_ref(), &output)?;
        Ok(vec![output])
    }

    fn flop(&self, signature: &Signature) -> u64 {
        let per_element = self.conv.epilogue.as_ref().map_or(0, kernel::Expr::operations);
        self.known(&signature.inputs[0]).flop() + per_element * signature.outputs[0].elements() as u64
    }

    fn cpu_scratch(&self, signature: &Signature) -> usize {
        cpu::packed_scratch(&self.known(&signature.inputs[0]))
    }

    fn cpu<T: Real>(&self, args: kernel::cpu::Args<'_, T>) {
        cpu::forward_packed(&self.known(args.inputs.ty(0)), self.conv.epilogue.as_ref(), args);
    }

    fn gpu(&self, _: &Signature, _: &kernel::gpu::Limits) -> Vec<kernel::gpu::Candidate> {
        Vec::new()
    }
}
