// Which block of a workgroup's tile an invocation owns, where a tile has `across` blocks side by side: 4, 8 or a multiple.

// Row and column of the block of invocation `local`. Each 32 invocations own a patch of 8 (4) columns and 4 (8) rows, so that
// they read less from workgroup memory than a long strip would; and in a patch they go down and up again, two rows at a time:
// reads of 16 bytes by 16 lanes take one turn where the lanes of every pair read the same place, and else two (NVIDIA).
fn block_of(local: u32, across: u32) -> vec2<u32> {
    let width = min(across, 8u);
    let patch_number = local / 32u;
    let lane = local % 32u;
    let row = patch_number / (across / width) * (32u / width) + lane / (2u * width) * 2u + lane % 2u;
    return vec2<u32>(row, patch_number % (across / width) * width + lane / 2u % width);
}
