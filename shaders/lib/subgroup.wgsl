// The place of an invocation in a workgroup of 256 in one dimension.
struct Place {
    @builtin(local_invocation_index) index: u32,
    @if(SUBGROUPS) @builtin(subgroup_size) size: u32,
    @if(SUBGROUPS) @builtin(subgroup_invocation_id) lane: u32,
}

// Number of the invocation, 0 to 255. With SUBGROUPS neighbouring lanes of a subgroup have neighbouring numbers: which
// lane a local_invocation_index has is not specified. That each subgroup is an aligned block of indices is not either,
// but every driver's subgroups are, and WGSL's subgroup_id is translated so for DX12. Sizes are powers of two from 4 to
// 128, so that subgroups are full.
fn number(place: Place) -> u32 {
    @if(!SUBGROUPS) return place.index;
    @if(SUBGROUPS) return place.index / place.size * place.size + place.lane;
}

// Whether a butterfly over invocations whose numbers are equal modulo `first` and in division by `past` has a step within
// the subgroup between numbers that differ by `mask`. Shaders write these steps out, one a mask: as a loop they would not
// be unrolled, and only a constant mask is an operation between registers.
@if(SUBGROUPS)
fn exchanges(mask: u32, first: u32, past: u32, place: Place) -> bool {
    return first <= mask && mask < past && mask < place.size;
}
