// Subgroups of a workgroup of 256 in one dimension. Without SUBGROUPS each invocation counts as one of its own.

// Number of an invocation in its workgroup, 0 to 255, by its local_invocation_index, the size of its subgroup and its
// place in it: what differs in the lowest bits is in one subgroup.
//
// Which place in the subgroup a local_invocation_index has is not specified. That each subgroup is an aligned block of
// indices is not either, but every driver's are, and naga translates WGSL's subgroup_id so for DX12. Sizes are powers of
// two from 4 to 128, so that subgroups are full.
fn number(index: u32, size: u32, place: u32) -> u32 {
    return index / size * size + place;
}

// Whether a butterfly over invocations whose numbers are equal modulo `first` and in division by `past` has a step within
// a subgroup of `size` between numbers that differ by `mask`. Shaders write these steps out, one a mask: as a loop they
// would not be unrolled, and only a constant mask is an operation between registers.
fn exchanges(mask: u32, first: u32, past: u32, size: u32) -> bool {
    return first <= mask && mask < past && mask < size;
}
