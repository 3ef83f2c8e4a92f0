//! The GPU kernels: tiles in workgroup memory for hardware, tiles in registers alone for processors that run shaders.

use super::Product;
use crate::{
    kernel::{
        Expr, Signature, fused_module,
        gpu::{self, Binding, Candidate, Limits, Pass, Shader},
        vector_width,
    },
    ops::subgroup_block::{MULTIPLICATIONS, SUBGROUP, SubgroupBlock, by_cost},
    tensor::Shape,
};

/// Terms of the sum that one tile in workgroup memory holds.
const DEPTH: usize = 16;

/// Kernels that the tuner is given to choose from.
const CANDIDATES: usize = 3;

/// Those of them without workgroup memory, where a processor runs the shaders.
const SOFTWARE_CANDIDATES: usize = 3;

/// Workgroups that keep such a processor busy.
const SOFTWARE_BUSY: usize = 8;

/// A workgroup's share of the product: `across` x `down` invocations, of which each computes 4 or 8 rows and columns.
#[derive(Clone, Copy, Debug)]
struct Tile {
    across: usize,
    down: usize,
    wide: bool,
    tall: bool,
}

impl Tile {
    const fn new(rows: usize, columns: usize, [tall, wide]: [bool; 2]) -> Self {
        Self { across: columns / if wide { 8 } else { 4 }, down: rows / if tall { 8 } else { 4 }, wide, tall }
    }

    fn rows(&self) -> usize {
        self.down * if self.tall { 8 } else { 4 }
    }

    fn columns(&self) -> usize {
        self.across * if self.wide { 8 } else { 4 }
    }

    fn invocations(&self) -> usize {
        self.across * self.down
    }

    /// Bytes of workgroup memory. Both factors may have a vec4 for each term besides their tile's.
    fn memory(&self) -> usize {
        (self.rows() + self.columns() + 8) * DEPTH * 4
    }

    /// How many vec4s of a factor with `extent` rows or columns in the tile each invocation fetches: 1, 2 or 4.
    fn fetches(&self, extent: usize) -> usize {
        extent * DEPTH / 4 / self.invocations()
    }

    fn tiles(&self, product: &Product) -> usize {
        product.batch * product.m.div_ceil(self.rows()) * product.n.div_ceil(self.columns())
    }

    /// Into how many sums a long one is split so that a GPU of usual size is busy.
    fn splits(&self, product: &Product) -> usize {
        const WORKGROUPS: usize = 128;
        const SHORTEST: usize = 128;
        (WORKGROUPS / self.tiles(product)).min(product.k / SHORTEST).clamp(1, 64)
    }

    /// An estimate of the time, in arbitrary units: multiplications, those at the edges that come to nothing included,
    /// times the loads from workgroup memory that go with one and the traffic of partial sums, times the share of the GPU
    /// that idles.
    fn cost(&self, product: &Product) -> f64 {
        const BUSY: f64 = 16384.0;
        let (tiles, splits) = (self.tiles(product), self.splits(product));
        let multiplications = (tiles * self.rows() * self.columns()) as f64;
        let side = |long: bool| if long { 8.0 } else { 4.0 };
        let loads = 1.0 / side(self.wide) + 1.0 / side(self.tall);
        // A partial sum is written and read: about the time of 40 multiplications.
        let partial_sums = if splits == 1 { 0.0 } else { (40 * splits) as f64 / product.k as f64 };
        let idle = BUSY / (tiles * splits * self.invocations()) as f64;
        multiplications * (0.25 + loads) * (1.0 + partial_sums) * idle.max(1.0)
    }
}

/// Square, narrow and flat ones, from the largest down.
const TILES: [Tile; 9] = [
    Tile::new(128, 128, [true, true]),
    Tile::new(128, 64, [true, true]),
    Tile::new(64, 128, [true, true]),
    Tile::new(64, 64, [true, false]),
    Tile::new(128, 32, [true, false]),
    Tile::new(32, 128, [false, true]),
    Tile::new(32, 32, [false, false]),
    Tile::new(64, 16, [false, false]),
    Tile::new(16, 64, [false, false]),
];

/// Invocations of a workgroup without workgroup memory.
const LANES: usize = 32;

/// Blocks of y that an invocation of the kernel without workgroup memory may own: rows, and vec4s of columns.
const BLOCKS: [[usize; 2]; 4] = [[8, 4], [8, 2], [4, 2], [4, 1]];

/// The blocks of a workgroup without workgroup memory: `LANES` invocations, `across` of them side by side, of which each
/// computes `rows` rows and `4 * columns` columns.
#[derive(Clone, Copy, Debug)]
struct Block {
    rows: usize,
    columns: usize,
    across: usize,
}

impl Block {
    /// Blocks of different sizes, each arranged so that fewest lie beyond the edges.
    fn choices(product: &Product) -> impl Iterator<Item = Self> {
        BLOCKS.into_iter().filter_map(|[rows, columns]| {
            let arrangements = [8, 16, 4, 32, 2, 1].into_iter().map(|across| Self { rows, columns, across });
            arrangements.min_by_key(|block| block.workgroups(product))
        })
    }

    fn workgroups(&self, product: &Product) -> usize {
        let (down, across) = (LANES / self.across * self.rows, self.across * self.columns * 4);
        product.batch * product.m.div_ceil(down) * product.n.div_ceil(across)
    }

    /// An estimate of the time, as of a [`SubgroupBlock`].
    fn cost(&self, product: &Product) -> f64 {
        let [loads_a, loads_b] = product.loads();
        let loads = self.rows * loads_a + 4 * self.columns * loads_b;
        let work = loads as f64 + (4 * self.rows * self.columns) as f64 / MULTIPLICATIONS;
        (LANES / SUBGROUP * self.workgroups(product).max(SOFTWARE_BUSY)) as f64 * work
    }
}

/// Blocks of subgroups for a product whose result is written in vec4s or not. Of a transposed factor each invocation loads
/// four neighbouring rows.
fn subgroup_blocks(product: &Product, vectors: bool, limits: &Limits) -> impl Iterator<Item = SubgroupBlock> {
    let transposed = product.transpose_a;
    let blocks = SubgroupBlock::choices(product.k, product.n, limits);
    blocks.filter(move |block| vectors && (block.loads == 4 || !transposed))
}

/// What all kernels of one call have in common.
struct Call<'a> {
    product: &'a Product,
    epilogue: &'a Expr,
    /// Shapes of the element itself and of what the epilogue reads besides.
    shapes: Vec<&'a Shape>,
    output: &'a Shape,
    width: usize,
}

pub(super) fn candidates(
    product: &Product,
    epilogue: Option<&Expr>,
    signature: &Signature,
    limits: &Limits,
) -> Vec<Candidate> {
    let output = &signature.outputs[0].shape;
    let shapes: Vec<&Shape> = std::iter::once(output).chain(signature.inputs[2..].iter().map(|ty| &ty.shape)).collect();
    let width = if product.n.is_multiple_of(4) { vector_width(&shapes, output) } else { 1 };
    let identity = Expr::Input(0);
    let call = Call { product, epilogue: epilogue.unwrap_or(&identity), shapes, output, width };

    let mut tiles: Vec<Tile> = TILES
        .into_iter()
        .filter(|t| t.memory() <= limits.workgroup_memory as usize)
        .filter(|t| t.invocations() <= limits.workgroup_invocations as usize)
        .collect();
    tiles.sort_by(|a, b| a.cost(product).total_cmp(&b.cost(product)));
    tiles.truncate(CANDIDATES);
    let tiled = tiles.iter().map(|tile| call.tiled(tile, limits));
    if !limits.software {
        return call.thin().into_iter().chain(tiled).collect();
    }
    let direct = Block::choices(product).map(|block| (block.cost(product), call.direct(&block)));
    let shared = subgroup_blocks(product, width == 4, limits).map(|block| {
        let blocks = (product.batch * block.count(product.m, product.n)).max(SOFTWARE_BUSY);
        (blocks as f64 * block.cost(product.loads()), call.broadcast(block))
    });
    by_cost(direct.chain(shared), SOFTWARE_CANDIDATES).into_iter().chain(tiled.take(1)).collect()
}

impl Call<'_> {
    /// The constants and features that say what is multiplied, and the epilogue, whose inputs follow output `binding`.
    fn shader(&self, path: &'static str, splits: usize) -> Shader {
        let Product { batch, m, n, k, transpose_a, transpose_b } = *self.product;
        // Several splits leave plain partial sums, which the second pass finishes.
        let (identity, plain) = (Expr::Input(0), vec![self.output]);
        let (epilogue, shapes, width) = match splits {
            1 => (self.epilogue, &self.shapes, self.width),
            _ => (&identity, &plain, if n.is_multiple_of(4) { 4 } else { 1 }),
        };
        Shader::file(path)
            .constant("BATCH", batch)
            .constant("M", m)
            .constant("N", n)
            .constant("K", k)
            .feature("TRANSPOSE_A", transpose_a)
            .feature("TRANSPOSE_B", transpose_b)
            .feature("VECTOR_Y", width == 4)
            .fused(fused_module(epilogue, shapes, self.output, width, 3, true).0)
    }

    /// The factors, the result, and what the epilogue reads besides.
    fn bindings(&self, splits: usize) -> Vec<Binding> {
        let result = if splits == 1 { Binding::Output(0) } else { Binding::Scratch(0) };
        let factors = [Binding::Input(0), Binding::Input(1), result];
        factors.into_iter().chain(self.extra(splits == 1)).collect()
    }

    /// Inputs of the epilogue: the fused module declares those that it reads.
    fn extra(&self, finished: bool) -> impl Iterator<Item = Binding> {
        let read = (1..self.shapes.len()).filter(move |n| finished && self.epilogue.uses(*n) > 0);
        read.map(|n| Binding::Input(n + 1))
    }

    fn tiled(&self, tile: &Tile, limits: &Limits) -> Candidate {
        let &Product { batch, m, n, k, .. } = self.product;
        let [vector_a, vector_b] = self.product.vectors();
        let largest = limits.max_binding as usize / 4 / (batch * m * n).max(1);
        let splits = tile.splits(self.product).min(largest).max(1);
        let chunk = k.div_ceil(splits).next_multiple_of(DEPTH);
        let splits = k.div_ceil(chunk);
        let shader = self
            .shader("matmul/tiled", splits)
            .constant("ACROSS", tile.across)
            .constant("DOWN", tile.down)
            .constant("TILE_M", tile.rows())
            .constant("TILE_N", tile.columns())
            .constant("CHUNK", chunk)
            .constant("SPLITS", splits)
            .feature("VECTOR_A", vector_a)
            .feature("VECTOR_B", vector_b)
            .feature("TWO_A", tile.fetches(tile.rows()) >= 2)
            .feature("FOUR_A", tile.fetches(tile.rows()) >= 4)
            .feature("TWO_B", tile.fetches(tile.columns()) >= 2)
            .feature("FOUR_B", tile.fetches(tile.columns()) >= 4)
            .feature("WIDE", tile.wide)
            .feature("TALL", tile.tall);
        let name = format!("matmul {}x{}", tile.rows(), tile.columns());
        let workgroups = gpu::spread_workgroups(tile.tiles(self.product) * splits);
        let pass = Pass { shader, bindings: self.bindings(splits), workgroups };
        if splits == 1 {
            return Candidate::single(name, pass);
        }
        Candidate {
            name: format!("{name} split {splits}"),
            passes: vec![pass, self.add_splits(splits)],
            scratch: vec![splits * batch * m * n],
        }
    }

    /// The second pass of a split sum.
    fn add_splits(&self, splits: usize) -> Pass {
        let count = self.output.elements() / self.width;
        let shader = Shader::file("matmul/add_splits")
            .constant("COUNT", count)
            .constant("SPLITS", splits)
            .fused(fused_module(self.epilogue, &self.shapes, self.output, self.width, 2, true).0);
        let bindings = [Binding::ScratchRead(0), Binding::Output(0)].into_iter().chain(self.extra(true)).collect();
        Pass { shader, bindings, workgroups: gpu::linear_workgroups(count) }
    }

    /// The kernel for few rows, whose time is that of reading the second factor.
    fn thin(&self) -> Option<Candidate> {
        const ROWS: usize = 8;
        const COLUMNS: usize = 32;
        let &Product { batch, m, n, transpose_b, .. } = self.product;
        if m > ROWS {
            return None;
        }
        let vectors = !transpose_b && n.is_multiple_of(4);
        let shader = self.shader("matmul/thin", 1).feature("VECTOR_B", vectors);
        let workgroups = gpu::spread_workgroups(batch * n.div_ceil(COLUMNS));
        Some(Candidate::single("matmul thin", Pass { shader, bindings: self.bindings(1), workgroups }))
    }

    fn direct(&self, block: &Block) -> Candidate {
        let &Product { k, .. } = self.product;
        let [vector_a, vector_b] = self.product.vectors();
        let shader = self
            .shader("matmul/direct", 1)
            .constant("ROWS", block.rows)
            .constant("COLUMNS", block.columns)
            .constant("ACROSS", block.across)
            .constant("STEP", if k.is_multiple_of(4) { 4u32 } else { 1 })
            .feature("VECTOR_A", vector_a)
            .feature("VECTOR_B", vector_b);
        let workgroups = gpu::spread_workgroups(block.workgroups(self.product));
        let name = format!("matmul direct {}x{} across {}", block.rows, 4 * block.columns, block.across);
        Candidate::single(name, Pass { shader, bindings: self.bindings(1), workgroups })
    }

    fn broadcast(&self, block: SubgroupBlock) -> Candidate {
        let &Product { batch, m, n, .. } = self.product;
        let [vector_a, _] = self.product.vectors();
        let shader = block
            .specialise(self.shader("matmul/broadcast", 1))
            .feature("VECTOR_A", vector_a)
            .feature("EPILOGUE", *self.epilogue != Expr::Input(0));
        let workgroups = gpu::spread_workgroups(batch * block.count(m, n));
        Candidate::single(block.name("matmul"), Pass { shader, bindings: self.bindings(1), workgroups })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check,
        gpu::{Checks, run_candidate},
        tensor::Tensor,
    };

    /// Every block that a subgroup may own, over edges, of factors stored either way.
    #[test]
    fn blocks_of_a_subgroup_match_the_cpu() {
        let Some(gpu) = check::software_gpu() else { return };
        let (batch, k) = (2, 12);
        for (m, n, transpose_a, transpose_b) in
            [(36, 68, false, false), (3, 8, false, true), (36, 36, true, false), (35, 68, true, true)]
        {
            let product = Product { batch, m, n, k, transpose_a, transpose_b };
            let stored = |rows, columns, transposed: bool| match transposed {
                false => [batch, rows, columns],
                true => [batch, columns, rows],
            };
            let inputs = [check::random(stored(m, k, transpose_a), 1), check::random(stored(k, n, transpose_b), 2)];
            let expected = check::evaluate(&inputs, |graph, v| graph.matmul(v[0], v[1], transpose_a, transpose_b));
            let outputs = vec![expected.ty()];
            let signature = Signature { inputs: inputs.iter().map(Tensor::ty).collect(), outputs };
            let output = &signature.outputs[0].shape;
            let identity = Expr::Input(0);
            let call = Call { product: &product, epilogue: &identity, shapes: vec![output], output, width: 4 };
            for block in subgroup_blocks(&product, true, gpu.limits()) {
                let candidate = call.broadcast(block);
                let got = run_candidate(&gpu, &candidate, &signature, &inputs, &[], Checks::Off).unwrap();
                let error = check::relative_error(got[0].as_f32().unwrap(), expected.as_f32().unwrap());
                assert!(error < 1e-6, "{} of {product:?}: off by {error:.2e}", candidate.name);
            }
        }
    }
}
