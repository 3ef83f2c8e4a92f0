// What a workgroup reads and writes of one head: columns four at a time.
//
// binding 0  qkv     [BATCH, TOKENS, 3, HEADS, HEAD] f32: queries, keys and values
// binding 1  dy      [BATCH, TOKENS, HEADS, HEAD] f32: with GRADIENT, the gradient of the results
// binding 2  result  as dy, or with GRADIENT the gradient of qkv
//
// A workgroup has OWN rows of its head, queries or keys, and goes through all OTHERS at a time. Of the columns of what it sums
// up it has one of SLICES.
// VECTOR: HEAD is a multiple of 4.
import package::constants::{BATCH, HEAD, HEADS, SLICES, TOKENS};
import package::lib::index::workgroup;

@if(VECTOR) alias Stored = vec4<f32>;
@if(!VECTOR) alias Stored = f32;

@group(0) @binding(0) var<storage, read> qkv: array<Stored>;
@if(GRADIENT) @group(0) @binding(1) var<storage, read> dy: array<Stored>;
@group(0) @binding(2) var<storage, read_write> result: array<Stored>;

// Which rows are meant.
const QUERIES: u32 = 0u;
const KEYS: u32 = 1u;
const VALUES: u32 = 2u;
const RESULTS: u32 = 3u;

const OWN: u32 = 64u;
const OTHERS: u32 = 32u;
const INVOCATIONS: u32 = 128u;
// An invocation has four own rows, of eight that share them.
const SHARING: u32 = 8u;

// Four neighbouring columns, of which the last may be fewer.
const QUADS: u32 = (HEAD + 3u) / 4u;
// Elements of a buffer that a row of a head takes.
@if(VECTOR) const ROW: u32 = HEAD / 4u;
@if(!VECTOR) const ROW: u32 = HEAD;

// Four columns of a slice that an invocation has, at most.
const PARTS: u32 = (QUADS + SHARING * SLICES - 1u) / (SHARING * SLICES);

const BLOCKS: u32 = (TOKENS + OWN - 1u) / OWN;

struct Place {
    image: u32,
    head: u32,
    // The first own row.
    first: u32,
    // The first four columns of the slice.
    quad: u32,
    exists: bool,
}

fn place(id: vec3<u32>, count: vec3<u32>) -> Place {
    let group = workgroup(id, count);
    let head = group / (SLICES * BLOCKS);
    let first = group / SLICES % BLOCKS * OWN;
    return Place(head / HEADS, head % HEADS, first, group % SLICES * SHARING * PARTS, head < BATCH * HEADS);
}

// Where a row of the head begins, or the last one where there are fewer.
fn row(at: Place, rows: u32, token: u32) -> u32 {
    let position = at.image * TOKENS + min(token, TOKENS - 1u);
    return (select(3u * position + rows, position, rows == RESULTS) * HEADS + at.head) * ROW;
}

// Where a row has its number among all of the heads' tokens.
fn statistic(at: Place, token: u32) -> u32 {
    return (at.image * HEADS + at.head) * TOKENS + min(token, TOKENS - 1u);
}

fn element(rows: u32, position: u32) -> Stored {
    @if(GRADIENT) {
        if rows == RESULTS {
            return dy[position];
        }
    }
    return qkv[position];
}

// Four columns of a row that begins at `start`; what lies beyond the last one is arbitrary.
fn fetch(rows: u32, start: u32, quad: u32) -> vec4<f32> {
    @if(VECTOR) {
        return element(rows, start + min(quad, QUADS - 1u));
    }
    @if(!VECTOR) {
        return vec4<f32>(
            element(rows, start + min(4u * quad, HEAD - 1u)),
            element(rows, start + min(4u * quad + 1u, HEAD - 1u)),
            element(rows, start + min(4u * quad + 2u, HEAD - 1u)),
            element(rows, start + min(4u * quad + 3u, HEAD - 1u)),
        );
    }
}

// The same with zeros beyond the last one.
fn fetch_padded(rows: u32, start: u32, quad: u32) -> vec4<f32> {
    let columns = vec4<u32>(4u * quad) + vec4<u32>(0u, 1u, 2u, 3u);
    return select(vec4<f32>(0.0), fetch(rows, start, quad), columns < vec4<u32>(HEAD));
}

// Stores four columns of a row of the result that begins at `start`, as far as they exist.
fn store(start: u32, quad: u32, value: vec4<f32>) {
    @if(VECTOR) {
        if quad < QUADS { result[start + quad] = value; }
    }
    @if(!VECTOR) {
        for (var c = 0u; c < 4u; c++) {
            if 4u * quad + c < HEAD { result[start + 4u * quad + c] = value[c]; }
        }
    }
}
