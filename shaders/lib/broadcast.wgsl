// Sums of products on processors that run shaders in subgroups of eight. Such a processor takes each invocation's load on
// its own, which costs as much as some fifty multiply-adds of a vec4; a broadcast within registers costs next to nothing. So
// a subgroup owns a block of 8 * LOADS rows and 32 * COLUMNS columns together: each invocation loads LOADS of the rows'
// terms and hands them to all, and adds up the sums of every row for 4 * COLUMNS columns, four neighbours at a time.
//
// As many sums as compilers unroll: LOADS 4 and COLUMNS 2. More are indexed in memory, which is ten times slower.
import package::constants::{LOADS, COLUMNS};

// Four terms of the sum, of each row that an invocation loads.
alias Terms = array<vec4<f32>, LOADS>;
// An invocation's columns at four terms: [COLUMNS][term], four neighbours each.
alias Columns = array<array<vec4<f32>, 4>, COLUMNS>;
// Row 8 * g + l is the one that invocation l loads as its g-th.
alias Sums = array<array<vec4<f32>, COLUMNS>, 8u * LOADS>;

// What the eight invocations hold, for each of them.
fn lanes(value: vec4<f32>) -> array<vec4<f32>, 8> {
    return array<vec4<f32>, 8>(
        subgroupBroadcast(value, 0u),
        subgroupBroadcast(value, 1u),
        subgroupBroadcast(value, 2u),
        subgroupBroadcast(value, 3u),
        subgroupBroadcast(value, 4u),
        subgroupBroadcast(value, 5u),
        subgroupBroadcast(value, 6u),
        subgroupBroadcast(value, 7u),
    );
}

// Adds the products of four terms.
fn accumulate(sums: ptr<function, Sums>, terms: Terms, columns: Columns) {
    for (var g = 0u; g < LOADS; g++) {
        let rows = lanes(terms[g]);
        for (var l = 0u; l < 8u; l++) {
            for (var c = 0u; c < COLUMNS; c++) {
                for (var t = 0u; t < 4u; t++) {
                    (*sums)[8u * g + l][c] = fma(vec4<f32>(rows[l][t]), columns[c][t], (*sums)[8u * g + l][c]);
                }
            }
        }
    }
}
