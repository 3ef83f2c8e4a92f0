// Windows that slide along one dimension: which taps of a window see the image, and which windows see a position.

struct Range {
    begin: u32,
    end: u32,
}

// Taps of window `at` whose position, at * stride + tap * dilation - before, lies in an image of extent `input`:
// 0 to 0 where there is none.
fn taps_of(at: u32, input: u32, kernel: u32, stride: u32, dilation: u32, before: u32) -> Range {
    let start = at * stride;
    let begin = (max(before, start) - start + dilation - 1u) / dilation;
    let end = min((max(before + input, start) - start + dilation - 1u) / dilation, kernel);
    if begin >= end {
        return Range(0u, 0u);
    }
    return Range(begin, end);
}

// Windows from whose first to whose last tap, `span` positions, `position` of the image lies.
fn windows_at(position: u32, span: u32, stride: u32, before: u32, output: u32) -> Range {
    let padded = position + before;
    let begin = (max(padded + 1u, span) - span + stride - 1u) / stride;
    return Range(begin, min(padded / stride + 1u, output));
}
