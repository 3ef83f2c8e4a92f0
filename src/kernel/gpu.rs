//! Declarations of GPU kernels: which WGSL, specialised how, on which buffers, over how many workgroups.

use std::borrow::Cow;

use super::Signature;
use crate::tensor::DType;

/// Largest number of workgroups along one dimension of a dispatch (WebGPU's and most adapters' limit).
pub const MAX_WORKGROUPS: u32 = 65_535;

/// Storage buffers that one dispatch may bind: WebGPU's smallest limit.
pub const MAX_BINDINGS: usize = 8;

/// Lanes of a workgroup of the kernels that give each invocation one element.
pub const LINEAR_WORKGROUP: u32 = 256;

/// What a kernel's choice may depend on, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Bytes that one storage binding may span.
    pub max_binding: u64,
    /// Bytes that one buffer may have.
    pub max_buffer: u64,
    /// Bytes of workgroup memory.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub workgroup_invocations: u32,
    /// Alignment in bytes of a storage binding's offset.
    pub offset_alignment: u32,
    /// Smallest and largest subgroup, where the adapter has subgroup operations.
    pub subgroup: Option<(u32, u32)>,
    /// Compute units: workgroups of 256 invocations that run at full speed at once.
    pub units: u32,
    /// A processor runs the shaders (lavapipe, WARP, SwiftShader).
    pub software: bool,
    /// Shaders may hold 16-bit floats.
    pub f16: bool,
    /// Name of the adapter, for messages.
    pub adapter: String,
}

/// One way to compute an operation on a GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Kernel and tile as the plan's table shows them, such as `implicit_gemm 64x64x16`.
    pub name: String,
    /// Dispatches, in order.
    pub passes: Vec<Pass>,
    /// Elements (f32 or u32, 4 bytes each) of each scratch buffer that the passes share.
    pub scratch: Vec<usize>,
}

impl Candidate {
    /// A kernel of one dispatch without scratch memory.
    pub fn single(name: impl Into<String>, pass: Pass) -> Self {
        Self { name: name.into(), passes: vec![pass], scratch: Vec::new() }
    }

    /// Whether its shaders run on a device of these `limits`, and read and write 16-bit floats where the `signature` has
    /// them: one that takes them for f32 is no candidate.
    pub fn takes(&self, signature: &Signature, limits: &Limits) -> bool {
        self.passes.iter().all(|pass| {
            let binds_f16 = pass.bindings.iter().any(|binding| {
                let ty = match *binding {
                    Binding::Input(at) => &signature.inputs[at],
                    Binding::Output(at) | Binding::OutputRead(at) => &signature.outputs[at],
                    Binding::Scratch(_) | Binding::ScratchRead(_) => return false,
                };
                ty.dtype == DType::F16
            });
            if pass.shader.holds_f16() { limits.f16 } else { !binds_f16 }
        })
    }
}

/// One dispatch. Binding `i` of group 0 in the WGSL is `bindings[i]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// The shader and what specialises it.
    pub shader: Shader,
    /// Buffers of group 0, in order of their binding numbers. The WGSL declares an input as `var<storage, read>` and
    /// an output or scratch it writes as `var<storage, read_write>`.
    pub bindings: Vec<Binding>,
    /// Workgroups along x, y and z.
    pub workgroups: [u32; 3],
}

impl Pass {
    /// The same on scratch buffers whose numbers come after `count` others.
    pub fn with_scratch_after(mut self, count: usize) -> Self {
        for binding in &mut self.bindings {
            match binding {
                Binding::Scratch(at) | Binding::ScratchRead(at) => *at += count,
                _ => (),
            }
        }
        self
    }
}

/// A buffer that a pass binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binding {
    /// Input of the operation, read only.
    Input(usize),
    /// Output of the operation, read and written.
    Output(usize),
    /// An output that an earlier pass wrote, read only.
    OutputRead(usize),
    /// Scratch buffer, read and written.
    Scratch(usize),
    /// Scratch buffer that an earlier pass wrote, read only.
    ScratchRead(usize),
}

/// A WGSL module and its specialisation. Two passes with equal shaders share a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// Where the text is.
    pub source: Source,
    /// Constants that the module imports from `package::constants`, in order.
    pub constants: Vec<(&'static str, Constant)>,
    /// WESL conditions that are switched on.
    pub features: Vec<&'static str>,
    /// Text of the module `package::fused`, where the shader imports functions of a fused chain from it.
    pub fused: Option<String>,
}

/// Where a shader's text is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A file below `shaders/`, without its ending, such as `conv2d/forward`.
    File(&'static str),
    /// The text itself: kernels from outside this crate.
    Text(Cow<'static, str>),
}

/// A constant of a shader. Floats are compared by their bits so that shaders can be keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Constant {
    /// `u32`.
    Uint(u32),
    /// `i32`.
    Int(i32),
    /// `f32`, as bits.
    Float(u32),
}

impl From<u32> for Constant {
    fn from(value: u32) -> Self {
        Constant::Uint(value)
    }
}

impl From<usize> for Constant {
    fn from(value: usize) -> Self {
        Constant::Uint(value as u32)
    }
}

impl From<i32> for Constant {
    fn from(value: i32) -> Self {
        Constant::Int(value)
    }
}

impl From<f32> for Constant {
    fn from(value: f32) -> Self {
        Constant::Float(value.to_bits())
    }
}

impl Shader {
    /// The shader in `shaders/{path}.wgsl`; its entry point is `main`.
    pub fn file(path: &'static str) -> Self {
        Self { source: Source::File(path), constants: Vec::new(), features: Vec::new(), fused: None }
    }

    /// A shader from its text; its entry point is `main`.
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self { source: Source::Text(text.into()), constants: Vec::new(), features: Vec::new(), fused: None }
    }

    /// Defines `name` in `package::constants`.
    pub fn constant(mut self, name: &'static str, value: impl Into<Constant>) -> Self {
        self.constants.push((name, value.into()));
        self
    }

    /// Switches a WESL condition on where `on` holds.
    pub fn feature(mut self, name: &'static str, on: bool) -> Self {
        if on {
            self.features.push(name);
        }
        self
    }

    /// Whether its text names 16-bit floats: the condition `F16` says so of what the shader declares itself.
    pub fn holds_f16(&self) -> bool {
        self.features.contains(&"F16") || self.fused.as_ref().is_some_and(|text| text.contains("f16"))
    }

    /// Sets the text of `package::fused`.
    pub fn fused(mut self, text: String) -> Self {
        self.fused = Some(text);
        self
    }
}

/// Workgroups for `invocations` that each own one element, [`LINEAR_WORKGROUP`] to a workgroup: along x, and along y
/// as well where x alone would pass [`MAX_WORKGROUPS`]. The shader finds its element with `lib::index::linear`.
pub fn linear_workgroups(invocations: usize) -> [u32; 3] {
    spread_workgroups(invocations.div_ceil(LINEAR_WORKGROUP as usize))
}

/// `count` workgroups in a row, folded into y where x alone would pass [`MAX_WORKGROUPS`]. A few more than `count` may
/// run: the shader finds its number with `lib::index::workgroup` and returns where it is not below the count.
pub fn spread_workgroups(count: usize) -> [u32; 3] {
    let count = count.max(1);
    let rows = count.div_ceil(MAX_WORKGROUPS as usize);
    [count.div_ceil(rows) as u32, rows as u32, 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::TensorType;

    #[test]
    fn a_kernel_that_takes_halves_for_floats_is_no_candidate() {
        let pass = |shader: Shader| Pass { shader, bindings: vec![Binding::Input(0)], workgroups: [1, 1, 1] };
        let plain = Candidate::single("plain", pass(Shader::file("pool/max")));
        let halves = Candidate::single("halves", pass(Shader::file("pool/max").feature("F16", true)));
        let signature = |ty: TensorType| Signature { inputs: vec![ty], outputs: vec![] };
        let (floats, half) = (signature(TensorType::f32([4])), signature(TensorType::f16([4])));
        let limits = |f16: bool| Limits {
            max_binding: 1 << 30,
            max_buffer: 1 << 30,
            workgroup_memory: 32 << 10,
            workgroup_invocations: 256,
            offset_alignment: 256,
            subgroup: None,
            units: 32,
            software: false,
            f16,
            adapter: String::new(),
        };
        assert!(plain.takes(&floats, &limits(false)) && !plain.takes(&half, &limits(true)));
        assert!(halves.takes(&half, &limits(true)) && !halves.takes(&half, &limits(false)));
    }
}
