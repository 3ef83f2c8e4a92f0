// Winograd's F(2x2, 3x3) in one dispatch: for each tile of 2 x 2 results
//     output[b, 2 i + r, 2 j + s, n] = fused((A' m A)[r, s]), m[u, v] = sum over k of (B' d B)[u, v] weight[4 u + v, k, n],
// where d are the 4 x 4 pixels of channel k that the results of tile (b, i, j) see; outside of the image they are 0.
//
// binding 0      source  [BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, K] f32
// binding 1      weight  [16, K, N] f32, transformed
// binding 2      output  [BATCH, HEIGHT, WIDTH, N] f32
// binding 3 + i  additional input i of the epilogue
//
// A workgroup of 256 owns 32 tiles and 32 channels n, and goes through k 4 at a time, which lie in workgroup memory as
// patches [16][4][32 tiles] and weights [16][4][32]. An invocation fetches and transforms one half of a patch of one
// channel, while the step before is computed with; 16 invocations compute one of the 16 products, each for two groups of 4
// tiles and two of 4 channels, half of the workgroup's apart. At the end a quarter of the products a time is exchanged
// through workgroup memory, and each invocation transforms them to one result of a tile for 4 channels.
//
// Groups of tiles change places by the channel, so that what is put at once lies in different banks.
//
// K, N: multiples of 4. OFFSET_*: the first tile's first row and column.
import package::constants::{BATCH, SOURCE_HEIGHT, SOURCE_WIDTH, HEIGHT, WIDTH, K, N, OFFSET_HEIGHT, OFFSET_WIDTH};
import package::conv2d::winograd::tiles::{TILES, tile_of};
import package::fused::{Element, fused};
import package::lib::index::workgroup;

@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> output: array<vec4<f32>>;

const N4: u32 = N / 4u;
const BLOCKS_N: u32 = (N4 + 7u) / 8u;

// Patches and then weights; at the end products. A product has so many vec4s of the patches and of the weights, 8 of a
// channel.
var<workgroup> memory: array<vec4<f32>, 1024>;
const PRODUCT: u32 = 32u;
const WEIGHTS: u32 = 512u;

// The block of an invocation, by tiles.
struct Sums {
    left0: vec4<f32>,
    left1: vec4<f32>,
    left2: vec4<f32>,
    left3: vec4<f32>,
    left4: vec4<f32>,
    left5: vec4<f32>,
    left6: vec4<f32>,
    left7: vec4<f32>,
    right0: vec4<f32>,
    right1: vec4<f32>,
    right2: vec4<f32>,
    right3: vec4<f32>,
    right4: vec4<f32>,
    right5: vec4<f32>,
    right6: vec4<f32>,
    right7: vec4<f32>,
}

// Adds the outer product of one k.
fn add(sums: ptr<function, Sums>, at_a: u32, at_b: u32) {
    let a0 = memory[at_a];
    let b0 = memory[at_b];
    let b1 = memory[at_b + 4u];
    let a1 = memory[at_a + 4u];
    (*sums).left0 = fma(vec4<f32>(a0.x), b0, (*sums).left0);
    (*sums).left1 = fma(vec4<f32>(a0.y), b0, (*sums).left1);
    (*sums).left2 = fma(vec4<f32>(a0.z), b0, (*sums).left2);
    (*sums).left3 = fma(vec4<f32>(a0.w), b0, (*sums).left3);
    (*sums).right0 = fma(vec4<f32>(a0.x), b1, (*sums).right0);
    (*sums).right1 = fma(vec4<f32>(a0.y), b1, (*sums).right1);
    (*sums).right2 = fma(vec4<f32>(a0.z), b1, (*sums).right2);
    (*sums).right3 = fma(vec4<f32>(a0.w), b1, (*sums).right3);
    (*sums).left4 = fma(vec4<f32>(a1.x), b0, (*sums).left4);
    (*sums).left5 = fma(vec4<f32>(a1.y), b0, (*sums).left5);
    (*sums).left6 = fma(vec4<f32>(a1.z), b0, (*sums).left6);
    (*sums).left7 = fma(vec4<f32>(a1.w), b0, (*sums).left7);
    (*sums).right4 = fma(vec4<f32>(a1.x), b1, (*sums).right4);
    (*sums).right5 = fma(vec4<f32>(a1.y), b1, (*sums).right5);
    (*sums).right6 = fma(vec4<f32>(a1.z), b1, (*sums).right6);
    (*sums).right7 = fma(vec4<f32>(a1.w), b1, (*sums).right7);
}

// What an invocation fetches for a step: three rows of a patch, and weights of two products.
struct Fetched {
    pixels: array<f32, 12>,
    weights: array<vec4<f32>, 2>,
}

// Where it fetches that for the first step, and which pixels are inside of the image.
struct Origin {
    rows: array<u32, 3>,
    columns: array<u32, 4>,
    inside: array<bool, 12>,
    weight: u32,
}

// What comes of a half of a patch, the rows u = 0 and 1 of B' d or the rows 3 and 2: with p = d[0], q = d[2], m = d[1] the
// upper half is p - q and m + q, and with p = d[3], q = d[1], m = d[2] and `sign` -1 the lower half is so too, times sign.
struct Part {
    sign: f32,
    // Places of its outer and its inner row in workgroup memory, and the component of what lies there.
    outer: u32,
    inner: u32,
    lane: u32,
}

fn fetch(fetched: ptr<function, Fetched>, origin: ptr<function, Origin>, k: u32) {
    for (var i = 0u; i < 12u; i++) {
        (*fetched).pixels[i] = source[(*origin).rows[i / 4u] + k + (*origin).columns[i % 4u]];
    }
    let first = (*origin).weight + k * N4;
    (*fetched).weights[0] = weight[first];
    (*fetched).weights[1] = weight[first + 8u * K * N4];
}

// Puts a row of B' d into workgroup memory as a row of B' d B.
fn put_row(place: u32, lane: u32, row: vec4<f32>) {
    memory[place][lane] = row.x - row.z;
    memory[place + PRODUCT][lane] = row.y + row.z;
    memory[place + 2u * PRODUCT][lane] = row.z - row.y;
    memory[place + 3u * PRODUCT][lane] = row.y - row.w;
}

fn put(fetched: ptr<function, Fetched>, origin: ptr<function, Origin>, part: Part, local: u32) {
    memory[WEIGHTS + local] = (*fetched).weights[0];
    memory[WEIGHTS + 256u + local] = (*fetched).weights[1];
    var d: array<vec4<f32>, 3>;
    for (var i = 0u; i < 12u; i++) {
        d[i / 4u][i % 4u] = select(0.0, (*fetched).pixels[i], (*origin).inside[i]);
    }
    let q = part.sign * d[2];
    put_row(part.outer, part.lane, fma(vec4<f32>(part.sign), d[0], -q));
    put_row(part.inner, part.lane, d[1] + q);
}

// Puts four channels of four tiles of the block where all can read them, then stores one result of tile `at`, row
// `result.x` and column `result.y`, for channels from 4 * n4 on.
fn finish(
    place: u32, s0: vec4<f32>, s1: vec4<f32>, s2: vec4<f32>, s3: vec4<f32>, at: u32, result: vec2<u32>, n4: u32, local: u32,
) {
    workgroupBarrier();
    memory[place] = s0;
    memory[place + 4u] = s1;
    memory[place + 8u] = s2;
    memory[place + 12u] = s3;
    workgroupBarrier();
    // Row 0 of A' is (1, 1, 1, 0), row 1 is (0, 1, -1, -1).
    let signs = select(vec2<f32>(1.0), vec2<f32>(-1.0), result == vec2<u32>(1u));
    let first = (4u * result.x + result.y) * 64u + local / 16u * 4u + local % 4u;
    var columns: array<vec4<f32>, 3>;
    for (var v = 0u; v < 3u; v++) {
        let m = first + v * 64u;
        columns[v] = memory[m] + signs.x * (memory[m + 256u] + memory[m + 512u]);
    }
    if at < TILES && n4 < N4 {
        let tile = tile_of(at);
        let row = tile.row + result.x;
        let column = tile.column + result.y;
        if row < HEIGHT && column < WIDTH {
            let to = ((tile.image * HEIGHT + row) * WIDTH + column) * N4 + n4;
            output[to] = fused(columns[0] + signs.y * (columns[1] + columns[2]), to);
        }
    }
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    // Blocks of the same tiles are neighbours.
    let group = workgroup(id, count);
    let first_tile = group / BLOCKS_N * 32u;
    let first_n4 = group % BLOCKS_N * 8u;
    if first_tile >= TILES {
        return;
    }

    // What it fetches. Pixels outside read one inside, and what they read is dropped; channels past the last one read it,
    // and what comes of them is not stored.
    let channel = local % 4u;
    let lower = local / 4u % 2u;
    let at = min(first_tile + local / 8u, TILES - 1u);
    let tile = tile_of(at);
    var origin: Origin;
    var row_inside: array<bool, 3>;
    let own_rows = array<u32, 3>(3u * lower, 1u + lower, 2u - lower);
    for (var r = 0u; r < 3u; r++) {
        let row = i32(tile.row + own_rows[r]) + OFFSET_HEIGHT;
        row_inside[r] = u32(row) < SOURCE_HEIGHT;
        let nearest = u32(clamp(row, 0, i32(SOURCE_HEIGHT) - 1));
        origin.rows[r] = (tile.image * SOURCE_HEIGHT + nearest) * (SOURCE_WIDTH * K) + channel;
    }
    for (var c = 0u; c < 4u; c++) {
        let column = i32(tile.column + c) + OFFSET_WIDTH;
        origin.columns[c] = u32(clamp(column, 0, i32(SOURCE_WIDTH) - 1)) * K;
        for (var r = 0u; r < 3u; r++) {
            origin.inside[4u * r + c] = row_inside[r] && u32(column) < SOURCE_WIDTH;
        }
    }
    origin.weight = (local / 32u * K + local / 8u % 4u) * N4 + min(first_n4 + local % 8u, N4 - 1u);
    let place = channel * 8u + ((local / 32u) ^ channel);
    let part = Part(
        select(1.0, -1.0, lower == 1u),
        place + lower * (12u * PRODUCT),
        place + (1u + lower) * (4u * PRODUCT),
        local / 8u % 4u,
    );

    // What it computes.
    let product = local / 16u;
    let a = product * PRODUCT + local / 4u % 4u;
    let b = WEIGHTS + product * PRODUCT + local % 4u;
    var sums: Sums;

    var fetched: Fetched;
    fetch(&fetched, &origin, 0u);
    put(&fetched, &origin, part, local);
    var k = 0u;
    loop {
        workgroupBarrier();
        // The last step is fetched twice: a branch would make the loads wait for each other.
        fetch(&fetched, &origin, min(k + 4u, K - 4u));
        add(&sums, a, b);
        add(&sums, (a ^ 1u) + 8u, b + 8u);
        add(&sums, (a ^ 2u) + 16u, b + 16u);
        add(&sums, (a ^ 3u) + 24u, b + 24u);
        workgroupBarrier();
        put(&fetched, &origin, part, local);

        continuing {
            k += 4u;
            break if k >= K;
        }
    }

    let mine = product * 64u + local / 4u % 4u * 16u + local % 4u;
    let done = first_tile + local / 16u;
    let result = vec2<u32>(local / 8u % 2u, local / 4u % 2u);
    let n4 = first_n4 + local % 4u;
    finish(mine, sums.left0, sums.left1, sums.left2, sums.left3, done, result, n4, local);
    finish(mine, sums.left4, sums.left5, sums.left6, sums.left7, done + 16u, result, n4, local);
    finish(mine, sums.right0, sums.right1, sums.right2, sums.right3, done, result, n4 + 4u, local);
    finish(mine, sums.right4, sums.right5, sums.right6, sums.right7, done + 16u, result, n4 + 4u, local);
}
