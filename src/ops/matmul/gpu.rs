//! The GPU kernels: tiles in workgroup memory for hardware, tiles in registers alone for processors that run shaders.

use super::Product;
use crate::{
    kernel::{
        Expr, Signature, fused_module,
        gpu::{self, Binding, Candidate, Limits, Pass, Shader},
        vector_width,
    },
    ops::{
        subgroup_block::{MULTIPLICATIONS, SUBGROUP, SubgroupBlock, by_cost},
        tile::{Sums, Tile},
    },
    tensor::{DType, TensorType},
};

/// Terms of the sum that one tile in workgroup memory holds.
const DEPTH: usize = 16;

/// Kernels that the tuner is given to choose from.
const CANDIDATES: usize = 3;

/// Those of them without workgroup memory, where a processor runs the shaders.
const SOFTWARE_CANDIDATES: usize = 3;

/// Workgroups that keep such a processor busy.
const SOFTWARE_BUSY: usize = 8;

/// Fewest terms of a partial sum, and most of these.
const SHORTEST: usize = 64;
const MOST_SPLITS: usize = 64;

/// Square, narrow and flat ones, from the largest down.
const TILES: [Tile; 9] = [
    Tile::new([16, 16], [8, 8]),
    Tile::new([16, 8], [8, 8]),
    Tile::new([8, 16], [8, 8]),
    Tile::new([8, 16], [8, 4]),
    Tile::new([16, 8], [8, 4]),
    Tile::new([8, 16], [4, 8]),
    Tile::new([8, 8], [4, 4]),
    Tile::new([16, 4], [4, 4]),
    Tile::new([4, 16], [4, 4]),
];

/// Bytes of workgroup memory. Both factors may have two vec4s for every four terms besides their tile's.
fn memory(tile: &Tile) -> usize {
    (tile.rows() + tile.columns() + 4) * DEPTH * 4
}

/// How many vec4s of a factor with `extent` rows or columns in the tile each invocation fetches: 1, 2 or 4.
fn fetches(tile: &Tile, extent: usize) -> usize {
    extent * DEPTH / 4 / tile.invocations()
}

/// What tiles compute of the product, whose partial sums have to fit a binding.
fn sums(product: &Product, limits: &Limits) -> Sums {
    let &Product { batch, m, n, k, .. } = product;
    let fitting = limits.max_binding as usize / 4 / (batch * m * n).max(1);
    let most_splits = (k / SHORTEST).min(MOST_SPLITS).min(fitting);
    Sums { count: batch, extents: [m, n], terms: k, most_splits, dispatches: 1 }
}

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
    /// Types of the element itself and of what the epilogue reads besides.
    types: Vec<&'a TensorType>,
    output: &'a TensorType,
    /// Type of the factors.
    factors: DType,
    width: usize,
}

pub(super) fn candidates(
    product: &Product,
    epilogue: Option<&Expr>,
    signature: &Signature,
    limits: &Limits,
) -> Vec<Candidate> {
    let output = &signature.outputs[0];
    let types: Vec<&TensorType> = std::iter::once(output).chain(&signature.inputs[2..]).collect();
    let width = if product.n.is_multiple_of(4) { vector_width(&types, output) } else { 1 };
    let identity = Expr::Input(0);
    let factors = signature.inputs[0].dtype;
    let call = Call { product, epilogue: epilogue.unwrap_or(&identity), types, output, factors, width };

    let runs = |tile: &Tile| {
        memory(tile) <= limits.workgroup_memory as usize && tile.invocations() <= limits.workgroup_invocations as usize
    };
    let mut tiles = sums(product, limits).by_time(TILES.into_iter().filter(runs), limits);
    tiles.truncate(CANDIDATES);
    let tiled = tiles.iter().map(|tile| call.tiled(tile, limits));
    if !limits.software {
        return call.thin().into_iter().chain(tiled).collect();
    }
    let direct = Block::choices(product).map(|block| (block.cost(product), call.direct(&block)));
    // Blocks of subgroups keep unfinished sums in the output.
    let is_f32 = [factors, output.dtype] == [DType::F32; 2];
    let shared = subgroup_blocks(product, is_f32 && width == 4, limits).map(|block| {
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
        let (identity, sums) = (Expr::Input(0), self.output.of(DType::F32));
        let plain = vec![&sums];
        let (epilogue, types, output, width) = match splits {
            1 => (self.epilogue, &self.types, self.output, self.width),
            _ => (&identity, &plain, &sums, if n.is_multiple_of(4) { 4 } else { 1 }),
        };
        Shader::file(path)
            .constant("BATCH", batch)
            .constant("M", m)
            .constant("N", n)
            .constant("K", k)
            .feature("TRANSPOSE_A", transpose_a)
            .feature("TRANSPOSE_B", transpose_b)
            .feature("VECTOR_Y", width == 4)
            .feature("F16", self.factors == DType::F16)
            .fused(fused_module(epilogue, types, output, width, 3, true).0)
    }

    /// The factors, the result, and what the epilogue reads besides.
    fn bindings(&self, splits: usize) -> Vec<Binding> {
        let result = if splits == 1 { Binding::Output(0) } else { Binding::Scratch(0) };
        let factors = [Binding::Input(0), Binding::Input(1), result];
        factors.into_iter().chain(self.extra(splits == 1)).collect()
    }

    /// Inputs of the epilogue: the fused module declares those that it reads.
    fn extra(&self, finished: bool) -> impl Iterator<Item = Binding> {
        let read = (1..self.types.len()).filter(move |n| finished && self.epilogue.uses(*n) > 0);
        read.map(|n| Binding::Input(n + 1))
    }

    fn tiled(&self, tile: &Tile, limits: &Limits) -> Candidate {
        let &Product { batch, m, n, k, .. } = self.product;
        let [vector_a, vector_b] = self.product.vectors();
        let splits = sums(self.product, limits).splits(tile, limits);
        let chunk = k.div_ceil(splits).next_multiple_of(DEPTH);
        let splits = k.div_ceil(chunk);
        let shader = self
            .shader("matmul/tiled", splits)
            .constant("ACROSS", tile.threads[1])
            .constant("DOWN", tile.threads[0])
            .constant("TILE_M", tile.rows())
            .constant("TILE_N", tile.columns())
            .constant("CHUNK", chunk)
            .constant("SPLITS", splits)
            .feature("VECTOR_A", vector_a)
            .feature("VECTOR_B", vector_b)
            .feature("TWO_A", fetches(tile, tile.rows()) >= 2)
            .feature("FOUR_A", fetches(tile, tile.rows()) >= 4)
            .feature("TWO_B", fetches(tile, tile.columns()) >= 2)
            .feature("FOUR_B", fetches(tile, tile.columns()) >= 4)
            .feature("WIDE", tile.block[1] == 8)
            .feature("TALL", tile.block[0] == 8);
        let name = format!("matmul {}x{}", tile.rows(), tile.columns());
        let workgroups = gpu::spread_workgroups(batch * tile.count(m, n) * splits);
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
            .fused(fused_module(self.epilogue, &self.types, self.output, self.width, 2, true).0);
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
            let expected =
                check::evaluate(&inputs, |graph, v| graph.matmul(v[0].t_if(transpose_a), v[1].t_if(transpose_b)));
            let outputs = vec![expected.ty()];
            let signature = Signature { inputs: inputs.iter().map(Tensor::ty).collect(), outputs };
            let output = &signature.outputs[0];
            let identity = Expr::Input(0);
            let (types, factors) = (vec![output], DType::F32);
            let call = Call { product: &product, epilogue: &identity, types, output, factors, width: 4 };
            for block in subgroup_blocks(&product, true, gpu.limits()) {
                let candidate = call.broadcast(block);
                let got = run_candidate(&gpu, &candidate, &signature, &inputs, &[], Checks::Off).unwrap();
                let error = check::relative_error(got[0].as_f32().unwrap(), expected.as_f32().unwrap());
                assert!(error < 1e-6, "{} of {product:?}: off by {error:.2e}", candidate.name);
            }
        }
    }
}
