// The maps of Winograd's minimal filtering F(2x2, 3x3) along one dimension, of four channels at a time: each is applied to
// the rows of a square and then to the columns of what that gives.

alias Two = array<vec4<f32>, 2>;
alias Three = array<vec4<f32>, 3>;
alias Four = array<vec4<f32>, 4>;

// B': four pixels.
fn of_patch(v: Four) -> Four {
    return Four(v[0] - v[2], v[1] + v[2], v[2] - v[1], v[1] - v[3]);
}

// A: the gradient of two results.
fn of_gradient(v: Two) -> Four {
    return Four(v[0], v[0] + v[1], v[0] - v[1], -v[1]);
}

// G: three weights.
fn of_weight(v: Three) -> Four {
    let sum = v[0] + v[2];
    return Four(v[0], 0.5 * (sum + v[1]), 0.5 * (sum - v[1]), v[2]);
}

// A': two results.
fn to_result(v: Four) -> Two {
    return Two(v[0] + (v[1] + v[2]), (v[1] - v[2]) - v[3]);
}

// G': the gradient of three weights.
fn to_weight_gradient(v: Four) -> Three {
    let sum = 0.5 * (v[1] + v[2]);
    return Three(v[0] + sum, 0.5 * (v[1] - v[2]), sum + v[3]);
}
