//! The gradient of the weight.

use super::{
    super::geometry::{Axis, Geometry},
    SOFTWARE_CHOICES, axis_constants, direct_cost, fits_tap_bits,
    tile::{self, STEPS},
    winograd::Winograd,
};
use crate::{
    kernel::gpu::{Binding, Candidate, Limits, Pass, Shader, linear_workgroups, spread_workgroups},
    ops::{
        reduce::add_rows,
        subgroup_block::{SUBGROUP, SubgroupBlock, by_cost},
        tile::{Sums, Tile},
    },
    tensor::DType,
};

/// Fewest and most positions of a split of the gradient of the weight: enough work to pay for adding it up, and few
/// enough for a small error. Fewer where an invocation reads all that it multiplies itself, and there have to be many that wait.
const SPLIT_POSITIONS: [usize; 2] = [256, 4096];
const FEWEST_ALONE: usize = 64;
/// Invocations that keep a compute unit busy, each of which waits for what it reads.
const UNIT_BUSY: usize = 1024;
/// Invocations that keep a processor busy, and bytes of both inputs that stay in its cache while all of a split's blocks
/// of the weight go over them.
const SOFTWARE_BUSY: usize = 512;
const SOFTWARE_CACHE: usize = 512 << 10;

pub(in super::super) fn grad_weight(geometry: &Geometry, factors: DType, limits: &Limits) -> Vec<Candidate> {
    if factors == DType::F16 {
        return sums(geometry, limits, true).into_iter().map(|candidate| in_f16(geometry, candidate)).collect();
    }
    let mut candidates = sums(geometry, limits, false);
    if let Some(winograd) = Winograd::of(geometry, limits) {
        winograd.join_grad_weight(&mut candidates);
    }
    candidates
}

/// The kernel that reads and writes 16-bit floats: its sums, which are f32, are rounded by a pass of their own.
fn in_f16(geometry: &Geometry, mut candidate: Candidate) -> Candidate {
    let first = &mut candidate.passes[0];
    first.shader.features.push("F16");
    let splits = match first.bindings[2] {
        Binding::Output(_) => 1,
        _ => candidate.scratch[0] / geometry.weight_type().elements(),
    };
    first.bindings[2] = Binding::Scratch(0);
    candidate.passes.truncate(1);
    let weight = geometry.weight_type().of(DType::F16);
    candidate.passes.push(add_rows(splits, &weight, Binding::ScratchRead(0), Binding::Output(0)));
    candidate.scratch = vec![splits * weight.elements()];
    candidate
}

/// The kernels that add up the products of all positions.
fn sums(geometry: &Geometry, limits: &Limits, f16: bool) -> Vec<Candidate> {
    if geometry.depthwise() {
        return vec![depthwise(geometry, limits)];
    }
    if limits.software {
        return software_candidates(geometry, limits, f16);
    }
    if geometry.groups > 1 || is_checked(geometry) && !fits_tap_bits(geometry) {
        return vec![direct(geometry, limits)];
    }
    tile::choose(&product(geometry, limits), limits).iter().map(|tile| tiled(geometry, tile, limits)).collect()
}

fn software_candidates(geometry: &Geometry, limits: &Limits, f16: bool) -> Vec<Candidate> {
    let (k, n) = (geometry.group_in(), geometry.group_out());
    let direct = (direct_cost(geometry.taps() * k, n, direct_block(geometry, limits)), direct(geometry, limits));
    // Rows of a block are channels of one tap, of which each invocation loads four neighbours.
    let shared = SubgroupBlock::choices(k, n, limits).filter(|block| block.loads == 4 && !f16);
    let shared = shared.map(|block| {
        let blocks = geometry.taps() * block.count(k, n);
        (blocks as f64 * block.cost([1, 1]), broadcast(geometry, block, limits))
    });
    by_cost(shared.chain([direct]), SOFTWARE_CHOICES)
}

/// Output positions of the batch.
fn positions(geometry: &Geometry) -> usize {
    geometry.batch * geometry.window.height.output * geometry.window.width.output
}

/// What tiles compute.
fn product(geometry: &Geometry, limits: &Limits) -> Sums {
    Sums {
        count: 1,
        extents: [geometry.taps() * geometry.in_channels, geometry.out_channels],
        terms: positions(geometry),
        most_splits: splits(geometry, usize::MAX, SPLIT_POSITIONS[0], limits),
        dispatches: 1,
    }
}

/// Splits of the positions for a kernel that runs `invocations` for each and shares nothing that it reads.
fn splits_for(geometry: &Geometry, invocations: usize, limits: &Limits) -> usize {
    if limits.software {
        let bytes = geometry.input_type().bytes() + geometry.output_type().bytes();
        let wanted = SOFTWARE_BUSY.div_ceil(invocations).max(bytes / SOFTWARE_CACHE);
        return splits(geometry, wanted, SPLIT_POSITIONS[0], limits);
    }
    let wanted = (limits.units as usize * UNIT_BUSY).div_ceil(invocations);
    splits(geometry, wanted, FEWEST_ALONE, limits)
}

/// The number of splits nearest to `wanted` that have `fewest` positions or more, are not too long, and fit a binding.
fn splits(geometry: &Geometry, wanted: usize, fewest: usize, limits: &Limits) -> usize {
    let fitting = (limits.max_binding / geometry.weight_type().bytes().max(4) as u64).clamp(1, 1024) as usize;
    wanted.min(positions(geometry) / fewest).max(positions(geometry) / SPLIT_POSITIONS[1]).clamp(1, fitting)
}

/// Whether a step of the tiled kernel may pass the end of the positions.
fn has_edge(geometry: &Geometry) -> bool {
    !positions(geometry).is_multiple_of(STEPS)
}

/// Whether the tiled kernel asks of each tap if there is something to read.
fn is_checked(geometry: &Geometry) -> bool {
    let window = &geometry.window;
    has_edge(geometry)
        || [&window.height, &window.width].iter().any(|w| {
            let (start, end) = Axis::forward(w).reach(0, w.output);
            start < 0 || end > w.input as isize
        })
}

/// A matrix product by tiles of workgroup memory.
pub(super) fn tiled(geometry: &Geometry, tile: &Tile, limits: &Limits) -> Candidate {
    let (channels, n) = (geometry.in_channels, geometry.out_channels);
    let workgroups = tile.count(geometry.taps() * channels, n);
    let positions = positions(geometry);
    let splits = splits(geometry, product(geometry, limits).splits(tile, limits), SPLIT_POSITIONS[0], limits);
    let chunk = positions.div_ceil(splits).next_multiple_of(STEPS);
    let splits = positions.div_ceil(chunk);
    let shader = tile::constants(tile, axis_constants(Shader::file("conv2d/grad_weight"), geometry, false))
        .constant("CHANNELS", channels)
        .constant("N", n)
        .constant("CHUNK", chunk)
        .constant("SPLITS", splits)
        .feature("EDGE_P", has_edge(geometry))
        .feature("CHECKED", is_checked(geometry))
        .feature("WIDE", channels.is_multiple_of(64) && tile.rows() >= 64)
        .feature("VECTOR_K", channels.is_multiple_of(4))
        .feature("VECTOR_N", n.is_multiple_of(4));
    summed(geometry, tile::name(tile, "grad_weight"), shader, spread_workgroups(workgroups * splits), splits)
}

/// Rows of one tap that a block may have, the most that does not leave a rest.
fn rows_of_one_tap(geometry: &Geometry, limits: &Limits) -> Option<usize> {
    let most = if limits.software { 8 } else { 4 };
    (3..=most).rev().find(|rows| geometry.group_in().is_multiple_of(*rows))
}

/// Rows and vec4s of columns of the weight that an invocation owns: on a processor as many as compilers unroll, else as
/// many as registers hold. Rows of one tap where they are not too few, else as even blocks of all as there can be.
fn direct_block(geometry: &Geometry, limits: &Limits) -> [usize; 2] {
    let weights = geometry.taps() * geometry.group_in();
    let most = if limits.software { 8 } else { 4 };
    let rows = rows_of_one_tap(geometry, limits).unwrap_or(weights.div_ceil(weights.div_ceil(most)));
    [rows, geometry.group_out().div_ceil(4).min(4)]
}

pub(super) fn direct(geometry: &Geometry, limits: &Limits) -> Candidate {
    let (k, n) = (geometry.group_in(), geometry.group_out());
    let weights = geometry.taps() * k;
    let [rows, vectors] = direct_block(geometry, limits);
    let blocks = weights.div_ceil(rows) * geometry.groups * n.div_ceil(4 * vectors);
    let (chunk, splits) = lines(geometry, blocks, limits);
    let shader = axis_constants(Shader::file("conv2d/grad_weight_direct"), geometry, false)
        .constant("K", k)
        .constant("N", n)
        .constant("GROUPS", geometry.groups)
        .constant("ROWS", rows)
        .constant("VECTORS", vectors)
        .constant("CHUNK", chunk)
        .constant("SPLITS", splits)
        .feature("ONE_TAP", rows_of_one_tap(geometry, limits).is_some())
        .feature("VECTOR_N", n.is_multiple_of(4));
    let workgroups = spread_workgroups((blocks * splits).div_ceil(32));
    summed(geometry, format!("grad_weight direct {rows}x{}", 4 * vectors), shader, workgroups, splits)
}

pub(super) fn broadcast(geometry: &Geometry, block: SubgroupBlock, limits: &Limits) -> Candidate {
    let (k, n, groups) = (geometry.group_in(), geometry.group_out(), geometry.groups);
    let blocks = geometry.taps() * groups * block.count(k, n);
    let positions = positions(geometry);
    let chunk = positions.div_ceil(splits_for(geometry, SUBGROUP * blocks, limits)).next_multiple_of(4);
    let splits = positions.div_ceil(chunk);
    let shader = axis_constants(Shader::file("conv2d/grad_weight_broadcast"), geometry, false);
    let shader = block
        .specialise(shader)
        .constant("K", k)
        .constant("N", n)
        .constant("GROUPS", groups)
        .constant("CHUNK", chunk)
        .constant("SPLITS", splits);
    summed(geometry, block.name("grad_weight"), shader, spread_workgroups(blocks * splits), splits)
}

fn depthwise(geometry: &Geometry, limits: &Limits) -> Candidate {
    let channels = geometry.in_channels;
    // A sum for each tap of a row has to fit the registers.
    let vector = channels.is_multiple_of(4) && geometry.window.width.kernel <= 8;
    let invocations = channels / if vector { 4 } else { 1 } * geometry.window.height.kernel;
    let (chunk, splits) = lines(geometry, invocations, limits);
    let shader = axis_constants(Shader::file("conv2d/depthwise_grad_weight"), geometry, false)
        .constant("CHANNELS", channels)
        .constant("CHUNK", chunk)
        .constant("SPLITS", splits)
        .feature("VECTOR", vector)
        .feature("SLIDING", [geometry.window.width.stride, geometry.window.width.dilation] == [1, 1]);
    let name = format!("depthwise grad_weight x{}", if vector { 4 } else { 1 });
    summed(geometry, name, shader, linear_workgroups(invocations * splits), splits)
}

/// Rows of the images of a split, and the number of splits, of a kernel that runs `invocations` for each.
fn lines(geometry: &Geometry, invocations: usize, limits: &Limits) -> (usize, usize) {
    let lines = geometry.batch * geometry.window.height.output;
    let chunk = lines.div_ceil(splits_for(geometry, invocations, limits));
    (chunk, lines.div_ceil(chunk))
}

/// A kernel of the gradient of the weight and, where it computes several splits, their sum in order.
fn summed(geometry: &Geometry, name: String, shader: Shader, workgroups: [u32; 3], splits: usize) -> Candidate {
    let pass = |output| Pass { shader, bindings: vec![Binding::Input(0), Binding::Input(1), output], workgroups };
    if splits == 1 {
        return Candidate::single(name, pass(Binding::Output(0)));
    }
    let weight = geometry.weight_type();
    Candidate {
        name: format!("{name} split {splits}"),
        passes: vec![pass(Binding::Scratch(0)), add_rows(splits, &weight, Binding::ScratchRead(0), Binding::Output(0))],
        scratch: vec![splits * weight.elements()],
    }
}
