// The two products of attention, by tiles in workgroup memory: own rows with other rows, and the scores with other rows.
//
// Invocation n has the own rows 4 * (n / 8) to 4 * (n / 8) + 3. Of their scores with OTHERS rows it has those with the rows
// 4 * (n % 8) to 4 * (n % 8) + 3, and of their results every eighth four columns of the slice, from n % 8 on.
import package::attention::head::{INVOCATIONS, OTHERS, OWN, PARTS, Place, QUADS, SHARING, fetch, fetch_padded, row};
import package::constants::TOKENS;

// Own rows and others of the tiles in vec4s.
const OWN_4: u32 = OWN / 4u;
const OTHERS_4: u32 = OTHERS / 4u;
// vec4s from four columns of a tile to the next four: the gap spreads what is put at once over all banks.
const GROUP_OWN: u32 = 4u * OWN_4 + 2u;
const GROUP_OTHERS: u32 = 4u * OTHERS_4 + 2u;

// [16 columns, OWN] and [16 columns, OTHERS]
var<workgroup> tile_own: array<vec4<f32>, 4u * GROUP_OWN>;
var<workgroup> tile_others: array<vec4<f32>, 4u * GROUP_OTHERS>;
// [OTHERS, OWN]
var<workgroup> weights: array<vec4<f32>, OTHERS * OWN_4>;

// For each of four other rows what belongs to the four own rows.
struct Scores {
    x: vec4<f32>,
    y: vec4<f32>,
    z: vec4<f32>,
    w: vec4<f32>,
}

// Sums of four own rows: for each the columns that an invocation has.
struct Sums {
    row0: array<vec4<f32>, PARTS>,
    row1: array<vec4<f32>, PARTS>,
    row2: array<vec4<f32>, PARTS>,
    row3: array<vec4<f32>, PARTS>,
}

// The four columns of such a sum.
fn quad_of(at: Place, part: u32, local: u32) -> u32 {
    return at.quad + part * SHARING + local % SHARING;
}

fn put_own(at: u32, value: vec4<f32>) {
    let place = at % 4u * GROUP_OWN + at / 16u;
    let side = at / 4u % 4u;
    tile_own[place][side] = value.x;
    tile_own[place + OWN_4][side] = value.y;
    tile_own[place + 2u * OWN_4][side] = value.z;
    tile_own[place + 3u * OWN_4][side] = value.w;
}

fn put_others(at: u32, value: vec4<f32>) {
    let place = at % 4u * GROUP_OTHERS + at / 16u;
    let side = at / 4u % 4u;
    tile_others[place][side] = value.x;
    tile_others[place + OTHERS_4][side] = value.y;
    tile_others[place + 2u * OTHERS_4][side] = value.z;
    tile_others[place + 3u * OTHERS_4][side] = value.w;
}

fn step(scores: ptr<function, Scores>, at_own: u32, at_others: u32) {
    let own = tile_own[at_own];
    let other = tile_others[at_others];
    (*scores).x = fma(vec4<f32>(other.x), own, (*scores).x);
    (*scores).y = fma(vec4<f32>(other.y), own, (*scores).y);
    (*scores).z = fma(vec4<f32>(other.z), own, (*scores).z);
    (*scores).w = fma(vec4<f32>(other.w), own, (*scores).w);
}

// Products of the own rows with the other rows from `first` on. Afterwards the tiles are free.
fn scores_of(at: Place, own: u32, others: u32, first: u32, local: u32) -> Scores {
    let own0 = row(at, own, at.first + local / 4u);
    let own1 = row(at, own, at.first + (local + INVOCATIONS) / 4u);
    let other = row(at, others, first + local / 4u);
    let at_own = local / SHARING;
    let at_others = local % SHARING;
    var scores: Scores;
    for (var quad = 0u; quad < QUADS; quad += 4u) {
        let fetched0 = fetch_padded(own, own0, quad + local % 4u);
        let fetched1 = fetch_padded(own, own1, quad + local % 4u);
        let fetched = fetch_padded(others, other, quad + local % 4u);
        workgroupBarrier();
        put_own(local, fetched0);
        put_own(local + INVOCATIONS, fetched1);
        put_others(local, fetched);
        workgroupBarrier();
        for (var four = 0u; four < 4u; four++) {
            step(&scores, at_own + four * GROUP_OWN + 0u * OWN_4, at_others + four * GROUP_OTHERS + 0u * OTHERS_4);
            step(&scores, at_own + four * GROUP_OWN + 1u * OWN_4, at_others + four * GROUP_OTHERS + 1u * OTHERS_4);
            step(&scores, at_own + four * GROUP_OWN + 2u * OWN_4, at_others + four * GROUP_OTHERS + 2u * OTHERS_4);
            step(&scores, at_own + four * GROUP_OWN + 3u * OWN_4, at_others + four * GROUP_OTHERS + 3u * OTHERS_4);
        }
    }
    workgroupBarrier();
    return scores;
}

// Shows an invocation's scores, or what became of them, to all.
fn show(scores: Scores, local: u32) {
    let place = local % SHARING * 4u * OWN_4 + local / SHARING;
    weights[place] = scores.x;
    weights[place + OWN_4] = scores.y;
    weights[place + 2u * OWN_4] = scores.z;
    weights[place + 3u * OWN_4] = scores.w;
    workgroupBarrier();
}

// What an invocation has shown.
fn shown(local: u32) -> Scores {
    let place = local % SHARING * 4u * OWN_4 + local / SHARING;
    return Scores(
        weights[place],
        weights[place + OWN_4],
        weights[place + 2u * OWN_4],
        weights[place + 3u * OWN_4],
    );
}

// Adds the products of what was shown, which is 0 for rows that do not exist, with the other rows from `first` on. Four at a
// time: compilers unroll a loop of a constant length as a whole, and then hold more than there are registers.
fn add_products(sums: ptr<function, Sums>, at: Place, others: u32, first: u32, local: u32) {
    let end = min(OTHERS, TOKENS - first);
    for (var four = 0u; four < end; four += 4u) {
        add_product(sums, at, others, first, four + 0u, local);
        add_product(sums, at, others, first, four + 1u, local);
        add_product(sums, at, others, first, four + 2u, local);
        add_product(sums, at, others, first, four + 3u, local);
    }
}

fn add_product(sums: ptr<function, Sums>, at: Place, others: u32, first: u32, other: u32, local: u32) {
    let weight = weights[other * OWN_4 + local / SHARING];
    let start = row(at, others, first + other);
    for (var part = 0u; part < PARTS; part++) {
        let columns = fetch(others, start, quad_of(at, part, local));
        (*sums).row0[part] = fma(vec4<f32>(weight.x), columns, (*sums).row0[part]);
        (*sums).row1[part] = fma(vec4<f32>(weight.y), columns, (*sums).row1[part]);
        (*sums).row2[part] = fma(vec4<f32>(weight.z), columns, (*sums).row2[part]);
        (*sums).row3[part] = fma(vec4<f32>(weight.w), columns, (*sums).row3[part]);
    }
}

// The sum over the invocations that share four own rows. The tiles must be free, and are afterwards.
fn sum_shared(value: vec4<f32>, local: u32) -> vec4<f32> {
    tile_others[local % SHARING * OWN_4 + local / SHARING] = value;
    workgroupBarrier();
    var sum = vec4<f32>(0.0);
    for (var n = 0u; n < SHARING; n++) {
        sum += tile_others[n * OWN_4 + local / SHARING];
    }
    workgroupBarrier();
    return sum;
}

// The largest of them.
fn max_shared(value: vec4<f32>, local: u32) -> vec4<f32> {
    tile_others[local % SHARING * OWN_4 + local / SHARING] = value;
    workgroupBarrier();
    var largest = value;
    for (var n = 0u; n < SHARING; n++) {
        largest = max(largest, tile_others[n * OWN_4 + local / SHARING]);
    }
    workgroupBarrier();
    return largest;
}
