//! The GPU kernels.

use super::geometry::Geometry;
use crate::{
    kernel::{
        Expr, Signature, fused_module,
        gpu::{Binding, Candidate, Limits, Pass, Shader, linear_workgroups, spread_workgroups},
        vector_width,
    },
    ops::window::Window1d,
    tensor::Shape,
};

/// Steps of the inner dimension that a tile goes through at a time.
const STEPS: usize = 16;
/// Candidates of one kernel that are worth timing.
const CHOICES: usize = 3;
/// Invocations that keep a large GPU busy.
const BUSY: usize = 8 << 10;

/// Fewest and most positions of a split of the gradient of the weight: enough work to pay for adding it up, and few
/// enough for a small error.
const SPLIT_POSITIONS: [usize; 2] = [256, 4096];

/// A workgroup's tile: invocations along rows and columns, and what each of them owns: so many rows, and so many
/// vectors of four columns.
#[derive(Clone, Copy)]
struct Tile {
    threads: [usize; 2],
    rows: usize,
    vectors: usize,
    /// Share of a device's peak that the inner loop reaches, for the first guess.
    efficiency: f64,
}

const TILES: [Tile; 5] = [
    Tile { threads: [16, 16], rows: 8, vectors: 2, efficiency: 1.0 },
    Tile { threads: [16, 8], rows: 8, vectors: 2, efficiency: 0.95 },
    Tile { threads: [8, 8], rows: 8, vectors: 2, efficiency: 0.85 },
    Tile { threads: [16, 8], rows: 8, vectors: 1, efficiency: 0.75 },
    Tile { threads: [8, 8], rows: 4, vectors: 1, efficiency: 0.5 },
];

impl Tile {
    fn invocations(&self) -> usize {
        self.threads[0] * self.threads[1]
    }

    fn height(&self) -> usize {
        self.threads[0] * self.rows
    }

    fn width(&self) -> usize {
        self.threads[1] * self.vectors * 4
    }

    fn bytes(&self) -> usize {
        (self.height() + self.width()) * STEPS * 4
    }

    /// Workgroups for a product of `m` rows and `n` columns.
    fn workgroups(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.height()) * n.div_ceil(self.width())
    }

    /// Time for `count` products of `m` rows and `n` columns in arbitrary units.
    fn cost(&self, count: usize, m: usize, n: usize) -> f64 {
        let workgroups = count * self.workgroups(m, n);
        let busy = (workgroups * self.invocations()) as f64 / BUSY as f64;
        (workgroups * self.height() * self.width()) as f64 / (self.efficiency * busy.min(1.0))
    }

    /// The tiles that run on a device of these limits, the cheapest for `count` products of `m` rows and `n` columns
    /// first.
    fn choose(count: usize, m: usize, n: usize, limits: &Limits) -> Vec<Self> {
        let runs = |tile: &Tile| {
            tile.invocations() <= limits.workgroup_invocations as usize
                && tile.bytes() <= limits.workgroup_memory as usize
        };
        let mut tiles: Vec<Self> = TILES.into_iter().filter(runs).collect();
        tiles.sort_by(|a, b| a.cost(count, m, n).total_cmp(&b.cost(count, m, n)));
        let smallest = TILES[TILES.len() - 1];
        tiles.retain(|tile| {
            tile.height() <= m.next_power_of_two().max(smallest.height())
                && tile.width() <= n.next_power_of_two().max(smallest.width())
        });
        tiles.truncate(CHOICES);
        tiles
    }

    fn name(&self, kernel: &str) -> String {
        format!("{kernel} {}x{}x{STEPS}", self.height(), self.width())
    }
}

/// A sum over taps as `conv2d/axis` knows it: the forward pass, or the gradient of the input.
struct Correlation<'a> {
    geometry: &'a Geometry,
    backward: bool,
    epilogue: Epilogue,
}

/// What is applied to each element before it is stored.
struct Epilogue {
    module: String,
    /// It takes four elements at once.
    vector: bool,
    bindings: Vec<Binding>,
}

impl Epilogue {
    /// `expr` over additional inputs, which are those of the operation from its third on, for a kernel that stores four
    /// elements at once where `vectors`.
    fn new(expr: &Expr, extra: &[&Shape], output: &Shape, vectors: bool) -> Self {
        // An input that the expression does not read is not declared, so it is not bound either.
        let read: Vec<usize> = (1..=extra.len()).filter(|n| expr.uses(*n) > 0).collect();
        let expr = expr.substitute(&mut |n| Expr::Input(read.iter().position(|r| *r == n).map_or(0, |at| at + 1)));
        let shapes: Vec<&Shape> = std::iter::once(output).chain(read.iter().map(|n| extra[n - 1])).collect();
        let width = if vectors { vector_width(&shapes, output) } else { 1 };
        Self {
            module: fused_module(&expr, &shapes, output, width, 3, true),
            vector: width == 4,
            bindings: read.iter().map(|n| Binding::Input(n + 1)).collect(),
        }
    }
}

pub(super) fn forward(
    geometry: &Geometry,
    epilogue: Option<&Expr>,
    signature: &Signature,
    limits: &Limits,
) -> Vec<Candidate> {
    let extra: Vec<&Shape> = signature.inputs[2..].iter().map(|ty| &ty.shape).collect();
    let expr = epilogue.cloned().unwrap_or(Expr::Input(0));
    let channels = if geometry.depthwise() { geometry.out_channels } else { geometry.group_out() };
    let epilogue = Epilogue::new(&expr, &extra, &geometry.output_type().shape, channels.is_multiple_of(4));
    Correlation { geometry, backward: false, epilogue }.candidates(limits)
}

pub(super) fn grad_input(geometry: &Geometry, limits: &Limits) -> Vec<Candidate> {
    let channels = if geometry.depthwise() { geometry.in_channels } else { geometry.group_in() };
    let epilogue = Epilogue::new(&Expr::Input(0), &[], &geometry.input_type().shape, channels.is_multiple_of(4));
    Correlation { geometry, backward: true, epilogue }.candidates(limits)
}

impl Correlation<'_> {
    fn candidates(&self, limits: &Limits) -> Vec<Candidate> {
        if self.geometry.depthwise() {
            return vec![self.depthwise()];
        }
        if self.geometry.groups > 1 {
            return vec![self.direct()];
        }
        let [_, n] = self.channels();
        let tiles = Tile::choose(self.phases(), self.positions(), n, limits);
        let tiled = tiles.iter().map(|tile| self.implicit_gemm(tile));
        // A processor has no workgroup memory: there the tiles' detour through it costs more than it saves.
        let direct = limits.software.then(|| self.direct());
        direct.into_iter().chain(tiled).collect()
    }

    /// Source and target channels of a group.
    fn channels(&self) -> [usize; 2] {
        let (input, output) = (self.geometry.group_in(), self.geometry.group_out());
        if self.backward { [output, input] } else { [input, output] }
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
        let window = &self.geometry.window;
        let along = |w: &Window1d| if self.backward { w.stride.min(w.input) } else { 1 };
        along(&window.height) * along(&window.width)
    }

    fn shader(&self, path: &'static str) -> Shader {
        let shader = axis_constants(Shader::file(path), self.geometry, self.backward);
        shader.feature("BACKWARD", self.backward).fused(self.epilogue.module.clone())
    }

    /// A pass over `workgroups` for each phase.
    fn pass(&self, shader: Shader, workgroups: [u32; 3]) -> Pass {
        let own = [Binding::Input(0), Binding::Input(1), Binding::Output(0)];
        let bindings = own.into_iter().chain(self.epilogue.bindings.iter().copied()).collect();
        Pass { shader, bindings, workgroups: [workgroups[0], workgroups[1], self.phases() as u32] }
    }

    fn implicit_gemm(&self, tile: &Tile) -> Candidate {
        let [k, n] = self.channels();
        let shader = self
            .shader("conv2d/implicit_gemm")
            .constant("K", k)
            .constant("N", n)
            .constant("THREADS_M", tile.threads[0])
            .constant("THREADS_N", tile.threads[1])
            .constant("ROWS", tile.rows)
            .constant("VECTORS", tile.vectors)
            .feature("VECTOR_K", k.is_multiple_of(4))
            .feature("WIDE_K", k >= STEPS)
            .feature("VECTOR_N", n.is_multiple_of(4))
            .feature("VECTOR_FUSED", self.epilogue.vector);
        let workgroups = spread_workgroups(tile.workgroups(self.positions(), n));
        Candidate::single(tile.name("implicit_gemm"), self.pass(shader, workgroups))
    }

    fn direct(&self) -> Candidate {
        let [k, n] = self.channels();
        let (rows, vectors) = (8, n.div_ceil(4).min(4));
        let shader = self
            .shader("conv2d/direct")
            .constant("K", k)
            .constant("N", n)
            .constant("GROUPS", self.geometry.groups)
            .constant("ROWS", rows)
            .constant("VECTORS", vectors)
            .feature("VECTOR_N", n.is_multiple_of(4))
            .feature("VECTOR_FUSED", self.epilogue.vector);
        let blocks = self.geometry.groups * n.div_ceil(4 * vectors);
        let workgroups = spread_workgroups(self.positions().div_ceil(rows * 8) * blocks.div_ceil(4));
        Candidate::single(format!("direct {rows}x{}", 4 * vectors), self.pass(shader, workgroups))
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
        Candidate::single(format!("depthwise x{width}"), self.pass(shader, linear_workgroups(invocations)))
    }
}

pub(super) fn grad_weight(geometry: &Geometry, limits: &Limits) -> Vec<Candidate> {
    if geometry.groups > 1 {
        return vec![grad_weight_direct(geometry, limits)];
    }
    // Beside the tiles, workgroup memory holds the corners of the windows of a step.
    let workgroup_memory = limits.workgroup_memory.saturating_sub(STEPS as u32 * 16);
    let limits = &Limits { workgroup_memory, ..limits.clone() };
    let most_splits = (positions(geometry) / SPLIT_POSITIONS[0]).max(1);
    let tiles = Tile::choose(most_splits, geometry.taps() * geometry.in_channels, geometry.out_channels, limits);
    tiles.iter().map(|tile| grad_weight_tiled(geometry, tile, limits)).collect()
}

/// Output positions of the batch.
fn positions(geometry: &Geometry) -> usize {
    geometry.batch * geometry.window.height.output * geometry.window.width.output
}

/// Splits of the positions for a kernel that runs `invocations` for each.
fn splits(geometry: &Geometry, invocations: usize, limits: &Limits) -> usize {
    let busy = if limits.software { 1 } else { BUSY.div_ceil(invocations) };
    let fitting = (limits.max_binding / geometry.weight_type().bytes().max(4) as u64).clamp(1, 1024) as usize;
    busy.min(positions(geometry) / SPLIT_POSITIONS[0]).max(positions(geometry) / SPLIT_POSITIONS[1]).clamp(1, fitting)
}

fn grad_weight_tiled(geometry: &Geometry, tile: &Tile, limits: &Limits) -> Candidate {
    let (channels, n) = (geometry.in_channels, geometry.out_channels);
    let workgroups = tile.workgroups(geometry.taps() * channels, n);
    let positions = positions(geometry);
    let splits = splits(geometry, workgroups * tile.invocations(), limits);
    let chunk = positions.div_ceil(splits).next_multiple_of(STEPS);
    let splits = positions.div_ceil(chunk);
    let shader = axis_constants(Shader::file("conv2d/grad_weight"), geometry, false)
        .constant("CHANNELS", channels)
        .constant("N", n)
        .constant("THREADS_K", tile.threads[0])
        .constant("THREADS_N", tile.threads[1])
        .constant("VECTORS_K", tile.rows / 4)
        .constant("VECTORS_N", tile.vectors)
        .constant("CHUNK", chunk)
        .constant("SPLITS", splits)
        .feature("VECTOR_K", channels.is_multiple_of(4))
        .feature("VECTOR_N", n.is_multiple_of(4));
    summed(geometry, tile.name("grad_weight"), shader, spread_workgroups(workgroups * splits), splits)
}

fn grad_weight_direct(geometry: &Geometry, limits: &Limits) -> Candidate {
    let elements = geometry.weight_type().elements();
    let lines = geometry.batch * geometry.window.height.output;
    let chunk = lines.div_ceil(splits(geometry, elements, limits));
    let splits = lines.div_ceil(chunk);
    let shader = axis_constants(Shader::file("conv2d/grad_weight_direct"), geometry, false)
        .constant("K", geometry.group_in())
        .constant("N", geometry.group_out())
        .constant("GROUPS", geometry.groups)
        .constant("CHUNK", chunk)
        .constant("SPLITS", splits);
    summed(geometry, "grad_weight direct".to_string(), shader, linear_workgroups(elements * splits), splits)
}

/// A kernel of the gradient of the weight and, where it computes several splits, their sum in order.
fn summed(geometry: &Geometry, name: String, shader: Shader, workgroups: [u32; 3], splits: usize) -> Candidate {
    let pass = |output| Pass { shader, bindings: vec![Binding::Input(0), Binding::Input(1), output], workgroups };
    if splits == 1 {
        return Candidate::single(name, pass(Binding::Output(0)));
    }
    let elements = geometry.weight_type().elements();
    let columns = elements.next_power_of_two().min(64);
    let sum = Shader::file("reduce/sum")
        .constant("OUTER", 1usize)
        .constant("N", splits)
        .constant("INNER", elements)
        .constant("COLUMNS", columns)
        .constant("CHUNK", splits)
        .constant("SPLITS", 1usize)
        .constant("SCALE", 1.0f32);
    let sum = Pass {
        shader: sum,
        bindings: vec![Binding::ScratchRead(0), Binding::Output(0)],
        workgroups: spread_workgroups(elements.div_ceil(columns)),
    };
    Candidate {
        name: format!("{name} split {splits}"),
        passes: vec![pass(Binding::Scratch(0)), sum],
        scratch: vec![splits * elements],
    }
}

/// The constants of `conv2d/axis` and the batch.
fn axis_constants(shader: Shader, geometry: &Geometry, backward: bool) -> Shader {
    let along = |shader: Shader, window: &Window1d, names: [&'static str; 7]| {
        let (source, target) = if backward { (window.output, window.input) } else { (window.input, window.output) };
        let period = window.stride / gcd(window.stride, window.dilation);
        let values = [source, target, window.kernel, window.stride, window.dilation, window.before, period];
        names.into_iter().zip(values).fold(shader, |shader, (name, value)| shader.constant(name, value))
    };
    let shader = along(
        shader.constant("BATCH", geometry.batch),
        &geometry.window.height,
        [
            "SOURCE_HEIGHT",
            "TARGET_HEIGHT",
            "KERNEL_HEIGHT",
            "STRIDE_HEIGHT",
            "DILATION_HEIGHT",
            "BEFORE_HEIGHT",
            "PERIOD_HEIGHT",
        ],
    );
    along(
        shader,
        &geometry.window.width,
        [
            "SOURCE_WIDTH",
            "TARGET_WIDTH",
            "KERNEL_WIDTH",
            "STRIDE_WIDTH",
            "DILATION_WIDTH",
            "BEFORE_WIDTH",
            "PERIOD_WIDTH",
        ],
    )
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Conv2d, Conv2dGradInput, Conv2dGradWeight, Conv2dOptions},
        *,
    };
    use crate::{
        check,
        gpu::{Checks, run_candidate},
        graph::Op,
        ops::Padding,
        tensor::{Tensor, TensorType},
    };

    /// Compares `candidates` with the CPU kernel of `op`.
    fn compare(op: impl Op + Clone, inputs: [TensorType; 2], candidates: &[Candidate]) {
        let Some(gpu) = check::software_gpu() else { return };
        let outputs = op.infer(&[&inputs[0], &inputs[1]]).unwrap();
        let values: Vec<Tensor> =
            inputs.iter().zip(1..).map(|(ty, seed)| check::random(ty.shape.clone(), seed)).collect();
        let expected = check::evaluate(&values, |graph, values| graph.apply1(op.clone(), values));
        let signature = Signature { inputs: inputs.to_vec(), outputs };
        for candidate in candidates {
            let got = run_candidate(&gpu, candidate, &signature, &values, &[], Checks::Off).unwrap();
            let error = check::relative_error(got[0].as_f32().unwrap(), expected.as_f32().unwrap());
            assert!(error < 2e-6, "{} ({}) of {signature:?}: off by {error:.2e}", op.name(), candidate.name);
        }
    }

    /// Every tile, with and without vectors along each matrix, past the edges of the largest.
    #[test]
    fn every_tile_matches_the_cpu() {
        let limits = check::software_gpu().map(|gpu| gpu.limits().clone());
        let Some(limits) = limits else { return };
        for (k, n) in [(20, 132), (12, 130), (6, 132), (5, 7)] {
            let options = Conv2dOptions::default().padding(Padding::Same).stride(2);
            let geometry = Geometry::new(&options, 2, [25, 22], k, [3, 2, k, n]).unwrap();
            let (x, w, y) = (geometry.input_type(), geometry.weight_type(), geometry.output_type());

            let plain = |ty: &TensorType, channels: usize| {
                Epilogue::new(&Expr::Input(0), &[], &ty.shape, channels.is_multiple_of(4))
            };
            let forward = Correlation { geometry: &geometry, backward: false, epilogue: plain(&y, n) };
            let candidates: Vec<Candidate> = TILES.iter().map(|tile| forward.implicit_gemm(tile)).collect();
            compare(Conv2d { options, epilogue: None }, [x.clone(), w.clone()], &candidates);

            let backward = Correlation { geometry: &geometry, backward: true, epilogue: plain(&x, k) };
            let candidates: Vec<Candidate> = TILES.iter().map(|tile| backward.implicit_gemm(tile)).collect();
            compare(Conv2dGradInput { options, extents: [25, 22] }, [y.clone(), w], &candidates);

            let candidates: Vec<Candidate> =
                TILES.iter().map(|tile| grad_weight_tiled(&geometry, tile, &limits)).collect();
            compare(Conv2dGradWeight { options, kernel: [3, 2] }, [x, y], &candidates);
        }
    }
}
