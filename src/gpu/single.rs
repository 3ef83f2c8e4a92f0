//! One operation on one kernel, for tests: outputs and scratch memory are poisoned first.

use super::{Checks, Gpu, GpuError, buffer, wait::block_on};
use crate::{
    kernel::{
        Signature,
        gpu::{Binding, Candidate},
    },
    tensor::{Tensor, TensorType},
};

/// A quiet NaN as a float and as two 16-bit floats, a large number as an integer.
const POISON: u32 = 0x7fc0_7fc0;

/// Runs one kernel on `inputs` and returns the outputs. Outputs start as NaN, except those of the pairs
/// (input, output) of `in_place`, which start as that input; scratch memory starts as NaN too.
///
/// # Errors
/// Where the kernel does not compile, or its buffers do not fit the device.
pub fn run_candidate(
    gpu: &Gpu,
    candidate: &Candidate,
    signature: &Signature,
    inputs: &[Tensor],
    in_place: &[(usize, usize)],
    checks: Checks,
) -> Result<Vec<Tensor>, GpuError> {
    let filled = |what: &str, bytes: &[u8]| {
        gpu.check_binding(what, bytes.len() as u64)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let filled = gpu.buffer(what, bytes.len() as u64, usage)?;
        gpu.catch(what, || buffer::write(gpu, &filled, 0, bytes))?;
        Ok((filled, buffer::padded(bytes.len() as u64)))
    };
    let poison = |bytes: usize| -> Vec<u8> { POISON.to_le_bytes().into_iter().cycle().take(bytes).collect() };
    let input = inputs.iter().map(|tensor| filled("input", tensor.bytes())).collect::<Result<Vec<_>, GpuError>>()?;
    let output = signature
        .outputs
        .iter()
        .enumerate()
        .map(|(at, ty)| match in_place.iter().find(|(_, output)| *output == at) {
            Some((input, _)) => filled("output", inputs[*input].bytes()),
            None => filled("output", &poison(ty.bytes())),
        })
        .collect::<Result<Vec<_>, GpuError>>()?;
    let scratch = candidate
        .scratch
        .iter()
        .map(|elements| filled("scratch", &poison(elements * 4)))
        .collect::<Result<Vec<_>, GpuError>>()?;

    let passes: Vec<_> = candidate.passes.iter().collect();
    let pipelines = gpu.pipelines(&passes, checks)?;
    gpu.catch(&candidate.name, || {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let mut compute = encoder.begin_compute_pass(&Default::default());
        for (pass, pipeline) in passes.iter().zip(&pipelines) {
            let bindings = pass.bindings.iter().map(|binding| {
                let (buffer, bytes) = match *binding {
                    Binding::Input(at) => &input[at],
                    Binding::Output(at) | Binding::OutputRead(at) => &output[at],
                    Binding::Scratch(at) | Binding::ScratchRead(at) => &scratch[at],
                };
                (buffer, 0, *bytes)
            });
            let group = pipeline.bind(gpu, bindings);
            compute.set_pipeline(&pipeline.compute);
            compute.set_bind_group(0, &group, &[]);
            let [x, y, z] = pass.workgroups;
            compute.dispatch_workgroups(x, y, z);
        }
        drop(compute);
        gpu.queue.submit([encoder.finish()]);
    })?;
    let read = |((output, _), ty): (&(wgpu::Buffer, u64), &TensorType)| {
        let bytes = block_on(buffer::read(gpu, output, 0, ty.bytes() as u64))?;
        Ok(buffer::tensor(ty, &bytes))
    };
    output.iter().zip(&signature.outputs).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::software_gpu,
        graph::{Graph, GraphError, Source, Value},
    };

    fn tensor(shape: &[usize]) -> Tensor {
        let elements = shape.iter().product::<usize>();
        Tensor::f32(shape, (0..elements).map(|i| (i * 7919 % 1009) as f32 / 1009.0 - 0.3).collect())
    }

    /// What the last node computes of `inputs`, by each of its kernels, with and without checks.
    fn evaluate(inputs: &[Tensor], build: impl Fn(&mut Graph, &[Value]) -> Result<Value, GraphError>) -> Vec<Vec<f32>> {
        let Some(gpu) = software_gpu() else { return Vec::new() };
        let mut graph = Graph::new();
        let values: Vec<Value> = inputs.iter().map(|t| graph.feed("input", t.ty())).collect();
        let result = build(&mut graph, &values).unwrap();
        let node = graph.node(result);
        let Source::Op(op) = &node.source else { panic!("an operation") };
        let types = node.inputs.iter().map(|v| graph.ty(*v).clone()).collect();
        let signature = Signature { inputs: types, outputs: node.types.clone() };
        let mut results = Vec::new();
        for candidate in op.gpu(&signature, gpu.limits()) {
            for checks in [Checks::On, Checks::Off] {
                let run = run_candidate(&gpu, &candidate, &signature, inputs, op.in_place(), checks).unwrap();
                results.push(run[0].as_f32().unwrap().to_vec());
            }
        }
        assert!(!results.is_empty());
        results
    }

    #[test]
    fn a_pointwise_operation_runs_with_broadcast() {
        let (a, b) = (tensor(&[5, 3, 8]), tensor(&[8]));
        for result in evaluate(&[a.clone(), b.clone()], |graph, v| graph.multiply(v[0], v[1])) {
            let (a, b) = (a.as_f32().unwrap(), b.as_f32().unwrap());
            let expected: Vec<f32> = a.iter().enumerate().map(|(i, a)| a * b[i % 8]).collect();
            assert_eq!(result, expected);
        }
    }

    #[test]
    fn a_sum_of_several_passes_runs() {
        let input = tensor(&[40_000, 3]);
        for result in evaluate(std::slice::from_ref(&input), |graph, v| graph.sum(v[0], &[0])) {
            for (column, sum) in result.iter().enumerate() {
                let values = input.as_f32().unwrap().iter().skip(column).step_by(3);
                let expected: f64 = values.map(|v| f64::from(*v)).sum();
                assert!((f64::from(*sum) - expected).abs() < 1e-5 * expected.abs(), "{sum} {expected}");
            }
        }
    }

    #[test]
    fn a_shader_that_does_not_compile_is_an_error_that_names_it() {
        let Some(gpu) = software_gpu() else { return };
        let shader = crate::kernel::gpu::Shader::text("@compute @workgroup_size(1) fn main() { let x: u32 = 1.5; }");
        let pass = crate::kernel::gpu::Pass { shader, bindings: vec![], workgroups: [1, 1, 1] };
        let candidate = Candidate::single("broken", pass);
        let signature = Signature { inputs: vec![], outputs: vec![] };
        let error = run_candidate(&gpu, &candidate, &signature, &[], &[], Checks::Off).unwrap_err();
        assert!(matches!(&error, GpuError::Shader { name, .. } if name == "text"), "{error}");
        assert_eq!(gpu.check(), Ok(()));
    }
}
