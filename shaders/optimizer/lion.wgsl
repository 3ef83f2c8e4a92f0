// Lion: p = p - learning_rate * (sign(BETA1 * m + (1 - BETA1) * gradient) + weight_decay * p);
// m = BETA2 * m + (1 - BETA2) * gradient.
//
// bindings 0 to 4  see package::optimizer::step
// binding 5        mean  [P] f32, m, updated in place
//
// COUNT: number of Elements of parameters. COMPLEMENT1, COMPLEMENT2: 1 - BETA1 and 1 - BETA2, rounded once.
import package::constants::{COUNT, BETA1, COMPLEMENT1, BETA2, COMPLEMENT2};
import package::lib::element::Element;
import package::lib::index::linear;
import package::optimizer::step::{gradient, happens, hyper, parameters};

@group(0) @binding(5) var<storage, read_write> mean: array<Element>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) id: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let i = linear(id, local, count);
    if i >= COUNT || !happens() {
        return;
    }
    let p = parameters[i];
    let g = gradient(i);
    let m = mean[i];
    let direction = sign(BETA1 * m + COMPLEMENT1 * g) + hyper.weight_decay * p;
    mean[i] = BETA2 * m + COMPLEMENT2 * g;
    parameters[i] = p - hyper.learning_rate * direction;
}
