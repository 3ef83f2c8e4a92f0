//! The fused form: patches are transformed on their way into workgroup memory, and the products on their way out.

use super::Winograd;
use crate::{
    kernel::{
        Expr, Signature,
        gpu::{Binding, Candidate, Pass, Shader, spread_workgroups},
    },
    ops::conv2d::gpu::correlation::{Epilogue, transpose_weight},
    tensor::DType,
};

/// Tiles and target channels of a workgroup, its invocations, and bytes of its memory.
const TILES: usize = 32;
const CHANNELS: usize = 32;
const INVOCATIONS: u32 = 256;
const MEMORY: u32 = 16 << 10;

impl Winograd<'_> {
    /// The forward pass, or the gradient of the input where `backward`.
    pub fn fused(&self, backward: bool, epilogue: Option<&Expr>, signature: &Signature) -> Option<Candidate> {
        const WEIGHT: usize = 0;
        const TRANSPOSED: usize = 1;
        if self.limits.workgroup_invocations < INVOCATIONS || self.limits.workgroup_memory < MEMORY {
            return None;
        }
        let (source, target, offset) = self.sides(backward);
        let [down, across] = target.extents.map(|extent| extent.div_ceil(2));
        let epilogue = Epilogue::of(epilogue, signature, true, 3);
        let shader = Shader::file("conv2d/winograd/fused")
            .constant("BATCH", self.geometry.batch)
            .constant("TILES_DOWN", down)
            .constant("TILES_ACROSS", across)
            .constant("SOURCE_HEIGHT", source.extents[0])
            .constant("SOURCE_WIDTH", source.extents[1])
            .constant("HEIGHT", target.extents[0])
            .constant("WIDTH", target.extents[1])
            .constant("K", source.channels)
            .constant("N", target.channels)
            .constant("OFFSET_HEIGHT", offset[0] as i32)
            .constant("OFFSET_WIDTH", offset[1] as i32)
            .fused(epilogue.module);
        let own = [Binding::Input(0), Binding::ScratchRead(WEIGHT), Binding::Output(0)];
        let tiles = self.geometry.batch * down * across;
        let convolve = Pass {
            shader,
            bindings: own.into_iter().chain(epilogue.bindings).collect(),
            workgroups: spread_workgroups(tiles.div_ceil(TILES) * target.channels.div_ceil(CHANNELS)),
        };
        let name = format!("winograd fused {TILES}x{CHANNELS}");
        if !backward {
            let passes = vec![self.weight(false, Binding::Input(1), WEIGHT), convolve];
            return Some(Candidate { name, passes, scratch: vec![self.weight_elements()] });
        }
        let weight = self.weight(true, Binding::ScratchRead(TRANSPOSED), WEIGHT);
        let elements = self.geometry.weight_type().elements();
        let passes = vec![transpose_weight(self.geometry, DType::F32, TRANSPOSED), weight, convolve];
        Some(Candidate { name, passes, scratch: vec![self.weight_elements(), elements] })
    }
}
