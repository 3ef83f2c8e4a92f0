//! Sums over taps of the window: the forward pass and the gradient of the input.

use super::{
    super::geometry::{Axis, Geometry},
    SOFTWARE_CHOICES, axis_constants, direct_cost, fits_tap_bits,
    tile::{self, STEPS, TILES},
    winograd::Winograd,
};
use crate::{
    kernel::{
        Expr, Signature, fused_module,
        gpu::{Binding, Candidate, Limits, Pass, Shader, linear_workgroups, spread_workgroups},
    },
    ops::{
        batch_norm::Moments,
        subgroup_block::{SubgroupBlock, by_cost},
        tile::{Sums, Tile},
        window::Window1d,
    },
    tensor::{DType, TensorType},
};

/// The kernel of tiles.
const IMPLICIT_GEMM: &str = "implicit_gemm";
/// Target channels from which on only tiles are worth trying.
const FEW_CHANNELS: usize = 32;
/// Fewest terms of a partial sum, and most of these.
const SHORTEST: usize = 256;
const MOST_SPLITS: usize = 32;

/// A sum over taps as `conv2d/axis` knows it: the forward pass, or the gradient of the input.
pub(super) struct Correlation<'a> {
    pub geometry: &'a Geometry,
    pub backward: bool,
    pub epilogue: Epilogue,
    /// The moments of the result are wanted: tiles leave them besides, but not those of split sums.
    pub measured: bool,
    /// Type of the source and of the weight.
    pub factors: DType,
}

/// What is applied to each element before it is stored.
pub(super) struct Epilogue {
    pub module: String,
    pub bindings: Vec<Binding>,
    expr: Expr,
    /// Types of what it reads besides, and of the output.
    extra: Vec<TensorType>,
    output: TensorType,
    /// It takes four elements at once.
    vector: bool,
}

impl Epilogue {
    /// An operation's epilogue, or none; what it reads is at the bindings from `first_binding` on.
    pub fn of(epilogue: Option<&Expr>, signature: &Signature, vectors: bool, first_binding: usize) -> Self {
        let expr = epilogue.unwrap_or(&Expr::Input(0));
        Self::new(expr, &signature.inputs[2..], &signature.outputs[0], vectors, first_binding)
    }

    /// `expr` over additional inputs, which are those of the operation from its third on, for a kernel that stores four
    /// elements at once where `vectors`.
    pub fn new(expr: &Expr, extra: &[TensorType], output: &TensorType, vectors: bool, first_binding: usize) -> Self {
        let types: Vec<&TensorType> = std::iter::once(output).chain(extra).collect();
        // What broadcasts to whole vectors of channels can be read by them.
        let width = if vectors { 4 } else { 1 };
        let (module, read) = fused_module(expr, &types, output, width, first_binding, true);
        let bindings = read.into_iter().map(|n| Binding::Input(n + 1)).collect();
        let (extra, output) = (extra.to_vec(), output.clone());
        Self { module, bindings, expr: expr.clone(), extra, output, vector: vectors }
    }

    /// Whether it leaves elements as they are.
    fn is_identity(&self) -> bool {
        self.expr == Expr::Input(0)
    }

    /// None, for sums that are not finished.
    fn none(&self) -> Self {
        Self::new(&Expr::Input(0), &[], &self.output.of(DType::F32), self.vector, 3)
    }

    /// The same for the pass that finishes split sums.
    fn after_splits(&self) -> Self {
        Self::new(&self.expr, &self.extra, &self.output, self.vector, 2)
    }
}

pub(in super::super) fn forward(
    geometry: &Geometry,
    epilogue: Option<&Expr>,
    signature: &Signature,
    limits: &Limits,
) -> Vec<Candidate> {
    kernels(geometry, epilogue, signature, limits, false)
}

fn kernels(
    geometry: &Geometry,
    epilogue: Option<&Expr>,
    signature: &Signature,
    limits: &Limits,
    measured: bool,
) -> Vec<Candidate> {
    let channels = if geometry.depthwise() { geometry.out_channels } else { geometry.group_out() };
    let module = Epilogue::of(epilogue, signature, channels.is_multiple_of(4), 3);
    let factors = signature.inputs[0].dtype;
    let kernel = Correlation { geometry, backward: false, epilogue: module, measured, factors };
    let mut candidates = kernel.candidates(limits);
    if let Some(winograd) = Winograd::of(geometry, limits).filter(|_| kernel.is_f32()) {
        winograd.join(false, epilogue, signature, &mut candidates);
    }
    candidates
}

/// The kernels of the forward pass without epilogue, those of tiles with the moments of their rows.
pub(in super::super) fn forward_measured(
    geometry: &Geometry,
    signature: &Signature,
    limits: &Limits,
) -> Vec<(Candidate, Option<Moments>)> {
    let epilogue = Epilogue::of(None, signature, true, 3);
    let factors = signature.inputs[0].dtype;
    let kernel = Correlation { geometry, backward: false, epilogue, measured: true, factors };
    let tile_of = |candidate: &Candidate| TILES.iter().find(|tile| tile::name(tile, IMPLICIT_GEMM) == candidate.name);
    let measured = |candidate: Candidate| match tile_of(&candidate) {
        Some(tile) if geometry.out_channels.is_multiple_of(4) => {
            let (candidate, moments) = kernel.measured(tile);
            (candidate, Some(moments))
        }
        _ => (candidate, None),
    };
    kernels(geometry, None, signature, limits, true).into_iter().map(measured).collect()
}

pub(in super::super) fn grad_input(
    geometry: &Geometry,
    epilogue: Option<&Expr>,
    signature: &Signature,
    limits: &Limits,
) -> Vec<Candidate> {
    let channels = if geometry.depthwise() { geometry.in_channels } else { geometry.group_in() };
    let module = Epilogue::of(epilogue, signature, channels.is_multiple_of(4), 3);
    let factors = signature.inputs[0].dtype;
    let kernel = Correlation { geometry, backward: true, epilogue: module, measured: false, factors };
    let mut candidates = kernel.candidates(limits);
    if let Some(winograd) = Winograd::of(geometry, limits).filter(|_| kernel.is_f32()) {
        winograd.join(true, epilogue, signature, &mut candidates);
    }
    candidates
}

/// Turns the weight in scratch buffer `to` so that its input channels are innermost.
pub fn transpose_weight(geometry: &Geometry, weight: DType, to: usize) -> Pass {
    let (taps, rows, columns) = (geometry.taps(), geometry.group_in(), geometry.out_channels);
    Pass {
        shader: Shader::file("layout/transpose")
            .feature("F16", weight == DType::F16)
            .constant("BATCH", taps)
            .constant("ROWS", rows)
            .constant("COLUMNS", columns),
        bindings: vec![Binding::Input(1), Binding::Scratch(to)],
        workgroups: spread_workgroups(taps * rows.div_ceil(32) * columns.div_ceil(32)),
    }
}

impl Correlation<'_> {
    fn candidates(&self, limits: &Limits) -> Vec<Candidate> {
        if self.geometry.depthwise() {
            return vec![self.depthwise()];
        }
        if limits.software {
            return self.software_candidates(limits);
        }
        if self.geometry.groups > 1 || self.is_checked() && !fits_tap_bits(self.geometry) {
            return vec![self.direct(limits)];
        }
        let [_, n] = self.channels();
        let sums = self.sums(limits);
        let mut candidates: Vec<Candidate> =
            tile::choose(&sums, limits).iter().map(|tile| self.split(tile, sums.splits(tile, limits))).collect();
        // What measures its rows cannot split its sums.
        let whole = tile::choose(&Sums { most_splits: 1, ..sums }, limits).first().map(|tile| self.implicit_gemm(tile));
        if let Some(whole) = whole.filter(|whole| candidates.iter().all(|candidate| candidate.name != whole.name)) {
            candidates.push(whole);
        }
        // Few channels fill little of a tile.
        if n < FEW_CHANNELS {
            let place = if n <= FEW_CHANNELS / 4 { 0 } else { candidates.len() };
            candidates.insert(place, self.direct(limits));
        }
        candidates
    }

    fn software_candidates(&self, limits: &Limits) -> Vec<Candidate> {
        let [k, n] = self.channels();
        let m = self.positions();
        let direct = (direct_cost(m, n, self.direct_block(limits)), self.direct(limits));
        // Blocks of subgroups keep unfinished sums in the output.
        let shared = SubgroupBlock::choices(k, n, limits).filter(|_| self.is_f32());
        let shared = shared.map(|block| (block.count(m, n) as f64 * block.cost([1, 1]), self.broadcast(block)));
        by_cost(shared.chain([direct]), SOFTWARE_CHOICES)
    }

    /// Whether all kernels take these types: the others know f32 alone.
    fn is_f32(&self) -> bool {
        [self.factors, self.epilogue.output.dtype] == [DType::F32; 2]
    }

    /// Source and target channels of a group.
    fn channels(&self) -> [usize; 2] {
        let (input, output) = (self.geometry.group_in(), self.geometry.group_out());
        if self.backward { [output, input] } else { [input, output] }
    }

    /// The phases along height and along width.
    fn axes(&self) -> [Vec<Axis>; 2] {
        let window = &self.geometry.window;
        let along = |w: &Window1d| if self.backward { Axis::backward(w) } else { vec![Axis::forward(w)] };
        [along(&window.height), along(&window.width)]
    }

    /// Whether a tap of some position lies outside of the source.
    fn reaches_outside(&self) -> bool {
        let outside = |axis: &Axis| {
            let (start, end) = axis.reach(0, axis.count);
            axis.taps > 0 && (start < 0 || end > axis.source as isize)
        };
        self.axes().iter().flatten().any(outside)
    }

    /// Whether a step of tiled kernels may pass the end of a sum.
    fn has_edge(&self) -> bool {
        let [k, _] = self.channels();
        let phase = if self.phases() == 1 { k * self.geometry.taps() } else { k };
        !phase.is_multiple_of(STEPS)
    }

    /// Whether tiled kernels ask of each tap if there is something to read.
    fn is_checked(&self) -> bool {
        self.has_edge() || self.reaches_outside()
    }

    /// Rows and columns of the largest phase.
    fn largest_phase(&self) -> [usize; 2] {
        let window = &self.geometry.window;
        [&window.height, &window.width].map(|w| if self.backward { w.input.div_ceil(w.stride) } else { w.output })
    }

    /// Positions of the largest phase.
    fn positions(&self) -> usize {
        self.geometry.batch * self.largest_phase().iter().product::<usize>()
    }

    fn phases(&self) -> usize {
        self.axes().iter().map(Vec::len).product()
    }

    fn shader(&self, path: &'static str) -> Shader {
        let shader = axis_constants(Shader::file(path), self.geometry, self.backward);
        shader
            .feature("BACKWARD", self.backward)
            .feature("F16", self.factors == DType::F16)
            .fused(self.epilogue.module.clone())
    }

    /// A kernel that runs over `workgroups` for each phase and reads `weight`.
    fn pass(&self, shader: Shader, weight: Binding, workgroups: [u32; 3]) -> Pass {
        let own = [Binding::Input(0), weight, Binding::Output(0)];
        let bindings = own.into_iter().chain(self.epilogue.bindings.iter().copied()).collect();
        Pass { shader, bindings, workgroups: [workgroups[0], workgroups[1], self.phases() as u32] }
    }

    /// A kernel that reads the weight with the target channels innermost: for the gradient of the input it is transposed
    /// first, which is little work beside the convolution and lets both read it alike.
    fn candidate(&self, name: String, shader: Shader, workgroups: [u32; 3]) -> Candidate {
        let (rows, columns) = (self.geometry.group_in(), self.geometry.out_channels);
        if !self.backward || rows.min(columns) == 1 {
            return Candidate::single(name, self.pass(shader, Binding::Input(1), workgroups));
        }
        Candidate {
            name,
            passes: vec![
                transpose_weight(self.geometry, self.factors, 0),
                self.pass(shader, Binding::ScratchRead(0), workgroups),
            ],
            scratch: vec![self.geometry.weight_type().elements()],
        }
    }

    /// The kernel that leaves the moments of a tile's rows besides.
    pub fn measured(&self, tile: &Tile) -> (Candidate, Moments) {
        let Candidate { name, mut passes, mut scratch } = self.implicit_gemm(tile);
        let parts = self.positions().div_ceil(tile.rows());
        let at = scratch.len();
        for pass in &mut passes {
            pass.shader.features.push("MOMENTS");
            pass.bindings.push(Binding::Scratch(at));
        }
        scratch.push(2 * parts * self.geometry.out_channels);
        (Candidate { name, passes, scratch }, Moments { scratch: at, part: tile.rows() })
    }

    /// What tiles compute.
    fn sums(&self, limits: &Limits) -> Sums {
        let [_, n] = self.channels();
        let fitting = (limits.max_binding / (4 * self.epilogue.output.elements()).max(4) as u64) as usize;
        let most_splits = (self.terms() / SHORTEST).min(MOST_SPLITS).min(fitting);
        Sums {
            count: self.phases(),
            extents: [self.positions(), n],
            terms: self.terms(),
            most_splits,
            dispatches: if self.measured { 3 } else { 1 },
        }
    }

    /// Terms of a sum of the phase with most taps.
    fn terms(&self) -> usize {
        let taps = self.axes().map(|axes| axes.iter().map(|axis| axis.taps).max().unwrap_or(0));
        let [k, _] = self.channels();
        k * taps[0] * taps[1]
    }

    /// The kernel of tiles, each sum in so many parts, which a last pass adds up in order.
    pub fn split(&self, tile: &Tile, splits: usize) -> Candidate {
        let chunk = self.terms().div_ceil(splits).next_multiple_of(STEPS);
        let splits = self.terms().div_ceil(chunk);
        if splits <= 1 {
            return self.implicit_gemm(tile);
        }
        let unfinished = Correlation { epilogue: self.epilogue.none(), ..*self };
        let Candidate { name, mut passes, mut scratch } = unfinished.tiled(tile, chunk, splits);
        let parts = scratch.len();
        for binding in passes.iter_mut().flat_map(|pass| &mut pass.bindings) {
            if *binding == Binding::Output(0) {
                *binding = Binding::Scratch(parts);
            }
        }
        let elements = self.epilogue.output.elements();
        let epilogue = self.epilogue.after_splits();
        let count = elements / if epilogue.vector { 4 } else { 1 };
        passes.push(Pass {
            shader: Shader::file("matmul/add_splits")
                .constant("COUNT", count)
                .constant("SPLITS", splits)
                .fused(epilogue.module),
            bindings: [Binding::ScratchRead(parts), Binding::Output(0)].into_iter().chain(epilogue.bindings).collect(),
            workgroups: linear_workgroups(count),
        });
        scratch.push(splits * elements);
        Candidate { name: format!("{name} split {splits}"), passes, scratch }
    }

    pub fn implicit_gemm(&self, tile: &Tile) -> Candidate {
        self.tiled(tile, self.terms().next_multiple_of(STEPS), 1)
    }

    fn tiled(&self, tile: &Tile, chunk: usize, splits: usize) -> Candidate {
        let [k, n] = self.channels();
        let shader = tile::constants(tile, self.shader("conv2d/implicit_gemm"))
            .constant("K", k)
            .constant("N", n)
            .constant("CHUNK", chunk)
            .constant("SPLITS", splits)
            .feature("VECTOR_K", k.is_multiple_of(4))
            .feature("EDGE_K", self.has_edge())
            .feature("CHECKED", self.is_checked())
            .feature("PAIRS", true)
            .feature("WIDE", k.is_multiple_of(STEPS))
            .feature("VECTOR_N", n.is_multiple_of(4));
        let workgroups = spread_workgroups(tile.count(self.positions(), n) * splits);
        self.candidate(tile::name(tile, IMPLICIT_GEMM), shader, workgroups)
    }

    /// Positions and vec4s of channels that an invocation owns: on a processor as many as compilers unroll, else as many as
    /// registers hold.
    fn direct_block(&self, limits: &Limits) -> [usize; 2] {
        let [_, n] = self.channels();
        let vectors = n.div_ceil(4).min(4);
        let rows = match (limits.software, vectors) {
            (true, 1) => 16,
            (true, _) => 8,
            (false, _) => 4,
        };
        [rows, vectors]
    }

    fn direct(&self, limits: &Limits) -> Candidate {
        let [k, n] = self.channels();
        let [rows, vectors] = self.direct_block(limits);
        let shader = self
            .shader("conv2d/direct")
            .constant("K", k)
            .constant("N", n)
            .constant("GROUPS", self.geometry.groups)
            .constant("ROWS", rows)
            .constant("VECTORS", vectors)
            .feature("VECTOR_N", n.is_multiple_of(4));
        let blocks = self.geometry.groups * n.div_ceil(4 * vectors);
        let workgroups = spread_workgroups(self.positions().div_ceil(rows * 8) * blocks.div_ceil(4));
        self.candidate(format!("direct {rows}x{}", 4 * vectors), shader, workgroups)
    }

    pub fn broadcast(&self, block: SubgroupBlock) -> Candidate {
        let [k, n] = self.channels();
        let groups = self.geometry.groups;
        let shader = block
            .specialise(self.shader("conv2d/broadcast"))
            .constant("K", k)
            .constant("N", n)
            .constant("GROUPS", groups)
            .feature("VECTOR_N", true)
            .feature("EPILOGUE", !self.epilogue.is_identity());
        let blocks = groups * block.count(self.positions(), n);
        self.candidate(block.name("conv2d"), shader, spread_workgroups(blocks))
    }

    fn depthwise(&self) -> Candidate {
        let rows = 4;
        let channels = self.geometry.in_channels;
        let shader = self
            .shader("conv2d/depthwise")
            .constant("CHANNELS", channels)
            .constant("ROWS", rows)
            .feature("VECTOR", self.epilogue.vector);
        let width = if self.epilogue.vector { 4 } else { 1 };
        let [height, columns] = self.largest_phase();
        let invocations = self.geometry.batch * height * columns.div_ceil(rows) * (channels / width);
        let pass = self.pass(shader, Binding::Input(1), linear_workgroups(invocations));
        Candidate::single(format!("depthwise x{width}"), pass)
    }
}
